from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.decode.number import read_date_time, read_float, read_sfloat
from gateway.model import Special


@pytest.mark.parametrize(
    ("raw", "text"),
    [(0x0048, "72"), (0xF2D0, "72.0"), (0x2024, "3.6E+3"), (0x0FFF, "-1"), (0xF001, "0.1"), (0x8001, "1E-8")],
)
def test_sfloat_keeps_the_exponent_that_was_sent(raw: int, text: str) -> None:
    """72 and 72.0 are equal numbers of different precision, and differ as text."""
    assert str(read_sfloat(raw)) == text


@pytest.mark.parametrize(
    ("sfloat", "wide", "special"),
    [
        (0x07FF, 0x007FFFFF, Special.NAN),
        (0x0800, 0x00800000, Special.NRES),
        (0x07FE, 0x007FFFFE, Special.POSITIVE_INFINITY),
        (0x0802, 0x00800002, Special.NEGATIVE_INFINITY),
        (0x0801, 0x00800001, Special.RESERVED),
    ],
)
def test_specials_are_no_numbers(sfloat: int, wide: int, special: Special) -> None:
    """IEEE 11073-20601 reserves five mantissas with exponent 0, in both sizes."""
    assert read_sfloat(sfloat) is special
    assert read_float(wide) is special


def test_a_special_mantissa_with_an_exponent_is_a_number() -> None:
    """Specials are reserved with exponent 0 alone."""
    assert read_sfloat(0xF7FF) == Decimal("204.7")
    assert read_float(0xFF7FFFFF) == Decimal("838860.7")


@settings(deadline=None)
@given(mantissa=st.integers(-2045, 2045), exponent=st.integers(-8, 7))
def test_every_sfloat_round_trips(mantissa: int, exponent: int) -> None:
    """Mantissa and exponent come back as they were packed, whatever their signs."""
    value = read_sfloat((exponent & 0xF) << 12 | mantissa & 0xFFF)
    assert isinstance(value, Decimal)
    assert (
        value.as_tuple() == Decimal((int(mantissa < 0), Decimal(abs(mantissa)).as_tuple().digits, exponent)).as_tuple()
    )


@settings(deadline=None)
@given(mantissa=st.integers(-(2**23) + 3, 2**23 - 3), exponent=st.integers(-128, 127))
def test_every_float_round_trips(mantissa: int, exponent: int) -> None:
    """Mantissa and exponent come back as they were packed, whatever their signs."""
    value = read_float((exponent & 0xFF) << 24 | mantissa & 0xFFFFFF)
    assert isinstance(value, Decimal)
    assert (
        value.as_tuple() == Decimal((int(mantissa < 0), Decimal(abs(mantissa)).as_tuple().digits, exponent)).as_tuple()
    )


@settings(deadline=None)
@given(st.datetimes(min_value=datetime(1582, 10, 15), max_value=datetime(9999, 12, 31)))  # noqa: DTZ001 - hypothesis wants naive bounds
def test_every_date_time_round_trips(moment: datetime) -> None:
    """Seven bytes give the same second, taken as UTC."""
    moment = moment.replace(microsecond=0, tzinfo=UTC)
    packed = moment.year.to_bytes(2, "little") + bytes(
        (moment.month, moment.day, moment.hour, moment.minute, moment.second)
    )
    assert read_date_time(packed) == int(moment.timestamp()) * 1000


@settings(deadline=None)
@given(st.binary(min_size=7, max_size=7))
def test_any_seven_bytes_are_a_time_or_none(seven: bytes) -> None:
    """A stamp with unknown or impossible fields is None, never an error."""
    assert read_date_time(seven) is None or 0 < seven[2] <= 12
