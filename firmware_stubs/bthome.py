"""BTHome v2, advertised service data under fcd2: a logger in a refrigerator, which nobody connects to.

    40 00 07 01 64 02 c4 01 03 94 11    packet 7, battery 100 %, temperature 4.52 Cel, humidity 45.00 %

Device information (bit 0 encrypted, bits 7 to 5 the version, 2), then objects in the order of their ids: an id, and a
value of the size that it has, little-endian, which counts steps of what the id says.

    41 a4 72 66 c9 5f 73 00 11 22 33 78 23 72 14    device information, ciphertext, counter, check

Encrypted: AES-128-CCM with a check of 4 bytes and no associated data; the nonce is the address (6 bytes, as it is
written), d2 fc, device information, counter (4 bytes). Sources: bthome.io/format, bthome.io/encryption.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import IntEnum
from typing import Final

from cryptography.hazmat.primitives.ciphers.aead import AESCCM

from firmware_stubs.behaviour import Behaviour, Sent
from firmware_stubs.peripheral import Peripheral, uuid_of
from firmware_stubs.physiology import Wearer
from firmware_stubs.scenarios import Curve, exact, value_at

BTHOME: Final = uuid_of(0xFCD2)

PACKET_MS: Final = 5000

_INFORMATION: Final = 2 << 5
_ENCRYPTED: Final = 1 << 0
_UUID: Final = b"\xd2\xfc"
_CHECK_BYTES: Final = 4
# A compressor's round of twenty minutes, and what the door's opening does to the air's humidity.
_REFRIGERATOR_CEL: Final[Curve] = ((0, 3.1), (840, 6.2), (1200, 3.1))
_HUMIDITY_PERCENT: Final[Curve] = ((0, 44.0), (300, 52.5), (1200, 44.0))


class Object(IntEnum):
    """What a frame can carry; the number is the object id."""

    PACKET = 0x00
    BATTERY_PERCENT = 0x01
    TEMPERATURE_CENTI = 0x02
    HUMIDITY_CENTI = 0x03
    VOLTAGE_MILLI = 0x0C
    IS_BATTERY_LOW = 0x15
    TEMPERATURE_DECI = 0x45
    TIME_STAMP_S = 0x50
    TEMPERATURE = 0x57
    TEMPERATURE_35_CENTI = 0x58


@dataclass(frozen=True, slots=True)
class _Form:
    size: int
    step: Decimal
    is_signed: bool = False


_FORMS: Final[Mapping[Object, _Form]] = {
    Object.PACKET: _Form(1, Decimal(1)),
    Object.BATTERY_PERCENT: _Form(1, Decimal(1)),
    Object.TEMPERATURE_CENTI: _Form(2, Decimal("0.01"), is_signed=True),
    Object.HUMIDITY_CENTI: _Form(2, Decimal("0.01")),
    Object.VOLTAGE_MILLI: _Form(2, Decimal("0.001")),
    Object.IS_BATTERY_LOW: _Form(1, Decimal(1)),
    Object.TEMPERATURE_DECI: _Form(2, Decimal("0.1"), is_signed=True),
    Object.TIME_STAMP_S: _Form(4, Decimal(1)),
    Object.TEMPERATURE: _Form(1, Decimal(1), is_signed=True),
    Object.TEMPERATURE_35_CENTI: _Form(1, Decimal("0.35"), is_signed=True),
}


def encode_bthome(objects: Iterable[tuple[Object, Decimal | int]]) -> bytes:
    """Return the service data of some objects, in the clear.

    Raises: OverflowError if a value does not fit its object.
    """
    return bytes((_INFORMATION,)) + _encode_objects(objects)


def seal_bthome(objects: Iterable[tuple[Object, Decimal | int]], *, key: bytes, address: bytes, counter: int) -> bytes:
    """Return the service data of some objects, encrypted with the device's key (16 bytes).

    Raises: OverflowError if a value does not fit its object.
    """
    information = bytes((_INFORMATION | _ENCRYPTED,))
    count = counter.to_bytes(4, "little")
    nonce = address + _UUID + information + count
    sealed = AESCCM(key, tag_length=_CHECK_BYTES).encrypt(nonce, _encode_objects(objects), None)
    return information + sealed[:-_CHECK_BYTES] + count + sealed[-_CHECK_BYTES:]


def bthome_logger(address: str) -> Peripheral:
    """Return a logger that can only be heard."""
    return Peripheral(
        address=address,
        name="Simulated logger",
        services=(),
        advertised_uuids=(),
        service_data={BTHOME: _measure(0, 0)},
    )


class BthomeLogger(Behaviour):
    """A logger that measures every five seconds; whose person it is given does not matter."""

    def __init__(self, _wearer: Wearer) -> None:
        super().__init__()
        self._packet = 0
        self._data = _measure(0, 0)

    @property
    def service_data(self) -> Mapping[str, bytes]:
        """The last measurement."""
        return {BTHOME: self._data}

    def tick(self, now_ms: float) -> list[Sent]:
        """Measure, when it is time to."""
        packet = int(now_ms // PACKET_MS)
        if packet != self._packet:
            self._packet = packet
            self._data = _measure(packet, now_ms)
        return super().tick(now_ms)


def _measure(packet: int, now_ms: float) -> bytes:
    return encode_bthome(
        [
            (Object.PACKET, packet % 256),
            (Object.BATTERY_PERCENT, 100),
            (Object.TEMPERATURE_CENTI, exact(value_at(_REFRIGERATOR_CEL, now_ms), 2)),
            (Object.HUMIDITY_CENTI, exact(value_at(_HUMIDITY_PERCENT, now_ms), 2)),
        ]
    )


def _encode_objects(objects: Iterable[tuple[Object, Decimal | int]]) -> bytes:
    encoded = b""
    for kind, value in sorted(objects):
        form = _FORMS[kind]
        steps = round(value / form.step)
        encoded += bytes((kind,)) + steps.to_bytes(form.size, "little", signed=form.is_signed)
    return encoded
