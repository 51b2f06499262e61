"""BlueZ as it is now, asked over a bus connection of our own, since what bleak remembers of it may be long gone."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

from bleak.backends.device import BLEDevice
from bleak.exc import BleakError
from dbus_fast import AuthError, BusType, InvalidAddressError, Message, MessageType, Variant, unpack_variants
from dbus_fast.aio import MessageBus

from gateway.errors import Unavailable

BLUEZ: Final = "org.bluez"
ADAPTER: Final = "org.bluez.Adapter1"
CHARACTERISTIC: Final = "org.bluez.GattCharacteristic1"
DBUS: Final = "org.freedesktop.DBus"
CALL_LIMIT_S: Final = 10.0

_DEVICE: Final = "org.bluez.Device1"
# The last three are what bleak's own races come out as when BlueZ's objects vanish in the middle of a call.
_BLEAK_ERRORS: Final = (BleakError, OSError, EOFError, AttributeError, AssertionError, KeyError)

Objects = Mapping[str, Mapping[str, Mapping[str, Any]]]


@asynccontextmanager
async def limit(doing: str, limit_s: float | None) -> AsyncIterator[None]:
    """Give bleak `limit_s` for something.

    Raises: Unavailable if that was not enough, or for whatever bleak raises.
    """
    try:
        async with asyncio.timeout(limit_s):
            yield
    except TimeoutError as error:
        raise Unavailable(f"{doing}: no answer in time") from error
    except _BLEAK_ERRORS as error:
        cause = error.__cause__ or error  # bleak-retry-connector wraps what BlueZ said into advice
        raise Unavailable(f"{doing}: {' '.join(str(cause).split()) or type(cause).__name__}") from error


class _SystemBus(MessageBus):
    """A connection on which nothing is sent any more once it has ended.

    dbus-fast itself would still send our answers to calls, and fail where nobody can catch it.
    """

    def send(self, msg: Message) -> "asyncio.Future[None]":  # type: ignore[override] # as dbus-fast's own asyncio bus
        """Send a message, or drop it where there is no bus any more."""
        if self.connected:
            return super().send(msg)
        dropped = asyncio.get_running_loop().create_future()
        dropped.set_result(None)
        return dropped


@asynccontextmanager
async def system_bus() -> AsyncIterator[MessageBus]:
    """Hold a connection of our own to the system's D-Bus.

    Raises: Unavailable if there is none.
    """
    try:
        bus = _SystemBus(bus_type=BusType.SYSTEM)
        await bus.connect()
    except (OSError, EOFError, AuthError, InvalidAddressError) as error:
        raise Unavailable(f"there is no system D-Bus ({error}): start the service dbus") from error
    try:
        yield bus
    finally:
        bus.disconnect()
        with suppress(OSError, EOFError):
            await bus.wait_for_disconnect()  # type: ignore[no-untyped-call] # dbus-fast does not type it


async def match_signal(bus: MessageBus, rule: str) -> None:
    """Have the bus send us the signals that a match rule names.

    Raises: Unavailable if it does not.
    """
    call = Message(
        destination=DBUS, path="/org/freedesktop/DBus", interface=DBUS, member="AddMatch", signature="s", body=[rule]
    )
    async with limit("watching the bus", CALL_LIMIT_S):
        await bus.call(call)


async def managed_objects(bus: MessageBus) -> Objects:
    """Return every object that BlueZ has.

    Raises: Unavailable if there is no BlueZ or it does not talk to us.
    """
    call = Message(destination=BLUEZ, path="/", interface=f"{DBUS}.ObjectManager", member="GetManagedObjects")
    if not bus.connected:  # dbus-fast would wait for ever
        raise Unavailable("the system D-Bus has gone")
    async with limit("asking BlueZ", None):
        reply = await bus.call(call)
    if reply is None:
        raise Unavailable("the system D-Bus has gone")
    if reply.error_name == f"{DBUS}.Error.AccessDenied":
        raise Unavailable("BlueZ refuses this user: add it to the group bluetooth")
    if reply.message_type is not MessageType.METHOD_RETURN:
        raise Unavailable("BlueZ does not run: install Debian's package bluez and start the service bluetooth")
    objects: Objects = unpack_variants(reply.body[0])
    return objects


def choose_adapter(objects: Objects, wanted: str | None) -> str:
    """Return the name of the adapter to use, such as hci0.

    Raises: Unavailable if it, or any, is not there or is off.
    """
    powered = {path.rsplit("/", 1)[1]: at[ADAPTER]["Powered"] for path, at in sorted(objects.items()) if ADAPTER in at}
    if not powered:
        raise Unavailable("there is no Bluetooth adapter: plug one in, or see `rfkill list` and `dmesg`")
    if wanted is not None and wanted not in powered:
        raise Unavailable(f"there is no Bluetooth adapter {wanted}, only {', '.join(powered)}")
    for name, on in powered.items():
        if on and wanted in (None, name):
            return name
    raise Unavailable(f"the Bluetooth adapter {wanted or ', '.join(powered)} is off: `bluetoothctl power on`")


def connected_devices(objects: Objects, adapter: str) -> Iterator[BLEDevice]:
    """Yield the devices that the adapter is connected to, on whoever's behalf."""
    for path, interfaces in objects.items():
        properties = interfaces.get(_DEVICE, {})
        if properties.get("Connected") and path.startswith(f"/org/bluez/{adapter}/"):
            yield BLEDevice(properties["Address"], properties["Alias"], {"path": path, "props": properties})


def is_bonded(objects: Objects, address: str) -> bool:
    """Say whether BlueZ holds a bond with a device, on any adapter."""
    devices = (interfaces.get(_DEVICE, {}) for interfaces in objects.values())
    return any(device.get("Bonded", False) for device in devices if device.get("Address") == address.upper())


async def set_power(bus: MessageBus, adapter: str, *, on: bool) -> None:
    """Switch an adapter on or off.

    Raises: Unavailable if BlueZ refuses or does not answer.
    """
    call = Message(
        destination=BLUEZ,
        path=f"/org/bluez/{adapter}",
        interface=f"{DBUS}.Properties",
        member="Set",
        signature="ssv",
        body=[ADAPTER, "Powered", Variant("b", on)],
    )
    async with limit(f"switching {adapter} {'on' if on else 'off'}", CALL_LIMIT_S):
        reply = await bus.call(call)
    if reply is None or reply.message_type is not MessageType.METHOD_RETURN:
        raise Unavailable(f"{adapter} could not be switched {'on' if on else 'off'}")
