"""Glucose Measurement (0x2A18) and Glucose Measurement Context (0x2A34), GATT glucose meters.

    1b 01 00 e3 07 02 1b 0b 0a 1e fb ff 69 d0 11 05 01
    flags, sequence 1, 2019-02-27 11:10:30, offset -5 min, 105E-3 kg/L, capillary whole blood of a finger, status

Measurement, after flags, sequence number (16 bits) and base time: bit 0 a time offset in minutes (7fff and 8000: out
of its range), bit 1 the concentration (SFLOAT) and its type and sample location (4 bits each), bit 2 it is in mol/L,
not kg/L, bit 3 sensor status of 16 bits, bit 4 a context follows. The code is that of the type; the location is a
flag ("site-finger"). Units stay as they are sent: kg/L x 10^5 = mg/dL, mol/L x 10^3 = mmol/L.

    45 01 00 01 14 d0 28 00    context: flags, sequence 1, breakfast, 20E-3 kg, HbA1c 40 %

Context, after flags and sequence number: bit 7 extended flags (8 bits), bit 0 carbohydrate (kind, SFLOAT in kg), bit 1
meal, bit 2 tester and health (4 bits each), bit 3 exercise (seconds, then % of intensity), bit 4 medication (kind,
SFLOAT in kg or, with bit 5, L), bit 6 HbA1c (SFLOAT, %). Seconds of exercise are left to the kept frame. A context
belongs to the measurement with the same sequence number, which is each sample's record. Reserved bits are treated as
elsewhere.
Source: Glucose Service 1.0.1, sections 3.1 and 3.2; GATT Specification Supplement.
"""

from gateway.decode.frame import Fields, name_bits, name_value, put
from gateway.model import Measurement, Sample

GLUCOSE = 160020
HBA1C = 160220
CARBOHYDRATE = 8417764
MEDICATION = 8417796
EXERCISE = 8417760
GLUCOSE_TYPES = {
    1: 160184,  # capillary whole blood
    2: 160188,  # capillary plasma
    3: 160192,  # venous whole blood
    4: 160196,  # venous plasma
    5: 160200,  # arterial whole blood
    6: 160204,  # arterial plasma
    7: 160364,  # undetermined whole blood
    8: 160368,  # undetermined plasma
    9: 160212,  # interstitial fluid
    10: 160208,  # control solution
}
LOCATIONS = {1: "site-finger", 2: "site-alternate", 3: "site-ear-lobe", 4: "control-solution"}
_STATUS_NAMES = (
    (1 << 0, "low-battery"),
    (1 << 1, "sensor-fault"),
    (1 << 2, "sample-too-small"),
    (1 << 3, "strip-misplaced"),
    (1 << 4, "strip-wrong"),
    (1 << 5, "above-measurable"),
    (1 << 6, "below-measurable"),
    (1 << 7, "sensor-too-hot"),
    (1 << 8, "sensor-too-cold"),
    (1 << 9, "strip-pulled-early"),
    (1 << 10, "malfunction"),
    (1 << 11, "clock-fault"),
)
_KINDS_OF_CARBOHYDRATE = 7
_KINDS_OF_MEDICATION = 5
_MEALS = {1: "before-meal", 2: "after-meal", 3: "fasting", 4: "casual-meal", 5: "bedtime"}
_TESTERS = {1: "tested-by-patient", 2: "tested-by-professional", 3: "tested-by-laboratory"}
_HEALTH = {1: "minor-illness", 2: "major-illness", 3: "menses", 4: "stress", 5: "healthy"}
_OFFSET_OVERRUN, _OFFSET_UNDERRUN = 0x7FFF, -0x8000
_MINUTE_MS = 60_000


def read_glucose(frame: bytes) -> Sample:
    """Give the concentration in kg/L or mol/L as reported, with the device's time; raises FormatError."""
    fields = Fields(frame)
    measurements: list[Measurement] = []
    notes: list[str] = []
    flags = fields.unsigned(1, "flags")
    sequence = fields.unsigned(2, "sequence number")
    time_ms = _read_time(fields, notes, has_offset=bool(flags & 0x01))
    if flags & 0x02:
        _read_concentration(fields, measurements, notes, "mol/L" if flags & 0x04 else "kg/L")
    if flags & 0x08:
        notes += name_bits(fields.unsigned(2, "sensor status"), _STATUS_NAMES)
    fields.end(reserved=flags & 0xE0)
    return Sample(
        measurements=tuple(measurements), frame=frame, device_time_ms=time_ms, flags=tuple(notes), record=sequence
    )


def read_glucose_context(frame: bytes) -> Sample:
    """Give carbohydrate and medication in kg or L, exercise and HbA1c in %; raises FormatError."""
    fields = Fields(frame)
    measurements: list[Measurement] = []
    notes: list[str] = []
    flags = fields.unsigned(1, "flags")
    sequence = fields.unsigned(2, "sequence number")
    if flags & 0x80:
        fields.take(1, "extended flags")
    if flags & 0x01:
        kind, value = fields.unsigned(1, "carbohydrate id"), fields.sfloat("carbohydrate")
        put(measurements, notes, _code_of_kind(CARBOHYDRATE, kind, _KINDS_OF_CARBOHYDRATE), value, "kg")
    if flags & 0x02:
        notes += name_value(_MEALS, fields.unsigned(1, "meal"))
    if flags & 0x04:
        both = fields.unsigned(1, "tester and health")
        notes += name_value(_TESTERS, both & 0xF) + name_value(_HEALTH, both >> 4)
    if flags & 0x08:
        fields.take(2, "exercise duration")
        measurements.append(Measurement(EXERCISE, fields.unsigned(1, "exercise intensity"), "%"))
    if flags & 0x10:
        kind, value = fields.unsigned(1, "medication id"), fields.sfloat("medication")
        unit = "L" if flags & 0x20 else "kg"
        put(measurements, notes, _code_of_kind(MEDICATION, kind, _KINDS_OF_MEDICATION), value, unit)
    if flags & 0x40:
        put(measurements, notes, HBA1C, fields.sfloat("HbA1c"), "%")
    fields.end(reserved=flags & 0x80)
    return Sample(measurements=tuple(measurements), frame=frame, flags=tuple(notes), record=sequence)


def _read_time(fields: Fields, notes: list[str], *, has_offset: bool) -> int | None:
    base = fields.take(7, "base time")
    offset_min = fields.signed(2, "time offset") if has_offset else 0
    in_range = offset_min not in (_OFFSET_OVERRUN, _OFFSET_UNDERRUN)
    base_ms = Fields(base).time_stamp(notes, clock_set=in_range)
    return None if base_ms is None else base_ms + offset_min * _MINUTE_MS


def _read_concentration(fields: Fields, measurements: list[Measurement], notes: list[str], unit: str) -> None:
    value = fields.sfloat("glucose concentration")
    both = fields.unsigned(1, "type and sample location")
    put(measurements, notes, GLUCOSE_TYPES.get(both & 0xF, GLUCOSE), value, unit)
    notes += name_value(LOCATIONS, both >> 4)


def _code_of_kind(general: int, kind: int, kinds: int) -> int:
    """Give a kind's code: they follow the general one four apart; a reserved kind has the general one."""
    return general + 4 * kind if 1 <= kind <= kinds else general
