"""Pairing as bluetoothd does it: the agents that clients register, and which of them is asked what.

AgentManager1 and Agent1 as in BlueZ's org.bluez.AgentManager and org.bluez.Agent. A client's Pair is answered for by
the client's own agent, else by the default one; what bluetoothd begins by itself, by the default one alone. A Pair
that turns out as "just works" asks nobody, since the call says that it is wanted.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from dbus_fast import Message, MessageFlag, MessageType

from firmware_stubs.objects import CallError, Interface, ObjectTree, bluez_error
from firmware_stubs.peripheral import Pairing

AGENT: Final = "org.bluez.Agent1"
AGENT_MANAGER: Final = "org.bluez.AgentManager1"

_CAPABILITIES: Final = {"", "DisplayOnly", "DisplayYesNo", "KeyboardOnly", "NoInputNoOutput", "KeyboardDisplay"}
_DIGITS: Final = 6
# What an agent's refusal comes out as at the end of Pair; any other error of an agent is a failure.
_REFUSALS: Final = {
    "org.bluez.Error.Rejected": ("AuthenticationRejected", "Authentication Rejected"),
    "org.bluez.Error.Canceled": ("AuthenticationCanceled", "Authentication Canceled"),
}

Call = Callable[[Message], Awaitable[Message | None]]
Tell = Callable[[Message], object]


def failed() -> CallError:
    """Return what Pair says of a wrong passkey, of a device that refuses, and where there is no agent."""
    return bluez_error("AuthenticationFailed", "Authentication Failed")


def refused(error_name: str | None) -> CallError:
    """Return what Pair says when an agent answered with an error."""
    return bluez_error(*_REFUSALS[error_name]) if error_name in _REFUSALS else failed()


@dataclass(frozen=True, slots=True, kw_only=True)
class Agent:
    """What a client has registered: the object that answers for it, and what the client's person can do."""

    owner: str
    path: str
    capability: str
    call: Call
    send: Tell

    async def ask(self, member: str, signature: str, *body: Any) -> list[Any]:  # noqa: ANN401 - D-Bus values
        """Ask the agent and return its answer.

        Raises: CallError if it refuses or has gone.
        """
        try:
            reply = await self.call(self._message(member, signature, body))
        except (OSError, EOFError):  # the bus has ended
            raise failed() from None
        if reply is None or reply.message_type is not MessageType.METHOD_RETURN:
            raise refused(reply.error_name if reply else None)
        answer: list[Any] = reply.body
        return answer

    def tell(self, member: str, signature: str = "", *body: Any) -> None:  # noqa: ANN401 - D-Bus values
        """Tell the agent something that it does not answer."""
        message = self._message(member, signature, body)
        message.flags = MessageFlag.NO_REPLY_EXPECTED
        self.send(message)

    def _message(self, member: str, signature: str, body: tuple[Any, ...]) -> Message:
        return Message(
            destination=self.owner,
            path=self.path,
            interface=AGENT,
            member=member,
            signature=signature,
            body=list(body),
        )


class Agents:
    """AgentManager1: the agents there are, one a client; `call` and `send` reach the bus."""

    def __init__(self, tree: ObjectTree, call: Call, send: Tell) -> None:
        self._tree = tree
        self._call = call
        self._send = send
        self.registered: dict[str, Agent] = {}
        self._default: list[str] = []

    def publish(self) -> None:
        """Show the manager on the bus."""
        methods = {
            "RegisterAgent": self._register,
            "UnregisterAgent": self._unregister,
            "RequestDefaultAgent": self._request_default,
        }
        self._tree.add("/org/bluez", {AGENT_MANAGER: Interface(methods=methods)})

    def of(self, client: str | None) -> Agent | None:
        """Return who answers for a client, None for bluetoothd itself: an agent of its own, else the default one."""
        if client in self.registered:
            return self.registered[client]
        return self.registered[self._default[-1]] if self._default else None

    def client_left(self, client: str) -> None:
        """Forget the agent of a client that left the bus."""
        self.registered.pop(client, None)
        if client in self._default:
            self._default.remove(client)

    async def _register(self, call: Message) -> None:
        path, capability = call.body
        owner = str(call.sender)
        if owner in self.registered:
            raise bluez_error("AlreadyExists", "Already Exists")
        if capability not in _CAPABILITIES:
            raise bluez_error("InvalidArguments", "Invalid arguments in method call")
        self.registered[owner] = Agent(owner=owner, path=path, capability=capability, call=self._call, send=self._send)

    async def _unregister(self, call: Message) -> None:
        self.client_left(self._own(call).owner)

    async def _request_default(self, call: Message) -> None:
        owner = self._own(call).owner
        if owner in self._default:
            self._default.remove(owner)
        self._default.append(owner)

    def _own(self, call: Message) -> Agent:
        agent = self.registered.get(str(call.sender))
        if agent is None or agent.path != call.body[0]:
            raise bluez_error("DoesNotExist", "Does Not Exist")
        return agent


class Bond:
    """The key of a bond, at BlueZ's end and at the device's, and the pairing that makes one."""

    def __init__(self, agents: Agents, path: str) -> None:
        self._agents = agents
        self._path = path
        self._our_key: object | None = None
        self._its_key: object | None = None
        self._pairing: asyncio.Future[None] | None = None
        self._client: str | None = None
        self._typed: asyncio.Queue[int] = asyncio.Queue()

    @property
    def kept(self) -> bool:
        """Whether BlueZ keeps a key."""
        return self._our_key is not None

    @property
    def holds(self) -> bool:
        """Whether the device keeps the same."""
        return self.kept and self._our_key is self._its_key

    def lose(self, *, ours: bool) -> None:
        """Drop the key at one end."""
        if ours:
            self._our_key = None
        else:
            self._its_key = None

    def type_in(self, passkey: int) -> None:
        """Be the device's user, who types a number."""
        self._typed.put_nowait(passkey)

    @property
    def under_way(self) -> bool:
        """Whether it is being made."""
        return self._pairing is not None

    async def settle(self) -> None:
        """Wait for the end of a pairing that is under way."""
        if self._pairing is not None:
            await asyncio.wait({self._pairing})

    def call_off(self, client: str | None = None) -> None:
        """End a pairing that is under way; with a client, only if it began it."""
        if self._pairing is not None and client in {None, self._client}:
            self._pairing.cancel()

    async def make(self, client: str | None, pairing: Pairing, passkey: int) -> None:
        """Pair, for a client that called Pair or of bluetoothd's own accord; `passkey` is the number that is shown.

        Raises: CallError if the two do not agree.
        """
        agent = self._agents.of(client)
        if agent is None or pairing == "none":
            raise failed()
        if agent.capability == "NoInputNoOutput":
            pairing = "just-works"
        self._typed = asyncio.Queue()
        self._client = client
        agreement = self._pairing = asyncio.ensure_future(self._agree(agent, pairing, passkey))
        try:
            await asyncio.wait({agreement})
        finally:
            agreement.cancel()
            self._pairing = self._client = None
        if agreement.cancelled():
            agent.tell("Cancel")
            raise bluez_error("AuthenticationCanceled", "Authentication Canceled")
        agreement.result()
        self._our_key = self._its_key = object()

    async def _agree(self, agent: Agent, pairing: Pairing, passkey: int) -> None:
        match pairing:
            case "just-works":
                if self._client is None:
                    await agent.ask("RequestAuthorization", "o", self._path)
            case "numeric":
                await agent.ask("RequestConfirmation", "ou", self._path, passkey)
            case "passkey-display":
                (typed,) = await agent.ask("RequestPasskey", "o", self._path)
                if typed != passkey:
                    raise failed()
            case "passkey-entry":
                agent.tell("DisplayPasskey", "ouq", self._path, passkey, 0)
                typed = await self._typed.get()
                agent.tell("DisplayPasskey", "ouq", self._path, passkey, _DIGITS)
                if typed != passkey:
                    raise failed()
