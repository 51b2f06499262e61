"""The decoders' invariants, for any bytes.

All: nothing is raised; what is made is a Sample that can be made a reading and read back from its bytes, or a Damaged
that says why. A whole frame (GATT, advertisements) gives one value or more, whose frames are its bytes and no others.

A line ("serial.*"), beside that: one chunk gives what two halves and byte by byte give; the frames are the bytes heard,
in order, but for what ends frames and what is still awaited; and a sound frame behind any noise is found:

    packets (Nonin, Contec)  its first byte is in a sample: the frame itself, or one that began before and is as sound,
                             which noise can be that ends like a frame begins. In Nonin format 8 it is the frame itself:
                             only a frame's first byte has bit 7
    lines (Masimo)           behind noise and a line end always; behind noise alone where no slash stands in what the
                             noise left of a line, so that the line begins nowhere before
    iomt-frame               behind noise and a 00: what is between two 00 is a frame or damaged as a whole

Input of a decoder that learns: [size, value] for each characteristic that it learns from, then the frame.
"""

import re
from collections.abc import Callable, Iterable
from functools import partial

from gateway import canonical
from gateway.decode import DECODER_VERSIONS, DECODERS, Learner
from gateway.model import Damaged, Instant, Measurement, Reading, Sample
from tests.fuzz.seeds import FRAMES, LESSONS, STREAMS
from tests.fuzz.target import Target

Made = list[Sample | Damaged]
_HELD_BACK = 1100  # CMS50E holds most: a second of 540 bytes, and damage of 512
_RUN = b"7" * 1300
_AT = Instant(real_ms=1_764_000_000_000, epoch=1, monotonic_ms=5)
_SPACE = re.compile(r"\s")


def check_whole(name: str, data: bytes) -> None:
    """Hold a decoder of whole frames to its invariants."""
    decoder = DECODERS[name]()
    if isinstance(decoder, Learner):
        for characteristic in LESSONS[name]:
            size = data[0] if data else 0
            decoder.learn(characteristic, data[1 : 1 + size])
            data = data[1 + size :]
    made = decoder.feed(data)
    check_made(name, made)
    assert made, "nothing was made of it"
    assert b"".join(piece.frame for piece in made) == data, "the frames are not the bytes heard"


def check_made(name: str, made: Made) -> None:
    """Hold what a decoder made to what all decoders promise."""
    for piece in made:
        assert isinstance(piece, (Sample, Damaged)), f"a {type(piece).__name__}"
        if isinstance(piece, Damaged):
            assert piece.reason, "damaged for no reason"
        else:
            _check_sample(name, piece)


def _check_sample(name: str, sample: Sample) -> None:
    assert all(isinstance(measurement, Measurement) for measurement in sample.measurements), "no measurements"
    assert not any(_SPACE.search(flag) for flag in sample.flags), f"a flag with a space: {sample.flags}"
    reading = Reading(
        sequence=1,
        at=_AT,
        measurements=sample.measurements,
        frame=sample.frame,
        decoder=DECODER_VERSIONS.get(name, name),
        salt=bytes(16),
        device_time_ms=sample.device_time_ms,
        flags=sample.flags,
        statement=sample.statement,
    )
    payload = canonical.encode_reading(reading)
    assert canonical.encode_reading(canonical.decode_reading(payload)) == payload, "its reading changes its bytes"


def check_line(name: str, ends: bytes, find: Callable[[str, bytes], None], data: bytes) -> None:
    """Hold a decoder of a line to its invariants; `ends` are the bytes that end frames and belong to none."""
    made = DECODERS[name]().feed(data)
    check_made(name, made)
    decoder = DECODERS[name]()
    singly = [piece for byte in data for piece in decoder.feed(bytes((byte,)))]
    assert singly == made, "one chunk is not byte by byte"
    decoder, half = DECODERS[name](), len(data) // 2
    assert decoder.feed(data[:half]) + decoder.feed(data[half:]) == made, "one chunk is not its two halves"
    heard = data.translate(None, ends)
    given = _join(made).translate(None, ends)
    assert heard.startswith(given), "the frames are not the bytes heard"
    assert len(heard) - len(given) <= _HELD_BACK, f"{len(heard) - len(given)} bytes are held back"
    find(name, data)


def find_packet(name: str, noise: bytes) -> None:
    """Find a packet behind noise, or a sample that has its first byte."""
    frame = STREAMS[name][0]
    at = 0
    for piece in DECODERS[name]().feed(noise + frame):
        if at <= len(noise) < at + len(piece.frame) and isinstance(piece, Sample):
            return
        at += len(piece.frame)
    raise AssertionError("the frame behind the noise is in no sample")


def find_itself(name: str, noise: bytes) -> None:
    """Find a frame behind any noise, the very frame."""
    frame = STREAMS[name][0]
    assert _ends_with(frame, DECODERS[name]().feed(noise + frame)), "the frame behind the noise is not found"


def find_line(name: str, noise: bytes) -> None:
    """Find a text line behind noise and a line end, and behind noise that cannot be its beginning."""
    line = STREAMS[name][0]
    text = line.rstrip()
    assert _ends_with(text, DECODERS[name]().feed(noise + b"\n" + line)), "the line behind a line end is not found"
    if b"/" not in re.split(rb"[\r\n]", noise)[-1]:
        assert _ends_with(text, DECODERS[name]().feed(noise + line)), "the line behind the noise is not found"


def find_statement(name: str, noise: bytes) -> None:
    """Find a stuffed statement behind noise and a 00."""
    frame = STREAMS[name][0]
    made = DECODERS[name]().feed(noise + b"\x00" + frame)
    assert _ends_with(frame[:-1], made), "the frame behind a 00 is not found"


def _join(made: Iterable[Sample | Damaged]) -> bytes:
    return b"".join(piece.frame for piece in made)


def _ends_with(frame: bytes, made: Made) -> bool:
    return bool(made) and isinstance(made[-1], Sample) and made[-1].frame == frame


_LINES: dict[str, tuple[bytes, Callable[[str, bytes], None]]] = {
    "serial.nonin_df2": (b"", find_packet),
    "serial.nonin_df7": (b"", find_packet),
    "serial.nonin_df8": (b"", find_itself),
    "serial.cms50d": (b"", find_packet),
    "serial.cms50e": (b"", find_packet),
    "serial.masimo_ascii1": (b"\r\n", find_line),
    "serial.iomt_frame": (b"\x00", find_statement),
}


def _untaught(frame: bytes, lessons: int) -> bytes:
    return bytes(lessons) + frame


def _seeds_of_whole(name: str) -> tuple[bytes, ...]:
    frames, lessons = FRAMES[name], LESSONS.get(name, {})
    if not lessons:
        return frames
    taught = [
        b"".join(bytes((len(values[turn % len(values)]),)) + values[turn % len(values)] for values in lessons.values())
        for turn in range(2)
    ]
    return (
        *(_untaught(frame, len(lessons)) for frame in frames),
        *(head + frame for head in taught for frame in frames),
    )


def _target_of(name: str) -> Target:
    if name in _LINES:
        ends, find = _LINES[name]
        return Target(name=name, check=partial(check_line, name, ends, find), seeds=(*STREAMS[name], _RUN))
    return Target(name=name, check=partial(check_whole, name), seeds=_seeds_of_whole(name))


DECODER_TARGETS = {name: _target_of(name) for name in sorted(DECODERS)}
