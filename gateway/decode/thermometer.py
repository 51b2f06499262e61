"""Temperature Measurement (0x2A1C) and Intermediate Temperature (0x2A1E), GATT thermometers.

    06 b0 0e 00 fe dc 07 0c 05 0b 32 1b 04    flags, FLOAT 37.60 Cel, 2012-12-05 11:50:27, type: finger

flags: bit 0 Fahrenheit, not Celsius; bit 1 date time; bit 2 temperature type, the place on the body. The place is a
flag of the sample ("site-finger"); the code stays that of body temperature. Other flag bits are reserved; fields that
they announce at the end are left to the kept frame.
Source: Health Thermometer Service 1.0, sections 3.1 and 3.3; GATT Specification Supplement, Temperature Type.
"""

from gateway.decode.frame import Fields, put
from gateway.model import Measurement, Sample

BODY_TEMPERATURE = 150364
_SITES = {
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


def read_temperature(frame: bytes) -> Sample:
    """Give the temperature in Cel or [degF] as reported, with the device's time; raises FormatError."""
    fields = Fields(frame)
    measurements: list[Measurement] = []
    notes: list[str] = []
    flags = fields.unsigned(1, "flags")
    put(measurements, notes, BODY_TEMPERATURE, fields.float("temperature"), "[degF]" if flags & 0x01 else "Cel")
    time_ms = fields.time_stamp(notes) if flags & 0x02 else None
    if flags & 0x04:
        site = _SITES.get(fields.unsigned(1, "temperature type"))
        notes += [site] if site else []
    fields.end(reserved=flags & 0xF8)
    return Sample(measurements=tuple(measurements), frame=frame, device_time_ms=time_ms, flags=tuple(notes))
