"""A ledger peer put together: what gateways propose is judged, kept with this peer's vote, and only then answered.

    link -> inbox -> judge (ledger.peering) -> one transaction: leaf hashes, proposals, votes, evidence -> votes go out

Messages are taken as they have come together: one fsync serves all of them. A peer that was away asks, on every
connection, each gateway on its roster for what it lacks, and goes on asking until it has caught up.
"""

import asyncio
import gc
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import structlog

from gateway import signing
from gateway.errors import ConfigError, VerificationError
from gateway.io import control, signals, systemd
from gateway.io.mqtt import Broker, Link, Message, Outbox, Outgoing
from gateway.io.store import chains
from gateway.io.store.chains import ChainStore
from gateway.ledger.messages import Kind, Topic
from gateway.ledger.peering import PeerRule
from gateway.model import Roster

BATCH = 64
OUTBOX_SIZE = 4096
BEAT_S = 1.0

_NOTES = {
    "frozen": "chain frozen: its gateway signed two histories",
    "behind": "behind: asking for blocks",
    "caught up": "caught up",
}

log = structlog.get_logger("iomt.peer")


class Peer:
    """One peer in its state folder, whose lock the caller holds."""

    def __init__(self, folder: Path, name: str, broker: Broker, roster: Roster, master: bytes) -> None:
        self._folder = folder
        self._name = name
        self._roster = roster
        self._chains = {gateway.chain for gateway in roster.gateways}
        self._heard_ms: dict[str, int] = {}  # by chain; written in the store's thread
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="store")
        self._store = ChainStore(str(folder / chains.FILE))
        self._rule = PeerRule(name, signing.derive_key(master, "peer", name), roster, self._store)
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
        listening = asyncio.Event()
        try:
            async with asyncio.TaskGroup() as tasks:
                socket = self._folder / control.SOCKET
                tasks.create_task(control.serve(socket, self._command, listening.set), name="control")
                tasks.create_task(self._link.run(), name="link")
                tasks.create_task(self._judge(), name="judge")
                tasks.create_task(self._greet(), name="greet")
                tasks.create_task(self._outbox.send(), name="send")
                await listening.wait()
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

    async def _command(self, request: Mapping[str, Any]) -> dict[str, Any]:
        match request:
            case {"do": "status"}:
                return self._status()
            case _:
                raise ConfigError(f"unknown command {request.get('do')!r}; allowed: status")

    def _status(self) -> dict[str, Any]:
        now_ms = monotonic_ms()
        return {
            "peer": self._name,
            "broker": "connected" if self._link.connected.is_set() else "away",
            "epoch": self._roster.epoch,
            "heard_ms_ago": {chain: now_ms - heard_ms for chain, heard_ms in self._heard_ms.copy().items()},
        }

    # -- in the store's thread

    def _handle(self, batch: Sequence[Message]) -> list[Outgoing]:
        """Judge messages, keep what comes of them, and give what may then be said."""
        for message in batch:
            try:
                self._hear(Topic.parse(message.topic), message.payload)
            except VerificationError as error:
                log.warning("message refused", topic=message.topic, why=str(error))
        said = self._rule.settle()
        self._log_notes()
        return [Outgoing(str(each.topic), each.payload, each.retain) for each in said]

    def _hear(self, topic: Topic, payload: bytes) -> None:
        now_ms = monotonic_ms()
        self._rule.hear(topic, payload, now_ms, int(time.time()))
        if topic.kind in {Kind.PROPOSAL, Kind.ANSWER} and topic.chain in self._chains:
            self._heard_ms[topic.chain] = now_ms

    def _asks(self) -> list[Outgoing]:
        return [Outgoing(str(each.topic), each.payload, each.retain) for each in self._rule.greet(monotonic_ms())]

    def _log_notes(self) -> None:
        for note in self._rule.notes:
            write = log.error if note.event == "frozen" else log.info
            write(_NOTES[note.event], chain=note.chain, height=note.height)
        self._rule.notes.clear()


def monotonic_ms() -> int:
    """Give the monotonic clock."""
    return time.monotonic_ns() // 1_000_000
