"""The sensors of a gateway: each device's link, what it is told, and what becomes of what it says."""

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

import structlog

from gateway import links
from gateway.decode import DECODER_VERSIONS
from gateway.decode.current_time import encode_current_time
from gateway.decode.record_access import StoredRecords
from gateway.devices import Device
from gateway.errors import ConfigError
from gateway.hearing import Heard, Hearing
from gateway.io.store.readings import DamagedFrame
from gateway.model import Damaged, EventKind, Reading
from gateway.presence import Gap, Presence
from gateway.profile import Profile, Records, Transport
from gateway.recorder import Recorder
from gateway.records import reading_record

if TYPE_CHECKING:
    from gateway.io.bluetooth import Radio

DAMAGED_WAITING = 256
RECENT_RECORDS = 1000
CURRENT_TIME = "2a2b"

Write = tuple[str, bytes]  # the characteristic, and what is written to it

log = structlog.get_logger("iomt.sources")


class Source:
    """One device: what its link delivers becomes readings; `state` is for a person to see.

    It is what `io.bluetooth.Listener` asks for. `recent` are its latest readings from before, the newest first.
    """

    def __init__(
        self,
        device: Device,
        profile: Profile,
        recorder: Recorder,
        damaged: "deque[DamagedFrame]",
        recent: Sequence[Reading] = (),
        bind_key: bytes | None = None,
    ) -> None:
        self.device = device
        self.profile = profile
        self.state = "searching"
        self.reason = ""
        self.damaged = 0
        self.empty = 0
        self._recorder = recorder
        self._damaged = damaged
        self._main = DECODER_VERSIONS[profile.decoder]
        self._latest = next((reading for reading in recent if reading.decoder == self._main), None)
        self._heard_ms = recent[0].at.real_ms if recent else None
        self._hearing = Hearing(device, profile, recent, bind_key)
        lasting = recorder.gaps.get(device.id)
        self._presence = Presence(device.id, last_ms=self._heard_ms, lasting=lasting)
        self._away = self._presence.is_away and not profile.intermittent
        self._began_s = time.monotonic()
        self._last_record = self._hearing.last_record
        self._records: StoredRecords | None = None

    # -- the link

    def change(self, state: str, reason: str) -> None:
        """Note how the link stands; a loss is a gap, and ends what was half said."""
        if state in {"lost", "quiet"}:
            self._record(self._hearing.end())
            if not self.profile.intermittent:
                self._note(self._presence.lost(self._heard_ms, reason))
                self._away = self._presence.is_away
        elif state == "connected":  # a line; the radio says `opened`
            self._record(self._hearing.begin(bonded=False))
        self.state, self.reason = state, reason

    def opened(self, *, bonded: bool) -> Sequence[Write]:
        """Begin a new connection by radio; give the time where the device wants it and we know it."""
        self._record(self._hearing.begin(bonded=bonded))
        if not (self.profile.clock and self._recorder.is_synchronised):
            return ()
        return ((CURRENT_TIME, encode_current_time(self._recorder.now_ms())),)

    def learn(self, uuid: str, value: bytes) -> None:
        """Take what a characteristic says of all measurements."""
        self._hearing.learn(uuid, value)

    def subscribed(self) -> Sequence[Write]:
        """Ask for what the device stored, where it stores anything."""
        if self.profile.records is Records.NONE:
            return ()
        last = self._last_record if self.profile.records is Records.SINCE else None
        self._records = StoredRecords(last)
        return ((links.RECORD_ACCESS, self._records.begin(self._recorder.boot_ms())),)

    def hear(self, uuid: str, frame: bytes) -> Sequence[Write]:
        """Record every sample that has a value, keep what is damaged; give what is written in answer."""
        if self._away:
            self._away = False
            self._note(self._presence.returned(self._recorder.now_ms()))
        if uuid == links.RECORD_ACCESS:
            return self._go_on(frame)
        self._record(self._hearing.hear(uuid, frame, time.monotonic()))
        return ()

    # -- for the daemon

    def take_first(self, frames: Sequence[tuple[str, bytes]]) -> None:
        """Record what onboarding heard of a device that sends a measurement only once."""
        for uuid, frame in frames:
            self.hear(uuid, frame)
        self._record(self._hearing.end())

    @property
    def repeated(self) -> int:
        """How many frames were left out, since they were the one before or a stored record once more."""
        return self._hearing.repeated

    def look(self) -> None:
        """Look at what no frame announces: a device that has not come back since the start, a request not answered."""
        if self._records is not None:
            self._records.expire(self._recorder.boot_ms())
        if self._away and time.monotonic() - self._began_s > self.profile.quiet_s:
            self._note(self._presence.wait_over())

    def status(self) -> dict[str, object]:
        """Give how the device stands, as `iomt status --json` shows it."""
        latest = self._latest
        return {
            "id": self.device.id,
            "profile": self.profile.name,
            "state": self.state,
            "reason": self.reason,
            "readings": self._recorder.readings(self.device.id),
            "damaged": self.damaged,
            "without_value": self.empty,
            "repeated": self.repeated,
            "latest": reading_record(latest) if latest else None,
        }

    # -- pieces

    def _record(self, items: Sequence[Heard | Damaged]) -> None:
        for item in items:
            if isinstance(item, Damaged):
                self.damaged += 1
                self._damaged.append(DamagedFrame(self.device.id, self._recorder.now_ms(), item.reason, item.frame))
                continue
            version, sample = item
            if sample.record is not None and self._records is not None:
                self._records.heard_record(sample.record)
            if sample.measurements:
                reading = self._recorder.record(self.device.id, sample, version)
                self._heard_ms = reading.at.real_ms
                if version == self._main:
                    self._latest = reading
            else:
                self.empty += 1

    def _go_on(self, indication: bytes) -> Sequence[Write]:
        if self._records is None:
            return ()
        more = self._records.receive(indication, self._recorder.boot_ms())
        if self._records.finished:
            self._last_record = self._records.last
            log.info("stored records", device=self.device.id, outcome=self._records.reason)
        return ((links.RECORD_ACCESS, more),) if more is not None else ()

    def _note(self, gap: Gap | None) -> None:
        if gap is not None:
            self._recorder.note(EventKind.GAP, gap.details())


class Sources:
    """All devices of a gateway and the radio they share; tasks are the daemon's, which awaits `follow` and `listen`."""

    def __init__(self, recorder: Recorder, profiles: dict[str, Profile], adapter: str | None, slots: int) -> None:
        self._recorder = recorder
        self._profiles = profiles
        self._adapter = adapter
        self._slots = slots
        self._radio: asyncio.Future[Radio] = asyncio.get_running_loop().create_future()
        self._radio_wanted = asyncio.Event()
        self._damaged: deque[DamagedFrame] = deque(maxlen=DAMAGED_WAITING)
        self.by_device: dict[str, Source] = {}

    def profile(self, name: str) -> Profile:
        """Give a profile by name.

        Raises: ConfigError if it is not here.
        """
        if name not in self._profiles:
            raise ConfigError(f"profile {name!r} is not here; allowed: {', '.join(sorted(self._profiles))}")
        return self._profiles[name]

    async def add(self, device: Device, bind_key: bytes | None = None) -> Source:
        """Add a device, with what is known of it from before.

        Raises: ConfigError if its profile is not here.
        """
        profile = self.profile(device.profile)
        recent = await self._recorder.recent(device.id, RECENT_RECORDS if profile.intermittent else 1)
        source = Source(device, profile, self._recorder, self._damaged, recent, bind_key)
        self.by_device[device.id] = source
        return source

    async def run_radio(self) -> None:
        """Keep the radio alive, from the first device that needs it on.

        Raises: Unavailable if starting the process anew is all that is left to try.
        """
        await self._radio_wanted.wait()
        from gateway.io.bluetooth import Radio  # noqa: PLC0415 - a gateway of serial devices does not pay for bleak

        radio = Radio(adapter=self._adapter, slots=self._slots)
        self._radio.set_result(radio)
        await radio.run()

    async def follow(self, source: Source) -> None:
        """Keep one device connected and heard, for ever."""
        radio = None
        if source.profile.transport is not Transport.SERIAL:
            self._radio_wanted.set()
            radio = await self._radio
        await links.follow(source.profile, source.device.address, source, radio)

    def look(self) -> None:
        """Look at what no frame announces."""
        for source in self.by_device.values():
            source.look()

    def take_damaged(self) -> list[DamagedFrame]:
        """Give the damaged frames that came since the last time; of a flood, the latest."""
        frames = list(self._damaged)
        self._damaged.clear()
        return frames
