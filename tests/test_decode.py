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
def test_any_garbage_is_a_sample_or_damaged(name: str, chunks: list[bytes]) -> None:
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
def test_noise_byte_by_byte_equals_one_chunk(name: str, noise: bytes) -> None:
    """What comes out of a line depends on the bytes alone."""
    decoder = DECODERS[name]()
    assert [made for byte in noise for made in decoder.feed(bytes((byte,)))] == DECODERS[name]().feed(noise)


@pytest.mark.parametrize("name", SERIAL)
@pytest.mark.parametrize("unit", [b"\x00", b"\xff", b"\x01\x81", b"0"])
def test_ten_megabytes_without_a_frame_keep_nothing(name: str, unit: bytes) -> None:
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


@pytest.mark.parametrize("name", sorted(DECODERS))
def test_a_decoder_has_a_version(name: str) -> None:
    """A reading names the decoder and the version that made it."""
    assert DECODER_VERSIONS[name] == f"{name}/1"
