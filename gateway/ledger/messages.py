"""What gateway and peers say to each other over a transport that nobody trusts, and under which topic.

    iomt/1/<chain>/proposal                gateway          [proposal, leaf hashes one behind the other]
    iomt/1/<chain>/vote/<peer>             peer             vote
    iomt/1/<chain>/certificate             gateway, kept    [proposal, [+ vote]]
    iomt/1/<chain>/tip/<peer>              peer, kept       [statement, last proposal voted for, or h'']
    iomt/1/<chain>/ask/<who>               gateway or peer  [next height wanted, nonce]
    iomt/1/<chain>/answer/<who>/<by>       gateway or peer  as proposal

On the broker a peer is called by its name and a gateway by its chain: that is the common name of its certificate, so
one list of patterns lets each write its own topics alone. Every message is idempotent. Nothing is believed for having
arrived: signatures inside are checked against the roster. An ask is the one thing unsigned: it can cost an answer and
nothing else.
"""

from dataclasses import dataclass
from enum import StrEnum

from gateway import cbor, merkle
from gateway.errors import VerificationError
from gateway.model import Certificate
from gateway.toml import is_name

PREFIX = "iomt/1"
NONCE_SIZE = 16
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


# How many names stand behind a kind.
_NAMES: dict[str, int] = {
    Kind.PROPOSAL: 0,
    Kind.VOTE: 1,
    Kind.CERTIFICATE: 0,
    Kind.TIP: 1,
    Kind.ASK: 1,
    Kind.ANSWER: 2,
}


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic taken apart; `who` is the peer, the asker, or empty; `by` is who answers, or empty."""

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


def encode_proposal(signed: bytes, hashes: list[bytes] | tuple[bytes, ...]) -> bytes:
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


def encode_certificate(certificate: Certificate) -> bytes:
    """Give the message that carries a certificate."""
    return cbor.encode([certificate.proposal, list(certificate.votes)])


def decode_certificate(payload: bytes) -> Certificate:
    """Read a certificate's message; `ledger.quorum` checks it.

    Raises: VerificationError if it is malformed.
    """
    match cbor.decode(payload):
        case [bytes(proposal), [*votes]] if all(isinstance(vote, bytes) for vote in votes):
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


def encode_ask(next_height: int, nonce: bytes) -> bytes:
    """Give the message that asks peers for their tips, and anyone for the blocks from a height on."""
    return cbor.encode([next_height, nonce])


def decode_ask(payload: bytes) -> tuple[int, bytes]:
    """Read from which height on blocks are asked for, and the nonce that a tip has to carry.

    Raises: VerificationError if it is malformed.
    """
    match cbor.decode(payload):
        case [int(next_height), bytes(nonce)] if cbor.are_naturals(next_height) and len(nonce) <= NONCE_SIZE:
            return next_height, nonce
        case _:
            raise VerificationError("not an ask")
