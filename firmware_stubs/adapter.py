"""The simulated radio's Adapter1: who discovers what, and the advertisements that are heard meanwhile."""

import asyncio
from itertools import cycle
from typing import Final

from dbus_fast import Message, Variant

from firmware_stubs.device import Device
from firmware_stubs.objects import NO, YES, Interface, ObjectTree, Properties, bluez_error

ADAPTER: Final = "org.bluez.Adapter1"
MONITOR_MANAGER: Final = "org.bluez.AdvertisementMonitorManager1"

_ADVERTISING_INTERVAL_S: Final = 0.1


class Adapter:
    """A controller that is powered or not; devices that are not connected advertise while somebody discovers.

    `scans` is set meanwhile. Who listens passively hears every device: the patterns of a monitor are not looked at.
    """

    def __init__(self, tree: ObjectTree, name: str) -> None:
        self.path = f"/org/bluez/{name}"
        self.devices: list[Device] = []
        self._powered = True
        self._tree = tree
        self._filters: dict[str, Properties] = {}
        self._discovering: dict[str, Properties] = {}
        self._monitors: set[tuple[str, str]] = set()
        self.scans = asyncio.Event()

    def publish(self) -> None:
        """Show the adapter on the bus."""
        address = Variant("s", "00:00:00:00:00:01")
        properties: Properties = {
            "Address": address,
            "AddressType": Variant("s", "public"),
            "Name": Variant("s", "simulated"),
            "Alias": Variant("s", "simulated"),
            "Class": Variant("u", 0),
            "Powered": YES if self._powered else NO,
            "Discoverable": NO,
            "Pairable": YES,
            "Discovering": NO,
            "UUIDs": Variant("as", []),
            "Roles": Variant("as", ["central", "peripheral"]),
        }
        methods = {
            "SetDiscoveryFilter": self._set_discovery_filter,
            "StartDiscovery": self._start_discovery,
            "StopDiscovery": self._stop_discovery,
            "RemoveDevice": self._remove_device,
        }
        adapter = Interface(properties, methods, {"Powered": lambda on: self.set_power(on=on)})
        self._tree.add(self.path, {ADAPTER: adapter, MONITOR_MANAGER: self._monitor_manager()})

    def set_power(self, *, on: bool) -> None:
        """Switch the controller; off drops every link and every discovery."""
        self._powered = on
        if on:
            self._change({"Powered": YES})
            return
        for device in self.devices:
            device.lose_link()
        self._end_discovery()
        self._change({"Powered": NO, "Discovering": NO})

    def unplug(self) -> None:
        """Take the controller away, with all that was known through it; `publish` plugs it in again."""
        for device in self.devices:
            device.forget()
        self._end_discovery()
        self._tree.remove(self.path)

    async def advertise(self) -> None:
        """Let the devices be heard, for ever."""
        for wobble_db in cycle((-1, 0, 1)):
            await asyncio.sleep(_ADVERTISING_INTERVAL_S)
            for device in self.devices:
                if device.advertises and self._wanted(device):
                    device.advertise(device.peripheral.rssi_dbm + wobble_db)

    def client_left(self, client: str) -> None:
        """Drop the discovery and the subscriptions of a client that left the bus."""
        self._filters.pop(client, None)
        self._monitors = {monitor for monitor in self._monitors if monitor[0] != client}
        if self._discovering.pop(client, None) is not None:
            self._rest_if_unwanted()
        for device in self.devices:
            device.client_left(client)

    async def _set_discovery_filter(self, call: Message) -> None:
        self._filters[str(call.sender)] = call.body[0]

    async def _start_discovery(self, call: Message) -> None:
        client = str(call.sender)
        self._require_power()
        if client in self._discovering:
            raise bluez_error("InProgress", "Operation already in progress")
        self._discovering[client] = self._filters.get(client, {})
        self.scans.set()
        self._change({"Discovering": YES})

    async def _stop_discovery(self, call: Message) -> None:
        self._require_power()
        if self._discovering.pop(str(call.sender), None) is None:
            raise bluez_error("Failed", "No discovery started")
        self._rest_if_unwanted()

    async def _remove_device(self, call: Message) -> None:
        for device in self.devices:
            if device.path == call.body[0] and device.path in self._tree:
                device.remove()
                return
        raise bluez_error("DoesNotExist", "Does Not Exist")

    def _monitor_manager(self) -> Interface:
        properties = {"SupportedMonitorTypes": Variant("as", ["or_patterns"]), "SupportedFeatures": Variant("as", [])}
        methods = {"RegisterMonitor": self._register_monitor, "UnregisterMonitor": self._unregister_monitor}
        return Interface(properties, methods)

    async def _register_monitor(self, call: Message) -> None:
        monitor = (str(call.sender), call.body[0])
        if monitor in self._monitors:
            raise bluez_error("AlreadyExists", "Already Exists")
        self._monitors.add(monitor)

    async def _unregister_monitor(self, call: Message) -> None:
        monitor = (str(call.sender), call.body[0])
        if monitor not in self._monitors:
            raise bluez_error("DoesNotExist", "Does Not Exist")
        self._monitors.remove(monitor)

    def _rest_if_unwanted(self) -> None:
        if self._discovering:
            return
        self._end_discovery()
        for device in self.devices:
            device.forget_rssi()
        self._change({"Discovering": NO})

    def _end_discovery(self) -> None:
        self._discovering.clear()
        self.scans.clear()

    def _wanted(self, device: Device) -> bool:
        advertised = set(device.peripheral.advertised_uuids)
        if self._monitors and self._powered:
            return True
        return any(
            "UUIDs" not in wanted or not advertised.isdisjoint(wanted["UUIDs"].value)
            for wanted in self._discovering.values()
        )

    def _require_power(self) -> None:
        if not self._powered:
            raise bluez_error("NotReady", "Resource Not Ready")

    def _change(self, changed: Properties) -> None:
        self._tree.change(self.path, ADAPTER, changed)
