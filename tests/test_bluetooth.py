import asyncio
import dataclasses
import sys
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from firmware_stubs.bluez import Bluez
from firmware_stubs.bus import PrivateBus
from firmware_stubs.device import Device
from firmware_stubs.objects import bluez_error
from firmware_stubs.sensors import HEART_RATE_MEASUREMENT, heart_rate_monitor, pulse_oximeter
from gateway.errors import Unavailable
from gateway.io.bluetooth import LinkState, Radio, discover, radio

ADDRESS = "C0:FF:EE:00:00:01"
OTHER_ADDRESS = "C0:FF:EE:00:00:02"
LIMIT_S = 20.0


class Listener:
    """What one `follow` tells: its frames and its states."""

    def __init__(self) -> None:
        self.frames: asyncio.Queue[bytes] = asyncio.Queue()
        self.states: asyncio.Queue[tuple[LinkState, str]] = asyncio.Queue()
        self.past: list[LinkState] = []

    def on_state(self, state: LinkState, reason: str) -> None:
        """Take a change of state."""
        self.states.put_nowait((state, reason))

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

    def follow(self, address: str = ADDRESS, *, quiet_s: float = LIMIT_S, characteristic: str = "2A37") -> Listener:
        """Start following a device."""
        heard = Listener()
        follow = self._radio.follow(
            address, characteristic, quiet_s=quiet_s, on_frame=heard.frames.put_nowait, on_state=heard.on_state
        )
        self.tasks.append(self._group.create_task(follow))
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
def _short_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(radio, "_FIRST_DELAY_S", 0.05)


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


async def test_frames_arrive(device: Device) -> None:
    """A device within reach is found, connected and subscribed, and each notification is handed on as it was."""
    async with running() as daemon:
        heard = daemon.follow()
        await heard.until(LinkState.SUBSCRIBED)
        device.notify(HEART_RATE_MEASUREMENT, b"\x06\x48")
        device.notify(HEART_RATE_MEASUREMENT, b"\x06\x49")
        assert [await heard.frame(), await heard.frame()] == [b"\x06\x48", b"\x06\x49"]
        assert heard.past == [LinkState.SEARCHING, LinkState.CONNECTING, LinkState.SUBSCRIBED]


async def test_lost_link_comes_back(device: Device) -> None:
    """After a lost link the device is subscribed again, by way of lost, backoff and searching."""
    async with running() as daemon:
        heard = daemon.follow()
        await heard.until(LinkState.SUBSCRIBED)
        device.lose_link()
        assert await heard.until(LinkState.LOST) == "the link was lost"
        heard.past.clear()
        await heard.until(LinkState.SUBSCRIBED)
        assert heard.past == [LinkState.BACKOFF, LinkState.SEARCHING, LinkState.CONNECTING, LinkState.SUBSCRIBED]
        device.notify(HEART_RATE_MEASUREMENT, b"\x06\x48")
        assert await heard.frame() == b"\x06\x48"


async def test_silent_link_is_lost(device: Device) -> None:
    """A link that stays up but says nothing for the quiet time is given up and made anew."""
    device.faults.silent = True
    async with running() as daemon:
        heard = daemon.follow(quiet_s=0.2)
        assert await heard.until(LinkState.QUIET) == "no frame for 0.2 s"
        assert await heard.until(LinkState.LOST) == "no frame for 0.2 s"
        await heard.until(LinkState.SUBSCRIBED)


async def test_connect_that_fails_is_tried_again(device: Device) -> None:
    """A refused Connect leads to backoff with BlueZ's own words, and then to a connection."""
    device.faults.connect_errors = deque([bluez_error("InProgress", "Operation already in progress")])
    async with running() as daemon:
        heard = daemon.follow()
        assert "org.bluez.Error.InProgress" in await heard.until(LinkState.BACKOFF)
        await heard.until(LinkState.SUBSCRIBED)
        assert LinkState.LOST not in heard.past


async def test_missing_characteristic_is_named(device: Device) -> None:
    """A device without the characteristic is not held, and the reason names what was missing."""
    async with running() as daemon:
        heard = daemon.follow(characteristic="2A5F")
        assert "00002a5f" in await heard.until(LinkState.BACKOFF)
        assert not device.connected


async def test_killed_bluetoothd(bus: PrivateBus) -> None:
    """When bluetoothd is killed and started again, of which bleak tells nothing, frames come again."""
    async with running() as daemon:
        heard = daemon.follow()
        async with Bluez(bus.address) as bluez:
            bluez.add(heart_rate_monitor(ADDRESS))
            await heard.until(LinkState.SUBSCRIBED)
            await bluez.crash()
            await heard.until(LinkState.LOST)
        async with Bluez(bus.address) as bluez:
            device = bluez.add(heart_rate_monitor(ADDRESS))
            await heard.until(LinkState.SUBSCRIBED)
            device.notify(HEART_RATE_MEASUREMENT, b"\x06\x48")
            assert await heard.frame() == b"\x06\x48"


async def test_bluetoothd_replaced_at_once(bus: PrivateBus) -> None:
    """When another bluetoothd takes over in the moment that the first is killed, frames come again."""
    async with running() as daemon, Bluez(bus.address) as first, Bluez(bus.address) as second:
        first.add(heart_rate_monitor(ADDRESS))
        device = second.add(heart_rate_monitor(ADDRESS))
        heard = daemon.follow()
        await heard.until(LinkState.SUBSCRIBED)
        await first.crash()
        await heard.until(LinkState.SUBSCRIBED)
        device.notify(HEART_RATE_MEASUREMENT, b"\x06\x48")
        assert await heard.frame() == b"\x06\x48"


async def test_killed_radio_and_bus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the bus and everything on it is killed and started again, frames come again."""
    folder = tmp_path / "bus"
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={folder}/bus")
    async with running() as daemon:
        heard = daemon.follow()
        async with radio_process(folder) as process:
            await heard.frame()
            process.kill()
            await heard.until(LinkState.LOST)
        while not heard.frames.empty():
            heard.frames.get_nowait()
        async with radio_process(folder):
            await heard.frame()


async def test_adapter_off_and_on(bluez: Bluez, device: Device) -> None:
    """Switching the adapter off loses the link; switching it on brings it back."""
    async with running() as daemon:
        heard = daemon.follow()
        await heard.until(LinkState.SUBSCRIBED)
        bluez.adapter.set_power(on=False)
        await heard.until(LinkState.LOST)
        bluez.adapter.set_power(on=True)
        await heard.until(LinkState.SUBSCRIBED)
        assert device.connected


async def test_adapter_unplugged_and_plugged_in(bluez: Bluez, device: Device) -> None:
    """An adapter that is unplugged and plugged in again while a device is searched for finds it all the same."""
    bluez.adapter.devices.remove(device)
    async with running() as daemon:
        heard = daemon.follow()
        await heard.until(LinkState.SEARCHING)
        async with asyncio.timeout(LIMIT_S):
            await bluez.adapter.scans.wait()
        bluez.adapter.unplug()
        bluez.adapter.publish()
        bluez.adapter.devices.append(device)
        await heard.until(LinkState.SUBSCRIBED)


async def test_link_of_a_dead_process_is_taken_over(device: Device) -> None:
    """A device that BlueZ holds for a process that was killed does not advertise, and is followed all the same."""
    script = (
        "import asyncio, bleak\n"
        "async def main():\n"
        f"    await bleak.BleakClient({ADDRESS!r}).connect()\n"
        "    print('connected', flush=True)\n"
        "    await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", script, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    async with asyncio.timeout(LIMIT_S):
        assert await process.stdout.readline() == b"connected\n"
        process.kill()
        await process.wait()
    assert device.connected
    async with running() as daemon:
        await daemon.follow().until(LinkState.SUBSCRIBED)


async def test_more_devices_than_slots(bluez: Bluez, device: Device) -> None:
    """With one slot a second device waits, and gets its turn when the first link ends."""
    other = bluez.add(heart_rate_monitor(OTHER_ADDRESS))
    async with running(slots=1) as daemon:
        first = daemon.follow()
        await first.until(LinkState.SUBSCRIBED)
        second = daemon.follow(OTHER_ADDRESS)
        assert await second.until(LinkState.SEARCHING) == ""
        assert await second.until(LinkState.SEARCHING) == "every connection slot is taken"
        assert not other.connected
        device.lose_link()
        await second.until(LinkState.SUBSCRIBED)


async def test_cancelled_follow_leaves_no_link(device: Device) -> None:
    """Ending a follow disconnects its device."""
    async with running() as daemon:
        await daemon.follow().until(LinkState.SUBSCRIBED)
        assert device.connected
        await daemon.stop()
        assert not device.connected


async def test_ended_link_hears_nothing() -> None:
    """What arrives for a connection after its end is no frame of the device."""
    frames: list[bytes] = []
    link = radio._Link(frames.append)
    link.hear(None, bytearray(b"\x01"))
    link.end("gone")
    link.hear(None, bytearray(b"\x02"))
    assert frames == [b"\x01"]


async def test_discover_sorts_by_strength(bluez: Bluez) -> None:
    """Discovery tells name, services, maker and strength of each device, the nearest first."""
    bluez.add(heart_rate_monitor(ADDRESS))
    bluez.add(dataclasses.replace(pulse_oximeter(OTHER_ADDRESS), rssi_dbm=-40))
    near, far = await discover(0.5)
    assert (near.address, far.address) == (OTHER_ADDRESS, ADDRESS)
    assert far.name == "Simulated HRM"
    assert far.service_uuids == ("0000180d-0000-1000-8000-00805f9b34fb",)
    assert far.manufacturer_ids == (0xFFFF,)
    assert near.rssi_dbm == pytest.approx(-40, abs=1)


async def test_discover_without_bus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a D-Bus, discovery says so in one line."""
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={tmp_path}/none")
    with pytest.raises(Unavailable, match=r"^there is no system D-Bus .*: start the service dbus$"):
        await discover(0.1)


async def test_discover_without_bluez(bus: PrivateBus) -> None:
    """Without BlueZ on the bus, discovery says what to install."""
    assert bus.address
    with pytest.raises(Unavailable, match=r"^BlueZ does not run: install Debian's package bluez"):
        await discover(0.1)


async def test_discover_with_adapter_off(bluez: Bluez) -> None:
    """With the adapter off, discovery says how to switch it on."""
    bluez.adapter.set_power(on=False)
    with pytest.raises(Unavailable, match=r"^the Bluetooth adapter hci0 is off: `bluetoothctl power on`$"):
        await discover(0.1)


async def test_discover_with_unknown_adapter(bluez: Bluez) -> None:
    """An adapter that is not there is refused with the names of those that are."""
    assert bluez.adapter.path == "/org/bluez/hci0"
    with pytest.raises(Unavailable, match=r"^there is no Bluetooth adapter hci7, only hci0$"):
        await discover(0.1, adapter="hci7")
