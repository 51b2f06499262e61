from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_stubs.sensors import encode_sfloat
from gateway.decode import DECODERS
from gateway.model import Damaged, Measurement, Sample


def decode(text: str) -> Sample | Damaged:
    (made,) = DECODERS["gatt.blood_pressure"]().feed(bytes.fromhex(text))
    return made


def test_all_fields() -> None:
    """138/88 (120) mmHg, 2024-04-17 20:41:59, 60 /min, user 1, irregular pulse."""
    assert decode("1e 8a00 5800 7800 e8070411 14293b 3c00 01 0400") == Sample(
        measurements=(
            Measurement(150021, Decimal(138), "mm[Hg]"),
            Measurement(150022, Decimal(88), "mm[Hg]"),
            Measurement(150023, Decimal(120), "mm[Hg]"),
            Measurement(149546, Decimal(60), "/min"),
        ),
        frame=bytes.fromhex("1e8a0058007800e807041114293b3c00010400"),
        device_time_ms=1713386519000,
        flags=("device-clock", "user-1", "irregular-pulse"),
    )


def test_kilopascal_stays_kilopascal() -> None:
    """18.9/11.0 kPa, and a mean that the cuff did not compute."""
    sample = decode("01 bdf0 6ef0 ff07")
    assert isinstance(sample, Sample)
    assert [(str(each.value), each.unit) for each in sample.measurements] == [("18.9", "kPa"), ("11.0", "kPa")]
    assert sample.flags == ("no-value:150023:NaN",)


@pytest.mark.parametrize(
    ("status", "flags"),
    [
        ("2300", ("body-moved", "cuff-loose", "position-wrong")),
        ("0800", ("pulse-rate-high",)),
        ("1000", ("pulse-rate-low",)),
        ("1800", ()),
        ("c0ff", ()),
    ],
)
def test_status_bits_become_flags(status: str, flags: tuple[str, ...]) -> None:
    """Reserved bits, and the reserved pulse range 3, say nothing."""
    sample = decode(f"10 8a00 5800 7800 {status}")
    assert isinstance(sample, Sample)
    assert sample.flags == flags


def test_an_unknown_user_is_none() -> None:
    """FF is nobody."""
    sample = decode("08 8a00 5800 7800 ff")
    assert isinstance(sample, Sample)
    assert sample.flags == ()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("00", "systolic pressure is cut off: 0 of 2 bytes"),
        ("008a0058", "diastolic pressure is cut off: 1 of 2 bytes"),
        ("048a0058007800", "pulse rate is cut off: 0 of 2 bytes"),
        ("088a0058007800", "user id is cut off: 0 of 1 bytes"),
        ("108a005800780000", "measurement status is cut off: 1 of 2 bytes"),
        ("008a005800780000", "1 bytes after the last field"),
    ],
)
def test_a_frame_that_breaks_the_format_is_damaged(text: str, reason: str) -> None:
    """The reason names the field, and the bytes are kept."""
    assert decode(text) == Damaged(frame=bytes.fromhex(text), reason=reason)


def test_the_pressure_in_the_cuff_is_no_systolic_one() -> None:
    """Intermediate Cuff Pressure: 2A35's format, its first pressure alone; a pulse rate is no result yet."""
    (sample,) = DECODERS["gatt.cuff_pressure"]().feed(bytes.fromhex("1e 7d00 ff07 ff07 e8070411 14293b 3c00 01 0300"))
    assert isinstance(sample, Sample)
    assert sample.measurements == (Measurement(150300, Decimal(125), "mm[Hg]"),)
    assert sample.device_time_ms == 1713386519000
    assert sample.flags == ("device-clock", "user-1", "body-moved", "cuff-loose")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("007d", "cuff pressure is cut off: 1 of 2 bytes"),
        ("007d00ff07ff", "unused pressures is cut off: 3 of 4 bytes"),
        ("047d00ff07ff07", "pulse rate is cut off: 0 of 2 bytes"),
        ("007d00ff07ff0700", "1 bytes after the last field"),
    ],
)
def test_a_cuff_pressure_that_breaks_the_format_is_damaged(text: str, reason: str) -> None:
    """The reason names the field, and the bytes are kept."""
    frame = bytes.fromhex(text)
    assert DECODERS["gatt.cuff_pressure"]().feed(frame) == [Damaged(frame=frame, reason=reason)]


@settings(deadline=None)
@given(
    pressures=st.tuples(*[st.integers(-2045, 2045)] * 3),
    exponent=st.integers(-8, 7),
    pulse=st.none() | st.integers(-2045, 2045),
)
def test_what_a_cuff_packs_comes_back(pressures: tuple[int, ...], exponent: int, pulse: int | None) -> None:
    """Any SFLOATs that are numbers, with and without a pulse rate."""
    frame = bytes((0 if pulse is None else 4,)) + b"".join(encode_sfloat(each, exponent) for each in pressures)
    frame += b"" if pulse is None else encode_sfloat(pulse)
    (sample,) = DECODERS["gatt.blood_pressure"]().feed(frame)
    assert isinstance(sample, Sample)
    assert [each.value for each in sample.measurements] == [
        *(Decimal(each).scaleb(exponent) for each in pressures),
        *(() if pulse is None else (Decimal(pulse),)),
    ]
