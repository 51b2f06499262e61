"""Masimo ASCII 1, the serial line of Rad-8, Radical-7 and their kin: 9600 baud, 8N1, one line a second.

    02/22/16 22:47:45 SN=0000056661 SPO2=098% BPM=097 PI=03.60% SPCO=--.-% ... ALARM=0000 EXC=000800

Month, day, year of this century and time by the device's clock, then fields that vary with the model, each NAME=VALUE
with an optional % sign. Dashes are no value. SPO2, BPM and EXC are always there; without EXC, which stands at or near
the end, the line was cut off. EXC is hexadecimal: 1 no sensor, 2 defective sensor, 4 low perfusion, 8 pulse search, 10
interference, 20 sensor off patient, 40 ambient light, 80 unrecognised sensor, 400 low signal quality, 800 normal
operation. There is no checksum, so a line is taken only where every field has its form. Alarms and the other
parameters are left to the kept frame.
Source: Masimo, serial interface of Rad-8 and Radical-7, ASCII 1 output; public captures of a Rad-8.
"""

import re
from datetime import UTC, datetime
from decimal import Decimal

from gateway.decode.frame import FormatError, name_bits
from gateway.decode.stream import Lines
from gateway.model import Measurement, Sample

SPO2 = 150456
PULSE_RATE = 149530
PERFUSION_INDEX = 150448
_TIME_SIZE = len("MM/DD/yy HH:MM:SS")
_START = re.compile(rb"\d\d/\d\d/\d\d \d\d:\d\d:\d\d")
_FIELD = re.compile(r"([A-Z0-9]+)=([-+.0-9A-F]+)%?")
_VITALS = (
    (SPO2, "SPO2", re.compile(r"[0-9]{1,3}|-+"), "%"),
    (PULSE_RATE, "BPM", re.compile(r"[0-9]{1,3}|-+"), "/min"),
    (PERFUSION_INDEX, "PI", re.compile(r"[0-9]+\.[0-9]+|-+\.-+"), "%"),
)
_EXCEPTIONS = re.compile(r"[0-9A-F]{3,8}")
_EXCEPTION_NAMES = (
    (0x001, "sensor-disconnected"),
    (0x002, "sensor-fault"),
    (0x004, "low-perfusion"),
    (0x008, "searching"),
    (0x010, "interference"),
    (0x020, "sensor-off"),
    (0x040, "ambient-light"),
    (0x080, "unknown-sensor"),
    (0x400, "poor-signal"),
)


def build_masimo_ascii1() -> Lines:
    """Make a decoder of ASCII 1 lines: a sample is one line with SpO2, pulse rate and, where shown, perfusion index."""
    return Lines(start=_START, read=_read_line)


def _read_line(line: bytes) -> Sample:
    fields = _split(line.decode("ascii", "replace"))
    measurements: list[Measurement] = []
    notes: list[str] = []
    for code, name, form, unit in _VITALS:
        if name in fields:
            _put(measurements, notes, code, _check(name, fields[name], form), unit)
    exceptions = int(_check("EXC", fields["EXC"], _EXCEPTIONS), 16)
    time_ms = _read_time(line[:_TIME_SIZE].decode("ascii"))
    notes.append("unknown-time" if time_ms is None else "device-clock")
    notes += name_bits(exceptions, _EXCEPTION_NAMES)
    return Sample(measurements=tuple(measurements), frame=line, device_time_ms=time_ms, flags=tuple(notes))


def _split(line: str) -> dict[str, str]:
    """Give the line's fields by name; raises FormatError where one has not the form of a field, or one is missing."""
    fields = {}
    for word in line[_TIME_SIZE:].split():
        match = _FIELD.fullmatch(word)
        if match is None or match[1] in fields:
            raise FormatError(f"field {word!r} is no field or repeats one")
        fields[match[1]] = match[2]
    for name in ("SPO2", "BPM", "EXC"):
        if name not in fields:
            raise FormatError(f"{name} is missing")
    return fields


def _check(name: str, value: str, form: re.Pattern[str]) -> str:
    if not form.fullmatch(value):
        raise FormatError(f"{name} is {value}")
    return value


def _put(measurements: list[Measurement], notes: list[str], code: int, value: str, unit: str) -> None:
    if value.startswith("-"):
        notes.append(f"no-value:{code}:missing")
    else:
        measurements.append(Measurement(code, Decimal(value) if "." in value else int(value), unit))


def _read_time(text: str) -> int | None:
    month, day, year, hour, minute, second = (int(digits) for digits in re.findall(r"\d\d", text))
    try:
        moment = datetime(2000 + year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError:
        return None
    return int(moment.timestamp()) * 1000
