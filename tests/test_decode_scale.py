import struct
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.decode import DECODERS
from gateway.model import Damaged, Measurement, Sample


def decode(name: str, text: str) -> Sample | Damaged:
    (made,) = DECODERS[f"gatt.{name}"]().feed(bytes.fromhex(text))
    return made


def test_imperial_stays_imperial() -> None:
    """157.00 lb and 70.0 in; BMI has one unit."""
    sample = decode("weight", "09 543d e100 bc02")
    assert isinstance(sample, Sample)
    assert [(each.code, str(each.value), each.unit) for each in sample.measurements] == [
        (188736, "157.00", "[lb_av]"),
        (188752, "22.5", "kg/m2"),
        (188740, "70.0", "[in_i]"),
    ]


@pytest.mark.parametrize(
    ("name", "text", "code"), [("weight", "00ffff", 188736), ("body_composition", "0000ffff", 188748)]
)
def test_an_unsuccessful_measurement_is_no_value(name: str, text: str, code: int) -> None:
    """The number ffff says that the scale could not measure."""
    sample = decode(name, text)
    assert isinstance(sample, Sample)
    assert (sample.measurements, sample.flags) == ((), (f"no-value:{code}:unsuccessful",))


def test_body_composition_of_several_packets_says_so() -> None:
    """Bit 12; the other half comes as a frame of its own."""
    sample = decode("body_composition", "0010c200")
    assert isinstance(sample, Sample)
    assert sample.flags == ("multi-packet",)


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("weight", "00b0", "weight is cut off: 1 of 2 bytes"),
        ("weight", "08b036f500", "height is cut off: 0 of 2 bytes"),
        ("weight", "00b03600", "1 bytes after the last field"),
        ("body_composition", "0000", "body fat is cut off: 0 of 2 bytes"),
        ("body_composition", "0800c200df", "basal metabolism is cut off: 1 of 2 bytes"),
        ("body_composition", "0002c200", "impedance is cut off: 0 of 2 bytes"),
        ("body_composition", "0000c20000", "1 bytes after the last field"),
    ],
)
def test_a_frame_that_breaks_the_format_is_damaged(name: str, text: str, reason: str) -> None:
    """The reason names the field, and the bytes are kept."""
    assert decode(name, text) == Damaged(frame=bytes.fromhex(text), reason=reason)


@settings(deadline=None)
@given(raw=st.integers(0, 0xFFFE), imperial=st.booleans())
def test_every_weight_is_exact(raw: int, *, imperial: bool) -> None:
    """0.005 kg or 0.01 lb a step, without a rounding."""
    (sample,) = DECODERS["gatt.weight"]().feed(struct.pack("<BH", imperial, raw))
    assert isinstance(sample, Sample)
    (weight,) = sample.measurements
    assert isinstance(weight.value, Decimal)
    assert Fraction(weight.value) == raw * (Fraction(1, 100) if imperial else Fraction(5, 1000))


@settings(deadline=None)
@given(flags=st.integers(0, 0xFFF), raw=st.integers(0, 0xFFFE))
def test_every_composition_is_read_to_its_end(flags: int, raw: int) -> None:
    """Whatever fields there are, each stands where its bit says."""
    optional = {3: None, 4: None, 5: None, 6: 188756, 7: 188760, 8: 188764, 9: None, 10: 188736, 11: 188740}
    frame = struct.pack("<HH", flags, raw)
    frame += bytes.fromhex("e8070b1d170839") * (flags >> 1 & 1) + b"\x01" * (flags >> 2 & 1)
    present = [bit for bit in optional if flags >> bit & 1]
    frame += b"".join(struct.pack("<H", 1000 + bit) for bit in present)
    (sample,) = DECODERS["gatt.body_composition"]().feed(frame)
    assert isinstance(sample, Sample)
    fat, *others = sample.measurements
    assert fat == Measurement(188748, Decimal(raw).scaleb(-1), "%")
    assert [each.code for each in others] == [code for bit in present if (code := optional[bit])]
