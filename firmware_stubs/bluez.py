"""A simulated bluetoothd: org.bluez on a bus, enough of it for an unmodified bleak to scan, connect and be notified.

Names, order of signals and refusals are those of bluetoothd 5.66. One connection, one handler of all calls.
"""

import asyncio
import socket
from collections.abc import Coroutine
from contextlib import suppress
from types import TracebackType
from typing import Any, Final, Self, cast

from dbus_fast import Message, MessageType
from dbus_fast.aio import MessageBus

from firmware_stubs.adapter import Adapter
from firmware_stubs.device import Device
from firmware_stubs.objects import CallError, Method, ObjectTree, Reply
from firmware_stubs.pairing import Agents
from firmware_stubs.peripheral import Peripheral

_BUS: Final = "org.freedesktop.DBus"


class Bluez:
    """The daemon, on the bus from `async with` on. While another is there it waits, and takes over when that ends.

    Raises: OSError on entry if there is no bus at the address.
    """

    def __init__(self, bus_address: str, *, adapter: str = "hci0") -> None:
        self._bus = MessageBus(bus_address=bus_address, negotiate_unix_fd=True)
        self._tree = ObjectTree(self._send)
        self._tasks: set[asyncio.Task[None]] = set()
        self._errors: list[BaseException] = []
        self._bus_end: asyncio.Task[None] | None = None
        self._runs = asyncio.Event()
        self._runs.set()
        self._killed = False
        self.agents = Agents(self._tree, self._bus.call, self._send)
        self.adapter = Adapter(self._tree, adapter)

    def add(self, peripheral: Peripheral) -> Device:
        """Bring a device within reach; clients see it when it is next heard."""
        device = Device(self._tree, self.adapter.path, peripheral, self.agents)
        self.adapter.devices.append(device)
        return device

    def hang(self) -> None:
        """Answer and signal nothing until `resume`; what AcquireNotify's socket would have carried is lost."""
        self._runs.clear()
        self._tree.hung = True

    def resume(self) -> None:
        """Go on where `hang` stopped: what was asked and was to be signalled meanwhile is made good."""
        self._tree.hung = False
        self._runs.set()

    async def crash(self) -> None:
        """Leave the bus without a word to any client, as a killed bluetoothd does."""
        self._killed = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._bus.disconnect()
        await self.wait_for_bus_end()

    async def wait_for_bus_end(self) -> None:
        """Return when we have left the bus or it is gone."""
        if self._bus_end is not None:
            await asyncio.wait({self._bus_end})

    async def __aenter__(self) -> Self:
        await self._bus.connect()
        self._bus_end = asyncio.create_task(_end_of(self._bus))
        _tolerate_full_socket(self._bus)
        self._bus.add_message_handler(self._receive)
        rule = f"type='signal',sender='{_BUS}',interface='{_BUS}',member='NameOwnerChanged'"
        await self._bus.call(
            Message(
                destination=_BUS, path="/org/freedesktop/DBus", interface=_BUS, member="AddMatch",
                signature="s", body=[rule],
            )
        )  # fmt: skip
        self.agents.publish()
        self.adapter.publish()
        await self._bus.request_name("org.bluez")
        self._start(self.adapter.advertise())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for device in self.adapter.devices:
            device.lose_link()
        await self.crash()
        if self._errors:
            raise BaseExceptionGroup("the simulated radio is wrong", self._errors)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finish)

    def _finish(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._errors.append(error)

    def _send(self, message: Message) -> None:
        if self._bus.connected and not self._killed:
            self._bus.send(message)

    def _receive(self, message: Message) -> bool:
        """Take a message of the bus; True says that the answer comes from us."""
        if message.message_type is MessageType.SIGNAL and message.member == "NameOwnerChanged":
            name, _old_owner, new_owner = message.body
            if not new_owner:
                self.agents.client_left(name)
                self.adapter.client_left(name)
        if message.message_type is not MessageType.METHOD_CALL:
            return False
        self._start(self._answer(message))
        return True

    async def _answer(self, call: Message) -> None:
        await self._runs.wait()
        try:
            reply = await self._method(call)(call) or Reply()
        except CallError as refusal:
            await self._runs.wait()
            self._send(Message.new_error(call, refusal.name, refusal.text))
            return
        message = Message.new_method_return(call, reply.signature, list(reply.body), list(reply.unix_fds))
        await self._runs.wait()
        with suppress(OSError):  # the bus may end meanwhile
            await self._bus.send(message)
        if reply.on_sent is not None:
            reply.on_sent()

    def _method(self, call: Message) -> Method:
        return self._tree.method(str(call.path), str(call.interface), str(call.member))


class _PatientSocket:
    """A socket whose `send` says "nothing yet" where the kernel's buffer is full."""

    def __init__(self, inner: socket.socket) -> None:
        self._inner = inner

    def send(self, data: bytes) -> int:
        try:
            return self._inner.send(data)
        except BlockingIOError:
            return 0

    def sendmsg(self, buffers: list[bytes], ancillary: list[tuple[int, int, bytes]]) -> int:
        return self._inner.sendmsg(buffers, ancillary)


async def _end_of(bus: MessageBus) -> None:
    with suppress(OSError, EOFError):
        await bus.wait_for_disconnect()  # type: ignore[no-untyped-call] # dbus-fast does not type it


def _tolerate_full_socket(bus: MessageBus) -> None:
    """Keep a burst of signals from ending the connection: dbus-fast 5.2 takes EAGAIN for fatal, and 0 for "later"."""
    writer = cast("Any", bus)._writer  # noqa: SLF001 - the writer has no public seam
    writer.sock = _PatientSocket(writer.sock)
