"""`iomt simulate`: any number of simulated sensors, on a radio and on lines of their own, until Ctrl-C."""

import os
import shutil
import signal
import sys
import tempfile
from itertools import cycle
from pathlib import Path
from typing import Any, NamedTuple

import click

from gateway.cli.demo_processes import Processes
from gateway.cli.demo_site import type_in
from gateway.cli.gateway import known_profiles
from gateway.cli.output import as_json_option, show_json, show_table
from gateway.cli.reading import enrolled_addresses
from gateway.decode import DECODERS
from gateway.errors import ConfigError
from gateway.io.profiles import load_profiles
from gateway.profile import Profile, Transport

PEOPLE = ("rest", "exercise", "fever", "desaturation", "af", "ppg_rest_25s", "ppg_2min", "ppg_long")
CHECK_S = 1.0

# decoder -> the stub that speaks to it
KINDS = {
    "gatt.heart_rate": "heart_rate",
    "gatt.plx_continuous": "plx",
    "gatt.plx_spot_check": "plx_spot",
    "gatt.temperature": "thermometer",
    "gatt.blood_pressure": "blood_pressure",
    "gatt.glucose": "glucose",
    "gatt.cgm": "cgm",
    "gatt.weight": "scale",
    "adv.bthome_v2": "bthome",
    "serial.nonin_df2": "nonin_df2",
    "serial.nonin_df7": "nonin_df7",
    "serial.nonin_df8": "nonin_df8",
    "serial.cms50d": "cms50d",
    "serial.cms50e": "cms50e",
    "serial.masimo_ascii1": "masimo",
}


class Simulated(NamedTuple):
    """One sensor: where it is reached, its profile, who wears it."""

    address: str
    profile: Profile
    person: str


@click.command()
@click.option("--devices", type=click.IntRange(1, 1000), default=1, show_default=True, help="How many of each kind.")
@click.option("--profile", "names", multiple=True, required=True, help="A kind (iomt device profiles); repeatable.")
@click.option("--person", type=click.Choice(PEOPLE), help="Who wears them; without it, one after the other of these.")
@click.option(
    "--speed", type=click.FloatRange(0.01, 1000), default=1.0, show_default=True, help="Times as fast as life."
)
@click.option("--folder", type=click.Path(file_okay=False, path_type=Path), help="Where bus and ports are made.")
@click.option(
    "--state",
    type=click.Path(file_okay=False, path_type=Path),
    help="Onboard them into the gateway of this state folder.",
)
@as_json_option
def simulate(  # noqa: PLR0917 - click's options
    devices: int,
    names: tuple[str, ...],
    person: str | None,
    speed: float,
    folder: Path | None,
    state: Path | None,
    as_json: bool,  # noqa: FBT001 - click's flag
) -> int:
    """Simulate sensors until Ctrl-C: Bluetooth ones on a private bus, serial ones on ports in a folder.

    A gateway that is started with the bus that this names hears them as it would hear real ones.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.default_int_handler)
    profiles = load_profiles(frozenset(DECODERS)) if state is None else known_profiles(state)
    place = Path(tempfile.mkdtemp(prefix="iomt-sim-")) if folder is None else folder.absolute()
    place.mkdir(parents=True, exist_ok=True)
    sensors = _name_sensors(devices, [_profile(profiles, name) for name in names], person, place / "ports")
    processes = Processes(place, {**os.environ})
    try:
        bus = _start(processes, place, sensors, speed)
        if state is not None:
            _onboard(sensors, state, bus)
        _show(sensors, bus, as_json=as_json)
        while not signal.sigtimedwait([], CHECK_S):
            processes.check()
    except KeyboardInterrupt:
        return 0
    finally:
        processes.stop()
        if folder is None:
            shutil.rmtree(place, ignore_errors=True)
    return 0


def _profile(profiles: dict[str, Profile], name: str) -> Profile:
    if name not in profiles:
        raise ConfigError(f"profile {name!r} is not known; allowed: {', '.join(profiles)}")
    if profiles[name].decoder not in KINDS:
        raise ConfigError(f"{name} ({profiles[name].decoder}) has no simulated sensor; allowed: {', '.join(KINDS)}")
    return profiles[name]


def _name_sensors(devices: int, profiles: list[Profile], person: str | None, ports: Path) -> list[Simulated]:
    people = cycle(PEOPLE if person is None else (person,))
    sensors: list[Simulated] = []
    for profile in profiles:
        for _ in range(devices):
            number = len(sensors) + 1
            address = f"C0:FF:EE:00:{number >> 8:02X}:{number & 0xFF:02X}"
            if profile.transport is Transport.SERIAL:
                address = str(ports / _port_name(profile, number))
            sensors.append(Simulated(address, profile, next(people)))
    return sensors


def _port_name(profile: Profile, number: int) -> str:
    """Give a name by which the profile recognises the port, where it knows one."""
    stem = profile.names[0].partition("*")[0] if profile.names else "usb-Simulated"
    return f"{stem}_{profile.name}_{number:04d}-if00"


def _start(processes: Processes, place: Path, sensors: list[Simulated], speed: float) -> str | None:
    """Start the radio and the lines that are needed; give the address of the radio's bus."""
    radio: list[str] = []
    lines: list[str] = []
    for sensor in sensors:
        serial = sensor.profile.transport is Transport.SERIAL
        address = Path(sensor.address).name if serial else sensor.address
        (lines if serial else radio).extend(("--sensor", f"{KINDS[sensor.profile.decoder]}:{address}:{sensor.person}"))
    if lines:
        options = ("--folder", str(place / "ports"), "--speed", str(speed), *lines)
        processes.start("line", "firmware_stubs.line", *options, ready=True)
    if not radio:
        return None
    options = ("--folder", str(place / "radio"), "--speed", str(speed), *radio)
    return str(processes.start("radio", "firmware_stubs.radio", *options, ready=True)["bus"])


def _onboard(sensors: list[Simulated], state: Path, bus: str | None) -> None:
    """Enrol what is simulated; what is enrolled already stays as it is."""
    if bus is not None:
        os.environ["DBUS_SYSTEM_BUS_ADDRESS"] = bus
    known = enrolled_addresses(state)
    new = [sensor for sensor in sensors if sensor.address not in known]
    with click.progressbar(new, label="onboarding", file=sys.stderr) as progress:
        for sensor in progress:
            options = ("--address", sensor.address, "--profile", sensor.profile.name, "--no-reading", "--yes")
            type_in("device", "add", "--state", str(state), *options)


def _show(sensors: list[Simulated], bus: str | None, *, as_json: bool) -> None:
    if as_json:
        found: list[dict[str, Any]] = [
            {"address": sensor.address, "profile": sensor.profile.name, "person": sensor.person} for sensor in sensors
        ]
        show_json({"bus": bus, "sensors": found})
        return
    show_table(
        ("address", "profile", "person"), [(sensor.address, sensor.profile.name, sensor.person) for sensor in sensors]
    )
    if bus is not None:
        click.echo("\nin the shell of the gateway, and of iomt device add:")
        click.echo(f"  export DBUS_SYSTEM_BUS_ADDRESS={bus}")
    click.echo("\nsimulated until Ctrl-C")
