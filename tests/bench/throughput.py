"""How many readings a second go the whole way: decoded, signed, kept, read back, hashed, sealed; and their size."""

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

from gateway.decode import DECODERS
from gateway.io import clock
from gateway.io.profiles import load_profiles
from gateway.io.store.readings import ReadingStore
from gateway.recorder import Recorder
from gateway.sources import Source
from tests.bench.figures import Aim, Figure, Run
from tests.bench.probes import signatures_per_s
from tests.bench.ward import ADDRESS, DEVICE, FRAMES, PROFILE

LEAVES = 256
FLOCK = 64
"""How many frames are heard in one turn of the event loop."""

LEAD = 2048
"""How far hearing may be ahead of the disk."""


def measure(folder: Path, *, readings: int, runs: int, report: Callable[[str], None]) -> list[Figure]:
    """Measure in a fresh database a run, each between two looks at the bare rate of signatures."""
    rates, sizes = [], []
    for number in range(runs):
        report(f"throughput, run {number + 1} of {runs}")
        before = signatures_per_s()
        with TemporaryDirectory(dir=folder) as place:
            file = Path(place) / "readings.db"
            seconds = asyncio.run(_record(file, readings))
            sizes.append(Run(file.stat().st_size / readings))
        rates.append(Run(readings / seconds, (before + signatures_per_s()) / 2))
    return [
        Figure(
            name="readings signed, kept, sealed",
            unit="/s",
            runs=rates,
            bound="bare Ed25519 signatures, one core",
            aims=(Aim(at_least=0.5, of_ratio=True),),
        ),
        Figure(name="stored a heart rate, tree and indexes", unit="B", runs=sizes, aims=(Aim(at_most=300),)),
    ]


async def _record(file: Path, readings: int) -> float:
    """Give how many seconds it takes until all of the readings are sealed."""
    with ThreadPoolExecutor(1) as executor:
        store = ReadingStore(str(file))
        recorder = Recorder(store, executor, clock.Clocks(clock.boot_id()), bytes(32), "ward-3", "ward-3.00000000")
        await recorder.open("bench")
        device = recorder.enrol(DEVICE, PROFILE, ADDRESS)
        await recorder.commit()
        await recorder.seal(LEAVES)
        source = Source(device, load_profiles(frozenset(DECODERS))[PROFILE], recorder, deque())
        start_s = perf_counter()
        await asyncio.gather(_hear(recorder, source, readings), _keep(recorder, recorder.durable + readings))
        seconds = perf_counter() - start_s
        store.close()
    return seconds


async def _hear(recorder: Recorder, source: Source, readings: int) -> None:
    for start in range(0, readings, FLOCK):
        while recorder.waiting > LEAD:  # noqa: ASYNC110 - nobody announces that `commit` has taken them
            await asyncio.sleep(0.0005)
        for number in range(start, min(start + FLOCK, readings)):
            source.hear("2a37", FRAMES[number % len(FRAMES)])
        await asyncio.sleep(0)


async def _keep(recorder: Recorder, until: int) -> None:
    """Do what the daemon's `keep` does, without the anchoring."""
    while recorder.durable < until or recorder.unsealed:
        await recorder.commit()
        if recorder.unsealed >= LEAVES or (recorder.unsealed and recorder.durable >= until):
            await recorder.seal(LEAVES)
        await asyncio.sleep(0)
