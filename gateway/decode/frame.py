"""One frame read field by field: what GATT decoders share.

Fields stand in the order of the specification, little-endian, and each reading names its field, so that a frame
that is cut off says where. A frame with bytes after its last field is damaged, unless a flag bit that the
specification reserves announces fields that we do not know: those are left to the kept frame.
"""

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Protocol, runtime_checkable

from gateway.decode.number import read_date_time, read_float, read_sfloat
from gateway.model import Damaged, Measurement, Sample, Special

ATTRIBUTE_LIMIT = 512  # bytes of a value (Bluetooth Core Specification, vol. 3, part F, 3.2.9)


class Decoder(Protocol):
    """Bytes in, samples out; one decoder serves one connection of one device."""

    def feed(self, chunk: bytes, /) -> list[Sample | Damaged]:
        """Give what these bytes complete; never raises, whatever the bytes."""


@runtime_checkable
class Learner(Decoder, Protocol):
    """A decoder that other characteristics of its device tell more: where the sensor sits, when its session began."""

    def learn(self, characteristic: str, value: bytes, /) -> None:
        """Take a value that was read; a characteristic ("2a38") of no use and a value of no sense change nothing."""


class FormatError(Exception):
    """Within this package: a frame breaks its format; the text becomes the reason of a Damaged."""


class Frames:
    """A decoder of whole frames: each chunk is one, as a GATT notification is. `read` raises FormatError."""

    __slots__ = ("_read",)

    def __init__(self, read: Callable[[bytes], Sample]) -> None:
        self._read = read

    def feed(self, chunk: bytes, /) -> list[Sample | Damaged]:
        """Give the chunk's sample, or the damaged frame that it is."""
        if len(chunk) > ATTRIBUTE_LIMIT:
            return [Damaged(frame=chunk, reason=_over_long(chunk))]
        try:
            return [self._read(chunk)]
        except FormatError as fault:
            return [Damaged(frame=chunk, reason=str(fault))]


class PlacedFrames:
    """A decoder of whole frames that learns from a characteristic of one byte where the sensor sits.

    `read` is given what was learnt, one flag or none, and raises FormatError; a place without a name gives none.
    """

    __slots__ = ("_characteristic", "_place", "_places", "_read")

    def __init__(
        self, read: Callable[[bytes, tuple[str, ...]], Sample], characteristic: str, places: Mapping[int, str]
    ) -> None:
        self._read = read
        self._characteristic = characteristic
        self._places = places
        self._place: tuple[str, ...] = ()

    def learn(self, characteristic: str, value: bytes, /) -> None:
        """Take the place that samples are flagged with from now on."""
        if characteristic == self._characteristic and len(value) == 1:
            self._place = tuple(name_value(self._places, value[0]))

    def feed(self, chunk: bytes, /) -> list[Sample | Damaged]:
        """Give the chunk's sample, or the damaged frame that it is."""
        if len(chunk) > ATTRIBUTE_LIMIT:
            return [Damaged(frame=chunk, reason=_over_long(chunk))]
        try:
            return [self._read(chunk, self._place)]
        except FormatError as fault:
            return [Damaged(frame=chunk, reason=str(fault))]


class Fields:
    """A cursor over a frame's fields; every reading raises FormatError where the frame ends before the field does."""

    __slots__ = ("_at", "_frame")

    def __init__(self, frame: bytes, at: int = 0) -> None:
        self._frame = frame
        self._at = at

    def take(self, size: int, name: str) -> bytes:
        """Read `size` bytes."""
        at = self._at
        field = self._frame[at : at + size]
        if len(field) < size:
            raise FormatError(f"{name} is cut off: {len(field)} of {size} bytes")
        self._at = at + size
        return field

    def unsigned(self, size: int, name: str) -> int:
        """Read an unsigned integer of `size` bytes."""
        return int.from_bytes(self.take(size, name), "little")

    def signed(self, size: int, name: str) -> int:
        """Read a two's complement integer of `size` bytes."""
        return int.from_bytes(self.take(size, name), "little", signed=True)

    def sfloat(self, name: str) -> Decimal | Special:
        """Read an SFLOAT."""
        return read_sfloat(self.unsigned(2, name))

    def float(self, name: str) -> Decimal | Special:
        """Read a FLOAT."""
        return read_float(self.unsigned(4, name))

    def time_stamp(self, notes: list[str], *, clock_set: bool = True) -> int | None:
        """Read a date time as milliseconds since 1970, noting "device-clock"; None, noting "unknown-time", for none."""
        time_ms = read_date_time(self.take(7, "time stamp"))
        if not clock_set:
            time_ms = None
        notes.append("unknown-time" if time_ms is None else "device-clock")
        return time_ms

    def user(self, notes: list[str]) -> None:
        """Read a user's number in the device, noting "user-N"; FF is an unknown user."""
        user = self.unsigned(1, "user id")
        if user != 0xFF:
            notes.append(f"user-{user}")

    def left(self) -> int:
        """Count the bytes that were not read."""
        return len(self._frame) - self._at

    def end(self, *, reserved: int) -> None:
        """Refuse bytes after the last field, unless `reserved` flag bits announce more; raises FormatError."""
        if self.left() and not reserved:
            raise FormatError(f"{self.left()} bytes after the last field")


def _over_long(frame: bytes) -> str:
    return f"{len(frame)} bytes: an attribute has {ATTRIBUTE_LIMIT} at most"


def put(measurements: list[Measurement], notes: list[str], code: int, value: Decimal | Special, unit: str) -> None:
    """Add a value to the measurements or, where it is a special, its name to the notes: a sample's flags to be."""
    if isinstance(value, Special):
        notes.append(f"no-value:{code}:{value}")
    else:
        measurements.append(Measurement(code, value, unit))


def name_bits(bits: int, names: Sequence[tuple[int, str]]) -> list[str]:
    """Give the names of those masks that share a bit with `bits`."""
    return [name for mask, name in names if bits & mask]


def name_value(names: Mapping[int, str], value: int) -> list[str]:
    """Give the name of a value, if it has one."""
    return [names[value]] if value in names else []
