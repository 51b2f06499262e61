"""Current Time, GATT characteristic 0x2A2B: what is written to a device that keeps its own clock.

    ea 07 07 0e 17 29 20 02 80 02    2026-07-14 23:41:32.5, a Tuesday, set by an external reference

Date time (7 bytes, see gateway.decode.number), day of the week (1 is Monday), 1/256 s, and why the time changes: bit 0
by hand, bit 1 from an external reference, bit 2 zone, bit 3 daylight saving. We write UTC: a device shows it as its
local time, and what it stamps is then UTC as well, as a time stamp without a zone is taken to be.
Source: Current Time Service 1.1, section 3.1; GATT Specification Supplement, Exact Time 256 and Current Time.
"""

from datetime import UTC, datetime, timedelta
from struct import Struct

_CURRENT_TIME = Struct("<HBBBBBBBB")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EXTERNAL_REFERENCE = 0x02


def encode_current_time(now_ms: int) -> bytes:
    """Give the 10 bytes of a time in milliseconds since 1970, of the years 1970 to 9999."""
    now = _EPOCH + timedelta(milliseconds=now_ms)
    fraction = now_ms % 1000 * 256 // 1000
    date_time = (now.year, now.month, now.day, now.hour, now.minute, now.second)
    return _CURRENT_TIME.pack(*date_time, now.isoweekday(), fraction, _EXTERNAL_REFERENCE)
