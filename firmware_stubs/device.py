"""A simulated device as bluetoothd shows it, Device1: seen, connected, bonded, lost; with the switches for its faults.

Where both ends keep a key the link is encrypted as soon as it is up. A device that does not have our key any more is
connected and gone again at once: Connected rises and falls, Connect fails with "le-connection-abort-by-local", Paired
stays true and Pair says AlreadyExists (BlueZ's issue 433, of 5.66). A later BlueZ says "le-connection-key-missing".
"""

import asyncio
import dataclasses
from collections.abc import Callable
from typing import Final

from dbus_fast import Message, Variant

from firmware_stubs import gatt
from firmware_stubs.faults import Faults
from firmware_stubs.objects import NO, YES, CallError, Interface, ObjectTree, Properties, bluez_error
from firmware_stubs.pairing import Agents, Bond
from firmware_stubs.peripheral import Peripheral, uuid_of

DEVICE: Final = "org.bluez.Device1"
BATTERY: Final = "org.bluez.Battery1"

_BATTERY_LEVEL: Final = uuid_of(0x2A19)
OnWrite = Callable[[str, bytes], None]
OnSubscribed = Callable[[str], None]

# How long a device takes to refuse the encryption of a link.
_ENCRYPTION_S: Final = 0.05
# How many handles further the services are when they have changed.
_SHIFT: Final = 0x40


class Device:
    """A peripheral and what BlueZ knows of it; the public methods are the device's own doing, the rest the client's.

    While it is not `reachable` it is not heard, and Connect stalls. `on_write` is called with the UUID and the value
    of each write, which it may refuse by a CallError; what is notified meanwhile leaves when the client has its answer.
    `on_subscribed` is called with the UUID when a first client has subscribed.
    """

    def __init__(self, tree: ObjectTree, adapter_path: str, peripheral: Peripheral, agents: Agents) -> None:
        self.peripheral = peripheral
        self.faults = Faults()
        self.reachable = True
        self.connected = False
        self.on_write: OnWrite = lambda _uuid, _value: None
        self.on_subscribed: OnSubscribed = lambda _uuid: None
        self.path = f"{adapter_path}/dev_{peripheral.address.upper().replace(':', '_')}"
        self._adapter_path = adapter_path
        self._tree = tree
        self._bond = Bond(agents, self.path)
        self._encrypted = False
        self._characteristics: dict[str, gatt.RemoteCharacteristic] = {}
        self._values: dict[str, bytes] = {}
        self._unanswered = 0  # writes
        self._waiting: list[tuple[str, bytes]] = []
        self._shift = 0
        self._stall: asyncio.Future[None] | None = None

    @property
    def advertises(self) -> bool:
        """Whether it can be heard."""
        return self.reachable and not self.connected

    @property
    def bonded(self) -> bool:
        """Whether BlueZ keeps a bond with it."""
        return self._bond.kept

    def advertise(self, rssi_dbm: int) -> None:
        """Be heard by the adapter: the first time the device appears on the bus, later its properties change."""
        heard: Properties = {"RSSI": Variant("n", rssi_dbm)}
        manufacturer, service = self.peripheral.manufacturer_data, self.peripheral.service_data
        if manufacturer:
            heard["ManufacturerData"] = Variant(
                "a{qv}", {key: Variant("ay", data) for key, data in manufacturer.items()}
            )
        if service:
            heard["ServiceData"] = Variant("a{sv}", {uuid: Variant("ay", data) for uuid, data in service.items()})
        if self.path in self._tree:
            self._change(heard)
        else:
            self._tree.add(self.path, {DEVICE: self._interface(heard)})

    def set_service_data(self, uuid: str, data: bytes) -> None:
        """Advertise this from the next advertisement on; each is signalled, also where nothing has changed."""
        service_data = {**self.peripheral.service_data, uuid: data}
        self.peripheral = dataclasses.replace(self.peripheral, service_data=service_data)

    def forget_rssi(self) -> None:
        """Invalidate the signal strength, as bluetoothd does when discovery stops."""
        if self.path in self._tree:
            self._tree.change(self.path, DEVICE, {}, invalidated=("RSSI",))

    def set_value(self, uuid: str, value: bytes) -> None:
        """Give this to who reads the characteristic from now on, until a client writes it; nobody is notified."""
        self._values[uuid] = value
        if uuid in self._characteristics:
            self._characteristics[uuid].value = value

    def is_subscribed(self, uuid: str) -> bool:
        """Say whether a client listens to the characteristic."""
        return uuid in self._characteristics and self._characteristics[uuid].subscribed

    def notify(self, uuid: str, value: bytes) -> None:
        """Notify or indicate a value to whoever is connected and subscribed to the characteristic."""
        if not self.connected or self.faults.silent:
            return
        if self._unanswered:
            self._waiting.append((uuid, value))
            return
        for _ in range(2 if self.faults.doubled else 1):
            self._characteristics[uuid].notify(value)
        if uuid == _BATTERY_LEVEL:
            self._tree.change(self.path, BATTERY, {"Percentage": Variant("y", value[0])})

    def lose_link(self) -> None:
        """End the connection as a supervision time-out does: both properties fall in one signal."""
        if self.connected:
            self._end_link()
            self._change({"ServicesResolved": NO, "Connected": NO})
            self._tree.hide(self.path, BATTERY)

    def change_services(self) -> None:
        """Have other handles from now on: on a live link, the objects vanish and come again at other paths."""
        self._shift += _SHIFT
        if self.connected:
            self._change({"ServicesResolved": NO})
            self._tree.hide(self.path, BATTERY)
        before = self._characteristics
        self._remove_services()
        if self.connected:
            self._resolve()
            for uuid, characteristic in before.items():
                self._characteristics[uuid].value = characteristic.value

    def forget_bond(self) -> None:
        """Lose our key, as a device does that is reset; BlueZ is not told."""
        self._bond.lose(ours=False)

    def impersonate(self, peripheral: Peripheral) -> None:
        """Have another device take this one's place under its address, from now on and without its key."""
        self.lose_link()
        self.forget_bond()
        self._remove_services()
        self._values = {}
        self.peripheral = dataclasses.replace(peripheral, address=self.peripheral.address)

    def type_in(self, passkey: str) -> None:
        """Type six digits into the device, which is being paired."""
        self._bond.type_in(int(passkey))

    def forget(self) -> None:
        """Lose the link and vanish from the bus, until heard again; a bond outlives it."""
        self.lose_link()
        self._call_off()
        self._characteristics = {}
        self._tree.remove(self.path)

    def remove(self) -> None:
        """Vanish from the bus, and from BlueZ's memory: it drops its end of the bond."""
        self._bond.lose(ours=True)
        self.forget()

    def client_left(self, client: str) -> None:
        """Drop what a client had subscribed to or was pairing. The link stays up, as bluetoothd leaves it."""
        for characteristic in self._characteristics.values():
            characteristic.unsubscribe(client)
        self._bond.call_off(client)

    def _interface(self, heard: Properties) -> Interface:
        properties: Properties = {
            "Adapter": Variant("o", self._adapter_path),
            "Address": Variant("s", self.peripheral.address.upper()),
            "AddressType": Variant("s", "public"),
            "Alias": Variant("s", self.peripheral.name),
            "Name": Variant("s", self.peripheral.name),
            "UUIDs": Variant("as", list(self.peripheral.advertised_uuids)),
            **dict.fromkeys(("Paired", "Bonded"), YES if self.bonded else NO),
            **dict.fromkeys(("Connected", "ServicesResolved", "Trusted", "Blocked", "LegacyPairing"), NO),
        }
        methods = {
            "Connect": self._connect,
            "Disconnect": self._disconnect,
            "Pair": self._pair,
            "CancelPairing": self._cancel_pairing,
        }
        setters = {"Trusted": lambda trusted: self._change({"Trusted": Variant("b", trusted)})}
        return Interface(properties | heard, methods, setters)

    async def _connect(self, _call: Message) -> None:
        """Connect and discover services; bluetoothd answers only after both."""
        if self.connected:
            return
        if self._stall is not None:
            raise bluez_error("InProgress", "Operation already in progress")
        if self.faults.connect_errors:
            raise self.faults.connect_errors.popleft()
        if self.faults.connect_stalls or not self.reachable:
            self._stall = asyncio.get_running_loop().create_future()
            try:
                await self._stall
            finally:
                self._stall = None
        self.connected = True
        self._change({"Connected": YES})
        if self.bonded and not self._bond.holds:
            await asyncio.sleep(_ENCRYPTION_S)
            self.lose_link()
            raise _aborted()
        self._encrypted = self.bonded
        self._resolve()

    async def _disconnect(self, _call: Message) -> None:
        self._call_off()
        if self.connected:
            await asyncio.sleep(self.faults.disconnect_delay_s)
        if self.connected:
            self._end_link()
            self._change({"ServicesResolved": NO})
            self._change({"Connected": NO})
            self._tree.hide(self.path, BATTERY)

    async def _pair(self, call: Message) -> None:
        """Connect if need be and bond; bluetoothd answers after service discovery, too."""
        if self.bonded:
            raise bluez_error("AlreadyExists", "Already Exists")
        if self._bond.under_way:
            raise bluez_error("InProgress", "In Progress")
        await self._connect(call)
        await self._pair_for(call.sender)

    async def _cancel_pairing(self, _call: Message) -> None:
        if not self._bond.under_way:
            raise bluez_error("DoesNotExist", "Does Not Exist")
        self._bond.call_off()

    async def _secure(self) -> None:
        """Bond as bluetoothd does by itself; where that fails it never answers who wanted the protected value."""
        await self._bond.settle()
        if not self._encrypted:
            try:
                await self._pair_for(None)
            except CallError:
                await asyncio.get_running_loop().create_future()

    async def _pair_for(self, client: str | None) -> None:
        pairing = self.peripheral.pairing
        if self.faults.downgraded and pairing != "none":
            pairing = "just-works"
        await self._bond.make(client, pairing, self.peripheral.passkey)
        self._encrypted = True
        self._change({"Paired": YES, "Bonded": YES})

    def _resolve(self) -> None:
        if not self._characteristics:  # objects of a known device are kept and used again
            owner = gatt.Owner(secure=self._secure, wrote=self._wrote, subscribed=self._subscribed)
            self._characteristics = gatt.publish(self._tree, self.path, self.peripheral, owner, shift=self._shift)
            for uuid, value in self._values.items():
                self._characteristics[uuid].value = value
        for characteristic in self._characteristics.values():
            characteristic.connected = True
        uuids = [service.uuid for service in self.peripheral.services]
        self._change({"UUIDs": Variant("as", uuids), "ServicesResolved": YES})
        if _BATTERY_LEVEL in self._characteristics:
            level = self._characteristics[_BATTERY_LEVEL].value[0]
            source = Variant("s", "GATT Battery Service")
            battery: Properties = {"Percentage": Variant("y", level), "Source": source}
            self._tree.show(self.path, BATTERY, Interface(battery))

    def _wrote(self, uuid: str, value: bytes) -> Callable[[], None]:
        self._unanswered += 1
        try:
            self.on_write(uuid, value)
        except CallError:
            self._answered()
            raise
        return self._answered

    def _answered(self) -> None:
        self._unanswered -= 1
        if not self._unanswered:
            waiting, self._waiting = self._waiting, []
            for uuid, value in waiting:
                self.notify(uuid, value)

    def _subscribed(self, uuid: str) -> None:
        self.on_subscribed(uuid)

    def _remove_services(self) -> None:
        self._characteristics = {}
        self._tree.remove_below(self.path)

    def _end_link(self) -> None:
        self.connected = self._encrypted = False
        self._waiting = []
        self._call_off()
        for characteristic in self._characteristics.values():
            characteristic.disconnect()

    def _call_off(self) -> None:
        """End what is under way: a pairing, a connection that does not come about."""
        self._bond.call_off()
        if self._stall is not None and not self._stall.done():
            self._stall.set_exception(_aborted())

    def _change(self, changed: Properties) -> None:
        self._tree.change(self.path, DEVICE, changed)


def _aborted() -> CallError:
    return bluez_error("Failed", "le-connection-abort-by-local")
