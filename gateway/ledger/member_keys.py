"""A member's keys through the years: the one that a version of the roster names is the one to sign with under it."""

from gateway import signing
from gateway.errors import ConfigError
from gateway.ledger.rosters import Rosters
from gateway.model import Member, Roster


class MemberKeys:
    """The keys of a peer or a gateway that come of a master secret: generations 1 to `generations`."""

    def __init__(self, master: bytes, role: str, name: str, generations: int = 1) -> None:
        self._master = master
        self._role = role
        self._name = name
        self._firsts = [signing.derive_key(master, role, name, number + 1) for number in range(generations)]
        self._seconds: dict[int, signing.SecondKey] = {}

    @property
    def public_keys(self) -> tuple[bytes, ...]:
        """The raw Ed25519 public keys of all generations, the first one first."""
        return tuple(key.public_key for key in self._firsts)

    def of(self, roster: Roster) -> signing.Keys | None:
        """Give what to sign with by this version of the roster; None where it does not name one of these keys."""
        for member in roster.peers if self._role == "peer" else roster.gateways:
            if member.id == self._name:
                return self._matching(member, with_second=roster.post_quantum)
        return None

    def require(self, roster: Roster) -> signing.Keys:
        """Give what to sign with by this version of the roster.

        Raises: ConfigError if the member is not on it with a key of these.
        """
        keys = self.of(roster)
        if keys is None:
            raise ConfigError(f"{self._role} {self._name} with this key is not on the roster; iomt ledger admit")
        return keys

    def require_ever(self, rosters: Rosters) -> None:
        """Check that the member is or was on the roster: who was retired still ends what it voted for.

        Raises: ConfigError if it never was, with a key of these.
        """
        if all(self.of(roster) is None for roster in rosters.versions):
            self.require(rosters.current)

    def _matching(self, member: Member, *, with_second: bool) -> signing.Keys | None:
        for index, key in enumerate(self._firsts):
            if key.public_key == member.public_key:
                return signing.Keys(key, self._second(index) if with_second else None)
        return None

    def _second(self, index: int) -> signing.SecondKey:
        if index not in self._seconds:
            self._seconds[index] = signing.derive_second_key(self._master, self._role, self._name, index + 1)
        return self._seconds[index]
