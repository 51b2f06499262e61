"""How many bytes are written to the disk for each reading where readings come singly, as at 10 a second.

At that rate every reading has a commit of its own, and the age of ten seconds seals a block of 100. So here each is
heard when the one before is durable, which writes the same and takes less long. At 1,000 a second: see latency.
"""

from collections.abc import Callable

from tests.bench.figures import Figure, Run
from tests.bench.probes import written_bytes
from tests.bench.ward import FRAMES, Ward, running
from tests.processes import Site

LEAVES = 100


async def measure(site: Site, *, readings: int, runs: int, report: Callable[[str], None]) -> list[Figure]:
    """Measure with a site whose peers run."""
    written = []
    async with running(site, leaves=LEAVES) as ward:
        for number in range(runs):
            report(f"written at 10 a second, run {number + 1} of {runs}")
            before = written_bytes()
            await _hear_singly(ward, readings)
            written.append(Run((written_bytes() - before) / readings))
    return [Figure(name="written to disk a reading at 10/s", unit="B", runs=written)]


async def _hear_singly(ward: Ward, readings: int) -> None:
    source = await ward.source
    for number in range(readings):
        source.hear("2a37", FRAMES[number % len(FRAMES)])
        await ward.recorder.committed()
