from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.decode import DECODERS
from gateway.model import Damaged, Measurement, Sample, Waveform

PLETH = tuple(range(60))


def pack_five(*, rate: int = 72, spo2: int = 97, first: int = 0, third: int = 0, pleth: Sequence[int] = PLETH) -> bytes:
    """Make a second of the five-byte stream as the maker's protocol has it."""
    return b"".join(bytes((0x80 | first, wave, third | (rate & 0x80) >> 1, rate & 0x7F, spo2)) for wave in pleth)


def pack_nine(*, rate: int = 72, spo2: int = 97, pleth: Sequence[int] = PLETH) -> bytes:
    """Make a second of the nine-byte stream: top bits of the seven bytes after it stand in the second byte."""
    second = b""
    for wave in pleth:
        data = bytes((4, wave, 2, rate, spo2, 0xFF, 0xFF))
        tops = sum((byte >> 7) << place for place, byte in enumerate(data))
        second += bytes((0x01, 0x80 | tops)) + bytes(byte | 0x80 for byte in data)
    return second


PACK = {"serial.cms50d": pack_five, "serial.cms50e": pack_nine}


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


def test_status_bits_become_flags() -> None:
    """A bit that any frame of the second has set."""
    second = pack_five()[:-5] + pack_five(first=0x30, third=0x30)[-5:]
    (sample,) = DECODERS["serial.cms50d"]().feed(second)
    assert isinstance(sample, Sample)
    assert sample.flags == ("pulse-not-found", "spo2-dropping", "sensor-fault", "searching")


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
