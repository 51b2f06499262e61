"""The whole bench: every section in turn, in a temporary folder on a real disk."""

import asyncio
import gc
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import structlog

from tests.bench import decoders, finality, footprint, latency, notifications, peers, soak, throughput, wear
from tests.bench.figures import Figure
from tests.bench.ward import create_site
from tests.processes import Site

DISK = "/var/tmp"  # noqa: S108 - a folder of our own is made in it; /tmp may be held in memory, this may not


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """How much is measured; every figure is the median of `runs` runs, but the soak's, which is one."""

    runs: int = 3
    readings: int = 20_480
    notifications: int = 20_480
    decode_s: float = 0.1
    seconds: float = 5.0
    blocks: int = 200
    single_readings: int = 2_000
    with_processes: bool = True
    soak_s: float = 60.0
    straps: int = 50
    oximeters: int = 4
    circles: tuple[int, ...] = (1, 4, 7, 10)
    gateways: tuple[int, ...] = (1, 10, 100, 1000)
    circle_s: float = 5.0
    leaves: int = 1 << 18
    hoarded_leaves: int = 10_000_000

    def measure(self) -> list[Figure]:
        """Measure everything, and say on stderr what is under way."""
        gc.collect()
        gc.freeze()  # what the bench has loaded is no garbage that the gateway in this process would look through
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("error"))
        with TemporaryDirectory(prefix="iomt-bench-", dir=DISK) as place:
            folder = Path(place)
            figures = throughput.measure(folder, readings=self.readings, runs=self.runs, report=_report)
            figures += decoders.measure(seconds=self.decode_s, runs=self.runs, report=_report)
            figures += notifications.measure(folder, count=self.notifications, runs=self.runs, report=_report)
            figures += peers.measure_copy(folder, leaves=self.leaves, runs=self.runs, report=_report)
            if self.with_processes:
                figures += self._measure_peers(folder)
                figures += self._measure_site(create_site(folder))
            if self.soak_s:
                figures += self._measure_soak(folder / "soak")
        return figures

    def _measure_soak(self, folder: Path) -> list[Figure]:
        folder.mkdir()
        return soak.measure(folder, seconds=self.soak_s, straps=self.straps, oximeters=self.oximeters, report=_report)

    def _measure_peers(self, folder: Path) -> list[Figure]:
        circles, gateways = self.circles, self.gateways
        return [
            *peers.measure_memory(folder, leaves=self.hoarded_leaves, report=_report),
            *peers.measure_circles(folder, circles=circles, gateways=gateways, seconds=self.circle_s, report=_report),
        ]

    def _measure_site(self, site: Site) -> list[Figure]:
        try:
            alone = asyncio.run(self._measure_latency(site, anchored=False))
            site.broker.start()
            for peer in site.peers.values():
                peer.start()
            anchored = asyncio.run(self._measure_anchored(site))
            return [*alone, *anchored, *footprint.measure(site, runs=self.runs, report=_report)]
        finally:
            site.end()

    async def _measure_anchored(self, site: Site) -> list[Figure]:
        return [
            *await self._measure_latency(site, anchored=True),
            *await wear.measure(site, readings=self.single_readings, runs=self.runs, report=_report),
            *await finality.measure(site, blocks=self.blocks, runs=self.runs, report=_report),
        ]

    async def _measure_latency(self, site: Site, *, anchored: bool) -> list[Figure]:
        return await latency.measure(site, anchored=anchored, seconds=self.seconds, runs=self.runs, report=_report)


def _report(what: str) -> None:
    sys.stderr.write(f"bench: {what}\n")
