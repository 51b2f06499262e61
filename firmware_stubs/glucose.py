"""The device's side of the Glucose Service: a meter that stores what it measures, with the meal that belongs to it.

    12 2a 00 ea 07 03 01 08 00 1e 5f b0 11    2A18: record 42, 2026-03-01 08:00:30, 95E-5 kg/L, capillary, finger
    02 2a 00 03                               2A34: its context: fasting

2A18, measurement: flags (bit 0 time offset, 1 concentration, 2 in mol/L and not kg/L, 3 sensor status, 4 a context
follows), sequence number, base time, offset in minutes, concentration (SFLOAT) with its type and the sample's location
(4 bits each), status of 16 bits. 2A34, context: flags, sequence number, then by flag: bit 7 extended flags, 0
carbohydrate (kind, SFLOAT kg), 1 meal, 2 tester and health (4 bits each), 3 exercise (seconds of 16 bits, %), 4
medication (kind, SFLOAT kg or, with bit 5, L), 6 HbA1c (SFLOAT %). Records are asked for by RACP.
Source: Glucose Service 1.0.1, 3.1 and 3.2; GATT Specification Supplement.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Final

from firmware_stubs.behaviour import RECORD_ACCESS, Behaviour, DeviceClock, Sent, describe
from firmware_stubs.ieee11073 import Number, date_time, sfloat
from firmware_stubs.peripheral import Characteristic, Peripheral, uuid_of
from firmware_stubs.physiology import Wearer
from firmware_stubs.racp import Record, RecordStore

GLUCOSE_MEASUREMENT: Final = uuid_of(0x2A18)
GLUCOSE_CONTEXT: Final = uuid_of(0x2A34)

MEASUREMENT_MS: Final = 60_000
HISTORY_RECORDS: Final = 24

_SWITCHED_ON: Final = datetime(2026, 3, 1, 8, tzinfo=UTC)
_HISTORY_STEP: Final = timedelta(hours=6)
_CAPILLARY_BLOOD: Final = 1
_FINGER: Final = 1
_KG_L_OF_MG_DL: Final = -5  # as a power of ten
# Before and after a meal, fasting, bedtime; each fourth record has no context.
_MEALS: Final = (3, 1, 2, None)
# What the meter measured while nobody was there to see it, around a usual day.
_HISTORY_MG_DL: Final = (94, 131, 118, 102)


@dataclass(frozen=True, slots=True, kw_only=True)
class Concentration:
    """How much glucose, in kg/L or mol/L, in what (1 capillary whole blood, ...) and from where (1 finger, ...)."""

    value: Number
    kind: int
    location: int
    is_molar: bool = False

    def __bytes__(self) -> bytes:
        return sfloat(self.value) + bytes((self.location << 4 | self.kind,))


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What goes with a measurement; pairs are kind and amount, tester and health, seconds and %."""

    carbohydrate: tuple[int, Number] | None = None
    meal: int | None = None
    tester_health: tuple[int, int] | None = None
    exercise: tuple[int, int] | None = None
    medication: tuple[int, Number] | None = None
    is_medication_in_litres: bool = False
    hba1c_percent: Number | None = None
    extended_flags: int | None = None


def encode_glucose(
    number: int,
    base_time: bytes,
    *,
    offset_min: int | None = None,
    concentration: Concentration | None = None,
    status: int | None = None,
    has_context: bool = False,
) -> bytes:
    """Return a Glucose Measurement (2A18); the base time is a date time."""
    flags = (offset_min is not None) | (concentration is not None) << 1 | (status is not None) << 3 | has_context << 4
    flags |= 1 << 2 if concentration is not None and concentration.is_molar else 0
    return (
        bytes((flags,))
        + number.to_bytes(2, "little")
        + base_time
        + (b"" if offset_min is None else offset_min.to_bytes(2, "little", signed=True))
        + (b"" if concentration is None else bytes(concentration))
        + (b"" if status is None else status.to_bytes(2, "little"))
    )


def encode_context(number: int, context: Context) -> bytes:
    """Return a Glucose Measurement Context (2A34)."""
    fields = {
        7: None if context.extended_flags is None else bytes((context.extended_flags,)),
        0: context.carbohydrate and _encode_amount(context.carbohydrate),
        1: None if context.meal is None else bytes((context.meal,)),
        2: context.tester_health and bytes((context.tester_health[1] << 4 | context.tester_health[0],)),
        3: context.exercise and context.exercise[0].to_bytes(2, "little") + bytes((context.exercise[1],)),
        4: context.medication and _encode_amount(context.medication),
        6: None if context.hba1c_percent is None else sfloat(context.hba1c_percent),
    }
    there = {bit: field for bit, field in fields.items() if field}
    flags = sum(1 << bit for bit in there) | context.is_medication_in_litres << 5
    return bytes((flags,)) + number.to_bytes(2, "little") + b"".join(there.values())


def glucose_meter(address: str) -> Peripheral:
    """Return a glucose meter: measurements, contexts, features (none), the record access control point, a clock."""
    characteristics = (
        Characteristic(uuid=GLUCOSE_MEASUREMENT, flags=("notify",)),
        Characteristic(uuid=GLUCOSE_CONTEXT, flags=("notify",)),
        Characteristic(uuid=uuid_of(0x2A51), flags=("read",), value=bytes(2)),
        Characteristic(uuid=RECORD_ACCESS, flags=("write", "indicate")),
    )
    return describe(address, "Simulated glucose meter", 0x1808, characteristics, has_clock=True)


class GlucoseMeter(Behaviour):
    """A meter with six days of records, which adds one a minute and sends what it is asked for.

    Its clock goes from the start on, at 2026-03-01 08:00:00.
    """

    def __init__(self, wearer: Wearer) -> None:
        super().__init__(DeviceClock(_SWITCHED_ON))
        self._wearer = wearer
        self._store = RecordStore()
        for number in range(1, HISTORY_RECORDS + 1):
            moment = _SWITCHED_ON - (HISTORY_RECORDS + 1 - number) * _HISTORY_STEP
            self._add(number, moment, _HISTORY_MG_DL[number % len(_HISTORY_MG_DL)])
        self._measured = 0

    def written(self, uuid: str, value: bytes) -> list[Sent]:
        """Answer to the record access control point and to the clock."""
        if uuid == RECORD_ACCESS:
            return self._store.written(value)
        return super().written(uuid, value)

    def left(self) -> None:
        """End what was being reported."""
        self._store.left()

    def tick(self, now_ms: float) -> list[Sent]:
        """Measure, when it is time to, and go on with a report."""
        super().tick(now_ms)
        self._wearer.advance(now_ms)
        if now_ms >= (self._measured + 1) * MEASUREMENT_MS:
            self._measured += 1
            number = HISTORY_RECORDS + self._measured
            self._add(number, self.clock.read(now_ms), self._wearer.body.glucose_mg_dl)
        return self._store.more()

    def _add(self, number: int, moment: datetime | None, mg_dl: int) -> None:
        meal = _MEALS[number % len(_MEALS)]
        concentration = Concentration(
            value=Decimal(mg_dl).scaleb(_KG_L_OF_MG_DL), kind=_CAPILLARY_BLOOD, location=_FINGER
        )
        measurement = encode_glucose(
            number, date_time(moment), concentration=concentration, has_context=meal is not None
        )
        context = [] if meal is None else [(GLUCOSE_CONTEXT, encode_context(number, Context(meal=meal)))]
        self._store.add(Record(number=number, report=((GLUCOSE_MEASUREMENT, measurement), *context)))


def _encode_amount(amount: tuple[int, Number]) -> bytes:
    return bytes((amount[0],)) + sfloat(amount[1])
