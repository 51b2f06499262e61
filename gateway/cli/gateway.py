"""`iomt init`, `iomt run`, `iomt status`: the gateway of one state folder."""

import asyncio
from pathlib import Path
from typing import Any

import click

from gateway import canonical, signing
from gateway.cli import cards, setup
from gateway.cli.ledger import load_roster
from gateway.cli.output import as_json_option, gateway_state_option, show_facts, show_json, show_table, values
from gateway.config import GatewayConfig, load_gateway
from gateway.decode import DECODERS
from gateway.errors import ConfigError, Unavailable
from gateway.io import clock, control, folder, keyring, logs
from gateway.io.profiles import load_profiles
from gateway.ledger.policy import describe
from gateway.model import Member
from gateway.profile import Profile

CONFIG = "gateway.toml"
PROFILES = "profiles"


@click.command()
@gateway_state_option
@setup.member_options
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
    as_json: bool,  # noqa: FBT001 - click's flag
) -> None:
    """Make a gateway's master secret, its configuration and the card by which it is admitted."""
    tls = setup.tls_files(ca, certificate, key)
    cards.checked_name(name)
    setup.broker_of(broker, tls, state)
    folder.create(state)
    if (state / CONFIG).exists():
        raise ConfigError(f"{state / CONFIG}: exists already; this folder was initialised before")
    public_key = signing.derive_key(keyring.create_master(state), "gateway", name).public_key
    chain = f"{name[:48]}.{signing.fingerprint(public_key)[:8]}"
    entries = {"id": name, "chain": chain, "broker": broker, "roster": str(roster.absolute())}
    setup.write_config(state / CONFIG, entries, tls)
    member = Member(id=name, organisation=organisation or name, public_key=public_key, chain=chain)
    card = state / f"{name}.card"
    cards.write_card(card, "gateway", member)
    if as_json:
        show_json({**cards.member_record(member), "card": str(card)})
        return
    facts = [("gateway", name), ("chain", chain), ("public key", public_key.hex())]
    show_facts([*facts, ("card", f"{card}, for iomt ledger admit")])


@click.command()
@gateway_state_option
def run(state: Path) -> None:
    """Run the gateway until SIGTERM or Ctrl-C."""
    from gateway.daemon import Gateway  # noqa: PLC0415 - only this command pays for it

    logs.configure("info")
    config = load_config(state)
    roster = load_roster(state / config.roster)
    master = keyring.load_master(state)
    public_key = signing.derive_key(master, "gateway", config.id).public_key
    if public_key not in {member.public_key for member in roster.gateways if member.chain == config.chain}:
        raise ConfigError(f"{state / config.roster}: gateway {config.id} with this key is not on it; iomt ledger admit")
    broker = setup.broker_of(config.broker, config.tls, state)
    profiles = known_profiles(state)

    async def serve() -> None:
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
            ("quorum", describe(canonical.read_policy(found["policy"]))),
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


def _voters(found: dict[str, Any]) -> str:
    voted = found["voted_last"]
    return f"{len(voted)} of {len(found['peers'])} voted last ({', '.join(voted) or 'none yet'})"
