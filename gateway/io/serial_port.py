"""The serial ports: which there are, and one followed through unplugging, renumbering and silence."""

import asyncio
import errno
import grp
import os
import pwd
import random
import stat
import termios
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final, NoReturn

import structlog
from serial import Serial, SerialException

_READ_BYTES: Final = 4096
_FIRST_DELAY_S: Final = 0.25
_LONGEST_DELAY_S: Final = 2.0
_GONE: Final = frozenset((errno.ENOENT, errno.ENODEV, errno.ENXIO, errno.EIO))
_FORBIDDEN: Final = frozenset((errno.EACCES, errno.EPERM))
_TAKEN: Final = frozenset((errno.EAGAIN, errno.EBUSY))
_GROUP_MAY_USE: Final = stat.S_IRGRP | stat.S_IWGRP

log = structlog.get_logger(__name__)


class LineState(StrEnum):
    """How a line stands: no port, heard, open but silent, just gone, there but not to be opened."""

    SEARCHING = "searching"
    CONNECTED = "connected"
    QUIET = "quiet"
    LOST = "lost"
    BACKOFF = "backoff"


@dataclass(frozen=True, slots=True, kw_only=True)
class LineSettings:
    """How a device talks: bits a second, data bits, parity (N, E, O, M, S), stop bits."""

    baudrate: int
    bytesize: int = 8
    parity: str = "N"
    stopbits: int = 1

    def __str__(self) -> str:
        """Give the usual short form, "9600 8N1"."""
        return f"{self.baudrate} {self.bytesize}{self.parity}{self.stopbits}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Speech:
    """What is said to a device: `start` when its port is opened, `keep_alive` every `keep_alive_s` from then on."""

    start: bytes = b""
    keep_alive: bytes = b""
    keep_alive_s: float = 0.0


SILENCE: Final = Speech()


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """A port that can be followed; the numbers are those of its USB device, where it is one."""

    path: str
    name: str
    vendor_id: int | None
    product_id: int | None


def list_ports(folder: str = "/dev/serial/by-id") -> list[Port]:
    """Return the ports whose links stand in the folder, by name; none if there is no such folder."""
    try:
        links = sorted(Path(folder).iterdir())
    except FileNotFoundError:
        return []
    ports = []
    for link in links:
        if link.is_char_device():
            vendor_id, product_id = _read_usb_ids(Path("/sys/class/tty") / link.resolve().name / "device")
            ports.append(Port(path=str(link), name=link.name, vendor_id=vendor_id, product_id=product_id))
    return ports


async def follow(
    port: str,
    settings: LineSettings,
    speech: Speech = SILENCE,
    *,
    quiet_s: float,
    on_chunk: Callable[[bytes], object],
    on_state: Callable[[LineState, str], None],
) -> NoReturn:
    """Open the port whenever it is there and hand over what it says, until cancelled.

    `port` is looked up anew at each opening: a link from /dev/serial/by-id follows its device to whatever
    number it has now. `on_chunk` gets the bytes as they come, unframed. `on_state` is told every change,
    with the reason in a line fit for a person; silence is no hearing for `quiet_s`.

    Raises: what `on_chunk` or `on_state` raise; the port is closed then.
    """
    await _Line(port, settings, speech, quiet_s, on_chunk, on_state).follow()


class _Line:
    def __init__(
        self,
        port: str,
        settings: LineSettings,
        speech: Speech,
        quiet_s: float,
        on_chunk: Callable[[bytes], object],
        on_state: Callable[[LineState, str], None],
    ) -> None:
        self._port = port
        self._settings = settings
        self._speech = speech
        self._again: asyncio.TimerHandle | None = None
        self._quiet_s = quiet_s
        self._on_chunk = on_chunk
        self._on_state = on_state
        self._told: tuple[LineState, str] | None = None
        self._delays_s = _delays_s()
        self._chunk: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def follow(self) -> NoReturn:
        while True:
            await self._follow_once()
            await asyncio.sleep(next(self._delays_s))

    async def _follow_once(self) -> None:
        """Open the port, read it until it is lost, and close it: never are two of its descriptors open."""
        try:
            # A USB adapter that fails may keep its opener waiting for seconds, hence the thread. A cancellation
            # leaves the thread alone; a port that it opens then has no owner, so its finaliser closes it.
            serial = await asyncio.to_thread(_open, self._port, self._settings)
        except (OSError, ValueError, termios.error) as refusal:
            self._tell(*_explain(refusal, self._port, self._settings))
            return
        try:
            await self._read(serial)
        except SerialException as error:
            log.debug("serial read failed", port=self._port, cause=str(error))
            self._tell(LineState.LOST, f"{self._port} was unplugged, or its driver failed")
        finally:
            serial.close()

    async def _read(self, serial: Serial) -> NoReturn:
        loop = asyncio.get_running_loop()
        self._chunk = loop.create_future()
        self._tell(LineState.CONNECTED, f"{self._port} is open, {self._settings}")
        loop.add_reader(serial.fileno(), self._take, serial)
        try:
            self._say(serial, self._speech.start)
            while True:
                chunk = await self._wait(serial)
                self._chunk = loop.create_future()
                self._hear(chunk)
        finally:
            loop.remove_reader(serial.fileno())
            if self._again is not None:
                self._again.cancel()

    def _say(self, serial: Serial, words: bytes) -> None:
        """Write to the device, and keep it alive from now on."""
        if self._again is not None:
            self._again.cancel()
        try:
            serial.write(words)
        except SerialException as error:  # a reader that waits gets it as its own
            if not self._chunk.done():
                self._chunk.set_exception(error)
            return
        if self._speech.keep_alive:
            loop = asyncio.get_running_loop()
            self._again = loop.call_later(self._speech.keep_alive_s, self._say, serial, self._speech.keep_alive)

    def _take(self, serial: Serial) -> None:
        """Read what is there, unless the chunk before is still to be handed over; the kernel keeps it then."""
        if self._chunk.done():
            return
        try:
            chunk = serial.read(_READ_BYTES)
        except SerialException as error:
            self._chunk.set_exception(error)
        else:
            if chunk:
                self._chunk.set_result(chunk)

    async def _wait(self, serial: Serial) -> bytes:
        """Return the next chunk; a gateway that was itself held up finds it here and takes it for no silence.

        A device that was switched off and on behind its adapter is silent until it is told to start again.
        """
        await asyncio.wait((self._chunk,), timeout=self._quiet_s)
        if not self._chunk.done():
            self._tell(LineState.QUIET, f"{self._port} has been silent for {self._quiet_s:g} s")
        while self._speech.start and not self._chunk.done():
            self._say(serial, self._speech.start)
            await asyncio.wait((self._chunk,), timeout=self._quiet_s)
        return await self._chunk

    def _hear(self, chunk: bytes) -> None:
        self._delays_s = _delays_s()
        if self._told and self._told[0] is LineState.QUIET:
            self._tell(LineState.CONNECTED, f"{self._port} is heard again")
        self._on_chunk(chunk)

    def _tell(self, state: LineState, reason: str) -> None:
        """Report and log a change, and only a change: retries are many."""
        if (state, reason) == self._told:
            return
        self._told = (state, reason)
        write = log.info if state is LineState.CONNECTED else log.warning
        write("serial line", port=self._port, state=state.value, reason=reason)
        self._on_state(state, reason)


def _delays_s() -> Iterator[float]:
    """Yield the waits between attempts: doubling, each shortened at random so that many lines spread out."""
    longest_s = _FIRST_DELAY_S
    while True:
        yield longest_s * random.uniform(0.5, 1)  # noqa: S311 -- jitter is no secret
        longest_s = min(2 * longest_s, _LONGEST_DELAY_S)


def _open(port: str, settings: LineSettings) -> Serial:
    return Serial(
        port,
        baudrate=settings.baudrate,
        bytesize=settings.bytesize,
        parity=settings.parity,
        stopbits=settings.stopbits,
        timeout=0,
        write_timeout=1,
        exclusive=True,
    )


def _explain(refusal: Exception, port: str, settings: LineSettings) -> tuple[LineState, str]:
    """Say in one line why a port was not opened and what a person can do about it."""
    code = refusal.errno if isinstance(refusal, OSError) else None
    if code in _GONE:
        return LineState.SEARCHING, f"{port} is not there: waiting for it to be plugged in"
    if code in _TAKEN:
        return LineState.BACKOFF, f"{port} is in use by another process: end that one (`fuser -v {port}` names it)"
    if code in _FORBIDDEN:
        return LineState.BACKOFF, _explain_forbidden(port)
    if code is None:
        return LineState.BACKOFF, f"{port} does not accept {settings}: {refusal}"
    return LineState.BACKOFF, f"{port} cannot be opened: {refusal}"


def _explain_forbidden(port: str) -> str:
    try:
        found = Path(port).stat()
        group = grp.getgrgid(found.st_gid).gr_name
        user = pwd.getpwuid(os.geteuid()).pw_name
    except (OSError, KeyError):
        return f"{port} may not be opened: permission denied"
    if found.st_mode & _GROUP_MAY_USE == _GROUP_MAY_USE:
        return f"{port} may not be opened by {user}: `usermod -aG {group} {user}`, then start this again"
    return f"{port} may not be opened by {user}: its mode is {stat.filemode(found.st_mode)}, a udev rule must open it"


def _read_usb_ids(device: Path) -> tuple[int | None, int | None]:
    """Return vendor and product of the USB device that the folder in sysfs belongs to, None where it is no USB."""
    folder = device.resolve()
    for candidate in (folder, *folder.parents):
        if (candidate / "idVendor").is_file():
            return int((candidate / "idVendor").read_text(), 16), int((candidate / "idProduct").read_text(), 16)
    return None, None
