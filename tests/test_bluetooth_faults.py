"""What a radio, its daemon and its devices do wrong, made for real on the simulated org.bluez."""

import asyncio
import dataclasses
from collections import deque
from collections.abc import Coroutine

import pytest

from firmware_stubs.bluez import Bluez
from firmware_stubs.device import Device
from firmware_stubs.objects import bluez_error
from firmware_stubs.sensors import HEART_RATE_MEASUREMENT, heart_rate_monitor, pulse_oximeter
from gateway.errors import Unavailable
from gateway.io.bluetooth import Contact, LinkState, Radio, ladder, radio
from gateway.io.bluetooth.bonding import Bond, bond
from tests.radios import ADDRESS, LIMIT_S, OTHER_ADDRESS, Listener, bluez, bus, device, running, short_delays

__all__ = ["bluez", "bus", "device", "short_delays"]  # fixtures

FRAME = b"\x06\x48"


async def hears(device: Device, heard: Listener) -> None:
    """Show that a notification comes through."""
    await heard.until(LinkState.SUBSCRIBED)
    device.notify(HEART_RATE_MEASUREMENT, FRAME)
    assert await heard.frame() == FRAME


def watch_power(bluez: Bluez) -> list[bool]:
    """Give what the adapter is switched to from now on."""
    switched: list[bool] = []
    switch = bluez.adapter.set_power

    def set_power(*, on: bool) -> None:
        switched.append(on)
        switch(on=on)

    bluez.adapter.set_power = set_power  # type: ignore[method-assign]  # to look on
    return switched


async def outcome(run: Coroutine[None, None, None]) -> str:
    """Give why it was unavailable in the end."""
    try:
        await run
    except Unavailable as error:
        return str(error)
    return ""


@pytest.mark.usefixtures("device")
async def test_fault_26_link_without_the_bond_is_refused() -> None:
    """Where a bond is required, an unencrypted link is not subscribed to, and the reason says what to do."""
    async with running() as daemon:
        heard = daemon.follow(bond_required=True)
        assert "not bonded" in await heard.until(LinkState.BACKOFF)
        assert heard.frames.empty()
        assert LinkState.SUBSCRIBED not in heard.past


class Nobody:
    """A person who is asked nothing: the devices here pair as "just works"."""

    async def confirm(self, passkey: str) -> bool:
        """Compare."""
        raise AssertionError(passkey)

    async def show(self, passkey: str) -> None:
        """Type into the device."""
        raise AssertionError(passkey)

    async def ask(self) -> str:
        """Read from the device."""
        raise AssertionError


async def bonded(bluez: Bluez) -> Device:
    """Give a strap that is bonded with."""
    device = bluez.add(dataclasses.replace(heart_rate_monitor(ADDRESS), pairing="just-works"))
    assert await bond(ADDRESS, Nobody(), adapter=None, limit_s=LIMIT_S) is Bond.UNAUTHENTICATED
    device.lose_link()
    return device


async def test_bonded_link_is_taken_where_it_is_required(bluez: Bluez) -> None:
    """Onboarding makes the bond, the gateway finds it, and says so to whoever hears the frames."""
    device = await bonded(bluez)
    async with running() as daemon:
        heard = daemon.follow(bond_required=True)
        await hears(device, heard)
        assert heard.bonds == [True]


async def test_fault_26_spoofed_address_without_the_key_is_not_heard(
    bluez: Bluez, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another device under the address of a bonded one gets no link, and the reason says what that may mean."""
    monkeypatch.setattr(radio, "_CONNECT_LIMIT_S", 1.0)
    device = await bonded(bluez)
    async with running() as daemon:
        heard = daemon.follow()
        await hears(device, heard)
        device.impersonate(dataclasses.replace(heart_rate_monitor(OTHER_ADDRESS), name="evil twin"))
        await heard.until(LinkState.LOST)
        await heard.until(LinkState.BACKOFF)
        reason = await heard.until(LinkState.BACKOFF)
        assert "know this bond any more, or another device uses its address" in reason
        assert f"`bluetoothctl remove {ADDRESS}`" in reason
        assert device.bonded
        assert heard.frames.empty()


async def test_stale_bond_is_diagnosed_and_kept(bluez: Bluez, monkeypatch: pytest.MonkeyPatch) -> None:
    """A device that was reset does not know its bond: the reason says so, and BlueZ's end of it stays for a person."""
    monkeypatch.setattr(radio, "_CONNECT_LIMIT_S", 1.0)
    device = await bonded(bluez)
    device.forget_bond()
    async with running() as daemon:
        heard = daemon.follow(bond_required=True)
        assert "if it was reset, `bluetoothctl remove" in await heard.until(LinkState.BACKOFF)
    assert device.bonded


async def test_fault_29_bluetoothd_that_hangs(bluez: Bluez, device: Device) -> None:
    """A daemon that hangs looks like silence; when it goes on, frames come again."""
    async with running() as daemon:
        heard = daemon.follow(quiet_s=0.5)
        await hears(device, heard)
        bluez.hang()
        await heard.until(LinkState.LOST)
        bluez.resume()
        await hears(device, heard)


async def test_fault_29_in_progress(device: Device) -> None:
    """Attempts that BlueZ refuses, since it is at another, are tried again until one is taken."""
    device.faults.connect_errors = deque([bluez_error("InProgress", "Operation already in progress")] * 3)
    async with running() as daemon:
        heard = daemon.follow()
        await hears(device, heard)
        assert heard.past.count(LinkState.BACKOFF) == 3


async def test_connection_that_stalls_is_given_up(
    bluez: Bluez, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Connect that is never answered holds nobody up for ever: others are connected, it is tried again."""
    monkeypatch.setattr(radio, "_CONNECT_LIMIT_S", 0.5)
    other = bluez.add(pulse_oximeter(OTHER_ADDRESS))
    device.faults.connect_stalls = True
    async with running() as daemon:
        stalled = daemon.follow()
        await stalled.until(LinkState.CONNECTING)
        free = daemon.follow(OTHER_ADDRESS, "2a5f")
        assert "no answer in time" in await stalled.until(LinkState.BACKOFF)
        await free.until(LinkState.SUBSCRIBED)
        device.faults.connect_stalls = False
        await hears(device, stalled)
        assert other.connected


async def test_fault_30_zombie_link_is_found_within_three_periods(device: Device) -> None:
    """A link that is up and says nothing any more is lost after three periods of the sensor, and made anew."""
    period_s = 0.2
    async with running() as daemon:
        heard = daemon.follow(quiet_s=3 * period_s)
        await hears(device, heard)
        fell_silent_s = asyncio.get_running_loop().time()
        device.faults.silent = True
        await heard.until(LinkState.LOST)
        assert asyncio.get_running_loop().time() - fell_silent_s < 4 * period_s
        device.faults.silent = False
        await hears(device, heard)


async def test_fault_31_subscriptions_are_not_doubled_by_a_reconnection(device: Device) -> None:
    """After a link was lost and made again, each notification is heard once."""
    async with running() as daemon:
        heard = daemon.follow()
        for number in range(3):
            await heard.until(LinkState.SUBSCRIBED)
            device.notify(HEART_RATE_MEASUREMENT, bytes((6, number)))
            device.notify(HEART_RATE_MEASUREMENT, bytes((6, 100 + number)))
            assert [await heard.frame(), await heard.frame()] == [bytes((6, number)), bytes((6, 100 + number))]
            device.lose_link()
            await heard.until(LinkState.LOST)
        assert heard.frames.empty()


async def test_services_that_change_are_subscribed_to_anew(device: Device) -> None:
    """A device whose services move, as after an update of its firmware, is heard again at their new place."""
    async with running() as daemon:
        heard = daemon.follow()
        await hears(device, heard)
        device.change_services()
        assert await heard.until(LinkState.LOST) == "its services changed"
        await hears(device, heard)


async def test_slow_disconnection_holds_nobody_up(device: Device) -> None:
    """BlueZ takes seconds for a Disconnect; the next connection waits for it and works."""
    device.faults.disconnect_delay_s = 0.5
    device.faults.silent = True
    async with running() as daemon:
        heard = daemon.follow(quiet_s=0.2)
        await heard.until(LinkState.LOST)
        device.faults.silent = False
        await hears(device, heard)


async def test_spoofed_address_with_other_services_is_not_heard(device: Device) -> None:
    """Another device under the address, without the characteristic, is refused by name."""
    async with running() as daemon:
        heard = daemon.follow()
        await hears(device, heard)
        device.impersonate(dataclasses.replace(pulse_oximeter(OTHER_ADDRESS), name="other"))
        await heard.until(LinkState.LOST)
        await heard.until(LinkState.BACKOFF)  # of the link that was lost
        assert "2a37" in await heard.until(LinkState.BACKOFF)


@pytest.fixture
def quick_ladder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(radio, "_LOOK_INTERVAL_S", 0.05)
    for name, limit_s in (("RESTART_S", 0.4), ("RESET_S", 0.8), ("EXIT_S", 1.2)):
        monkeypatch.setattr(ladder, name, limit_s)


@pytest.mark.usefixtures("quick_ladder")
async def test_radio_wide_silence_climbs_to_the_end(bluez: Bluez, device: Device) -> None:
    """A radio that has gone deaf is scanned with anew, reset, and in the end given up, with a reason."""
    radio_ = Radio()
    heard = Listener()
    async with asyncio.TaskGroup() as tasks:
        run = tasks.create_task(outcome(radio_.run()))
        follow = tasks.create_task(radio_.follow(Contact(address=ADDRESS, channels=("2a37",), quiet_s=LIMIT_S), heard))
        await hears(device, heard)
        switched = watch_power(bluez)
        device.reachable = False
        device.lose_link()
        async with asyncio.timeout(LIMIT_S):
            reason = await run
        follow.cancel()
    assert "nothing was heard for" in reason
    assert "reset of hci0" in reason
    assert switched == [False, True]


@pytest.mark.usefixtures("quick_ladder")
async def test_silence_of_one_device_resets_nothing(bluez: Bluez, device: Device) -> None:
    """While anything at all is heard, the silence of a device is that device's own."""
    bluez.add(pulse_oximeter(OTHER_ADDRESS))
    switched = watch_power(bluez)
    device.faults.silent = True
    async with running() as daemon:
        heard = daemon.follow(quiet_s=0.5)
        for _ in range(4):
            await heard.until(LinkState.LOST)
    assert switched == []
