from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_stubs.nonin import NO_RATE, NO_SPO2, Values, encode_floats
from gateway.decode import DECODERS
from gateway.decode.stream import DAMAGE_LIMIT
from gateway.model import Damaged, Measurement, Sample, Waveform

PERIOD_NS = 13_333_333
GOOD = Values(rate_per_min=72, long_rate_per_min=71, spo2_percent=97)


def pack(floats: bytes, *, statuses: Sequence[int] = (0x80,) * 25, pleth: Sequence[int] = tuple(range(25))) -> bytes:
    """Make a packet of serial data format 2 as the OEM III specification has it."""
    packet = b""
    for index in range(25):
        frame = bytes((1, statuses[index] | (index == 0), pleth[index], floats[index]))
        packet += frame + bytes((sum(frame) % 256,))
    return packet


PACKET = pack(encode_floats(GOOD, GOOD, timer=0))


def feed(stream: bytes) -> list[Sample | Damaged]:
    return DECODERS["serial.nonin_df2"]().feed(stream)


def test_a_packet_is_one_sample() -> None:
    """Pulse rate, SpO2 and a third of a second of pleth."""
    assert feed(PACKET) == [
        Sample(
            measurements=(
                Measurement(149530, 72, "/min"),
                Measurement(150456, 97, "%"),
                Measurement(150452, Waveform(period_ns=PERIOD_NS, scale=0, samples=tuple(range(25))), "1"),
            ),
            frame=PACKET,
        )
    ]


@settings(deadline=None)
@given(rate=st.integers(0, NO_RATE), spo2=st.integers(0, NO_SPO2))
def test_every_value_comes_back_or_is_missing(rate: int, spo2: int) -> None:
    """9 bits of rate and 7 of saturation, never the held values of the display; all ones is no value."""
    measured = Values(rate_per_min=rate, spo2_percent=spo2)
    (sample,) = feed(pack(encode_floats(measured, GOOD, timer=0)))
    assert isinstance(sample, Sample)
    values = {measurement.code: measurement.value for measurement in sample.measurements}
    assert values.get(149530, NO_RATE) == rate
    assert values.get(150456, NO_SPO2) == spo2
    assert ("no-value:149530:missing" in sample.flags) == (rate == NO_RATE)
    assert ("no-value:150456:missing" in sample.flags) == (spo2 == NO_SPO2)


@pytest.mark.parametrize(
    ("status", "flags"),
    [
        (0x82, ()),
        (0x84, ("low-perfusion",)),
        (0x86, ("marginal-perfusion",)),
        (0xA0, ("artifact",)),
        (0xD8, ("sensor-disconnected", "out-of-track", "sensor-alarm")),
    ],
)
def test_a_status_of_any_frame_flags_the_packet(status: int, flags: tuple[str, ...]) -> None:
    """One bad frame of 25 is enough."""
    (sample,) = feed(pack(encode_floats(GOOD, GOOD, timer=0), statuses=[0x80] * 24 + [status]))
    assert isinstance(sample, Sample)
    assert sample.flags == flags


def test_low_battery() -> None:
    """STAT2 stands in frame 8."""
    floats = bytearray(encode_floats(GOOD, GOOD, timer=0))
    floats[7] |= 1
    (sample,) = feed(pack(bytes(floats)))
    assert isinstance(sample, Sample)
    assert sample.flags == ("low-battery",)


@pytest.mark.parametrize(
    ("at", "reason"),
    [
        (60, "no frame begins here"),
        (62, "frame 13: checksum is wrong"),
        (64, "frame 13: checksum is wrong"),
        (0, "no frame begins here"),
    ],
)
def test_one_wrong_byte_damages_its_packet_alone(at: int, reason: str) -> None:
    """The packets before and after it are whole; the bytes of the damaged one are kept."""
    broken = PACKET[:at] + b"\xa5" + PACKET[at + 1 :]
    before, damaged, after = feed(PACKET + broken + PACKET)
    assert isinstance(before, Sample)
    assert isinstance(after, Sample)
    assert damaged == Damaged(frame=broken, reason=reason)


def test_a_lost_byte_damages_its_packet_alone() -> None:
    """The next packet is found though it begins one byte early."""
    broken = PACKET[:77] + PACKET[78:]
    kinds = [type(made) for made in feed(PACKET + broken + PACKET)]
    assert kinds == [Sample, Damaged, Sample]


def test_joined_in_the_middle_of_a_packet() -> None:
    """The rest of a packet whose beginning was not heard is no sample."""
    damaged, sample = feed(PACKET[35:] + PACKET)
    assert damaged == Damaged(frame=PACKET[35:], reason="no frame begins here")
    assert isinstance(sample, Sample)


@settings(deadline=None)
@given(noise=st.binary(max_size=700), cut=st.integers(0, 125))
def test_one_chunk_equals_byte_by_byte(noise: bytes, cut: int) -> None:
    """What comes out depends on the bytes alone."""
    stream = PACKET + PACKET[:cut] + noise + PACKET + b"\x01\x81" + PACKET
    decoder = DECODERS["serial.nonin_df2"]()
    assert [made for byte in stream for made in decoder.feed(bytes((byte,)))] == feed(stream)


@settings(deadline=None)
@given(noise=st.binary(max_size=700))
def test_nothing_is_lost_and_the_next_packet_is_found(noise: bytes) -> None:
    """Every byte comes out once and in order, and the packet after the noise is a sample."""
    made = feed(noise + PACKET + PACKET)
    assert b"".join(piece.frame for piece in made) == noise + PACKET + PACKET
    assert isinstance(made[-1], Sample)


@pytest.mark.parametrize("unit", [b"\x00", b"\x01\x81", PACKET[5:10]])
def test_ten_megabytes_without_a_packet_keep_nothing(unit: bytes) -> None:
    """Noise leaves in bounded pieces; what stays behind is less than a piece and a packet."""
    decoder = DECODERS["serial.nonin_df2"]()
    chunk = unit * (65536 // len(unit))
    heard = given_back = 0
    while heard < 10_000_000:
        made = decoder.feed(chunk)
        heard += len(chunk)
        assert all(isinstance(piece, Damaged) and len(piece.frame) <= DAMAGE_LIMIT for piece in made)
        given_back += sum(len(piece.frame) for piece in made)
    assert heard - given_back < DAMAGE_LIMIT + len(PACKET)


def pack_format_7(floats: bytes, pleth: Sequence[int]) -> bytes:
    """Make a packet of serial data format 7: 16 bits of pleth and no start byte."""
    packet = b""
    for index in range(25):
        frame = bytes((0x80 | (index == 0), pleth[index] >> 8, pleth[index] & 0xFF, floats[index]))
        packet += frame + bytes((sum(frame) % 256,))
    return packet


@settings(deadline=None)
@given(pleth=st.lists(st.integers(0, 0xFFFF), min_size=25, max_size=25), noise=st.binary(max_size=200))
def test_format_7_has_the_same_values_and_a_finer_pleth(pleth: list[int], noise: bytes) -> None:
    """The packet after noise is found without a start byte: by its checksums."""
    packet = pack_format_7(encode_floats(GOOD, GOOD, timer=0), pleth)
    made = DECODERS["serial.nonin_df7"]().feed(noise + packet)
    assert made[-1] == Sample(
        measurements=(
            Measurement(149530, 72, "/min"),
            Measurement(150456, 97, "%"),
            Measurement(150452, Waveform(period_ns=PERIOD_NS, scale=0, samples=tuple(pleth)), "1"),
        ),
        frame=packet,
    )


@settings(deadline=None)
@given(rate=st.integers(0, NO_RATE), spo2=st.integers(0, NO_SPO2))
def test_format_8_has_every_value(rate: int, spo2: int) -> None:
    """9 bits of rate over two bytes, 7 of saturation."""
    frame = bytes((0x80 | rate >> 7, rate & 0x7F, spo2, 0))
    (sample,) = DECODERS["serial.nonin_df8"]().feed(frame)
    assert isinstance(sample, Sample)
    values = {measurement.code: measurement.value for measurement in sample.measurements}
    assert values.get(149530, NO_RATE) == rate
    assert values.get(150456, NO_SPO2) == spo2


def test_format_8_status() -> None:
    """Two status bytes; the second has the battery."""
    (sample,) = DECODERS["serial.nonin_df8"]().feed(b"\xb4\x48\x61\x09")
    assert isinstance(sample, Sample)
    assert sample.flags == ("out-of-track", "low-perfusion", "artifact", "sensor-alarm", "low-battery")


def test_format_8_after_noise() -> None:
    """Only a frame's first byte has bit 7 set."""
    damaged, sample = DECODERS["serial.nonin_df8"]().feed(b"\x48\x61\x00\x80\x48\x61\x00")
    assert damaged == Damaged(frame=b"\x48\x61\x00", reason="no frame begins here")
    assert isinstance(sample, Sample)
