"""Blood Pressure Measurement (0x2A35) and Intermediate Cuff Pressure (0x2A36), GATT cuffs.

    1e 8a 00 58 00 78 00 e8 07 04 11 14 29 3b 3c 00 01 27 00
    flags, systolic 138, diastolic 88, mean 120 (SFLOATs), 2024-04-17 20:41:59, pulse rate 60, user 1, status

flags: bit 0 kPa, not mmHg; bit 1 date time; bit 2 pulse rate (SFLOAT); bit 3 user (FF is unknown); bit 4 status of
16 bits: 0 body moved, 1 cuff too loose, 2 irregular pulse, 3 and 4 pulse rate out of the device's range (1 high, 2
low), 5 wrong position. Other flag bits are reserved; fields that they announce at the end are left to the kept frame.

    00 7d 00 ff 07 ff 07    intermediate: flags, 125 mmHg in the cuff, nothing, nothing

Intermediate cuff pressure has the same format, but its first SFLOAT is what the cuff's pressure is now, and the next
two are unused: it is no blood pressure and has a code of its own. A pulse rate in it is not the measurement's result
and is left to the kept frame.
Source: Blood Pressure Service 1.1.1, sections 3.1 and 3.2; GATT Specification Supplement; the code of cuff pressure is
MDC_PRESS_CUFF of IEEE 11073-10101.
"""

from gateway.decode.frame import Fields, name_bits, put
from gateway.model import Measurement, Sample

SYSTOLIC = 150021
DIASTOLIC = 150022
MEAN = 150023
PULSE_RATE = 149546
CUFF_PRESSURE = 150300
_PRESSURES = ((SYSTOLIC, "systolic pressure"), (DIASTOLIC, "diastolic pressure"), (MEAN, "mean arterial pressure"))
_STATUS_NAMES = (
    (1 << 0, "body-moved"),
    (1 << 1, "cuff-loose"),
    (1 << 2, "irregular-pulse"),
    (1 << 5, "position-wrong"),
)
_PULSE_RANGES = {1: "pulse-rate-high", 2: "pulse-rate-low"}


def read_blood_pressure(frame: bytes) -> Sample:
    """Give the pressures in mm[Hg] or kPa as reported and the pulse rate in /min; raises FormatError."""
    fields = Fields(frame)
    measurements: list[Measurement] = []
    notes: list[str] = []
    flags = fields.unsigned(1, "flags")
    for code, name in _PRESSURES:
        put(measurements, notes, code, fields.sfloat(name), _unit(flags))
    time_ms = fields.time_stamp(notes) if flags & 0x02 else None
    if flags & 0x04:
        put(measurements, notes, PULSE_RATE, fields.sfloat("pulse rate"), "/min")
    _read_tail(fields, flags, notes)
    return Sample(measurements=tuple(measurements), frame=frame, device_time_ms=time_ms, flags=tuple(notes))


def read_cuff_pressure(frame: bytes) -> Sample:
    """Give the cuff's pressure of now in mm[Hg] or kPa as reported; raises FormatError."""
    fields = Fields(frame)
    measurements: list[Measurement] = []
    notes: list[str] = []
    flags = fields.unsigned(1, "flags")
    put(measurements, notes, CUFF_PRESSURE, fields.sfloat("cuff pressure"), _unit(flags))
    fields.take(4, "unused pressures")
    time_ms = fields.time_stamp(notes) if flags & 0x02 else None
    if flags & 0x04:
        fields.take(2, "pulse rate")
    _read_tail(fields, flags, notes)
    return Sample(measurements=tuple(measurements), frame=frame, device_time_ms=time_ms, flags=tuple(notes))


def _unit(flags: int) -> str:
    return "kPa" if flags & 0x01 else "mm[Hg]"


def _read_tail(fields: Fields, flags: int, notes: list[str]) -> None:
    if flags & 0x08:
        fields.user(notes)
    if flags & 0x10:
        notes += _name_status(fields.unsigned(2, "measurement status"))
    fields.end(reserved=flags & 0xE0)


def _name_status(status: int) -> list[str]:
    pulse_range = _PULSE_RANGES.get(status >> 3 & 3)
    return name_bits(status, _STATUS_NAMES) + ([pulse_range] if pulse_range else [])
