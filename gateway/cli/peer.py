"""`iomt peer`: set up a ledger peer, run it, see how it stands, and check its copy."""

import asyncio
from contextlib import closing
from pathlib import Path
from typing import Any

import click

from gateway import canonical, signing
from gateway.cli import cards, setup
from gateway.cli.audit import audit_copy
from gateway.cli.ledger import load_roster
from gateway.cli.output import as_json_option, printable, show_facts, show_json, show_table, state_option
from gateway.config import PeerConfig, load_peer
from gateway.errors import ConfigError, Unavailable
from gateway.io import control, folder, keyring, logs
from gateway.io.store.chains import FILE, ChainStore
from gateway.io.store.database import undamaged
from gateway.ledger.voting import Conflict, Tip
from gateway.model import Member, Roster

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
    config, roster = _load(state)
    master = keyring.load_master(state)
    public_key = signing.derive_key(master, "peer", config.id).public_key
    if public_key not in {member.public_key for member in roster.peers if member.id == config.id}:
        raise ConfigError(f"{state / config.roster}: peer {config.id} with this key is not on it; iomt ledger admit")
    broker = setup.broker_of(config.broker, config.tls, state)

    async def serve() -> None:
        await Peer(state, config.id, broker, roster, master).run()

    with folder.lock(state):
        asyncio.run(serve())


@peer.command()
@peer_state_option
@as_json_option
def status(state: Path, as_json: bool) -> None:  # noqa: FBT001 - click's flag
    """Show how far a peer has voted on each chain, and, if it runs, when it last heard of each."""
    config, roster = _load(state)
    try:
        running = control.call(state / control.SOCKET, {"do": "status"})
    except Unavailable:
        running = {}
    chains = _chain_records(state / FILE, roster, running.get("heard_ms_ago", {}))
    if as_json:
        record = {"peer": config.id, "running": bool(running), "broker": running.get("broker")}
        show_json({**record, "epoch": roster.epoch, "chains": chains})
        return
    runs = f"running, broker {running['broker']}" if running else "not running (iomt peer run)"
    show_facts([("peer", f"{config.id}, roster epoch {roster.epoch}"), ("state", runs)])
    click.echo()
    columns = ("chain", "gateway", "blocks", "leaves", "tip root", "heard", "state")
    show_table(columns, [_chain_row(record) for record in chains])
    for record in chains:
        if record["evidence"]:
            click.echo(f"\n{printable(record['chain'])} is frozen: its gateway signed two histories")
            show_table(("height", "proposal"), [(each["height"], each["proposal"]) for each in record["evidence"]])


@peer.command()
@peer_state_option
@click.option("--chain", help="Only this one.")
@click.option(
    "--against",
    multiple=True,
    type=click.Path(exists=True, path_type=Path),
    help="Another peer's state folder, or its file, to compare with; any number of times.",
)
@as_json_option
def audit(state: Path, chain: str | None, against: tuple[Path, ...], as_json: bool) -> None:  # noqa: FBT001 - click's flag
    """Check every signature, hash and vote of a peer's own copy, whether or not the peer runs."""
    config, roster = _load(state)
    audit_copy(state / FILE, roster, config.id, chain, against, as_json=as_json)


def _load(state: Path) -> tuple[PeerConfig, Roster]:
    config = load_peer(folder.read_text(state / CONFIG), str(state / CONFIG))
    return config, load_roster(state / config.roster)


def _chain_records(path: Path, roster: Roster, heard_ms_ago: dict[str, int]) -> list[dict[str, Any]]:
    """Give how every chain stands that is on the roster or in the copy; a peer that never ran has no copy yet."""
    gateways = {gateway.chain or "": gateway.id for gateway in roster.gateways}
    if not path.exists():
        return [_chain_record(Tip(chain=chain), name, None, None) for chain, name in gateways.items()]
    with closing(ChainStore(str(path), read_only=True)) as store:
        store.hold()
        return [
            _chain_record(store.tip(chain), gateways.get(chain), store.evidence(chain), heard_ms_ago.get(chain))
            for chain in sorted(gateways.keys() | store.kept().keys())
        ]


def _chain_record(tip: Tip, gateway: str | None, evidence: Conflict | None, heard_ms_ago: int | None) -> dict[str, Any]:
    proposals = [] if evidence is None else [evidence.first, evidence.second]
    return {
        "chain": tip.chain,
        "gateway": gateway,
        "blocks": tip.next_height,
        "leaves": tip.frontier.size,
        "root": tip.frontier.root().hex(),
        "frozen": tip.frozen,
        "evidence": [_proposal_record(signed) for signed in proposals],
        "heard_ms_ago": heard_ms_ago,
    }


def _proposal_record(signed: bytes) -> dict[str, Any]:
    with undamaged("evidence"):
        block = canonical.decode_block(signing.parse(signed).payload or b"")
    return {
        "height": block.height,
        "start": block.start,
        "size": block.size,
        "root": block.root.hex(),
        "proposal": signing.fingerprint(signed),
    }


def _chain_row(record: dict[str, Any]) -> tuple[object, ...]:
    heard_ms = record["heard_ms_ago"]
    return (
        _cut(record["chain"], 20),
        _cut(record["gateway"] or "unknown", 11),
        record["blocks"],
        record["leaves"],
        record["root"][:8],
        "-" if heard_ms is None else _ago(heard_ms),
        "frozen" if record["frozen"] else "open",
    )


def _cut(text: str, width: int) -> str:
    """Give a name in at most so many characters: its end tells chains of long names apart."""
    return text if len(text) <= width else f"{text[: width - 9]}~{text[-8:]}"


def _ago(ms: int) -> str:
    """Give a span in its largest unit, in at most four characters for three years."""
    for unit, span_ms in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000)):
        if ms >= 2 * span_ms:
            return f"{ms // span_ms}{unit}"
    return f"{ms // 1000}s"
