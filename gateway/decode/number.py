"""Numbers and time stamps of IEEE 11073-20601 as the Bluetooth health services carry them, little-endian.

    5e ff          SFLOAT: exponent -1, mantissa -162              -> Decimal("-16.2")
    b0 0e 00 fe    FLOAT:  exponent -2, mantissa 3760              -> Decimal("37.60")
    dc 07 0c 05 0b 32 1b  date time 2012-12-05 11:50:27            -> 1354708227000

An SFLOAT is 4 bits of exponent and 12 of mantissa, a FLOAT 8 and 24, all two's complement; five mantissas with
exponent 0 are no number but a `Special`. The exponent that the device sent is kept: it is the precision it claims.
A date time is year (2 bytes), month, day, hour, minute, second, in the device's own zone; 0 in year, month or day
is "unknown".
"""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from struct import Struct

from gateway.model import Special

_SFLOAT_SPECIALS = {
    0x07FF: Special.NAN,
    0x0800: Special.NRES,
    0x07FE: Special.POSITIVE_INFINITY,
    0x0802: Special.NEGATIVE_INFINITY,
    0x0801: Special.RESERVED,
}
_FLOAT_SPECIALS = {
    0x007FFFFF: Special.NAN,
    0x00800000: Special.NRES,
    0x007FFFFE: Special.POSITIVE_INFINITY,
    0x00800002: Special.NEGATIVE_INFINITY,
    0x00800001: Special.RESERVED,
}
_DATE_TIME = Struct("<HBBBBB")
_FIRST_YEAR = 1582
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


def read_sfloat(raw: int) -> Decimal | Special:
    """Give the value of an SFLOAT from its 16 bits (IEEE 11073-20601, SFLOAT-Type)."""
    special = _SFLOAT_SPECIALS.get(raw)
    if special is not None:
        return special
    mantissa = raw & 0x0FFF
    exponent = raw >> 12
    return Decimal(mantissa - ((mantissa & 0x0800) << 1)).scaleb(exponent - ((exponent & 0x8) << 1))


def read_float(raw: int) -> Decimal | Special:
    """Give the value of a FLOAT from its 32 bits (IEEE 11073-20601, FLOAT-Type)."""
    special = _FLOAT_SPECIALS.get(raw)
    if special is not None:
        return special
    mantissa = raw & 0x00FFFFFF
    exponent = raw >> 24
    return Decimal(mantissa - ((mantissa & 0x800000) << 1)).scaleb(exponent - ((exponent & 0x80) << 1))


def read_date_time(seven: bytes) -> int | None:
    """Give a date time's milliseconds since 1970, its wall clock taken as UTC; None where it is unknown or no date.

    Seven bytes, the Date Time characteristic 0x2A08 (GATT Specification Supplement, Date Time).
    """
    year, month, day, hour, minute, second = _DATE_TIME.unpack(seven)
    if year < _FIRST_YEAR:
        return None
    try:
        moment = datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError:
        return None
    return (moment - _EPOCH) // _MILLISECOND
