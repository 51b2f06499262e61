"""`iomt device add`: find a sensor, bond with it where its kind wants that, show its first reading, enrol it."""

import asyncio
import secrets
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click

from gateway.cli import cards
from gateway.cli.gateway import known_profiles, load_config
from gateway.cli.output import (
    as_json_option,
    gateway_state_option,
    printable,
    show_facts,
    show_json,
    show_table,
    values,
)
from gateway.cli.reading import enrolled_addresses
from gateway.config import GatewayConfig
from gateway.devices import Device, Known
from gateway.errors import ConfigError, Unavailable
from gateway.io import clock, control, folder, keyring
from gateway.io.store.readings import FILE, ReadingStore
from gateway.ledger.member_keys import MemberKeys
from gateway.onboarding import Candidate, First, find, find_ports, first_reading
from gateway.profile import Bonding, Profile, Transport
from gateway.recorder import Recorder
from gateway.records import device_record, known_of, measurement_record
from gateway.reincarnation import settle
from gateway.roster_file import RosterFile
from gateway.sources import Source

PORTS = "/dev/serial/by-id"
BOND_LIMIT_S = 60.0
SHORTEST_WAIT_S = 20.0
MEASURE_WAIT_S = 120.0
_NAME_LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"


@click.command()
@gateway_state_option
@click.option("--address", help="Bluetooth address or serial port; without it, what is near is shown to choose from.")
@click.option("--profile", "profile_name", help="Its kind (iomt device profiles); without it, the one that fits.")
@click.option("--id", "name", help="The name to enrol it under; without it, one is made.")
@click.option("--seconds", type=click.FloatRange(1, 300), default=8.0, show_default=True, help="How long to look.")
@click.option("--ports", default=PORTS, show_default=True, help="Where serial ports are listed.")
@click.option("--sensor-key", help="Public key, in hex, of a sensor that signs its own statements.")
@click.option(
    "--bind-key-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File with the key, in hex, of a sensor that encrypts what it advertises.",
)
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
    sensor_key: str | None,
    bind_key_file: Path | None,
    no_reading: bool,  # noqa: FBT001 - click's flag
    yes: bool,  # noqa: FBT001 - click's flag
    as_json: bool,  # noqa: FBT001 - click's flag
) -> None:
    """Onboard a sensor: find it, bond with it, show its first reading, enrol it.

    The enrolment is an event in the chain. It works while the gateway runs, and before it was ever started.
    """
    config, profiles = load_config(state), known_profiles(state)
    if address is not None:  # a port's path from anywhere, a Bluetooth address as BlueZ writes it
        address = str(Path(address).absolute()) if "/" in address else address.upper()
    if name is not None:
        cards.checked_name(name)
    asking = not (yes or as_json)
    if address is None or profile_name is None:
        found = _look(config, profiles, seconds, str(Path(ports).absolute()))
        known_here = enrolled_addresses(state)
        new = [candidate for candidate in found if candidate.address not in known_here]
        address, profile_name = _choose(new, address, profile_name, seconds, asking=asking)
    profile = _profile(profiles, profile_name)
    bind_key = None if bind_key_file is None else _hexadecimal(folder.read_text(bind_key_file), str(bind_key_file))
    known = Known(sensor_key=_sensor_key(profile, sensor_key, asking=asking), bond=_bond(config, profile, address))
    frames: tuple[tuple[str, bytes], ...] = ()
    if not no_reading:
        first = _first(config, profile, address, seconds, known, bind_key)
        click.echo(printable(f"first reading of {address}: {_shown(first)}"), err=as_json)
        known = Known(sensor_key=known.sensor_key, bond=known.bond, information=first.information)
        frames = first.frames if profile.intermittent else ()
    if asking:
        name = name or click.prompt("name", default=_made_name(profile), err=True)
        question = printable(f"enrol {address} as {name}, {profile.title}?")
        click.confirm(question, default=True, abort=True, err=True)
    name = cards.checked_name(name or _made_name(profile))
    if bind_key is not None:
        keyring.save_bind_key(state, name, bind_key)
    device = _enrol(state, config, profile, Device(
        id=name, profile=profile.name, address=address, public_key=b"", generation=0,
        sensor_key=known.sensor_key, bond=known.bond, information=known.information,
    ), frames)  # fmt: skip
    if as_json:
        show_json(device_record(device))
    else:
        show_facts([("enrolled", device.id), ("profile", device.profile), ("public key", device.public_key.hex())])


def _choose(
    candidates: list[Candidate], address: str | None, profile_name: str | None, seconds: float, *, asking: bool
) -> tuple[str, str]:
    """Let the person choose, of what is near, what the options leave open."""
    if address is not None:
        candidates = [candidate for candidate in candidates if candidate.address.lower() == address.lower()]
    elif profile_name is not None:
        candidates = [candidate for candidate in candidates if profile_name in candidate.profiles]
    else:
        candidates = [candidate for candidate in candidates if candidate.profiles]
    if not candidates:
        what = address or "a new sensor of a known kind"
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


def _bond(config: GatewayConfig, profile: Profile, address: str) -> str:
    """Bond with a device whose kind wants it; give how, "" where nothing was asked for."""
    if profile.transport is not Transport.BLE or profile.bonding is Bonding.NONE:
        return ""
    from gateway.io.bluetooth.bonding import bond  # noqa: PLC0415 - whoever bonds with nothing does not pay for bleak

    click.echo(f"bonding with {address}: it may have to be in its pairing mode ...", err=True)
    strict = profile.bonding is Bonding.AUTHENTICATED
    adapter = config.adapter
    try:
        made = asyncio.run(
            bond(address, _Technician(), adapter=adapter, limit_s=BOND_LIMIT_S, require_authenticated=strict)
        )
    except Unavailable:
        if profile.bonding is not Bonding.WANTED:
            raise
        click.echo(f"{address} does not bond: its readings will carry the flag unauthenticated-link", err=True)
        return ""
    return str(made)


class _Technician:
    """The person at the terminal, asked while a sensor bonds."""

    async def confirm(self, passkey: str) -> bool:
        """Ask whether the device shows the same number."""
        question = f"does the device show {passkey}?"
        return await asyncio.to_thread(click.confirm, question, default=False, err=True)

    async def show(self, passkey: str) -> None:
        """Show what is to be typed into the device."""
        click.echo(f"type {passkey} into the device", err=True)

    async def ask(self) -> str:
        """Ask for what the device shows."""
        return str(await asyncio.to_thread(click.prompt, "the number that the device shows", err=True))


def _first(
    config: GatewayConfig, profile: Profile, address: str, seconds: float, known: Known, bind_key: bytes | None
) -> First:
    wait_s = max(seconds, MEASURE_WAIT_S if profile.intermittent else SHORTEST_WAIT_S)
    if profile.intermittent:
        click.echo(f"take a measurement with it now, within {wait_s:g} s ...", err=True)
    return asyncio.run(first_reading(profile, address, wait_s, config.adapter, known, bind_key))


def _sensor_key(profile: Profile, given: str | None, *, asking: bool) -> bytes | None:
    if given is None and profile.signs:
        if not asking:
            raise ConfigError(f"{profile.name} signs its own statements; allowed: --sensor-key, its public key in hex")
        given = click.prompt("public key of the sensor, in hex", err=True)
    if given is None:
        return None
    key = _hexadecimal(given, "--sensor-key")
    if len(key) not in {32, 33, 65}:
        raise ConfigError(f"--sensor-key has {len(key)} bytes; allowed: 32 (Ed25519), 33 or 65 (P-256)")
    return key


def _hexadecimal(text: str, where: str) -> bytes:
    try:
        return bytes.fromhex(text.strip())
    except ValueError as error:
        raise ConfigError(f"{where}: not hexadecimal; allowed: two digits 0-9 a-f for each byte") from error


def _enrol(
    state: Path, config: GatewayConfig, profile: Profile, device: Device, frames: Sequence[tuple[str, bytes]]
) -> Device:
    """Enrol through the running gateway, else into its store directly: either way the same event.

    `frames` are the first measurement of a device that sends it only once.
    """
    request = {
        "do": "enrol",
        "device": device.id,
        "profile": device.profile,
        "address": device.address,
        "heard": [[uuid, frame.hex()] for uuid, frame in frames],
    }
    learnt = {key: value for key, value in device_record(device).items() if key not in {*request, "id", "public_key"}}
    try:
        record = control.call(state / control.SOCKET, {**request, **learnt})
    except Unavailable:
        return asyncio.run(_enrol_offline(state, config, profile, device, frames))
    known = known_of(record)
    return Device(
        id=record["id"],
        profile=record["profile"],
        address=record["address"],
        public_key=bytes.fromhex(record["public_key"]),
        generation=record["generation"],
        sensor_key=known.sensor_key,
        bond=known.bond,
        information=known.information,
    )


async def _enrol_offline(
    state: Path, config: GatewayConfig, profile: Profile, device: Device, frames: Sequence[tuple[str, bytes]]
) -> Device:
    master = keyring.load_master(state)
    with folder.lock(state), ThreadPoolExecutor(1, thread_name_prefix="store") as executor:
        settle(state)
        roster = RosterFile(state / config.roster, state).rosters.current
        store = ReadingStore(str(state / FILE))
        clocks = clock.Clocks(clock.boot_id())
        recorder = Recorder(store, executor, clocks, master, config.id, config.chain, generations=config.generation)
        keys = MemberKeys(master, "gateway", config.id, config.generation).of(roster)
        if keys is not None:  # else it is not admitted yet
            recorder.sign_with(keys)
        await recorder.open(roster.ledger)
        known = Known(sensor_key=device.sensor_key, bond=device.bond, information=device.information)
        enrolled = recorder.enrol(device.id, device.profile, device.address, known)
        Source(enrolled, profile, recorder, deque()).take_first(frames)
        await recorder.commit()
        store.close()
    return enrolled


def _profile(profiles: dict[str, Profile], name: str) -> Profile:
    if name not in profiles:
        raise ConfigError(f"profile {name!r} is not known; allowed: {', '.join(profiles)}")
    return profiles[name]


def _made_name(profile: Profile) -> str:
    return f"{profile.name[:40]}-" + "".join(secrets.choice(_NAME_LETTERS) for _ in range(4))


def _shown(first: First) -> str:
    return values([measurement_record(measurement) for measurement in first.sample.measurements])
