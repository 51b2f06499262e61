"""The device's side of the Heart Rate Service: a chest strap.

    16 4a 9e 03           heart rate 74/min, skin contact, one beat of 926/1024 s
    1e 4a 10 00 9e 03     the same, with 16 kJ expended

2A37: flags (bit 0 rate is u16, 1 contact, 2 contact supported, 3 energy, 4 intervals), rate, energy in kJ, intervals
in 1/1024 s, oldest first. 2A38, where it is worn: 0 other, 1 chest, 2 wrist, 3 finger, 4 hand, 5 ear lobe, 6 foot.
Source: Heart Rate Service 1.0, 3.1 and 3.2.
"""

from collections.abc import Sequence
from decimal import Decimal
from enum import IntEnum
from typing import Final

from firmware_stubs.behaviour import Behaviour, Sent, describe
from firmware_stubs.peripheral import Characteristic, Peripheral, uuid_of
from firmware_stubs.physiology import Wearer

HEART_RATE_MEASUREMENT: Final = uuid_of(0x2A37)
BODY_SENSOR_LOCATION: Final = uuid_of(0x2A38)

_CONTACT: Final = 0b010
_CONTACT_SUPPORTED: Final = 0b100


class Location(IntEnum):
    """Where a heart rate sensor is worn."""

    OTHER = 0
    CHEST = 1
    WRIST = 2
    FINGER = 3
    HAND = 4
    EAR_LOBE = 5
    FOOT = 6


def encode_heart_rate(
    rate_per_min: int,
    intervals_ms: Sequence[int | Decimal],
    *,
    has_contact: bool = True,
    energy_kj: int | None = None,
) -> bytes:
    """Return a Heart Rate Measurement (2A37) of a sensor that can tell whether it touches skin."""
    wide = rate_per_min > 0xFF
    flags = wide | _CONTACT_SUPPORTED | _CONTACT * has_contact
    flags |= (energy_kj is not None) << 3 | (len(intervals_ms) > 0) << 4
    rate = rate_per_min.to_bytes(2 if wide else 1, "little")
    energy = b"" if energy_kj is None else energy_kj.to_bytes(2, "little")
    intervals = b"".join(round(ms * 1024 / 1000).to_bytes(2, "little") for ms in intervals_ms)
    return bytes((flags,)) + rate + energy + intervals


def encode_location(location: Location) -> bytes:
    """Return a Body Sensor Location (2A38)."""
    return bytes((location,))


def heart_rate_monitor(address: str) -> Peripheral:
    """Return a chest strap: heart rate, battery, device information."""
    characteristics = (
        Characteristic(uuid=HEART_RATE_MEASUREMENT, flags=("notify",)),
        Characteristic(uuid=BODY_SENSOR_LOCATION, flags=("read",), value=encode_location(Location.CHEST)),
    )
    return describe(address, "Simulated HRM", 0x180D, characteristics)


class HeartRateMonitor(Behaviour):
    """A strap that tells every beat once; a measurement that nobody is subscribed to is gone."""

    def __init__(self, wearer: Wearer) -> None:
        super().__init__()
        self._wearer = wearer

    def tick(self, now_ms: float) -> list[Sent]:
        """Measure."""
        super().tick(now_ms)
        beats_ms = self._wearer.advance(now_ms)
        return [(HEART_RATE_MEASUREMENT, encode_heart_rate(self._wearer.rate_per_min(), beats_ms))]
