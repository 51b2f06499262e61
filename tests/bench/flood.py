"""Straps that notify as fast as they may: org.bluez on a private bus, for as long as stdin is open.

    python -m tests.bench.flood --folder DIR --straps 5

prints {"bus": "unix:path=DIR/bus", "straps": ["C0:FF:EE:00:01:00", ...]} when a client may connect. Each byte on stdin
lets FLOCK notifications go, the straps in turn; no two that follow each other are alike.
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from firmware_stubs.bluez import Bluez
from firmware_stubs.bus import PrivateBus
from firmware_stubs.device import Device
from firmware_stubs.sensors import HEART_RATE_MEASUREMENT, heart_rate_monitor
from tests.bench.numbered import strap_frame

FLOCK = 32


def add_straps(bluez: Bluez, count: int) -> list[Device]:
    """Bring straps within reach that have nothing but the heart rate."""
    straps = [heart_rate_monitor(f"C0:FF:EE:00:01:{number:02X}") for number in range(count)]
    return [bluez.add(replace(strap, services=strap.services[:1])) for strap in straps]


def say(line: object) -> None:
    """Write a line of JSON to stdout, at once."""
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


async def _serve(bus: PrivateBus, count: int) -> None:
    loop, leave = asyncio.get_running_loop(), asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(leave), sys.stdin)
    async with Bluez(bus.address) as bluez:
        straps = add_straps(bluez, count)
        say({"bus": bus.address, "straps": [strap.peripheral.address for strap in straps]})
        sent = 0
        while await leave.read(1):
            _notify(straps, sent)
            sent += FLOCK
            await asyncio.sleep(0)


def _notify(straps: Sequence[Device], start: int) -> None:
    for number in range(start, start + FLOCK):
        straps[number % len(straps)].notify(HEART_RATE_MEASUREMENT, strap_frame(number))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.bench.flood")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--straps", type=int, required=True)
    options = parser.parse_args()
    with PrivateBus(options.folder) as private:
        asyncio.run(_serve(private, options.straps))
