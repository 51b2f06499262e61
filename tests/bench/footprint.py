"""How soon `iomt run` is ready, and how much memory it holds, with two sensors on the radio and one on a line."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter

from tests.bench.figures import Aim, Figure, Run
from tests.bench.probes import resident_mb
from tests.bench.ward import ADDRESS
from tests.processes import PROFILE, ROOT, Process, Site, type_iomt, wait_for

READINGS = 5
"""From each sensor, before the memory is looked at."""

OXIMETER = "C0:FF:EE:00:00:02"
RADIO = ("--sensor", f"heart_rate:{ADDRESS}:ppg_2min", "--sensor", f"plx:{OXIMETER}:ppg_rest_25s")
PORT = "usb-nonin-1"
LINE = ("--sensor", f"nonin_df2:{PORT}:ppg_long")
IOMT = Path(sys.executable).with_name("iomt")
BARE = {"python -c pass": "", "python -c 'import asyncio'": "import asyncio; "}


def measure(site: Site, *, runs: int, report: Callable[[str], None]) -> list[Figure]:
    """Measure with a site whose peers run and whose strap is enrolled; the gateway is started once a run."""
    with _sensors(site) as environment:
        _enrol(site)
        gateway = Process(site.folder / "run.log", IOMT, "run", "--state", site.state)
        found = []
        for number in range(runs):
            report(f"footprint, run {number + 1} of {runs}")
            found.append(_run(site, gateway, environment))
    bare = {name: [_run_bare(code) for _ in range(runs)] for name, code in BARE.items()}
    bound = "python -c 'import asyncio'"
    return [
        _figure(
            "iomt run: exec to ready", "ms", [start for start, _ in found], [start for start, _ in bare[bound]], 400
        ),
        _figure("iomt run: resident", "MB", [size for _, size in found], [size for _, size in bare[bound]], 50),
        *[
            Figure(name=f"{name}: exec to exit", unit="ms", runs=[Run(start) for start, _ in bare[name]])
            for name in bare
        ],
        *[Figure(name=f"{name}: resident", unit="MB", runs=[Run(size) for _, size in bare[name]]) for name in bare],
    ]


def _figure(name: str, unit: str, values: Sequence[float], bounds: Sequence[float], limit: float) -> Figure:
    runs = [Run(value, bound) for value, bound in zip(values, bounds, strict=True)]
    return Figure(name=name, unit=unit, runs=runs, bound="python -c 'import asyncio'", aims=(Aim(at_most=limit),))


@contextmanager
def _sensors(site: Site) -> Iterator[Mapping[str, str]]:
    """Simulate the radio and the line, and give the environment in which the gateway finds the radio."""
    radio = Process(site.folder / "radio.log", *_stub("radio", site.folder / "bus"), *RADIO)
    line = Process(site.folder / "line.log", *_stub("line", site.folder / "ports"), *LINE)
    try:
        radio.start()
        line.start()
        bus = json.loads(radio.first_line())["bus"]
        line.first_line()
        yield {**os.environ, "DBUS_SYSTEM_BUS_ADDRESS": bus}
    finally:
        for process in (radio, line):
            if process.runs:
                process.end()


def _stub(name: str, folder: Path) -> list[object]:
    return [sys.executable, "-m", f"firmware_stubs.{name}", "--folder", folder]


def _enrol(site: Site) -> None:
    """Enrol the oximeters; the strap is."""
    for name, profile, address in (
        ("plx-1", "pulse-oximeter-plx", OXIMETER),
        ("nonin-1", PROFILE, site.folder / "ports" / PORT),
    ):
        device = ["--profile", profile, "--address", address, "--id", name, "--yes", "--no-reading"]
        type_iomt("device", "add", "--state", site.state, *device)


def _run(site: Site, gateway: Process, environment: Mapping[str, str]) -> tuple[float, float]:
    """Give how long the gateway took to be ready, in ms, and what it held once all sensors were heard, in MB."""
    name = site.folder / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
        ear.bind(str(name))
        ear.settimeout(30)
        gateway.environment = {**environment, "NOTIFY_SOCKET": str(name)}
        start_s = perf_counter()
        gateway.start()
        while b"READY=1" not in ear.recv(1024):
            pass
        ready_ms = (perf_counter() - start_s) * 1000
    name.unlink()
    before = _readings(site)
    wait_for(
        "readings of every sensor",
        lambda: all(count >= start + READINGS for start, count in zip(before, _readings(site), strict=True)),
        60,
    )
    held_mb = resident_mb(Path(f"/proc/{gateway.pid}/status").read_text())
    gateway.end()
    return ready_ms, held_mb


def _readings(site: Site) -> list[int]:
    return [device["readings"] for device in site.status()["devices"]]


def _run_bare(code: str) -> tuple[float, float]:
    """Give how long Python takes to start and end, in ms, and what it held, in MB."""
    start_s = perf_counter()
    shown = subprocess.run(
        [sys.executable, "-c", f"{code}print(open('/proc/self/status').read())"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return (perf_counter() - start_s) * 1000, resident_mb(shown.stdout)
