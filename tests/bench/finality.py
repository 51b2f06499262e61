"""How long from a block being sealed, durable here, to its certificate being durable here: four peers, one broker."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

from gateway.io.mqtt import Broker
from gateway.ledger import messages
from gateway.ledger.anchor import Certified
from gateway.model import Proposal
from tests.bench.figures import Aim, Figure, Run, quantile
from tests.bench.probes import round_trips_ms, syncs_ms
from tests.bench.ward import FRAMES, Ward, running
from tests.processes import Site

LEAVES = 256
AGE_MS = 600_000
"""No block is sealed before it is full."""

PAUSE_S = 0.01
"""Between blocks: the fourth peer's vote on one is none of the next one's business."""


async def measure(site: Site, *, blocks: int, runs: int, report: Callable[[str], None]) -> list[Figure]:
    """Measure with a site whose peers run, one block at a time."""
    p50, p99 = [], []
    async with running(site, leaves=LEAVES, age_ms=AGE_MS) as ward:
        watch = _Stopwatch(ward)
        await watch.time_block()
        for number in range(runs):
            report(f"sealed to certified, run {number + 1} of {runs}")
            bound_ms = await _bounds_ms(site.broker.url, site.folder, watch.message_bytes, blocks)
            times_ms = [await watch.time_block() for _ in range(blocks)]
            p50.append(Run(quantile(times_ms, 0.5), quantile(bound_ms, 0.5)))
            p99.append(Run(quantile(times_ms, 0.99), quantile(bound_ms, 0.99)))
    what, bound = f"sealed to certified, {LEAVES} leaves", "QoS 1 round trip and fsync"
    return [
        Figure(name=f"{what}, p50", unit="ms", runs=p50, bound=f"{bound}, p50", aims=(Aim(at_most=5),)),
        Figure(name=f"{what}, p99", unit="ms", runs=p99, bound=f"{bound}, p99", aims=(Aim(at_most=15),)),
    ]


async def _bounds_ms(broker: str, folder: Path, size_bytes: int, count: int) -> list[float]:
    """Give the least that a block could take: a message of its size through the broker, and an fsync."""
    trips_ms = await round_trips_ms(Broker.parse(broker), size_bytes, count)
    return [trip_ms + sync_ms for trip_ms, sync_ms in zip(trips_ms, syncs_ms(folder, count), strict=True)]


class _Stopwatch:
    """Fills one block after the other, and notes when each was proposed and when its certificate was kept."""

    message_bytes = len(messages.encode_proposal(bytes(300), [bytes(32)] * LEAVES))

    def __init__(self, ward: Ward) -> None:
        self._ward = ward
        self._proposed_s: dict[int, float] = {}
        self._certified_s: dict[int, float] = {}
        self._propose, self._say = ward.anchoring.propose, ward.anchoring.say_certificate
        ward.anchoring.propose = self._note_proposal  # type: ignore[method-assign]  # sealed, and durable, just before
        ward.anchoring.say_certificate = self._note_certificate  # type: ignore[method-assign]  # durable just before

    async def time_block(self) -> float:
        """Hear as many readings as fill a block, once all before it is final, and give how long it took, in ms."""
        source, recorder = await self._ward.source, self._ward.recorder
        height = recorder.head.next_height
        for number in range(LEAVES - recorder.unsealed - recorder.waiting):
            source.hear("2a37", FRAMES[number])
        await self._ward.wait_for(lambda: height in self._certified_s)
        await asyncio.sleep(PAUSE_S)
        return (self._certified_s[height] - self._proposed_s[height]) * 1000

    def _note_proposal(self, proposal: Proposal) -> None:
        self._proposed_s[proposal.block.height] = perf_counter()
        self._propose(proposal)

    def _note_certificate(self, certified: Certified) -> None:
        self._certified_s[certified.block.height] = perf_counter()
        self._say(certified)
