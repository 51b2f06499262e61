"""The simulated serial line: a pseudo terminal with a sensor at its far side and the product at its near side.

    python -m firmware_stubs.line --folder DIR --sensor nonin_df2:usb-Nonin_Medical_OEM_III_SIM001-if00:ppg_long

DIR stands for /dev/serial/by-id: DIR/<name> is a symbolic link to the port. A scenario, such as "fever", may stand in
the recording's place. When every port can be opened, one line of JSON says so, `{"ports": {"<name>": "DIR/<name>"}}`;
SIGTERM or SIGINT unplugs them all and ends it with code 0.
"""

import argparse
import array
import asyncio
import fcntl
import json
import os
import random
import signal
import sys
import termios
import tty
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, NoReturn, Protocol, Self

from firmware_stubs.contec import Cms50d, Cms50e
from firmware_stubs.masimo import MasimoRad8
from firmware_stubs.nonin import NoninDf2, NoninDf7, NoninDf8
from firmware_stubs.physiology import WEARERS, Wearer, wearer
from firmware_stubs.uart import mishear

# What a Linux serial driver keeps for a reader that is slow; more is lost, as on a real line.
_NEAR_BUFFER_BYTES: Final = 4095
_BYTE_S: Final = 10 / 9600
# How long a sensor lets a command wait.
_ANSWER_S: Final = 0.05
_READ_BYTES: Final = 4096
# Bits a second by what termios calls them.
_SPEEDS: Final = {
    value: int(name[1:]) for name, value in vars(termios).items() if name[0] == "B" and name[1:].isdecimal()
}


class Sensor(Protocol):
    """A sensor at the far side of a line."""

    @property
    def baudrate(self) -> int:
        """How fast it talks and listens, in bits a second."""

    @property
    def frame_period_ms(self) -> float:
        """How long it is from one frame to the next."""

    def next_frame(self) -> bytes:
        """Return what the sensor says next, which may be nothing."""

    def received(self, data: bytes) -> bytes:
        """Take what arrived from the near side, and return the answer."""


SENSORS: Final[Mapping[str, Callable[[Wearer], Sensor]]] = {
    "nonin_df2": NoninDf2,
    "nonin_df7": NoninDf7,
    "nonin_df8": NoninDf8,
    "cms50d": Cms50d,
    "cms50e": Cms50e,
    "masimo": MasimoRad8,
}


class Line:
    """One line, plugged in from the start; `with` unplugs it at the end.

    The line owns both descriptors of its pseudo terminal. It holds the near one so that the far one can
    be written while nobody has opened the port (Linux answers EIO otherwise).

    Switches: `noise_bytes` random bytes go before each thing sent (the same ones in every run), and
    `is_dribbling` makes `play` send byte by byte at 9600 baud's pace. `baudrate` is what the sensor talks at: where
    the near side is set to another speed, garbage arrives, the same for the same bytes; None fits every speed.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.noise_bytes = 0
        self.is_dribbling = False
        self.baudrate: int | None = None
        self._random = random.Random(name)  # noqa: S311 -- noise that a test can repeat, no secret
        self._folder = folder
        self._far = self._near = -1
        self.path = folder / name
        self.plug_in()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.unplug()

    @property
    def device(self) -> str:
        """The terminal behind the link; fails with OSError while the line is unplugged."""
        return os.ttyname(self._near)

    def plug_in(self, name: str | None = None) -> None:
        """Appear as a fresh terminal, under another name if one is given; unplug first if need be."""
        self.unplug()
        self._far, self._near = os.openpty()
        tty.setraw(self._near)
        os.set_blocking(self._far, False)
        self.path = self._folder / name if name else self.path
        self.path.unlink(missing_ok=True)
        self.path.symlink_to(self.device)

    def unplug(self) -> None:
        """Vanish: whoever has the port open gets an end of file or EIO; nothing happens if that was so already."""
        if self._near < 0:
            return
        if self.path.is_symlink() and str(self.path.readlink()) == self.device:
            self.path.unlink()
        os.close(self._far)
        os.close(self._near)
        self._far = self._near = -1

    def send(self, data: bytes) -> int:
        """Write to the port, after noise if that is switched on, and return how many bytes it took.

        It never waits: while nobody reads, what is over the port's buffer is lost; while unplugged, everything.
        """
        if self._near < 0:
            return 0
        sent = self._random.randbytes(self.noise_bytes) + data
        near_baud = self._near_baudrate()
        if self.baudrate is not None and near_baud != self.baudrate:
            sent = mishear(sent, sent_baud=self.baudrate, heard_baud=near_baud)
        room = max(0, _NEAR_BUFFER_BYTES - self._waiting_bytes())
        try:
            return os.write(self._far, sent[:room])
        except BlockingIOError:
            return 0

    def receive(self) -> bytes:
        """Return what the near side has written since, as the sensor hears it; nothing while unplugged."""
        if self._near < 0:
            return b""
        try:
            written = os.read(self._far, _READ_BYTES)
        except BlockingIOError:
            return b""
        near_baud = self._near_baudrate()
        if self.baudrate is None or near_baud == self.baudrate:
            return written
        return mishear(written, sent_baud=near_baud, heard_baud=self.baudrate)

    def _near_baudrate(self) -> int:
        return _SPEEDS[termios.tcgetattr(self._near)[5]]

    def _waiting_bytes(self) -> int:
        count = array.array("i", [0])
        fcntl.ioctl(self._near, termios.FIONREAD, count)
        return count[0]


async def play(sensor: Sensor, line: Line, *, speed: float = 1.0) -> NoReturn:
    """Send the sensor's frames when they are due, `speed` times as fast as the real one, until cancelled.

    What the near side writes is answered within a twentieth of a second.
    """
    loop = asyncio.get_running_loop()
    line.baudrate = sensor.baudrate
    due_s = loop.time()
    while True:
        while (wait_s := due_s - loop.time()) > _ANSWER_S:
            await asyncio.sleep(_ANSWER_S)
            _answer(sensor, line)
        await asyncio.sleep(wait_s)
        _answer(sensor, line)
        await _send(sensor.next_frame(), line, speed)
        due_s += sensor.frame_period_ms / 1000 / speed


def _answer(sensor: Sensor, line: Line) -> None:
    heard = line.receive()
    answer = sensor.received(heard) if heard else b""
    if answer:
        line.send(answer)


async def _send(frame: bytes, line: Line, speed: float) -> None:
    if not line.is_dribbling:
        if frame:
            line.send(frame)
        return
    for byte in frame:
        line.send(bytes((byte,)))
        await asyncio.sleep(_BYTE_S / speed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Socket:
    """What to plug in: the kind of sensor, the name of its port, who wears it: a recording or a scenario."""

    kind: str
    name: str
    recording: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read KIND:NAME:RECORDING.

        Raises: ValueError, saying which of the three is wrong and what is allowed.
        """
        kind, _, rest = text.partition(":")
        name, _, recording = rest.rpartition(":")
        if kind not in SENSORS:
            raise ValueError(f"no kind of sensor {kind!r}; there are {', '.join(SENSORS)}")
        if not name or "/" in name:
            raise ValueError(f"{name!r} is no name of a port: KIND:NAME:RECORDING")
        if recording not in WEARERS:
            raise ValueError(f"no recording {recording!r}; there are {', '.join(WEARERS)}")
        return cls(kind=kind, name=name, recording=recording)


async def simulate(folder: Path, sockets: Sequence[Socket], *, speed: float) -> None:
    """Play all sensors until SIGTERM or SIGINT; print the line of JSON as soon as all are plugged in."""
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    with ExitStack() as plugged_in:
        lines = [plugged_in.enter_context(Line(folder, socket.name)) for socket in sockets]
        async with asyncio.TaskGroup() as playing:
            tasks = [
                playing.create_task(play(SENSORS[socket.kind](wearer(socket.recording)), line, speed=speed))
                for socket, line in zip(sockets, lines, strict=True)
            ]
            ports = {line.path.name: str(line.path) for line in lines}
            sys.stdout.write(json.dumps({"ports": ports}) + "\n")
            sys.stdout.flush()
            await stopped.wait()
            for task in tasks:
                task.cancel()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the module's command line; wrong usage exits with code 2."""
    parser = argparse.ArgumentParser(prog="python -m firmware_stubs.line", description="Simulated serial sensors.")
    parser.add_argument("--folder", type=Path, required=True, help="where the ports appear, as in /dev/serial/by-id")
    parser.add_argument("--sensor", action="append", required=True, metavar="KIND:NAME:RECORDING", dest="sensors")
    parser.add_argument("--speed", type=float, default=1.0, help="times as fast as real sensors (1.0)")
    given = parser.parse_args(arguments)
    try:
        sockets = [Socket.parse(text) for text in given.sensors]
    except ValueError as error:
        parser.error(str(error))
    if not given.speed > 0:
        parser.error("--speed must be over 0")
    given.folder.mkdir(parents=True, exist_ok=True)
    asyncio.run(simulate(given.folder, sockets, speed=given.speed))


if __name__ == "__main__":
    main()
