"""A simulated device as bluetoothd shows it, Device1: seen, connected, lost; with the switches for its faults."""

from collections import deque
from dataclasses import dataclass, field
from typing import Final

from dbus_fast import Message, Variant

from firmware_stubs import gatt
from firmware_stubs.objects import NO, YES, CallError, Interface, ObjectTree, Properties
from firmware_stubs.peripheral import Peripheral

DEVICE: Final = "org.bluez.Device1"


@dataclass(slots=True)
class Faults:
    """What goes wrong with a device while it is set.

    `connect_errors`: each Connect takes one and fails with it. `silent`: the link stays up and nothing
    is notified. `doubled`: each notification is sent twice.
    """

    connect_errors: deque[CallError] = field(default_factory=deque)
    silent: bool = False
    doubled: bool = False


class Device:
    """A peripheral within reach of the adapter; `notify` and `lose_link` are its own doing, the rest the client's."""

    def __init__(self, tree: ObjectTree, adapter_path: str, peripheral: Peripheral) -> None:
        self.peripheral = peripheral
        self.faults = Faults()
        self.connected = False
        self.path = f"{adapter_path}/dev_{peripheral.address.upper().replace(':', '_')}"
        self._adapter_path = adapter_path
        self._tree = tree
        self._characteristics: dict[str, gatt.RemoteCharacteristic] = {}

    def advertise(self, rssi_dbm: int) -> None:
        """Be heard by the adapter: the first time the device appears on the bus, later its properties change."""
        heard: Properties = {"RSSI": Variant("n", rssi_dbm)}
        data = self.peripheral.manufacturer_data
        if data:
            heard["ManufacturerData"] = Variant("a{qv}", {key: Variant("ay", value) for key, value in data.items()})
        if self.path in self._tree:
            self._change(heard)
        else:
            self._tree.add(self.path, {DEVICE: self._interface(heard)})

    def forget_rssi(self) -> None:
        """Invalidate the signal strength, as bluetoothd does when discovery stops."""
        if self.path in self._tree:
            self._tree.change(self.path, DEVICE, {}, invalidated=("RSSI",))

    def notify(self, uuid: str, value: bytes) -> None:
        """Send a value to whoever is connected and subscribed to the characteristic."""
        if not self.connected or self.faults.silent:
            return
        for _ in range(2 if self.faults.doubled else 1):
            self._characteristics[uuid].notify(value)

    def lose_link(self) -> None:
        """End the connection as a supervision time-out does: both properties fall in one signal."""
        if self.connected:
            self._end_link()
            self._change({"ServicesResolved": NO, "Connected": NO})

    def forget(self) -> None:
        """Lose the link and vanish from the bus, until heard again."""
        self.lose_link()
        self._characteristics = {}
        self._tree.remove(self.path)

    def client_left(self, client: str) -> None:
        """Drop what a client of the bus had subscribed to. The link stays up, as bluetoothd leaves it."""
        for characteristic in self._characteristics.values():
            characteristic.unsubscribe(client)

    def _interface(self, heard: Properties) -> Interface:
        properties: Properties = {
            "Adapter": Variant("o", self._adapter_path),
            "Address": Variant("s", self.peripheral.address.upper()),
            "AddressType": Variant("s", "public"),
            "Alias": Variant("s", self.peripheral.name),
            "Name": Variant("s", self.peripheral.name),
            "UUIDs": Variant("as", list(self.peripheral.advertised_uuids)),
            "Connected": NO,
            "ServicesResolved": NO,
            **dict.fromkeys(("Paired", "Bonded", "Trusted", "Blocked", "LegacyPairing"), NO),
        }
        return Interface(properties | heard, {"Connect": self._connect, "Disconnect": self._disconnect})

    async def _connect(self, _call: Message) -> None:
        """Connect and discover services; bluetoothd answers only after both."""
        if self.connected:
            return
        if self.faults.connect_errors:
            raise self.faults.connect_errors.popleft()
        self.connected = True
        self._change({"Connected": YES})
        if not self._characteristics:  # objects of a known device are kept and used again
            self._characteristics = gatt.publish(self._tree, self.path, self.peripheral)
        for characteristic in self._characteristics.values():
            characteristic.connected = True
        uuids = [service.uuid for service in self.peripheral.services]
        self._change({"UUIDs": Variant("as", uuids), "ServicesResolved": YES})

    async def _disconnect(self, _call: Message) -> None:
        if self.connected:
            self._end_link()
            self._change({"ServicesResolved": NO})
            self._change({"Connected": NO})

    def _end_link(self) -> None:
        self.connected = False
        for characteristic in self._characteristics.values():
            characteristic.disconnect()

    def _change(self, changed: Properties) -> None:
        self._tree.change(self.path, DEVICE, changed)
