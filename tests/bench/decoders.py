"""What a frame costs each decoder, beside the least that Python could do with it.

The bound takes the same bytes apart into numbers and puts the same samples together from values that are known, which
is about as little as a decoder in Python can do. Both are of the processor's time, in which nobody else's work is.
Frames are fed one by one, a line's too; of a waveform, one in 25 or 60 completes a sample, which the others pay a part
of. Statements are decoded, not checked: no signature is verified here.
"""

from collections.abc import Callable, Sequence
from struct import Struct
from time import process_time

from gateway.decode import DECODERS
from gateway.model import Measurement, Sample
from tests.bench.figures import Figure, Run
from tests.bench.frames import frames_of

_Step = tuple[Callable[[bytes], object], bytes, Sequence[Sample]]


def measure(*, seconds: float, runs: int, report: Callable[[str], None]) -> list[Figure]:
    """Measure every decoder, for `seconds` each run and as long for its bound."""
    report(f"{len(DECODERS)} decoders")
    return [_measure(name, seconds, runs) for name in DECODERS]


def _measure(name: str, seconds: float, runs: int) -> Figure:
    frames = frames_of(name)
    steps = _steps(name, frames)
    feed = DECODERS[name]().feed

    def decode() -> None:
        for frame in frames:
            feed(frame)

    def build() -> None:
        for unpack, frame, samples in steps:
            unpack(frame)
            for sample in samples:
                _build(sample)

    costs = [Run(_time_ns(decode, seconds) / len(frames), _time_ns(build, seconds) / len(frames)) for _ in range(runs)]
    return Figure(name=f"decode {name}", unit="ns", runs=costs, bound="unpacked, sample built")


def _steps(name: str, frames: Sequence[bytes]) -> list[_Step]:
    """Give each frame with the samples that it completes."""
    decoder = DECODERS[name]()
    steps: list[_Step] = []
    for frame in frames:
        items = decoder.feed(frame)
        samples = [item for item in items if isinstance(item, Sample)]
        if len(samples) < len(items):
            raise AssertionError(f"{name} finds a frame damaged: {items}")
        steps.append((Struct(f"{len(frame)}B").unpack, frame, samples))
    if not any(samples for _, _, samples in steps):
        raise AssertionError(f"{name} makes nothing of its frames")
    return steps


def _build(sample: Sample) -> Sample:
    return Sample(
        measurements=tuple([Measurement(each.code, each.value, each.unit) for each in sample.measurements]),
        frame=sample.frame,
        device_time_ms=sample.device_time_ms,
        flags=sample.flags,
        record=sample.record,
        statement=sample.statement,
    )


def _time_ns(work: Callable[[], None], seconds: float) -> float:
    """Give what the work takes of the processor, done again and again for so many seconds of it."""
    times = 0
    start_s = process_time()
    while (taken_s := process_time() - start_s) < seconds or not times:
        work()
        times += 1
    return taken_s / times * 1e9
