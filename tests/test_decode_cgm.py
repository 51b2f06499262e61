from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_stubs.sensors import encode_sfloat
from gateway.decode import DECODERS
from gateway.decode.cgm import compute_crc
from gateway.model import Damaged, Measurement, Sample


def decode(text: str) -> list[Sample | Damaged]:
    return DECODERS["gatt.cgm"]().feed(bytes.fromhex(text))


def test_crc_check_value() -> None:
    """The catalogue of CRC algorithms gives 6f91 for "123456789" under CRC-16/MCRF4XX."""
    assert compute_crc(b"123456789") == 0x6F91


def test_octets_stand_in_their_own_order() -> None:
    """Status, calibration, warning: the order of bits 7, 6, 5, not of 5, 6, 7."""
    (sample,) = decode("09 e0 7800 0600 02 08 40")
    assert isinstance(sample, Sample)
    assert sample.flags == ("low-battery", "calibration-due", "below-measurable")


def test_a_special_is_a_flag() -> None:
    """A sensor in warm-up sends NaN."""
    (sample,) = decode("06 00 ff07 0600")
    assert isinstance(sample, Sample)
    assert (sample.measurements, sample.flags) == ((), ("no-value:160020:NaN",))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "size 0 does not hold for 0 bytes"),
        ("0500780006", "size 5 does not hold for 5 bytes"),
        ("0700780006", "size 7 does not hold for 5 bytes"),
        ("078078000600", "size 7 does not hold for 6 bytes"),
        ("068078000600", "status is cut off: 0 of 1 bytes"),
        ("0601780006 00", "trend is cut off: 0 of 2 bytes"),
        ("0700780006 00ff", "1 bytes after the last field"),
        ("0800780006 00ffff", "E2E-CRC is wrong"),
    ],
)
def test_a_record_that_breaks_the_format_is_damaged(text: str, reason: str) -> None:
    """The reason names the field, and the bytes are kept."""
    assert decode(text) == [Damaged(frame=bytes.fromhex(text), reason=reason)]


def test_a_wrong_check_damages_its_record_alone() -> None:
    """The records beside it have sizes of their own."""
    kinds = [type(made) for made in decode("06007800060008007900060000 0006007a000600")]
    assert kinds == [Sample, Damaged, Sample]


@settings(deadline=None)
@given(
    records=st.lists(
        st.tuples(st.integers(-2045, 2045), st.integers(-8, 7), st.integers(0, 3), st.booleans()),
        min_size=1,
        max_size=5,
    )
)
def test_what_a_sensor_packs_comes_back(records: list[tuple[int, int, int, bool]]) -> None:
    """Any number of records, with and without trend, quality and check."""
    notification = b""
    for mantissa, exponent, flags, checked in records:
        body = bytes((flags,)) + encode_sfloat(mantissa, exponent) + bytes(2 + 2 * flags.bit_count())
        record = bytes((1 + len(body) + 2 * checked,)) + body
        notification += record + (compute_crc(record).to_bytes(2, "little") if checked else b"")
    made = DECODERS["gatt.cgm"]().feed(notification)
    assert [each.measurements for each in made if isinstance(each, Sample)] == [
        (Measurement(160020, Decimal(mantissa).scaleb(exponent), "mg/dL"),) for mantissa, exponent, _, _ in records
    ]
