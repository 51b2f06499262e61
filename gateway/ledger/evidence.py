"""Two proposals by which a gateway proves against itself that it signed two histories.

    evidence = [first proposal, second proposal]          ; what `iomt verify evidence` reads

Anyone who holds the roster can check it, without a tree: no history of one incarnation holds both blocks.
"""

from dataclasses import dataclass

from gateway import cbor
from gateway.errors import VerificationError
from gateway.ledger.roster import gateway_of_chain
from gateway.ledger.voting import open_proposal
from gateway.model import Block, Member, Roster


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was proved: against which gateway, and the two blocks with their proposals, the lower one first."""

    gateway: Member
    first: Block
    second: Block
    contradiction: str
    proposals: tuple[bytes, bytes]


def encode_evidence(first: bytes, second: bytes) -> bytes:
    """Give evidence as a file."""
    return cbor.encode([first, second])


def decode_evidence(data: bytes) -> tuple[bytes, bytes]:
    """Read an evidence file; `open_evidence` checks it.

    Raises: VerificationError if it is malformed.
    """
    match cbor.decode(data):
        case [bytes(first), bytes(second)]:
            return first, second
    raise VerificationError("not evidence: two proposals")


def open_evidence(roster: Roster, first: bytes, second: bytes) -> Evidence:
    """Check both signatures, and that the two blocks contradict each other.

    Raises: VerificationError if they prove nothing.
    """
    opened = [(open_proposal(roster, signed), signed) for signed in (first, second)]
    (lower, one), (higher, other) = sorted(opened, key=lambda pair: pair[0].height)
    why = contradiction(lower, higher)
    return Evidence(gateway_of_chain(roster, lower.chain), lower, higher, why, (one, other))


def contradiction(lower: Block, higher: Block) -> str:
    """Say why no history of one incarnation holds both blocks.

    Raises: VerificationError if one may.
    """
    if (lower.chain, lower.incarnation) != (higher.chain, higher.incarnation):
        raise VerificationError("the two proposals are of different chains or incarnations")
    between = higher.height - lower.height - 1
    if between < 0:
        if lower != higher:
            return f"two blocks at height {lower.height}"
    elif higher.start < lower.size + between:  # a block between has a leaf at least
        held = lower.size + between
        return f"block {higher.height} begins at leaf {higher.start}, but the blocks before it hold {held} or more"
    elif not between and (higher.start, higher.start_root) != (lower.size, lower.root):
        return f"block {higher.height} does not continue block {lower.height}"
    raise VerificationError(f"blocks {lower.height} and {higher.height} do not contradict each other")
