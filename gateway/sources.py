"""The sensors of a gateway: each device's link, its decoder, and what they have had to say so far."""

import asyncio
from collections import deque
from typing import TYPE_CHECKING

import structlog

from gateway.decode import DECODER_VERSIONS, DECODERS, Decoder
from gateway.devices import Device, is_plausible
from gateway.errors import ConfigError
from gateway.io import serial_port
from gateway.io.store.readings import DamagedFrame
from gateway.model import Damaged, Sample
from gateway.profile import Profile, Ranges
from gateway.recorder import Recorder

if TYPE_CHECKING:
    from gateway.io.bluetooth import Radio

DAMAGED_WAITING = 256
OUT_OF_RANGE = "out-of-range"

log = structlog.get_logger("iomt.sources")


class Source:
    """One device: what its link delivers becomes readings; `state` is for a person to see."""

    def __init__(self, device: Device, profile: Profile, recorder: Recorder, damaged: "deque[DamagedFrame]") -> None:
        self.device = device
        self.profile = profile
        self.state = "searching"
        self.reason = ""
        self.damaged = 0
        self.empty = 0
        self._recorder = recorder
        self._damaged = damaged
        self._ranges: Ranges = profile.ranges
        self._version = DECODER_VERSIONS[profile.decoder]
        self._decoder = self._new_decoder()

    def hear(self, chunk: bytes) -> None:
        """Decode what came, record every sample that has a value, keep what is damaged."""
        for item in self._decoder.feed(chunk):
            if isinstance(item, Damaged):
                self._keep(item)
            elif item.measurements:
                self._recorder.record(self.device.id, self._flagged(item), self._version)
            else:
                self.empty += 1

    def change(self, state: str, reason: str) -> None:
        """Note how the link stands; after a loss, half a frame is not continued by the next connection's first."""
        if state == "lost":
            self._decoder = self._new_decoder()
        self.state, self.reason = state, reason

    def _new_decoder(self) -> Decoder:
        return DECODERS[self.profile.decoder]()

    def _flagged(self, sample: Sample) -> Sample:
        if is_plausible(self._ranges, sample.measurements):
            return sample
        return Sample(
            measurements=sample.measurements,
            frame=sample.frame,
            device_time_ms=sample.device_time_ms,
            flags=(*sample.flags, OUT_OF_RANGE),
        )

    def _keep(self, item: Damaged) -> None:
        self.damaged += 1
        self._damaged.append(DamagedFrame(self.device.id, self._recorder.now_ms(), item.reason, item.frame))


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

    def add(self, device: Device) -> Source:
        """Add a device.

        Raises: ConfigError if its profile is not here.
        """
        source = Source(device, self.profile(device.profile), self._recorder, self._damaged)
        self.by_device[device.id] = source
        return source

    async def run_radio(self) -> None:
        """Keep the radio alive, from the first device that needs it on."""
        await self._radio_wanted.wait()
        from gateway.io.bluetooth import Radio  # noqa: PLC0415 - a gateway of serial devices does not pay for bleak

        radio = Radio(adapter=self._adapter, slots=self._slots)
        self._radio.set_result(radio)
        await radio.run()

    async def follow(self, source: Source) -> None:
        """Keep one device connected and heard, for ever."""
        profile, address = source.profile, source.device.address
        if profile.line is not None:
            line = profile.line
            settings = serial_port.LineSettings(
                baudrate=line.baudrate, bytesize=line.bytesize, parity=line.parity, stopbits=line.stopbits
            )
            await serial_port.follow(
                address, settings, quiet_s=profile.quiet_s, on_chunk=source.hear, on_state=source.change
            )
        else:
            self._radio_wanted.set()
            radio = await self._radio
            await radio.follow(
                address,
                profile.channels[0].uuid,
                quiet_s=profile.quiet_s,
                on_frame=source.hear,
                on_state=source.change,
            )

    def take_damaged(self) -> list[DamagedFrame]:
        """Give the damaged frames that came since the last time; of a flood, the latest."""
        frames = list(self._damaged)
        self._damaged.clear()
        return frames
