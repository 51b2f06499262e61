"""BTHome v2, advertised service data under 0xFCD2: thermometers and loggers of a cold chain.

    40 02 ca 09 03 bf 13    device information, temperature 25.06 Cel, humidity 50.55 %

Device information: bit 0 encrypted, bits 7 to 5 the version, 2. Then objects in ascending order of their ids, each an
id and a value, little-endian, of the size that the id has. Text and raw objects carry their size. An unknown id ends
what can be read; the rest is left to the kept frame, as the format asks. Temperatures are those around the sensor.
Objects other than temperature, humidity, battery, low battery and time stamp are left to the kept frame. IEEE
11073-10101 has no code for relative humidity: ours is the first of its private partition, 1024.

    41 a4 72 66 c9 5f 73 00 11 22 33 78 23 72 14    device information, ciphertext, counter, check

Encrypted: AES-128-CCM with a check of 4 bytes; the nonce is address, d2 fc, device information, counter (4 bytes).
Source: bthome.io/format, bthome.io/encryption.
"""

from decimal import Decimal

from gateway.decode.frame import Fields, FormatError
from gateway.model import Damaged, Measurement, Sample

AMBIENT_TEMPERATURE = 188508
RELATIVE_HUMIDITY = 1024 << 16 | 1
BATTERY_LEVEL = 67996
_BATTERY, _TIME_STAMP, _BATTERY_LOW, _TEXT, _RAW = 0x01, 0x50, 0x15, 0x53, 0x54
_TEMPERATURES = {0x02: (2, 1, -2), 0x45: (2, 1, -1), 0x57: (1, 1, 0), 0x58: (1, 35, -2)}  # size, step, scale
_HUMIDITIES = {0x03: (2, -2), 0x2E: (1, 0)}  # size, scale
_SIZES = {
    **dict.fromkeys((0x00, 0x01, 0x09, *range(0x0F, 0x12), *range(0x15, 0x30), 0x3A, 0x46, 0x59, 0x60), 1),
    **dict.fromkeys((0x03, 0x06, 0x07, 0x08, 0x0C, 0x0D, 0x0E, 0x12, 0x13, 0x14, 0x3C, 0x3D, 0x3F, 0x40, 0x41), 2),
    **dict.fromkeys((0x43, 0x44, 0x47, 0x48, 0x49, 0x4A, 0x51, 0x52, 0x56, 0x5A, 0x5D, 0x5E, 0x5F, 0x61, 0xF0), 2),
    **dict.fromkeys((0x04, 0x05, 0x0A, 0x0B, 0x42, 0x4B, 0xF2), 3),
    **dict.fromkeys((0x3E, 0x4C, 0x4D, 0x4E, 0x4F, 0x50, 0x55, 0x5B, 0x5C, 0x62, 0x63, 0xF1), 4),
    **{kind: size for kind, (size, _, _) in _TEMPERATURES.items()},
}
_ENCRYPTED = 0x01
_VERSION_2 = 2
_CHECK_SIZE = 4
_COUNTER_SIZE = 4


class Bthome:
    """A decoder of one device's service data; `key` (16 bytes) and `address` (6 bytes) open encrypted frames."""

    __slots__ = ("_address", "_counter", "_key")

    def __init__(self, key: bytes | None = None, address: bytes = b"") -> None:
        self._key = key
        self._address = address
        self._counter = 0  # of the last encrypted frame

    def feed(self, chunk: bytes, /) -> list[Sample | Damaged]:
        """Give the frame's sample, or the damaged frame that it is."""
        try:
            return [_read_objects(chunk, self._open(chunk), self._note_counter(chunk))]
        except FormatError as fault:
            return [Damaged(frame=chunk, reason=str(fault))]

    def _open(self, frame: bytes) -> bytes:
        """Give the frame's objects in the clear; raises FormatError."""
        if not frame or frame[0] >> 5 != _VERSION_2:
            raise FormatError("device information is missing or not of version 2")
        if not frame[0] & _ENCRYPTED:
            if self._key is not None:
                raise FormatError("not encrypted, though this device has a key")
            return frame[1:]
        if self._key is None:
            raise FormatError("encrypted, and no key is known")
        if len(frame) < 1 + _COUNTER_SIZE + _CHECK_SIZE:
            raise FormatError("counter or check is cut off")
        sealed, counter, check = frame[1:-8], frame[-8:-4], frame[-4:]
        return _decrypt(self._key, self._address + b"\xd2\xfc" + frame[:1] + counter, sealed + check)

    def _note_counter(self, frame: bytes) -> list[str]:
        """Note where the counter of a frame that was opened went back: the device was reset, or it is a replay."""
        if not frame[0] & _ENCRYPTED:
            return []
        before, self._counter = self._counter, int.from_bytes(frame[-8:-4], "little")
        return ["counter-went-back"] if self._counter < before else []


def is_numbered(frame: bytes) -> bool:
    """Say whether a frame differs from every other one of its device: by its counter, or its packet id (object 00)."""
    return bool(frame) and (bool(frame[0] & _ENCRYPTED) or frame[1:2] == b"\x00")


def _decrypt(key: bytes, nonce: bytes, sealed: bytes) -> bytes:
    from cryptography.exceptions import InvalidTag  # noqa: PLC0415 - 5 MB that only encrypted devices need
    from cryptography.hazmat.primitives.ciphers.aead import AESCCM  # noqa: PLC0415 - likewise

    try:
        return AESCCM(key, tag_length=_CHECK_SIZE).decrypt(nonce, sealed, None)
    except InvalidTag as fault:
        raise FormatError("check is wrong: another key or address, or a changed frame") from fault


def _read_objects(frame: bytes, objects: bytes, notes: list[str]) -> Sample:
    fields = Fields(objects)
    measurements: list[Measurement] = []
    time_ms = None
    while fields.left():
        kind = fields.unsigned(1, "object id")
        if kind in _TEMPERATURES:
            size, step, scale = _TEMPERATURES[kind]
            value = Decimal(fields.signed(size, "temperature") * step).scaleb(scale)
            measurements.append(Measurement(AMBIENT_TEMPERATURE, value, "Cel"))
        elif kind in _HUMIDITIES:
            size, scale = _HUMIDITIES[kind]
            value = Decimal(fields.unsigned(size, "humidity")).scaleb(scale)
            measurements.append(Measurement(RELATIVE_HUMIDITY, value, "%"))
        elif kind == _BATTERY:
            measurements.append(Measurement(BATTERY_LEVEL, fields.unsigned(1, "battery"), "%"))
        elif kind == _BATTERY_LOW:
            notes += ["low-battery"] if fields.unsigned(1, "low battery") else []
        elif kind == _TIME_STAMP:
            time_ms = fields.unsigned(4, "time stamp") * 1000
            notes.append("device-clock")
        elif kind in (_TEXT, _RAW):
            fields.take(fields.unsigned(1, "size"), "text or raw object")
        elif kind in _SIZES:
            fields.take(_SIZES[kind], f"object {kind:02x}")
        else:
            break
    return Sample(measurements=tuple(measurements), frame=frame, device_time_ms=time_ms, flags=tuple(notes))
