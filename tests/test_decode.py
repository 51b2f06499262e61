import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.decode import DECODER_VERSIONS, DECODERS, Learner
from gateway.model import Damaged, Measurement, Sample

LEARNERS = {
    "gatt.heart_rate": ("2a38",),
    "gatt.temperature": ("2a1d",),
    "gatt.intermediate_temperature": ("2a1d",),
    "gatt.cgm": ("2aa8", "2aaa"),
}
SERIAL = sorted(name for name in DECODERS if name.startswith("serial."))


def check(made: list[Sample | Damaged]) -> None:
    for piece in made:
        assert isinstance(piece, (Sample, Damaged))
        if isinstance(piece, Damaged):
            assert piece.reason
        else:
            assert all(isinstance(measurement, Measurement) for measurement in piece.measurements)
            assert all(flag == "".join(flag.split()) for flag in piece.flags)


@pytest.mark.parametrize("name", sorted(DECODERS))
@settings(deadline=None)
@given(chunks=st.lists(st.binary(max_size=400), max_size=4))
def test_fault_21_any_garbage_is_a_sample_or_damaged(name: str, chunks: list[bytes]) -> None:
    """No bytes raise, and what is refused says why."""
    decoder = DECODERS[name]()
    for chunk in chunks:
        check(decoder.feed(chunk))


@pytest.mark.parametrize("name", sorted(set(DECODERS) - set(SERIAL)))
@settings(deadline=None)
@given(chunk=st.binary(max_size=64))
def test_a_notification_is_one_chunk_whose_bytes_all_come_out(name: str, chunk: bytes) -> None:
    """Each notification gives at least one value, and the kept frames are its bytes, nothing more."""
    made = DECODERS[name]().feed(chunk)
    assert b"".join(piece.frame for piece in made) == chunk
    assert made


def test_those_that_learn_are_known() -> None:
    """A source can tell which decoders take what was read of a device."""
    assert {name for name, build in DECODERS.items() if isinstance(build(), Learner)} == set(LEARNERS)


@pytest.mark.parametrize("name", sorted(LEARNERS))
@settings(deadline=None)
@given(
    lessons=st.lists(st.tuples(st.text(max_size=4), st.binary(max_size=12)), max_size=3),
    value=st.binary(max_size=12),
    chunk=st.binary(max_size=40),
)
def test_no_lesson_raises(name: str, lessons: list[tuple[str, bytes]], value: bytes, chunk: bytes) -> None:
    """Whatever a device says of itself, its frames are samples or damaged, and all their bytes come out."""
    decoder = DECODERS[name]()
    assert isinstance(decoder, Learner)
    for characteristic, text in (*lessons, *((each, value) for each in LEARNERS[name])):
        decoder.learn(characteristic, text)
    made = decoder.feed(chunk)
    check(made)
    assert b"".join(piece.frame for piece in made) == chunk


@pytest.mark.parametrize("name", SERIAL)
@settings(deadline=None)
@given(noise=st.binary(max_size=1500))
def test_fault_23_noise_byte_by_byte_equals_one_chunk(name: str, noise: bytes) -> None:
    """What comes out of a line depends on the bytes alone."""
    decoder = DECODERS[name]()
    assert [made for byte in noise for made in decoder.feed(bytes((byte,)))] == DECODERS[name]().feed(noise)


@pytest.mark.parametrize("name", SERIAL)
@pytest.mark.parametrize("unit", [b"\x00", b"\xff", b"\x01\x81", b"0"])
def test_fault_23_ten_megabytes_without_a_frame_keep_nothing(name: str, unit: bytes) -> None:
    """Noise leaves in bounded pieces; what stays behind is bounded too."""
    decoder = DECODERS[name]()
    chunk = unit * (65536 // len(unit))
    heard = given_back = 0
    while heard < 10_000_000:
        made = decoder.feed(chunk)
        heard += len(chunk)
        assert all(len(piece.frame) <= 540 for piece in made)
        given_back += sum(len(piece.frame) for piece in made)
    assert heard - given_back < 1100


# A frame of each kind with SFLOATs or a FLOAT in it: where they stand, their size, the codes that they give.
SPECIAL_PLACES = [
    ("gatt.plx_continuous", "00 6100 4800", (1, 3), 2),
    ("gatt.plx_spot_check", "00 6100 4800", (1, 3), 2),
    ("gatt.blood_pressure", "04 8a00 5800 7800 3c00", (1, 3, 5, 7), 2),
    ("gatt.cuff_pressure", "00 8a00 ff07 ff07", (1,), 2),
    ("gatt.temperature", "00 b00e00fe", (1,), 4),
    ("gatt.intermediate_temperature", "00 b00e00fe", (1,), 4),
    ("gatt.glucose", "02 0100 e307021b0b0a1e 69d0 11", (10,), 2),
    ("gatt.glucose_context", "40 0100 2800", (3,), 2),
    ("gatt.cgm", "06 00 7800 1e00", (2,), 2),
]
SPECIALS = {
    2: ("ff07", "0008", "fe07", "0208", "0108"),
    4: ("ffff7f00", "00008000", "feff7f00", "02008000", "01008000"),
}
SPECIAL_NAMES = ("NaN", "NRes", "+INF", "-INF", "reserved")


@pytest.mark.parametrize(
    ("name", "frame", "place", "special", "said"),
    [
        pytest.param(name, frame, place, special, said, id=f"{name} at {place}: {said}")
        for name, frame, places, size in SPECIAL_PLACES
        for place in places
        for special, said in zip(SPECIALS[size], SPECIAL_NAMES, strict=True)
    ],
)
def test_fault_21_special_is_named_and_no_value(name: str, frame: str, place: int, special: str, said: str) -> None:
    """Each of the five specials, in each field that can hold one, is no measurement; a flag says which it was."""
    sound = bytes.fromhex(frame)
    value = bytes.fromhex(special)
    (before,) = DECODERS[name]().feed(sound)
    (made,) = DECODERS[name]().feed(sound[:place] + value + sound[place + len(value) :])
    assert isinstance(before, Sample)
    assert isinstance(made, Sample)
    assert len(made.measurements) == len(before.measurements) - 1
    gone = {each.code for each in before.measurements} - {each.code for each in made.measurements}
    assert [flag for flag in made.flags if flag.startswith("no-value:")] == [f"no-value:{gone.pop()}:{said}"]


@pytest.mark.parametrize("name", sorted(set(DECODERS) - set(SERIAL)))
@pytest.mark.parametrize("frame", [b"", b"\x00" * 513, b"\xff" * 513, bytes(range(256)) * 2])
def test_fault_22_empty_and_over_long_notifications_are_damaged(name: str, frame: bytes) -> None:
    """Nothing, and more than an attribute can hold (512 bytes), are no frame of any kind."""
    made = DECODERS[name]().feed(frame)
    assert b"".join(piece.frame for piece in made) == frame
    assert any(isinstance(piece, Damaged) for piece in made)


@pytest.mark.parametrize("name", sorted(DECODERS))
def test_a_decoder_has_a_version(name: str) -> None:
    """A reading names the decoder and the version that made it."""
    assert DECODER_VERSIONS[name] == f"{name}/1"
