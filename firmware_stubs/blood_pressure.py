"""The device's side of the Blood Pressure Service: a cuff that measures, wakes, indicates and sleeps again.

    16 7a 00 50 00 5e 00 ea 07 03 01 08 00 1e 3e 00 00 00    122/80, mean 94 mmHg, stamp, pulse 62/min, status

2A35: flags (bit 0 kPa, 1 date time, 2 pulse, 3 user, 4 status), systolic, diastolic, mean (SFLOATs), date time, pulse
(SFLOAT), user (FF unknown), status of 16 bits: 0 body moved, 1 cuff loose, 2 irregular pulse, 3 and 4 pulse above or
below the range, 5 wrong position. 2A36, the cuff's pressure on its way: the same, with NaN for diastolic and mean.
A clock that is not set stamps with a date of 0. Source: Blood Pressure Service 1.1.1, 3.1 and 3.2.
"""

from typing import Final

from firmware_stubs.behaviour import Sent, describe
from firmware_stubs.ieee11073 import Number, Special, date_time, sfloat
from firmware_stubs.intermittent import Intermittent
from firmware_stubs.peripheral import Characteristic, Peripheral, uuid_of
from firmware_stubs.physiology import Wearer

BLOOD_PRESSURE_MEASUREMENT: Final = uuid_of(0x2A35)
INTERMEDIATE_CUFF_PRESSURE: Final = uuid_of(0x2A36)

FIRST_MEASUREMENT_MS: Final = 5000
MEASUREMENT_MS: Final = 60_000
INFLATION_MS: Final = 10_000

# How far a cuff is inflated over the systolic pressure.
_OVER_SYSTOLIC_MMHG: Final = 40

# Blood pressure feature, 2A49: body movement and irregular pulse are detected.
_FEATURES: Final = (1 << 0 | 1 << 2).to_bytes(2, "little")


def encode_blood_pressure(
    pressures: tuple[Number, Number, Number],
    *,
    is_kpa: bool = False,
    stamp: bytes = b"",
    pulse_per_min: Number | None = None,
    user: int | None = None,
    status: int | None = None,
) -> bytes:
    """Return a Blood Pressure Measurement (2A35) of systolic, diastolic, mean; the stamp is a date time, or nothing."""
    flags = is_kpa | bool(stamp) << 1
    flags |= (pulse_per_min is not None) << 2 | (user is not None) << 3 | (status is not None) << 4
    return (
        bytes((flags,))
        + b"".join(map(sfloat, pressures))
        + stamp
        + (b"" if pulse_per_min is None else sfloat(pulse_per_min))
        + (b"" if user is None else bytes((user,)))
        + (b"" if status is None else status.to_bytes(2, "little"))
    )


def encode_cuff_pressure(pressure: Number, *, is_kpa: bool = False) -> bytes:
    """Return an Intermediate Cuff Pressure (2A36)."""
    return encode_blood_pressure((pressure, Special.NAN, Special.NAN), is_kpa=is_kpa)


def blood_pressure_cuff(address: str) -> Peripheral:
    """Return an upper arm cuff whose clock wants to be set."""
    return _cuff(address, Characteristic(uuid=BLOOD_PRESSURE_MEASUREMENT, flags=("indicate",)))


def inflating_cuff(address: str) -> Peripheral:
    """Return a cuff that also tells its pressure on the way."""
    return _cuff(
        address,
        Characteristic(uuid=BLOOD_PRESSURE_MEASUREMENT, flags=("indicate",)),
        Characteristic(uuid=INTERMEDIATE_CUFF_PRESSURE, flags=("notify",)),
    )


def _cuff(address: str, *measured: Characteristic) -> Peripheral:
    features = Characteristic(uuid=uuid_of(0x2A49), flags=("read",), value=_FEATURES)
    return describe(address, "Simulated cuff", 0x1810, (*measured, features), has_clock=True)


class BloodPressureCuff(Intermittent):
    """A cuff that measures after five seconds and then once a minute."""

    def __init__(self, wearer: Wearer) -> None:
        super().__init__()
        self._wearer = wearer
        self._due_ms = float(FIRST_MEASUREMENT_MS)

    def tick(self, now_ms: float) -> list[Sent]:
        """Measure, when it is time to."""
        super().tick(now_ms)
        self._wearer.advance(now_ms)
        if now_ms >= self._due_ms:
            self._due_ms += MEASUREMENT_MS
            self.store([(BLOOD_PRESSURE_MEASUREMENT, self._measure())])
        return self.heard()

    def _measure(self) -> bytes:
        body = self._wearer.body
        return encode_blood_pressure(
            (body.systolic_mmhg, body.diastolic_mmhg, body.mean_mmhg),
            stamp=date_time(self.clock.read(self.now_ms)),
            pulse_per_min=self._wearer.rate_per_min(),
            status=0,
        )


class InflatingCuff(BloodPressureCuff):
    """A cuff that is awake from when it begins to inflate, ten seconds before the measurement.

    While it inflates it tells its pressure, of which it keeps nothing, once a second to who listens.
    """

    def __init__(self, wearer: Wearer) -> None:
        super().__init__(wearer)
        self._due_ms += INFLATION_MS

    def tick(self, now_ms: float) -> list[Sent]:
        """Inflate or measure, when it is time to."""
        sent = super().tick(now_ms)
        inflated_ms = now_ms - self._due_ms + INFLATION_MS
        if inflated_ms < 0:
            return sent
        self.wake()
        if not self.is_heard(INTERMEDIATE_CUFF_PRESSURE):
            return sent
        highest = self._wearer.body.systolic_mmhg + _OVER_SYSTOLIC_MMHG
        pressure = encode_cuff_pressure(round(highest * inflated_ms / INFLATION_MS))
        return [*sent, (INTERMEDIATE_CUFF_PRESSURE, pressure)]
