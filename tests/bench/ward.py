"""The gateway under measurement: the real one, in this process, with a heart rate strap that is heard over a socket.

Everything from `Source.hear` on is the product's; what stands in for the radio is a socket on which each datagram is
a frame.
"""

import asyncio
import contextlib
import signal
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

from gateway.block import SealPolicy
from gateway.cli.gateway import load_config
from gateway.daemon import Gateway
from gateway.decode import DECODERS
from gateway.io import clock, keyring
from gateway.io.mqtt import Broker
from gateway.io.profiles import load_profiles
from gateway.roster_file import RosterFile
from gateway.sources import Source
from tests.bench.numbered import strap_frame
from tests.processes import Site, type_iomt

DEVICE = "strap-1"
PROFILE = "heart-rate-strap"
ADDRESS = "C0:FF:EE:00:00:01"
LIMIT_S = 30.0

FRAMES = tuple(strap_frame(number) for number in range(1000))
"""Heart rates, each with one RR interval."""


def create_site(folder: Path) -> Site:
    """Make a ledger of four peers and a gateway with the strap enrolled; nothing runs yet."""
    site = Site(folder, peers=4, sensors=0)
    options = ["--state", site.state, "--profile", PROFILE, "--address", ADDRESS, "--id", DEVICE]
    type_iomt("device", "add", *options, "--yes", "--no-reading")
    return site


class Ward:
    """A gateway that runs, its strap's source, and the end of the socket that a feeder writes to."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.recorder = gateway._recorder
        self.anchoring = gateway._anchoring
        self.near, self.far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.near.setblocking(False)  # noqa: FBT003 - socket's own signature
        self.source: asyncio.Future[Source] = asyncio.get_running_loop().create_future()
        gateway._sources.follow = self._follow  # type: ignore[method-assign]  # in the radio's place

    async def wait_for(self, look: Callable[[], bool]) -> None:
        """Wait until something is so. Raises: TimeoutError if it is not so for long."""
        async with asyncio.timeout(LIMIT_S):
            while not look():  # noqa: ASYNC110 - inner states of the product announce nothing
                await asyncio.sleep(0.005)

    async def _follow(self, source: Source) -> None:
        self.source.set_result(source)
        await asyncio.get_running_loop().create_future()


@contextlib.asynccontextmanager
async def running(site: Site, *, leaves: int, age_ms: int = 10_000, anchored: bool = True) -> AsyncIterator[Ward]:
    """Run the site's gateway in this process; where it is anchored, that is where broker and peers run, it may seal."""
    config = replace(load_config(site.state), seal=SealPolicy(leaves=leaves, age_ms=age_ms))
    gateway = Gateway(
        site.state,
        config=config,
        broker=Broker.parse(site.broker.url),
        roster=RosterFile(site.state / config.roster, site.state),
        master=keyring.load_master(site.state),
        profiles=load_profiles(frozenset(DECODERS)),
        boot=clock.boot_id(),
    )
    ward = Ward(gateway)
    task = asyncio.create_task(gateway.run())
    try:
        await ward.wait_for(lambda: task.done() or ward.source.done())
        _be_interrupted()
        if anchored:
            await ward.wait_for(lambda: task.done() or ward.anchoring.may_seal)
        yield ward
    finally:
        task.cancel()
        await task
        ward.near.close()
        ward.far.close()


def _be_interrupted() -> None:
    """Let signals end the bench, not the gateway alone, which has just taken them for itself."""
    this = asyncio.current_task()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, this.cancel if this else lambda: None)
