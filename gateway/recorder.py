"""The one writer of a chain: numbers, signs and keeps leaves, and seals them into blocks.

    record / note -> signed entry, in memory -> commit -> leaf at its place, durable -> seal -> proposal

What is in memory is not yet taken: a leaf counts from its commit on. Everything here belongs to the event loop;
the store is the executor's one thread's, and one task alone awaits `commit`, `seal` and `adopt`. Signing stays with
the hearing: it leaves the interpreter's lock to the store's thread while it lasts, and the other way round does not.
"""

import asyncio
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from typing import Protocol, TypeVar

from gateway import canonical, clock, merkle, signing
from gateway.block import Head, next_block
from gateway.clock import ClockReading, Epoch
from gateway.devices import NOTHING_KNOWN, Device, Known, enrolment_details, fold
from gateway.errors import ConfigError, StoreError, VerificationError
from gateway.io.store.database import undamaged
from gateway.io.store.readings import LeafRow, ReadingStore, payload_of
from gateway.io.store.thread import in_thread
from gateway.ledger.member_keys import MemberKeys
from gateway.ledger.voting import sign_block
from gateway.model import Block, Event, EventKind, Proposal, Reading, Sample
from gateway.presence import Gap, lasting_gaps
from gateway.tail import Pending, load_tail
from gateway.toml import is_name
from gateway.voice import Entry, Voice

Result = TypeVar("Result")

ENTRIES_LIMIT = 50_000
SALT_SIZE = 16


class Clocks(Protocol):
    """The clocks of a machine; `gateway.io.clock.Clocks` has the real ones, tests have their own."""

    def read(self) -> ClockReading:
        """Read all there is to know about the time."""

    def times(self) -> tuple[int, int]:
        """Give wall clock and monotonic clock, in ms: the quick look."""


class Recorder:
    """A chain and its keys; `gateway` and `chain` are names, all keys come of the secret `master`."""

    def __init__(
        self,
        store: ReadingStore,
        executor: Executor,
        clocks: Clocks,
        master: bytes,
        gateway: str,
        chain: str,
        *,
        generations: int = 1,
    ) -> None:
        self._store = store
        self._executor = executor
        self._clocks = clocks
        self._master = master
        self._gateway = gateway
        self._chain = chain
        self._public_keys = MemberKeys(master, "gateway", gateway, generations).public_keys
        self._keys = signing.Keys(signing.derive_key(master, "gateway", gateway))
        self._events = Voice(self._keys.first, "event", gateway, chain, 1)
        self._voices: dict[str, Voice] = {}
        self._entries: list[Entry] = []
        self._unsealed: list[Pending] = []
        self._salts = b""
        self._epoch = clock.begin(0, clocks.read())
        self._next_position = 0
        self._made = self._kept = 0  # entries, in this run
        self._waiters: list[tuple[int, asyncio.Future[None]]] = []
        self._overrun: StoreError | None = None
        self.on_waiting: Callable[[], None] = lambda: None
        self.head = Head(chain=chain)
        self.durable = 0
        self.devices: dict[str, Device] = {}
        self.gaps: dict[str, Gap] = {}  # that had not ended when it was opened, by device

    def sign_with(self, keys: signing.Keys) -> None:
        """Sign events and blocks with these keys from now on."""
        if keys.first.public_key != self._keys.first.public_key:
            self._events = Voice(keys.first, "event", self._gateway, self._chain, self._events.next_sequence)
        self._keys = keys

    @property
    def unsealed(self) -> int:
        """How many leaves are durable and not yet sealed."""
        return len(self._unsealed)

    @property
    def waiting(self) -> int:
        """How many entries are not yet on their way to the disk."""
        return len(self._entries)

    def readings(self, device: str) -> int:
        """Give how many readings of a device were made."""
        return self._voices[device].next_sequence - 1

    def oldest_age_ms(self) -> int:
        """Give the age of the oldest leaf that is not sealed."""
        return self._clocks.times()[1] - self._unsealed[0].boot_ms if self._unsealed else 0

    def now_ms(self) -> int:
        """Give the wall clock."""
        return self._clocks.times()[0]

    @property
    def is_synchronised(self) -> bool:
        """Say whether the wall clock is synchronised, as last seen."""
        return self._epoch.synchronised

    def boot_ms(self) -> int:
        """Give the monotonic clock."""
        return self._clocks.times()[1]

    # -- opened

    async def open(self, ledger: str) -> None:
        """Read what is kept, check its end, and go on from there; a new chain begins with its genesis.

        Raises: StoreError if the tree does not make the root that was sealed last, or a leaf is missing or damaged;
        ConfigError if the chain was begun, or a device enrolled, with another master secret.
        """
        last, events = await self._in_thread(lambda: (self._store.last_sequences(), list(self._store.events())))
        self._require_own(event for _, event in events)
        self._events.next_sequence = last.get(self._gateway, 0) + 1
        with undamaged("the audit trail"):
            self.devices = fold(event for _, event in events)
            self.gaps = lasting_gaps(event for _, event in events)
            epoch = clock.last_epoch(event for _, event in events)
        for device in self.devices.values():
            self._voices[device.id] = self._voice(device, max(last.get(device.id, 0), device.last_sequence) + 1)
        await self._load()
        if not events:
            details: dict[str, int | str | bytes | bool] = {"ledger": ledger, "public-key": self._keys.first.public_key}
            self.note(EventKind.GENESIS, {**details, "incarnation": self.head.incarnation})
        self._turn_clock(epoch)
        await self.commit()

    async def _load(self) -> None:
        public_keys = [*self._public_keys, *[device.public_key for device in self.devices.values()]]
        keys = {canonical.key_id(public_key): public_key for public_key in public_keys}
        self.head, self._unsealed = await self._in_thread(lambda: load_tail(self._store, self._chain, keys))
        self.durable = self._next_position = self.head.frontier.size + len(self._unsealed)

    async def recent(self, device: str, limit: int) -> list[Reading]:
        """Give the latest readings of a device that are durable, the newest first."""
        leaves = await self._in_thread(lambda: self._store.latest("reading", device, limit))
        with undamaged(f"a reading of {device}"):
            return [canonical.decode_reading(payload_of(leaf.data)) for leaf in leaves]

    # -- recorded

    def record(self, device: str, sample: Sample, decoder: str) -> Reading:
        """Make a reading of a sample of an enrolled device: signed now, durable after the next commit.

        Raises: StoreError if the disk is too far behind.
        """
        voice = self._voices[device]
        real_ms, boot_ms = self._times()
        reading = Reading(
            sequence=voice.next_sequence,
            at=clock.instant(self._epoch, real_ms, boot_ms),
            measurements=sample.measurements,
            frame=sample.frame,
            decoder=decoder,
            salt=self._salt(),
            device_time_ms=sample.device_time_ms,
            flags=sample.flags,
            statement=sample.statement,
        )
        self._add(voice, canonical.encode_reading(reading), real_ms, boot_ms)
        return reading

    def note(self, kind: EventKind, details: Mapping[str, int | str | bytes | bool]) -> None:
        """Make an event of the audit trail."""
        real_ms, boot_ms = self._clocks.times()
        event = Event(
            sequence=self._events.next_sequence,
            at=clock.instant(self._epoch, real_ms, boot_ms),
            kind=kind,
            details=details,
            salt=self._salt(),
        )
        self._add(self._events, canonical.encode_event(event), real_ms, boot_ms)

    def enrol(self, name: str, profile: str, address: str, known: Known = NOTHING_KNOWN) -> Device:
        """Enrol a device under a name: its key is derived, the enrolment is an event.

        Raises: ConfigError if the name is none, or it or the address is taken.
        """
        if not is_name(name):
            raise ConfigError(f"the name {name!r}; allowed: 1 to 64 of A-Z a-z 0-9 - _ . and no dot first")
        if name == self._gateway or name in self.devices:
            raise ConfigError(f"the name {name} is taken; allowed: one that no device and no gateway has here")
        for device in self.devices.values():
            if address == device.address:
                raise ConfigError(f"{address} is enrolled already, as {device.id}")
        key = signing.derive_key(self._master, "device", name)
        device = Device(
            id=name,
            profile=profile,
            address=address,
            public_key=key.public_key,
            generation=1,
            sensor_key=known.sensor_key,
            bond=known.bond,
            information=known.information,
        )
        self.note(EventKind.DEVICE_ENROLLED, enrolment_details(device))
        self.devices[name] = device
        self._voices[name] = self._voice(device, 1)
        return device

    def check_clock(self) -> None:
        """Look at the clock: a step or a first synchronisation begins a new epoch, with an event."""
        self._turn_clock(self._epoch)

    # -- kept

    async def commit(self) -> int:
        """Make what was signed so far durable, in one transaction; give how many leaves are durable now.

        Raises: StoreError if the disk refuses, or was so far behind that something could not be recorded: whoever
        hears sensors may be called by a library that takes an exception for its own affair.
        """
        entries, self._entries = self._entries, []
        if entries:
            start, self._next_position = self._next_position, self._next_position + len(entries)
            pending = await self._in_thread(lambda: self._keep(start, entries))
            self._unsealed += pending
            self.durable = start + len(entries)
            self._kept += len(entries)
            for count, waiter in self._waiters:
                if count <= self._kept and not waiter.done():
                    waiter.set_result(None)
            self._waiters = [entry for entry in self._waiters if not entry[1].done()]
        if self._overrun is not None:
            raise self._overrun
        return self.durable

    def _keep(self, start: int, entries: Sequence[Entry]) -> list[Pending]:
        """Do what `commit` promises, in the store's thread."""
        rows, pending = [], []
        for position, (voice, sequence, tail, real_ms, boot_ms) in enumerate(entries, start):
            rows.append(LeafRow(position, voice.row, sequence, tail))
            pending.append(Pending(merkle.leaf_hash(voice.row.prefix + tail), real_ms, boot_ms))
        self._store.append(rows)
        return pending

    async def committed(self) -> None:
        """Wait until everything that has been made by now is durable; another task commits."""
        if self._kept < self._made:
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append((self._made, waiter))
            await waiter

    async def seal(self, limit: int) -> Proposal:
        """Seal up to `limit` durable leaves into the next block, sign it and keep it; then it may be published.

        Raises: StoreError if a leaf does not read back as it was signed; nothing was signed then.
        """
        pending = self._unsealed[:limit]
        proposal, self.head = await self._in_thread(lambda: self._seal(self.head, pending))
        del self._unsealed[: len(pending)]
        return proposal

    def _seal(self, head: Head, pending: Sequence[Pending]) -> tuple[Proposal, Head]:
        """Do what `seal` promises, in the store's thread. The order is the safety.

        What is signed are hashes of bytes that were read back from the file, and they must be the very hashes that
        were taken when the leaves were signed. The block is durable before anyone sees it, so that after a crash the
        same bytes are published again.
        """
        start = head.frontier.size
        self._store.forget_cache()
        hashes = [merkle.leaf_hash(data) for data in self._store.leaf_bytes(start, start + len(pending))]
        if hashes != [leaf.leaf_hash for leaf in pending]:
            raise StoreError(f"leaves [{start}, {start + len(pending)}) do not read back as they were signed")
        block, after = next_block(head, hashes, max(leaf.real_ms for leaf in pending), self._clocks.times()[0])
        signed = sign_block(self._keys, self._gateway, block)
        self._store.seal(block, signed, hashes)
        return Proposal(block=block, signed=signed, hashes=tuple(hashes)), after

    def sign_again(self, block: Block) -> bytes:
        """Give a block that was sealed under an earlier roster as this gateway signs it now; the caller keeps it."""
        return sign_block(self._keys, self._gateway, block)

    async def adopt(self, proposal: Proposal) -> None:
        """Take back a block that this gateway signed once and no longer has, as its peers kept it.

        What is recorded meanwhile finds its place behind the block.

        Raises: VerificationError if the leaf hashes that came with it do not make its root, StoreError if it does not
        follow what is sealed here.
        """
        await self.commit()
        block, frontier = proposal.block, self.head.frontier
        if (block.height, block.start, block.start_root) != (self.head.next_height, frontier.size, frontier.root()):
            raise StoreError(f"block {block.height}, which peers hold, does not follow what is sealed here")
        after = frontier.extend(proposal.hashes)
        if (after.size, after.root()) != (block.size, block.root):
            raise VerificationError(f"the leaf hashes that came with block {block.height} do not make its root")
        await self._in_thread(lambda: self._store.adopt(block, proposal.signed, proposal.hashes))
        await self._load()

    # -- pieces

    def _add(self, voice: Voice, payload: bytes, real_ms: int, boot_ms: int) -> None:
        if len(self._entries) >= ENTRIES_LIMIT:
            self._overrun = StoreError(f"the disk is {ENTRIES_LIMIT} leaves behind the sensors")
            self.on_waiting()
            raise self._overrun
        self._entries.append(Entry(voice, voice.next_sequence, voice.signer.sign_tail(payload), real_ms, boot_ms))
        self._made += 1
        voice.next_sequence += 1
        self.on_waiting()

    def _times(self) -> tuple[int, int]:
        """Look at the clocks; a step shows here too, so that no reading is put into the epoch before it."""
        real_ms, boot_ms = self._clocks.times()
        if abs(real_ms - boot_ms - self._epoch.offset_ms) > clock.STEP_MS:
            self.check_clock()
        return real_ms, boot_ms

    def _turn_clock(self, epoch: Epoch | None) -> None:
        now = self._clocks.read()
        self._epoch, why = clock.next_epoch(epoch, now)
        if why is not None:
            self.note(EventKind.CLOCK, clock.clock_details(self._epoch, now, why))

    def _require_own(self, events: Iterable[Event]) -> None:
        for event in events:
            if event.kind is EventKind.GENESIS and event.details.get("public-key") not in self._public_keys:
                raise ConfigError("the master secret here does not make the key with which this chain was begun")

    def _voice(self, device: Device, next_sequence: int) -> Voice:
        key = signing.derive_key(self._master, "device", device.id, device.generation)
        if key.public_key != device.public_key:
            raise ConfigError(f"the master secret here does not make the key with which {device.id} was enrolled")
        return Voice(key, "reading", device.id, self._chain, next_sequence)

    async def _in_thread(self, call: Callable[[], Result]) -> Result:
        return await in_thread(self._executor, call)

    def _salt(self) -> bytes:
        if not self._salts:
            self._salts = secrets.token_bytes(256 * SALT_SIZE)
        salt, self._salts = self._salts[:SALT_SIZE], self._salts[SALT_SIZE:]
        return salt
