"""The gateway put together: one event loop, one task group, named tasks, one thread for the store.

    device:*, radio   the sensors' frames, decoded and recorded as they come
    keep              commits what was recorded, seals blocks, keeps certificates: the one task that writes the chain
    link, send, listen  the connection to the broker, what goes out over it, what comes in
    beat              once a second: the clock, what is due again, damaged frames, late votes, the watchdog
    control           a person's commands

A start is no special case: leaves that are not sealed and blocks that are not certified take the way of new ones.
Nothing is sealed before a quorum of peers has said how far this chain goes.
"""

import asyncio
import gc
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import structlog

from gateway import signing
from gateway.anchoring import Anchoring
from gateway.config import GatewayConfig
from gateway.devices import Device
from gateway.errors import ConfigError, Unavailable, VerificationError
from gateway.io import control, keyring, signals, systemd
from gateway.io.clock import Clocks
from gateway.io.mqtt import Broker
from gateway.io.store.database import undamaged
from gateway.io.store.readings import FILE, ReadingStore, StoredBlock
from gateway.io.store.thread import in_thread
from gateway.ledger import messages
from gateway.ledger.member_keys import MemberKeys
from gateway.ledger.policy import policy_items, smallest
from gateway.ledger.quorum import read_vote, verify_block_vote
from gateway.ledger.rosters import Rosters
from gateway.ledger.voting import open_proposal, require_current_keys
from gateway.model import Block, Proposal
from gateway.profile import Profile
from gateway.recorder import Recorder
from gateway.records import device_record, known_of
from gateway.reincarnation import load_opening
from gateway.roster_file import RosterFile
from gateway.sources import Source, Sources

Result = TypeVar("Result")

BEAT_S = 1.0

log = structlog.get_logger("iomt")


class Gateway:
    """A gateway in its state folder, whose lock the caller holds."""

    def __init__(
        self,
        folder: Path,
        *,
        config: GatewayConfig,
        broker: Broker,
        roster: RosterFile,
        master: bytes,
        profiles: dict[str, Profile],
        boot: str,
    ) -> None:
        self._folder = folder
        self._config = config
        self._roster_file = roster
        self._roster = roster.rosters.current
        self._keys = MemberKeys(master, "gateway", config.id, config.generation)
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="store")
        self._store = ReadingStore(str(folder / FILE))
        self._recorder = Recorder(
            self._store, self._executor, Clocks(boot), master, config.id, config.chain, generations=config.generation
        )
        self._recorder.sign_with(self._keys.require(self._roster))
        self._sources = Sources(self._recorder, profiles, config.adapter, config.slots)
        self._work = asyncio.Event()
        self._recorder.on_waiting = self._work.set
        self._anchoring = Anchoring(broker, self._roster, config.chain, self._work.set, load_opening(folder))
        self._tasks = asyncio.TaskGroup()
        self._sealed_blocks = self._certified_blocks = 0
        self._watchdog = systemd.Watchdog("keep", "beat")

    async def run(self) -> None:
        """Run until SIGTERM or SIGINT; what was recorded by then is committed.

        Raises: StoreError if the disk cannot be trusted; then nothing more is acknowledged.
        """
        signals.cancel_on_signal()
        try:
            await self._run_tasks()
        except asyncio.CancelledError:
            systemd.notify("STOPPING=1")
            await self._recorder.commit()
            log.info("stopped", durable=await self._in_thread(self._store.size))
        except ExceptionGroup as group:
            if group.subgroup(Unavailable) is not None:  # the radio gave up; the disk did not
                await self._recorder.commit()
            raise
        finally:
            await self._in_thread(self._store.close)
            self._executor.shutdown()

    async def _run_tasks(self) -> None:
        await self._recorder.open(self._roster.ledger)
        self._anchoring.begin(self._recorder.head)
        self._sealed_blocks, self._certified_blocks = await self._in_thread(self._store.block_counts)
        listening = asyncio.Event()
        async with self._tasks:
            self._start("keep", self._keep())
            self._start("link", self._anchoring.link.run())
            self._start("send", self._anchoring.outbox.send())
            self._start("listen", self._anchoring.listen())
            self._start("beat", self._beat())
            self._start("control", control.serve(self._folder / control.SOCKET, self._command, listening.set))
            self._start("radio", self._sources.run_radio())
            for device in self._recorder.devices.values():
                await self._add_source(device)
            await listening.wait()
            log.info(
                "ready", gateway=self._config.id, devices=len(self._recorder.devices), durable=self._recorder.durable
            )
            gc.freeze()  # what was imported stays for good: a full collection of it would hold a reading up for 10 ms
            systemd.notify("READY=1")

    def _start(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.create_task(work, name=name)

    async def _add_source(self, device: Device) -> Source:
        source = await self._sources.add(device, keyring.load_bind_key(self._folder, device.id))
        self._start(f"device:{device.id}", self._sources.follow(source))
        return source

    # -- keep

    async def _keep(self) -> None:
        """Take whatever there is to write, in the order in which a reading goes, for ever."""
        while True:
            await self._wait_for_work()
            await self._recorder.commit()
            await self._hear_rosters()
            await self._take_back()
            await self._seal()
            await self._keep_certificates()
            await self._fill_flight()
            await self._answer()
            self._anchoring.say_due(self._recorder.boot_ms())
            self._watchdog.progress("keep")

    async def _wait_for_work(self) -> None:
        wait_ms = self._seal_wait_ms()
        if self._recorder.waiting or wait_ms == 0:
            return
        try:
            async with asyncio.timeout(BEAT_S if wait_ms is None else min(wait_ms / 1000, BEAT_S)):
                await self._work.wait()
        except TimeoutError:
            pass
        self._work.clear()

    def _seal_wait_ms(self) -> int | None:
        if not self._anchoring.may_seal:
            return None
        return self._config.seal.wait_ms(self._recorder.unsealed, self._recorder.oldest_age_ms())

    async def _seal(self) -> None:
        if self._seal_wait_ms() != 0:
            return
        proposal = await self._recorder.seal(self._config.seal.leaves)
        self._sealed_blocks += 1
        self._anchoring.sealed_up_to(self._recorder.head.next_height)
        if self._anchoring.room and self._anchoring.flight_height == proposal.block.height - 1:
            self._anchoring.propose(proposal)

    async def _fill_flight(self) -> None:
        """Put the oldest blocks that are not certified in flight, as far as there is room."""
        anchoring = self._anchoring
        if not anchoring.may_seal or anchoring.flight_height >= self._recorder.head.next_height - 1:
            return
        room = anchoring.room
        blocks = await self._in_thread(lambda: self._store.uncertified(anchoring.flight_height, room))
        for block in blocks:
            anchoring.propose(await self._in_thread(lambda block=block: self._proposal(block)))  # type: ignore[misc]  # mypy cannot infer a lambda with a default
        if len(blocks) < room:
            anchoring.flight_height = self._recorder.head.next_height - 1

    def _proposal(self, block: StoredBlock) -> Proposal:
        hashes = self._store.hashes(block.start, block.size)
        with undamaged(f"block {block.height}"):
            opened = open_proposal(self._roster, block.proposal)
        signed = block.proposal
        if not self._is_signed_for_today(signed):  # sealed under an earlier roster
            signed = self._recorder.sign_again(opened)
            self._store.sign_again(block.height, signed)
        return Proposal(block=opened, signed=signed, hashes=tuple(hashes))

    def _is_signed_for_today(self, signed: bytes) -> bool:
        try:
            require_current_keys(self._roster, signed)
        except VerificationError:
            return False
        return True

    async def _take_back(self) -> None:
        """Adopt blocks that this gateway signed once and lost, the next one first; others are asked for again."""
        lost, self._anchoring.lost = self._anchoring.lost, type(self._anchoring.lost)()
        for proposal in sorted(lost, key=lambda proposal: proposal.block.height):
            if proposal.block.height == self._recorder.head.next_height:
                await self._adopt(proposal)

    async def _adopt(self, proposal: Proposal) -> None:
        try:
            await self._recorder.adopt(proposal)
        except VerificationError as error:
            log.warning("lost block refused", height=proposal.block.height, why=str(error))
            return
        self._sealed_blocks += 1
        self._anchoring.sealed_up_to(self._recorder.head.next_height)
        log.warning("lost block taken back from peers", height=proposal.block.height)

    async def _keep_certificates(self) -> None:
        """Keep certificates, durably, before they are said."""
        anchoring = self._anchoring
        while anchoring.certified:
            certified = anchoring.certified.popleft()
            votes = list(zip(certified.peers, certified.certificate.votes, strict=True))
            height = certified.block.height
            await self._in_thread(lambda: self._store.save_votes(height, votes, certified=True))  # noqa: B023 - awaited here
            self._certified_blocks += 1
            anchoring.say_certificate(certified)

    async def _keep_late_votes(self) -> None:
        """Keep the votes that came after the quorum."""
        late = list(self._anchoring.late)
        self._anchoring.late.clear()
        if late:
            await self._in_thread(lambda: self._save_late_votes(late))

    def _save_late_votes(self, late: Sequence[tuple[int, bytes]]) -> None:
        for height in sorted({height for height, _ in late}):
            stored = self._store.block(height)
            if stored is not None:
                with undamaged(f"block {height}"):
                    block = open_proposal(self._roster, stored.proposal)
                votes = self._sound_votes(block, [signed for of, signed in late if of == height])
                if stored.certified:
                    votes = [vote for vote in votes if self._is_of_epoch(height, vote[1])]
                self._store.save_votes(height, votes, certified=False)

    def _is_of_epoch(self, height: int, signed: bytes) -> bool:
        """Say whether a vote is of the roster epoch in which the block at that height was certified."""
        return {_epoch_of(vote) for _, vote in self._store.votes(height)} == {_epoch_of(signed)}

    def _sound_votes(self, block: Block, late: Sequence[bytes]) -> list[tuple[str, bytes]]:
        votes = []
        for signed in late:
            try:
                votes.append((verify_block_vote(self._roster, block, signed).peer, signed))
            except VerificationError as error:
                log.warning("vote refused", height=block.height, why=str(error))
        return votes

    async def _answer(self) -> None:
        """Answer peers that have asked for blocks."""
        while self._anchoring.asked:
            asker, height = self._anchoring.asked.popleft()
            blocks = await self._in_thread(lambda: self._store.blocks(height, messages.ANSWER_BLOCKS))  # noqa: B023 - awaited here
            for block in blocks:
                hashes = await self._in_thread(lambda: self._store.hashes(block.start, block.size))  # noqa: B023 - awaited here
                votes = await self._in_thread(lambda: self._store.votes(block.height) if block.certified else [])  # noqa: B023 - awaited here
                self._anchoring.answer(asker, block.proposal, hashes, [vote for _, vote in votes])

    async def _hear_rosters(self) -> None:
        """Go by a later roster, of which peers tell, durably before it counts."""
        while self._anchoring.rosters:
            by, data = self._anchoring.rosters.popleft()
            self._go_by(await self._in_thread(lambda: self._roster_file.hear(data, by)))  # noqa: B023 - awaited here

    def _go_by(self, rosters: Rosters | None) -> None:
        if rosters is None:
            return
        self._roster = rosters.current
        keys = self._keys.of(self._roster)
        if keys is None:
            self._anchoring.stopped_by = "this gateway, or its key, is no longer on the roster"
            log.error("retired", why=self._anchoring.stopped_by)
            return
        self._recorder.sign_with(keys)
        self._anchoring.adopt(self._roster)

    async def _in_thread(self, call: Callable[[], Result]) -> Result:
        return await in_thread(self._executor, call)

    # -- beat

    async def _beat(self) -> None:
        """Look, once a second, at what no event announces."""
        while True:
            await asyncio.sleep(BEAT_S)
            self._recorder.check_clock()
            self._sources.look()
            frames = self._sources.take_damaged()
            if frames:
                await self._in_thread(lambda: self._store.keep_damaged(frames))  # noqa: B023 - awaited here
            await self._keep_late_votes()
            self._go_by(await self._in_thread(self._roster_file.look))
            self._work.set()
            self._watchdog.progress("beat")

    # -- commands

    async def _command(self, request: Mapping[str, Any]) -> dict[str, Any]:
        match request:
            case {"do": "status"}:
                return self._status()
            case {"do": "enrol", "device": str(), "profile": str(), "address": str()}:
                return await self._enrol(request)
            case _:
                raise ConfigError(f"unknown command {request.get('do')!r}; allowed: status, enrol")

    async def _enrol(self, request: Mapping[str, Any]) -> dict[str, Any]:
        name, profile = request["device"], request["profile"]
        self._sources.profile(profile)
        device = self._recorder.enrol(name, profile, request["address"], known_of(request))
        await self._recorder.committed()
        source = await self._add_source(device)
        source.take_first([(str(uuid), bytes.fromhex(frame)) for uuid, frame in request.get("heard", ())])
        log.info("device enrolled", device=name, profile=profile)
        return device_record(device)

    def _status(self) -> dict[str, Any]:
        recorder, anchoring = self._recorder, self._anchoring
        return {
            "gateway": self._config.id,
            "chain": self._config.chain,
            "broker": "connected" if anchoring.link.connected.is_set() else "away",
            "readings": sum(recorder.readings(device) for device in recorder.devices),
            "leaves": recorder.durable,
            "unsealed": recorder.unsealed,
            "blocks": self._sealed_blocks,
            "certified_blocks": self._certified_blocks,
            "voted_last": list(anchoring.last_peers),
            "peers": [member.id for member in self._roster.peers],
            "quorum": smallest(self._roster.policy),
            "policy": policy_items(self._roster.policy),
            "epoch": self._roster.epoch,
            "incarnation": recorder.head.incarnation,
            "stopped_by": anchoring.stopped_by or None,
            "devices": [source.status() for source in self._sources.by_device.values()],
        }


def _epoch_of(signed: bytes) -> int:
    message, _ = signing.parse_blob(signed)
    return read_vote(message, signed).epoch
