from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.decode.current_time import encode_current_time
from gateway.decode.number import read_date_time


@pytest.mark.parametrize(
    ("now_ms", "text"),
    [
        (1784072492500, "ea07070e172920 02 80 02"),
        (1784072492000, "ea07070e172920 02 00 02"),
        (1784072492999, "ea07070e172920 02 ff 02"),
        (0, "b2070101000000 04 00 02"),
    ],
)
def test_ten_bytes_of_utc(now_ms: int, text: str) -> None:
    """2026-07-14 23:41:32, a Tuesday, and 1970-01-01, a Thursday; the fraction never reaches 256."""
    assert encode_current_time(now_ms) == bytes.fromhex(text)


def test_a_sunday_is_day_seven() -> None:
    """1 is Monday (Supplement, Day of Week); PureSwift's 2A2B of 1995-04-24, a Monday, says 7, which is wrong."""
    monday_ms = int(datetime(1995, 4, 24, 12, 5, 30, tzinfo=UTC).timestamp()) * 1000
    assert encode_current_time(monday_ms)[:8] == bytes.fromhex("cb0704180c051e 01")
    assert encode_current_time(monday_ms - 86_400_000)[7] == 7


@settings(deadline=None)
@given(now_ms=st.integers(0, 253_402_300_799_999))
def test_every_time_comes_back(now_ms: int) -> None:
    """To the second, until the year 9999, and to 1/256 s."""
    packed = encode_current_time(now_ms)
    whole_ms = read_date_time(packed[:7])
    assert len(packed) == 10
    assert whole_ms is not None
    assert 0 <= now_ms - whole_ms - packed[8] * 1000 / 256 < 1000 / 256
