"""`iomt peer`: set up a ledger peer and run it."""

import asyncio
from pathlib import Path

import click

from gateway import signing
from gateway.cli import cards, setup
from gateway.cli.ledger import load_roster
from gateway.cli.output import as_json_option, show_facts, show_json, state_option
from gateway.config import load_peer
from gateway.errors import ConfigError
from gateway.io import folder, keyring, logs
from gateway.model import Member

CONFIG = "peer.toml"
peer_state_option = state_option("/var/lib/iomt/peer")


@click.group()
def peer() -> None:
    """Set up and run a ledger peer: it votes on what gateways propose, and keeps its own copy."""


@peer.command()
@peer_state_option
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
    """Make a peer's key, its configuration and the card by which it is admitted."""
    tls = setup.tls_files(ca, certificate, key)
    cards.checked_name(name)
    setup.broker_of(broker, tls, state)
    folder.create(state)
    entries = {"id": name, "broker": broker, "roster": str(roster.absolute())}
    setup.write_config(state / CONFIG, entries, tls)
    public_key = signing.derive_key(keyring.create_master(state), "peer", name).public_key
    member = Member(id=name, organisation=organisation or name, public_key=public_key)
    card = state / f"{name}.card"
    cards.write_card(card, "peer", member)
    if as_json:
        show_json({**cards.member_record(member), "card": str(card)})
    else:
        show_facts([("peer", name), ("public key", public_key.hex()), ("card", f"{card}, for iomt ledger admit")])


@peer.command()
@peer_state_option
def run(state: Path) -> None:
    """Run the peer until SIGTERM or Ctrl-C."""
    from gateway.peer import Peer  # noqa: PLC0415 - only this command pays for it

    logs.configure("info")
    config = load_peer(folder.read_text(state / CONFIG), str(state / CONFIG))
    roster = load_roster(state / config.roster)
    master = keyring.load_master(state)
    public_key = signing.derive_key(master, "peer", config.id).public_key
    if public_key not in {member.public_key for member in roster.peers if member.id == config.id}:
        raise ConfigError(f"{state / config.roster}: peer {config.id} with this key is not on it; iomt ledger admit")
    broker = setup.broker_of(config.broker, config.tls, state)

    async def serve() -> None:
        await Peer(state, config.id, broker, roster, master).run()

    with folder.lock(state):
        asyncio.run(serve())
