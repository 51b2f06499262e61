"""What the simulated patients go through: curves over time, one scenario a name, and the body that they give.

A curve is key points (seconds, value), straight lines between them, and begins again after the last. The numbers are
invented, within what a textbook calls usual for an adult; nobody was measured.
"""

import math
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

# Seconds and value; the first second is 0, and the last point has the first one's value.
Curve = tuple[tuple[float, float], ...]

_MEASURED_KG: Final = Decimal("72.480")
_FAT_PERCENT: Final = 22.4
_IMPEDANCE_OHM: Final = 512.3


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """How a patient's state moves: rates a minute, saturation in %, temperature in Cel, pressures in mmHg, mg/dL.

    `sinus_share` is how much of an interval breathing adds and takes; `jitter_share` the deviation of chance.
    """

    rate: Curve
    spo2: Curve
    temperature: Curve
    systolic: Curve
    diastolic: Curve
    respiration: Curve
    glucose: Curve
    perfusion: Curve
    sinus_share: float
    jitter_share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """A body at one moment, as exact as good instruments show it."""

    temperature_cel: Decimal
    systolic_mmhg: int
    diastolic_mmhg: int
    mean_mmhg: int
    glucose_mg_dl: int
    weight_kg: Decimal
    fat_percent: Decimal
    impedance_ohm: Decimal
    respiration_per_min: int
    perfusion_percent: Decimal


def steady(value: float) -> Curve:
    """Return the curve that does not move."""
    return ((0, value), (60, value))


def value_at(curve: Curve, now_ms: float) -> float:
    """Return the curve's value at a time, which may be over its last point."""
    now_s = now_ms / 1000 % curve[-1][0]
    after = bisect_right(curve, now_s, key=lambda point: point[0])
    (left_s, left), (right_s, right) = curve[after - 1], curve[after]
    return left + (right - left) * (now_s - left_s) / (right_s - left_s)


def body_at(scenario: Scenario, now_ms: float) -> Body:
    """Return the body that a scenario gives at a time; pressure has waves of 10 s, the rest slower ones."""
    wave, tide = math.sin(now_ms * math.tau / 10_000), math.sin(now_ms * math.tau / 300_000)
    systolic = round(value_at(scenario.systolic, now_ms) + 3 * wave)
    diastolic = round(value_at(scenario.diastolic, now_ms) + 2 * wave)
    return Body(
        temperature_cel=exact(value_at(scenario.temperature, now_ms) + 0.04 * tide, 2),
        systolic_mmhg=systolic,
        diastolic_mmhg=diastolic,
        mean_mmhg=round(diastolic + (systolic - diastolic) / 3),
        glucose_mg_dl=round(value_at(scenario.glucose, now_ms) + 4 * tide),
        weight_kg=_MEASURED_KG + Decimal("0.005") * round(4 * tide),
        fat_percent=exact(_FAT_PERCENT + 0.3 * tide, 1),
        impedance_ohm=exact(_IMPEDANCE_OHM - 5 * tide, 1),
        respiration_per_min=round(value_at(scenario.respiration, now_ms)),
        perfusion_percent=exact(value_at(scenario.perfusion, now_ms) + 0.2 * wave, 2),
    )


def exact(value: float, places: int) -> Decimal:
    """Return the decimal with that many places that is nearest to the value."""
    return Decimal(round(value * 10**places)).scaleb(-places)


REST: Final = Scenario(
    rate=((0, 62), (90, 66), (150, 63), (240, 62)),
    spo2=((0, 97.4), (70, 98.3), (160, 97.0), (240, 97.4)),
    temperature=steady(36.62),
    systolic=steady(118),
    diastolic=steady(76),
    respiration=steady(14),
    glucose=((0, 92), (3600, 138), (9000, 96), (14_400, 92)),
    perfusion=steady(3.6),
    sinus_share=0.045,
    jitter_share=0.012,
)

SCENARIOS: Final[Mapping[str, Scenario]] = {
    "rest": REST,
    "exercise": Scenario(
        rate=((0, 68), (60, 68), (150, 138), (330, 156), (420, 108), (600, 68)),
        spo2=((0, 98), (150, 96.4), (330, 95.2), (420, 97), (600, 98)),
        temperature=((0, 36.7), (60, 36.7), (330, 37.9), (600, 36.7)),
        systolic=((0, 122), (60, 122), (330, 176), (600, 122)),
        diastolic=((0, 78), (60, 78), (330, 84), (600, 78)),
        respiration=((0, 15), (60, 15), (330, 36), (600, 15)),
        glucose=((0, 104), (330, 84), (600, 104)),
        perfusion=((0, 3.2), (330, 6.4), (600, 3.2)),
        sinus_share=0.012,
        jitter_share=0.008,
    ),
    "fever": Scenario(
        rate=((0, 84), (1200, 112), (2400, 106), (3600, 84)),
        spo2=((0, 96.4), (1200, 94.6), (3600, 96.4)),
        temperature=((0, 37.4), (1200, 39.6), (2400, 39.1), (3600, 37.4)),
        systolic=((0, 116), (1200, 106), (3600, 116)),
        diastolic=((0, 72), (1200, 62), (3600, 72)),
        respiration=((0, 18), (1200, 26), (3600, 18)),
        glucose=((0, 118), (1200, 132), (3600, 118)),
        perfusion=((0, 4.2), (1200, 7.1), (3600, 4.2)),
        sinus_share=0.015,
        jitter_share=0.008,
    ),
    "desaturation": Scenario(
        rate=((0, 64), (30, 64), (75, 88), (105, 96), (130, 72), (180, 64)),
        spo2=((0, 96.6), (30, 96.6), (90, 79), (105, 82), (130, 95.2), (180, 96.6)),
        temperature=steady(36.5),
        systolic=((0, 124), (30, 124), (105, 152), (180, 124)),
        diastolic=((0, 80), (30, 80), (105, 94), (180, 80)),
        respiration=((0, 14), (28, 14), (32, 3), (95, 3), (100, 28), (180, 14)),
        glucose=steady(101),
        perfusion=((0, 2.8), (90, 1.1), (180, 2.8)),
        sinus_share=0.04,
        jitter_share=0.012,
    ),
    "af": Scenario(
        rate=((0, 104), (200, 126), (400, 98), (600, 104)),
        spo2=((0, 95.8), (200, 94.7), (600, 95.8)),
        temperature=steady(36.7),
        systolic=((0, 128), (200, 114), (600, 128)),
        diastolic=((0, 82), (200, 76), (600, 82)),
        respiration=steady(18),
        glucose=steady(112),
        perfusion=steady(2.1),
        sinus_share=0.0,
        jitter_share=0.21,
    ),
}
