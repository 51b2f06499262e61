from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.decode import DECODERS
from gateway.decode.stream import DAMAGE_LIMIT
from gateway.model import Damaged, Measurement, Sample

# A captured line of a Rad-8 and one of a Radical-7, whose PI has no % sign.
RAD_8 = (
    b"02/22/16 22:47:45 SN=0000056661 SPO2=098% BPM=097 PI=03.60% SPCO=--.-% SPMET=--.-% DESAT=-- PIDELTA=+-- "
    b"ALARM=0000 EXC=000800"
)
RADICAL_7 = (
    b"03/17/16 19:19:36 SN=---------- SPO2=098% BPM=123 PI=00.55 SPCO=--% SPMET=--.-% SPHB=--.- SPOC=-- RESVD=--- "
    b"DESAT=-- PIDELTA=+-- PVI=--- ALARM=000000 EXC=0000C00 EXC1=00000000"
)


def feed(stream: bytes) -> list[Sample | Damaged]:
    return DECODERS["serial.masimo_ascii1"]().feed(stream)


@pytest.mark.parametrize("end", [b"\r\n", b"\n\r", b"\n", b"\r"])
def test_a_line_is_one_sample(end: bytes) -> None:
    """SpO2, pulse rate and perfusion index with the digits of the line, whatever ends it."""
    assert feed(RAD_8 + end) == [
        Sample(
            measurements=(
                Measurement(150456, 98, "%"),
                Measurement(149530, 97, "/min"),
                Measurement(150448, Decimal("3.60"), "%"),
            ),
            frame=RAD_8,
            device_time_ms=1456181265000,
            flags=("device-clock",),
        )
    ]


def test_models_differ_in_their_fields() -> None:
    """A Radical-7 has more parameters, and low signal quality here."""
    (sample,) = feed(RADICAL_7 + b"\r\n")
    assert isinstance(sample, Sample)
    assert [each.value for each in sample.measurements] == [98, 123, Decimal("0.55")]
    assert sample.flags == ("device-clock", "poor-signal")


def test_dashes_are_no_value() -> None:
    """A sensor that is off the patient."""
    line = b"05/20/21 14:06:02 SN=0000182948 SPO2=---% BPM=--- PI=--.--% ALARM=0010 EXC=000021"
    (sample,) = feed(line + b"\r\n")
    assert isinstance(sample, Sample)
    assert sample.measurements == ()
    assert sample.flags == (
        "no-value:150456:missing",
        "no-value:149530:missing",
        "no-value:150448:missing",
        "device-clock",
        "sensor-disconnected",
        "sensor-off",
    )


def test_a_date_that_is_none() -> None:
    """Month 13 is no time; the values stand."""
    (sample,) = feed(RAD_8.replace(b"02/22/16", b"13/22/16") + b"\r\n")
    assert isinstance(sample, Sample)
    assert (sample.device_time_ms, sample.flags) == (None, ("unknown-time",))


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (RAD_8.replace(b"SPO2=098%", b"SPO2=0x8%"), "field 'SPO2=0x8%' is no field or repeats one"),
        (RAD_8.replace(b"BPM=097", b"BPM=9.7"), "BPM is 9.7"),
        (RAD_8.replace(b"PI=03.60%", b"PI=0360%"), "PI is 0360"),
        (RAD_8.replace(b"SPCO=--.-%", b"BPM=099"), "field 'BPM=099' is no field or repeats one"),
        (RAD_8[:-11], "EXC is missing"),
        (RAD_8[:-4], "EXC is 00"),
        (RAD_8.replace(b"BPM=097 ", b""), "BPM is missing"),
        (RAD_8.replace(b"EXC=000800", b"EXC=------"), "EXC is ------"),
    ],
)
def test_a_line_that_breaks_the_format_is_damaged(wrong: bytes, reason: str) -> None:
    """There is no checksum: one field out of form and the line is not believed."""
    assert feed(wrong + b"\r\n") == [Damaged(frame=wrong, reason=reason)]


def test_noise_before_a_line_leaves_the_line() -> None:
    """A line is found though what came before it had no end."""
    noise = b"\x00\xffrubbish 1"
    assert feed(noise + RAD_8 + b"\r\n") == [Damaged(frame=noise, reason="no line begins here"), *feed(RAD_8 + b"\r\n")]


@settings(deadline=None)
@given(noise=st.binary(max_size=1500))
def test_one_chunk_equals_byte_by_byte_and_the_next_line_is_found(noise: bytes) -> None:
    """What comes out depends on the bytes alone, in pieces of bounded size, and the last line is a sample."""
    stream = noise + b"\r\n" + RAD_8 + b"\r\n"
    made = feed(stream)
    decoder = DECODERS["serial.masimo_ascii1"]()
    assert [piece for byte in stream for piece in decoder.feed(bytes((byte,)))] == made
    assert all(len(piece.frame) <= DAMAGE_LIMIT for piece in made)
    assert isinstance(made[-1], Sample)


@settings(deadline=None)
@given(noise=st.binary(min_size=400, max_size=1500).map(lambda noise: noise.replace(b"\r", b"").replace(b"\n", b"")))
def test_a_line_after_endless_noise_is_found(noise: bytes) -> None:
    """Wherever the noise was cut, the line that follows it without an end between is whole."""
    (*_, last) = feed(noise + RAD_8 + b"\r\n")
    assert isinstance(last, Sample)
    assert last.frame == RAD_8
