"""How long from hearing a reading to its being durable, at 1,000 readings a second, and what each costs the disk.

Twice: without a broker, when nothing but readings is written; and with all that a gateway does, while four peers on
the same processor and disk, which they share nowhere but here, certify a block of 256 every 256 ms.
"""

import asyncio
import sys
from collections.abc import Callable, Sequence
from time import perf_counter_ns

from gateway.sources import Source
from tests.bench.figures import Aim, Figure, Run, quantile
from tests.bench.probes import syncs_ms, written_bytes
from tests.bench.ward import Ward, running
from tests.processes import ROOT, Site

RATE_PER_S = 1000
LEAVES = 256
SYNCS = 300
AIMS = {0.5: (Aim(at_most=1), Aim(at_most=4, of_ratio=True)), 0.99: (Aim(at_most=5),)}


async def measure(
    site: Site, *, anchored: bool, seconds: float, runs: int, report: Callable[[str], None]
) -> list[Figure]:
    """Measure with a site whose broker and peers run, where it is anchored, or do not."""
    what = f"heard to durable, {RATE_PER_S:,}/s, {'certified meanwhile' if anchored else 'without peers'}"
    times_ms, syncs, written = [], [], []
    async with running(site, leaves=LEAVES, anchored=anchored) as ward:
        for number in range(runs):
            report(f"{what}, run {number + 1} of {runs}")
            probe_ms = syncs_ms(site.folder, SYNCS)
            before = written_bytes()
            times_ms.append(await _listen(ward, int(RATE_PER_S * seconds)))
            written.append(Run((written_bytes() - before) / len(times_ms[-1])))
            syncs.append(probe_ms + syncs_ms(site.folder, SYNCS))
    figures = [_figure(what, part, times_ms, syncs) for part in AIMS]
    if anchored:
        figures.append(Figure(name=f"written to disk a reading, {RATE_PER_S:,}/s", unit="B", runs=written))
    return figures


def _figure(what: str, part: float, times_ms: Sequence[list[float]], syncs_ms: Sequence[list[float]]) -> Figure:
    runs = [Run(quantile(times, part), quantile(syncs, part)) for times, syncs in zip(times_ms, syncs_ms, strict=True)]
    bound = "write and fsync of a WAL frame"
    return Figure(name=f"{what}, p{part * 100:g}", unit="ms", runs=runs, bound=bound, aims=AIMS[part])


async def _listen(ward: Ward, count: int) -> list[float]:
    """Take that many frames from a feeder, and give how long each was on its way to the disk, in ms."""
    loop = asyncio.get_running_loop()
    async with asyncio.TaskGroup() as waiting:
        watch = _Stopwatch(ward, await ward.source, waiting)
        loop.add_reader(ward.near, watch.hear)
        try:
            line = ward.far.fileno()
            command = [sys.executable, "-m", "tests.bench.feeder", str(line), str(RATE_PER_S), str(count)]
            feeder = await asyncio.create_subprocess_exec(*command, cwd=ROOT, pass_fds=[line])
            await feeder.wait()
            await ward.wait_for(lambda: len(watch.times_ms) == count)
        finally:
            loop.remove_reader(ward.near)
    return watch.times_ms


class _Stopwatch:
    """Hears what the feeder says, and times it from when the feeder wrote it to when it is durable."""

    def __init__(self, ward: Ward, source: Source, waiting: asyncio.TaskGroup) -> None:
        self.times_ms: list[float] = []
        self._ward = ward
        self._source = source
        self._waiting = waiting

    def hear(self) -> None:
        datagram = self._ward.near.recv(64)
        self._source.hear("2a37", datagram[8:])
        self._waiting.create_task(self._stop(int.from_bytes(datagram[:8], "little")))

    async def _stop(self, written_ns: int) -> None:
        await self._ward.recorder.committed()
        self.times_ms.append((perf_counter_ns() - written_ns) / 1_000_000)
