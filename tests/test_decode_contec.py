from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.decode import DECODERS
from gateway.model import Damaged, Measurement, Sample, Waveform

Pleth = Sequence[int]
PLETH = tuple(range(60))


def pack_five(*, rate: int = 72, spo2: int = 97, first: int = 0, third: int = 0, pleth: Pleth = PLETH) -> bytes:
    """Make a second of the five-byte stream as the maker's protocol has it."""
    return b"".join(bytes((0x80 | first, wave, third | (rate & 0x80) >> 1, rate & 0x7F, spo2)) for wave in pleth)


def pack_nine(
    *,
    rate: int = 72,
    spo2: int = 97,
    signal: int = 4,
    searching: int = 0,
    perfusion: int = 0xFFFF,
    pleth: Pleth = PLETH,
) -> bytes:
    """Make a second of the nine-byte stream: top bits of the seven bytes after it stand in the second byte."""
    second = b""
    for wave in pleth:
        data = bytes((signal, searching << 7 | wave, 0x12, rate, spo2)) + perfusion.to_bytes(2, "little")
        tops = sum((byte >> 7) << place for place, byte in enumerate(data))
        second += bytes((0x01, 0x80 | tops)) + bytes(byte | 0x80 for byte in data)
    return second


PACK: dict[str, Callable[..., bytes]] = {"serial.cms50d": pack_five, "serial.cms50e": pack_nine}


@pytest.mark.parametrize("name", sorted(PACK))
@settings(deadline=None)
@given(rate=st.integers(0, 255), spo2=st.integers(0, 127))
def test_every_rate_and_saturation_comes_back_or_is_missing(name: str, rate: int, spo2: int) -> None:
    """Rates over 127 too, whose top bit travels apart; 0 and all ones are the display's dashes."""
    second = PACK[name](rate=rate, spo2=spo2)
    (sample,) = DECODERS[name]().feed(second)
    assert isinstance(sample, Sample)
    assert sample.measurements == (
        *([Measurement(149530, rate, "/min")] if rate not in {0, 255} else []),
        *([Measurement(150456, spo2, "%")] if spo2 not in {0, 127} else []),
        Measurement(150452, Waveform(period_ns=16_666_667, scale=0, samples=PLETH), "1"),
    )
    assert ("no-value:149530:missing" in sample.flags) == (rate in {0, 255})


@pytest.mark.parametrize(
    ("name", "ill"),
    [
        ("serial.cms50d", pack_five(first=0x30, third=0x30)),
        ("serial.cms50e", pack_nine(signal=0xB4, searching=1)),
    ],
)
def test_status_bits_become_flags(name: str, ill: bytes) -> None:
    """A bit that any frame of the second has set; both streams tell the same."""
    size = len(ill) // 60
    (sample,) = DECODERS[name]().feed(PACK[name]()[:-size] + ill[-size:])
    assert isinstance(sample, Sample)
    assert sample.flags == ("pulse-not-found", "spo2-dropping", "sensor-fault", "searching")


@pytest.mark.parametrize(
    ("ill", "flag"),
    [
        (pack_nine(signal=0x14), "pulse-not-found"),
        (pack_nine(signal=0x24), "spo2-dropping"),
        (pack_nine(signal=0x84), "sensor-fault"),
        (pack_nine(searching=1), "searching"),
    ],
)
def test_each_bit_of_the_nine_byte_stream_is_one_flag(ill: bytes, flag: str) -> None:
    """And none of them is a bit of the pleth; signal strength and a beep give no flag."""
    (sample, usual) = DECODERS["serial.cms50e"]().feed(ill + pack_nine(signal=0x4F))
    assert isinstance(sample, Sample)
    assert isinstance(usual, Sample)
    assert (sample.flags, usual.flags) == ((flag,), ())
    assert sample.measurements == usual.measurements
    assert sample.measurements[-1].value == Waveform(period_ns=16_666_667, scale=0, samples=PLETH)


@given(perfusion=st.integers(0, 0xFFFF))
def test_a_perfusion_index_stays_in_the_frame(perfusion: int) -> None:
    """No two sources agree on its unit, so it is no measurement, and takes nothing from the others."""
    (sample,) = DECODERS["serial.cms50e"]().feed(pack_nine(perfusion=perfusion))
    assert isinstance(sample, Sample)
    assert [measurement.code for measurement in sample.measurements] == [149530, 150456, 150452]
    assert (sample.flags, sample.frame) == ((), pack_nine(perfusion=perfusion))


def test_a_capture_without_a_finger() -> None:
    """A CMS50D+ of firmware 7: no values, a pleth in the middle, and the probe's error says why."""
    (sample,) = DECODERS["serial.cms50e"]().feed(bytes.fromhex("01e184c0908080ffff") * 60)
    assert isinstance(sample, Sample)
    assert sample.flags == ("sensor-fault", "no-value:149530:missing", "no-value:150456:missing")
    assert [measurement.value for measurement in sample.measurements] == [
        Waveform(period_ns=16_666_667, scale=0, samples=(0x40,) * 60)
    ]


@pytest.mark.parametrize("name", sorted(PACK))
def test_a_lost_byte_damages_less_than_a_second(name: str) -> None:
    """The frames before the gap are given up, and the next second begins right after it."""
    second = PACK[name]()
    at = len(second) // 2 + 1
    damaged, sample = DECODERS[name]().feed(second[:at] + second[at + 1 :] + second[: len(second) // 2 + 9])
    assert isinstance(damaged, Damaged)
    assert len(damaged.frame) < len(second)
    assert isinstance(sample, Sample)


@pytest.mark.parametrize("name", sorted(PACK))
@settings(deadline=None)
@given(noise=st.binary(max_size=700))
def test_one_chunk_equals_byte_by_byte_and_the_next_second_is_found(name: str, noise: bytes) -> None:
    """What comes out depends on the bytes alone, all of them come out, and the stream is found again."""
    second = PACK[name]()
    stream = noise + second * 3
    made = DECODERS[name]().feed(stream)
    decoder = DECODERS[name]()
    assert [piece for byte in stream for piece in decoder.feed(bytes((byte,)))] == made
    assert stream.startswith(b"".join(piece.frame for piece in made))
    assert isinstance(made[-1], Sample)
