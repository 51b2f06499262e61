"""The frames are read here with the protocol's own arithmetic, and no decoder of the product."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_stubs.contec import KEEP_ALIVE, PATIENCE_MS, START, STOP, Cms50d, Cms50e, Moment, encode_five, encode_nine
from firmware_stubs.people import Person
from firmware_stubs.physiology import Patient

FRAMES_A_SECOND = 60
PATIENCE_FRAMES = PATIENCE_MS * FRAMES_A_SECOND // 1000

moments = st.builds(
    Moment,
    pleth=st.integers(0, 127),
    rate_per_min=st.integers(0, 255),
    spo2_percent=st.integers(0, 127),
    signal=st.integers(0, 15),
    bar=st.integers(0, 15),
    is_beep=st.booleans(),
    is_probe_error=st.booleans(),
    is_searching=st.booleans(),
    is_searching_long=st.booleans(),
    is_dropping=st.booleans(),
)


def frames_of(sensor: Cms50d | Cms50e, count: int) -> list[bytes]:
    return [sensor.next_frame() for _ in range(count)]


def unpack(frame: bytes) -> bytes:
    """Put the top bits back, as every public driver does."""
    return bytes(byte & 0x7F | (frame[1] >> place & 1) << 7 for place, byte in enumerate(frame[2:]))


@given(moments)
def test_five_bytes_say_everything(moment: Moment) -> None:
    """Bit 7 marks the first byte alone, and every field is where the protocol has it."""
    first, pleth, third, rate, spo2 = encode_five(moment)

    assert [byte >> 7 for byte in (first, pleth, third, rate, spo2)] == [1, 0, 0, 0, 0]
    assert (first & 0x0F, third & 0x0F, pleth, spo2) == (moment.signal, moment.bar, moment.pleth, moment.spo2_percent)
    assert (third & 0x40) << 1 | rate == moment.rate_per_min
    assert [first >> 4 & 1, first >> 5 & 1, first >> 6 & 1] == [
        moment.is_searching_long,
        moment.is_dropping,
        moment.is_beep,
    ]
    assert [third >> 4 & 1, third >> 5 & 1] == [moment.is_probe_error, moment.is_searching]


@given(moments, st.integers(0, 0xFFFF) | st.just(0xFFFF))
def test_nine_bytes_say_everything(moment: Moment, perfusion: int) -> None:
    """Bit 7 is clear in the first byte alone, and the second gives the others theirs back."""
    frame = encode_nine(moment, perfusion)
    signal, pleth, bar, rate, spo2, low, high = unpack(frame)

    assert [byte >> 7 for byte in frame] == [0] + [1] * 8
    assert (frame[0], rate, spo2) == (1, moment.rate_per_min, moment.spo2_percent)
    assert (signal & 0x0F, bar & 0x0F, pleth & 0x7F) == (moment.signal, moment.bar, moment.pleth)
    assert (signal >> 7, pleth >> 7) == (moment.is_probe_error, moment.is_searching)
    assert (signal >> 4 & 1, signal >> 5 & 1, signal >> 6 & 1) == (
        moment.is_searching_long,
        moment.is_dropping,
        moment.is_beep,
    )
    assert (high << 8 | low, bar >> 4) == (perfusion, perfusion == 0xFFFF)


def test_frames_agree_with_public_captures() -> None:
    """A worn CMS50D+ of firmware 7 at 65 /min and 97 %, and one without a finger."""
    worn = Moment(signal=5, pleth=0x33, bar=6, rate_per_min=65, spo2_percent=97)
    bare = Moment(signal=4, pleth=0x40, rate_per_min=0, spo2_percent=0, is_probe_error=True)

    assert encode_nine(worn).hex() == "01e085b396c1e1ffff"
    assert encode_nine(bare).hex() == "01e184c0908080ffff"


@pytest.mark.parametrize("kind", [Cms50d, Cms50e])
def test_the_values_are_the_wearers(kind: type[Cms50d | Cms50e]) -> None:
    """Sixty frames a second tell the rate, the saturation and the pleth of the person at the time."""
    sensor, wearer = kind(Person("ppg_long")), Person("ppg_long")
    sensor.received(START)
    for number, frame in enumerate(frames_of(sensor, 5 * FRAMES_A_SECOND)):
        wearer.advance(number * 1000 / FRAMES_A_SECOND)
        data = unpack(frame) if len(frame) == 9 else bytes((*frame[:3], (frame[2] & 0x40) << 1 | frame[3], frame[4]))

        assert (data[1], data[3], data[4]) == (wearer.pleth // 2, wearer.rate_per_min(8), wearer.spo2_percent)


def test_each_beat_beeps() -> None:
    """There are as many beeps as beats, and the one before the start."""
    sensor, wearer = Cms50d(Patient("rest")), Patient("rest")
    beats = len(wearer.advance(599 * 1000 / FRAMES_A_SECOND))

    beeps = "".join("B" if frame[0] & 0x40 else " " for frame in frames_of(sensor, 600)).split()

    assert len(beeps) == beats


@pytest.mark.parametrize("kind", [Cms50d, Cms50e])
def test_without_a_finger_there_is_no_value(kind: type[Cms50d | Cms50e]) -> None:
    """Rate and saturation are 0, and the probe's error says why; with the finger, they are there again."""
    sensor = kind(Patient("rest"))
    sensor.received(START)
    sensor.has_finger = False

    (frame,) = frames_of(sensor, 1)

    assert frame[-2:] == b"\0\0" if kind is Cms50d else unpack(frame)[3:5] == b"\0\0"
    assert frame[2] & 0x10 if kind is Cms50d else unpack(frame)[0] & 0x80
    sensor.has_finger = True
    assert sensor.next_frame()[-2:] != b"\0\0"


def test_the_cms50d_talks_unasked() -> None:
    """And it does not answer."""
    sensor = Cms50d(Patient("rest"))

    assert sensor.received(START) == b""
    assert all(frames_of(sensor, 20 * FRAMES_A_SECOND))


def test_the_cms50e_is_silent_until_it_is_told_to_talk() -> None:
    """Neither a keep-alive nor noise starts it, but a start does that comes byte by byte behind noise."""
    sensor = Cms50e(Patient("rest"))
    assert sensor.received(KEEP_ALIVE) == b""
    assert not any(frames_of(sensor, FRAMES_A_SECOND))

    for byte in b"\x00\xff" + START:
        assert not any(frames_of(sensor, 1))
        assert sensor.received(bytes((byte,))) == b""

    assert all(frames_of(sensor, FRAMES_A_SECOND))


def test_the_cms50e_stops_without_a_keep_alive() -> None:
    """Ten seconds after the last command it is silent, and only a start makes it talk again."""
    sensor = Cms50e(Patient("rest"))
    sensor.received(START)
    for _ in range(6):
        assert all(frames_of(sensor, PATIENCE_FRAMES // 2))
        sensor.received(KEEP_ALIVE)

    assert all(frames_of(sensor, PATIENCE_FRAMES))
    assert not any(frames_of(sensor, FRAMES_A_SECOND))
    sensor.received(KEEP_ALIVE)
    assert not any(frames_of(sensor, FRAMES_A_SECOND))
    sensor.received(START)
    assert all(frames_of(sensor, FRAMES_A_SECOND))


def test_the_cms50e_can_be_stopped() -> None:
    """It answers 0c 80, as captured, and is silent."""
    sensor = Cms50e(Patient("rest"))
    sensor.received(START)

    assert sensor.received(STOP) == b"\x0c\x80"
    assert not any(frames_of(sensor, FRAMES_A_SECOND))
