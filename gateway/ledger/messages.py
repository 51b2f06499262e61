"""What gateways and peers say to each other over a transport that nobody trusts, and under which topic.

    iomt/1/<chain>/proposal                gateway          [proposal, leaf hashes one behind the other]
    iomt/1/<chain>/vote/<peer>             peer             vote
    iomt/1/<chain>/certificate             gateway, kept    [proposal, [+ vote]]
    iomt/1/<chain>/tip/<peer>              peer             [statement, last proposal voted for, or h'']
    iomt/1/<chain>/ask/<who>               gateway or peer  [incarnation, next height wanted, nonce, of whom, or ""]
    iomt/1/<chain>/answer/<who>/<by>       gateway or peer  [proposal, leaf hashes, [* vote]]
    iomt/1/<chain>/freeze/<peer>           peer, kept       [[+ [freeze, last proposal, or h'']], [* cause]]
    iomt/1/<chain>/recovery                gateway          recovery
    iomt/1/<chain>/opening/<by>            either, kept     [opening, [+ [freeze, last proposal, or h'']]]
    iomt/1/<chain>/prove/<who>            gateway or peer  [of whom, incarnation, size, index / null, smaller / null]
    iomt/1/<chain>/proof/<who>/<by>       peer             [incarnation, size, index / null, smaller / null, [* hash]]
    iomt/1/<ledger>/heads/<peer>           peer             heads (`ledger.comparing`)
    iomt/1/<ledger>/roster/<peer>          peer, kept       roster file

On the broker a peer is called by its name and a gateway by its chain: that is the common name of its certificate, so
one list of patterns lets each write its own topics alone. Every message is idempotent. Nothing is believed for having
arrived: signatures inside are checked against the roster. An ask and a prove are unsigned: they can cost an answer and
nothing else. A cause is the two proposals by which a gateway signed two histories, or a recovery.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from gateway import cbor, merkle
from gateway.errors import VerificationError
from gateway.ledger.closing import Shown
from gateway.model import Certificate
from gateway.toml import is_name

PREFIX = "iomt/1"
NONCE_SIZE = 16
CAUSE_LIMIT = 2
ANSWER_BLOCKS = 16
"""How many blocks an ask is answered with; who needs more asks again after the last of them."""


class Kind(StrEnum):
    """The last fixed word of a topic."""

    PROPOSAL = "proposal"
    VOTE = "vote"
    CERTIFICATE = "certificate"
    TIP = "tip"
    ASK = "ask"
    ANSWER = "answer"
    FREEZE = "freeze"
    RECOVERY = "recovery"
    OPENING = "opening"
    PROVE = "prove"
    PROOF = "proof"
    HEADS = "heads"
    ROSTER = "roster"


# How many names stand behind a kind.
_NAMES: dict[str, int] = {
    Kind.PROPOSAL: 0,
    Kind.VOTE: 1,
    Kind.CERTIFICATE: 0,
    Kind.TIP: 1,
    Kind.ASK: 1,
    Kind.ANSWER: 2,
    Kind.FREEZE: 1,
    Kind.RECOVERY: 0,
    Kind.OPENING: 1,
    Kind.PROVE: 1,
    Kind.PROOF: 2,
    Kind.HEADS: 1,
    Kind.ROSTER: 1,
}


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic taken apart; `chain` may be the ledger; `who` is the peer, the asker, or empty; `by` is who answers."""

    chain: str
    kind: Kind
    who: str = ""
    by: str = ""

    def __str__(self) -> str:
        return "/".join(part for part in (PREFIX, self.chain, self.kind.value, self.who, self.by) if part)

    @classmethod
    def parse(cls, text: str) -> "Topic":
        """Take a topic apart.

        Raises: VerificationError if it is none of ours.
        """
        match text.split("/"):
            case ["iomt", "1", chain, kind, *names] if _NAMES.get(kind) == len(names):
                if all(is_name(name) for name in (chain, *names)):
                    return cls(chain, Kind(kind), *names)
        raise VerificationError(f"unknown topic {text!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """Who asks for blocks from a height on, and wants a tip with its nonce; `to` is empty where all are asked."""

    incarnation: int
    next_height: int
    nonce: bytes = b""
    to: str = ""


def encode_proposal(signed: bytes, hashes: Sequence[bytes]) -> bytes:
    """Give the message that carries a proposal and its leaf hashes."""
    return cbor.encode([signed, b"".join(hashes)])


def decode_proposal(payload: bytes) -> tuple[bytes, tuple[bytes, ...]]:
    """Read a proposal's message: the signed proposal and the leaf hashes.

    Raises: VerificationError if it is malformed.
    """
    match cbor.decode(payload):
        case [bytes(signed), bytes(joined)] if len(joined) % merkle.HASH_SIZE == 0:
            return signed, tuple(merkle.split_hashes(joined))
        case _:
            raise VerificationError("not a proposal with its leaf hashes")


def encode_answer(signed: bytes, hashes: Sequence[bytes], votes: Sequence[bytes]) -> bytes:
    """Give the message that carries a block that was asked for, and the votes that made it final if they are known."""
    return cbor.encode([signed, b"".join(hashes), list(votes)])


def decode_answer(payload: bytes) -> tuple[bytes, tuple[bytes, ...], tuple[bytes, ...]]:
    """Read an answer: the signed proposal, the leaf hashes and votes.

    Raises: VerificationError if it is malformed.
    """
    match cbor.decode(payload):
        case [bytes(signed), bytes(joined), [*votes]] if len(joined) % merkle.HASH_SIZE == 0 and _are_bytes(votes):
            return signed, tuple(merkle.split_hashes(joined)), tuple(votes)
        case _:
            raise VerificationError("not an answer: a proposal, its leaf hashes and votes")


def encode_certificate(certificate: Certificate) -> bytes:
    """Give the message that carries a certificate."""
    return cbor.encode([certificate.proposal, list(certificate.votes)])


def decode_certificate(payload: bytes) -> Certificate:
    """Read a certificate's message; `ledger.quorum` checks it.

    Raises: VerificationError if it is malformed.
    """
    match cbor.decode(payload):
        case [bytes(proposal), [*votes]] if _are_bytes(votes):
            return Certificate(proposal=proposal, votes=tuple(votes))
        case _:
            raise VerificationError("not a certificate")


def encode_tip(statement: bytes, proposal: bytes) -> bytes:
    """Give the message in which a peer says how far it has voted on a chain; no proposal is empty."""
    return cbor.encode([statement, proposal])


def decode_tip(payload: bytes) -> tuple[bytes, bytes]:
    """Read a tip: the peer's signed statement, and the last proposal that it voted for.

    Raises: VerificationError if it is malformed.
    """
    match cbor.decode(payload):
        case [bytes(statement), bytes(proposal)]:
            return statement, proposal
        case _:
            raise VerificationError("not a tip")


def encode_ask(ask: Ask) -> bytes:
    """Give the message that asks peers for their tips, and anyone for the blocks from a height on."""
    return cbor.encode([ask.incarnation, ask.next_height, ask.nonce, ask.to])


def decode_ask(payload: bytes) -> Ask:
    """Read an ask.

    Raises: VerificationError if it is malformed.
    """
    match cbor.decode(payload):
        case [int(incarnation), int(next_height), bytes(nonce), str(to)] if cbor.are_naturals(incarnation, next_height):
            if len(nonce) <= NONCE_SIZE:
                return Ask(incarnation=incarnation, next_height=next_height, nonce=nonce, to=to)
    raise VerificationError("not an ask")


def encode_freezes(shown: Sequence[Shown], cause: Sequence[bytes]) -> bytes:
    """Give the message in which a peer says that it votes no more, what others said likewise, and what caused it."""
    return cbor.encode([[[each.signed, each.proposal] for each in shown], list(cause)])


def decode_freezes(payload: bytes) -> tuple[tuple[Shown, ...], tuple[bytes, ...]]:
    """Read a freeze's message; `ledger.closing` checks what is in it.

    Raises: VerificationError if it is malformed.
    """
    match cbor.decode(payload):
        case [[*shown], [*cause]] if _are_bytes(cause) and len(cause) <= CAUSE_LIMIT:
            return _shown(shown), tuple(cause)
        case _:
            raise VerificationError("not freezes with their cause")


def encode_opening(opening: bytes, shown: Sequence[Shown]) -> bytes:
    """Give the message by which an incarnation begins."""
    return cbor.encode([opening, [[each.signed, each.proposal] for each in shown]])


def decode_opening(payload: bytes) -> tuple[bytes, tuple[Shown, ...]]:
    """Read an opening's message; `ledger.closing` checks what is in it.

    Raises: VerificationError if it is malformed.
    """
    match cbor.decode(payload):
        case [bytes(opening), [*shown]]:
            return opening, _shown(shown)
        case _:
            raise VerificationError("not an opening with its closing certificate")


def _shown(items: Sequence[object]) -> tuple[Shown, ...]:
    shown = []
    for item in items:
        match item:
            case [bytes(signed), bytes(proposal)]:
                shown.append(Shown(signed, proposal))
            case _:
                raise VerificationError("not a freeze with the proposal that it shows")
    return tuple(shown)


def _are_bytes(items: Sequence[object]) -> bool:
    return all(isinstance(item, bytes) for item in items)
