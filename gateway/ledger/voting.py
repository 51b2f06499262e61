"""What a peer votes for: the rule of signed echo broadcast (Cachin, Guerraoui, Rodrigues, algorithm 3.17).

A gateway is the only writer of its chain. A peer holds, of each chain, a tip: how far it has voted and the frontier of
the tree there. A proposal is judged against the tip, and against the proposal that was voted for at the same height:

    block.start = tip, same root     -> Accepted: vote, once stored
    voted for before                 -> Repeated: the same vote again
    beyond the tip, room between     -> Behind: ask for what lies between
    anything else                    -> Conflict: keep both, vote for neither, freeze the chain

A conflict's two proposals contradict each other for anyone: no history holds both. Whatever is malformed, badly signed
or not of a gateway on the roster raises VerificationError and changes nothing.
"""

import hashlib
from dataclasses import dataclass

from gateway import canonical, signing
from gateway.errors import VerificationError
from gateway.ledger.roster import gateway_of_chain
from gateway.ledger.statements import BLOCK_TYPE, decode_block, encode_block, vote_header
from gateway.merkle import Frontier
from gateway.model import Block, Member, Proposal, Roster


@dataclass(frozen=True, slots=True, kw_only=True)
class Tip:
    """How far a peer has voted on a chain: the next height, the tree there, and the last signed proposal."""

    chain: str
    incarnation: int = 0
    next_height: int = 0
    frontier: Frontier = Frontier()
    last_signed: bytes | None = None
    frozen: bool = False


@dataclass(frozen=True, slots=True)
class VotedBlock:
    """A block that a peer voted for, as it kept it."""

    chain: str
    incarnation: int
    height: int
    start: int
    size: int
    proposal: bytes
    vote: bytes


@dataclass(frozen=True, slots=True)
class Accepted:
    """The proposal follows the tip: store it with the vote, then answer."""

    proposal: Proposal
    tip: Tip


@dataclass(frozen=True, slots=True)
class Repeated:
    """The proposal was voted for already."""

    block: Block


@dataclass(frozen=True, slots=True)
class Behind:
    """Blocks from `next_height` on are missing here."""

    block: Block
    next_height: int


@dataclass(frozen=True, slots=True)
class Conflict:
    """The gateway signed two histories; these two proposals prove it (`ledger.evidence`)."""

    chain: str
    first: bytes
    second: bytes


Verdict = Accepted | Repeated | Behind | Conflict


def sign_block(keys: signing.Keys, gateway: str, block: Block) -> bytes:
    """Give the proposal's blob: the gateway's signatures over the block."""

    def header(algorithm: int, kid: bytes) -> bytes:
        second = keys.second if algorithm == canonical.ML_DSA_44 else None
        more = {} if second is None else {canonical.SECOND_KEY: second.public_key}
        return canonical.signer_header(BLOCK_TYPE, kid, gateway, block.chain, algorithm, more)

    return signing.sign_blob(keys, header, encode_block(block))


def open_proposal(roster: Roster, signed: bytes) -> Block:
    """Check the gateway's signatures on a proposal and give its block; a former key of the gateway is one of its keys.

    Raises: VerificationError if it is damaged or not by the gateway whose chain it is.
    """
    message, second = signing.parse_blob(signed)
    if message.header.get(canonical.CONTENT_TYPE) != BLOCK_TYPE or message.unprotected:
        raise VerificationError("not a proposal")
    block = decode_block(message.payload or b"")
    gateway = gateway_of_chain(roster, block.chain)
    if (message.claim(canonical.ISSUER), message.claim(canonical.SUBJECT)) != (gateway.id, block.chain):
        raise VerificationError(f"a proposal for chain {block.chain} must be by {gateway.id} and name that chain")
    former = {canonical.key_id(key): key for key in gateway.former_keys}.get(message.kid)
    if former is not None:
        signing.verify(message, former)
    else:
        signing.verify_blob((message, second), gateway.public_key, _second_key(gateway, second))
    return block


def _second_key(gateway: Member, second: signing.Message | None) -> bytes | None:
    """Give the key that a second signature shows, if it is the one whose digest stands on the roster."""
    if second is None:
        return None
    key = second.header.get(canonical.SECOND_KEY)
    if not isinstance(key, bytes) or hashlib.sha256(key).digest() != gateway.second_key:
        raise VerificationError(f"the second signature of {gateway.id} is not by the key on the roster")
    return key


def require_current_keys(roster: Roster, signed: bytes) -> None:
    """Check that a proposal, which was opened, carries what the roster wants of one that is voted for today.

    Raises: VerificationError if it is by a former key, or has no second signature where there must be one.
    """
    message, second = signing.parse_blob(signed)
    gateway = gateway_of_chain(roster, str(message.claim(canonical.SUBJECT)))
    if message.kid != canonical.key_id(gateway.public_key):
        raise VerificationError(f"the proposal is by a former key of {gateway.id}")
    if roster.post_quantum and second is None:
        raise VerificationError(f"the proposal of {gateway.id} has no second signature (ML-DSA-44)")


def judge(roster: Roster, tip: Tip, proposal: Proposal, voted_for: bytes | None) -> Verdict:
    """Judge a proposal whose block came from `open_proposal`.

    `voted_for` is the signed proposal that this peer voted for at the same height, None if there is none.
    Raises: VerificationError if the chain is frozen or the leaf hashes do not make the root.
    """
    block = proposal.block
    if gateway_of_chain(roster, block.chain).chain != tip.chain:
        raise VerificationError(f"a tip of chain {tip.chain} cannot judge chain {block.chain}")
    if voted_for == proposal.signed:
        return Repeated(block)
    if tip.frozen:
        raise VerificationError(f"chain {tip.chain} is frozen at incarnation {tip.incarnation}")
    if block.incarnation != tip.incarnation:
        raise VerificationError(f"chain {tip.chain} is at incarnation {tip.incarnation}, not {block.incarnation}")
    if 0 < block.height - tip.next_height <= block.start - tip.frontier.size:  # a block between has a leaf at least
        return Behind(block, tip.next_height)
    place = (tip.next_height, tip.frontier.size, tip.frontier.root())
    if (block.height, block.start, block.start_root) != place:
        return _repeated_or_conflict(tip, proposal, voted_for)
    frontier = tip.frontier.extend(proposal.hashes)
    if (frontier.size, frontier.root()) != (block.size, block.root):
        raise VerificationError(f"the leaf hashes of block {block.height} of {tip.chain} do not make its root")
    return Accepted(
        proposal,
        Tip(
            chain=tip.chain,
            incarnation=tip.incarnation,
            next_height=block.height + 1,
            frontier=frontier,
            last_signed=proposal.signed,
        ),
    )


def cast_vote(keys: signing.Keys, peer: str, epoch: int, block: Block, voted_s: int) -> bytes:
    """Give a peer's vote on a block: a COSE receipt (RFC 9942) without proofs, the root detached."""

    def header(algorithm: int, kid: bytes) -> bytes:
        return vote_header(algorithm, kid, peer, voted_s, epoch, block)

    return signing.sign_blob(keys, header, block.root, detached=True)


def block_of(signed: bytes) -> Block:
    """Give the block of a proposal whose signatures were checked when it was kept.

    Raises: VerificationError if it is no proposal any more.
    """
    message, _ = signing.parse_blob(signed)
    return decode_block(message.payload or b"")


def _repeated_or_conflict(tip: Tip, proposal: Proposal, voted_for: bytes | None) -> Repeated | Conflict:
    known = voted_for or tip.last_signed
    if known is None:
        raise VerificationError(f"the first block of chain {tip.chain} must be height 0 from an empty tree")
    if block_of(known) == proposal.block:
        return Repeated(proposal.block)
    return Conflict(tip.chain, known, proposal.signed)
