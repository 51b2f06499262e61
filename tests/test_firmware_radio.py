import asyncio
import json
import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from itertools import islice
from pathlib import Path

import pytest
from bleak import BleakClient, BleakScanner
from bleak.backends.device import BLEDevice
from bleak.exc import BleakDBusError
from dbus_fast.aio import MessageBus
from hypothesis import given
from hypothesis import strategies as st

from firmware_stubs.bluez import Bluez
from firmware_stubs.bus import BusError, PrivateBus
from firmware_stubs.device import Device
from firmware_stubs.objects import bluez_error
from firmware_stubs.people import Person, intervals_ms
from firmware_stubs.peripheral import uuid_of
from firmware_stubs.radio import main
from firmware_stubs.sensors import (
    HEART_RATE_MEASUREMENT,
    PLX_CONTINUOUS_MEASUREMENT,
    SENSORS,
    encode_heart_rate,
    encode_plx_continuous,
    encode_sfloat,
    heart_rate_monitor,
    pulse_oximeter,
    wear,
)
from tests.radios import bluez, bus

__all__ = ["bluez", "bus"]  # fixtures

ADDRESS = "C0:FF:EE:00:00:01"
LIMIT_S = 20.0
COMMAND = (sys.executable, "-m", "firmware_stubs.radio")


@pytest.fixture
def strap(bluez: Bluez) -> Device:
    return bluez.add(heart_rate_monitor(ADDRESS))


async def find(address: str = ADDRESS) -> BLEDevice:
    found = await BleakScanner.find_device_by_address(address, timeout=LIMIT_S)
    assert found is not None
    return found


class Subscriber:
    """A client's own callbacks: the values that it was notified of, and the end of its link."""

    def __init__(self) -> None:
        self.values: asyncio.Queue[bytes] = asyncio.Queue()
        self.disconnected = asyncio.Event()

    async def take(self, count: int) -> list[bytes]:
        """Wait for the next values."""
        async with asyncio.timeout(LIMIT_S):
            return [await self.values.get() for _ in range(count)]

    @asynccontextmanager
    async def subscribed(self, uuid: str, *, acquire: bool = False) -> AsyncIterator[BleakClient]:
        """Connect and subscribe, by StartNotify or by AcquireNotify."""
        client = BleakClient(await find(), disconnected_callback=lambda _client: self.disconnected.set())
        async with client:
            await client.start_notify(
                uuid,
                lambda _characteristic, value: self.values.put_nowait(bytes(value)),
                bluez={"use_start_notify": not acquire},
            )
            yield client


async def test_device_is_heard(strap: Device) -> None:
    """A scanning client hears a device's address, name, service, maker and strength."""
    async with asyncio.timeout(LIMIT_S), BleakScanner(service_uuids=[uuid_of(0x180D)]) as scanner:
        device, advertised = await anext(scanner.advertisement_data())
    assert (device.address, device.name) == (strap.peripheral.address, "Simulated HRM")
    assert advertised.service_uuids == ["0000180d-0000-1000-8000-00805f9b34fb"]
    assert advertised.manufacturer_data == {0xFFFF: b"\x01"}
    assert -62 < advertised.rssi < -58


@pytest.mark.parametrize("acquire", [False, True])
async def test_client_is_notified(strap: Device, *, acquire: bool) -> None:
    """Every value reaches a subscribed client, in order, by StartNotify as by AcquireNotify."""
    sent = [bytes([6, rate]) for rate in range(200)]
    subscriber = Subscriber()
    async with subscriber.subscribed(HEART_RATE_MEASUREMENT, acquire=acquire):
        for value in sent:
            strap.notify(HEART_RATE_MEASUREMENT, value)
        assert await subscriber.take(len(sent)) == sent


@pytest.mark.parametrize("acquire", [False, True])
async def test_unsubscribed_client_is_not_notified(strap: Device, *, acquire: bool) -> None:
    """A value that is measured between two subscriptions is gone."""
    subscriber = Subscriber()
    async with subscriber.subscribed(HEART_RATE_MEASUREMENT, acquire=acquire) as client:
        await client.stop_notify(HEART_RATE_MEASUREMENT)
        await client.read_gatt_char("2a38")  # an answer after it says that the end of the subscription has arrived
        strap.notify(HEART_RATE_MEASUREMENT, b"\x06\x48")
        await client.start_notify(
            HEART_RATE_MEASUREMENT, lambda _characteristic, value: subscriber.values.put_nowait(bytes(value))
        )
        strap.notify(HEART_RATE_MEASUREMENT, b"\x06\x49")
        assert await subscriber.take(1) == [b"\x06\x49"]


async def test_values_are_read(strap: Device) -> None:
    """Body location, battery and device information are read; what is not readable is refused."""
    async with BleakClient(await find()) as client:
        assert strap.connected
        assert await client.read_gatt_char("2a38") == b"\x01"
        assert await client.read_gatt_char("2a19") == b"\x5a"
        assert await client.read_gatt_char("2a24") == b"Simulated HRM"
        with pytest.raises(Exception, match="Read Not Permitted"):
            await client.read_gatt_char(HEART_RATE_MEASUREMENT)
    assert not strap.connected


async def test_link_lost(strap: Device) -> None:
    """A client is told of a lost link, and can connect and subscribe again."""
    subscriber = Subscriber()
    async with subscriber.subscribed(HEART_RATE_MEASUREMENT) as client:
        strap.lose_link()
        async with asyncio.timeout(LIMIT_S):
            await subscriber.disconnected.wait()
        assert not client.is_connected
    async with subscriber.subscribed(HEART_RATE_MEASUREMENT):
        strap.notify(HEART_RATE_MEASUREMENT, b"\x06\x48")
        assert await subscriber.take(1) == [b"\x06\x48"]


async def test_silent_device(strap: Device) -> None:
    """A silent device stays connected and notifies nothing."""
    subscriber = Subscriber()
    async with subscriber.subscribed(HEART_RATE_MEASUREMENT) as client:
        strap.faults.silent = True
        strap.notify(HEART_RATE_MEASUREMENT, b"\x06\x48")
        strap.faults.silent = False
        strap.notify(HEART_RATE_MEASUREMENT, b"\x06\x49")
        assert await subscriber.take(1) == [b"\x06\x49"]
        assert client.is_connected


async def test_doubled_notifications(strap: Device) -> None:
    """With the fault set each value arrives twice."""
    strap.faults.doubled = True
    subscriber = Subscriber()
    async with subscriber.subscribed(HEART_RATE_MEASUREMENT):
        strap.notify(HEART_RATE_MEASUREMENT, b"\x06\x48")
        assert await subscriber.take(2) == [b"\x06\x48", b"\x06\x48"]


async def test_connect_fails(strap: Device) -> None:
    """Each queued error fails one Connect under its own name; the next Connect succeeds."""
    strap.faults.connect_errors = deque([bluez_error("InProgress", "Operation already in progress")])
    device = await find()
    with pytest.raises(BleakDBusError, match=r"org\.bluez\.Error\.InProgress"):
        await BleakClient(device).connect()
    async with BleakClient(device) as client:
        assert client.is_connected


async def test_daemon_crash(bus: PrivateBus) -> None:
    """A crashed daemon tells its clients nothing, as bluetoothd; what is started after it can be used at once."""
    subscriber = Subscriber()
    async with Bluez(bus.address) as bluez:
        bluez.add(heart_rate_monitor(ADDRESS))
        client = BleakClient(await find(), disconnected_callback=lambda _client: subscriber.disconnected.set())
        await client.connect()
        await bluez.crash()
    async with Bluez(bus.address) as bluez:
        bluez.add(heart_rate_monitor(ADDRESS))
        assert client.is_connected
        assert not subscriber.disconnected.is_set()
        with pytest.raises(BleakDBusError, match="UnknownObject"):
            await client.disconnect()
        async with subscriber.subscribed(HEART_RATE_MEASUREMENT):
            assert bluez.adapter.devices[0].connected


async def test_heart_of_a_recorded_person(strap: Device) -> None:
    """A worn strap tells every beat of the recorded person once, in 1/1024 s, in order, with a rate that fits."""
    subscriber = Subscriber()
    async with subscriber.subscribed(HEART_RATE_MEASUREMENT):
        heart = asyncio.create_task(wear(strap, SENSORS["heart_rate"], Person("ppg_2min"), speed=50))
        frames = await subscriber.take(60)
        heart.cancel()
    told = [int.from_bytes(frame[at : at + 2], "little") for frame in frames for at in range(2, len(frame), 2)]
    recorded = [round(ms * 1.024) for ms in islice(intervals_ms("ppg_2min"), 8, 8 + len(told))]
    assert told == recorded
    assert len(told) > 50
    assert all(frame[0] == (0x16 if len(frame) > 2 else 0x06) and 40 < frame[1] < 120 for frame in frames)


async def test_oximeter_on_a_recorded_person(bluez: Bluez) -> None:
    """A worn oximeter tells saturation and pulse of the person in plausible numbers, with its status."""
    clip = bluez.add(pulse_oximeter(ADDRESS))
    subscriber = Subscriber()
    async with subscriber.subscribed(PLX_CONTINUOUS_MEASUREMENT) as client:
        assert await client.read_gatt_char("2a60") == b"\x01\x00\x20\x01"
        heart = asyncio.create_task(wear(clip, SENSORS["plx"], Person("ppg_rest_25s"), speed=50))
        frames = await subscriber.take(30)
        heart.cancel()
    assert {frame[0:1] + frame[5:] for frame in frames} == {b"\x04\x20\x01"}
    assert all(96 <= frame[1] <= 99 and 45 < frame[3] < 80 and not frame[2] + frame[4] for frame in frames)


def test_heart_rate_bytes() -> None:
    """The measurement is laid out as Heart Rate Service 1.0 has it, with a u16 where the rate needs one."""
    assert encode_heart_rate(74, [904]).hex() == "164a9e03"
    assert encode_heart_rate(74, []).hex() == "064a"
    assert encode_heart_rate(300, [200, 201]).hex() == "172c01cd00ce00"


def test_plx_bytes() -> None:
    """The measurement is laid out as Pulse Oximeter Service 1.0 has it."""
    assert encode_plx_continuous(97, 74).hex() == "0461004a002001"


@given(mantissa=st.integers(-2045, 2045), exponent=st.integers(-8, 7))
def test_sfloat_is_mantissa_and_exponent(mantissa: int, exponent: int) -> None:
    """Twelve bits of mantissa and four of exponent, both two's complement, give the number back."""
    word = int.from_bytes(encode_sfloat(mantissa, exponent), "little")
    told_mantissa = (word & 0xFFF ^ 0x800) - 0x800
    told_exponent = (word >> 12 ^ 8) - 8
    assert Decimal(told_mantissa).scaleb(told_exponent) == Decimal(mantissa).scaleb(exponent)


@pytest.mark.parametrize(("mantissa", "exponent"), [(2046, 0), (-2046, 0), (1, 8), (1, -9)])
def test_sfloat_refuses_specials(mantissa: int, exponent: int) -> None:
    """What the format keeps for NaN, infinities and NRes is no number."""
    with pytest.raises(ValueError, match="no SFLOAT"):
        encode_sfloat(mantissa, exponent)


@asynccontextmanager
async def radio(folder: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run the command until its ready line was read, and end it after the block."""
    process = await asyncio.create_subprocess_exec(
        *COMMAND, "--folder", str(folder), "--sensor", f"heart_rate:{ADDRESS}:ppg_2min", stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    async with asyncio.timeout(LIMIT_S):
        ready = json.loads(await process.stdout.readline())
    assert ready == {"bus": f"unix:path={folder}/bus"}
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        async with asyncio.timeout(LIMIT_S):
            await process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_command_cleans_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals) -> None:
    """Told to stop, the command ends the bus, removes what it made and exits 0."""
    folder = tmp_path / "radio"
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={folder}/bus")
    async with radio(folder) as process:
        await find()
        process.send_signal(number)
        async with asyncio.timeout(LIMIT_S):
            assert await process.wait() == 0
    assert not folder.exists()


async def test_killed_command_leaves_no_bus(tmp_path: Path) -> None:
    """When the command is killed, its dbus-daemon dies with it."""
    folder = tmp_path / "radio"
    async with radio(folder) as process:
        client = await MessageBus(bus_address=f"unix:path={folder}/bus").connect()
        process.kill()
        async with asyncio.timeout(LIMIT_S):
            with pytest.raises((OSError, EOFError)):
                await client.wait_for_disconnect()  # type: ignore[no-untyped-call] # dbus-fast does not type it
    with pytest.raises((ConnectionRefusedError, ConnectionResetError)):
        await MessageBus(bus_address=f"unix:path={folder}/bus").connect()


def run(*arguments: str, path: str | None = None) -> subprocess.CompletedProcess[str]:
    environment = os.environ | ({} if path is None else {"PATH": path})
    return subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, check=False, timeout=LIMIT_S, env=environment
    )


def test_missing_dbus_daemon_is_named(tmp_path: Path) -> None:
    """Without dbus-daemon the command says in one line what to install, exits 3 and leaves nothing."""
    (tmp_path / "setpriv").symlink_to("/usr/bin/setpriv")
    ended = run("--folder", str(tmp_path / "radio"), path=str(tmp_path))
    assert (ended.returncode, ended.stdout) == (3, "")
    assert ended.stderr == "dbus-daemon is missing; install Debian's package dbus\n"
    assert not (tmp_path / "radio").exists()


@pytest.mark.parametrize(
    "sensor", ["heart_rate", "ecg:C0:FF:EE:00:00:01:ppg_2min", "plx:C0:FF:EE:00:00:01:nobody", "plx:C0:FF:EE:ppg_2min"]
)
def test_wrong_sensor_is_refused(tmp_path: Path, sensor: str) -> None:
    """A sensor that is not KIND:ADDRESS:RECORDING is wrong usage, and the message says what is right."""
    ended = run("--folder", str(tmp_path), "--sensor", sensor)
    assert ended.returncode == 2
    assert f"with a kind of {', '.join(SENSORS)} and a recording of ppg_rest_25s" in ended.stderr


@pytest.mark.parametrize("speed", ["0", "-1", "nan", "inf", "fast"])
def test_wrong_speed_is_refused(speed: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A speed that is not a positive number is wrong usage."""
    with pytest.raises(SystemExit, match="2"):
        main(["--folder", str(tmp_path), "--speed", speed])
    assert f"{speed!r} is not a positive number" in capsys.readouterr().err


def test_folder_too_long_for_a_socket(tmp_path: Path) -> None:
    """A folder whose socket would not fit an address is refused before anything is made."""
    folder = tmp_path / ("x" * 100)
    with pytest.raises(BusError, match="too long"), PrivateBus(folder):
        pass
    assert not folder.exists()
