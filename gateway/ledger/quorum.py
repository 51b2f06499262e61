"""What makes a block final: votes that meet the roster's policy over the same root at the same position."""

from collections.abc import Iterable

from gateway import canonical, cbor, signing
from gateway.errors import VerificationError
from gateway.ledger import policy
from gateway.ledger.roster import peer
from gateway.ledger.statements import POSITION, RFC9162_SHA256, TREE_ALG
from gateway.ledger.voting import open_proposal
from gateway.model import Block, Certificate, Roster, Vote


def read_vote(message: signing.Message, signed: bytes) -> Vote:
    """Read who voted and on what, the signature not yet checked; `signed` is kept with it.

    Raises: VerificationError if the header is not a vote's.
    """
    name, chain, voted_s = (
        message.claim(number) for number in (canonical.ISSUER, canonical.SUBJECT, canonical.ISSUED_AT)
    )
    position = message.header.get(POSITION)
    known = {canonical.ALG, canonical.KID, canonical.CWT_CLAIMS, TREE_ALG, POSITION}
    tree = message.header.get(TREE_ALG)
    if message.header.keys() != known or not cbor.are_naturals(tree) or tree != RFC9162_SHA256:
        raise VerificationError("not a vote: its protected header has other entries")
    match (name, chain, voted_s, position):
        case (str(), str(), int(), [epoch, incarnation, height, start, size, int(sealed_ms)]) if cbor.are_naturals(
            voted_s, epoch, incarnation, height, start, size
        ) and not isinstance(sealed_ms, bool):
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
        sealed_ms=sealed_ms,
        signed=signed,
    )


def verify_vote(
    roster: Roster, messages: tuple[signing.Message, signing.Message | None], vote: Vote, root: bytes
) -> None:
    """Check that a peer of this roster and epoch signed this root.

    Raises: VerificationError if not, or if the roster is post-quantum and there is no second signature.
    """
    message, second = messages
    member = peer(roster, vote.peer)
    if vote.epoch != roster.epoch:
        raise VerificationError(
            f"the vote of {vote.peer} is of roster epoch {vote.epoch}, this roster's is {roster.epoch}"
        )
    if message.kid != canonical.key_id(member.public_key):
        raise VerificationError(f"the vote of {vote.peer} is by key {message.kid.hex()}, not by the roster's")
    signing.verify_blob(messages, member.public_key, member.second_key, detached=root)
    if roster.post_quantum and second is None:
        raise VerificationError(f"the vote of {vote.peer} has no second signature (ML-DSA-44)")


def verify_block_vote(roster: Roster, block: Block, signed: bytes) -> Vote:
    """Check one vote on a block and give it.

    Raises: VerificationError if it is not a vote of a peer on the roster for exactly this block.
    """
    messages = signing.parse_blob(signed)
    if messages[0].unprotected:
        raise VerificationError("a vote has no unprotected header")
    vote = read_vote(messages[0], signed)
    position = (vote.chain, vote.incarnation, vote.height, vote.start, vote.size, vote.sealed_ms)
    if position != (block.chain, block.incarnation, block.height, block.start, block.size, block.sealed_ms):
        raise VerificationError(f"the vote of {vote.peer} is for another position than block {block.height}")
    verify_vote(roster, messages, vote, block.root)
    return vote


def verify_certificate(roster: Roster, certificate: Certificate) -> Block:
    """Check a certificate of the roster's epoch and give its block.

    Raises: VerificationError if the proposal or a vote is bad, or the votes do not meet the policy.
    """
    block = open_proposal(roster, certificate.proposal)
    verify_votes(roster, certificate, block)
    return block


def verify_votes(roster: Roster, certificate: Certificate, block: Block) -> None:
    """Check what makes a block final, whose proposal was opened.

    Raises: VerificationError if a vote is bad, the votes do not meet the policy, or a second signature is missing.
    """
    if roster.post_quantum and not signing.has_second(certificate.proposal):
        raise VerificationError(f"the proposal of block {block.height} has no second signature (ML-DSA-44)")
    require_quorum(roster, [verify_block_vote(roster, block, signed).peer for signed in certificate.votes])


def certificate_epoch(certificate: Certificate) -> int:
    """Give the roster epoch that a certificate's first vote names.

    Raises: VerificationError if it has no vote.
    """
    if not certificate.votes:
        raise VerificationError("a certificate without votes")
    message, _ = signing.parse_blob(certificate.votes[0])
    return read_vote(message, certificate.votes[0]).epoch


def require_quorum(roster: Roster, peers: Iterable[str]) -> None:
    """Check that these voters are distinct and enough.

    Raises: VerificationError if a peer voted twice or the policy is not met.
    """
    names = list(peers)
    if len(set(names)) != len(names):
        raise VerificationError("a peer's vote is counted twice")
    policy.require(roster.policy, names)
