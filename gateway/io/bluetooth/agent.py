"""Our agent: org.bluez.Agent1, through which BlueZ has a person compare, read or type the number of a pairing.

It answers for one device: what is asked of another is rejected. BlueZ runs as root, and the system's D-Bus lets root
alone call an agent.
"""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Protocol, TypeVar, cast

from dbus_fast import DBusError
from dbus_fast.annotations import DBusObjectPath, DBusStr, DBusUInt16, DBusUInt32
from dbus_fast.service import ServiceInterface, dbus_method

from gateway.io.bluetooth.refusals import ERROR, Course, parse_passkey

_Answer = TypeVar("_Answer")


class Person(Protocol):
    """Who has the device in hand. What a method raises ends the pairing and comes out of `bond`."""

    async def confirm(self, passkey: str) -> bool:
        """Say whether the device shows these six digits too."""

    async def show(self, passkey: str) -> None:
        """Show the six digits that are to be typed into the device."""

    async def ask(self) -> str:
        """Give the six digits that the device shows."""


class Agent(ServiceInterface):
    """org.bluez.Agent1 for one device: what BlueZ asks goes to the person, and `course` tells what came of it."""

    def __init__(self, device_path: str, person: Person, *, require_authenticated: bool) -> None:
        super().__init__("org.bluez.Agent1")
        self._device = device_path
        self._person = person
        self._required = require_authenticated
        self._asking: set[asyncio.Task[Any]] = set()
        self._shown = ""
        self.course = Course.UNASKED
        self.failure: Exception | None = None

    async def close(self) -> None:
        """Call off every question that is open and wait until it was."""
        asking = set(self._asking)
        for task in asking:
            task.cancel()
        if asking:
            await asyncio.wait(asking)

    @dbus_method(name="RequestConfirmation")
    async def request_confirmation(self, device: DBusObjectPath, passkey: DBusUInt32) -> None:
        """Compare a number: the device shows one too."""
        equal = await self._ask(device, partial(self._person.confirm, f"{passkey:06d}"))
        self.course = Course.COMPARED if equal else Course.REFUSED
        if not equal:
            raise _rejected()

    @dbus_method(name="RequestPasskey")
    async def request_passkey(self, device: DBusObjectPath) -> DBusUInt32:
        """Take what the device shows."""
        passkey: int = await self._ask(device, self._typed)
        self.course = Course.TYPED_HERE
        return passkey

    @dbus_method(name="DisplayPasskey")
    async def display_passkey(self, device: DBusObjectPath, passkey: DBusUInt32, _entered: DBusUInt16) -> None:
        """Show what is to be typed into the device; BlueZ calls again with each digit that was."""
        shown = f"{passkey:06d}"
        if device != self._device or shown == self._shown:
            return  # BlueZ takes no answer to this one
        self._shown = shown
        self.course = Course.TYPED_THERE
        await self._ask(device, partial(self._person.show, shown))

    @dbus_method(name="RequestAuthorization")
    async def request_authorization(self, device: DBusObjectPath) -> None:
        """Allow "just works", where a number is not required."""
        if device != self._device:
            raise _rejected()
        self.course = Course.DOWNGRADED if self._required else Course.UNASKED
        if self._required:
            raise _rejected()

    @dbus_method(name="RequestPinCode")
    async def request_pin_code(self, _device: DBusObjectPath) -> DBusStr:
        """Refuse: codes like that are Bluetooth Classic's."""
        raise _rejected()

    @dbus_method(name="DisplayPinCode")
    async def display_pin_code(self, _device: DBusObjectPath, _code: DBusStr) -> None:
        """Refuse, as above."""
        raise _rejected()

    @dbus_method(name="AuthorizeService")
    async def authorize_service(self, _device: DBusObjectPath, _uuid: DBusStr) -> None:
        """Refuse: nobody is to connect to us."""
        raise _rejected()

    @dbus_method(name="Cancel")
    async def cancel(self) -> None:
        """Call off the question that is open."""
        await self.close()

    @dbus_method(name="Release")
    async def release(self) -> None:
        """Hear that BlueZ has dropped us; the answer to Pair tells the rest."""

    async def _typed(self) -> int:
        return parse_passkey(await self._person.ask())

    async def _ask(self, device: str, question: Callable[[], Awaitable[_Answer]]) -> _Answer:
        """Put a question to the person, unless another device asks."""
        if device != self._device:
            raise _rejected()
        task = cast("asyncio.Task[Any]", asyncio.current_task())
        self._asking.add(task)
        try:
            return await question()
        except asyncio.CancelledError:  # by `close` alone
            raise DBusError(f"{ERROR}Canceled", "called off") from None
        except Exception as error:  # noqa: BLE001 - the caller of `bond` gets it
            self.failure = error
            raise DBusError(f"{ERROR}Canceled", "no answer") from None
        finally:
            self._asking.discard(task)


def _rejected() -> DBusError:
    return DBusError(f"{ERROR}Rejected", "this agent answers for one device that is being onboarded")
