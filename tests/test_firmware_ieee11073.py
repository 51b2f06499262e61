from datetime import UTC, datetime
from decimal import Decimal

import pytest

from firmware_stubs.ieee11073 import (
    Special,
    current_time,
    date_time,
    encode_float,
    encode_sfloat,
    medical_float,
    read_current_time,
    read_date_time,
    sfloat,
)

MOMENT = datetime(2012, 12, 5, 11, 50, 27, tzinfo=UTC)


@pytest.mark.parametrize(
    ("number", "octets"),
    [
        (Decimal("-16.2"), "5eff"),
        (97, "6100"),
        (Decimal("97.0"), "caf3"),
        (Decimal("1E+7"), "0170"),
        (Special.NAN, "ff07"),
        (Special.NRES, "0008"),
        (Special.POSITIVE_INFINITY, "fe07"),
        (Special.NEGATIVE_INFINITY, "0208"),
        (Special.RESERVED, "0108"),
    ],
)
def test_sfloats(number: Decimal | int | Special, octets: str) -> None:
    """Exponent and mantissa in 16 bits, the precision kept, specials by their mantissa."""
    assert sfloat(number).hex() == octets


@pytest.mark.parametrize(
    ("number", "octets"),
    [
        (Decimal("37.60"), "b00e00fe"),
        (-1, "ffffff00"),
        (Special.NAN, "ffff7f00"),
        (Special.NRES, "00008000"),
        (Special.POSITIVE_INFINITY, "feff7f00"),
        (Special.NEGATIVE_INFINITY, "02008000"),
        (Special.RESERVED, "01008000"),
    ],
)
def test_floats(number: Decimal | int | Special, octets: str) -> None:
    """Exponent and mantissa in 32 bits, likewise."""
    assert medical_float(number).hex() == octets


@pytest.mark.parametrize(("mantissa", "exponent"), [(2046, 0), (-2046, 0), (1, 8), (1, -9)])
def test_a_number_that_does_not_fit_an_sfloat_is_refused(mantissa: int, exponent: int) -> None:
    """Nothing is rounded, and no number becomes a special."""
    with pytest.raises(ValueError, match="is no SFLOAT"):
        encode_sfloat(mantissa, exponent)


@pytest.mark.parametrize(("mantissa", "exponent"), [(8_388_606, 0), (-8_388_606, 0), (1, 128), (1, -129)])
def test_a_number_that_does_not_fit_a_float_is_refused(mantissa: int, exponent: int) -> None:
    """Likewise."""
    with pytest.raises(ValueError, match="is no FLOAT"):
        encode_float(mantissa, exponent)


def test_a_decimal_that_is_no_number_is_refused() -> None:
    """What is no number is a Special."""
    with pytest.raises(ValueError, match="NaN is no number"):
        sfloat(Decimal("NaN"))


def test_times() -> None:
    """A date time as the service's specification has it, and a current time with the day of the week."""
    assert date_time(MOMENT).hex() == "dc070c050b321b"
    assert current_time(MOMENT.replace(microsecond=500_000)).hex() == "dc070c050b321b038000"
    assert date_time(None) == bytes(7)
    assert current_time(None) == bytes(10)


@pytest.mark.parametrize("written", [b"", bytes(10), current_time(MOMENT)[:-1], current_time(MOMENT) + b"\0"])
def test_what_is_no_time_sets_no_clock(written: bytes) -> None:
    """A date of 0 and a value of another size are no time; a sound one is."""
    assert read_current_time(written) is None
    assert read_current_time(current_time(MOMENT)) == read_date_time(date_time(MOMENT)) == MOMENT
    assert read_date_time(b"\xdc") is None
