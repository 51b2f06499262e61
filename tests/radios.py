"""The gateway's radio on a simulated one: a private bus, org.bluez on it, and what a `follow` tells."""

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from firmware_stubs.bluez import Bluez
from firmware_stubs.bus import PrivateBus
from firmware_stubs.device import Device
from firmware_stubs.sensors import heart_rate_monitor
from gateway.io.bluetooth import Contact, LinkState, Radio, Write, link

ADDRESS = "C0:FF:EE:00:00:01"
OTHER_ADDRESS = "C0:FF:EE:00:00:02"
LIMIT_S = 20.0


class Listener:
    """What one `follow` tells: its frames and its states; what it writes is set by a test."""

    def __init__(self) -> None:
        self.frames: asyncio.Queue[bytes] = asyncio.Queue()
        self.states: asyncio.Queue[tuple[LinkState, str]] = asyncio.Queue()
        self.past: list[LinkState] = []
        self.bonds: list[bool] = []
        self.learnt: list[tuple[str, bytes]] = []
        self.heard: list[tuple[str, bytes]] = []
        self.first_writes: list[Write] = []
        self.next_writes: list[Write] = []
        self.answers: dict[bytes, Write] = {}

    def change(self, state: LinkState, reason: str) -> None:
        """Take a change of state."""
        self.states.put_nowait((state, reason))

    def opened(self, *, bonded: bool) -> list[Write]:
        """Take the beginning of a connection."""
        self.bonds.append(bonded)
        return self.first_writes

    def learn(self, uuid: str, value: bytes) -> None:
        """Take what was read."""
        self.learnt.append((uuid, value))

    def subscribed(self) -> list[Write]:
        """Take the end of a connection's beginning."""
        return self.next_writes

    def hear(self, uuid: str, frame: bytes) -> list[Write]:
        """Take a frame."""
        self.heard.append((uuid, frame))
        self.frames.put_nowait(frame)
        return [self.answers[frame]] if frame in self.answers else []

    async def until(self, wanted: LinkState) -> str:
        """Wait for a state and return its reason."""
        async with asyncio.timeout(LIMIT_S):
            while True:
                state, reason = await self.states.get()
                self.past.append(state)
                if state is wanted:
                    return reason

    async def frame(self) -> bytes:
        """Wait for the next frame."""
        async with asyncio.timeout(LIMIT_S):
            return await self.frames.get()


class Daemon:
    """What the gateway's daemon does: it creates the tasks and cancels them in the end."""

    def __init__(self, radio: Radio, group: asyncio.TaskGroup) -> None:
        self._radio = radio
        self._group = group
        self.tasks = [group.create_task(radio.run())]

    def follow(
        self,
        address: str = ADDRESS,
        *channels: str,
        quiet_s: float = LIMIT_S,
        heard: Listener | None = None,
        context: tuple[str, ...] = (),
        intermittent: bool = False,
        bond_required: bool = False,
    ) -> Listener:
        """Start following a device."""
        heard = heard or Listener()
        contact = Contact(
            address=address,
            channels=channels or ("2a37",),
            context=context,
            quiet_s=quiet_s,
            intermittent=intermittent,
            bond_required=bond_required,
        )
        self.tasks.append(self._group.create_task(self._radio.follow(contact, heard)))
        return heard

    def listen(self, service: str, *, quiet_s: float) -> Listener:
        """Start listening to what a device advertises."""
        heard = Listener()
        contact = Contact(address=ADDRESS, channels=(service,), quiet_s=quiet_s)
        self.tasks.append(self._group.create_task(self._radio.listen(contact, heard)))
        return heard

    async def stop(self) -> None:
        """Cancel every task and wait until all have ended."""
        for task in self.tasks:
            task.cancel()
        await asyncio.wait(self.tasks)


@asynccontextmanager
async def running(*, slots: int = 5) -> AsyncIterator[Daemon]:
    async with asyncio.TaskGroup() as group:
        daemon = Daemon(Radio(slots=slots), group)
        try:
            yield daemon
        finally:
            await daemon.stop()


@asynccontextmanager
async def radio_process(folder: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run the simulated radio as a process of its own, twenty times as fast as life, until the block ends."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "firmware_stubs.radio", "--folder", str(folder), "--speed", "20"),
        *("--sensor", f"heart_rate:{ADDRESS}:ppg_2min"),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    async with asyncio.timeout(LIMIT_S):
        assert await process.stdout.readline()
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        async with asyncio.timeout(LIMIT_S):
            await process.communicate()


@pytest.fixture(autouse=True)
def short_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "FIRST_DELAY_S", 0.05)


@pytest.fixture
def bus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PrivateBus]:
    with PrivateBus(tmp_path / "bus") as private:
        monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", private.address)
        yield private


@pytest.fixture
async def bluez(bus: PrivateBus) -> AsyncIterator[Bluez]:
    async with Bluez(bus.address) as daemon:
        yield daemon


@pytest.fixture
def device(bluez: Bluez) -> Device:
    return bluez.add(heart_rate_monitor(ADDRESS))
