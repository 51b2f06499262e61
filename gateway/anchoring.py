"""A gateway's talk with its peers: blocks go out, votes come in, certificates are made, lost blocks come back.

`ledger.anchor` says what counts and what is due; this carries it over the link. Nothing here writes to the store:
`keep` of the daemon takes certificates, late votes, lost blocks and rosters from here when it is their turn.
"""

import secrets
from collections import deque
from collections.abc import Callable, Sequence

import structlog

from gateway import signing
from gateway.block import Head
from gateway.errors import VerificationError
from gateway.io.mqtt import Broker, Link, Outbox, Outgoing
from gateway.ledger import messages
from gateway.ledger.anchor import Anchor, Certified, TipPoll
from gateway.ledger.closing import open_recovery
from gateway.ledger.evidence import open_evidence
from gateway.ledger.messages import Ask, Kind, Topic
from gateway.ledger.quorum import read_vote
from gateway.ledger.roster import peer
from gateway.ledger.voting import open_proposal
from gateway.model import Proposal, Roster

OUTBOX_SIZE = 1024
ASK_AGAIN_MS = 1_000
LATE_VOTES = 1024

log = structlog.get_logger("iomt.anchoring")


class Anchoring:
    """One gateway's chain among its peers; `wake` is called when there is something for `keep` to write.

    `opening` is the message by which the incarnation of its chain was begun, empty for the first one.
    """

    def __init__(
        self, broker: Broker, roster: Roster, chain: str, wake: Callable[[], None], opening: bytes = b""
    ) -> None:
        self._roster = roster
        self._chain = chain
        self._wake = wake
        self._opening = opening
        self._anchor = Anchor(roster)
        self._poll: TipPoll | None = None
        self._incarnation = 0
        self._next_height = 0
        self._asked = (0, 0)  # up to which height, and when again
        topics = [Topic(chain, kind, "+") for kind in (Kind.VOTE, Kind.TIP, Kind.ASK, Kind.FREEZE)]
        topics += [Topic(chain, Kind.ANSWER, chain, "+"), Topic(roster.ledger, Kind.ROSTER, "+")]
        self.link = Link(broker, identity=chain, topics=[str(topic) for topic in topics], on_connected=self._connected)
        self.outbox = Outbox(self.link, OUTBOX_SIZE)
        self.certified: deque[Certified] = deque()
        self.late: deque[tuple[int, bytes]] = deque(maxlen=LATE_VOTES)
        self.lost: deque[Proposal] = deque(maxlen=2 * messages.ANSWER_BLOCKS)
        self.asked: deque[tuple[str, int]] = deque(maxlen=64)
        self.rosters: deque[tuple[str, bytes]] = deque(maxlen=16)
        self.last_peers: tuple[str, ...] = ()
        self.flight_height = -1
        self.stopped_by = ""
        """Why nothing of this incarnation is certified any more; empty while it goes on."""

    # -- what the daemon's tasks do

    @property
    def may_seal(self) -> bool:
        """Whether a quorum of peers has said how far the chain goes, and all of it is here, and it goes on."""
        poll = self._poll
        return poll is not None and not self.stopped_by and poll.answered and poll.next_height <= self._next_height

    def begin(self, head: Head) -> None:
        """Be told where the chain stands at the start."""
        self._incarnation = head.incarnation
        self._next_height = head.next_height

    def sealed_up_to(self, next_height: int) -> None:
        """Be told the height of the next block: after each block, and after each that came back."""
        self._next_height = next_height

    def adopt(self, roster: Roster) -> None:
        """Go by a later roster: what is in flight is put in flight again, for the votes that count now."""
        self._roster = roster
        self._anchor = Anchor(roster)
        self.flight_height = -1
        if self._poll is not None and not self._poll.answered:
            self._begin_poll()
        self._wake()

    def propose(self, proposal: Proposal) -> None:
        """Put a block in flight."""
        message = messages.encode_proposal(proposal.signed, proposal.hashes)
        self._anchor.propose(proposal.block, proposal.signed, message)
        self.flight_height = proposal.block.height

    @property
    def room(self) -> int:
        """How many more blocks may go in flight."""
        return self._anchor.room

    def say_due(self, now_ms: int) -> None:
        """Say what is due: blocks in flight whose time has come, the question for tips while it is open."""
        if not self.link.connected.is_set() or self.stopped_by:
            return
        if not self.may_seal:
            self._ask(now_ms)
        for message in self._anchor.due(now_ms):
            self.say(Topic(self._chain, Kind.PROPOSAL), message)

    def say_certificate(self, certified: Certified) -> None:
        """Say that a block is final; its certificate must have been kept."""
        self.last_peers = certified.peers
        payload = messages.encode_certificate(certified.certificate)
        self.say(Topic(self._chain, Kind.CERTIFICATE), payload, retain=True)

    def answer(self, asker: str, proposal: bytes, hashes: Sequence[bytes], votes: Sequence[bytes]) -> None:
        """Answer an ask with one block, and the votes that made it final."""
        topic = Topic(self._chain, Kind.ANSWER, asker, self._chain)
        self.say(topic, messages.encode_answer(proposal, hashes, votes))

    def say(self, topic: Topic, payload: bytes, *, retain: bool = False) -> None:
        """Say something as soon as the broker takes it; where that is long, it is dropped, to be due again."""
        self.outbox.put(Outgoing(str(topic), payload, retain))

    async def listen(self) -> None:
        """Take in what peers say, for ever; what does not verify is refused with a line in the log."""
        while True:
            message = await self.link.inbox.get()
            try:
                self._hear(Topic.parse(message.topic), message.payload)
            except VerificationError as error:
                log.warning("message refused", topic=message.topic, why=str(error))

    # -- what peers say

    def _hear(self, topic: Topic, payload: bytes) -> None:
        if topic.kind is Kind.ROSTER:
            self.rosters.append((topic.who, payload))
            self._wake()
            return
        if topic.chain != self._chain:
            raise VerificationError(f"not of chain {self._chain}")
        match topic.kind:
            case Kind.VOTE:
                self._hear_vote(payload)
            case Kind.TIP:
                self._hear_tip(payload)
            case Kind.ANSWER:
                self._hear_answer(payload)
            case Kind.FREEZE:
                self._hear_freeze(payload)
            case Kind.ASK if topic.who != self._chain:
                self._hear_ask(topic.who, messages.decode_ask(payload))

    def _hear_ask(self, asker: str, ask: Ask) -> None:
        peer(self._roster, asker)
        if ask.to not in {"", self._chain}:
            return
        if ask.incarnation < self._incarnation:
            self._say_opening()
        elif ask.incarnation == self._incarnation and ask.next_height < self._next_height:
            self.asked.append((asker, ask.next_height))
            self._wake()

    def _hear_vote(self, payload: bytes) -> None:
        message, _ = signing.parse_blob(payload)
        vote = read_vote(message, payload)
        if vote.incarnation != self._incarnation:
            return
        if vote.height >= self._next_height:
            raise VerificationError(f"a vote on block {vote.height}, which is not sealed")
        if not self._anchor.in_flight(vote.height):
            self.late.append((vote.height, payload))
            return
        certified = self._anchor.count(vote.height, payload)
        if certified is not None:
            self.certified.append(certified)
            self._wake()

    def _hear_tip(self, payload: bytes) -> None:
        if self._poll is not None and not self._poll.answered:
            self._poll.answer(*messages.decode_tip(payload))
            self._look_ahead()
            if self._poll.answered:
                log.info("peers have said how far the chain goes", next_height=self._poll.next_height)
                self._wake()

    def _hear_answer(self, payload: bytes) -> None:
        signed, hashes, _ = messages.decode_answer(payload)
        block = open_proposal(self._roster, signed)
        if block.chain != self._chain:
            raise VerificationError(f"not of chain {self._chain}")
        if self._poll is not None:
            self._poll.show(block)
            self._look_ahead()
        if not self.may_seal and block.incarnation == self._incarnation:
            self.lost.append(Proposal(block=block, signed=signed, hashes=hashes))
            self._wake()

    def _hear_freeze(self, payload: bytes) -> None:
        """Stop where peers show that this gateway signed two histories, or that its recovery key closed the chain."""
        _, cause = messages.decode_freezes(payload)
        match cause:
            case (first, second):
                evidence = open_evidence(self._roster, first, second)
                self._stop(evidence.first.chain, evidence.first.incarnation, f"two histories: {evidence.contradiction}")
            case (recovery,):
                self._stop(*open_recovery(self._roster, recovery), "its recovery key closed it")

    def _look_ahead(self) -> None:
        if self._poll is not None and self._poll.later_incarnation:
            later = self._poll.later_incarnation
            self._stop(self._chain, self._incarnation, f"its peers know incarnation {later}, begun elsewhere")

    def _stop(self, chain: str, incarnation: int, why: str) -> None:
        if (chain, incarnation) == (self._chain, self._incarnation) and not self.stopped_by:
            self.stopped_by = why
            log.error("chain frozen: iomt ledger reincarnate", incarnation=incarnation, why=why)

    def _connected(self) -> None:
        self._anchor.reconnected()
        self._asked = (0, 0)
        self._say_opening()
        if self._poll is None:
            self._begin_poll()
        self._wake()

    def _begin_poll(self) -> None:
        nonce = secrets.token_bytes(messages.NONCE_SIZE)
        self._poll = TipPoll(self._roster, self._chain, self._incarnation, nonce)

    def _say_opening(self) -> None:
        if self._opening:
            self.say(Topic(self._chain, Kind.OPENING, self._chain), self._opening, retain=True)

    def _ask(self, now_ms: int) -> None:
        """Ask how far the chain goes, and for what is lost: again when all that came is taken back, or in a second."""
        height, due_ms = self._asked
        if self._poll is not None and (self._next_height >= height or now_ms >= due_ms):
            self._asked = (self._next_height + messages.ANSWER_BLOCKS, now_ms + ASK_AGAIN_MS)
            ask = Ask(incarnation=self._incarnation, next_height=self._next_height, nonce=self._poll.nonce)
            self.say(Topic(self._chain, Kind.ASK, self._chain), messages.encode_ask(ask))
