"""How a gateway anchors its blocks: what is in flight, which votes count, when to publish again.

A block is in flight from its sealing (or, after a start, from the store) until a quorum has signed it. Publishing is
repeated, ever more slowly, until then: only votes free a block, never a broker's acknowledgement. Before the first
block is signed after a start, a quorum of peers says how far they have voted: a chain never forks because its disk
was restored.
"""

from dataclasses import dataclass, field

from gateway import canonical, merkle, signing
from gateway.errors import VerificationError
from gateway.ledger.closing import Place
from gateway.ledger.policy import is_met
from gateway.ledger.quorum import verify_block_vote
from gateway.ledger.roster import peer
from gateway.ledger.statements import TIP_TYPE, decode_tip, encode_tip
from gateway.ledger.voting import open_proposal
from gateway.model import Block, Certificate, Roster, TipStatement

WINDOW = 32
"""Blocks in flight at a time: what bounds memory, and what one peer may be behind by before it has to ask."""

FIRST_RETRY_MS = 1_000
LAST_RETRY_MS = 30_000


@dataclass(slots=True)
class Ballot:
    """A block in flight: its message, the votes so far, when it is to be published next."""

    block: Block
    signed: bytes
    message: bytes
    votes: dict[str, bytes] = field(default_factory=dict)
    due_ms: int = 0
    retry_ms: int = FIRST_RETRY_MS


@dataclass(frozen=True, slots=True)
class Certified:
    """A quorum has signed: the certificate may be kept, then published."""

    block: Block
    certificate: Certificate
    peers: tuple[str, ...]


class Anchor:
    """The blocks of one chain that are in flight."""

    def __init__(self, roster: Roster) -> None:
        self._roster = roster
        self._ballots: dict[int, Ballot] = {}

    @property
    def room(self) -> int:
        """How many more blocks may go in flight."""
        return WINDOW - len(self._ballots)

    def in_flight(self, height: int) -> bool:
        """Say whether the block at that height waits for votes."""
        return height in self._ballots

    def propose(self, block: Block, signed: bytes, message: bytes) -> None:
        """Take a sealed block in flight; it is due at once."""
        self._ballots[block.height] = Ballot(block, signed, message)

    def reconnected(self) -> None:
        """Make everything in flight due: what was published before may never have arrived."""
        for ballot in self._ballots.values():
            ballot.due_ms, ballot.retry_ms = 0, FIRST_RETRY_MS

    def due(self, now_ms: int) -> list[bytes]:
        """Give the messages to publish now, the lowest block first; each is due again later."""
        messages = []
        for height in sorted(self._ballots):
            ballot = self._ballots[height]
            if ballot.due_ms <= now_ms:
                messages.append(ballot.message)
                ballot.due_ms = now_ms + ballot.retry_ms
                ballot.retry_ms = min(2 * ballot.retry_ms, LAST_RETRY_MS)
        return messages

    def count(self, height: int, signed: bytes) -> Certified | None:
        """Count a vote on a block in flight and give the certificate if it makes the quorum.

        Raises: VerificationError if the vote is not one of a peer on the roster for this block.
        """
        ballot = self._ballots[height]
        vote = verify_block_vote(self._roster, ballot.block, signed)
        ballot.votes[vote.peer] = signed
        if not is_met(self._roster.policy, ballot.votes):
            return None
        del self._ballots[height]
        peers = tuple(sorted(ballot.votes))
        certificate = Certificate(proposal=ballot.signed, votes=tuple(ballot.votes[name] for name in peers))
        return Certified(ballot.block, certificate, peers)


def state_tip(keys: signing.Keys, peer_name: str, chain: str, incarnation: int, place: Place, nonce: bytes) -> bytes:
    """Give a peer's signed statement of how far a chain goes at least."""
    statement = TipStatement(
        chain=chain,
        incarnation=incarnation,
        next_height=place.next_height,
        size=place.size,
        root=place.root,
        nonce=nonce,
    )
    header = canonical.signer_header(TIP_TYPE, keys.first.kid, peer_name, chain)
    return signing.sign(keys.first, header, encode_tip(statement))


class TipPoll:
    """What is asked before a gateway's first block: how far the peers have voted on its chain."""

    def __init__(self, roster: Roster, chain: str, incarnation: int, nonce: bytes) -> None:
        self._roster = roster
        self._chain = chain
        self._incarnation = incarnation
        self.nonce = nonce
        self._answered: set[str] = set()
        self.next_height = 0
        """The height that follows the highest block which this gateway is known to have signed; it never falls."""
        self.later_incarnation = 0
        """A later incarnation in which a peer has a block by this gateway, 0 while there is none."""

    @property
    def answered(self) -> bool:
        """Whether so many peers have answered that any certificate is known to one of them."""
        return is_met(self._roster.policy, self._answered)

    def show(self, block: Block) -> None:
        """Take note of a block that carries this gateway's own signature: whoever shows it, it is not signed again."""
        if block.incarnation == self._incarnation:
            self.next_height = max(self.next_height, block.height + 1)
        elif block.incarnation > self._incarnation:
            self.later_incarnation = block.incarnation

    def answer(self, signed: bytes, proposal: bytes) -> None:
        """Count a peer's answer; one to an earlier question, such as the broker keeps, is passed over.

        Raises: VerificationError if it is not by a peer on the roster, or claims a block that this gateway has not
        signed.
        """
        message = signing.parse(signed)
        member = peer(self._roster, str(message.claim(canonical.ISSUER)))
        signing.verify(message, member.public_key)
        if message.header.get(canonical.CONTENT_TYPE) != TIP_TYPE:
            raise VerificationError("not a tip")
        tip = decode_tip(message.payload or b"")
        if (tip.chain, tip.nonce) != (self._chain, self.nonce):
            return
        if tip.next_height or tip.root != merkle.EMPTY_ROOT:
            block = open_proposal(self._roster, proposal)
            place = (block.chain, block.incarnation, block.height + 1, block.size, block.root)
            if place != (tip.chain, tip.incarnation, tip.next_height, tip.size, tip.root):
                raise VerificationError(f"the tip of {member.id} is not the block that it shows")
            self.show(block)
        self._answered.add(member.id)
