from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_stubs.sensors import encode_sfloat
from gateway.decode import DECODERS
from gateway.model import Damaged, Measurement, Sample

BASE = "0100 e307021b0b0a1e"
BASE_MS = 1551265830000


def decode(name: str, text: str) -> Sample | Damaged:
    (made,) = DECODERS[f"gatt.{name}"]().feed(bytes.fromhex(text))
    return made


@pytest.mark.parametrize(
    ("flags", "raw", "value", "unit"), [("02", "69d0", "0.105", "kg/L"), ("06", "3ac0", "0.0058", "mol/L")]
)
def test_units_stay_as_sent(flags: str, raw: str, value: str, unit: str) -> None:
    """kg/L and mol/L are two quantities; neither is turned into the other."""
    sample = decode("glucose", f"{flags} {BASE} {raw} 11")
    assert isinstance(sample, Sample)
    assert sample.measurements == (Measurement(160184, Decimal(value), unit),)
    assert sample.flags == ("device-clock", "site-finger")


@pytest.mark.parametrize(("name", "text"), [("glucose", "00 2a01 e307021b0b0a1e"), ("glucose_context", "00 2a01")])
def test_the_sequence_number_is_the_record(name: str, text: str) -> None:
    """298, by which a measurement and its context find each other."""
    sample = decode(name, text)
    assert isinstance(sample, Sample)
    assert sample.record == 298


@pytest.mark.parametrize(
    ("kind", "code"), [(1, 160184), (2, 160188), (8, 160368), (9, 160212), (10, 160208), (0, 160020), (15, 160020)]
)
def test_the_type_of_sample_chooses_the_code(kind: int, code: int) -> None:
    """A reserved type is glucose in general."""
    sample = decode("glucose", f"02 {BASE} 69d0 f{kind:x}")
    assert isinstance(sample, Sample)
    assert [each.code for each in sample.measurements] == [code]


@pytest.mark.parametrize(
    ("offset", "time_ms"), [("fbff", BASE_MS - 300_000), ("3c00", BASE_MS + 3_600_000), ("ff7f", None), ("0080", None)]
)
def test_time_is_base_and_offset(offset: str, time_ms: int | None) -> None:
    """7fff and 8000 are an offset that the meter could not hold."""
    sample = decode("glucose", f"01 {BASE} {offset}")
    assert isinstance(sample, Sample)
    assert sample.device_time_ms == time_ms
    assert sample.flags == (("unknown-time",) if time_ms is None else ("device-clock",))


def test_status_bits_become_flags() -> None:
    """Each of the twelve that are defined; reserved bits say nothing."""
    sample = decode("glucose", f"08 {BASE} 27f0")
    assert isinstance(sample, Sample)
    assert sample.flags == ("device-clock", "low-battery", "sensor-fault", "sample-too-small", "above-measurable")


def test_context() -> None:
    """Breakfast of 20 g, fasting, tested by the patient, stress, exercise, rapid insulin in litres, HbA1c."""
    sample = decode("glucose_context", "7f 0100 01 14d0 03 41 100e 32 01 0ca0 41f0")
    assert isinstance(sample, Sample)
    assert sample.measurements == (
        Measurement(8417768, Decimal("0.020"), "kg"),
        Measurement(8417760, 50, "%"),
        Measurement(8417800, Decimal("0.000012"), "L"),
        Measurement(160220, Decimal("6.5"), "%"),
    )
    assert sample.flags == ("fasting", "tested-by-patient", "stress")


def test_extended_flags_stand_before_carbohydrate() -> None:
    """They may announce fields that we do not know."""
    sample = decode("glucose_context", "81 0100 00 09 14d0 aabb")
    assert isinstance(sample, Sample)
    assert sample.measurements == (Measurement(8417764, Decimal("0.020"), "kg"),)


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("glucose", "0001", "sequence number is cut off: 1 of 2 bytes"),
        ("glucose", "000100e307", "base time is cut off: 2 of 7 bytes"),
        ("glucose", f"01{BASE}fb", "time offset is cut off: 1 of 2 bytes"),
        ("glucose", f"02{BASE}69", "glucose concentration is cut off: 1 of 2 bytes"),
        ("glucose", f"02{BASE}69d0", "type and sample location is cut off: 0 of 1 bytes"),
        ("glucose", f"08{BASE}27", "sensor status is cut off: 1 of 2 bytes"),
        ("glucose", f"00{BASE}27", "1 bytes after the last field"),
        ("glucose_context", "01010001", "carbohydrate is cut off: 0 of 2 bytes"),
        ("glucose_context", "080100100e", "exercise intensity is cut off: 0 of 1 bytes"),
        ("glucose_context", "10010001", "medication is cut off: 0 of 2 bytes"),
        ("glucose_context", "40010001", "HbA1c is cut off: 1 of 2 bytes"),
        ("glucose_context", "00010001", "1 bytes after the last field"),
    ],
)
def test_a_frame_that_breaks_the_format_is_damaged(name: str, text: str, reason: str) -> None:
    """The reason names the field, and the bytes are kept."""
    assert decode(name, text) == Damaged(frame=bytes.fromhex(text), reason=reason)


@settings(deadline=None)
@given(mantissa=st.integers(-2045, 2045), exponent=st.integers(-8, 7), molar=st.booleans())
def test_what_a_meter_packs_comes_back(mantissa: int, exponent: int, *, molar: bool) -> None:
    """Any SFLOAT that is a number, in either unit."""
    frame = bytes((0x06 if molar else 0x02,)) + bytes.fromhex(BASE) + encode_sfloat(mantissa, exponent) + b"\x11"
    (sample,) = DECODERS["gatt.glucose"]().feed(frame)
    assert isinstance(sample, Sample)
    value = Decimal(mantissa).scaleb(exponent)
    assert sample.measurements == (Measurement(160184, value, "mol/L" if molar else "kg/L"),)
