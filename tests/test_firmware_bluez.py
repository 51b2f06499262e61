import asyncio
import dataclasses
from collections.abc import AsyncIterator
from typing import Any

import pytest
from bleak import BleakClient, BleakScanner
from bleak.args.bluez import BlueZScannerArgs, OrPattern
from bleak.assigned_numbers import AdvertisementDataType
from bleak.backends.device import BLEDevice
from bleak.exc import BleakGATTProtocolError
from dbus_fast import DBusError, Message, MessageType, Variant, unpack_variants
from dbus_fast.aio import MessageBus
from dbus_fast.annotations import DBusObjectPath
from dbus_fast.service import ServiceInterface, dbus_method

from firmware_stubs.bluez import Bluez
from firmware_stubs.bus import PrivateBus
from firmware_stubs.objects import att_error
from firmware_stubs.peripheral import Characteristic, Pairing, Peripheral, Service, uuid_of
from tests.radios import bluez, bus

__all__ = ["bluez", "bus"]  # fixtures

ADDRESS = "C0:FF:EE:00:00:01"
PATH = "/org/bluez/hci0/dev_C0_FF_EE_00_00_01"
MEASUREMENT = uuid_of(0x2A18)
RECORD_ACCESS = uuid_of(0x2A52)
BATTERY_LEVEL = uuid_of(0x2A19)
BTHOME = uuid_of(0xFCD2)
LIMIT_S = 20.0


def meter(*, pairing: Pairing = "just-works", protected: bool = False) -> Peripheral:
    """Describe a device with a characteristic to write to, one to read and be notified of, and a battery."""
    characteristics = (
        Characteristic(uuid=MEASUREMENT, flags=("read", "notify"), value=b"\x01", protected=protected),
        Characteristic(uuid=RECORD_ACCESS, flags=("read", "write", "indicate"), value=b"\x00"),
    )
    battery = Characteristic(uuid=BATTERY_LEVEL, flags=("read", "notify"), value=b"\x5a")
    return Peripheral(
        address=ADDRESS,
        name="Simulated meter",
        services=(
            Service(uuid=uuid_of(0x1808), characteristics=characteristics),
            Service(uuid=uuid_of(0x180F), characteristics=(battery,)),
        ),
        advertised_uuids=(uuid_of(0x1808),),
        pairing=pairing,
    )


class Client:
    """A client of the bus that speaks D-Bus itself."""

    def __init__(self, bus: MessageBus) -> None:
        self.bus = bus

    async def call(self, path: str, interface: str, member: str, signature: str = "", *body: Any) -> Any:  # noqa: ANN401 - D-Bus values
        """Call BlueZ and give what it returns; its refusal is raised as a DBusError."""
        call = Message(
            destination="org.bluez", path=path, interface=interface, member=member, signature=signature, body=list(body)
        )
        async with asyncio.timeout(LIMIT_S):
            reply = await self.bus.call(call)
        if reply.message_type is MessageType.ERROR:
            raise DBusError(str(reply.error_name), reply.body[0])
        return unpack_variants(reply.body[0]) if reply.body else None

    async def match(self, rule: str) -> None:
        """Hear the signals that a rule describes."""
        bus = "org.freedesktop.DBus"
        call = Message(
            destination=bus, path="/org/freedesktop/DBus", interface=bus, member="AddMatch", signature="s", body=[rule]
        )
        assert (await self.bus.call(call)).message_type is MessageType.METHOD_RETURN

    async def device(self, member: str) -> None:
        """Call a method of Device1."""
        await self.call(PATH, "org.bluez.Device1", member)

    async def property(self, name: str, interface: str = "org.bluez.Device1", path: str = PATH) -> Any:  # noqa: ANN401 - D-Bus values
        """Get one property."""
        return await self.call(path, "org.freedesktop.DBus.Properties", "Get", "ss", interface, name)

    async def register(self, agent: ServiceInterface, *, default: bool = False) -> None:
        """Register an agent for this connection."""
        self.bus.export("/agent", agent)
        await self.call("/org/bluez", "org.bluez.AgentManager1", "RegisterAgent", "os", "/agent", "DisplayYesNo")
        if default:
            await self.call("/org/bluez", "org.bluez.AgentManager1", "RequestDefaultAgent", "o", "/agent")


@pytest.fixture
async def client(bus: PrivateBus) -> AsyncIterator[Client]:
    connection = await MessageBus(bus_address=bus.address).connect()
    yield Client(connection)
    connection.disconnect()
    await connection.wait_for_disconnect()  # type: ignore[no-untyped-call] # dbus-fast does not type it


class Allows(ServiceInterface):
    """An agent that allows what it is asked to."""

    def __init__(self) -> None:
        super().__init__("org.bluez.Agent1")
        self.asked: list[str] = []

    @dbus_method(name="RequestAuthorization")
    def request_authorization(self, device: DBusObjectPath) -> None:
        """Allow "just works"."""
        self.asked.append(device)


async def find() -> BLEDevice:
    found = await BleakScanner.find_device_by_address(ADDRESS, timeout=LIMIT_S)
    assert found is not None
    return found


async def until_unanswered(work: asyncio.Task[Any], client: Client) -> None:
    """Wait until BlueZ has taken a call and answered a later one, which says that it holds the first back."""
    for _ in range(3):
        await client.call("/", "org.freedesktop.DBus.ObjectManager", "GetManagedObjects")
    assert not work.done()


async def test_write_is_told_and_read_back(bluez: Bluez) -> None:
    """A write reaches the device and is what a read gives; what takes none refuses it."""
    device = bluez.add(meter())
    written: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue()
    device.on_write = lambda uuid, value: written.put_nowait((uuid, value))
    async with BleakClient(await find()) as client:
        await client.write_gatt_char(RECORD_ACCESS, b"\x01\x01", response=True)
        assert written.get_nowait() == (RECORD_ACCESS, b"\x01\x01")
        assert await client.read_gatt_char(RECORD_ACCESS) == b"\x01\x01"
        with pytest.raises(Exception, match="Write Not Permitted"):
            await client.write_gatt_char(RECORD_ACCESS, b"\x01", response=False)
        with pytest.raises(Exception, match="Write Not Permitted"):
            await client.write_gatt_char(MEASUREMENT, b"\x01", response=True)
    assert written.empty()


async def test_refused_write(bluez: Bluez) -> None:
    """A device refuses a write with an error of ATT, which the client hears by its name; the value stays."""
    device = bluez.add(meter())
    refusals = [att_error(0xFE)]

    def on_write(_uuid: str, _value: bytes) -> None:
        if refusals:
            raise refusals.pop()

    device.on_write = on_write
    async with BleakClient(await find()) as client:
        with pytest.raises(BleakGATTProtocolError, match="Procedure Already in Progress"):
            await client.write_gatt_char(RECORD_ACCESS, b"\x01\x01", response=True)
        assert await client.read_gatt_char(RECORD_ACCESS) == b"\x00"
        await client.write_gatt_char(RECORD_ACCESS, b"\x04\x01", response=True)
        assert await client.read_gatt_char(RECORD_ACCESS) == b"\x04\x01"


async def test_refused_command(bluez: Bluez) -> None:
    """Nobody hears that a write without response was refused."""
    command = Characteristic(uuid=RECORD_ACCESS, flags=("read", "write-without-response"), value=b"\x00")
    services = (Service(uuid=uuid_of(0x1808), characteristics=(command,)),)
    device = bluez.add(dataclasses.replace(meter(), services=services))
    refused: list[bytes] = []

    def on_write(_uuid: str, value: bytes) -> None:
        refused.append(value)
        raise att_error(0xFE)

    device.on_write = on_write
    async with BleakClient(await find()) as client:
        await client.write_gatt_char(RECORD_ACCESS, b"\x01\x01", response=False)
        assert await client.read_gatt_char(RECORD_ACCESS) == b"\x00"
    assert refused == [b"\x01\x01"]


async def test_answer_comes_first(bluez: Bluez, client: Client) -> None:
    """What a device indicates because of a write follows the write's own answer, and so does what comes meanwhile."""
    device = bluez.add(meter())

    def on_write(uuid: str, _value: bytes) -> None:
        device.notify(uuid, b"\x06")
        asyncio.get_running_loop().call_soon(device.notify, uuid, b"\x07")

    device.on_write = on_write
    order: list[str] = []
    done = asyncio.Event()

    def note(message: Message) -> None:
        if message.message_type is MessageType.SIGNAL and message.member == "PropertiesChanged":
            order.append(bytes(message.body[1]["Value"].value).hex())
            if order[-1] == "07":
                done.set()
        elif message.reply_serial:
            order.append(message.message_type.name)

    async with BleakClient(await find()) as connected, asyncio.timeout(LIMIT_S):
        found = connected.services.get_characteristic(RECORD_ACCESS)
        assert found is not None
        path = found.obj[0]
        characteristic = (path, "org.bluez.GattCharacteristic1")
        await client.call(*characteristic, "StartNotify")
        await client.match(f"type='signal',path='{path}'")
        client.bus.add_message_handler(note)
        await client.call(*characteristic, "WriteValue", "aya{sv}", b"\x01", {})
        await done.wait()
        client.bus.remove_message_handler(note)
    assert order == ["METHOD_RETURN", "06", "07"]


async def test_a_value_that_the_device_sets(bluez: Bluez) -> None:
    """Reads give it from then on, without a notification: before the first connection, on a live link, on the next."""
    device = bluez.add(meter())
    device.set_value(MEASUREMENT, b"\x02")
    heard: list[bytes] = []
    async with BleakClient(await find()) as client:
        await client.start_notify(BATTERY_LEVEL, lambda _, value: heard.append(bytes(value)))
        assert await client.read_gatt_char(MEASUREMENT) == b"\x02"
        device.set_value(MEASUREMENT, b"\x03")
        device.set_value(BATTERY_LEVEL, b"\x11")
        assert await client.read_gatt_char(MEASUREMENT) == b"\x03"
    device.forget()
    async with BleakClient(await find()) as client:
        assert await client.read_gatt_char(MEASUREMENT) == b"\x03"
        assert await client.read_gatt_char(BATTERY_LEVEL) == b"\x11"
    assert heard == []
    device.impersonate(meter())
    async with BleakClient(await find()) as client:
        assert await client.read_gatt_char(MEASUREMENT) == b"\x01"


async def test_a_device_may_answer_a_write_by_another_value(bluez: Bluez) -> None:
    """What it sets while it takes a write is what the next read gives."""
    device = bluez.add(meter())
    device.on_write = lambda uuid, _value: device.set_value(uuid, b"\x2a")
    async with BleakClient(await find()) as client:
        await client.write_gatt_char(RECORD_ACCESS, b"\x01\x01", response=True)
        assert await client.read_gatt_char(RECORD_ACCESS) == b"\x2a"


@pytest.mark.parametrize("acquire", [False, True])
async def test_who_is_subscribed(bluez: Bluez, *, acquire: bool) -> None:
    """A device knows whether anybody listens to a characteristic; the end of the link ends it."""
    device = bluez.add(meter())
    assert not device.is_subscribed(RECORD_ACCESS)
    async with BleakClient(await find()) as client:
        assert not device.is_subscribed(RECORD_ACCESS)
        await client.start_notify(RECORD_ACCESS, lambda *_: None, bluez={"use_start_notify": not acquire})
        assert (device.is_subscribed(RECORD_ACCESS), device.is_subscribed(MEASUREMENT)) == (True, False)
    assert not device.is_subscribed(RECORD_ACCESS)


async def test_write_at_offset(bluez: Bluez, client: Client) -> None:
    """A write at an offset keeps what stands before it; one behind the end is refused."""
    bluez.add(meter())
    async with BleakClient(await find()) as connected:
        found = connected.services.get_characteristic(RECORD_ACCESS)
        assert found is not None
        write = (found.obj[0], "org.bluez.GattCharacteristic1", "WriteValue", "aya{sv}")
        await client.call(*write, b"\x01\x02", {})
        await client.call(*write, b"\x03", {"offset": Variant("q", 1)})
        assert await connected.read_gatt_char(RECORD_ACCESS) == b"\x01\x03"
        with pytest.raises(DBusError, match="Invalid Offset"):
            await client.call(*write, b"\x03", {"offset": Variant("q", 3)})


@pytest.mark.parametrize("acquire", [False, True])
async def test_subscription_is_told(bluez: Bluez, *, acquire: bool) -> None:
    """The device is told of a first subscriber, and what it indicates at that moment arrives."""
    device = bluez.add(meter())
    device.on_subscribed = lambda uuid: device.notify(uuid, b"\x06\x00\x01\x01")
    heard: asyncio.Queue[bytes] = asyncio.Queue()
    async with BleakClient(await find()) as client, asyncio.timeout(LIMIT_S):
        await client.start_notify(
            RECORD_ACCESS, lambda _, value: heard.put_nowait(bytes(value)), bluez={"use_start_notify": not acquire}
        )
        assert await heard.get() == b"\x06\x00\x01\x01"


async def test_service_data_is_advertised(bluez: Bluez) -> None:
    """Service data is heard with each advertisement, changed or not, by a passive listener too."""
    device = bluez.add(dataclasses.replace(meter(), service_data={BTHOME: b"\x40\x02"}))
    pattern = OrPattern(0, AdvertisementDataType.FLAGS, b"\x06")
    passive = BlueZScannerArgs(or_patterns=[pattern])
    async with asyncio.timeout(LIMIT_S), BleakScanner(scanning_mode="passive", bluez=passive) as scanner:
        heard = scanner.advertisement_data()
        for _ in range(2):
            _, advertised = await anext(heard)
            assert advertised.service_data == {BTHOME: b"\x40\x02"}
        device.set_service_data(BTHOME, b"\x40\x03")
        async for _, advertised in heard:
            if advertised.service_data == {BTHOME: b"\x40\x03"}:
                break
    assert not bluez.adapter.scans.is_set()


async def test_battery(bluez: Bluez, client: Client) -> None:
    """Battery1 stands beside the battery service while the device is connected, and follows its level."""
    device = bluez.add(meter())
    async with BleakClient(await find()):
        assert await client.property("Percentage", "org.bluez.Battery1") == 90
        device.notify(BATTERY_LEVEL, b"\x11")
        assert await client.property("Percentage", "org.bluez.Battery1") == 17
    with pytest.raises(DBusError, match=r"no interface org\.bluez\.Battery1"):
        await client.property("Percentage", "org.bluez.Battery1")


async def test_properties(bluez: Bluez, client: Client) -> None:
    """Properties are read, singly and together; power and trust can be set, the rest cannot."""
    bluez.add(meter())
    await find()
    assert (await client.call(PATH, "org.freedesktop.DBus.Properties", "GetAll", "s", "org.bluez.Device1"))[
        "Paired"
    ] is (False)
    setting = ("org.freedesktop.DBus.Properties", "Set", "ssv")
    await client.call(PATH, *setting, "org.bluez.Device1", "Trusted", Variant("b", value=True))
    assert await client.property("Trusted") is True
    await client.call("/org/bluez/hci0", *setting, "org.bluez.Adapter1", "Powered", Variant("b", value=False))
    assert await client.property("Powered", "org.bluez.Adapter1", "/org/bluez/hci0") is False
    with pytest.raises(DBusError, match="read-only"):
        await client.call(PATH, *setting, "org.bluez.Device1", "Paired", Variant("b", value=True))
    with pytest.raises(DBusError, match="no property"):
        await client.property("Colour")


async def test_unreachable_device(bluez: Bluez, client: Client) -> None:
    """A device out of reach is not heard, and Connect to it stalls until it is called off; meanwhile none else may."""
    device = bluez.add(meter())
    await find()
    device.reachable = False
    assert await BleakScanner.find_device_by_address(ADDRESS, timeout=0.3) is None
    connecting = asyncio.create_task(client.device("Connect"))
    await until_unanswered(connecting, client)
    with pytest.raises(DBusError, match="already in progress"):
        await client.device("Connect")
    await client.device("Disconnect")
    with pytest.raises(DBusError, match="le-connection-abort-by-local"):
        await connecting
    device.reachable = True
    async with BleakClient(await find()):
        assert device.connected


async def test_stalled_connect(bluez: Bluez, client: Client) -> None:
    """With the fault set a device that is heard cannot be connected."""
    device = bluez.add(meter())
    device.faults.connect_stalls = True
    await find()
    connecting = asyncio.create_task(client.device("Connect"))
    await until_unanswered(connecting, client)
    await client.device("Disconnect")
    with pytest.raises(DBusError, match="le-connection-abort-by-local"):
        await connecting


async def test_slow_disconnect(bluez: Bluez) -> None:
    """With a delay set, the link stays up that long after Disconnect."""
    device = bluez.add(meter())
    device.faults.disconnect_delay_s = 0.2
    loop = asyncio.get_running_loop()
    async with BleakClient(await find()) as client:
        asked_s = loop.time()
        await client.disconnect()
        assert loop.time() - asked_s >= 0.2
    assert not device.connected


async def test_hung_daemon(bluez: Bluez) -> None:
    """A hung daemon answers and signals nothing; when it goes on, all of it comes in order."""
    device = bluez.add(meter())
    heard: asyncio.Queue[bytes] = asyncio.Queue()
    async with BleakClient(await find()) as connected, asyncio.timeout(LIMIT_S):
        await connected.start_notify(MEASUREMENT, lambda _, value: heard.put_nowait(bytes(value)))
        bluez.hang()
        device.notify(MEASUREMENT, b"\x02")
        device.notify(MEASUREMENT, b"\x03")
        reading = asyncio.create_task(connected.read_gatt_char(RECORD_ACCESS))
        done, _ = await asyncio.wait({reading}, timeout=0.2)
        assert not done
        assert heard.empty()
        bluez.resume()
        assert [await heard.get(), await heard.get(), await reading] == [b"\x02", b"\x03", b"\x00"]


async def test_changed_services(bluez: Bluez, client: Client) -> None:
    """Services that change on a live link vanish and come again at other paths, with their values."""
    device = bluez.add(meter())
    await find()
    await client.device("Connect")

    async def paths() -> set[str]:
        objects = await client.call("/", "org.freedesktop.DBus.ObjectManager", "GetManagedObjects")
        return {path for path in objects if path.startswith(f"{PATH}/")}

    before = await paths()
    device.change_services()
    after = await paths()
    assert len(after) == len(before) == 8
    assert before.isdisjoint(after)
    assert await client.property("ServicesResolved") is True
    assert device.connected


async def test_pair_without_agent(bluez: Bluez, client: Client) -> None:
    """Without an agent nothing pairs, not even "just works"."""
    device = bluez.add(meter())
    await find()
    with pytest.raises(DBusError, match="Authentication Failed") as refusal:
        await client.device("Pair")
    assert refusal.value.type == "org.bluez.Error.AuthenticationFailed"
    assert not device.bonded


async def test_pair_and_remove(bluez: Bluez, client: Client) -> None:
    """Pair bonds, which the properties say; a second one is refused; RemoveDevice ends bond, link and object."""
    device = bluez.add(meter())
    await find()
    await client.register(Allows())
    await client.device("Pair")
    assert (await client.property("Paired"), await client.property("Bonded")) == (True, True)
    with pytest.raises(DBusError, match="Already Exists"):
        await client.device("Pair")
    await client.call("/org/bluez/hci0", "org.bluez.Adapter1", "RemoveDevice", "o", PATH)
    assert not device.bonded
    assert not device.connected
    with pytest.raises(DBusError, match="no object"):
        await client.property("Paired")
    with pytest.raises(DBusError, match="Does Not Exist"):
        await client.call("/org/bluez/hci0", "org.bluez.Adapter1", "RemoveDevice", "o", PATH)


async def test_device_that_does_not_pair(bluez: Bluez, client: Client) -> None:
    """A device that pairs with nobody refuses."""
    bluez.add(meter(pairing="none"))
    await find()
    await client.register(Allows())
    with pytest.raises(DBusError, match="Authentication Failed"):
        await client.device("Pair")


async def test_protected_value_without_agent(bluez: Bluez, client: Client) -> None:
    """A protected value has bluetoothd pair by itself; where that fails, the call is never answered."""
    bluez.add(meter(protected=True))
    async with BleakClient(await find()) as connected:
        reading = asyncio.create_task(connected.read_gatt_char(MEASUREMENT))
        await until_unanswered(reading, client)
        reading.cancel()


async def test_protected_value_with_default_agent(bluez: Bluez, client: Client) -> None:
    """The default agent is asked for it, once; then it is read, and after the next connection without asking."""
    device = bluez.add(meter(protected=True))
    agent = Allows()
    await client.register(agent, default=True)
    for _ in range(2):
        async with BleakClient(await find()) as connected, asyncio.timeout(LIMIT_S):
            assert await connected.read_gatt_char(MEASUREMENT) == b"\x01"
            await connected.start_notify(MEASUREMENT, lambda *_: None)
    assert device.bonded
    assert agent.asked == [PATH]


async def test_agents_are_their_clients(bluez: Bluez, client: Client) -> None:
    """A client has one agent, which goes with it; what is not its own it cannot take away."""
    assert bluez.agents.registered == {}
    await client.register(Allows())
    manager = ("/org/bluez", "org.bluez.AgentManager1")
    with pytest.raises(DBusError, match="Already Exists"):
        await client.call(*manager, "RegisterAgent", "os", "/other", "")
    with pytest.raises(DBusError, match="Does Not Exist"):
        await client.call(*manager, "UnregisterAgent", "o", "/other")
    await client.call(*manager, "UnregisterAgent", "o", "/agent")
    assert bluez.agents.registered == {}
    with pytest.raises(DBusError, match="Invalid arguments"):
        await client.call(*manager, "RegisterAgent", "os", "/agent", "Telepathy")


async def test_cancelled_pairing(bluez: Bluez, client: Client) -> None:
    """CancelPairing ends a Pair that waits for the device's user; without one it is refused."""
    bluez.add(meter(pairing="passkey-entry"))
    await find()
    await client.register(Allows())
    with pytest.raises(DBusError, match="Does Not Exist"):
        await client.device("CancelPairing")
    pairing = asyncio.create_task(client.device("Pair"))
    await until_unanswered(pairing, client)
    await client.device("CancelPairing")
    with pytest.raises(DBusError, match="Authentication Canceled"):
        await pairing


@pytest.mark.parametrize("spoofed", [False, True])
async def test_device_without_our_key(bluez: Bluez, client: Client, *, spoofed: bool) -> None:
    """A device that lost its key, or another one under its address, is not connected while BlueZ has the bond.

    bleak tries such a Connect again for as long as it may, and then tells of nothing but the time.
    """
    device = bluez.add(meter())
    await find()
    await client.register(Allows())
    await client.device("Pair")
    await client.device("Disconnect")
    if spoofed:
        device.impersonate(dataclasses.replace(meter(), name="Liar"))
    else:
        device.forget_bond()
    with pytest.raises(DBusError, match="le-connection-abort-by-local"):
        await client.device("Connect")
    with pytest.raises(TimeoutError):
        await BleakClient(await find(), timeout=0.3).connect()
    assert await client.property("Paired") is True
    assert not device.connected


async def test_impersonated_device_without_bond(bluez: Bluez) -> None:
    """Where there is no bond, another device under the same address is connected and read like the first."""
    device = bluez.add(meter())
    async with BleakClient(await find()) as connected:
        assert await connected.read_gatt_char(MEASUREMENT) == b"\x01"
    liar = Characteristic(uuid=MEASUREMENT, flags=("read",), value=b"\x66")
    services = (Service(uuid=uuid_of(0x1808), characteristics=(liar,)),)
    device.impersonate(dataclasses.replace(meter(), services=services))
    async with BleakClient(await find()) as connected:
        assert await connected.read_gatt_char(MEASUREMENT) == b"\x66"
