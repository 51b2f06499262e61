"""The sensors that are asked, sleep, or are only heard, on the simulated radio with a real bleak."""

import argparse
import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from bleak import BleakClient, BleakScanner
from bleak.exc import BleakGATTProtocolError

from firmware_stubs.behaviour import CURRENT_TIME, RECORD_ACCESS
from firmware_stubs.blood_pressure import BLOOD_PRESSURE_MEASUREMENT, INTERMEDIATE_CUFF_PRESSURE
from firmware_stubs.bluez import Bluez
from firmware_stubs.bthome import BTHOME
from firmware_stubs.bus import PrivateBus
from firmware_stubs.cgm import with_crc
from firmware_stubs.cgm_sensor import CGM_MEASUREMENT, CGM_SESSION_START, CGM_STATUS
from firmware_stubs.device import Device
from firmware_stubs.glucose import GLUCOSE_CONTEXT, GLUCOSE_MEASUREMENT, HISTORY_RECORDS
from firmware_stubs.physiology import WEARERS, Patient
from firmware_stubs.radio import parse_worn
from firmware_stubs.scale import BODY_COMPOSITION_MEASUREMENT, WEIGHT_MEASUREMENT
from firmware_stubs.sensors import SENSORS, WornSensor, wear

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
async def ticked(bus: PrivateBus, kind: str) -> AsyncIterator[Callable[[int, int], Device]]:
    """Give what lets the sensor live from one second to another, both of them its own."""
    sensor = SENSORS[kind]
    async with asyncio.timeout(LIMIT_S), Bluez(bus.address) as bluez:
        device = bluez.add(sensor.peripheral(ADDRESS))
        worn = WornSensor(device, sensor.behaviour(Patient("rest")))

        def live(first_s: int, last_s: int) -> Device:
            for second in range(first_s, last_s + 1):
                worn.tick(second * 1000)
            return device

        yield live


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


async def test_a_cuff_tells_its_pressure_while_it_inflates(bus: PrivateBus) -> None:
    """It can be connected to meanwhile: a pressure a second, the measurement, and then the link is dropped."""
    async with ticked(bus, "cuff_pressure") as live:
        live(1, 5)
        async with subscribed(INTERMEDIATE_CUFF_PRESSURE, BLOOD_PRESSURE_MEASUREMENT) as (_, heard, gone):
            live(6, 15)
            told = [await heard.get() for _ in range(10)]
            device = live(16, 17)
            await gone.wait()

        assert [uuid for uuid, _ in told] == [INTERMEDIATE_CUFF_PRESSURE] * 9 + [BLOOD_PRESSURE_MEASUREMENT]
        pressures = [value[1] for _, value in told]
        assert pressures[:9] == sorted(set(pressures[:9]))
        assert pressures[8] > pressures[9]
        assert (device.reachable, heard.empty()) == (False, True)


async def test_a_glucose_sensor_is_read_as_it_is_now(bus: PrivateBus) -> None:
    """The start is the time that was written without the minutes that had passed; status and clock go on."""
    async with ticked(bus, "cgm") as live:
        live(1, 90)
        async with subscribed(CGM_MEASUREMENT) as (client, _, _):
            assert await client.read_gatt_char(CGM_SESSION_START) == with_crc(bytes.fromhex("ea070301080000 80ff"))
            assert await client.read_gatt_char(CURRENT_TIME) == bytes.fromhex("ea07030108011e 070000")
            noon = with_crc(bytes.fromhex("ea0705110c0000 0400"))
            await client.write_gatt_char(CGM_SESSION_START, noon, response=True)
            live(91, 130)

            assert await client.read_gatt_char(CGM_SESSION_START) == with_crc(bytes.fromhex("ea0705110b3a1e 0400"))
            assert await client.read_gatt_char(CURRENT_TIME) == bytes.fromhex("ea0705110c0028 070000")
            assert await client.read_gatt_char(CGM_STATUS) == with_crc(bytes.fromhex("0200000000"))


async def test_a_clock_is_read_as_it_goes(bus: PrivateBus) -> None:
    """Nothing before it was set; what is no time is not taken, and not read back either."""
    async with ticked(bus, "thermometer") as live, subscribed() as (client, _, _):
        live(1, 10)
        assert await client.read_gatt_char(CURRENT_TIME) == bytes(10)
        await client.write_gatt_char(CURRENT_TIME, bytes.fromhex("ea0705110c0000070000"), response=True)
        live(11, 15)
        await client.write_gatt_char(CURRENT_TIME, bytes.fromhex("ea070d110c0000070000"), response=True)
        assert await client.read_gatt_char(CURRENT_TIME) == bytes.fromhex("ea0705110c0005070000")


async def test_a_second_request_is_refused(bus: PrivateBus) -> None:
    """While a report goes on the meter is busy, which an error of ATT says; the report comes whole nevertheless."""
    async with (
        ticked(bus, "glucose") as live,
        subscribed(GLUCOSE_MEASUREMENT, RECORD_ACCESS) as (client, heard, _),
    ):
        await client.write_gatt_char(RECORD_ACCESS, b"\x01\x01", response=True)
        with pytest.raises(BleakGATTProtocolError, match="Procedure Already in Progress"):
            await client.write_gatt_char(RECORD_ACCESS, b"\x04\x01", response=True)
        live(1, 1)
        told = [await heard.get() for _ in range(HISTORY_RECORDS + 1)]
        await client.write_gatt_char(RECORD_ACCESS, b"\x04\x01", response=True)

        assert [uuid for uuid, _ in told] == [GLUCOSE_MEASUREMENT] * HISTORY_RECORDS + [RECORD_ACCESS]
        assert await heard.get() == (RECORD_ACCESS, bytes((5, 0, HISTORY_RECORDS, 0)))


async def test_a_control_point_wants_to_be_subscribed_to(bus: PrivateBus) -> None:
    """A request whose answer nobody would hear is refused; once somebody listens, it is answered."""
    async with ticked(bus, "glucose"), subscribed(GLUCOSE_MEASUREMENT) as (client, heard, _):
        with pytest.raises(BleakGATTProtocolError, match="Improperly Configured"):
            await client.write_gatt_char(RECORD_ACCESS, b"\x04\x01", response=True)
        await client.start_notify(RECORD_ACCESS, lambda sender, value: heard.put_nowait((sender.uuid, bytes(value))))
        await client.write_gatt_char(RECORD_ACCESS, b"\x04\x01", response=True)

        assert await heard.get() == (RECORD_ACCESS, bytes((5, 0, HISTORY_RECORDS, 0)))


async def test_a_glucose_sensor_refuses_a_wrong_crc(bus: PrivateBus) -> None:
    """The service's own error says it, and the start stays what it was."""
    async with ticked(bus, "cgm"), subscribed() as (client, _, _):
        with pytest.raises(BleakGATTProtocolError) as refusal:
            await client.write_gatt_char(CGM_SESSION_START, bytes.fromhex("ea0705110c000004000000"), response=True)

        assert refusal.value.code == 0x81
        assert await client.read_gatt_char(CGM_SESSION_START) == with_crc(bytes.fromhex("ea070301080000 80ff"))


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
