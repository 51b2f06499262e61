from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.canonical import encode_measurements
from gateway.decode import DECODERS
from gateway.decode.statement import (
    FRAME_LIMIT,
    STATEMENT_LIMIT,
    StatementCheck,
    open_statement,
    read_statement,
    verify_statement,
)
from gateway.errors import VerificationError
from gateway.model import Damaged, Instant, Measurement, Reading, Sample, Waveform
from tests.statements import Sensor, ed25519_sensor, es256_sensor, payload_of, stuff

SENSOR = ed25519_sensor()
STATEMENT = SENSOR.state(payload_of(f8=1764000000123))
FRAME = stuff(STATEMENT)
MEASUREMENTS = (Measurement(149530, 72, "/min"), Measurement(150456, Decimal("97.5"), "%"))
READING = Reading(
    sequence=1,
    at=Instant(real_ms=1764000000200, epoch=1, monotonic_ms=5),
    measurements=MEASUREMENTS,
    frame=FRAME,
    decoder="serial.iomt_frame/1",
    salt=bytes(16),
    device_time_ms=1764000000123,
    flags=("out-of-range",),
    statement=STATEMENT,
)

NUMBERS = st.integers(-(2**63), 2**63 - 1)
FRACTIONS = st.builds(lambda exponent, number: cbor2.CBORTag(4, [exponent, number]), st.integers(-128, 127), NUMBERS)
WAVES = st.builds(
    lambda period_ns, scale, samples: {1: period_ns, 2: scale, 3: samples},
    st.integers(0, 2**63),
    st.integers(-128, 127),
    st.lists(NUMBERS, min_size=1, max_size=20),
)
WORDS = st.text("".join(map(chr, range(0x21, 0x7F))), min_size=1, max_size=64)
VALUE_LISTS = st.lists(
    st.tuples(st.integers(0, 2**32 - 1), NUMBERS | FRACTIONS | WAVES, WORDS).map(list), min_size=1, max_size=4
)


def feed(data: bytes) -> list[Sample | Damaged]:
    return DECODERS["serial.iomt_frame"]().feed(data)


def feed_parts(parts: Sequence[bytes]) -> list[Sample | Damaged]:
    decoder = DECODERS["serial.iomt_frame"]()
    return [made for part in parts for made in decoder.feed(part)]


def samples(made: Sequence[Sample | Damaged]) -> list[Sample]:
    return [piece for piece in made if isinstance(piece, Sample)]


def reason_of(statement: bytes) -> str:
    """Give why the decoder refuses a statement that would fit into a frame."""
    (damaged,) = {piece.reason for piece in feed(stuff(statement) + b"\x00") if isinstance(piece, Damaged)}
    return damaged


def test_a_frame_gives_the_sample_that_its_sensor_stated() -> None:
    """Measurements, device time, flags, the signed bytes, and the frame as heard without its 00."""
    statement = SENSOR.state(payload_of(f8=1764000000123, f9=["low-battery", "user-2"]))
    assert feed(b"\x00" + stuff(statement) + b"\x00") == [
        Sample(
            measurements=MEASUREMENTS,
            frame=stuff(statement),
            device_time_ms=1764000000123,
            flags=("low-battery", "user-2"),
            statement=statement,
        )
    ]


def test_a_statement_says_who_and_when() -> None:
    """The sensor's id, kid, boot, sequence and uptime are read from the signed bytes."""
    said = read_statement(STATEMENT)
    assert (said.sensor, said.kid.hex()) == ("oximeter-7", "21fe31dfa154a261")
    assert (said.boot, said.sequence, said.uptime_ms) == (3, 1, 41000)


@given(VALUE_LISTS, st.none() | st.integers(0, 2**63 - 1), st.lists(WORDS, max_size=3), st.integers(1, 600))
def test_what_was_signed_comes_out_to_the_byte_however_it_is_cut(
    values: list[list[Any]], time_ms: int | None, flags: list[str], size: int
) -> None:
    """Any values of the format, in notifications of any size, give the sample of the same bytes."""
    optional: dict[str, Any] = ({} if time_ms is None else {"f8": time_ms}) | ({"f9": flags} if flags else {})
    statement = SENSOR.state(payload_of(values=values, **optional))
    line = stuff(statement) + b"\x00"
    made = feed_parts([line[at : at + size] for at in range(0, len(line), size)])
    assert made == feed(line)
    if len(line) <= FRAME_LIMIT + 1:
        (sample,) = samples(made)
        assert encode_measurements(sample.measurements) == cbor2.dumps(values)
        assert (sample.device_time_ms, sample.flags, sample.statement) == (time_ms, tuple(flags), statement)


def test_waveforms_and_decimals_are_a_readings() -> None:
    """A waveform keeps period, scale and samples; 72.0 is not 72."""
    values = [[150452, {1: 13333333, 2: -2, 3: [5, -7]}, "1"], [149530, cbor2.CBORTag(4, [-1, 720]), "/min"]]
    (sample,) = samples(feed(stuff(SENSOR.state(payload_of(values=values))) + b"\x00"))
    assert sample.measurements[0].value == Waveform(period_ns=13333333, scale=-2, samples=(5, -7))
    assert str(sample.measurements[1].value) == "72.0"


@given(st.binary(max_size=1600))
def test_a_sound_frame_is_found_after_any_noise(noise: bytes) -> None:
    """A 00 before the frame ends whatever came before it, and what came before is not lost from the record."""
    made = feed(noise + b"\x00" + FRAME + b"\x00")
    assert [sample.statement for sample in samples(made)] == [STATEMENT]
    assert b"".join(piece.frame for piece in made).replace(b"\x00", b"") == noise.replace(b"\x00", b"") + FRAME


@given(st.lists(st.sampled_from([FRAME, b"\x00", b"\x00" * 700, b"\xd2" * 700, b"\x02"]), max_size=9))
def test_byte_by_byte_equals_one_chunk(pieces: list[bytes]) -> None:
    """Frames, runs of 00 and noise without one, in any order: what comes out depends on the bytes alone."""
    line = b"".join(pieces)
    assert feed_parts([line[at : at + 1] for at in range(len(line))]) == feed(line)


def test_one_or_two_delimiters_are_nothing_and_more_are_damage() -> None:
    """A line that is held low shows as damage, without hiding the frames around it."""
    made = feed(b"\x00\x00" + FRAME + b"\x00" + FRAME + b"\x00\x00" + FRAME + b"\x00" * 600 + FRAME + b"\x00")
    assert len(samples(made)) == 4
    damage = [piece for piece in made if isinstance(piece, Damaged)]
    assert [(len(piece.frame), piece.reason) for piece in damage] == [
        (512, "00 without a frame"),
        (86, "00 without a frame"),
    ]


def test_what_is_too_long_is_given_up_in_pieces_and_the_next_is_found() -> None:
    """Over 1024 bytes without a 00 are damage, even where the end of them would be a frame."""
    long = b"\x01" * (FRAME_LIMIT + 1 - len(FRAME)) + FRAME
    made = feed(long + b"\x00" + FRAME + b"\x00")
    assert [len(piece.frame) for piece in made] == [512, 512, 1, len(FRAME)]
    assert {piece.reason for piece in made if isinstance(piece, Damaged)} == {"no frame ends within 1024 bytes"}
    assert len(samples(made)) == 1


def test_a_frame_that_ends_inside_a_run_of_512_is_no_part_of_the_next() -> None:
    """A run that was given up to its last byte does not swallow the frame after it."""
    assert len(samples(feed_parts([b"\x01" * 1536, b"\x00", FRAME, b"\x00"]))) == 1


def test_the_largest_statement_fits_and_one_byte_more_does_not() -> None:
    """1019 bytes are read, 1020 are refused."""
    room = STATEMENT_LIMIT - len(SENSOR.state(payload_of(f9=["x" * 64] * 8)))
    flags = ["x" * 64] * 8 + ["y" * 64] * (room // 66)
    flags.append("z" * (STATEMENT_LIMIT - len(SENSOR.state(payload_of(f9=[*flags, "z" * 30]))) + 30))
    largest = SENSOR.state(payload_of(f9=flags))
    assert len(largest) == STATEMENT_LIMIT
    assert read_statement(largest).flags == tuple(flags)
    assert [sample.statement for sample in samples(feed(stuff(largest) + b"\x00"))] == [largest]
    with pytest.raises(VerificationError, match="at most 1019"):
        read_statement(SENSOR.state(payload_of(f9=[*flags[:-1], flags[-1] + "z"])))


@pytest.mark.parametrize("frame", [b"\x02", b"\xff" + b"a" * 253, FRAME[:-1], b"\x05abc"])
def test_a_cobs_block_that_is_cut_off_is_damaged(frame: bytes) -> None:
    """A code byte that counts past the end of the frame says so."""
    (damaged,) = feed(frame + b"\x00")
    assert isinstance(damaged, Damaged)
    assert "COBS block is cut off" in damaged.reason


def test_both_endings_of_a_full_block_are_read() -> None:
    """254 bytes without a zero may end the frame, or a 01 may follow them."""
    statements = (SENSOR.state(payload_of(f9=["x" * 64, "y" * 60, "z" * size])) for size in range(1, 65))
    statement = next(each for each in statements if len(each.rsplit(b"\x00", 1)[-1]) == 254)
    longer = stuff(statement)
    assert longer.endswith(b"\x01")
    for frame in (longer, longer[:-1]):
        assert [sample.statement for sample in samples(feed(frame + b"\x00"))] == [statement]


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        (b"", "not CBOR"),
        (STATEMENT + b"\x00", "deterministic"),
        (STATEMENT[1:], "not a tagged COSE_Sign1"),
        (SENSOR.state(payload_of(), {4: b"12345678"}), "all of them protected"),
        (SENSOR.state(cbor2.dumps(payload_of()) + b"\x00"), "bytes follow"),
        (SENSOR.state(b"\xa4\x01\x01\x03\x82\x03\x05\x02\x01\x05\x81\x83\x01\x01\x61\x25"), "deterministic"),
        (SENSOR.state([1, 2, 3]), "wrong keys"),
        (SENSOR.state({1: 1, 2: 1, 3: [1, 1]}), "wrong keys"),
        (SENSOR.state(payload_of(f4=1)), "wrong keys"),
        (SENSOR.state(payload_of(f1=2)), "format 2"),
        (SENSOR.state(payload_of(f1=True)), "CBOR|format True"),
        (SENSOR.state(payload_of(f2=-1)), "unsigned"),
        (SENSOR.state(payload_of(f2=2**63)), "unsigned"),
        (SENSOR.state(payload_of(f3=[3])), "boot, uptime"),
        (SENSOR.state(payload_of(f3={3: 3})), "boot, uptime"),
        (SENSOR.state(payload_of(f3=[3, "x"])), "unsigned"),
        (SENSOR.state(payload_of(f8=-1)), "unsigned"),
        (SENSOR.state(payload_of(values=[])), "one or more"),
        (SENSOR.state(payload_of(values={1: 2})), "one or more"),
        (SENSOR.state(payload_of(values=[[149530, 72.5, "/min"]])), "float"),
        (SENSOR.state(payload_of(values=[[149530, 72]])), "not a statement"),
        (SENSOR.state(payload_of(values=[[149530, "72", "/min"]])), "no int"),
        (SENSOR.state(payload_of(values=[[-1, 72, "/min"]])), "unsigned"),
        (SENSOR.state(payload_of(values=[[149530, 72, ""]])), "printable"),
        (SENSOR.state(payload_of(values=[[149530, 72, "\u00b5V"]])), "printable"),
        (SENSOR.state(payload_of(values=[[1, cbor2.CBORTag(4, [128, 1]), "1"]])), "exponent"),
        (SENSOR.state(payload_of(values=[[1, cbor2.CBORTag(4, [2**62, 1]), "1"]])), "exponent|CBOR"),
        (SENSOR.state(payload_of(values=[[1, {1: 1, 2: -129, 3: [1]}, "1"]])), "exponent"),
        (SENSOR.state(payload_of(values=[[1, {1: 1, 2: 1}, "1"]])), "waveform"),
        (SENSOR.state(payload_of(f9=[])), "one or more"),
        (SENSOR.state(payload_of(f9=["poor signal"])), "printable"),
        (SENSOR.state(payload_of(f9=["x" * 65])), "printable"),
        (SENSOR.state(payload_of(f9=[5])), "printable"),
        (replace(SENSOR, id="").state(payload_of()), "printable"),
        (replace(SENSOR, algorithm=-35).state(payload_of()), "neither Ed25519 nor ES256"),
        (replace(SENSOR, extra={3: "application/iomt-reading+cbor"}).state(payload_of()), "content type"),
        (replace(SENSOR, extra={4: b"1234567"}).state(payload_of()), "kid"),
        (replace(SENSOR, extra={4: "12345678"}).state(payload_of()), "kid"),
        (replace(SENSOR, extra={15: {1: "a", 2: "b"}}).state(payload_of()), "kid"),
        (replace(SENSOR, extra={15: 5}).state(payload_of()), "kid"),
        (replace(SENSOR, extra={16: 5}).state(payload_of()), "1, 3, 4 and 15"),
        (replace(SENSOR, sign=lambda _: bytes(63)).state(payload_of()), "63 bytes"),
        (STATEMENT[:-66] + b"\x40", "0 bytes"),
    ],
)
def test_what_breaks_the_format_is_damaged_and_says_why(statement: bytes, reason: str) -> None:
    """Whatever a statement gets wrong in its form, signed soundly or not, is no sample."""
    assert any(words in reason_of(statement) for words in reason.split("|"))
    with pytest.raises(VerificationError):
        StatementCheck(SENSOR.public_key).check(statement)


@given(st.binary(max_size=700), st.integers(0, len(STATEMENT)))
def test_any_bytes_are_a_statement_or_refused(garbage: bytes, at: int) -> None:
    """Bytes that a sensor never said are refused with the one error, also where they replace some of its own."""
    for data in (garbage, STATEMENT[:at] + garbage, STATEMENT[:at] + garbage + STATEMENT[at + len(garbage) :]):
        try:
            open_statement(data, SENSOR.public_key)
        except VerificationError:
            continue
        assert data == STATEMENT


def test_a_flipped_bit_is_never_accepted() -> None:
    """Whichever bit of a frame flips on the line, it is damaged or its signature does not hold."""
    check = StatementCheck(SENSOR.public_key)
    for place in range(len(FRAME) * 8):
        flipped = bytearray(FRAME)
        flipped[place // 8] ^= 1 << place % 8
        for sample in samples(feed(bytes(flipped) + b"\x00")):
            assert sample.statement is not None
            with pytest.raises(VerificationError):
                check.check(sample.statement)
    assert check.last is None


@pytest.mark.parametrize(
    "sensor",
    [
        ed25519_sensor(),
        ed25519_sensor(algorithm=-19),
        es256_sensor(),
        es256_sensor(algorithm=-9),
        es256_sensor(compressed=False),
        es256_sensor(compressed=False, algorithm=-9),
    ],
    ids=["EdDSA", "Ed25519", "ES256", "ESP256", "ES256-65", "ESP256-65"],
)
def test_every_algorithm_of_the_format_is_checked(sensor: Sensor) -> None:
    """A sound signature is accepted, and a changed payload is not."""
    statement = sensor.state(payload_of())
    assert len(samples(feed(stuff(statement) + b"\x00"))) == 1
    check = StatementCheck(sensor.public_key)
    check.check(statement)
    assert check.last == (3, 1)
    with pytest.raises(VerificationError, match="does not hold"):
        check.check(statement.replace(b"\x18\x48", b"\x18\x49"))


def test_another_sensors_statement_is_refused() -> None:
    """The kid tells whose it is; a kid that lies is found out by the signature."""
    other = ed25519_sensor(bytes(32))
    check = StatementCheck(SENSOR.public_key)
    with pytest.raises(VerificationError, match="is by key"):
        check.check(other.state(payload_of()))
    with pytest.raises(VerificationError, match="does not hold"):
        check.check(replace(SENSOR, sign=other.sign).state(payload_of()))


def test_an_algorithm_that_is_not_the_keys_is_refused() -> None:
    """Neither kind of key verifies a signature that calls itself the other."""
    for sensor in (replace(SENSOR, algorithm=-7), replace(es256_sensor(), algorithm=-8)):
        with pytest.raises(VerificationError):
            StatementCheck(sensor.public_key).check(sensor.state(payload_of()))


@pytest.mark.parametrize(
    ("last", "boot", "sequence", "is_taken"),
    [
        (None, 0, 0, True),
        ((3, 7), 3, 8, True),
        ((3, 7), 3, 9, True),
        ((3, 7), 4, 0, True),
        ((3, 7), 3, 7, False),
        ((3, 7), 3, 6, False),
        ((3, 7), 2, 99, False),
    ],
)
def test_a_replay_is_refused(last: tuple[int, int] | None, *, boot: int, sequence: int, is_taken: bool) -> None:
    """Boot and sequence go up strictly from the last that was accepted, and what is refused does not count."""
    check = StatementCheck(SENSOR.public_key, last)
    statement = SENSOR.state(payload_of(sequence, boot))
    if is_taken:
        check.check(statement)
        assert check.last == (boot, sequence)
    else:
        with pytest.raises(VerificationError, match="replay"):
            check.check(statement)
        assert check.last == last


def test_a_reading_is_checked_against_what_its_sensor_signed() -> None:
    """The sensor's values, device time and flags are the reading's, which may have more flags."""
    verify_statement(READING, SENSOR.public_key)
    flagged = SENSOR.state(payload_of(f8=1764000000123, f9=["demo-data"]))
    verify_statement(replace(READING, statement=flagged, flags=("out-of-range", "demo-data")), SENSOR.public_key)
    with pytest.raises(VerificationError, match="lacks flags"):
        verify_statement(replace(READING, statement=flagged), SENSOR.public_key)


@pytest.mark.parametrize(
    ("reading", "reason"),
    [
        (replace(READING, statement=None), "no statement"),
        (replace(READING, measurements=MEASUREMENTS[:1]), "measurements"),
        (replace(READING, measurements=(Measurement(149530, Decimal(72), "/min"), MEASUREMENTS[1])), "measurements"),
        (replace(READING, measurements=(MEASUREMENTS[0], Measurement(150456, Decimal("97.50"), "%"))), "measurements"),
        (replace(READING, measurements=MEASUREMENTS[::-1]), "measurements"),
        (replace(READING, device_time_ms=None), "device time"),
        (replace(READING, device_time_ms=1764000000124), "device time"),
        (replace(READING, statement=ed25519_sensor(bytes(32)).state(payload_of())), "is by key"),
        (replace(READING, statement=STATEMENT[:-1] + bytes((STATEMENT[-1] ^ 1,))), "does not hold"),
        (replace(READING, statement=b"\x01"), "COSE_Sign1"),
    ],
)
def test_a_reading_that_says_otherwise_is_refused(reading: Reading, reason: str) -> None:
    """Another value, another precision, another time, another key: the gateway did not pass on what was signed."""
    with pytest.raises(VerificationError, match=reason):
        verify_statement(reading, SENSOR.public_key)
