"""A ledger peer put together: what gateways propose is judged, kept with this peer's vote, and only then answered.

    link -> inbox -> judge (ledger.voting) -> one transaction: leaf hashes, proposals, votes, evidence -> votes go out

Messages are taken as they have come together: one fsync serves all of them. A peer that was away asks, on every
connection, each gateway on its roster for what it lacks, and goes on asking until it has caught up.
"""

import asyncio
import gc
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import structlog

from gateway import signing
from gateway.errors import StoreError, VerificationError
from gateway.io import signals, systemd
from gateway.io.mqtt import Broker, Link, Message, Outbox, Outgoing
from gateway.io.store import chains
from gateway.io.store.chains import ChainStore
from gateway.io.store.database import undamaged
from gateway.ledger import messages
from gateway.ledger.anchor import state_tip
from gateway.ledger.messages import Kind, Topic
from gateway.ledger.roster import gateway_of_chain
from gateway.ledger.voting import Accepted, Behind, Conflict, Repeated, Tip, cast_vote, judge, open_proposal
from gateway.model import Block, Proposal, Roster

BATCH = 64
OUTBOX_SIZE = 4096
ASK_AGAIN_S = 1.0
BEAT_S = 1.0

log = structlog.get_logger("iomt.peer")


@dataclass(slots=True)
class Batch:
    """What some messages come to: the tips after them, what to keep, and what to say once it is kept."""

    tips: dict[str, Tip]
    votes: dict[tuple[str, int], tuple[Proposal, bytes]] = field(default_factory=dict)
    conflicts: list[Conflict] = field(default_factory=list)
    outgoing: list[Outgoing] = field(default_factory=list)

    def say(self, topic: Topic, payload: bytes, *, retain: bool = False) -> None:
        """Add a message to what is said."""
        self.outgoing.append(Outgoing(str(topic), payload, retain))


class Peer:
    """One peer in its state folder, whose lock the caller holds."""

    def __init__(self, folder: Path, name: str, broker: Broker, roster: Roster, master: bytes) -> None:
        self._name = name
        self._roster = roster
        self._key = signing.derive_key(master, "peer", name)
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="store")
        self._store = ChainStore(str(folder / chains.FILE))
        self._tips: dict[str, Tip] = {}
        self._asked: dict[str, tuple[int, float]] = {}
        self._behind: set[str] = set()
        self._greeting = asyncio.Event()
        topics = [Topic("+", Kind.PROPOSAL), Topic("+", Kind.ASK, "+"), Topic("+", Kind.ANSWER, name, "+")]
        self._link = Link(
            broker, identity=name, topics=[str(topic) for topic in topics], on_connected=self._greeting.set
        )
        self._outbox = Outbox(self._link, OUTBOX_SIZE)
        self._watchdog = systemd.Watchdog("judge")

    async def run(self) -> None:
        """Run until SIGTERM or SIGINT.

        Raises: StoreError if the disk cannot be trusted; then nothing more is voted for.
        """
        signals.cancel_on_signal()
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._link.run(), name="link")
                tasks.create_task(self._judge(), name="judge")
                tasks.create_task(self._greet(), name="greet")
                tasks.create_task(self._outbox.send(), name="send")
                log.info("ready", peer=self._name, epoch=self._roster.epoch, gateways=len(self._roster.gateways))
                gc.freeze()  # as in the gateway: a full collection would hold a vote up for 10 ms
                systemd.notify("READY=1")
        except asyncio.CancelledError:
            systemd.notify("STOPPING=1")
            log.info("stopped")
        finally:
            await loop.run_in_executor(self._executor, self._store.close)
            self._executor.shutdown()

    async def _judge(self) -> None:
        """Take messages as they have come together, for ever."""
        loop = asyncio.get_running_loop()
        while True:
            batch = await self._together()
            for outgoing in await loop.run_in_executor(self._executor, self._handle, batch):
                self._outbox.put(outgoing)
            self._watchdog.progress("judge")

    async def _together(self) -> list[Message]:
        """Take what has come, at least one message unless none comes for a beat."""
        inbox = self._link.inbox
        try:
            async with asyncio.timeout(BEAT_S):
                batch = [await inbox.get()]
        except TimeoutError:
            return []
        while len(batch) < BATCH and not inbox.empty():
            batch.append(inbox.get_nowait())
        return batch

    async def _greet(self) -> None:
        """Ask every gateway for what is missing here, on every connection."""
        while True:
            await self._greeting.wait()
            self._greeting.clear()
            for outgoing in await asyncio.get_running_loop().run_in_executor(self._executor, self._asks):
                self._outbox.put(outgoing)

    # -- in the store's thread

    def _handle(self, batch: Sequence[Message]) -> list[Outgoing]:
        """Judge messages, keep what comes of them, and give what may then be said.

        The order is the safety: proposals, leaf hashes and votes are durable, in one transaction, before a vote
        leaves this function. A crash before that has voted for nothing; one after it gives the same votes again.
        """
        result = Batch(dict(self._tips))
        for message in batch:
            try:
                self._hear(Topic.parse(message.topic), message.payload, result)
            except VerificationError as error:
                log.warning("message refused", topic=message.topic, why=str(error))
        if result.votes or result.conflicts:
            self._store.commit(result.votes.values(), result.conflicts)
        self._tips = result.tips
        return result.outgoing

    def _hear(self, topic: Topic, payload: bytes, result: Batch) -> None:
        if topic.kind is Kind.ASK:
            self._hear_ask(topic, payload, result)
        elif topic.kind in {Kind.PROPOSAL, Kind.ANSWER}:
            self._hear_proposal(topic, payload, result)

    def _hear_proposal(self, topic: Topic, payload: bytes, result: Batch) -> None:
        signed, hashes = messages.decode_proposal(payload)
        block = open_proposal(self._roster, signed)
        known_proposal, known_vote = self._voted_for(block, signed, result)
        proposal = Proposal(block=block, signed=signed, hashes=hashes)
        match judge(self._roster, self._tip(block.chain, result), proposal, known_proposal):
            case Accepted(_, tip):
                vote = cast_vote(self._key, self._name, self._roster.epoch, block, int(time.time()))
                result.votes[block.chain, block.height] = (proposal, vote)
                result.tips[block.chain] = tip
                result.say(Topic(block.chain, Kind.VOTE, self._name), vote)
                self._note_progress(topic, tip, result)
            case Repeated():
                result.say(Topic(block.chain, Kind.VOTE, self._name), known_vote or b"")
            case Behind(_, next_height):
                self._ask(block.chain, next_height, result)
            case Conflict() as conflict:
                result.conflicts.append(conflict)
                result.tips[block.chain] = replace(result.tips[block.chain], frozen=True)
                log.error("chain frozen: its gateway signed two histories", chain=block.chain, height=block.height)

    def _hear_ask(self, topic: Topic, payload: bytes, result: Batch) -> None:
        """Answer a gateway that starts: how far this peer has voted on its chain, and the blocks it asks for."""
        gateway_of_chain(self._roster, topic.chain)
        if topic.who != topic.chain:
            return
        next_height, nonce = messages.decode_ask(payload)
        tip = self._tip(topic.chain, result)
        statement = state_tip(self._key, self._name, tip, nonce)
        answer = messages.encode_tip(statement, tip.last_signed or b"")
        result.say(Topic(topic.chain, Kind.TIP, self._name), answer, retain=True)
        if next_height >= tip.next_height:
            return
        for block in self._store.blocks(topic.chain, next_height, messages.ANSWER_BLOCKS):
            hashes = self._store.hashes(topic.chain, block.start, block.size)
            back = Topic(topic.chain, Kind.ANSWER, topic.who, self._name)
            result.say(back, messages.encode_proposal(block.proposal, hashes))

    def _note_progress(self, topic: Topic, tip: Tip, result: Batch) -> None:
        """Ask on after the last block of an answer; say when a chain that was behind follows its gateway again."""
        if topic.kind is Kind.ANSWER:
            asked, _ = self._asked.get(tip.chain, (0, 0.0))
            if tip.next_height >= asked + messages.ANSWER_BLOCKS:
                self._ask(tip.chain, tip.next_height, result)
        elif tip.chain in self._behind:
            self._behind.discard(tip.chain)
            log.info("caught up", chain=tip.chain, height=tip.next_height - 1, leaves=tip.frontier.size)

    def _ask(self, chain: str, next_height: int, result: Batch) -> None:
        """Ask for blocks, the same ones at most once a second."""
        asked, when_s = self._asked.get(chain, (-1, 0.0))
        now_s = time.monotonic()
        if asked == next_height and now_s - when_s < ASK_AGAIN_S:
            return
        if chain not in self._behind:
            self._behind.add(chain)
            log.info("behind: asking for blocks", chain=chain, next_height=next_height)
        self._asked[chain] = (next_height, now_s)
        result.say(Topic(chain, Kind.ASK, self._name), messages.encode_ask(next_height, b""))

    def _asks(self) -> list[Outgoing]:
        """Give the questions with which a peer begins on a connection, one a chain."""
        result = Batch(dict(self._tips))
        for gateway in self._roster.gateways:
            tip = self._tip(gateway.chain or "", result)
            self._asked[tip.chain] = (tip.next_height, time.monotonic())
            result.say(Topic(tip.chain, Kind.ASK, self._name), messages.encode_ask(tip.next_height, b""))
        self._tips = result.tips
        return result.outgoing

    def _tip(self, chain: str, result: Batch) -> Tip:
        if chain not in result.tips:
            tip = self._store.tip(chain)
            if tip.last_signed is not None:
                self._require_sound(chain, tip.next_height - 1, tip.last_signed)
            result.tips[chain] = tip
        return result.tips[chain]

    def _voted_for(self, block: Block, signed: bytes, result: Batch) -> tuple[bytes | None, bytes | None]:
        """Give the proposal and the vote at a block's height: of this batch, or from the store; a new one has none."""
        if (block.chain, block.height) in result.votes:
            proposal, vote = result.votes[block.chain, block.height]
            return proposal.signed, vote
        if block.height >= self._tip(block.chain, result).next_height:
            return None, None
        known = self._store.block(block.chain, block.height)
        if known is None:
            raise StoreError(f"block {block.height} of chain {block.chain} is missing")
        if known.proposal != signed:
            self._require_sound(block.chain, block.height, known.proposal)
        return known.proposal, known.vote

    def _require_sound(self, chain: str, height: int, proposal: bytes) -> None:
        """Check a proposal that was kept before it is held against its gateway: a disk can change it too."""
        with undamaged(f"block {height} of chain {chain}"):
            open_proposal(self._roster, proposal)
