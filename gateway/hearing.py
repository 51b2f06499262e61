"""What the frames of one device become: samples to be recorded, each with its decoder's version, and what is damaged.

    frame -> repeated? -> decoded -> signed by the sensor itself? -> stored and known? -> joined to a second -> flagged

Nothing here alters a value. What is left out: the frame that Bluetooth delivered twice, and the stored record that was
recorded before. What is held back: packets of a waveform, until they are a second of it.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from gateway.decode import DECODER_VERSIONS, DECODERS, Decoder, Learner
from gateway.decode.bthome import Bthome, is_numbered
from gateway.decode.statement import StatementCheck, read_statement
from gateway.devices import Device, is_plausible
from gateway.errors import VerificationError
from gateway.model import Damaged, Measurement, Reading, Sample, Waveform
from gateway.profile import Bonding, Channel, Profile, Transport

OUT_OF_RANGE = "out-of-range"
UNAUTHENTICATED = "unauthenticated-link"
_SECOND_NS = 1_000_000_000
_ROUNDING_NS = 100_000  # a period in whole nanoseconds, many times


class Heard(NamedTuple):
    """A sample to be recorded, and which decoder read it."""

    version: str
    sample: Sample


class Hearing:
    """One device. `recent` are its latest readings, from which it goes on after a start.

    `bind_key` opens encrypted advertisements.
    """

    def __init__(
        self, device: Device, profile: Profile, recent: Sequence[Reading] = (), bind_key: bytes | None = None
    ) -> None:
        self.repeated = 0
        self._profile = profile
        self._ranges = profile.ranges
        self._channels = {
            channel.uuid: _Channel(channel, profile, _builder(channel, device, bind_key))
            for channel in profile.channels
        }
        self._records = {(reading.decoder, reading.frame) for reading in recent} if profile.intermittent else set()
        self.last_record = _last_record(recent)
        self._check = _statement_check(device, recent) if device.sensor_key is not None else None
        self._bond = device.bond
        self._flags: tuple[str, ...] = ()

    def begin(self, *, bonded: bool) -> list[Heard]:
        """Begin a new connection; give what the last one left of a second."""
        rest = self.end()
        for channel in self._channels.values():
            channel.begin()
        wanted = self._profile.bonding
        weak = wanted is Bonding.AUTHENTICATED and self._bond != "authenticated"
        self._flags = (UNAUTHENTICATED,) if wanted is not Bonding.NONE and (weak or not bonded) else ()
        return rest

    def end(self) -> list[Heard]:
        """Give what is held back."""
        return [
            Heard(channel.version, self._flagged(sample))
            for channel in self._channels.values()
            for sample in channel.second.take()
        ]

    def learn(self, uuid: str, value: bytes) -> None:
        """Take what a characteristic says of all measurements: where the sensor sits, when its session began."""
        for channel in self._channels.values():
            if isinstance(channel.decoder, Learner):
                channel.decoder.learn(uuid, value)

    def hear(self, uuid: str, frame: bytes, now_s: float) -> list[Heard | Damaged]:
        """Decode what came; `now_s` is of a monotonic clock."""
        channel = self._channels[uuid]
        if channel.repeats(frame, now_s):
            self.repeated += 1
            return []
        made: list[Heard | Damaged] = []
        for item in channel.decoder.feed(frame):
            sound = self._checked(item)
            if isinstance(sound, Damaged):
                made += [Heard(channel.version, self._flagged(held)) for held in channel.second.take()]
                made.append(sound)
            elif not self._is_known(channel.version, sound):
                made += [Heard(channel.version, self._flagged(whole)) for whole in channel.second.join(sound)]
        return made

    def _checked(self, item: Sample | Damaged) -> Sample | Damaged:
        """Give a sample whose statement does not hold as damaged; others pass, where the sensor signs none."""
        if self._check is None or isinstance(item, Damaged):
            return item
        try:
            self._check.check(item.statement or b"")
        except VerificationError as error:
            return Damaged(frame=item.frame, reason=f"the sensor's statement: {error}")
        return item

    def _is_known(self, version: str, sample: Sample) -> bool:
        """Say whether this very record was recorded before: only what bears a time or a number can be told apart."""
        if not self._profile.intermittent or (sample.device_time_ms is None and sample.record is None):
            return False
        record = version, sample.frame
        if record in self._records:
            self.repeated += 1
            return True
        self._records.add(record)
        return False

    def _flagged(self, sample: Sample) -> Sample:
        flags = self._flags
        if not is_plausible(self._ranges, sample.measurements):
            flags = (*flags, OUT_OF_RANGE)
        return _with_flags(sample, (*sample.flags, *flags)) if flags else sample


class _Channel:
    """One source of frames of a device, and its decoder."""

    __slots__ = ("_advertised", "_build", "_frame", "_heard_s", "_repeat_s", "decoder", "second", "version")

    def __init__(self, channel: Channel, profile: Profile, build: Callable[[], Decoder]) -> None:
        self._build = build
        self._repeat_s = _repeat_s(profile)
        self._advertised = profile.transport is Transport.ADVERTISEMENT
        self._frame = b""
        self._heard_s = float("-inf")
        self.version = DECODER_VERSIONS[channel.decoder]
        self.decoder = build()
        self.second = Second()

    def begin(self) -> None:
        """Forget half a frame: it is not continued by the next connection's first."""
        self.decoder = self._build()

    def repeats(self, frame: bytes, now_s: float) -> bool:
        """Say whether this is the last frame once more: too soon to be another measurement, or with the same number."""
        if frame == self._frame and (
            now_s - self._heard_s < self._repeat_s or (self._advertised and is_numbered(frame))
        ):
            return True
        self._frame, self._heard_s = frame, now_s
        return False


class Second:
    """Packets of a waveform, joined to one second; a sample without a waveform passes at once."""

    __slots__ = ("_held", "_held_ns")

    def __init__(self) -> None:
        self._held: list[Sample] = []
        self._held_ns = 0

    def join(self, sample: Sample) -> list[Sample]:
        """Add a sample; give what is whole with it."""
        lasts_ns = max([_lasts_ns(each.value) for each in sample.measurements], default=0)
        if not lasts_ns:
            return [sample]
        if not self._held and lasts_ns >= _SECOND_NS - _ROUNDING_NS:
            return [sample]
        self._held.append(sample)
        self._held_ns += lasts_ns
        return self.take() if self._held_ns >= _SECOND_NS - _ROUNDING_NS else []

    def take(self) -> list[Sample]:
        """Give what is held, joined."""
        held, self._held, self._held_ns = self._held, [], 0
        return [_joined(held)] if held else []


def _joined(samples: list[Sample]) -> Sample:
    """Join packets: frames and waveforms one after the other, the numbers of the last, the flags of all."""
    last = samples[-1]
    if len(samples) == 1:
        return last
    flags = [flag for sample in samples for flag in sample.flags if not flag.startswith("no-value:")]
    flags += [flag for flag in last.flags if flag.startswith("no-value:")]
    return Sample(
        measurements=tuple(_joined_measurement(samples, measurement) for measurement in last.measurements),
        frame=b"".join(sample.frame for sample in samples),
        device_time_ms=samples[0].device_time_ms,
        flags=tuple(dict.fromkeys(flags)),
    )


def _joined_measurement(samples: list[Sample], last: Measurement) -> Measurement:
    if not isinstance(last.value, Waveform):
        return last
    points = [
        point
        for sample in samples
        for measurement in sample.measurements
        if measurement.code == last.code and isinstance(measurement.value, Waveform)
        for point in measurement.value.samples
    ]
    whole = Waveform(period_ns=last.value.period_ns, scale=last.value.scale, samples=tuple(points))
    return Measurement(last.code, whole, last.unit)


def _lasts_ns(value: object) -> int:
    return value.period_ns * len(value.samples) if isinstance(value, Waveform) else 0


def _with_flags(sample: Sample, flags: tuple[str, ...]) -> Sample:
    return Sample(
        measurements=sample.measurements,
        frame=sample.frame,
        device_time_ms=sample.device_time_ms,
        flags=flags,
        record=sample.record,
        statement=sample.statement,
    )


def _repeat_s(profile: Profile) -> float:
    """Give within what time an equal frame is the same one: a quarter of a period; an advertisement's, all of it."""
    if profile.transport is Transport.SERIAL or profile.signs:
        return 0.0
    return profile.period_s if profile.transport is Transport.ADVERTISEMENT else profile.period_s / 4


def _builder(channel: Channel, device: Device, bind_key: bytes | None) -> Callable[[], Decoder]:
    if channel.decoder == "adv.bthome_v2":
        address = bytes.fromhex(device.address.replace(":", ""))
        return lambda: Bthome(bind_key, address)
    return DECODERS[channel.decoder]


def _last_record(recent: Sequence[Reading]) -> int | None:
    """Give the number of the last stored record that is held, as the frames of the latest readings say it.

    None where the two latest do not go up: a meter that counts anew was being asked, and not all may have come.
    """
    numbers: list[int] = []
    for reading in recent:
        name = reading.decoder.rpartition("/")[0]
        numbers += [
            item.record
            for item in DECODERS[name]().feed(reading.frame)
            if isinstance(item, Sample) and item.record is not None
        ]
        if len(numbers) > 1:
            return numbers[0] if numbers[0] > numbers[1] else None
    return numbers[0] if numbers else None


def _statement_check(device: Device, recent: Sequence[Reading]) -> StatementCheck:
    said = [read_statement(reading.statement) for reading in recent if reading.statement is not None]
    last = max(((statement.boot, statement.sequence) for statement in said), default=None)
    return StatementCheck(device.sensor_key or b"", last)
