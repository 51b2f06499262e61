"""The versions of a ledger's roster, each behind the one before: who belonged when, and that nobody else says so.

    file = [ + version ]              ; oldest first; `ledger.roster` has a version's bytes

A version may follow another of the same ledger if its number is higher, and enough administrators of both have signed
it: so the roots of TUF (The Update Framework, 5.3) follow each other. The ledger's name is the fingerprint of its first
administrators' keys and stays. Within an epoch gateways may be admitted and administrators change; whatever else
changes begins the next epoch. Of an epoch the last version is kept, and of any number by the same administrators.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from gateway import cbor
from gateway.errors import VerificationError
from gateway.ledger.roster import (
    ledger_name,
    open_version,
    read_version,
    require_policy,
    require_signed,
    signers,
)
from gateway.model import Roster


@dataclass(frozen=True, slots=True)
class Rosters:
    """The versions that are kept, the oldest first; each follows the one before it."""

    versions: tuple[Roster, ...]

    @property
    def current(self) -> Roster:
        """The latest version."""
        return self.versions[-1]

    def of_epoch(self, epoch: int) -> Roster:
        """Give the last version of an epoch.

        Raises: VerificationError if none is known.
        """
        for roster in reversed(self.versions):
            if roster.epoch == epoch:
                return roster
        raise VerificationError(f"roster epoch {epoch} is not known; the latest that is, is {self.current.epoch}")

    def encode(self) -> bytes:
        """Give the roster file."""
        return cbor.encode([roster.signed for roster in self.versions])

    def latest(self, limit_bytes: int) -> bytes | None:
        """Give as many of the latest versions as fit into so many bytes, for who knows the others; None if none do."""
        for first in range(len(self.versions)):
            data = cbor.encode([roster.signed for roster in self.versions[first:]])
            if len(data) <= limit_bytes:
                return data
        return None

    def followed_by(self, version: bytes) -> "Rosters":
        """Give these with one more version behind them.

        Raises: VerificationError if it does not follow the latest one.
        """
        after = self._next(version)
        require_signed(after, self.current)
        require_signed(after, after)
        require_policy(after)  # last: who is no administrator does not make us count the faults of a policy
        kept = self.versions[:-1] if self._may_drop_latest(after) else self.versions
        return Rosters((*kept, after))

    def draft(self, version: bytes) -> Roster:
        """Read a version that may follow the latest one as soon as enough have signed it.

        Raises: VerificationError if it may not, or a signature on it does not hold.
        """
        after = self._next(version)
        signers(after, (*self.current.administrators, *after.administrators))
        require_policy(after)
        return after

    def updated(self, data: bytes) -> "Rosters":
        """Give these with what a roster file has beyond them; the same file changes nothing.

        Raises: VerificationError if it is older, or of another ledger, or contradicts what is known.
        """
        shown = [read_version(version) for version in _split(data)]
        known = {roster.version: roster for roster in self.versions}
        for roster in shown:
            if known.get(roster.version, roster) != roster:
                require_signed(roster, known[roster.version])  # else anyone could say so
                raise VerificationError(f"there are two versions {roster.version} of the roster")
        if shown[-1].version < self.current.version:
            raise VerificationError(
                f"version {shown[-1].version} of the roster is older than the known version {self.current.version}"
            )
        found = self
        for roster in shown:
            if roster.version > found.current.version:
                found = found.followed_by(roster.signed)
        return found

    def _next(self, version: bytes) -> Roster:
        """Read a version and check, by its words alone, that it may stand behind the latest one."""
        after, before = read_version(version), self.current
        if after.ledger != before.ledger:
            raise VerificationError(f"the roster is ledger {after.ledger}'s, not {before.ledger}'s")
        if after.version <= before.version:
            raise VerificationError(f"version {after.version} of the roster cannot follow version {before.version}")
        _check_epoch(before, after)
        return after

    def _may_drop_latest(self, after: Roster) -> bool:
        latest = self.current
        if latest.epoch != after.epoch or not _same_administrators(latest, after):
            return False
        return len(self.versions) == 1 or _same_administrators(self.versions[-2], latest)


def open_rosters(data: bytes) -> Rosters:
    """Check a roster file.

    Raises: VerificationError if it is damaged, or a version does not follow the one before it.
    """
    first, *later = _split(data)
    roster = open_version(first)
    if roster.ledger != ledger_name(roster.administrators):
        raise VerificationError("the ledger's name is not the fingerprint of its first administrators' keys")
    rosters = Rosters((roster,))
    for version in later:
        rosters = rosters.followed_by(version)
    return rosters


def _split(data: bytes) -> Sequence[bytes]:
    match cbor.decode(data):
        case [*versions] if versions and all(isinstance(version, bytes) for version in versions):
            return versions
    raise VerificationError("not a roster file")


def _same_administrators(one: Roster, other: Roster) -> bool:
    return (one.administrators, one.threshold) == (other.administrators, other.threshold)


def _check_epoch(before: Roster, after: Roster) -> None:
    if after.epoch == before.epoch:
        same = (before.peers, before.policy, before.post_quantum) == (after.peers, after.policy, after.post_quantum)
        if not same or not set(before.gateways) <= set(after.gateways):
            raise VerificationError(
                f"version {after.version} of the roster changes more than an epoch may: gateways can be admitted,"
                " all else begins the next epoch"
            )
    elif after.epoch != before.epoch + 1:
        raise VerificationError(f"roster epoch {after.epoch} cannot follow epoch {before.epoch}")
