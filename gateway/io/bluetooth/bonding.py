"""Bonding: an agent of our own that lives while one device is onboarded, and answers for that device alone.

BlueZ asks the agent of the connection that called Pair (org.bluez.AgentManager); ours is never the default agent, so
nothing else is asked of it, and what is asked of another device is rejected all the same. Whoever ends the window
early, by a time limit or by cancellation, leaves neither agent nor half-made bond. An existing bond is never removed.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from enum import StrEnum
from typing import Any, Final

from bleak import BleakScanner
from dbus_fast import Message, MessageType
from dbus_fast.aio import MessageBus

from gateway.errors import Unavailable, VerificationError
from gateway.io.bluetooth.agent import Agent, Person
from gateway.io.bluetooth.bluez import (
    ADAPTER,
    BLUEZ,
    CALL_LIMIT_S,
    Objects,
    choose_adapter,
    is_bonded,
    limit,
    managed_objects,
    system_bus,
)
from gateway.io.bluetooth.refusals import ERROR, Course, downgrade_error, pairing_error

_DEVICE: Final = "org.bluez.Device1"
_MANAGER: Final = "org.bluez.AgentManager1"
_MANAGER_PATH: Final = "/org/bluez"
_AGENT_PATH: Final = "/iomt/agent"
# All that a person at a terminal can do: compare, type and read.
_CAPABILITY: Final = "KeyboardDisplay"
_PROVED: Final = frozenset({Course.COMPARED, Course.TYPED_HERE, Course.TYPED_THERE})


class Bond(StrEnum):
    """What is known of a bond.

    `NONE`: there is none. `EXISTING` was there before: BlueZ does not tell how it was made, so it may not be counted
    as authenticated. `UNAUTHENTICATED` was made as "just works", which anyone in between can do; `AUTHENTICATED` with
    a number that a person compared or typed.
    """

    NONE = "none"
    EXISTING = "existing"
    UNAUTHENTICATED = "unauthenticated"
    AUTHENTICATED = "authenticated"


async def bond(
    address: str, person: Person, *, adapter: str | None, limit_s: float, require_authenticated: bool = False
) -> Bond:
    """Bond with a device within the time, the person's answers included, and say what kind of bond it is.

    Raises: Unavailable if it is not heard, does not answer or refuses, or BlueZ does. VerificationError if a number
    was wrong or found different; with `require_authenticated` also if there was none, or if a bond existed before.
    """
    address = address.upper()
    deadline_s = asyncio.get_running_loop().time() + limit_s
    async with system_bus() as bus:
        async with limit("asking BlueZ", CALL_LIMIT_S):
            objects = await managed_objects(bus)
        adapter = choose_adapter(objects, adapter)
        target = _Target(bus, adapter, address, person, require_authenticated=require_authenticated)
        if target.is_bonded(objects):
            return target.existing()
        if target.path not in objects:
            await _hear(address, adapter, limit_s)
        async with target.answering():
            return await target.pair(deadline_s, limit_s)


async def bond_state(address: str, adapter: str | None) -> bool:
    """Say whether BlueZ keeps a bond with a device, on the adapter or on any; False of a device that is not known.

    Raises: Unavailable if there is no BlueZ.
    """
    async with limit("asking BlueZ", CALL_LIMIT_S), system_bus() as bus:
        objects = await managed_objects(bus)
    within = f"/org/bluez/{adapter}/" if adapter else "/"
    return is_bonded({path: objects[path] for path in objects if path.startswith(within)}, address)


async def _hear(address: str, adapter: str, limit_s: float) -> None:
    async with limit(f"scanning with {adapter}", limit_s + CALL_LIMIT_S):
        heard = await BleakScanner.find_device_by_address(address, limit_s, bluez={"adapter": adapter})
    if heard is None:
        raise Unavailable(f"{address} was not heard in {limit_s:g} s: switch it on, near, and into pairing mode")


class _Target:
    """The device that is bonded, on one bus connection."""

    def __init__(
        self, bus: MessageBus, adapter: str, address: str, person: Person, *, require_authenticated: bool
    ) -> None:
        self._bus = bus
        self._adapter_path = f"/org/bluez/{adapter}"
        self._address = address
        self._required = require_authenticated
        self.path = f"{self._adapter_path}/dev_{address.replace(':', '_')}"
        self._agent = Agent(self.path, person, require_authenticated=require_authenticated)

    def is_bonded(self, objects: Objects) -> bool:
        """Say whether BlueZ keeps a bond with it on this adapter."""
        bonded: bool = objects.get(self.path, {}).get(_DEVICE, {}).get("Bonded", False)
        return bonded

    def existing(self) -> Bond:
        """Give what a bond that exists counts as.

        Raises: VerificationError if it would have to be an authenticated one.
        """
        if self._required:
            raise VerificationError(
                f"{self._address} is bonded already, and BlueZ does not tell whether with a passkey:"
                f" `bluetoothctl remove {self._address}`, then try again"
            )
        return Bond.EXISTING

    @asynccontextmanager
    async def answering(self) -> AsyncIterator[None]:
        """Have our agent registered."""
        self._bus.export(_AGENT_PATH, self._agent)
        try:
            reply = await self._call(_MANAGER_PATH, _MANAGER, "RegisterAgent", "os", _AGENT_PATH, _CAPABILITY)
            self._require(reply)
            yield
        finally:
            await self._agent.close()
            with suppress(Unavailable):
                await self._call(_MANAGER_PATH, _MANAGER, "UnregisterAgent", "o", _AGENT_PATH)
            self._bus.unexport(_AGENT_PATH, self._agent)

    async def pair(self, deadline_s: float, limit_s: float) -> Bond:
        """Have BlueZ pair; the agent tells how it went."""
        try:
            async with asyncio.timeout_at(deadline_s):
                reply = await self._call(self.path, _DEVICE, "Pair", limit_s=None)
        except TimeoutError:
            await self._undo()
            raise Unavailable(
                f"{self._address} was not bonded in {limit_s:g} s: put it near, into pairing mode, and answer in time"
            ) from None
        except asyncio.CancelledError:
            await self._undo()
            raise
        if self._agent.failure is not None:
            await self._undo()
            raise self._agent.failure
        if reply.error_name == f"{ERROR}AlreadyExists":
            return self.existing()
        if reply.error_name != f"{ERROR}InProgress" and reply.message_type is MessageType.ERROR:
            await self._undo()
        self._require(reply)
        if self._agent.course in _PROVED:
            return Bond.AUTHENTICATED
        if self._required:
            raise downgrade_error(self._address, removed=await self._undo())
        return Bond.UNAUTHENTICATED

    async def _undo(self) -> bool:
        """Call off what we began: the attempt, its link, its bond if that came about; say if no bond is left."""
        with suppress(Unavailable):
            async with limit("asking BlueZ", CALL_LIMIT_S):
                await self._call(self.path, _DEVICE, "CancelPairing")
                await self._call(self.path, _DEVICE, "Disconnect")
                if not self.is_bonded(await managed_objects(self._bus)):
                    return True
                reply = await self._call(self._adapter_path, ADAPTER, "RemoveDevice", "o", self.path)
                return reply.message_type is MessageType.METHOD_RETURN
        return False

    async def _call(
        self,
        path: str,
        interface: str,
        member: str,
        signature: str = "",
        *body: Any,  # noqa: ANN401 - D-Bus values
        limit_s: float | None = CALL_LIMIT_S,
    ) -> Message:
        """Call BlueZ and give its answer, which may be an error.

        Raises: Unavailable if there is none in time.
        """
        call = Message(
            destination=BLUEZ, path=path, interface=interface, member=member, signature=signature, body=list(body)
        )
        reply: Message | None = None
        if self._bus.connected:  # else dbus-fast would wait for ever
            try:
                async with limit(f"asking BlueZ for {member}", limit_s):
                    reply = await self._bus.call(call)
            except Unavailable:
                if self._bus.connected:
                    raise
        if reply is None:
            raise Unavailable("the system D-Bus has gone")
        return reply

    def _require(self, reply: Message) -> None:
        if reply.message_type is MessageType.ERROR:
            text = str(reply.body[0]) if reply.body else ""
            raise pairing_error(self._address, reply.error_name or "", text, self._agent.course)
