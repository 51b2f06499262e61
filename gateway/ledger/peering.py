"""What a peer does with each message: votes, answers, questions, evidence. A pure state machine over its own copy.

    messages -> hear, hear, ... -> settle: one transaction of the copy -> what may then be said

The order is the safety: proposals, leaf hashes, votes and freezes are durable, in one transaction, before one is said.
A crash before that has voted for nothing; one after it gives the same votes again.
"""

from collections.abc import Iterable, Iterator
from contextlib import suppress

from gateway import signing
from gateway.errors import VerificationError
from gateway.ledger import messages
from gateway.ledger.anchor import state_tip
from gateway.ledger.book import Book, Copy, KeysOf, Note, Said
from gateway.ledger.comparing import Comparison, HeadOf, Own, open_heads, sign_heads
from gateway.ledger.messages import Ask, Kind, Topic
from gateway.ledger.proving import Question, decode_question, encode_proof, prove
from gateway.ledger.quorum import certificate_epoch, read_vote, verify_votes
from gateway.ledger.roster import gateway_of_chain
from gateway.ledger.rosters import Rosters
from gateway.ledger.sharing import Sharing, judged
from gateway.ledger.standing import Standing, Word
from gateway.ledger.turning import Turning
from gateway.ledger.voting import (
    Accepted,
    Behind,
    Conflict,
    Repeated,
    Tip,
    block_of,
    cast_vote,
    judge,
    open_proposal,
)
from gateway.model import Block, Certificate, Proposal


class PeerRule:
    """One peer; `now_ms` is a monotonic clock, `wall_s` what a vote says of when it was cast."""

    def __init__(self, name: str, keys_of: KeysOf, rosters: Rosters, copy: Copy) -> None:
        self._book = Book(name, keys_of, rosters, copy)
        self._turning = Turning(self._book)
        self.sharing = Sharing(self._book, self._turning)
        self.comparison = Comparison(self._own)

    @property
    def notes(self) -> list[Note]:
        """Lines for the log; whoever takes them clears the list."""
        return self._book.notes

    @judged
    def adopt(self, rosters: Rosters) -> None:
        """Go by a later roster: whatever is open in an earlier epoch is frozen by the next `settle`."""
        self._book.use(rosters)
        for standing in self._standings(self._book.chains):
            self._turning.advance(standing)

    @judged
    def hear(self, topic: Topic, payload: bytes, now_ms: int, wall_s: int) -> None:
        """Judge one message; what comes of it is kept and said by `settle`.

        Raises: VerificationError if it is refused, which changes nothing; StoreError if the copy is damaged.
        """
        match topic.kind:
            case Kind.ASK:
                self._hear_ask(topic, messages.decode_ask(payload))
            case Kind.PROPOSAL:
                self._hear_proposal(topic, *messages.decode_proposal(payload), now_ms, wall_s)
            case Kind.ANSWER:
                signed, hashes, votes = messages.decode_answer(payload)
                block = self._hear_proposal(topic, signed, hashes, now_ms, wall_s)
                if votes:
                    self._hear_certificate(Certificate(proposal=signed, votes=votes), block, now_ms)
            case Kind.CERTIFICATE:
                certificate = messages.decode_certificate(payload)
                block = open_proposal(self._book.roster, certificate.proposal)
                self._hear_certificate(certificate, block, now_ms)
            case Kind.FREEZE | Kind.RECOVERY | Kind.OPENING:
                self._turning.hear(topic, payload)
            case Kind.HEADS:
                self._hear_heads(payload, now_ms, wall_s)
            case Kind.PROVE:
                self._hear_question(topic, decode_question(payload))

    def settle(self) -> list[Said]:
        """Keep what the messages since the last time came to, and give what may now be said.

        Raises: StoreError if it cannot be kept; then nothing may be said.
        """
        self.sharing.commit()
        said, self._book.said = self._book.said, []
        return said

    @judged
    def say(self, said: Said) -> None:
        """Have something said after the next `settle`."""
        self._book.said.append(said)

    @judged
    def greet(self, now_ms: int) -> None:
        """Say what a peer says first on a connection: a question for each chain, and what it has frozen."""
        for standing in self._standings(self._book.chains):
            self._turning.advance(standing)
            if standing.tip.chain in self._book.active:
                self._ask(standing, "", now_ms)
            if standing.own or standing.closed:
                self._book.say(Topic(standing.tip.chain, Kind.FREEZE, self._book.name), standing.message(), retain=True)

    @judged
    def say_heads(self, wall_ms: int) -> None:
        """Say how far this peer is on every chain, for the others to compare."""
        keys, ledger = self._book.keys, self._book.roster.ledger
        if keys is None:
            return
        tips = [standing.tip for standing in self._standings(self._book.chains)]
        heads = [HeadOf(tip.chain, tip.incarnation, tip.next_height, tip.frontier.root()) for tip in tips]
        for signed in sign_heads(keys.first, self._book.name, ledger, wall_ms, heads):
            self._book.say(Topic(ledger, Kind.HEADS, self._book.name), signed)

    @judged
    def remind(self, now_ms: int) -> None:
        """Ask again, of the next one, for blocks that are known of and did not come."""
        for standing in self._standings(self._book.wanted.overdue(now_ms)):
            chain = standing.tip.chain
            if not self._book.may_vote(standing, also_below_base=True):
                self._book.wanted.forget(chain)
                continue
            others = [member.id for member in self._book.roster.peers if member.id != self._book.name]
            self._ask(standing, self._book.wanted.turn(chain, [chain, *others]), now_ms)
            self._tell_progress(standing, now_ms)
        self._turning.repeat_freezes(now_ms)

    def _standings(self, chains: Iterable[str]) -> Iterator[Standing]:
        """Give where this peer stands on these chains, but for one in an epoch whose roster it has yet to hear."""
        for chain in chains:
            with suppress(VerificationError):
                yield self._turning.standing(chain)

    # -- proposals

    def _hear_proposal(self, topic: Topic, signed: bytes, hashes: tuple[bytes, ...], now_ms: int, wall_s: int) -> Block:
        """Judge a block, and give it."""
        block = open_proposal(self._book.roster, signed)
        standing = self._turning.standing(block.chain)
        known_proposal, known_vote = self._book.voted_for(standing, block, signed)
        self._book.require_current(standing, block, signed)
        proposal = Proposal(block=block, signed=signed, hashes=hashes)
        match judge(self._book.roster, standing.tip, proposal, known_proposal):
            case Accepted() if self._contradicts_base(standing, block):
                self._turning.fault(standing, (standing.base.proposal, signed))
            case Accepted(_, tip):
                self._accept(standing, proposal, tip, wall_s)
                self._note_progress(topic, standing, now_ms)
            case Repeated():
                self._repeat(standing, block, known_vote or self._book.voted_for(standing, block)[1] or b"", wall_s)
            case Behind():
                self._want(standing, block.height + 1, now_ms)
            case Conflict(_, first, second):
                self._turning.fault(standing, (first, second))
        return block

    def _accept(self, standing: Standing, proposal: Proposal, tip: Tip, wall_s: int) -> None:
        """Take a block into the copy with a vote on it, which is said only from the base on.

        Raises: VerificationError if this peer does not vote in its term, or the proposal is not as the roster wants it.
        """
        block = proposal.block
        keys = self._book.keys
        if keys is None or not self._book.may_vote(standing, also_below_base=True):
            raise VerificationError(
                f"{self._book.name} does not vote on chain {standing.tip.chain} in roster epoch {standing.epoch}"
            )
        vote = cast_vote(keys, self._book.name, standing.epoch, block, wall_s)
        self._book.changes.votes[block.chain, block.incarnation, block.height] = (proposal, vote)
        standing.tip = tip
        if standing.is_level:
            self._book.say(Topic(block.chain, Kind.VOTE, self._book.name), vote)
        elif tip.next_height == standing.base.next_height:
            standing.is_level = True

    def _repeat(self, standing: Standing, block: Block, vote: bytes, wall_s: int) -> None:
        """Give the same vote again, or one of this term where it was of an earlier one."""
        message, _ = signing.parse_blob(vote)
        keys = self._book.keys
        if keys is not None and read_vote(message, vote).epoch != standing.epoch and self._book.may_vote(standing):
            vote = cast_vote(keys, self._book.name, standing.epoch, block, wall_s)
            self._book.changes.renewed[block.chain, block.incarnation, block.height] = vote
        if standing.is_level:
            self._book.say(Topic(block.chain, Kind.VOTE, self._book.name), vote)

    def _contradicts_base(self, standing: Standing, block: Block) -> bool:
        """Say whether a block stands where the base ends and is not the base's."""
        base = standing.base
        return not standing.is_level and block.height == base.next_height - 1 and block != block_of(base.proposal)

    def _note_progress(self, topic: Topic, standing: Standing, now_ms: int) -> None:
        """Ask on after the last block of an answer; say when a chain that was behind is no longer."""
        chain, next_height = standing.tip.chain, standing.tip.next_height
        if self._book.wanted.reached(chain, next_height):
            self._book.note("caught up", standing)
        elif topic.kind is Kind.ANSWER and self._book.wanted.is_last_of_answer(chain, next_height):
            self._ask(standing, topic.by, now_ms)
            self._tell_progress(standing, now_ms)

    def _tell_progress(self, standing: Standing, now_ms: int) -> None:
        chain, goal = standing.tip.chain, self._book.wanted.goal(standing.tip.chain)
        if goal and self._book.wanted.is_time_to_tell(chain, now_ms):
            self._book.note("catching up", standing, f"of {goal} blocks")

    def _want(self, standing: Standing, goal: int, now_ms: int) -> None:
        """Take note that blocks up to a height are missing here, and ask for them."""
        chain = standing.tip.chain
        if self._book.wanted.begin(chain, goal):
            self._book.note("behind", standing)
        if self._book.wanted.may_ask(chain, standing.tip.next_height, now_ms):
            self._ask(standing, "", now_ms)

    def _ask(self, standing: Standing, to: str, now_ms: int) -> None:
        tip = standing.tip
        self._book.wanted.asked(tip.chain, tip.next_height, now_ms)
        ask = Ask(incarnation=tip.incarnation, next_height=tip.next_height, to="" if to == tip.chain else to)
        self._book.say(Topic(tip.chain, Kind.ASK, self._book.name), messages.encode_ask(ask))

    # -- questions

    def _hear_ask(self, topic: Topic, ask: Ask) -> None:
        """Answer a gateway that starts, or a peer that asks this one: with blocks, and a gateway with the tip, too."""
        chain = topic.chain
        by_gateway = topic.who == chain
        if by_gateway:
            gateway_of_chain(self._book.roster, chain)
        elif topic.who == self._book.name or ask.to != self._book.name:
            return
        standing = self._turning.standing(chain)
        if by_gateway and standing.epoch == self._book.roster.epoch:
            self._state_tip(standing, ask.nonce)
        if ask.incarnation < standing.tip.incarnation:
            opening = self._book.copy.words(chain, standing.tip.incarnation).get((0, Word.OPENING))
            if opening is not None:
                self._book.say(Topic(chain, Kind.OPENING, self._book.name), opening, retain=True)
        back = Topic(chain, Kind.ANSWER, topic.who, self._book.name)
        for block in self._book.copy.blocks(chain, ask.incarnation, ask.next_height, messages.ANSWER_BLOCKS):
            hashes = self._book.copy.hashes(chain, ask.incarnation, block.start, block.size)
            certificate = self._book.copy.certificate(chain, ask.incarnation, block.height)
            votes = () if certificate is None else certificate.votes
            signed = block.proposal if certificate is None else certificate.proposal
            self._book.say(back, messages.encode_answer(signed, hashes, votes))

    def _state_tip(self, standing: Standing, nonce: bytes) -> None:
        """Say how far the chain goes by this peer: its tip or, before that, the base."""
        keys, place, tip = self._book.keys, standing.place, standing.tip
        if keys is not None:
            statement = state_tip(keys, self._book.name, tip.chain, tip.incarnation, place, nonce)
            self._book.say(Topic(tip.chain, Kind.TIP, self._book.name), messages.encode_tip(statement, place.proposal))

    def _hear_question(self, topic: Topic, question: Question) -> None:
        """Prove, to anyone on the roster, what this peer's copy holds."""
        members = {
            *(member.id for member in self._book.roster.peers),
            *(each.chain for each in self._book.roster.gateways),
        }
        if question.to != self._book.name or topic.who not in members:
            return
        read = self._book.copy.reader(topic.chain, question.incarnation)
        path = prove(read, self._book.copy.size(topic.chain, question.incarnation), question)
        self._book.say(Topic(topic.chain, Kind.PROOF, topic.who, self._book.name), encode_proof(question, path))

    # -- how far others are

    def _hear_heads(self, signed: bytes, now_ms: int, wall_s: int) -> None:
        """Compare another peer's heads with this copy; ask it for what it has beyond, and for what differs."""
        name, said_ms, heads = open_heads(self._book.roster, signed)
        if name == self._book.name:
            return
        self.comparison.hear(name, said_ms, heads, wall_s * 1000)
        for head in self.comparison.ahead(name):
            standing = self._turning.standing(head.chain)
            if head.incarnation == standing.tip.incarnation and self._book.may_vote(standing, also_below_base=True):
                self._want(standing, head.next_height, now_ms)
        for chain in self.comparison.summaries()[name].differing:
            standing = self._turning.standing(chain)
            if not standing.cause:
                self._book.note("differs", standing, f"from {name}'s")
                height = next(head.next_height for head in heads if head.chain == chain) - 1
                ask = Ask(incarnation=standing.tip.incarnation, next_height=max(height, 0), to=name)
                self._book.say(Topic(chain, Kind.ASK, self._book.name), messages.encode_ask(ask))

    def _own(self, chain: str) -> Own | None:
        if chain not in self._book.chains:
            return None
        standing = self._turning.standing(chain)
        return Own(
            standing.tip.incarnation, standing.tip.next_height, lambda height: self._book.root_at(standing, height)
        )

    # -- certificates

    def _hear_certificate(self, certificate: Certificate, block: Block, now_ms: int) -> None:
        """Keep the certificate of a block that is here; learn from another that blocks are missing, or of a fork.

        The block is the certificate's, its proposal opened.
        """
        standing = self._turning.standing(block.chain)
        place = block.chain, block.incarnation, block.height
        if block.incarnation != standing.tip.incarnation or place in self._book.changes.certificates:
            return
        is_here = block.height < standing.tip.next_height
        if is_here and self._book.copy.certificate(*place) is not None:
            return
        verify_votes(self._book.rosters.of_epoch(certificate_epoch(certificate)), certificate, block)
        if not is_here:
            self._want(standing, block.height + 1, now_ms)
            return
        known, _ = self._book.voted_for(standing, block, certificate.proposal)
        if known is not None and block_of(known) != block:
            self._turning.fault(standing, (known, certificate.proposal))
        else:
            self._book.changes.certificates[place] = certificate
