"""`iomt init`, `iomt run`, `iomt status`: the gateway of one state folder."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from gateway import signing
from gateway.cli import cards, setup
from gateway.cli.output import as_json_option, gateway_state_option, show_facts, show_json, show_table, values
from gateway.config import GatewayConfig, load_gateway
from gateway.decode import DECODERS
from gateway.errors import ConfigError, Unavailable
from gateway.io import clock, control, folder, keyring, logs
from gateway.io.profiles import load_profiles
from gateway.ledger.policy import describe, read_policy
from gateway.model import Roster
from gateway.profile import Profile
from gateway.reincarnation import settle
from gateway.roster_file import RosterFile

CONFIG = "gateway.toml"
PROFILES = "profiles"


@click.command()
@gateway_state_option
@setup.member_options
@click.option(
    "--recovery-key",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where to write the chain's recovery key. Default: recovery.key in the state folder.",
)
@as_json_option
def init(  # noqa: PLR0913, PLR0917 - click's options
    state: Path,
    name: str,
    organisation: str,
    broker: str,
    roster: Path,
    ca: Path | None,
    certificate: Path | None,
    key: Path | None,
    recovery_key: Path | None,
    as_json: bool,  # noqa: FBT001 - click's flag
) -> None:
    """Make a gateway's secrets, its configuration and the card by which it is admitted."""
    tls = setup.tls_files(ca, certificate, key)
    cards.checked_name(name)
    setup.broker_of(broker, tls, state)
    recovery = recovery_key or state / keyring.RECOVERY
    for path in (state / CONFIG, state / keyring.FILE, recovery):
        if path.exists():
            raise ConfigError(f"{path}: exists already; this folder was initialised before")
    if recovery_key and not recovery_key.parent.is_dir():
        raise ConfigError(f"{recovery_key}: there is no such folder to write it to")
    folder.create(state)
    seed = keyring.create_recovery_key(recovery)
    made = cards.make_member("gateway", keyring.create_master(state), name, organisation)
    chain = f"{name[:48]}.{signing.fingerprint(made.public_key)[:8]}"
    member = replace(made, chain=chain, recovery_key=signing.Key(seed).public_key)
    entries = {"id": name, "chain": chain, "broker": broker, "roster": str(roster.absolute())}
    setup.write_config(state / CONFIG, entries, tls)
    card = state / f"{name}.card"
    cards.write_card(card, "gateway", member)
    if as_json:
        setup.show_card("gateway", member, card, as_json=True, more={"recovery_file": str(recovery)})
        return
    setup.show_card("gateway", member, card, as_json=False, more={"recovery": recovery})
    click.echo("\nThe recovery key closes this chain and opens its next incarnation, if two")
    click.echo("histories were ever signed. Take it to a safe place off this machine.")


@click.command()
@gateway_state_option
@as_json_option
def rekey(state: Path, as_json: bool) -> None:  # noqa: FBT001 - click's flag
    """Make the gateway's next key, and the card by which the ledger takes it over.

    The gateway signs with the key of before until the roster has the new one. Its sensors' keys stay as they are.
    """
    setup.rekey(state, state / CONFIG, "gateway", load_gateway, as_json=as_json)


@click.command()
@gateway_state_option
def run(state: Path) -> None:
    """Run the gateway until SIGTERM or Ctrl-C."""
    from gateway.daemon import Gateway  # noqa: PLC0415 - only this command pays for it

    logs.configure("info")
    config = load_config(state)
    master = keyring.load_master(state)
    broker = setup.broker_of(config.broker, config.tls, state)
    profiles = known_profiles(state)

    async def serve() -> None:
        settle(state)
        roster = RosterFile(state / config.roster, state)
        _require_chain(roster.rosters.current, config)
        gateway = Gateway(
            state,
            config=config,
            broker=broker,
            roster=roster,
            master=master,
            profiles=profiles,
            boot=clock.boot_id(),
        )
        await gateway.run()

    with folder.lock(state):
        asyncio.run(serve())


@click.command()
@gateway_state_option
@as_json_option
def status(state: Path, as_json: bool) -> None:  # noqa: FBT001 - click's flag
    """Show what a running gateway is doing: devices, latest values, blocks, peers."""
    load_config(state)
    try:
        found = control.call(state / control.SOCKET, {"do": "status"})
    except Unavailable as error:
        raise Unavailable(
            f"the gateway of {state} is not running (iomt run, or systemctl start iomt-gateway)"
        ) from error
    if as_json:
        show_json(found)
        return
    show_facts(
        [
            ("gateway", f"{found['gateway']}, chain {found['chain']}"),
            ("broker", found["broker"]),
            ("readings", f"{found['readings']} taken, {found['unsealed']} leaves not sealed yet"),
            ("blocks", f"{found['blocks']} sealed, {found['certified_blocks']} certified"),
            ("peers", _voters(found)),
            ("quorum", describe(read_policy(found["policy"]))),
        ]
    )
    click.echo()
    show_table(("device", "link", "readings", "damaged", "latest"), [device_row(row) for row in found["devices"]])


def load_config(state: Path) -> GatewayConfig:
    """Read a gateway's configuration.

    Raises: ConfigError if it is missing or wrong.
    """
    return load_gateway(folder.read_text(state / CONFIG), str(state / CONFIG))


def known_profiles(state: Path) -> dict[str, Profile]:
    """Give the kinds of device that are known: those that come with iomt, and a person's own in the state folder.

    Raises: ConfigError naming the file and the key that is wrong.
    """
    own = {str(path): folder.read_text(path) for path in (state / PROFILES).glob("*.toml")}
    return load_profiles(frozenset(DECODERS), own)


def device_row(device: dict[str, Any]) -> tuple[object, ...]:
    """Give a device's line of a table of status: its latest numbers, or why there are none."""
    measurements = device["latest"]["measurements"] if device["latest"] else []
    numbers = [measurement for measurement in measurements if not isinstance(measurement["value"], dict)]
    shown = values(numbers) or device["reason"] or "no number yet"
    return (device["id"], device["state"], device["readings"], device["damaged"], shown)


def _require_chain(roster: Roster, config: GatewayConfig) -> None:
    """Check that the roster has this gateway write its chain; the daemon looks whether it has its key, too."""
    if (config.id, config.chain) not in {(member.id, member.chain) for member in roster.gateways}:
        raise ConfigError(f"gateway {config.id} with chain {config.chain} is not on the roster; iomt ledger admit")


def _voters(found: dict[str, Any]) -> str:
    voted = found["voted_last"]
    return f"{len(voted)} of {len(found['peers'])} voted last ({', '.join(voted) or 'none yet'})"
