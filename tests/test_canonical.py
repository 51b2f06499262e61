import hashlib
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import canonical, cbor
from gateway.errors import VerificationError
from gateway.model import Event, EventKind, Measurement, Reading, Waveform
from tests.builders import EVENTS, INTEGERS, READINGS, SALT, TEXTS, make_event, make_reading

DIGESTS = st.binary(min_size=32, max_size=32)

READING = make_reading(512, Decimal("72.5"))
EVENT = make_event(EventKind.CLOCK, {"epoch": 1, "boot": "b", "synchronised": True, "key": b"k"})

FORMATS: dict[str, tuple[bytes, Callable[[bytes], object]]] = {
    "reading": (canonical.encode_reading(READING), canonical.decode_reading),
    "event": (canonical.encode_event(EVENT), canonical.decode_event),
}


def described(reading: Reading) -> dict[int, object]:
    """Give the map that the format in canonical's docstring says a reading is."""

    def value_of(measurement: Measurement) -> object:
        value = measurement.value
        return {1: value.period_ns, 2: value.scale, 3: list(value.samples)} if isinstance(value, Waveform) else value

    at, frame = reading.at, reading.frame
    fields: dict[int, object] = {
        1: 1,
        2: reading.sequence,
        3: at.real_ms,
        4: [at.epoch, at.monotonic_ms],
        5: [[item.code, value_of(item), item.unit] for item in reading.measurements],
        6: frame if len(frame) <= 512 else hashlib.sha256(frame).digest(),
        7: reading.decoder,
        8: reading.device_time_ms,
        9: list(reading.flags) or None,
        10: reading.salt,
        11: reading.statement,
    }
    return {key: value for key, value in fields.items() if value is not None}


# -- deterministic encoding


@given(READINGS)
def test_a_readings_bytes_are_the_deterministic_encoding_of_its_format(reading: Reading) -> None:
    """What is written for speed equals what the generic encoder makes of the format's description."""
    assert canonical.encode_reading(reading) == cbor.encode(described(reading))


@given(READINGS)
def test_readings_come_back_as_they_were(reading: Reading) -> None:
    """A reading survives its bytes, to the exponent of every decimal fraction."""
    payload = canonical.encode_reading(reading)
    again = canonical.decode_reading(payload)
    assert again == reading
    assert canonical.encode_reading(again) == payload


@given(EVENTS)
def test_events_come_back_as_they_were(event: Event) -> None:
    """An event survives its bytes; true stays true and 1 stays 1."""
    payload = canonical.encode_event(event)
    again = canonical.decode_event(payload)
    assert again == event
    assert {key: type(value) for key, value in again.details.items()} == {
        key: type(value) for key, value in event.details.items()
    }
    assert canonical.encode_event(again) == payload


def test_the_example_of_the_docstring_is_what_is_made() -> None:
    """The reading shown in diagnostic notation has exactly these bytes."""
    reading = Reading(
        sequence=512,
        at=replace(READING.at, real_ms=1764000000123, epoch=1, monotonic_ms=86400042),
        measurements=(Measurement(147842, 72, "/min"), Measurement(147240, Decimal("804.6875000"), "ms")),
        frame=bytes.fromhex("10480338"),
        decoder="gatt.heart_rate/1",
        salt=b"\x5a" * 16,
    )
    assert canonical.encode_reading(reading).hex() == (
        "a8" "0101" "02190200" "031b0000019ab697e87b" "0482011a05265c2a"
        "0582" "831a00024182" "1848" "642f6d696e" "831a00023f28" "c482261b00000001dfa19178" "626d73"
        "064410480338" "0771676174742e68656172745f726174652f31" "0a50" + "5a" * 16
    )  # fmt: skip


@pytest.mark.parametrize(
    ("keys", "order"),
    [
        ([-1, 100], "1864 20"),
        ([-1, 23, 24, -25], "17 1818 20 3818"),
        (["b", "aa", "", 1000], "1903e8 60 6162 626161"),
        ([-70001, 395, 15, 4, 1], "01 04 0f 19018b 3a00011170"),
    ],
)
def test_keys_stand_in_the_bytewise_order_of_their_encodings(keys: list[Any], order: str) -> None:
    """RFC 8949 4.2.1, not the length-first order of RFC 7049: 100 (1864) comes before -1 (20)."""
    heads = [bytes.fromhex(head) for head in order.split()]
    assert heads == sorted(heads)
    expected = bytes([0xA0 | len(keys)]) + b"".join(head + b"\x00" for head in heads)
    assert cbor.encode(dict.fromkeys(keys, 0)) == expected
    assert cbor.decode(expected) == dict.fromkeys(keys, 0)


def test_the_length_first_order_is_refused() -> None:
    """The order of the old canonical CBOR, -1 before 100, does not decode."""
    with pytest.raises(VerificationError, match="not deterministic"):
        cbor.decode(bytes.fromhex("a2 2000 186400"))


# The examples of RFC 8949 appendix A that are made of what signed bytes may hold.
@pytest.mark.parametrize(
    ("value", "encoded"),
    [
        (0, "00"),
        (23, "17"),
        (24, "1818"),
        (1000000000000, "1b000000e8d4a51000"),
        (18446744073709551615, "1bffffffffffffffff"),
        (-18446744073709551616, "3bffffffffffffffff"),
        (-1000, "3903e7"),
        (False, "f4"),
        (None, "f6"),
        (b"\x01\x02\x03\x04", "4401020304"),
        ("\u6c34", "63e6b0b4"),
        ([1, [2, 3], [4, 5]], "8301820203820405"),
        ({"a": 1, "b": [2, 3]}, "a26161016162820203"),
        (Decimal("273.15"), "c48221196ab3"),
    ],
)
def test_the_rfcs_examples_are_encoded_as_it_says(value: object, encoded: str) -> None:
    """RFC 8949 appendix A and 3.4.4, in both directions."""
    assert cbor.encode(value).hex() == encoded
    assert cbor.decode(bytes.fromhex(encoded)) == value


@pytest.mark.parametrize(
    "value",
    [0.0, 1.5, float("nan"), [1.0], {1: {2: -0.0}}, {1.5: 1}, cbor2.CBORTag(1, 1.0), Decimal("NaN"), Decimal("-Inf")],
)
def test_binary_floats_are_not_encoded(value: object) -> None:
    """No binary float and no decimal that would become one, however deep, gets into signed bytes."""
    with pytest.raises(TypeError, match="no place in signed bytes"):
        cbor.encode(value)


@pytest.mark.parametrize("value", [Decimal("NaN"), Decimal("sNaN"), Decimal("Infinity")])
def test_a_reading_of_no_number_is_not_encoded(value: Decimal) -> None:
    """A decimal that is no number is refused rather than signed as a float."""
    with pytest.raises(TypeError, match="no place in signed bytes"):
        canonical.encode_reading(make_reading(1, value))


@pytest.mark.parametrize("encoded", ["f97e00", "f90000", "fa47c35000", "fb3ff199999999999a", "81f93c00", "a1f93c0001"])
def test_binary_floats_are_not_decoded(encoded: str) -> None:
    """RFC 8949's half, single and double floats are refused wherever they stand."""
    with pytest.raises(VerificationError):
        cbor.decode(bytes.fromhex(encoded))


@pytest.mark.parametrize(
    "value",
    [2**64, -(2**64) - 1, {1, 2}, Fraction(1, 2), cbor2.undefined, cbor2.CBORSimpleValue(99), {True: 1}, {(1,): 1}],
)
def test_what_no_format_uses_is_neither_encoded_nor_decoded(value: object) -> None:
    """Bignums, sets, fractions, simple values and odd keys are refused both ways, though they would round-trip."""
    with pytest.raises(TypeError, match="no place in signed bytes"):
        cbor.encode(value)
    with pytest.raises(VerificationError):
        cbor.decode(cbor2.dumps(value))


@pytest.mark.parametrize(
    "encoded",
    [
        "",
        "0000",
        "1817",
        "1900ff",
        "5801ff",
        "9f01ff",
        "bf0102ff",
        "5f4101ff",
        "a201000100",
        "a202000100",
        "c001",
        "d81c81d81d00",
        "9bffffffffffffffff",
        "5bffffffffffffffff",
        "bb7fffffffffffffff",
        "81" * 20 + "00",
        "ff",
        "1c",
        "61ff",
        "c4821b7fffffffffffffff01",
        "d8236128",
    ],
)
def test_what_does_not_encode_to_itself_is_refused(encoded: str) -> None:
    """Trailing bytes, longer heads, indefinite lengths, doubled or unordered keys, cycles, lies about length."""
    with pytest.raises(VerificationError):
        cbor.decode(bytes.fromhex(encoded))


def test_equal_numbers_of_other_exponents_keep_their_bytes() -> None:
    """72, 72.0 and 72.00 are equal as numbers and three different readings, in whatever order they come."""
    values: list[int | Decimal] = [Decimal("72.0"), Decimal("72.00"), Decimal(72), 72, Decimal("72.0")]
    encoded = [canonical.encode_reading(make_reading(1, value)) for value in values]
    assert encoded[0] == encoded[-1]
    assert len(set(encoded)) == 4
    again = [canonical.decode_reading(payload).measurements[0].value for payload in encoded]
    assert [repr(value) for value in again] == [repr(value) for value in values]


# -- frames


@pytest.mark.parametrize("size", [0, 512])
def test_a_frame_of_up_to_512_bytes_is_kept_whole(size: int) -> None:
    """The frame stands in the reading as it was heard."""
    frame = bytes(size)
    assert canonical.decode_reading(canonical.encode_reading(replace(READING, frame=frame))).frame == frame


def test_of_a_longer_frame_the_hash_is_kept() -> None:
    """513 bytes are one too many: SHA-256 of them stands in their place."""
    frame = bytes(513)
    payload = canonical.encode_reading(replace(READING, frame=frame))
    assert canonical.decode_reading(payload).frame == hashlib.sha256(frame).digest()


# -- refusals of each format


@pytest.mark.parametrize("what", FORMATS)
@given(garbage=st.binary(max_size=120), cut=st.integers(0, 200))
def test_garbage_is_refused_with_one_kind_of_error(what: str, garbage: bytes, cut: int) -> None:
    """Whatever bytes come, a decoder gives a value of its format or a VerificationError."""
    payload, decode = FORMATS[what]
    for data in (garbage, payload[:cut] + garbage, payload[:cut] + garbage + payload[cut + len(garbage) :]):
        try:
            decode(data)
        except VerificationError:
            continue


@pytest.mark.parametrize("what", FORMATS)
@given(data=st.data())
def test_a_field_of_any_other_type_is_refused_or_read_faithfully(what: str, data: st.DataObject) -> None:
    """Any CBOR value in the place of any field is refused, or read into a value with those very bytes."""
    payload, decode = FORMATS[what]
    fields = dict(cbor2.loads(payload))
    values = st.recursive(
        INTEGERS | st.booleans() | st.none() | TEXTS | st.binary(max_size=40) | DIGESTS,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(INTEGERS | TEXTS, inner, max_size=4),
        max_leaves=8,
    )
    fields[data.draw(st.sampled_from(sorted(fields)))] = data.draw(values)
    changed = cbor.encode(fields)
    try:
        value = decode(changed)
    except VerificationError:
        return
    encode = getattr(canonical, f"encode_{what}")
    assert encode(value) == changed


@pytest.mark.parametrize("what", FORMATS)
def test_missing_unknown_and_odd_keys_are_refused(what: str) -> None:
    """A format has its keys and no others; true is not 1."""
    payload, decode = FORMATS[what]
    fields = dict(cbor2.loads(payload))
    for key in fields:
        with pytest.raises(VerificationError, match=f"not a {what}: wrong keys"):
            decode(cbor.encode({name: value for name, value in fields.items() if name != key}))
    with pytest.raises(VerificationError, match="wrong keys"):
        decode(cbor.encode({**fields, 99: 0}))
    with pytest.raises(VerificationError, match="wrong keys"):
        decode(cbor.encode(list(fields.values())))
    with pytest.raises(VerificationError):
        decode(payload.replace(b"\x01\x01\x02", b"\x02\x02\xf5\x01", 1))


@pytest.mark.parametrize("what", FORMATS)
@pytest.mark.parametrize("version", [0, 2, True, "1", None])
def test_another_version_is_refused_by_its_number(what: str, version: object) -> None:
    """What this version cannot read is refused with the format's number."""
    payload, decode = FORMATS[what]
    with pytest.raises(VerificationError, match="this version reads format 1"):
        decode(cbor.encode({**cbor2.loads(payload), 1: version}))


WRONG_FIELDS: list[tuple[str, int, object]] = [
    ("reading", 2, -1),
    ("reading", 2, True),
    ("reading", 3, "1"),
    ("reading", 4, [1]),
    ("reading", 4, [1, -1]),
    ("reading", 5, {1: [1, 2, "x"]}),
    ("reading", 5, [[1, 2]]),
    ("reading", 5, [[-1, 2, "x"]]),
    ("reading", 5, [[1, True, "x"]]),
    ("reading", 5, [[1, b"2", "x"]]),
    ("reading", 5, [[1, {1: 1, 2: 2}, "x"]]),
    ("reading", 5, [[1, {1: 1, 2: 2, 3: ["x"]}, "x"]]),
    ("reading", 6, "frame"),
    ("reading", 6, bytes(513)),
    ("reading", 7, b"decoder"),
    ("reading", 8, Decimal("1.5")),
    ("reading", 9, "flag"),
    ("reading", 9, []),
    ("reading", 9, [1]),
    ("reading", 10, SALT[:15]),
    ("reading", 11, "statement"),
    ("event", 5, "unheard-of"),
    ("event", 5, [1]),
    ("event", 6, []),
    ("event", 6, {1: "x"}),
    ("event", 6, {"x": [1]}),
    ("event", 6, {"x": None}),
    ("event", 6, {"x": Decimal(1)}),
    ("event", 10, SALT + b"\x00"),
]


@pytest.mark.parametrize(("what", "key", "value"), WRONG_FIELDS)
def test_a_field_that_is_not_of_the_format_is_refused(what: str, key: int, value: object) -> None:
    """Wrong types, ranges, lengths and shapes are refused as not of the format."""
    payload, decode = FORMATS[what]
    with pytest.raises(VerificationError, match=f"not a {what}"):
        decode(cbor.encode({**cbor2.loads(payload), key: value}))


# -- headers


def test_a_header_is_what_the_docstring_says() -> None:
    """The protected header decodes to the map of the format; another algorithm stands in the place of the usual."""
    assert cbor.decode(canonical.signer_header("type", b"kid", "iss", "sub")) == {
        1: -8,
        3: "type",
        4: b"kid",
        15: {1: "iss", 2: "sub"},
    }


def test_a_kid_is_the_head_of_the_keys_hash() -> None:
    """The first 8 bytes of SHA-256 over the raw public key."""
    assert canonical.key_id(b"abc").hex() == "ba7816bf8f01cfea"
