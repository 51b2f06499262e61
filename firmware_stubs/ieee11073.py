"""Numbers and times as IEEE 11073-20601 has them and the Bluetooth health services send them, little-endian.

    5e ff                 SFLOAT -16.2: exponent -1 (4 bits), mantissa -162 (12 bits)
    b0 0e 00 fe           FLOAT 37.60: exponent -2 (8 bits), mantissa 3760 (24 bits)
    dc 07 0c 05 0b 32 1b  date time 2012-12-05 11:50:27; a year, month or day of 0 is unknown
    dc 07 0c 05 0b 32 1b 03 80 00  current time: date time, day of the week (1 Monday), 1/256 s, why it was set

A decimal goes out with the exponent that it has, which is its precision: 37.60 and 37.6 are other bytes.
Sources: IEEE 11073-20601; GATT Specification Supplement, Date Time (2A08), Current Time (2A2B).
"""

import struct
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from typing import Final

UNKNOWN_DATE_TIME: Final = bytes(7)

_DATE_TIME: Final = struct.Struct("<HBBBBB")
_CURRENT_TIME_BYTES: Final = 10
_LARGEST_SHORT: Final = 2045
_LARGEST: Final = (1 << 23) - 3


class Special(Enum):
    """What is no number; the value is the mantissa that says so in an SFLOAT and in a FLOAT."""

    NAN = (0x07FF, 0x7FFFFF)
    NRES = (0x0800, 0x800000)
    POSITIVE_INFINITY = (0x07FE, 0x7FFFFE)
    NEGATIVE_INFINITY = (0x0802, 0x800002)
    RESERVED = (0x0801, 0x800001)


Number = int | Decimal | Special


def encode_sfloat(mantissa: int, exponent: int = 0) -> bytes:
    """Return mantissa * 10**exponent as SFLOAT; mantissa -2045 to 2045, exponent -8 to 7.

    Raises: ValueError outside of that, where the format has specials or nothing.
    """
    if not (-_LARGEST_SHORT <= mantissa <= _LARGEST_SHORT and -8 <= exponent <= 7):
        raise ValueError(f"{mantissa}e{exponent} is no SFLOAT")
    return ((exponent & 0xF) << 12 | mantissa & 0xFFF).to_bytes(2, "little")


def encode_float(mantissa: int, exponent: int = 0) -> bytes:
    """Return mantissa * 10**exponent as FLOAT; mantissa -8388605 to 8388605, exponent -128 to 127.

    Raises: ValueError outside of that, where the format has specials or nothing.
    """
    if not (-_LARGEST <= mantissa <= _LARGEST and -128 <= exponent <= 127):
        raise ValueError(f"{mantissa}e{exponent} is no FLOAT")
    return ((exponent & 0xFF) << 24 | mantissa & 0xFFFFFF).to_bytes(4, "little")


def sfloat(number: Number) -> bytes:
    """Return a number or special as SFLOAT.

    Raises: ValueError if it does not fit.
    """
    if isinstance(number, Special):
        return number.value[0].to_bytes(2, "little")
    return encode_sfloat(*_split(number))


def medical_float(number: Number) -> bytes:
    """Return a number or special as FLOAT.

    Raises: ValueError if it does not fit.
    """
    if isinstance(number, Special):
        return number.value[1].to_bytes(4, "little")
    return encode_float(*_split(number))


def date_time(moment: datetime | None) -> bytes:
    """Return a moment's wall clock as date time, all 0 for none."""
    if moment is None:
        return UNKNOWN_DATE_TIME
    return _DATE_TIME.pack(moment.year, moment.month, moment.day, moment.hour, moment.minute, moment.second)


def read_date_time(value: bytes) -> datetime | None:
    """Return the moment that a client wrote, its wall clock taken as UTC; None if it is none."""
    if len(value) < _DATE_TIME.size:
        return None
    year, month, day, hour, minute, second = _DATE_TIME.unpack_from(value)
    try:
        return datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError:
        return None


def current_time(moment: datetime | None) -> bytes:
    """Return a moment as current time that nobody adjusted, all 0 for none."""
    if moment is None:
        return bytes(_CURRENT_TIME_BYTES)
    return date_time(moment) + bytes((moment.isoweekday(), moment.microsecond * 256 // 1_000_000, 0))


def read_current_time(value: bytes) -> datetime | None:
    """Return the moment of a current time that a client wrote, to the second; None if it is none."""
    return read_date_time(value) if len(value) == _CURRENT_TIME_BYTES else None


def _split(number: int | Decimal) -> tuple[int, int]:
    sign, digits, exponent = Decimal(number).as_tuple()
    if not isinstance(exponent, int):
        raise ValueError(f"{number} is no number")  # noqa: TRY004 - a Decimal of the wrong value, not another type
    mantissa = int("".join(map(str, digits)))
    return (-mantissa if sign else mantissa), exponent
