"""How far each peer is on every chain, said once a minute, so that the others see who lags and who tells otherwise.

    heads  = COSE_Sign1 by a peer (RFC 9052, Ed25519), {1: -8, 3: "application/iomt-heads+cbor", 4: kid,
             15: {1: peer, 2: ledger}}, over
             {1: 1, 2: said at (ms), 3: [+ [chain, incarnation, next height, root at it]]}

    15: {1: "peer-0", 2: "84c6c06b186fabfe"}, {1: 1, 2: 1764000060000, 3: [["ward-3.1f0a9c21", 0, 12, h'd1dfbb44...']]}

A peer with more chains than fit says several of these, all said at the same time. A chain stands in one of them, in
the latest incarnation that the peer has. Heads count for nothing: they tell a person what to look at, and a peer whom
to ask for blocks, each of which proves itself.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from gateway import canonical, cbor, signing
from gateway.canonical import FORMAT, checked, digest, fields_of, natural, typed
from gateway.errors import VerificationError
from gateway.ledger.roster import peer
from gateway.model import Roster

HEADS_TYPE = "application/iomt-heads+cbor"
HEADS_PER_MESSAGE = 2000
"""With the longest names (64 characters) and numbers, this many make a message of 238 KB, below 256 KiB."""

FUTURE_MS = 3_600_000
"""What was said this far ahead of the hearer's clock holds back nothing that is said later: a clock was wrong."""


@dataclass(frozen=True, slots=True)
class HeadOf:
    """How far a peer is on a chain: the height that follows its last block, and the root behind that block."""

    chain: str
    incarnation: int
    next_height: int
    root: bytes


def sign_heads(key: signing.Key, peer_name: str, ledger: str, said_ms: int, heads: Sequence[HeadOf]) -> list[bytes]:
    """Give a peer's heads in messages of which none is over 256 KiB; no messages where there are no heads."""
    header = canonical.signer_header(HEADS_TYPE, key.kid, peer_name, ledger)
    items = [[head.chain, head.incarnation, head.next_height, head.root] for head in heads]
    return [
        signing.sign(key, header, cbor.encode({1: FORMAT, 2: said_ms, 3: items[start : start + HEADS_PER_MESSAGE]}))
        for start in range(0, len(items), HEADS_PER_MESSAGE)
    ]


def open_heads(roster: Roster, signed: bytes) -> tuple[str, int, tuple[HeadOf, ...]]:
    """Check a message of heads and give whose they are, when they were said (ms), and the heads.

    Raises: VerificationError if it is not by a peer on the roster, of this ledger, or malformed.
    """
    message = signing.parse(signed)
    if message.header.get(canonical.CONTENT_TYPE) != HEADS_TYPE or message.unprotected:
        raise VerificationError("not heads")
    member = peer(roster, str(message.claim(canonical.ISSUER)))
    signing.verify(message, member.public_key)
    if message.claim(canonical.SUBJECT) != roster.ledger:
        raise VerificationError(f"the heads of {member.id} are of another ledger")
    fields = fields_of(message.payload or b"", required={1, 2, 3}, what="message of heads")
    said_ms, heads = checked("message of heads", lambda: (natural(fields[2]), _heads(fields[3])))
    return member.id, said_ms, heads


def _heads(items: object) -> tuple[HeadOf, ...]:
    heads = tuple(_head(*typed(list, item)) for item in typed(list, items))
    if not heads or len({head.chain for head in heads}) != len(heads):
        raise ValueError("each chain stands there once, and one at least")
    return heads


def _head(chain: object, incarnation: object, next_height: object, root: object) -> HeadOf:
    return HeadOf(typed(str, chain), natural(incarnation), natural(next_height), digest(root))


# -- what they come to


class State(StrEnum):
    """How another peer's head stands to one's own."""

    LEVEL = "level"
    AHEAD = "ahead"
    BEHIND = "behind"
    DIFFERS = "differs"


@dataclass(frozen=True, slots=True)
class Relation:
    """How another peer stands to us on a chain, and by how many blocks: in another incarnation, all of the later."""

    state: State
    blocks: int = 0


@dataclass(frozen=True, slots=True)
class Own:
    """Our own head of a chain; `root_at` gives the root behind any height up to the next, `EMPTY_ROOT` at 0."""

    incarnation: int
    next_height: int
    root_at: Callable[[int], bytes]


@dataclass(frozen=True, slots=True)
class Summary:
    """One other peer, for a person: on how many chains it is where, those on which it differs, when it was heard."""

    heard_ms: int
    level: int
    ahead: int
    behind: int
    differing: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Heard:
    """A head, and the height up to which we had its incarnation when it was heard: both have gone on since."""

    head: HeadOf
    ours: int


@dataclass(slots=True)
class _Other:
    said_ms: int = 0
    heard_ms: int = 0
    heads: dict[str, _Heard] = field(default_factory=dict)


class Comparison:
    """What the others said last; `own` gives our own head of a chain, None for a chain that is none of ours.

    A head with blocks that we have by now is compared with ours at its height: what stood there does not change. It
    is behind only by what we had when it was heard.
    """

    def __init__(self, own: Callable[[str], Own | None]) -> None:
        self._own = own
        self._others: dict[str, _Other] = {}

    def hear(self, peer_name: str, said_ms: int, heads: Sequence[HeadOf], now_ms: int) -> None:
        """Take note of another peer's heads; what it said before its last ones is passed over. Both are wall clocks."""
        other = self._others.setdefault(peer_name, _Other(said_ms))
        if said_ms < other.said_ms <= now_ms + FUTURE_MS:
            return
        other.said_ms, other.heard_ms = said_ms, now_ms
        for head in heads:
            own = self._own(head.chain)
            if own is not None:
                ours = own.next_height if own.incarnation == head.incarnation else 0
                other.heads[head.chain] = _Heard(head, ours)

    def relation(self, peer_name: str, chain: str) -> Relation | None:
        """Say how another peer stands to us on a chain; None if it has said nothing of it."""
        heard, own = self._heads(peer_name).get(chain), self._own(chain)
        return None if heard is None or own is None else _relation(heard, own)

    def ahead(self, peer_name: str) -> list[HeadOf]:
        """Give the heads of another peer that are ahead of ours: what it may be asked for."""
        heads, states = self._heads(peer_name), self._states(peer_name)
        return [heads[chain].head for chain, state in states.items() if state is State.AHEAD]

    def summaries(self) -> dict[str, Summary]:
        """Give how each other peer that was heard stands, by its name."""
        return {name: self._summary(name) for name in sorted(self._others)}

    def _summary(self, peer_name: str) -> Summary:
        states = self._states(peer_name)
        count = Counter(states.values())
        return Summary(
            heard_ms=self._others[peer_name].heard_ms,
            level=count[State.LEVEL],
            ahead=count[State.AHEAD],
            behind=count[State.BEHIND],
            differing=tuple(chain for chain, state in states.items() if state is State.DIFFERS),
        )

    def _states(self, peer_name: str) -> dict[str, State]:
        chains = sorted(self._heads(peer_name))
        relations = ((chain, self.relation(peer_name, chain)) for chain in chains)
        return {chain: relation.state for chain, relation in relations if relation is not None}

    def _heads(self, peer_name: str) -> Mapping[str, _Heard]:
        other = self._others.get(peer_name)
        return {} if other is None else other.heads


def _relation(heard: _Heard, own: Own) -> Relation:
    head = heard.head
    if head.incarnation > own.incarnation:
        return Relation(State.AHEAD, head.next_height)
    if head.incarnation < own.incarnation:
        return Relation(State.BEHIND, own.next_height)
    if head.next_height > own.next_height:
        return Relation(State.AHEAD, head.next_height - own.next_height)
    if head.root != own.root_at(head.next_height):
        return Relation(State.DIFFERS)
    if head.next_height < heard.ours:
        return Relation(State.BEHIND, heard.ours - head.next_height)
    return Relation(State.LEVEL)
