"""A device's services on the bus, and who is subscribed: GattService1, GattCharacteristic1, GattDescriptor1."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

from dbus_fast import Message, Variant

from firmware_stubs.objects import NO, YES, CallError, Interface, ObjectTree, Properties, Reply, bluez_error
from firmware_stubs.peripheral import CCCD, Characteristic, Peripheral

SERVICE = "org.bluez.GattService1"
CHARACTERISTIC = "org.bluez.GattCharacteristic1"
DESCRIPTOR = "org.bluez.GattDescriptor1"

# BlueZ numbers attributes after the two services that it keeps to itself.
_FIRST_HANDLE = 0x000A


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """What a characteristic asks and tells the device that it is of.

    `secure` returns once the link is encrypted, and never if it cannot be. `wrote` takes a write or refuses it by a
    CallError; what it returns, and `subscribed`, are called when the client has its answer, as the device's own answer
    always comes after it.
    """

    secure: Callable[[], Awaitable[None]]
    wrote: Callable[[str, bytes], Callable[[], None]]
    subscribed: Callable[[str], None]


class RemoteCharacteristic:
    """A characteristic on the bus and its subscribers: clients of StartNotify, or one socket of AcquireNotify."""

    def __init__(self, tree: ObjectTree, path: str, characteristic: Characteristic, mtu: int, owner: Owner) -> None:
        self._tree = tree
        self._path = path
        self._characteristic = characteristic
        self._mtu = mtu
        self._owner = owner
        self._subscribers: set[str] = set()
        self._socket: socket.socket | None = None
        self.value = characteristic.value
        self.connected = True

    @property
    def subscribed(self) -> bool:
        """Whether anybody is."""
        return bool(self._subscribers) or self._socket is not None

    def interface(self, service_path: str) -> Interface:
        """Return what the bus shows of it."""
        properties: Properties = {
            "UUID": Variant("s", self._characteristic.uuid),
            "Service": Variant("o", service_path),
            "Flags": Variant("as", list(self._characteristic.flags)),
            "Value": Variant("ay", b""),
            "MTU": Variant("q", self._mtu),
        }
        if self._characteristic.notifies:
            properties |= {"Notifying": NO, "NotifyAcquired": NO}
        methods = {
            "ReadValue": self._read_value,
            "WriteValue": self._write_value,
            "StartNotify": self._start_notify,
            "StopNotify": self._stop_notify,
            "AcquireNotify": self._acquire_notify,
        }
        return Interface(properties, methods)

    def descriptor(self) -> Interface:
        """Return what the bus shows of the client characteristic configuration."""
        properties = {"UUID": Variant("s", CCCD), "Characteristic": Variant("o", self._path)}
        return Interface(properties, {"ReadValue": self._read_configuration})

    def notify(self, value: bytes) -> None:
        """Send one notification to whoever is subscribed."""
        if self._subscribers:
            self._change({"Value": Variant("ay", value)})
        elif self._socket is not None and not self._tree.hung:
            try:
                self._socket.send(value)
            except BlockingIOError:
                return  # the client does not read: bluetoothd drops it too
            except OSError:
                self._release()

    def unsubscribe(self, client: str) -> None:
        """Forget a client that left the bus or unsubscribed."""
        if client in self._subscribers:
            self._subscribers.remove(client)
            if not self._subscribers:
                self._change({"Notifying": NO})

    def disconnect(self) -> None:
        """Drop every subscription, as the end of a link does."""
        self.connected = False
        self._subscribers.clear()
        self._release()

    async def _read_value(self, call: Message) -> Reply:
        self._require("read", "Read not permitted")
        await self._secure()
        offset = self._offset(call.body[0])
        # bluetoothd signals the value too: a subscriber sees its own read as a notification.
        self._change({"Value": Variant("ay", self.value)})
        return Reply(signature="ay", body=(self.value[offset:],))

    async def _write_value(self, call: Message) -> Reply:
        data, options = call.body
        command = "type" in options and options["type"].value == "command"
        self._require("write-without-response" if command else "write", "Write not permitted")
        await self._secure()
        before = self.value
        self.value = before[: self._offset(options)] + bytes(data)
        try:
            return Reply(on_sent=self._owner.wrote(self._characteristic.uuid, self.value))
        except CallError:
            self.value = before
            if command:  # nothing on the air answers it
                return Reply()
            raise

    async def _start_notify(self, call: Message) -> Reply:
        self._require_idle(call.sender)
        await self._secure()
        first = not self._subscribers
        self._subscribers.add(str(call.sender))
        self._change({"Notifying": YES})
        return Reply(on_sent=partial(self._owner.subscribed, self._characteristic.uuid) if first else None)

    async def _stop_notify(self, call: Message) -> None:
        if call.sender not in self._subscribers:
            raise bluez_error("Failed", "No notify session started")
        self.unsubscribe(call.sender)

    async def _acquire_notify(self, _call: Message) -> Reply:
        self._require_idle(None)
        if self._subscribers:
            raise bluez_error("InProgress", "Operation already in progress")
        await self._secure()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.settimeout(0)
        theirs.settimeout(0)
        self._socket = ours
        asyncio.get_running_loop().add_reader(ours, self._release)  # readable only when the client has closed
        self._change({"NotifyAcquired": YES})

        def acquired() -> None:
            theirs.close()  # ours to close: while we hold their end, we never see the client close it
            self._owner.subscribed(self._characteristic.uuid)

        return Reply(signature="hq", body=(0, self._mtu), unix_fds=(theirs.fileno(),), on_sent=acquired)

    async def _read_configuration(self, _call: Message) -> Reply:
        return Reply(signature="ay", body=(b"\x01\x00" if self.subscribed else b"\x00\x00",))

    async def _secure(self) -> None:
        if self._characteristic.protected:
            await self._owner.secure()

    def _offset(self, options: Properties) -> int:
        offset: int = options["offset"].value if "offset" in options else 0
        if offset > len(self.value):
            raise bluez_error("InvalidOffset", "Invalid Offset")
        return offset

    def _require(self, flag: str, refusal: str) -> None:
        if not self.connected:
            raise bluez_error("Failed", "Not connected")
        if flag not in self._characteristic.flags:
            raise bluez_error("NotPermitted", refusal)

    def _require_idle(self, client: str | None) -> None:
        if not self.connected:
            raise bluez_error("Failed", "Not connected")
        if not self._characteristic.notifies:
            raise bluez_error("NotSupported", "Operation is not supported")
        if self._socket is not None:
            raise bluez_error("NotPermitted", "Notify acquired")
        if client in self._subscribers:
            raise bluez_error("InProgress", "Operation already in progress")

    def _release(self) -> None:
        if self._socket is None:
            return
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()
        self._socket = None
        self._change({"NotifyAcquired": NO})

    def _change(self, changed: Properties) -> None:
        self._tree.change(self._path, CHARACTERISTIC, changed)


def publish(
    tree: ObjectTree, device_path: str, peripheral: Peripheral, owner: Owner, *, shift: int = 0
) -> dict[str, RemoteCharacteristic]:
    """Show every service of the peripheral on the bus, `shift` handles on; return its characteristics by UUID."""
    published = {}
    handle = _FIRST_HANDLE + shift
    for service in peripheral.services:
        service_path = f"{device_path}/service{handle:04x}"
        tree.add(service_path, {SERVICE: _service(service.uuid, device_path)})
        handle += 1
        for characteristic in service.characteristics:
            path = f"{service_path}/char{handle:04x}"
            remote = RemoteCharacteristic(tree, path, characteristic, peripheral.mtu, owner)
            tree.add(path, {CHARACTERISTIC: remote.interface(service_path)})
            if characteristic.notifies:
                tree.add(f"{path}/desc{handle + 2:04x}", {DESCRIPTOR: remote.descriptor()})
            published[characteristic.uuid] = remote
            handle += 3 if characteristic.notifies else 2
    return published


def _service(uuid: str, device_path: str) -> Interface:
    return Interface(
        {
            "UUID": Variant("s", uuid),
            "Device": Variant("o", device_path),
            "Primary": YES,
            "Includes": Variant("ao", []),
        }
    )
