"""The objects that a D-Bus service shows: path -> interface -> properties and methods, and the signals of change.

Implements the service's side of org.freedesktop.DBus.ObjectManager and org.freedesktop.DBus.Properties.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from dbus_fast import Message, MessageType, Variant

OBJECT_MANAGER: Final = "org.freedesktop.DBus.ObjectManager"
PROPERTIES: Final = "org.freedesktop.DBus.Properties"

YES: Final = Variant("b", value=True)
NO: Final = Variant("b", value=False)

Properties = dict[str, Variant]


class CallError(Exception):
    """A method's refusal: the D-Bus error name and the text that goes with it."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(name, text)
        self.name = name
        self.text = text


def bluez_error(kind: str, text: str) -> CallError:
    """Return the refusal as bluetoothd names it: kind "InProgress" is org.bluez.Error.InProgress."""
    return CallError(f"org.bluez.Error.{kind}", text)


def att_error(code: int) -> CallError:
    """Return a device's own refusal, an error of ATT that bluetoothd has no name for, as it passes it on."""
    return bluez_error("Failed", f"Operation failed with ATT error: 0x{code:02x}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What a method gives back; `on_sent` is called when it has left for the bus."""

    signature: str = ""
    body: tuple[Any, ...] = ()
    unix_fds: tuple[int, ...] = ()
    on_sent: Callable[[], None] | None = None


Method = Callable[[Message], Awaitable[Reply | None]]


@dataclass(slots=True)
class Interface:
    """One interface of one object. A client may set the properties that `setters` has, which have to signal it."""

    properties: Properties = field(default_factory=dict)
    methods: Mapping[str, Method] = field(default_factory=dict)
    setters: Mapping[str, Callable[[Any], None]] = field(default_factory=dict)


class ObjectTree:
    """Every object of one service; `send` is given the signal of each change.

    While `hung` the signals are kept; they leave, in order, when that ends.
    """

    def __init__(self, send: Callable[[Message], object]) -> None:
        self._send = send
        self._objects: dict[str, dict[str, Interface]] = {}
        self._kept: list[Message] = []
        self._hung = False

    def __contains__(self, path: str) -> bool:
        return path in self._objects

    @property
    def hung(self) -> bool:
        """Whether the service is stopped in its tracks."""
        return self._hung

    @hung.setter
    def hung(self, hung: bool) -> None:
        self._hung = hung
        if not hung:
            kept, self._kept = self._kept, []
            for message in kept:
                self._send(message)

    def add(self, path: str, interfaces: dict[str, Interface]) -> None:
        """Show a new object and signal InterfacesAdded."""
        self._objects[path] = interfaces
        self._signal_added(path, interfaces)

    def show(self, path: str, name: str, interface: Interface) -> None:
        """Give an object one interface more and signal InterfacesAdded."""
        self._objects[path][name] = interface
        self._signal_added(path, {name: interface})

    def hide(self, path: str, name: str) -> None:
        """Take one interface of an object away, where it has it, and signal InterfacesRemoved."""
        if self._objects.get(path, {}).pop(name, None) is not None:
            self._signal("/", OBJECT_MANAGER, "InterfacesRemoved", "oas", [path, [name]])

    def remove(self, path: str) -> None:
        """Take an object and all below it away, the deepest first, and signal InterfacesRemoved for each."""
        self.remove_below(path)
        if path in self._objects:
            interfaces = self._objects.pop(path)
            self._signal("/", OBJECT_MANAGER, "InterfacesRemoved", "oas", [path, list(interfaces)])

    def remove_below(self, path: str) -> None:
        """Take all objects below one away, the deepest first, and signal InterfacesRemoved for each."""
        for gone in sorted((at for at in self._objects if at.startswith(f"{path}/")), reverse=True):
            interfaces = self._objects.pop(gone)
            self._signal("/", OBJECT_MANAGER, "InterfacesRemoved", "oas", [gone, list(interfaces)])

    def change(self, path: str, interface: str, changed: Properties, *, invalidated: tuple[str, ...] = ()) -> None:
        """Set properties and signal PropertiesChanged, also where the value is what it was."""
        properties = self._objects[path][interface].properties
        properties.update(changed)
        for name in invalidated:
            properties.pop(name, None)
        self._signal(path, PROPERTIES, "PropertiesChanged", "sa{sv}as", [interface, changed, list(invalidated)])

    def method(self, path: str, interface: str, member: str) -> Method:
        """Find what answers a call.

        Raises: CallError if there is no such object, interface or method.
        """
        if (path, interface, member) == ("/", OBJECT_MANAGER, "GetManagedObjects"):
            return self._managed_objects
        if path not in self._objects:
            raise CallError("org.freedesktop.DBus.Error.UnknownObject", f"no object {path}")
        if interface == PROPERTIES and member in {"Get", "GetAll", "Set"}:
            return partial(self._properties, path)
        try:
            return self._objects[path][interface].methods[member]
        except KeyError:
            raise CallError("org.freedesktop.DBus.Error.UnknownMethod", f"no method {interface}.{member}") from None

    async def _managed_objects(self, _call: Message) -> Reply:
        shown = {
            path: {name: interface.properties for name, interface in interfaces.items()}
            for path, interfaces in self._objects.items()
        }
        return Reply(signature="a{oa{sa{sv}}}", body=(shown,))

    async def _properties(self, path: str, call: Message) -> Reply | None:
        name, *about = call.body
        if name not in self._objects[path]:
            raise _invalid(f"no interface {name}")
        interface = self._objects[path][name]
        if call.member == "GetAll":
            return Reply(signature="a{sv}", body=(dict(interface.properties),))
        if about[0] not in interface.properties:
            raise _invalid(f"no property {name}.{about[0]}")
        if call.member == "Get":
            return Reply(signature="v", body=(interface.properties[about[0]],))
        if about[0] not in interface.setters:
            raise CallError("org.freedesktop.DBus.Error.PropertyReadOnly", f"{name}.{about[0]} is read-only")
        interface.setters[about[0]](about[1].value)
        return None

    def _signal_added(self, path: str, interfaces: Mapping[str, Interface]) -> None:
        shown = {name: interface.properties for name, interface in interfaces.items()}
        self._signal("/", OBJECT_MANAGER, "InterfacesAdded", "oa{sa{sv}}", [path, shown])

    def _signal(self, path: str, interface: str, member: str, signature: str, body: list[Any]) -> None:
        message = Message(
            message_type=MessageType.SIGNAL,
            path=path,
            interface=interface,
            member=member,
            signature=signature,
            body=body,
        )
        if self._hung:
            self._kept.append(message)
        else:
            self._send(message)


def _invalid(text: str) -> CallError:
    return CallError("org.freedesktop.DBus.Error.InvalidArgs", text)
