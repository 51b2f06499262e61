"""The simulated radio as a process: a private bus, org.bluez on it, and the sensors within its reach.

    python -m firmware_stubs.radio --folder DIR --sensor heart_rate:C0:FF:EE:00:00:01:ppg_2min

prints {"bus": "unix:path=DIR/bus"} when a client may connect, and runs until SIGTERM or SIGINT. A scenario, such as
"fever", may stand in the recording's place. Exit codes: 0 stopped, 2 wrong usage, 3 the bus cannot be had or died.
"""

import argparse
import asyncio
import json
import re
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from firmware_stubs.bluez import Bluez
from firmware_stubs.bus import BusError, PrivateBus
from firmware_stubs.physiology import WEARERS, wearer
from firmware_stubs.sensors import SENSORS, wear

_SENSOR: Final = re.compile(
    rf"(?P<kind>{'|'.join(SENSORS)}):(?P<address>(?:[0-9A-F]{{2}}:){{5}}[0-9A-F]{{2}}):(?P<recording>{'|'.join(WEARERS)})"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Worn:
    """A sensor to simulate: its kind in SENSORS, its address, who wears it."""

    kind: str
    address: str
    recording: str


def parse_worn(text: str) -> Worn:
    """Read KIND:ADDRESS:RECORDING.

    Raises: argparse.ArgumentTypeError if it is anything else.
    """
    match = _SENSOR.fullmatch(text)
    if match is None:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not KIND:AA:BB:CC:DD:EE:FF:RECORDING with a kind of {', '.join(SENSORS)}"
            f" and a recording of {', '.join(WEARERS)}"
        )
    return Worn(**match.groupdict())


async def serve(bus: PrivateBus, sensors: Sequence[Worn], *, speed: float) -> None:
    """Be the radio on the bus until told to stop.

    Raises: ExceptionGroup of BusError if the bus dies.
    """
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with Bluez(bus.address) as bluez, asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(_watch(bluez))]
        for worn in sensors:
            sensor = SENSORS[worn.kind]
            device = bluez.add(sensor.peripheral(worn.address))
            running.append(tasks.create_task(wear(device, sensor, wearer(worn.recording), speed=speed)))
        sys.stdout.write(json.dumps({"bus": bus.address}) + "\n")
        sys.stdout.flush()
        await stopped.wait()
        for task in running:
            task.cancel()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    options = _parser().parse_args(arguments)
    code = 0
    try:
        with PrivateBus(options.folder) as bus:
            asyncio.run(serve(bus, options.sensor, speed=options.speed))
    except* BusError as errors:
        sys.stderr.write(f"{errors.exceptions[0]}\n")
        code = 3
    return code


async def _watch(bluez: Bluez) -> None:
    await bluez.wait_for_bus_end()
    raise BusError("the private bus died")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m firmware_stubs.radio", description="A simulated Bluetooth radio.")
    parser.add_argument("--folder", type=Path, required=True, help="where the bus's socket is made")
    parser.add_argument(
        "--sensor",
        type=parse_worn,
        action="append",
        default=[],
        metavar="KIND:ADDRESS:RECORDING",
        help="may be repeated",
    )
    parser.add_argument("--speed", type=_parse_speed, default=1.0, help="how many times as fast as life (default: 1)")
    return parser


def _parse_speed(text: str) -> float:
    try:
        speed = float(text)
    except ValueError:
        speed = 0.0
    if not 0 < speed < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number")
    return speed


if __name__ == "__main__":
    sys.exit(main())
