"""The objects that a D-Bus service shows: path -> interface -> properties and methods, and the signals of change.

Implements the service's side of org.freedesktop.DBus.ObjectManager and org.freedesktop.DBus.Properties.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
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
    """One interface of one object."""

    properties: Properties = field(default_factory=dict)
    methods: Mapping[str, Method] = field(default_factory=dict)


class ObjectTree:
    """Every object of one service; `send` is given the signal of each change."""

    def __init__(self, send: Callable[[Message], object]) -> None:
        self._send = send
        self._objects: dict[str, dict[str, Interface]] = {}

    def __contains__(self, path: str) -> bool:
        return path in self._objects

    def add(self, path: str, interfaces: dict[str, Interface]) -> None:
        """Show a new object and signal InterfacesAdded."""
        self._objects[path] = interfaces
        shown = {name: interface.properties for name, interface in interfaces.items()}
        self._signal("/", OBJECT_MANAGER, "InterfacesAdded", "oa{sa{sv}}", [path, shown])

    def remove(self, path: str) -> None:
        """Take an object and all below it away, the deepest first, and signal InterfacesRemoved for each."""
        for gone in sorted((at for at in self._objects if at == path or at.startswith(f"{path}/")), reverse=True):
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

    def _signal(self, path: str, interface: str, member: str, signature: str, body: list[Any]) -> None:
        self._send(
            Message(
                message_type=MessageType.SIGNAL,
                path=path,
                interface=interface,
                member=member,
                signature=signature,
                body=body,
            )
        )
