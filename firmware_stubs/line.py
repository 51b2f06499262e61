"""The simulated serial line: a pseudo terminal with a sensor at its far side and the product at its near side.

    python -m firmware_stubs.line --folder DIR --sensor nonin_df2:usb-Nonin_Medical_OEM_III_SIM001-if00:ppg_long

DIR stands for /dev/serial/by-id: DIR/<name> is a symbolic link to the port. When every port can be opened, one line
of JSON says so, `{"ports": {"<name>": "DIR/<name>"}}`; SIGTERM or SIGINT unplugs them all and ends it with code 0.
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

from firmware_stubs.nonin import NoninDf2
from firmware_stubs.people import RECORDINGS, Person

# What a Linux serial driver keeps for a reader that is slow; more is lost, as on a real line.
_NEAR_BUFFER_BYTES: Final = 4095
_BYTE_S: Final = 10 / 9600


class Sensor(Protocol):
    """A sensor that talks without being asked."""

    frame_period_ms: float

    def next_frame(self) -> bytes:
        """Return what the sensor says next."""


SENSORS: Final[Mapping[str, Callable[[Person], Sensor]]] = {"nonin_df2": NoninDf2}


class Line:
    """One line, plugged in from the start; `with` unplugs it at the end.

    The line owns both descriptors of its pseudo terminal. It holds the near one so that the far one can
    be written while nobody has opened the port (Linux answers EIO otherwise).

    Switches: `noise_bytes` random bytes go before each thing sent (the same ones in every run), and
    `is_dribbling` makes `play` send byte by byte at 9600 baud's pace.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.noise_bytes = 0
        self.is_dribbling = False
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
        room = max(0, _NEAR_BUFFER_BYTES - self._waiting_bytes())
        try:
            return os.write(self._far, sent[:room])
        except BlockingIOError:
            return 0

    def _waiting_bytes(self) -> int:
        count = array.array("i", [0])
        fcntl.ioctl(self._near, termios.FIONREAD, count)
        return count[0]


async def play(sensor: Sensor, line: Line, *, speed: float = 1.0) -> NoReturn:
    """Send the sensor's frames when they are due, `speed` times as fast as the real one, until cancelled."""
    loop = asyncio.get_running_loop()
    due_s = loop.time()
    while True:
        await asyncio.sleep(due_s - loop.time())
        frame = sensor.next_frame()
        if line.is_dribbling:
            for byte in frame:
                line.send(bytes((byte,)))
                await asyncio.sleep(_BYTE_S / speed)
        else:
            line.send(frame)
        due_s += sensor.frame_period_ms / 1000 / speed


@dataclass(frozen=True, slots=True, kw_only=True)
class Socket:
    """What to plug in: the kind of sensor, the name of its port, the recording of its wearer."""

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
        if recording not in RECORDINGS:
            raise ValueError(f"no recording {recording!r}; there are {', '.join(RECORDINGS)}")
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
                playing.create_task(play(SENSORS[socket.kind](Person(socket.recording)), line, speed=speed))
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
