"""A ledger peer put together: what gateways propose is judged, kept with this peer's vote, and only then answered.

    link -> inbox -> judge (ledger.peering) -> one transaction: leaf hashes, proposals, votes, evidence -> votes go out

Messages are taken as they have come together: one fsync serves all of them. A peer that was away asks, on every
connection, each gateway on its roster for what it lacks, then the other peers, and goes on until it has caught up.
"""

import asyncio
import gc
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import structlog

from gateway.errors import ConfigError, VerificationError
from gateway.io import control, signals, systemd
from gateway.io.mqtt import MESSAGE_LIMIT_BYTES, Broker, Link, Message, Outbox, Outgoing
from gateway.io.store import chains
from gateway.io.store.chains import ChainStore
from gateway.ledger.book import Said
from gateway.ledger.member_keys import MemberKeys
from gateway.ledger.messages import Kind, Topic
from gateway.ledger.peering import PeerRule
from gateway.ledger.rosters import Rosters
from gateway.roster_file import RosterFile

BATCH = 64
OUTBOX_SIZE = 4096
BEAT_S = 1.0

_NOTES = {
    "frozen": "chain frozen",
    "behind": "behind: asking for blocks",
    "catching up": "catching up",
    "caught up": "caught up",
    "differs": "another peer's copy differs",
    "epoch ended": "chain goes on in a new roster epoch",
    "incarnation begun": "chain begun anew",
}
_COMMON = (Kind.PROPOSAL, Kind.CERTIFICATE, Kind.RECOVERY)
_BY_WHOM = (Kind.ASK, Kind.FREEZE, Kind.OPENING, Kind.PROVE)
HEADS_EVERY_MS = 60_000

log = structlog.get_logger("iomt.peer")


class Peer:
    """One peer in its state folder, whose lock the caller holds."""

    def __init__(
        self,
        folder: Path,
        name: str,
        broker: Broker,
        roster: RosterFile,
        keys: MemberKeys,
        *,
        store: str | None = None,
        worker: int = 1,
    ) -> None:
        """Open the copy: the database at the URL `store`, which `worker`s with other numbers may share, or a file."""
        self._folder = folder
        self._name = name
        self._roster = roster
        self._heads_ms = 0
        self._compared: dict[str, dict[str, Any]] = {}  # by peer; replaced in the store's thread
        self._heard_ms: dict[str, int] = {}  # by chain; written in the store's thread
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="store")
        self._store = ChainStore(chains.location(folder, store))
        self._rule = PeerRule(name, keys.of, roster.rosters, self._store)
        self._greeting = asyncio.Event()
        ledger = roster.rosters.current.ledger
        topics = [*(Topic("+", kind) for kind in _COMMON), *(Topic("+", kind, "+") for kind in _BY_WHOM)]
        topics += [Topic("+", Kind.ANSWER, name, "+"), Topic(ledger, Kind.ROSTER, "+")]
        topics.append(Topic(ledger, Kind.HEADS, "+"))
        # The certificate says who this is; the client id tells its workers apart, and is no other peer's name.
        identity = name if worker == 1 else f"{name}/{worker}"
        self._link = Link(
            broker, identity=identity, topics=[str(topic) for topic in topics], on_connected=self._greeting.set
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
                current = self._roster.rosters.current
                log.info("ready", peer=self._name, epoch=current.epoch, gateways=len(current.gateways))
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
        looked_ms = 0
        while True:
            batch = await self._together()
            self._put(await loop.run_in_executor(self._executor, self._handle, batch))
            if monotonic_ms() - looked_ms >= BEAT_S * 1000:
                looked_ms = monotonic_ms()
                self._put(await loop.run_in_executor(self._executor, self._look))
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
            self._put(await asyncio.get_running_loop().run_in_executor(self._executor, self._first_words))

    def _put(self, said: Sequence[Said]) -> None:
        for each in said:
            self._outbox.put(Outgoing(str(each.topic), each.payload, each.retain))

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
            "epoch": self._roster.rosters.current.epoch,
            "compared": self._compared,
            "heard_ms_ago": {chain: now_ms - heard_ms for chain, heard_ms in self._heard_ms.copy().items()},
        }

    # -- in the store's thread

    def _handle(self, batch: Sequence[Message]) -> list[Said]:
        """Judge messages, keep what comes of them, and give what may then be said."""
        for message in batch:
            try:
                self._hear(Topic.parse(message.topic), message.payload)
            except VerificationError as error:
                log.warning("message refused", topic=message.topic, why=str(error))
        return self._settle()

    def _hear(self, topic: Topic, payload: bytes) -> None:
        if topic.kind is Kind.ROSTER:
            self._adopt(self._roster.hear(payload, topic.who))
            return
        now_ms = monotonic_ms()
        self._rule.hear(topic, payload, now_ms, int(time.time()))
        if topic.kind is Kind.HEADS:
            self._compared = {name: asdict(each) for name, each in self._rule.comparison.summaries().items()}
        elif topic.kind in {Kind.PROPOSAL, Kind.ANSWER}:
            self._heard_ms[topic.chain] = now_ms

    def _look(self) -> list[Said]:
        """Look, once a second, at what no message announces: the roster's file, blocks that were asked for in vain."""
        self._adopt(self._roster.look())
        self._rule.remind(monotonic_ms())
        if monotonic_ms() - self._heads_ms >= HEADS_EVERY_MS:
            self._say_heads()
        return self._settle()

    def _adopt(self, rosters: Rosters | None) -> None:
        """Go by a later roster, and tell everyone of it."""
        if rosters is not None:
            self._rule.adopt(rosters)
            self._tell_roster()

    def _first_words(self) -> list[Said]:
        self._rule.greet(monotonic_ms())
        self._tell_roster()
        self._say_heads()
        return self._settle()

    def _say_heads(self) -> None:
        self._heads_ms = monotonic_ms()
        self._rule.say_heads(int(time.time() * 1000))

    def _tell_roster(self) -> None:
        """Tell everyone the latest versions of the roster: who was away for many needs the file from a person."""
        rosters = self._roster.rosters
        data = rosters.latest(MESSAGE_LIMIT_BYTES)
        if data is None:
            log.warning("roster too large to be told: copy the file to every machine")
            return
        self._rule.say(Said(Topic(rosters.current.ledger, Kind.ROSTER, self._name), data, retain=True))

    def _settle(self) -> list[Said]:
        said = self._rule.settle()
        self._log_notes()
        return said

    def _log_notes(self) -> None:
        for note in self._rule.notes:
            write = log.error if note.event in {"frozen", "differs"} else log.info
            more = {"why": note.why} if note.why else {}
            write(_NOTES[note.event], chain=note.chain, height=note.height, **more)
        self._rule.notes.clear()


def monotonic_ms() -> int:
    """Give the monotonic clock."""
    return time.monotonic_ns() // 1_000_000
