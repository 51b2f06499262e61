"""The device's side of the Weight Scale and the Body Composition Service: a scale that stores who stood on it.

    0e a0 38 ea 07 03 01 08 00 1e 01 db 00 1c 07                     2A9D: 72.480 kg, stamp, user 1, BMI 21.9, 1.820 m
    06 02 e0 00 ea 07 03 01 08 00 1e 01 03 14                        2A9C: 22.4 %, stamp, user 1, 512.3 ohm

2A9D, weight: flags (bit 0 imperial, 1 date time, 2 user, 3 BMI and height), weight in 0.005 kg or 0.01 lb (ffff is
unsuccessful), date time, user (FF unknown), BMI in 0.1, height in 0.001 m or 0.1 in. 2A9C, composition: flags of 16
bits (0 imperial, 1 date time, 2 user, 3 basal metabolism in kJ, 4 muscle in 0.1 %, 5 muscle mass, 6 fat free mass, 7
soft lean mass, 8 body water mass, 9 impedance in 0.1 ohm, 10 weight, 11 height, 12 more follows), fat in 0.1 % (ffff
is unsuccessful), and what the flags say in their order.
Source: Weight Scale Service 1.0.1, 3.2; Body Composition Service 1.0.1, 3.2.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import IntEnum
from typing import Final

from firmware_stubs.behaviour import DeviceClock, Sent, describe
from firmware_stubs.ieee11073 import date_time
from firmware_stubs.intermittent import Intermittent
from firmware_stubs.peripheral import Characteristic, Peripheral, Service, uuid_of
from firmware_stubs.physiology import Wearer

WEIGHT_MEASUREMENT: Final = uuid_of(0x2A9D)
BODY_COMPOSITION_MEASUREMENT: Final = uuid_of(0x2A9C)

UNSUCCESSFUL: Final = 0xFFFF
FIRST_MEASUREMENT_MS: Final = 5000
MEASUREMENT_MS: Final = 60_000
HISTORY_MEASUREMENTS: Final = 3

_SWITCHED_ON: Final = datetime(2026, 3, 1, 8, tzinfo=UTC)
_USER: Final = 1
_HEIGHT_M: Final = Decimal("1.820")
_STEP_KG: Final = Decimal("0.005")
# Weight scale feature, 2A9E: time stamps, several users, BMI, 0.005 kg. Body composition feature, 2A9B: likewise,
# impedance.
_WEIGHT_FEATURES: Final = (0b111 | 7 << 3).to_bytes(4, "little")
_COMPOSITION_FEATURES: Final = (0b11 | 1 << 8).to_bytes(4, "little")


class Part(IntEnum):
    """A field of a body composition; the number is its flag bit."""

    BASAL_METABOLISM = 3
    MUSCLE_PERCENTAGE = 4
    MUSCLE_MASS = 5
    FAT_FREE_MASS = 6
    SOFT_LEAN_MASS = 7
    BODY_WATER_MASS = 8
    IMPEDANCE = 9
    WEIGHT = 10
    HEIGHT = 11


def encode_weight(
    weight: int,
    *,
    is_imperial: bool = False,
    stamp: bytes = b"",
    user: int | None = None,
    bmi_height: tuple[int, int] | None = None,
) -> bytes:
    """Return a Weight Measurement (2A9D); numbers are counts of their field's unit, the stamp a date time or none."""
    flags = is_imperial | bool(stamp) << 1 | (user is not None) << 2 | (bmi_height is not None) << 3
    sizes = b"".join(number.to_bytes(2, "little") for number in bmi_height or ())
    return bytes((flags,)) + weight.to_bytes(2, "little") + stamp + _encode_user(user) + sizes


def encode_body_composition(
    fat: int,
    parts: Mapping[Part, int],
    *,
    is_imperial: bool = False,
    stamp: bytes = b"",
    user: int | None = None,
    goes_on: bool = False,
) -> bytes:
    """Return a Body Composition Measurement (2A9C); numbers are counts of their field's unit."""
    flags = is_imperial | bool(stamp) << 1 | (user is not None) << 2 | sum(1 << part for part in parts) | goes_on << 12
    fields = b"".join(parts[part].to_bytes(2, "little") for part in sorted(parts))
    return flags.to_bytes(2, "little") + fat.to_bytes(2, "little") + stamp + _encode_user(user) + fields


def weight_scale(address: str) -> Peripheral:
    """Return a scale with both services."""
    weight = (
        Characteristic(uuid=WEIGHT_MEASUREMENT, flags=("indicate",)),
        Characteristic(uuid=uuid_of(0x2A9E), flags=("read",), value=_WEIGHT_FEATURES),
    )
    composition = (
        Characteristic(uuid=BODY_COMPOSITION_MEASUREMENT, flags=("indicate",)),
        Characteristic(uuid=uuid_of(0x2A9B), flags=("read",), value=_COMPOSITION_FEATURES),
    )
    others = (Service(uuid=uuid_of(0x181B), characteristics=composition),)
    return describe(address, "Simulated scale", 0x181D, weight, others=others, has_clock=True)


class WeightScale(Intermittent):
    """A scale on which somebody stands after five seconds and then once a minute.

    Its clock goes from the start on, at 2026-03-01 08:00:00; it has the three mornings before in store. Who stands on
    it in shoes the first time after that has no composition: a stub comes, all 0.
    """

    def __init__(self, wearer: Wearer) -> None:
        super().__init__(DeviceClock(_SWITCHED_ON))
        self._wearer = wearer
        self._measured = 0

    def tick(self, now_ms: float) -> list[Sent]:
        """Weigh, when it is time to."""
        super().tick(now_ms)
        self._wearer.advance(now_ms)
        if now_ms >= FIRST_MEASUREMENT_MS + self._measured * MEASUREMENT_MS:
            self._measured += 1
            self.store(self._weigh())
        return self.heard()

    def _weigh(self) -> list[Sent]:
        body, moment = self._wearer.body, self.clock.read(self.now_ms)
        weight, fat, ohm = (
            round(body.weight_kg / _STEP_KG),
            round(body.fat_percent * 10),
            round(body.impedance_ohm * 10),
        )
        if self._measured > 1:
            return _measurements(date_time(moment), weight, fat, ohm)
        sent = []
        for days in range(HISTORY_MEASUREMENTS, 0, -1):
            sent += _measurements(date_time(_SWITCHED_ON - timedelta(days=days)), weight + 20 * days, fat, ohm - days)
        return sent + _measurements(date_time(moment), weight, 0, 0)


def _measurements(stamp: bytes, weight: int, fat: int, impedance: int) -> list[Sent]:
    bmi = round(weight * _STEP_KG / _HEIGHT_M**2 * 10)
    height = round(_HEIGHT_M * 1000)
    parts = {Part.IMPEDANCE: impedance}
    return [
        (WEIGHT_MEASUREMENT, encode_weight(weight, stamp=stamp, user=_USER, bmi_height=(bmi, height))),
        (BODY_COMPOSITION_MEASUREMENT, encode_body_composition(fat, parts, stamp=stamp, user=_USER)),
    ]


def _encode_user(user: int | None) -> bytes:
    return b"" if user is None else bytes((user,))
