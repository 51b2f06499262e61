from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_stubs.sensors import encode_sfloat
from gateway.decode import DECODERS, Learner
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


# Features and start from Android-BLE-Common-Library's tests: E2E-CRC, arterial plasma, finger; two hours east, summer.
FEATURE = "6e9e01 16 8ac1"
FEATURE_WITHOUT_CRC = "6e8e01 16 ffff"
START = "e2070418 0d0818 08 04 e0c2"
START_MS = 1524564504000


def taught(*lessons: tuple[str, str]) -> Learner:
    decoder = DECODERS["gatt.cgm"]()
    assert isinstance(decoder, Learner)
    for characteristic, text in lessons:
        decoder.learn(characteristic, bytes.fromhex(text))
    return decoder


def sealed(text: str) -> bytes:
    value = bytes.fromhex(text)
    return value + compute_crc(value).to_bytes(2, "little")


@pytest.mark.parametrize("text", [FEATURE, FEATURE_WITHOUT_CRC])
def test_type_and_location_are_learnt(text: str) -> None:
    """The code is that of the type, as with glucose meters, and the location is a flag."""
    (sample,) = taught(("2aa8", text)).feed(sealed("08 00 7800 0600"))
    assert isinstance(sample, Sample)
    assert sample.measurements == (Measurement(160204, Decimal(120), "mg/dL"),)
    assert sample.flags == ("site-finger",)


def test_most_sensors_sit_below_the_skin() -> None:
    """Interstitial fluid (9) of subcutaneous tissue (5)."""
    (sample,) = taught(("2aa8", "000000 59 ffff")).feed(bytes.fromhex("060078000600"))
    assert isinstance(sample, Sample)
    assert sample.measurements == (Measurement(160212, Decimal(120), "mg/dL"),)
    assert sample.flags == ("site-subcutaneous",)


@pytest.mark.parametrize("text", ["06 00 7800 0600", "08 00 7800 0600 0000", "07 04 7800 0600 00"])
def test_a_record_without_its_check_is_damaged_where_the_sensor_has_one(text: str) -> None:
    """A sensor that supports E2E-CRC sends no record without."""
    frame = bytes.fromhex(text)
    assert taught(("2aa8", FEATURE)).feed(frame) == [Damaged(frame=frame, reason="E2E-CRC is missing or wrong")]


def test_a_check_stands_behind_fields_that_are_not_known() -> None:
    """A reserved flag announces a field; the last two bytes are the CRC all the same."""
    (sample,) = taught(("2aa8", FEATURE)).feed(sealed("0a 04 7800 0600 aabb"))
    assert isinstance(sample, Sample)
    assert sample.measurements == (Measurement(160204, Decimal(120), "mg/dL"),)


@pytest.mark.parametrize(
    ("start", "time_ms", "flags"),
    [
        (START, START_MS, ()),
        ("e2070418 0d0818 00 00", START_MS + 3 * 3_600_000, ()),
        ("e2070418 0d0818 ec 04", START_MS + 7 * 3_600_000, ()),
        ("e2070418 0d0818 80 00", START_MS + 3 * 3_600_000, ("device-clock",)),
        ("e2070418 0d0818 80 04", START_MS + 2 * 3_600_000, ("device-clock",)),
        ("e2070418 0d0818 08 ff", START_MS + 3_600_000, ("device-clock",)),
        ("e2070418 0d0818 39 00", START_MS + 3 * 3_600_000, ("device-clock",)),
        ("00000000 000000 80 ff", None, ("unknown-time",)),
    ],
)
def test_time_is_the_start_of_the_session_and_the_offset(
    start: str, time_ms: int | None, flags: tuple[str, ...]
) -> None:
    """13:08:24 at two hours east and summer time is 10:08:24 UTC; what is not known of the zone is flagged."""
    (sample,) = taught(("2aaa", start)).feed(bytes.fromhex("060078001e00"))
    assert isinstance(sample, Sample)
    assert sample.device_time_ms == (None if time_ms is None else time_ms + 30 * 60_000)
    assert sample.flags == flags


@pytest.mark.parametrize(
    ("characteristic", "text"),
    [
        ("2aa8", "6e9e01 16 afbe"),
        ("2aa8", "6e8e01 16 afbe"),
        ("2aa8", "6e9e01 16"),
        ("2aa8", ""),
        ("2aaa", "e3070418 0d0818 08 04 e0c2"),
        ("2aaa", "e3070418 0d0818 08 04"),
        ("2aaa", "e307"),
        ("2a38", "01"),
    ],
)
def test_what_its_check_does_not_bear_out_teaches_nothing(characteristic: str, text: str) -> None:
    """What was learnt before stays."""
    decoder = taught(("2aa8", FEATURE), ("2aaa", START), (characteristic, text))
    (sample,) = decoder.feed(sealed("08 00 7800 0000"))
    assert isinstance(sample, Sample)
    assert (sample.device_time_ms, sample.flags) == (START_MS, ("site-finger",))
    assert sample.measurements == (Measurement(160204, Decimal(120), "mg/dL"),)


def test_a_start_without_its_check_is_dropped_once_the_sensor_says_that_it_has_one() -> None:
    """The order in which characteristics are read decides nothing."""
    (sample,) = taught(("2aaa", START[:-4]), ("2aa8", FEATURE)).feed(sealed("08 00 7800 0000"))
    assert isinstance(sample, Sample)
    assert sample.device_time_ms is None


@settings(deadline=None)
@given(
    lessons=st.lists(st.tuples(st.sampled_from(["2aa8", "2aaa"]), st.binary(max_size=12)), max_size=4),
    chunk=st.binary(max_size=40),
)
def test_no_lesson_and_no_record_raises(lessons: list[tuple[str, bytes]], chunk: bytes) -> None:
    """Garbage is a sample or damaged, whatever was learnt, and every byte comes out."""
    decoder = taught()
    for characteristic, value in lessons:
        decoder.learn(characteristic, value)
    assert b"".join(made.frame for made in decoder.feed(chunk)) == chunk
