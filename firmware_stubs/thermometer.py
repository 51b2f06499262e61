"""The device's side of the Health Thermometer Service: a thermometer in an armpit.

    06 38 0e 00 fe ea 07 03 01 08 00 1e 01    36.40 Cel, 2026-03-01 08:00:30, armpit

2A1C, measurement, and 2A1E, the intermediate one on its way: flags (bit 0 Fahrenheit, 1 date time, 2 type),
temperature (FLOAT), date time, type: 1 armpit, 2 body, 3 ear, 4 finger, 5 gastrointestinal, 6 mouth, 7 rectum, 8 toe,
9 tympanum. A clock that is not set stamps with a date of 0. Source: Health Thermometer Service 1.0, 3.1 and 3.3.
"""

from decimal import Decimal
from enum import IntEnum
from typing import Final

from firmware_stubs.behaviour import Behaviour, Sent, describe
from firmware_stubs.ieee11073 import Number, date_time, medical_float
from firmware_stubs.peripheral import Characteristic, Peripheral, uuid_of
from firmware_stubs.physiology import Wearer

TEMPERATURE_MEASUREMENT: Final = uuid_of(0x2A1C)
INTERMEDIATE_TEMPERATURE: Final = uuid_of(0x2A1E)

MEASUREMENT_MS: Final = 10_000

# An armpit warms the probe: what is missing while it has not done so yet.
_WARMING_CEL: Final = Decimal("0.03")


class Site(IntEnum):
    """Where on the body a temperature is taken."""

    ARMPIT = 1
    BODY = 2
    EAR = 3
    FINGER = 4
    GASTROINTESTINAL = 5
    MOUTH = 6
    RECTUM = 7
    TOE = 8
    TYMPANUM = 9


def encode_temperature(
    temperature: Number, *, is_fahrenheit: bool = False, stamp: bytes = b"", site: Site | None = None
) -> bytes:
    """Return a Temperature Measurement (2A1C, 2A1E); the stamp is a date time, or nothing."""
    flags = is_fahrenheit | bool(stamp) << 1 | (site is not None) << 2
    return bytes((flags,)) + medical_float(temperature) + stamp + (b"" if site is None else bytes((site,)))


def thermometer(address: str) -> Peripheral:
    """Return a thermometer: measurements, those on their way, and a clock that wants to be set."""
    characteristics = (
        Characteristic(uuid=TEMPERATURE_MEASUREMENT, flags=("indicate",)),
        Characteristic(uuid=INTERMEDIATE_TEMPERATURE, flags=("notify",)),
        Characteristic(uuid=uuid_of(0x2A1D), flags=("read",), value=bytes((Site.ARMPIT,))),
    )
    return describe(address, "Simulated thermometer", 0x1809, characteristics, has_clock=True)


class Thermometer(Behaviour):
    """A thermometer that nears the temperature second by second and has it every ten; it stores nothing."""

    def __init__(self, wearer: Wearer) -> None:
        super().__init__()
        self._wearer = wearer
        self._measured = 0

    def tick(self, now_ms: float) -> list[Sent]:
        """Measure."""
        super().tick(now_ms)
        self._wearer.advance(now_ms)
        missing_ms = (self._measured + 1) * MEASUREMENT_MS - now_ms
        if missing_ms <= 0:
            self._measured += 1
            return [(TEMPERATURE_MEASUREMENT, self._encode(Decimal(0)))]
        return [(INTERMEDIATE_TEMPERATURE, self._encode(_WARMING_CEL * round(missing_ms / 1000)))]

    def _encode(self, missing_cel: Decimal) -> bytes:
        stamp = date_time(self.clock.read(self.now_ms))
        return encode_temperature(self._wearer.body.temperature_cel - missing_cel, stamp=stamp, site=Site.ARMPIT)
