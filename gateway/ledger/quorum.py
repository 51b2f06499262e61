"""What makes a block final: votes that meet the roster's policy over the same root at the same position."""

from collections.abc import Iterable

from gateway import canonical, cbor, signing
from gateway.errors import VerificationError
from gateway.ledger import policy
from gateway.ledger.roster import peer
from gateway.ledger.voting import open_proposal
from gateway.model import Block, Certificate, Roster, Vote


def read_vote(message: signing.Message, signed: bytes) -> Vote:
    """Read who voted and on what, the signature not yet checked.

    Raises: VerificationError if the header is not a vote's.
    """
    name, chain, voted_s = (
        message.claim(number) for number in (canonical.ISSUER, canonical.SUBJECT, canonical.ISSUED_AT)
    )
    position = message.header.get(canonical.POSITION)
    known = {canonical.ALG, canonical.KID, canonical.CWT_CLAIMS, canonical.TREE_ALG, canonical.POSITION}
    tree = message.header.get(canonical.TREE_ALG)
    if message.header.keys() != known or not cbor.are_naturals(tree) or tree != canonical.RFC9162_SHA256:
        raise VerificationError("not a vote: its protected header has other entries")
    match (name, chain, voted_s, position):
        case (str(), str(), int(), [epoch, incarnation, height, start, size]) if cbor.are_naturals(voted_s, *position):
            pass
        case _:
            raise VerificationError("not a vote: peer, chain, time or position is missing")
    return Vote(
        peer=name,
        chain=chain,
        voted_ms=voted_s * 1000,
        epoch=epoch,
        incarnation=incarnation,
        height=height,
        start=start,
        size=size,
        signed=signed,
    )


def verify_vote(roster: Roster, message: signing.Message, vote: Vote, root: bytes) -> None:
    """Check that a peer of this roster and epoch signed this root.

    Raises: VerificationError if not.
    """
    member = peer(roster, vote.peer)
    if vote.epoch != roster.epoch:
        raise VerificationError(
            f"the vote of {vote.peer} is of roster epoch {vote.epoch}, this roster's is {roster.epoch}"
        )
    if message.kid != canonical.key_id(member.public_key):
        raise VerificationError(f"the vote of {vote.peer} is by key {message.kid.hex()}, not by the roster's")
    signing.verify(message, member.public_key, detached=root)


def verify_block_vote(roster: Roster, block: Block, signed: bytes) -> Vote:
    """Check one vote on a block and give it.

    Raises: VerificationError if it is not a vote of a peer on the roster for exactly this block.
    """
    message = signing.parse(signed)
    if message.unprotected:
        raise VerificationError("a vote has no unprotected header")
    vote = read_vote(message, signed)
    position = (vote.chain, vote.incarnation, vote.height, vote.start, vote.size)
    if position != (block.chain, block.incarnation, block.height, block.start, block.size):
        raise VerificationError(f"the vote of {vote.peer} is for another position than block {block.height}")
    verify_vote(roster, message, vote, block.root)
    return vote


def verify_certificate(roster: Roster, certificate: Certificate) -> Block:
    """Check a certificate and give its block.

    Raises: VerificationError if the proposal or a vote is bad, or the votes do not meet the policy.
    """
    block = open_proposal(roster, certificate.proposal)
    require_quorum(roster, [verify_block_vote(roster, block, signed).peer for signed in certificate.votes])
    return block


def require_quorum(roster: Roster, peers: Iterable[str]) -> None:
    """Check that these voters are distinct and enough.

    Raises: VerificationError if a peer voted twice or the policy is not met.
    """
    names = list(peers)
    if len(set(names)) != len(names):
        raise VerificationError("a peer's vote is counted twice")
    policy.require(roster.policy, names)
