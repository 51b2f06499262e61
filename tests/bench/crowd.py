"""A ward that never rests: straps at 1 Hz on a private bus, oximeters at 60 Hz on lines; what they say is noted.

    python -m tests.bench.crowd --folder DIR --straps 50 --oximeters 4

prints {"bus": "unix:path=DIR/bus", "straps": ["C0:FF:EE:00:01:00", ...], "ports": ["DIR/usb-1", ...]} when a gateway
may connect. From SIGUSR1 on everything that is said is noted, whether anybody hears it or not; at SIGUSR2 all fall
silent, and {"C0:FF:EE:00:01:00": [["163c6602", 1764000000000.0], ...], ...} is printed: each address with its frames
and the wall clock in ms. SIGTERM is the end.
"""

import argparse
import asyncio
import signal
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import time

from firmware_stubs.bluez import Bluez
from firmware_stubs.bus import PrivateBus
from firmware_stubs.device import Device
from firmware_stubs.line import Line, play
from firmware_stubs.sensors import HEART_RATE_MEASUREMENT
from tests.bench.flood import add_straps, say
from tests.bench.numbered import finger_frame, strap_frame


class Minutes:
    """What was said, by address, while it is to be noted."""

    def __init__(self) -> None:
        self.said: dict[str, list[tuple[str, float]]] = {}
        self.are_taken = False
        self.is_over = False

    def begin(self) -> None:
        """Note from now on."""
        self.are_taken = True

    def end(self) -> None:
        """Show what was said; from now on nobody speaks."""
        self.is_over = True
        say(self.said)

    def note(self, address: str, frame: bytes) -> None:
        """Note a frame, which is said at once."""
        if self.are_taken:
            self.said.setdefault(address, []).append((frame.hex(), time() * 1000))


class Oximeter:
    """A CMS50D+ that numbers its frames."""

    baudrate = 19_200
    frame_period_ms = 1000 / 60

    def __init__(self, address: str, minutes: Minutes) -> None:
        self._address = address
        self._minutes = minutes
        self._number = 0

    def next_frame(self) -> bytes:
        """Return the next frame; nothing when all is over."""
        if self._minutes.is_over:
            return b""
        frame = finger_frame(self._number)
        self._number += 1
        self._minutes.note(self._address, frame)
        return frame

    def received(self, _data: bytes) -> bytes:
        """Answer nothing: the line is one-way."""
        return b""


async def beat(strap: Device, phase: float, minutes: Minutes) -> None:
    """Let a strap speak once a second, `phase` of a second after the first."""
    loop = asyncio.get_running_loop()
    due_s = loop.time() + phase
    number = 0
    while True:
        await asyncio.sleep(due_s - loop.time())
        if minutes.is_over:
            return
        frame = strap_frame(number)
        minutes.note(strap.peripheral.address, frame)
        strap.notify(HEART_RATE_MEASUREMENT, frame)
        number += 1
        due_s += 1


async def _serve(bus: PrivateBus, straps: int, lines: Sequence[Line]) -> None:
    loop, minutes, ended = asyncio.get_running_loop(), Minutes(), asyncio.Event()
    for number, react in ((signal.SIGUSR1, minutes.begin), (signal.SIGUSR2, minutes.end), (signal.SIGTERM, ended.set)):
        loop.add_signal_handler(number, react)
    async with Bluez(bus.address) as bluez, asyncio.TaskGroup() as group:
        devices = add_straps(bluez, straps)
        tasks = [
            *[group.create_task(beat(each, at / straps, minutes)) for at, each in enumerate(devices)],
            *[group.create_task(play(Oximeter(str(line.path), minutes), line)) for line in lines],
        ]
        ports = [str(line.path) for line in lines]
        say({"bus": bus.address, "straps": [each.peripheral.address for each in devices], "ports": ports})
        await ended.wait()
        for task in tasks:
            task.cancel()


@contextmanager
def _plugged_in(folder: Path, count: int) -> Iterator[list[Line]]:
    with ExitStack() as stack:
        yield [stack.enter_context(Line(folder, f"usb-{number}")) for number in range(1, count + 1)]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.bench.crowd")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--straps", type=int, required=True)
    parser.add_argument("--oximeters", type=int, required=True)
    options = parser.parse_args()
    with PrivateBus(options.folder) as private, _plugged_in(options.folder, options.oximeters) as plugged_in:
        asyncio.run(_serve(private, options.straps, plugged_in))
