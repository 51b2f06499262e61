"""`iomt device`: find sensors, onboard them, list what is enrolled and which kinds are known."""

from pathlib import Path

import click

from gateway.cli.gateway import known_profiles
from gateway.cli.onboard import add
from gateway.cli.output import as_json_option, gateway_state_option, show_facts, show_json, show_table
from gateway.cli.reading import enrolled
from gateway.errors import ConfigError
from gateway.profile import Line, Profile
from gateway.records import device_record


@click.group()
def device() -> None:
    """Find and onboard sensors, list them, list the kinds that are known."""


device.add_command(add)


@device.command("list")
@gateway_state_option
@as_json_option
def list_(state: Path, as_json: bool) -> None:  # noqa: FBT001 - click's flag
    """Show the devices that are enrolled; with --json one object a line."""
    devices = enrolled(state)
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
    found = enrolled(state).get(name)
    if found is None:
        raise ConfigError(f"device {name} is not enrolled here; iomt device list shows which are")
    record = device_record(found)
    if as_json:
        show_json(record)
        return
    information = record.pop("information")
    facts = [(key.replace("_", " "), value) for key, value in {**record, **information}.items() if value]
    show_facts(facts)


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


def _profile_record(profile: Profile) -> dict[str, object]:
    return {
        "name": profile.name,
        "title": profile.title,
        "transport": profile.transport,
        "decoder": profile.decoder,
        "quiet_s": profile.quiet_s,
        "sampling": {"kind": "intermittent" if profile.intermittent else "continuous", "period_s": profile.period_s},
        "bonding": profile.bonding,
        "clock": profile.clock,
        "records": profile.records,
        "recognise": {
            "services": profile.services,
            "names": profile.names,
            "manufacturers": profile.manufacturers,
            "usb": profile.usb,
        },
        "channels": [{"uuid": channel.uuid, "decoder": channel.decoder} for channel in profile.channels],
        "context": profile.context,
        "line": None if profile.line is None else _line_record(profile.line),
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


def _line_record(line: Line) -> dict[str, object]:
    return {
        "baudrate": line.baudrate,
        "bytesize": line.bytesize,
        "parity": line.parity,
        "stopbits": line.stopbits,
        "start": line.start.hex(),
        "keep_alive": line.keep_alive.hex(),
        "keep_alive_s": line.keep_alive_s,
    }
