import asyncio
import dataclasses
import sys
from collections import deque
from pathlib import Path

import pytest

from firmware_stubs.bluez import Bluez
from firmware_stubs.bus import PrivateBus
from firmware_stubs.device import Device
from firmware_stubs.objects import bluez_error
from firmware_stubs.peripheral import Characteristic, Service, uuid_of
from firmware_stubs.sensors import HEART_RATE_MEASUREMENT, heart_rate_monitor, pulse_oximeter
from gateway.errors import Unavailable
from gateway.io.bluetooth import LinkState, discover, link
from tests.radios import (
    ADDRESS,
    LIMIT_S,
    OTHER_ADDRESS,
    Listener,
    bluez,
    bus,
    device,
    radio_process,
    running,
    short_delays,
)

__all__ = ["bluez", "bus", "device", "short_delays"]  # fixtures

BODY_SENSOR_LOCATION, BATTERY_LEVEL = uuid_of(0x2A38), uuid_of(0x2A19)


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
        heard = daemon.follow(ADDRESS, "2a5f")
        assert "2a5f" in await heard.until(LinkState.BACKOFF)
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
    heard = Listener()
    ended = link.Link(heard, lambda _now_s: None)
    ended.ear("2a37")(None, bytearray(b"\x01"))
    ended.end("gone")
    ended.ear("2a37")(None, bytearray(b"\x02"))
    assert heard.heard == [("2a37", b"\x01")]


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


async def test_several_characteristics(device: Device) -> None:
    """What a device has of the characteristics wanted is subscribed to; each frame says whose it is."""
    async with running() as daemon:
        heard = daemon.follow(ADDRESS, "2a37", "2a34", "2a19")
        await heard.until(LinkState.SUBSCRIBED)
        device.notify(HEART_RATE_MEASUREMENT, b"\x06\x48")
        device.notify(BATTERY_LEVEL, b"\x5a")
        await heard.frame()
        await heard.frame()
        assert heard.heard == [("2a37", b"\x06\x48"), ("2a19", b"\x5a")]


async def test_characteristic_that_can_only_be_read_is_passed_over(bluez: Bluez) -> None:
    """A battery level without notifications does not cost the connection."""
    strap = heart_rate_monitor(ADDRESS)
    still = Service(
        uuid=uuid_of(0x180F), characteristics=(Characteristic(uuid=BATTERY_LEVEL, flags=("read",), value=b"Z"),)
    )
    services = [still if service.uuid == still.uuid else service for service in strap.services]
    device = bluez.add(dataclasses.replace(strap, services=tuple(services)))
    async with running() as daemon:
        heard = daemon.follow(ADDRESS, "2a37", "2a19")
        await heard.until(LinkState.SUBSCRIBED)
        device.notify(HEART_RATE_MEASUREMENT, b"\x06\x48")
        assert await heard.frame() == b"\x06\x48"


async def test_context_is_read_before_anything_is_heard(device: Device) -> None:
    """What is to be read once a connection is read before the subscription; what is missing is passed over."""
    async with running() as daemon:
        heard = daemon.follow(context=("2a38", "2a1d"))
        await heard.until(LinkState.SUBSCRIBED)
        assert heard.learnt == [("2a38", b"\x01")]
        device.lose_link()
        await heard.until(LinkState.LOST)
        await heard.until(LinkState.SUBSCRIBED)
        assert heard.learnt == [("2a38", b"\x01")] * 2


async def test_context_that_cannot_be_read_is_passed_over(bluez: Bluez) -> None:
    """A device that refuses to say where it sits is heard all the same."""
    strap = heart_rate_monitor(ADDRESS)
    secret = Service(uuid=uuid_of(0x180A), characteristics=(Characteristic(uuid=uuid_of(0x2A25), flags=("write",)),))
    services = [secret if service.uuid == secret.uuid else service for service in strap.services]
    bluez.add(dataclasses.replace(strap, services=tuple(services)))
    async with running() as daemon:
        heard = daemon.follow(context=("2a25", "2a38"))
        await heard.until(LinkState.SUBSCRIBED)
        assert heard.learnt == [("2a38", b"\x01")]


async def test_what_is_written(bluez: Bluez) -> None:
    """The clock before the subscription, a request after it, an answer to what was heard; what is missing is left."""
    clock, control = uuid_of(0x2A2B), uuid_of(0x2A52)
    strap = heart_rate_monitor(ADDRESS)
    extra = Service(
        uuid=uuid_of(0x1805),
        characteristics=(
            Characteristic(uuid=clock, flags=("read", "write")),
            Characteristic(uuid=control, flags=("write", "indicate")),
        ),
    )
    device = bluez.add(dataclasses.replace(strap, services=(*strap.services, extra)))
    written: list[tuple[str, bytes]] = []
    done = asyncio.Event()

    def on_write(uuid: str, value: bytes) -> None:
        written.append((uuid, value))
        if value == b"\x01\x01":
            device.notify(control, b"\x06\x00\x01\x01")
        if value == b"\x03\x00":
            done.set()

    device.on_write = on_write
    device.on_subscribed = lambda uuid: written.append((uuid, b"subscribed"))
    heard = Listener()
    heard.first_writes = [("2a2b", b"\xea\x07"), ("2a08", b"\x00")]
    heard.next_writes = [("2a52", b"\x01\x01")]
    heard.answers = {b"\x06\x00\x01\x01": ("2a52", b"\x03\x00")}
    async with running() as daemon:
        daemon.follow(ADDRESS, "2a37", "2a52", heard=heard)
        async with asyncio.timeout(LIMIT_S):
            await done.wait()
    assert written == [
        (clock, b"\xea\x07"),
        (HEART_RATE_MEASUREMENT, b"subscribed"),
        (control, b"subscribed"),
        (control, b"\x01\x01"),
        (control, b"\x03\x00"),
    ]


async def test_intermittent_device_is_awaited(device: Device) -> None:
    """A device that speaks only after a measurement is no loss when it goes, and is taken each time that it comes."""
    device.reachable = False
    async with running() as daemon:
        heard = daemon.follow(intermittent=True)
        await heard.until(LinkState.AWAITED)
        for frame in (b"\x06\x48", b"\x06\x49"):
            device.reachable = True
            await heard.until(LinkState.SUBSCRIBED)
            device.notify(HEART_RATE_MEASUREMENT, frame)
            assert await heard.frame() == frame
            device.reachable = False
            device.lose_link()
            await heard.until(LinkState.AWAITED)
        assert {LinkState.LOST, LinkState.BACKOFF, LinkState.QUIET}.isdisjoint(heard.past)


async def test_advertised_data_is_heard_without_a_connection(bluez: Bluez) -> None:
    """A device that only advertises is listened to, lost when it falls silent, and heard again."""
    service = uuid_of(0xFCD2)
    beacon = dataclasses.replace(heart_rate_monitor(ADDRESS), service_data={service: b"\x40\x01\x5a"})
    device = bluez.add(beacon)
    async with running() as daemon:
        heard = daemon.listen("fcd2", quiet_s=0.5)
        await heard.until(LinkState.LISTENING)
        assert await heard.frame() == b"\x40\x01\x5a"
        device.set_service_data(service, b"\x40\x01\x59")
        while await heard.frame() != b"\x40\x01\x59":
            pass
        device.reachable = False
        assert await heard.until(LinkState.LOST) == "no advertisement for 0.5 s"
        device.reachable = True
        await heard.until(LinkState.LISTENING)
        assert not device.connected


async def test_discover_tells_what_is_advertised_as_data(bluez: Bluez) -> None:
    """A logger that advertises nothing but service data is recognised by that."""
    bluez.add(
        dataclasses.replace(heart_rate_monitor(ADDRESS), advertised_uuids=(), service_data={uuid_of(0xFCD2): b"\x40"})
    )
    (beacon,) = await discover(0.5)
    assert beacon.service_uuids == (uuid_of(0xFCD2),)
