"""Temperature Measurement (0x2A1C), Intermediate Temperature (0x2A1E) and Temperature Type (0x2A1D), thermometers.

    06 b0 0e 00 fe dc 07 0c 05 0b 32 1b 04    flags, FLOAT 37.60 Cel, 2012-12-05 11:50:27, type: finger

flags: bit 0 Fahrenheit, not Celsius; bit 1 date time; bit 2 temperature type, the place on the body. The place is a
flag of the sample ("site-finger"); the code stays that of body temperature. Where a frame carries no type, the place
is the one that was learnt from Temperature Type, one byte, of a thermometer that is always used there. Other flag bits
are reserved; fields that they announce at the end are left to the kept frame.

An intermediate temperature has the same format, unit and code: it is a body temperature, on its way to the one that
will be indicated, and so it has the flag "intermediate".
Source: Health Thermometer Service 1.0, sections 3.1 to 3.3; GATT Specification Supplement, Temperature Type.
"""

from gateway.decode.frame import Fields, name_value, put
from gateway.model import Measurement, Sample

BODY_TEMPERATURE = 150364
TEMPERATURE_TYPE = "2a1d"
PLACES = {
    1: "site-armpit",
    2: "site-body",
    3: "site-ear",
    4: "site-finger",
    5: "site-gastrointestinal",
    6: "site-mouth",
    7: "site-rectum",
    8: "site-toe",
    9: "site-tympanum",
}


def read_temperature(frame: bytes, place: tuple[str, ...]) -> Sample:
    """Give the temperature in Cel or [degF] as reported, with the device's time; raises FormatError."""
    return _read(frame, place, [])


def read_intermediate_temperature(frame: bytes, place: tuple[str, ...]) -> Sample:
    """Give likewise a temperature that is not yet the result; raises FormatError."""
    return _read(frame, place, ["intermediate"])


def _read(frame: bytes, place: tuple[str, ...], notes: list[str]) -> Sample:
    fields = Fields(frame)
    measurements: list[Measurement] = []
    flags = fields.unsigned(1, "flags")
    put(measurements, notes, BODY_TEMPERATURE, fields.float("temperature"), "[degF]" if flags & 0x01 else "Cel")
    time_ms = fields.time_stamp(notes) if flags & 0x02 else None
    notes += name_value(PLACES, fields.unsigned(1, "temperature type")) if flags & 0x04 else place
    fields.end(reserved=flags & 0xF8)
    return Sample(measurements=tuple(measurements), frame=frame, device_time_ms=time_ms, flags=tuple(notes))
