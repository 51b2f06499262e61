"""The sensors that are asked, sleep, or are only heard, on the simulated radio with a real bleak."""

import argparse
import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from bleak import BleakClient, BleakScanner

from firmware_stubs.behaviour import CURRENT_TIME, RECORD_ACCESS
from firmware_stubs.blood_pressure import BLOOD_PRESSURE_MEASUREMENT
from firmware_stubs.bluez import Bluez
from firmware_stubs.bthome import BTHOME
from firmware_stubs.bus import PrivateBus
from firmware_stubs.device import Device
from firmware_stubs.glucose import GLUCOSE_CONTEXT, GLUCOSE_MEASUREMENT, HISTORY_RECORDS
from firmware_stubs.physiology import WEARERS, Patient
from firmware_stubs.radio import parse_worn
from firmware_stubs.scale import BODY_COMPOSITION_MEASUREMENT, WEIGHT_MEASUREMENT
from firmware_stubs.sensors import SENSORS, wear

ADDRESS = "C0:FF:EE:00:00:01"
LIMIT_S = 20.0
Heard = asyncio.Queue[tuple[str, bytes]]


@pytest.fixture
def bus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PrivateBus]:
    with PrivateBus(tmp_path / "bus") as private:
        monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", private.address)
        yield private


@asynccontextmanager
async def worn(bus: PrivateBus, kind: str, *, speed: float) -> AsyncIterator[Device]:
    sensor = SENSORS[kind]
    async with asyncio.timeout(LIMIT_S), Bluez(bus.address) as bluez:
        device = bluez.add(sensor.peripheral(ADDRESS))
        life = asyncio.create_task(wear(device, sensor, Patient("rest"), speed=speed))
        yield device
        life.cancel()


@asynccontextmanager
async def subscribed(*uuids: str) -> AsyncIterator[tuple[BleakClient, Heard, asyncio.Event]]:
    """Find the device, connect, and subscribe in this order."""
    heard, gone = Heard(), asyncio.Event()
    found = await BleakScanner.find_device_by_address(ADDRESS, timeout=LIMIT_S)
    assert found is not None
    async with BleakClient(found, disconnected_callback=lambda _client: gone.set()) as client:
        for uuid in uuids:
            await client.start_notify(uuid, lambda sender, value: heard.put_nowait((sender.uuid, bytes(value))))
        yield client, heard, gone


async def test_a_meter_answers_to_the_record_access_control_point(bus: PrivateBus) -> None:
    """All records with their contexts, in order, and that this was all; then it has a clock to be set."""
    async with (
        worn(bus, "glucose", speed=20),
        subscribed(GLUCOSE_MEASUREMENT, GLUCOSE_CONTEXT, RECORD_ACCESS) as (client, heard, _),
    ):
        await client.write_gatt_char(RECORD_ACCESS, b"\x01\x01", response=True)
        records = []
        while (each := await heard.get())[0] != RECORD_ACCESS:
            records.append(each)
        await client.write_gatt_char(CURRENT_TIME, bytes.fromhex("ea0705110c0000070000"), response=True)

    numbers = [int.from_bytes(value[1:3], "little") for uuid, value in records if uuid == GLUCOSE_MEASUREMENT]
    assert numbers[:HISTORY_RECORDS] == list(range(1, HISTORY_RECORDS + 1))
    assert each[1] == b"\x06\x00\x01\x01"


async def test_a_cuff_is_there_for_a_while(bus: PrivateBus) -> None:
    """It indicates what it has, drops the link by itself, and cannot be reached until it measures again."""
    async with worn(bus, "blood_pressure", speed=10) as device:
        async with subscribed(BLOOD_PRESSURE_MEASUREMENT) as (_, heard, gone):
            uuid, value = await heard.get()
            await gone.wait()

        assert (uuid, value[0]) == (BLOOD_PRESSURE_MEASUREMENT, 0x16)
        assert not device.reachable


async def test_a_scale_sends_its_history(bus: PrivateBus) -> None:
    """Four weights and four compositions, and then the link is dropped."""
    async with (
        worn(bus, "scale", speed=10),
        subscribed(WEIGHT_MEASUREMENT, BODY_COMPOSITION_MEASUREMENT) as (_, heard, gone),
    ):
        told = [await heard.get() for _ in range(8)]
        await gone.wait()

    assert [uuid for uuid, _ in told] == [WEIGHT_MEASUREMENT] * 4 + [BODY_COMPOSITION_MEASUREMENT] * 4


async def test_a_logger_is_heard(bus: PrivateBus) -> None:
    """A client that only scans hears one packet after the other."""
    packets: list[int] = []
    async with worn(bus, "bthome", speed=50), BleakScanner() as scanner:
        async for _, advertised in scanner.advertisement_data():
            packet = advertised.service_data[BTHOME][2]
            if packet not in packets:
                packets.append(packet)
            if len(packets) == 3:
                break

    assert packets == sorted(packets)


@pytest.mark.parametrize("kind", sorted(SENSORS))
@pytest.mark.parametrize("name", WEARERS)
def test_the_command_takes_every_kind_on_everybody(kind: str, name: str) -> None:
    """KIND:ADDRESS:RECORDING, where a scenario may stand for the recording."""
    read = parse_worn(f"{kind}:{ADDRESS}:{name}")

    assert (read.kind, read.address, read.recording) == (kind, ADDRESS, name)


def test_the_command_refuses_nobody() -> None:
    """The message names all who can wear a sensor."""
    with pytest.raises(argparse.ArgumentTypeError, match="ppg_long, rest, exercise, fever, desaturation, af"):
        parse_worn(f"plx:{ADDRESS}:nobody")
