import struct
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.decode import DECODERS, Learner
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
    ("type_value", "text", "flags"),
    [
        ("03", "00 6c0100ff", ("site-ear",)),
        ("03", "04 6c0100ff 06", ("site-mouth",)),
        ("03", "04 6c0100ff 00", ()),
        ("00", "00 6c0100ff", ()),
        ("", "00 6c0100ff", ()),
        ("0303", "00 6c0100ff", ()),
    ],
)
def test_the_static_type_is_used_where_a_frame_has_none(type_value: str, text: str, flags: tuple[str, ...]) -> None:
    """Temperature Type 2A1D, as the Health Thermometer Service has it; a frame's own type wins."""
    decoder = DECODERS["gatt.temperature"]()
    assert isinstance(decoder, Learner)
    decoder.learn("2a1d", bytes.fromhex(type_value))
    decoder.learn("2a38", b"\x01")
    (sample,) = decoder.feed(bytes.fromhex(text))
    assert isinstance(sample, Sample)
    assert sample.flags == flags


def test_an_intermediate_temperature_says_so() -> None:
    """The Health Thermometer Service's format, 2012-12-05 11:50:27, finger, and a place that was learnt before."""
    decoder = DECODERS["gatt.intermediate_temperature"]()
    assert isinstance(decoder, Learner)
    decoder.learn("2a1d", b"\x03")
    made = decoder.feed(bytes.fromhex("06b00e00fedc070c050b321b04")) + decoder.feed(bytes.fromhex("00b00e00fe"))
    assert [each.flags for each in made if isinstance(each, Sample)] == [
        ("intermediate", "device-clock", "site-finger"),
        ("intermediate", "site-ear"),
    ]
    assert {each.measurements for each in made if isinstance(each, Sample)} == {
        (Measurement(150364, Decimal("37.60"), "Cel"),)
    }


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
