"""`iomt device`: find sensors, onboard them, list what is enrolled and which kinds are known."""

import asyncio
import secrets
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click

from gateway.cli import cards
from gateway.cli.gateway import known_profiles, load_config
from gateway.cli.ledger import load_roster
from gateway.cli.output import (
    as_json_option,
    gateway_state_option,
    printable,
    show_facts,
    show_json,
    show_table,
    values,
)
from gateway.cli.reading import open_store
from gateway.config import GatewayConfig
from gateway.devices import Device, fold
from gateway.errors import ConfigError, Unavailable
from gateway.io import clock, control, folder, keyring
from gateway.io.store.readings import FILE, ReadingStore
from gateway.model import Sample
from gateway.onboarding import Candidate, find, find_ports, first_sample
from gateway.profile import Profile
from gateway.recorder import Recorder
from gateway.records import device_record, measurement_record

PORTS = "/dev/serial/by-id"
_NAME_LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"


@click.group()
def device() -> None:
    """Find and onboard sensors, list them, list the kinds that are known."""


@device.command()
@gateway_state_option
@click.option("--address", help="Bluetooth address or serial port; without it, what is near is shown to choose from.")
@click.option("--profile", "profile_name", help="Its kind (iomt device profiles); without it, the one that fits.")
@click.option("--id", "name", help="The name to enrol it under; without it, one is made.")
@click.option("--seconds", type=click.FloatRange(1, 300), default=8.0, show_default=True, help="How long to look.")
@click.option("--ports", default=PORTS, show_default=True, help="Where serial ports are listed.")
@click.option("--no-reading", is_flag=True, help="Enrol without waiting for a first reading.")
@click.option("--yes", is_flag=True, help="Ask nothing.")
@as_json_option
def add(  # noqa: PLR0913, PLR0917 - click's options
    state: Path,
    address: str | None,
    profile_name: str | None,
    name: str | None,
    seconds: float,
    ports: str,
    no_reading: bool,  # noqa: FBT001 - click's flag
    yes: bool,  # noqa: FBT001 - click's flag
    as_json: bool,  # noqa: FBT001 - click's flag
) -> None:
    """Onboard a sensor: find it, show its first reading, enrol it.

    The enrolment is an event in the chain. It works while the gateway runs, and before it was ever started.
    """
    config, profiles = load_config(state), known_profiles(state)
    if address is not None:  # a port's path from anywhere, a Bluetooth address as BlueZ writes it
        address = str(Path(address).absolute()) if "/" in address else address.upper()
    if name is not None:
        cards.checked_name(name)
    asking = not (yes or as_json)
    if address is None or profile_name is None:
        address, profile_name = _choose(config, profiles, address, profile_name, seconds, ports, asking=asking)
    profile = _profile(profiles, profile_name)
    if not no_reading:
        sample = asyncio.run(first_sample(profile, address, max(seconds, 20.0), config.adapter))
        click.echo(printable(f"first reading of {address}: {_shown(sample)}"), err=as_json)
    if asking:
        name = name or click.prompt("name", default=_made_name(profile), err=True)
        question = printable(f"enrol {address} as {name}, {profile.title}?")
        click.confirm(question, default=True, abort=True, err=True)
    enrolled = _enrol(state, config, cards.checked_name(name or _made_name(profile)), profile.name, address)
    if as_json:
        show_json(device_record(enrolled))
    else:
        show_facts(
            [("enrolled", enrolled.id), ("profile", enrolled.profile), ("public key", enrolled.public_key.hex())]
        )


@device.command("list")
@gateway_state_option
@as_json_option
def list_(state: Path, as_json: bool) -> None:  # noqa: FBT001 - click's flag
    """Show the devices that are enrolled; with --json one object a line."""
    devices = _enrolled(state)
    if as_json:
        for entry in devices.values():
            show_json(device_record(entry))
        return
    rows = [(entry.id, entry.profile, entry.address, entry.generation) for entry in devices.values()]
    show_table(("id", "profile", "address", "key generation"), rows)


@device.command()
@gateway_state_option
@click.argument("name")
@as_json_option
def show(state: Path, name: str, as_json: bool) -> None:  # noqa: FBT001 - click's flag
    """Show one device with its public key."""
    found = _enrolled(state).get(name)
    if found is None:
        raise ConfigError(f"device {name} is not enrolled here; iomt device list shows which are")
    record = device_record(found)
    if as_json:
        show_json(record)
    else:
        show_facts([(key.replace("_", " "), value) for key, value in record.items()])


@device.command("profiles")
@gateway_state_option
@as_json_option
def profiles_(state: Path, as_json: bool) -> None:  # noqa: FBT001 - click's flag
    """Show the kinds of device that are known: those that come with iomt, and yours in STATE/profiles."""
    found = known_profiles(state)
    if as_json:
        show_json([_profile_record(profile) for profile in found.values()])
        return
    rows = [(profile.name, profile.transport, profile.decoder, profile.title) for profile in found.values()]
    show_table(("profile", "link", "decoder", "title"), rows)


def _choose(
    config: GatewayConfig,
    profiles: dict[str, Profile],
    address: str | None,
    profile_name: str | None,
    seconds: float,
    ports: str,
    *,
    asking: bool,
) -> tuple[str, str]:
    """Look what is near, and let the person choose what the options leave open."""
    candidates = _look(config, profiles, seconds, ports)
    if address is not None:
        candidates = [candidate for candidate in candidates if candidate.address.lower() == address.lower()]
    elif profile_name is not None:
        candidates = [candidate for candidate in candidates if profile_name in candidate.profiles]
    else:
        candidates = [candidate for candidate in candidates if candidate.profiles]
    if not candidates:
        what = address or "a sensor of a known kind"
        raise Unavailable(f"{what} was not found in {seconds:g} s; is it on, near and not connected?")
    chosen = candidates[0]
    if asking and len(candidates) > 1:
        chosen = _ask_which(candidates)
    elif len(candidates) > 1:
        found = ", ".join(candidate.address for candidate in candidates)
        raise ConfigError(f"{len(candidates)} sensors were found; allowed: --address, one of {found}")
    fits = profile_name or next(iter(chosen.profiles), None)
    if fits is None:
        raise ConfigError(f"no profile fits {chosen.address}; allowed: --profile to say which")
    return chosen.address, fits


def _look(config: GatewayConfig, profiles: dict[str, Profile], seconds: float, ports: str) -> list[Candidate]:
    click.echo(f"looking for sensors for {seconds:g} s ...", err=True)
    try:
        return asyncio.run(find(profiles.values(), seconds, config.adapter, ports))
    except Unavailable as error:
        click.echo(f"no radio: {error}", err=True)
        return find_ports(profiles.values(), ports)


def _ask_which(candidates: list[Candidate]) -> Candidate:
    rows = [
        (
            number,
            candidate.address,
            candidate.name,
            candidate.rssi_dbm or "",
            ", ".join(candidate.profiles[:2]),
        )
        for number, candidate in enumerate(candidates, 1)
    ]
    show_table(("", "address", "name", "signal", "profile"), rows)
    number: int = click.prompt("which", type=click.IntRange(1, len(candidates)), default=1, err=True)
    return candidates[number - 1]


def _enrol(state: Path, config: GatewayConfig, name: str, profile: str, address: str) -> Device:
    """Enrol through the running gateway, else into its store directly: either way the same event."""
    request = {"do": "enrol", "device": name, "profile": profile, "address": address}
    try:
        record = control.call(state / control.SOCKET, request)
    except Unavailable:
        return asyncio.run(_enrol_offline(state, config, name, profile, address))
    return Device(
        id=record["id"],
        profile=record["profile"],
        address=record["address"],
        public_key=bytes.fromhex(record["public_key"]),
        generation=record["generation"],
    )


async def _enrol_offline(state: Path, config: GatewayConfig, name: str, profile: str, address: str) -> Device:
    roster, master = load_roster(state / config.roster), keyring.load_master(state)
    with folder.lock(state), ThreadPoolExecutor(1, thread_name_prefix="store") as executor:
        store = ReadingStore(str(state / FILE))
        recorder = Recorder(store, executor, clock.Clocks(clock.boot_id()), master, config.id, config.chain)
        await recorder.open(roster.ledger)
        enrolled = recorder.enrol(name, profile, address)
        await recorder.commit()
        store.close()
    return enrolled


def _enrolled(state: Path) -> dict[str, Device]:
    store = open_store(state)
    devices = fold(event for _, event in store.events())
    store.close()
    return devices


def _profile(profiles: dict[str, Profile], name: str) -> Profile:
    if name not in profiles:
        raise ConfigError(f"profile {name!r} is not known; allowed: {', '.join(profiles)}")
    return profiles[name]


def _profile_record(profile: Profile) -> dict[str, object]:
    return {
        "name": profile.name,
        "title": profile.title,
        "transport": profile.transport,
        "decoder": profile.decoder,
        "quiet_s": profile.quiet_s,
        "recognise": {"services": profile.services, "names": profile.names, "usb": profile.usb},
        "vitals": [
            {
                "code": vital.code,
                "unit": vital.unit,
                "loinc": vital.loinc,
                "low": float(vital.low),
                "high": float(vital.high),
            }
            for vital in profile.vitals
        ],
    }


def _made_name(profile: Profile) -> str:
    return f"{profile.name[:40]}-" + "".join(secrets.choice(_NAME_LETTERS) for _ in range(4))


def _shown(sample: Sample) -> str:
    return values([measurement_record(measurement) for measurement in sample.measurements])
