import asyncio
import os
import pwd
import sys
import threading
import time
import tty
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import pytest
from serial import Serial

from firmware_stubs.line import Line
from gateway.io import serial_port
from gateway.io.serial_port import SILENCE, LineSettings, LineState, Port, Speech, follow, list_ports

TIME_LIMIT_S = 20
NEVER_S = 3600
SETTINGS = LineSettings(baudrate=9600)
NOBODY = 65534

HOLD_PORT = """
import sys, serial
try:
    port = serial.Serial(sys.argv[1], 9600, exclusive=True)
except serial.SerialException as refusal:
    sys.exit(str(refusal))
print("held", flush=True)
sys.stdin.read()
"""


class Ear:
    """What `follow` said so far."""

    def __init__(self) -> None:
        self.heard = b""
        self.states: list[tuple[LineState, str]] = []
        self._said = asyncio.Event()

    def on_chunk(self, chunk: bytes) -> None:
        """Note a chunk."""
        self.heard += chunk
        self._said.set()

    def on_state(self, state: LineState, reason: str) -> None:
        """Note a change."""
        self.states.append((state, reason))
        self._said.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until the condition holds, looking again at all that is said."""
        async with asyncio.timeout(TIME_LIMIT_S):
            while not condition():
                self._said.clear()
                await self._said.wait()

    async def until_heard(self, heard: bytes) -> None:
        """Wait until just these bytes were heard."""
        await self.until(lambda: self.heard == heard)

    async def until_state(self, *states: LineState) -> None:
        """Wait until the last states told are these."""
        await self.until(lambda: tuple(state for state, _ in self.states[-len(states) :]) == states)


@asynccontextmanager
async def following(
    port: str | Path, *, settings: LineSettings = SETTINGS, speech: Speech = SILENCE, quiet_s: float = NEVER_S
) -> AsyncIterator[Ear]:
    ear = Ear()
    task = asyncio.create_task(
        follow(str(port), settings, speech, quiet_s=quiet_s, on_chunk=ear.on_chunk, on_state=ear.on_state)
    )
    try:
        yield ear
        assert not task.done()
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


class Far:
    """The far side of a port: what was said to the device."""

    def __init__(self, folder: Path) -> None:
        self._far, self._near = os.openpty()
        tty.setraw(self._near)
        self.path = folder / "usb-far-if00"
        self.path.symlink_to(os.ttyname(self._near))

    async def hear(self, size: int) -> bytes:
        """Wait for so many bytes."""
        heard = b""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(TIME_LIMIT_S):
            while len(heard) < size:
                readable = asyncio.Event()
                loop.add_reader(self._far, readable.set)
                await readable.wait()
                loop.remove_reader(self._far)
                heard += os.read(self._far, size - len(heard))
        return heard

    def say(self, words: bytes) -> None:
        """Answer."""
        os.write(self._far, words)

    def unplug(self) -> None:
        """Vanish."""
        self.path.unlink()
        os.close(self._far)
        os.close(self._near)


@asynccontextmanager
async def another_process_on(port: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    pipe = asyncio.subprocess.PIPE
    command = (sys.executable, "-c", HOLD_PORT, str(port))
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, stderr=pipe)
    try:
        async with asyncio.timeout(TIME_LIMIT_S):
            yield process
            await process.communicate(b"")
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def count_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Line]:
    with Line(tmp_path, "usb-sim-if00") as plugged_in:
        yield plugged_in


@contextmanager
def forbidden(device: str, mode: int) -> Iterator[tuple[str, str]]:
    """Give the device the mode and be, root or not, someone outside its group; yield one's name and the group's."""
    Path(device).chmod(mode)
    group = Path(device).group()
    if os.geteuid() != 0:
        yield pwd.getpwuid(os.geteuid()).pw_name, group
        return
    groups = os.getgroups()
    os.setgroups([])
    os.setegid(NOBODY)
    os.seteuid(NOBODY)
    try:
        yield pwd.getpwuid(NOBODY).pw_name, group
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)


async def test_bytes_arrive_whole_and_in_order(line: Line) -> None:
    """A hundred kilobytes of every byte value arrive as they were sent."""
    sent = b""
    async with following(line.path) as ear:
        await ear.until_state(LineState.CONNECTED)
        for _ in range(100):
            sent += bytes(range(256)) * 4
            assert line.send(sent[-1024:]) == 1024
            await ear.until_heard(sent)

    assert ear.heard == sent


async def test_fault_24_a_sensor_is_heard_again_after_each_replug(line: Line) -> None:
    """Unplugged, it is lost; back as a terminal of another number, it is heard; no descriptor is left over."""
    sent = b""
    async with following(line.path) as ear:
        await ear.until_state(LineState.CONNECTED)
        descriptors = count_descriptors()
        for _ in range(3):
            before, taken = line.device, os.open(line.device, os.O_RDWR | os.O_NOCTTY)
            line.unplug()
            await ear.until_state(LineState.LOST, LineState.SEARCHING)
            line.plug_in()
            os.close(taken)
            await ear.until_state(LineState.CONNECTED)
            sent += b"!"
            line.send(b"!")
            await ear.until_heard(sent)

            assert line.device != before
        assert count_descriptors() == descriptors


async def test_a_port_that_is_not_there_is_awaited(line: Line) -> None:
    """It is told once as missing, and opened when it appears."""
    line.unplug()
    async with following(line.path) as ear:
        await ear.until_state(LineState.SEARCHING)
        line.plug_in()
        await ear.until_state(LineState.CONNECTED)

    assert ear.states == [
        (LineState.SEARCHING, f"{line.path} is not there: waiting for it to be plugged in"),
        (LineState.CONNECTED, f"{line.path} is open, 9600 8N1"),
    ]


async def test_silence_is_told_and_its_end(line: Line) -> None:
    """A line that says nothing for its quiet time is quiet, and connected again with its next byte."""
    async with following(line.path, quiet_s=0.05) as ear:
        await ear.until_state(LineState.CONNECTED, LineState.QUIET)
        line.send(b"!")
        await ear.until_state(LineState.CONNECTED, LineState.QUIET, LineState.CONNECTED)

    assert ear.heard == b"!"
    assert [reason for _, reason in ear.states[1:3]] == [
        f"{line.path} has been silent for 0.05 s",
        f"{line.path} is heard again",
    ]


async def test_a_gateway_that_was_held_up_blames_no_line(line: Line) -> None:
    """Bytes that waited while the gateway itself stood still for longer than the quiet time are no silence."""
    async with following(line.path, quiet_s=1) as ear:
        await ear.until_state(LineState.CONNECTED)
        line.send(b"!")
        time.sleep(1.1)  # noqa: ASYNC251 -- holding the loop up is the fault that is made here
        await ear.until_heard(b"!")

        assert [state for state, _ in ear.states] == [LineState.CONNECTED]


async def test_device_is_told_to_start_and_kept_alive(tmp_path: Path) -> None:
    """What a device wants to hear is said when its port is opened, then again and again; after a replug anew."""
    speech = Speech(start=b"\x7d\x81\xa1", keep_alive=b"\x7d\xaf", keep_alive_s=0.02)
    far = Far(tmp_path)
    async with following(far.path, speech=speech) as ear:
        assert await far.hear(9) == b"\x7d\x81\xa1" + b"\x7d\xaf" * 3
        far.say(b"\x01")
        await ear.until_heard(b"\x01")
        far.unplug()
        await ear.until_state(LineState.SEARCHING)
        again = Far(tmp_path)
        assert await again.hear(5) == b"\x7d\x81\xa1\x7d\xaf"
    again.unplug()


async def test_silent_device_is_told_to_start_again(tmp_path: Path) -> None:
    """A device that was switched off and on, while its adapter stayed, is told until it speaks."""
    far = Far(tmp_path)
    async with following(far.path, speech=Speech(start=b"\x7d\x81\xa1"), quiet_s=0.05) as ear:
        assert await far.hear(9) == b"\x7d\x81\xa1" * 3
        assert ear.states[-1][0] is LineState.QUIET
        far.say(b"\x01")
        await ear.until_state(LineState.QUIET, LineState.CONNECTED)
    far.unplug()


async def test_device_that_needs_nothing_is_told_nothing(tmp_path: Path) -> None:
    """A port is only read where the device asks for no word."""
    far = Far(tmp_path)
    async with following(far.path) as ear:
        await ear.until_state(LineState.CONNECTED)
        far.say(b"\x01")
        await ear.until_heard(b"\x01")
        os.set_blocking(far._far, False)
        with pytest.raises(BlockingIOError):
            os.read(far._far, 1)
    far.unplug()


async def test_no_second_process_opens_a_followed_port(line: Line) -> None:
    """The lock is exclusive: another process's attempt fails, this one goes on."""
    async with following(line.path) as ear:
        await ear.until_state(LineState.CONNECTED)
        async with another_process_on(line.path) as process:
            _, complaint = await process.communicate()
        line.send(b"!")
        await ear.until_heard(b"!")

    assert process.returncode == 1
    assert b"exclusively lock" in complaint


async def test_a_port_in_use_is_told_once_and_taken_when_it_is_free(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three attempts make one message, which says how to find the process; when that ends, the port is opened."""
    attempts, really_open = 0, serial_port._open
    attempted = asyncio.Event()
    loop = asyncio.get_running_loop()

    def count_and_open(port: str, settings: LineSettings) -> Serial:
        nonlocal attempts
        attempts += 1
        if attempts == 3:
            loop.call_soon_threadsafe(attempted.set)
        return really_open(port, settings)

    monkeypatch.setattr(serial_port, "_open", count_and_open)
    async with another_process_on(line.path) as process:
        assert process.stdout
        assert await process.stdout.readline() == b"held\n"
        async with following(line.path) as ear:
            await attempted.wait()
            await process.communicate(b"")
            await ear.until_state(LineState.CONNECTED)

    in_use = f"{line.path} is in use by another process: end that one (`fuser -v {line.path}` names it)"
    assert [state for state, _ in ear.states] == [LineState.BACKOFF, LineState.CONNECTED]
    assert ear.states[0][1] == in_use


@pytest.mark.parametrize(
    ("mode", "advice"),
    [
        (0o060, "{port} may not be opened by {user}: `usermod -aG {group} {user}`, then start this again"),
        (0o000, "{port} may not be opened by {user}: its mode is c---------, a udev rule must open it"),
    ],
)
async def test_a_forbidden_port_is_told_once_with_the_way_out(line: Line, mode: int, advice: str) -> None:
    """The one line names who may not open what, and the command that would let them or the mode that lets nobody."""
    port = line.device
    with forbidden(port, mode) as (user, group):
        async with following(port) as ear:
            await ear.until_state(LineState.BACKOFF)

    assert ear.states == [(LineState.BACKOFF, advice.format(port=port, user=user, group=group))]


async def test_what_is_no_serial_port_is_told(tmp_path: Path) -> None:
    """A file that takes no line settings is reported with them, a folder as what cannot be opened."""
    (tmp_path / "file").write_bytes(b"")
    async with following(tmp_path / "file") as file_ear, following(tmp_path) as folder_ear:
        await file_ear.until_state(LineState.BACKOFF)
        await folder_ear.until_state(LineState.BACKOFF)

    assert f"{tmp_path}/file does not accept 9600 8N1: " in file_ear.states[0][1]
    assert f"{tmp_path} cannot be opened: " in folder_ear.states[0][1]


@pytest.mark.parametrize(
    ("settings", "short"),
    [(LineSettings(baudrate=-1), "-1 8N1"), (LineSettings(baudrate=4800, bytesize=7), "4800 7N1")],
)
async def test_settings_that_the_port_refuses_are_told(line: Line, settings: LineSettings, short: str) -> None:
    """A rate that no port has, and the seven bits that a pseudo terminal has not, are reported, not a crash."""
    Serial(str(line.path), 4800).close()  # the kernel refuses nothing while one of the settings is news to it
    async with following(line.path, settings=settings) as ear:
        await ear.until_state(LineState.BACKOFF)

    assert f"{line.path} does not accept {short}: " in ear.states[0][1]


async def test_a_cancelled_follower_leaves_the_port_free(line: Line) -> None:
    """Once cancelled, it holds neither lock nor reader."""
    async with following(line.path) as ear:
        await ear.until_state(LineState.CONNECTED)

    Serial(str(line.path), exclusive=True).close()


async def test_a_follower_cancelled_while_it_opens_leaves_the_port_free(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An opening that is under way ends on its own; the port that it gives nobody is closed."""
    loop, opening, may_open, opened = asyncio.get_running_loop(), asyncio.Event(), threading.Event(), asyncio.Event()
    really_open = serial_port._open

    def open_when_allowed(port: str, settings: LineSettings) -> Serial:
        loop.call_soon_threadsafe(opening.set)
        may_open.wait(TIME_LIMIT_S)
        try:
            return really_open(port, settings)
        finally:
            loop.call_soon_threadsafe(opened.set)

    monkeypatch.setattr(serial_port, "_open", open_when_allowed)
    async with following(line.path):
        await opening.wait()
    may_open.set()
    async with asyncio.timeout(TIME_LIMIT_S):
        await opened.wait()
        await loop.shutdown_default_executor()

    Serial(str(line.path), exclusive=True).close()


async def test_what_the_hearer_raises_ends_following(line: Line) -> None:
    """An error of the one who is handed the bytes is not swallowed, and the port is closed."""

    def choke(_chunk: bytes) -> None:
        raise ZeroDivisionError

    def speak(_state: LineState, _reason: str) -> None:
        line.send(b"!")

    async with asyncio.timeout(TIME_LIMIT_S):
        with pytest.raises(ZeroDivisionError):
            await follow(str(line.path), SETTINGS, quiet_s=NEVER_S, on_chunk=choke, on_state=speak)

    Serial(str(line.path), exclusive=True).close()


def test_the_ports_of_a_folder_are_listed_by_name(tmp_path: Path) -> None:
    """Links to terminals are ports, in order; a dangling link and a plain file are none."""
    with Line(tmp_path, "usb-b-if00"), Line(tmp_path, "usb-a-if00"):
        (tmp_path / "usb-left-if00").symlink_to("/dev/pts/no-such")
        (tmp_path / "notes").write_text("")

        ports = list_ports(str(tmp_path))

    assert ports == [
        Port(path=str(tmp_path / name), name=name, vendor_id=None, product_id=None)
        for name in ("usb-a-if00", "usb-b-if00")
    ]


def test_without_the_folder_there_are_no_ports(tmp_path: Path) -> None:
    """The folder exists only while a serial device is plugged in."""
    assert list_ports(str(tmp_path / "by-id")) == []


def test_usb_numbers_are_found_above_the_terminal(tmp_path: Path) -> None:
    """The USB device stands some folders above the terminal in sysfs; its files are hexadecimal."""
    terminal = tmp_path / "1-1.4" / "1-1.4:1.0" / "ttyUSB0"
    terminal.mkdir(parents=True)
    (tmp_path / "1-1.4" / "idVendor").write_text("1a86\n")
    (tmp_path / "1-1.4" / "idProduct").write_text("7523\n")
    (tmp_path / "device").symlink_to(terminal)

    assert serial_port._read_usb_ids(tmp_path / "device") == (0x1A86, 0x7523)
