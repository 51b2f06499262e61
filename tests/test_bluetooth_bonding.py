import asyncio
import dataclasses
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from dbus_fast import Message, MessageType
from dbus_fast.aio import MessageBus
from hypothesis import given
from hypothesis import strategies as st

from firmware_stubs.bluez import Bluez
from firmware_stubs.bus import PrivateBus
from firmware_stubs.device import Device
from firmware_stubs.peripheral import Pairing
from firmware_stubs.sensors import heart_rate_monitor
from gateway.errors import ConfigError, IomtError, Unavailable, VerificationError
from gateway.io.bluetooth.agent import Agent
from gateway.io.bluetooth.bonding import Bond, bond, bond_state
from gateway.io.bluetooth.refusals import (
    ERROR,
    Course,
    downgrade_error,
    explain_refusal,
    pairing_error,
    parse_passkey,
)
from tests.radios import bluez, bus

__all__ = ["bluez", "bus"]  # fixtures

ADDRESS = "C0:FF:EE:00:00:01"
PATH = "/org/bluez/hci0/dev_C0_FF_EE_00_00_01"
FOREIGN_PATH = "/org/bluez/hci0/dev_C0_FF_EE_00_00_02"
LIMIT_S = 20.0


class Nurse:
    """A person with the device in hand: what they see, and what they do then."""

    def __init__(
        self, *, equal: bool = True, reads: str = "001234", types: Callable[[str], None] | None = None
    ) -> None:
        self.equal = equal
        self.reads = reads
        self.types = types
        self.seen: asyncio.Queue[str] = asyncio.Queue()
        self.gate = asyncio.Event()
        self.gate.set()

    async def confirm(self, passkey: str) -> bool:
        """Compare."""
        self.seen.put_nowait(passkey)
        await self.gate.wait()
        return self.equal

    async def show(self, passkey: str) -> None:
        """Type into the device."""
        self.seen.put_nowait(passkey)
        if self.types is not None:
            self.types(passkey)

    async def ask(self) -> str:
        """Read what the device shows."""
        self.seen.put_nowait("")
        return self.reads


class Fumbler(Nurse):
    """A person whose terminal is closed."""

    async def ask(self) -> str:
        """Fail."""
        raise EOFError("no terminal")


def add(bluez: Bluez, pairing: Pairing) -> Device:
    """Bring a device within reach that pairs in that way, with the number 001234."""
    return bluez.add(dataclasses.replace(heart_rate_monitor(ADDRESS), pairing=pairing, passkey=1234))


async def make(person: Nurse, *, required: bool = True, limit_s: float = LIMIT_S) -> Bond:
    return await bond(ADDRESS.lower(), person, adapter=None, limit_s=limit_s, require_authenticated=required)


@asynccontextmanager
async def waiting(
    person: Nurse, *, required: bool = False, limit_s: float = LIMIT_S
) -> AsyncIterator[asyncio.Task[Bond]]:
    """Bond with a person who thinks: the block begins when they were asked, and they answer after it."""
    person.gate.clear()
    task = asyncio.create_task(make(person, required=required, limit_s=limit_s))
    async with asyncio.timeout(LIMIT_S):
        await person.seen.get()
    yield task
    person.gate.set()
    await asyncio.wait({task})


def assert_nothing_is_left(bluez: Bluez, device: Device) -> None:
    assert bluez.agents.registered == {}
    assert not device.bonded
    assert not device.connected


async def test_numbers_that_are_equal(bluez: Bluez) -> None:
    """Where the person finds the same six digits on both, the bond is authenticated and the agent has gone."""
    device = add(bluez, "numeric")
    person = Nurse()
    assert await make(person) is Bond.AUTHENTICATED
    assert person.seen.get_nowait() == "001234"
    assert device.bonded
    assert bluez.agents.registered == {}


async def test_number_that_the_device_shows(bluez: Bluez) -> None:
    """Where the person types here what the device shows, the bond is authenticated."""
    device = add(bluez, "passkey-display")
    assert await make(Nurse(reads="001 234")) is Bond.AUTHENTICATED
    assert device.bonded


async def test_number_that_is_typed_into_the_device(bluez: Bluez) -> None:
    """Where the person types into the device what is shown here, once, the bond is authenticated."""
    device = add(bluez, "passkey-entry")
    person = Nurse(types=device.type_in)
    assert await make(person) is Bond.AUTHENTICATED
    assert person.seen.get_nowait() == "001234"
    assert person.seen.empty()


async def test_just_works(bluez: Bluez) -> None:
    """A device without a number is bonded where none is required, and called unauthenticated."""
    device = add(bluez, "just-works")
    person = Nurse()
    assert await make(person, required=False) is Bond.UNAUTHENTICATED
    assert device.bonded
    assert person.seen.empty()


async def test_bond_state(bluez: Bluez) -> None:
    """A bond is seen on its adapter and on any; a device that is not known has none."""
    add(bluez, "just-works")
    assert not await bond_state(ADDRESS, None)
    await make(Nurse(), required=False)
    assert await bond_state(ADDRESS.lower(), None)
    assert await bond_state(ADDRESS, "hci0")
    assert not await bond_state(ADDRESS, "hci1")


async def test_existing_bond(bluez: Bluez) -> None:
    """A bond that exists is kept and called existing; where an authenticated one is required, it does not do."""
    device = add(bluez, "numeric")
    await make(Nurse())
    assert await make(Nurse(), required=False) is Bond.EXISTING
    with pytest.raises(VerificationError, match=r"is bonded already, .*`bluetoothctl remove C0:FF:EE:00:00:01`"):
        await make(Nurse())
    assert device.bonded


async def test_wrong_passkey(bluez: Bluez) -> None:
    """A wrong passkey typed here is named as that."""
    device = add(bluez, "passkey-display")
    with pytest.raises(VerificationError, match=r"^the passkey of C0:FF:EE:00:00:01 was wrong: "):
        await make(Nurse(reads="001235"))
    assert_nothing_is_left(bluez, device)


async def test_wrong_passkey_in_the_device(bluez: Bluez) -> None:
    """A wrong passkey typed into the device is named as that."""
    device = add(bluez, "passkey-entry")
    with pytest.raises(VerificationError, match=r"^the passkey was not typed right into C0:FF:EE:00:00:01: "):
        await make(Nurse(types=lambda _: device.type_in("999999")))
    assert_nothing_is_left(bluez, device)


async def test_no_passkey(bluez: Bluez) -> None:
    """What is no six digits is refused with what is allowed."""
    device = add(bluez, "passkey-display")
    with pytest.raises(ConfigError, match="'12x' is no passkey: allowed are the six digits"):
        await make(Nurse(reads="12x"))
    assert_nothing_is_left(bluez, device)


async def test_person_fails(bluez: Bluez) -> None:
    """What the person's side raises comes out as it was."""
    device = add(bluez, "passkey-display")
    with pytest.raises(EOFError, match="no terminal"):
        await make(Fumbler())
    assert_nothing_is_left(bluez, device)


async def test_numbers_that_differ(bluez: Bluez) -> None:
    """Where the person says that the numbers differ, nothing is bonded and the reason says so."""
    device = add(bluez, "numeric")
    with pytest.raises(VerificationError, match=r"^C0:FF:EE:00:00:01 was not bonded: the numbers differ"):
        await make(Nurse(equal=False))
    assert_nothing_is_left(bluez, device)


async def test_device_that_refuses(bluez: Bluez) -> None:
    """A device that does not pair is named with what to do."""
    device = add(bluez, "none")
    with pytest.raises(Unavailable, match=r"^C0:FF:EE:00:00:01 refuses pairing: put it into pairing mode"):
        await make(Nurse())
    assert_nothing_is_left(bluez, device)


async def test_device_that_is_not_there(bluez: Bluez) -> None:
    """A device that is not heard within the limit is named with what to do."""
    with pytest.raises(Unavailable, match=r"^C0:FF:EE:00:00:01 was not heard in 0.2 s: switch it on"):
        await make(Nurse(), limit_s=0.2)
    assert bluez.agents.registered == {}


async def test_device_that_does_not_connect(bluez: Bluez) -> None:
    """A device that is heard and cannot be connected ends with the limit, and the attempt is called off."""
    device = add(bluez, "numeric")
    device.faults.connect_stalls = True
    with pytest.raises(Unavailable, match=r"was not bonded in 1 s"):
        await make(Nurse(), limit_s=1.0)
    assert_nothing_is_left(bluez, device)
    device.faults.connect_stalls = False
    assert await make(Nurse()) is Bond.AUTHENTICATED


async def test_person_who_does_not_answer(bluez: Bluez) -> None:
    """A person who does not answer ends with the limit."""
    device = add(bluez, "numeric")
    async with waiting(Nurse(), limit_s=1.0) as bonding:
        with pytest.raises(Unavailable, match=r"answer in time$"):
            await bonding
        assert_nothing_is_left(bluez, device)


async def test_cancelled_bonding(bluez: Bluez) -> None:
    """A bonding that is cancelled while the person thinks leaves neither agent nor bond nor link."""
    device = add(bluez, "numeric")
    async with waiting(Nurse()) as bonding:
        assert len(bluez.agents.registered) == 1
        bonding.cancel()
        with pytest.raises(asyncio.CancelledError):
            await bonding
        assert_nothing_is_left(bluez, device)


async def test_link_lost_while_pairing(bluez: Bluez) -> None:
    """A link that is lost while the person thinks ends the question, and is named."""
    device = add(bluez, "numeric")
    async with waiting(Nurse()) as bonding:
        device.lose_link()
        with pytest.raises(Unavailable, match="the link to C0:FF:EE:00:00:01 ended while it was paired"):
            await bonding
        assert_nothing_is_left(bluez, device)


async def test_two_at_once(bluez: Bluez) -> None:
    """A second bonding of the same device is refused, and does not disturb the first."""
    device = add(bluez, "numeric")
    person = Nurse()
    async with waiting(person) as bonding:
        with pytest.raises(Unavailable, match="another program is pairing or connecting C0:FF:EE:00:00:01 now"):
            await make(Nurse())
        person.gate.set()
        assert await bonding is Bond.AUTHENTICATED
    assert device.bonded


async def ask_agent(bluez: Bluez, bus: PrivateBus, member: str, signature: str, *body: Any) -> str:  # noqa: ANN401
    """Ask the one agent that is registered, as BlueZ would, and give the name of its refusal, "" for none."""
    (agent,) = bluez.agents.registered.values()
    asker = await MessageBus(bus_address=bus.address).connect()
    async with asyncio.timeout(LIMIT_S):
        reply = await asker.call(
            Message(
                destination=agent.owner, path=agent.path, interface="org.bluez.Agent1", member=member,
                signature=signature, body=list(body),
            )
        )  # fmt: skip
    asker.disconnect()
    return (reply.error_name or "") if reply.message_type is MessageType.ERROR else ""


@pytest.mark.parametrize(
    ("member", "signature", "body"),
    [
        ("RequestConfirmation", "ou", (FOREIGN_PATH, 1)),
        ("RequestPasskey", "o", (FOREIGN_PATH,)),
        ("RequestAuthorization", "o", (FOREIGN_PATH,)),
        ("AuthorizeService", "os", (PATH, "0000180d-0000-1000-8000-00805f9b34fb")),
        ("RequestPinCode", "o", (PATH,)),
        ("DisplayPinCode", "os", (PATH, "1234")),
    ],
)
async def test_agent_rejects(bluez: Bluez, bus: PrivateBus, member: str, signature: str, body: tuple[Any, ...]) -> None:
    """While the window is open the agent rejects what is asked of another device, or is no Low Energy pairing."""
    add(bluez, "numeric")
    person = Nurse()
    async with waiting(person) as bonding:
        assert await ask_agent(bluez, bus, member, signature, *body) == "org.bluez.Error.Rejected"
        assert person.seen.empty()
        person.gate.set()
        assert await bonding is Bond.AUTHENTICATED


async def test_agent_shows_nothing_of_another_device(bluez: Bluez, bus: PrivateBus) -> None:
    """A number that another device wants to have shown is not shown."""
    add(bluez, "numeric")
    person = Nurse()
    async with waiting(person) as bonding:
        assert await ask_agent(bluez, bus, "DisplayPasskey", "ouq", FOREIGN_PATH, 1, 0) == ""
        person.gate.set()
        assert await bonding is Bond.AUTHENTICATED
    assert person.seen.empty()


async def test_agent_hears_its_release(bluez: Bluez, bus: PrivateBus) -> None:
    """Release is taken, and Cancel calls the question off."""
    device = add(bluez, "numeric")
    async with waiting(Nurse()) as bonding:
        assert await ask_agent(bluez, bus, "Release", "") == ""
        assert await ask_agent(bluez, bus, "Cancel", "") == ""
        with pytest.raises(Unavailable, match="ended while it was paired"):
            await bonding
        assert_nothing_is_left(bluez, device)


async def test_fault_27_pairing_downgrade(bluez: Bluez) -> None:
    """A device that offers "just works" where its kind has a number is refused, and its bond removed again."""
    device = add(bluez, "numeric")
    device.faults.downgraded = True
    person = Nurse()
    with pytest.raises(
        VerificationError, match=r"offered no passkey.* a pairing downgrade.*; its bond was removed again$"
    ):
        await make(person)
    assert person.seen.empty()
    assert_nothing_is_left(bluez, device)
    assert not await bond_state(ADDRESS, None)


async def test_fault_27_downgrade_that_asks(bluez: Bluez, bus: PrivateBus) -> None:
    """A BlueZ that asks whether "just works" will do is told no where a number is required, yes where not."""
    add(bluez, "numeric")
    for required, answer in ((True, "org.bluez.Error.Rejected"), (False, "")):
        person = Nurse()
        async with waiting(person, required=required) as bonding:
            assert await ask_agent(bluez, bus, "RequestAuthorization", "o", PATH) == answer
            bonding.cancel()


async def test_downgrade_after_a_number_counts(bluez: Bluez, bus: PrivateBus) -> None:
    """An agent that was asked to allow "just works" after a number takes the last for what counts."""
    assert bluez.adapter.path
    agent = Agent(PATH, Nurse(), require_authenticated=False)
    owner = await MessageBus(bus_address=bus.address).connect()
    owner.export("/iomt/agent", agent)
    asker = await MessageBus(bus_address=bus.address).connect()
    courses = []
    for member, signature, body in (("RequestConfirmation", "ou", [PATH, 1]), ("RequestAuthorization", "o", [PATH])):
        call = Message(
            destination=owner.unique_name, path="/iomt/agent", interface="org.bluez.Agent1", member=member,
            signature=signature, body=body,
        )  # fmt: skip
        await asker.call(call)
        courses.append(agent.course)
    assert courses == [Course.COMPARED, Course.UNASKED]
    owner.disconnect()
    asker.disconnect()


async def test_without_bluez(bus: PrivateBus) -> None:
    """Without BlueZ the bonding says what to install."""
    assert bus.address
    with pytest.raises(Unavailable, match="BlueZ does not run"):
        await make(Nurse())
    with pytest.raises(Unavailable, match="BlueZ does not run"):
        await bond_state(ADDRESS, None)


async def test_killed_bluetoothd(bus: PrivateBus) -> None:
    """When bluetoothd dies while the person thinks, the bonding ends with one line."""
    async with Bluez(bus.address) as bluez:
        add(bluez, "numeric")
        async with waiting(Nurse()) as bonding:
            await bluez.crash()
            with pytest.raises(Unavailable, match="bluetoothd ended while C0:FF:EE:00:00:01 was paired"):
                await bonding


async def test_killed_bus(bus: PrivateBus) -> None:
    """When the bus dies while the person thinks, the bonding ends with one line."""
    async with Bluez(bus.address) as bluez:
        add(bluez, "numeric")
        async with waiting(Nurse()) as bonding:
            bus.stop()
            with pytest.raises(Unavailable, match=r"^the system D-Bus has gone$"):
                await bonding


@given(number=st.integers(0, 999_999), at=st.integers(0, 6))
def test_passkey_is_read(number: int, at: int) -> None:
    """Six digits are read with or without a space in them."""
    text = f"{number:06d}"
    assert parse_passkey(text[:at] + " " + text[at:]) == number


@pytest.mark.parametrize("text", ["", "1234567", "12a456", "-12345", "١٢٣٤٥٦", "²"])
def test_what_is_no_passkey(text: str) -> None:
    """Anything but up to six digits is refused."""
    with pytest.raises(ConfigError, match="is no passkey"):
        parse_passkey(text)


@pytest.mark.parametrize(
    ("kind", "course", "error", "line"),
    [
        ("AuthenticationFailed", Course.TYPED_HERE, VerificationError, "the passkey of D was wrong"),
        ("AuthenticationFailed", Course.COMPARED, VerificationError, "D did not confirm the number"),
        ("AuthenticationFailed", Course.REFUSED, VerificationError, "the numbers differ"),
        ("AuthenticationRejected", Course.REFUSED, VerificationError, "the numbers differ"),
        ("AuthenticationFailed", Course.DOWNGRADED, VerificationError, "a pairing downgrade, .*; it was not bonded"),
        ("AuthenticationFailed", Course.UNASKED, Unavailable, "D refuses pairing"),
        ("AuthenticationCanceled", Course.COMPARED, Unavailable, "the link to D ended"),
        ("AuthenticationTimeout", Course.UNASKED, Unavailable, "the link to D ended"),
        ("ConnectionAttemptFailed", Course.UNASKED, Unavailable, r"D was not connected \(text\)"),
    ],
)
def test_pairing_error(kind: str, course: Course, error: type[IomtError], line: str) -> None:
    """What our agent went through decides what a refusal of BlueZ means."""
    refusal = pairing_error("D", f"{ERROR}{kind}", "text", course)
    assert type(refusal) is error
    with pytest.raises(error, match=line):
        raise refusal


def test_forbidden_agent() -> None:
    """A D-Bus policy that keeps this user from pairing is named with what to do."""
    refusal = pairing_error("D", "org.freedesktop.DBus.Error.AccessDenied", "text", Course.UNASKED)
    assert str(refusal) == "BlueZ lets this user pair no device (D-Bus policy): add it to the group bluetooth"


def test_bond_that_stays_is_named() -> None:
    """A downgraded bond that could not be removed is named with the command that does it."""
    assert str(downgrade_error("D", removed=False)).endswith("; remove its bond: `bluetoothctl remove D`")


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        (f"{ERROR}Failed", "le-connection-key-missing", "D does not know this bond any more"),
        (f"{ERROR}LeConnectionKeyMissing", "LE Link Key missing", "D does not know this bond any more"),
        (f"{ERROR}AuthenticationFailed", "Authentication Failed", "D does not know this bond any more"),
        (f"{ERROR}Failed", "le-connection-abort-by-local", "D may not know this bond any more"),
        ("TimeoutError", "", "D may not know this bond any more"),
        (f"{ERROR}InProgress", "busy", "D was not connected (busy): "),
    ],
)
def test_stale_bond(name: str, text: str, says: str) -> None:
    """A refusal of a bonded device says how likely the bond is stale, and what to do; without a bond it never does."""
    line = explain_refusal("D", name, text, bonded=True)
    assert line.startswith(says)
    assert ("if it was reset, `bluetoothctl remove D`, then `iomt device add` again" in line) is ("this bond" in line)
    assert explain_refusal("D", name, text, bonded=False).startswith("D was not connected (")
