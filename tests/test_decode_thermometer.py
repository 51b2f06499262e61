import struct
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.decode import DECODERS
from gateway.model import Damaged, Measurement, Sample


def decode(text: str) -> Sample | Damaged:
    (made,) = DECODERS["gatt.temperature"]().feed(bytes.fromhex(text))
    return made


@pytest.mark.parametrize(
    ("text", "value", "unit"),
    [("00 6c0100ff", "36.4", "Cel"), ("01 db0300ff", "98.7", "[degF]"), ("00 24000000", "36", "Cel")],
)
def test_the_unit_stays_as_reported(text: str, value: str, unit: str) -> None:
    """Fahrenheit is never turned into Celsius, and the digits are those that were sent."""
    sample = decode(text)
    assert isinstance(sample, Sample)
    (measurement,) = sample.measurements
    assert (measurement.code, str(measurement.value), measurement.unit) == (150364, value, unit)


@pytest.mark.parametrize(("site", "flags"), [(1, ("site-armpit",)), (9, ("site-tympanum",)), (0, ()), (10, ())])
def test_the_place_on_the_body_is_a_flag(site: int, flags: tuple[str, ...]) -> None:
    """Reserved types say nothing."""
    sample = decode(f"04 6c0100ff {site:02x}")
    assert isinstance(sample, Sample)
    assert sample.flags == flags


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "flags is cut off: 0 of 1 bytes"),
        ("006c0100", "temperature is cut off: 3 of 4 bytes"),
        ("026c0100ffdc070c050b32", "time stamp is cut off: 6 of 7 bytes"),
        ("046c0100ff", "temperature type is cut off: 0 of 1 bytes"),
        ("006c0100ff04", "1 bytes after the last field"),
    ],
)
def test_a_frame_that_breaks_the_format_is_damaged(text: str, reason: str) -> None:
    """The reason names the field, and the bytes are kept."""
    assert decode(text) == Damaged(frame=bytes.fromhex(text), reason=reason)


@settings(deadline=None)
@given(mantissa=st.integers(-(2**23) + 3, 2**23 - 3), exponent=st.integers(-128, 127), fahrenheit=st.booleans())
def test_what_a_thermometer_packs_comes_back(mantissa: int, exponent: int, *, fahrenheit: bool) -> None:
    """Any FLOAT that is a number, in either unit."""
    frame = struct.pack("<BI", fahrenheit, (exponent & 0xFF) << 24 | mantissa & 0xFFFFFF)
    unit = "[degF]" if fahrenheit else "Cel"
    assert DECODERS["gatt.temperature"]().feed(frame) == [
        Sample(measurements=(Measurement(150364, Decimal(mantissa).scaleb(exponent), unit),), frame=frame)
    ]
