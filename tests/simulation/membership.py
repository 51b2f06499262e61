"""Who belongs when: the versions of the roster that administrators sign in a run, and everyone's keys.

A file on every machine, as `gateway.roster_file` keeps it: a person replaces it, the ledger's peers tell of it.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache

from gateway import signing
from gateway.errors import VerificationError
from gateway.ledger.member_keys import MemberKeys
from gateway.ledger.policy import default_policy
from gateway.ledger.roster import ledger_name, sign_version
from gateway.ledger.rosters import Rosters, open_rosters
from gateway.model import Member, Policy, Roster
from tests.simulation.scenario import GENERATIONS, Version

MASTER = b"a master secret for tests only.."
ADMINISTRATOR = "admin"


@lru_cache(None)
def keys_of(role: str, name: str) -> MemberKeys:
    """Give all keys that a member has in a run, the same for the same name."""
    return MemberKeys(MASTER, role, name, GENERATIONS)


@lru_cache(None)
def recovery_key_of(gateway: str) -> signing.Key:
    """Give the recovery key of a gateway's chain."""
    return signing.derive_key(MASTER, "recovery", gateway)


def gateway_name(number: int) -> str:
    """Give the name of a gateway."""
    return f"ward-{number}"


def chain_name(number: int) -> str:
    """Give the name of a gateway's chain."""
    return f"chain-{number}"


def peer_names(organisation: int, size: int) -> tuple[str, ...]:
    """Give the names of an organisation's peers."""
    if size == 1:
        return (f"peer-{organisation}",)
    return tuple(f"peer-{organisation}{letter}" for letter in "abc"[:size])


class Membership:
    """The roster as its administrator has it: all versions that are signed so far, of those that a scenario plans."""

    def __init__(self, sizes: tuple[int, ...], versions: tuple[Version, ...]) -> None:
        self._sizes = sizes
        self._waiting = list(versions[1:])
        first = roster_of(sizes, versions[0], version=1, epoch=1)
        self.rosters = open_rosters(Rosters((_signed(first),)).encode())

    def sign_next(self) -> None:
        """Sign the next version that is planned; it begins an epoch unless gateways alone come in."""
        before, version = self.rosters.current, self._waiting.pop(0)
        after = roster_of(self._sizes, version, version=before.version + 1, epoch=before.epoch)
        if not _is_of_same_epoch(before, after):
            after = roster_of(self._sizes, version, version=before.version + 1, epoch=before.epoch + 1)
        self.rosters = self.rosters.followed_by(_signed(after).signed)


def roster_of(sizes: tuple[int, ...], plan: Version, *, version: int, epoch: int) -> Roster:
    """Give the roster that a plan comes to, not signed yet."""
    peers = tuple(
        _member("peer", name, f"organisation-{organisation}", generation)
        for organisation, generation in plan.organisations
        for name in peer_names(organisation, sizes[organisation])
    )
    policy = default_policy(peers)
    administrator = _administrator()
    return Roster(
        ledger=ledger_name([administrator]),
        version=version,
        epoch=epoch,
        policy=Policy(threshold=policy.threshold + plan.stricter, of=policy.of),
        administrators=(administrator,),
        peers=peers,
        gateways=tuple(_gateway(number, generation) for number, generation in plan.gateways),
    )


class RosterFile:
    """What one machine knows of the roster; `given` is the file that a person put there, not looked at yet.

    What is known is durable before anyone goes by it, and never goes back.
    """

    def __init__(self, rosters: Rosters, power: Callable[[], None]) -> None:
        self.rosters = rosters
        self.given: Rosters | None = None
        self._heard: set[bytes] = set()
        self._power = power

    def restore(self, rosters: Rosters) -> None:
        """Be given an old file back."""
        self.rosters = rosters
        self._heard.clear()

    def look(self) -> Rosters | None:
        """Look whether a person has replaced the file; gives the versions if there is a newer one."""
        given, self.given = self.given, None
        return None if given is None else self.hear(given.encode())

    def hear(self, data: bytes) -> Rosters | None:
        """Hear a roster file over the network; gives the versions if there is a newer one."""
        if data in self._heard:  # what is known stays known
            return None
        try:
            rosters = self.rosters.updated(data)
        except VerificationError:
            rosters = self.rosters
        if rosters == self.rosters:
            self._heard.add(data)
            return None
        self._power()
        self.rosters = rosters
        self._power()
        return rosters


# -- pieces


def _member(role: str, name: str, organisation: str, generation: int) -> Member:
    return Member(id=name, organisation=organisation, public_key=keys_of(role, name).public_keys[generation - 1])


def _gateway(number: int, generation: int) -> Member:
    name = gateway_name(number)
    public_keys = keys_of("gateway", name).public_keys
    return Member(
        id=name,
        organisation=f"{name}.example",
        public_key=public_keys[generation - 1],
        chain=chain_name(number),
        recovery_key=recovery_key_of(name).public_key,
        former_keys=public_keys[: generation - 1],
    )


@lru_cache(None)
def _administrator() -> Member:
    key = _administrator_key()[ADMINISTRATOR].first
    return Member(id=ADMINISTRATOR, organisation="administrators", public_key=key.public_key)


@lru_cache(None)
def _administrator_key() -> Mapping[str, signing.Keys]:
    return {ADMINISTRATOR: signing.Keys(signing.derive_key(MASTER, "administrator", ADMINISTRATOR))}


def _signed(roster: Roster) -> Roster:
    return replace(roster, signed=sign_version(roster, _administrator_key()))


def _is_of_same_epoch(before: Roster, after: Roster) -> bool:
    same = (before.peers, before.policy) == (after.peers, after.policy)
    return same and set(before.gateways) <= set(after.gateways)
