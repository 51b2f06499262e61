"""How many notifications a second go from BlueZ's bus to the disk, and how many bleak alone takes.

    flood (a process) -> dbus-daemon -> bleak -> Radio -> Source -> Recorder -> committed
    flood (a process) -> dbus-daemon -> bleak -> counted

The time on the wall has all three processes in it, which share the processor here; the processor's time is that of
the gateway's process alone, its store's thread included.
"""

import asyncio
import json
import os
import sys
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, process_time
from typing import NamedTuple

from bleak import BleakClient, BleakScanner

from gateway import links
from gateway.decode import DECODERS
from gateway.io import clock
from gateway.io.bluetooth import Radio
from gateway.io.profiles import load_profiles
from gateway.io.store.readings import ReadingStore
from gateway.recorder import Recorder
from gateway.sources import Source
from tests.bench.figures import Figure, Run
from tests.bench.flood import FLOCK
from tests.bench.ward import LIMIT_S, PROFILE
from tests.processes import ROOT

STRAPS = 5
"""As many as a gateway holds by default."""

UNDER_WAY = 256
"""How many notifications may be sent and not yet heard."""

BUS = "DBUS_SYSTEM_BUS_ADDRESS"


class _Taken(NamedTuple):
    """How long it took: on the wall, and of the processor."""

    seconds: float
    processor_s: float


def measure(folder: Path, *, count: int, runs: int, report: Callable[[str], None]) -> list[Figure]:
    """Measure in a fresh database a run; `count` is of whole flocks."""
    kept, counted = [], []
    for number in range(runs):
        report(f"notifications, run {number + 1} of {runs}")
        with TemporaryDirectory(dir=folder) as place:
            kept.append(asyncio.run(_keep(Path(place), count)))
            counted.append(asyncio.run(_count(Path(place), count)))
    pairs = list(zip(kept, counted, strict=True))
    bound = "bare bleak, counted"
    rates = [Run(count / ours.seconds, count / bare.seconds) for ours, bare in pairs]
    costs = [Run(ours.processor_s / count * 1e6, bare.processor_s / count * 1e6) for ours, bare in pairs]
    return [
        Figure(name="notifications through bleak, kept", unit="/s", runs=rates, bound=bound),
        Figure(name="processor a notification, kept", unit="us", runs=costs, bound=bound),
    ]


async def _keep(place: Path, count: int) -> _Taken:
    """Take them as the gateway does, and give how long it took until all were durable."""
    with ThreadPoolExecutor(1) as executor:
        store = ReadingStore(str(place / "readings.db"))
        recorder = Recorder(store, executor, clock.Clocks(clock.boot_id()), bytes(32), "ward-3", "ward-3.00000000")
        await recorder.open("bench")
        async with _flooded(place, count) as flood, asyncio.TaskGroup() as group:
            sources = _enrol(recorder, flood.straps)
            await recorder.commit()
            radio = Radio(slots=STRAPS)
            following = [links.follow(source.profile, source.device.address, source, radio) for source in sources]
            tasks = [group.create_task(work) for work in (radio.run(), *following)]
            await _until(lambda: all(source.state == "subscribed" for source in sources))
            taken = await flood.time(_commit(recorder, flood, recorder.durable + count))
            for task in tasks:
                task.cancel()
        store.close()
    return taken


def _enrol(recorder: Recorder, straps: list[str]) -> list[Source]:
    profile = load_profiles(frozenset(DECODERS))[PROFILE]
    devices = [recorder.enrol(f"strap-{number}", PROFILE, address) for number, address in enumerate(straps)]
    return [Source(device, profile, recorder, deque()) for device in devices]


async def _commit(recorder: Recorder, flood: "_Flood", until: int) -> None:
    """Do what the daemon's `keep` does, without the sealing."""
    work = asyncio.Event()

    def note() -> None:
        flood.heard()
        work.set()

    recorder.on_waiting = note
    async with asyncio.timeout(LIMIT_S):
        while recorder.durable < until:
            await work.wait()
            work.clear()
            await recorder.commit()


async def _count(place: Path, count: int) -> _Taken:
    """Take them with bleak alone, and give how long it took until all were counted."""
    async with _flooded(place, count) as flood:
        clients = []
        for address in flood.straps:
            device = await BleakScanner.find_device_by_address(address, LIMIT_S)
            assert device is not None
            clients.append(BleakClient(device))
            await clients[-1].connect()
            await clients[-1].start_notify("2a37", lambda _characteristic, _value: flood.heard())
        taken = await flood.time(flood.all_heard())
        for client in clients:
            await client.disconnect()
    return taken


class _Flood:
    """The process that notifies: as many more are let go as were heard, once each turn of the event loop.

    Not at once: dbus-fast reads for as long as there is something to read, and nothing else would have its turn.
    """

    def __init__(self, straps: list[str], stdin: asyncio.StreamWriter, count: int) -> None:
        self.straps = straps
        self._stdin = stdin
        self._coming = self._left = count
        self._heard = 0
        self._done = asyncio.Event()

    def heard(self) -> None:
        """Note one notification."""
        if not self._heard:
            asyncio.get_running_loop().call_soon(self._go_on)
        self._heard += 1

    async def all_heard(self) -> None:
        """Wait until all were."""
        async with asyncio.timeout(LIMIT_S):
            await self._done.wait()

    async def time(self, end: Awaitable[None]) -> _Taken:
        """Let it begin, and give how long it is to the end."""
        start_s, processor_s = perf_counter(), process_time()
        self._let_go(UNDER_WAY)
        await end
        return _Taken(perf_counter() - start_s, process_time() - processor_s)

    def _go_on(self) -> None:
        self._left -= self._heard
        self._let_go(self._coming - self._left + UNDER_WAY)
        self._heard = 0
        if not self._left:
            self._done.set()

    def _let_go(self, more: int) -> None:
        """Let whole flocks go, `more` at the most, as long as there are any to come."""
        flocks = min(more, self._coming) // FLOCK
        self._coming -= flocks * FLOCK
        self._stdin.write(b"+" * flocks)


@asynccontextmanager
async def _flooded(place: Path, count: int) -> AsyncIterator[_Flood]:
    """Run the straps, which are found on the system's bus as long as this lasts."""
    command = [sys.executable, "-m", "tests.bench.flood", "--folder", str(place / "bus"), "--straps", str(STRAPS)]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdin=pipe, stdout=pipe)
    before = os.environ.get(BUS)
    try:
        assert process.stdin is not None
        assert process.stdout is not None
        said = json.loads(await process.stdout.readline())
        os.environ[BUS] = said["bus"]
        yield _Flood(said["straps"], process.stdin, count)
    finally:
        os.environ.pop(BUS, None)
        if before is not None:
            os.environ[BUS] = before
        if process.stdin is not None:
            process.stdin.close()  # which is its end
        await process.wait()


async def _until(look: Callable[[], bool]) -> None:
    async with asyncio.timeout(LIMIT_S):
        while not look():  # noqa: ASYNC110 - a source's state is announced to nobody
            await asyncio.sleep(0.005)
