"""`iomt peer`: set up a ledger peer, run it, see how it stands, and check its copy."""

import asyncio
from contextlib import closing
from pathlib import Path

import click

from gateway.cli import cards, setup
from gateway.cli.audit import audit_copy
from gateway.cli.output import as_json_option, show_facts, show_json, state_option
from gateway.cli.proof import prove_leaf
from gateway.cli.rosters import load_rosters
from gateway.cli.standing import chain_statuses, record_of, show_statuses
from gateway.config import PeerConfig, load_peer
from gateway.errors import ConfigError, Unavailable, VerificationError
from gateway.io import control, folder, keyring, logs
from gateway.io.store.chains import ChainStore, is_there, location
from gateway.io.store.database import undamaged
from gateway.ledger.evidence import encode_evidence, open_evidence
from gateway.ledger.member_keys import MemberKeys
from gateway.ledger.rosters import Rosters
from gateway.ledger.standing import Word, roster_of_chain
from gateway.ledger.voting import Conflict
from gateway.roster_file import RosterFile

CONFIG = "peer.toml"
_FILE = click.Path(dir_okay=False, path_type=Path)

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
    member = cards.make_member("peer", keyring.create_master(state), name, organisation)
    card = state / f"{name}.card"
    cards.write_card(card, "peer", member)
    setup.show_card("peer", member, card, as_json=as_json)


@peer.command()
@peer_state_option
@as_json_option
def rekey(state: Path, as_json: bool) -> None:  # noqa: FBT001 - click's flag
    """Make the peer's next key, and the card by which the ledger takes it over.

    The peer signs with the key of before until the roster has the new one.
    """
    setup.rekey(state, state / CONFIG, "peer", load_peer, as_json=as_json)


@peer.command()
@peer_state_option
def run(state: Path) -> None:
    """Run the peer until SIGTERM or Ctrl-C."""
    from gateway.peer import Peer  # noqa: PLC0415 - only this command pays for it

    logs.configure("info")
    config = load_peer(folder.read_text(state / CONFIG), str(state / CONFIG))
    keys = MemberKeys(keyring.load_master(state), "peer", config.id, config.generation)
    broker = setup.broker_of(config.broker, config.tls, state)

    async def serve() -> None:
        roster = RosterFile(state / config.roster, state)
        keys.require_ever(roster.rosters)
        await Peer(state, config.id, broker, roster, keys, store=config.store, worker=config.worker).run()

    with folder.lock(state):
        asyncio.run(serve())


@peer.command()
@peer_state_option
@as_json_option
def status(state: Path, as_json: bool) -> None:  # noqa: FBT001 - click's flag
    """Show how far a peer has voted on each chain, and, if it runs, when it last heard of each."""
    config, rosters = _load(state)
    try:
        running = control.call(state / control.SOCKET, {"do": "status"})
    except Unavailable:
        running = {}
    current = rosters.current
    belongs = config.id in {member.id for member in current.peers}
    statuses = chain_statuses(location(state, config.store), rosters, running.get("heard_ms_ago", {}))
    if as_json:
        record = {"peer": config.id, "running": bool(running), "broker": running.get("broker")}
        chains = [record_of(status) for status in statuses]
        show_json({**record, "epoch": current.epoch, "on_roster": belongs, "chains": chains})
        return
    runs = f"running, broker {running['broker']}" if running else "not running (iomt peer run)"
    roster = f"roster epoch {current.epoch}" if belongs else f"not on the roster of epoch {current.epoch}"
    show_facts([("peer", f"{config.id}, {roster}"), ("state", runs)])
    click.echo()
    show_statuses(statuses)


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
    config, rosters = _load(state)
    audit_copy(location(state, config.store), rosters, config.id, chain, against, as_json=as_json)


@peer.command()
@peer_state_option
@click.argument("chain")
@click.option("--output", "-o", type=_FILE, help="The file to write. Default: CHAIN.evidence, here.")
@as_json_option
def evidence(state: Path, chain: str, output: Path | None, as_json: bool) -> None:  # noqa: FBT001 - click's flag
    """Write what proves that a chain's gateway signed two histories: iomt verify evidence checks it.

    Exit code 1 if this peer has no evidence against the chain.
    """
    config, rosters = _load(state)
    with closing(_opened(state, config)) as store:
        incarnation, found = _evidence(store, rosters, chain)
    with undamaged(f"the evidence against chain {chain}"):
        proved = open_evidence(roster_of_chain(rosters, chain), found.first, found.second)
    file = output or Path(f"{chain}.evidence")
    folder.write(file, encode_evidence(found.first, found.second))
    if as_json:
        record = {"chain": chain, "incarnation": incarnation, "gateway": proved.gateway.id}
        show_json({**record, "contradiction": proved.contradiction, "file": str(file)})
    else:
        facts = [("gateway", f"{proved.gateway.id}, incarnation {incarnation} of chain {chain}")]
        show_facts([*facts, ("signed", proved.contradiction), ("written", file)])


@peer.command()
@peer_state_option
@click.argument("leaf", type=_FILE)
@click.option("--enrolment", type=_FILE, help="Of a reading: the event that enrolled its device, if LEAF has it not.")
@click.option("--output", "-o", type=_FILE, help="The file to write. Default: LEAF.proof")
@as_json_option
def prove(state: Path, leaf: Path, enrolment: Path | None, output: Path | None, as_json: bool) -> None:  # noqa: FBT001 - click's flag
    """Prove a reading or an event from this peer's own copy, as iomt export does where the gateway is still there.

    LEAF is a file with the leaf's bytes or an exported reading, whose receipts are made anew. iomt verify checks what
    comes of it.
    """
    config, rosters = _load(state)
    with closing(_opened(state, config)) as store:
        given = None if enrolment is None else folder.read_bytes(enrolment)
        data, proven = prove_leaf(store, rosters, folder.read_bytes(leaf), given)
    file = output or leaf.with_name(f"{leaf.name}.proof")
    folder.write(file, data)
    position, voters = proven.position, [vote.peer for vote in proven.votes]
    if as_json:
        record = {"chain": position.chain, "incarnation": position.incarnation, "index": position.index}
        show_json({**record, "height": position.height, "votes": voters, "file": str(file), "bytes": len(data)})
        return
    place = f"leaf {position.index} of chain {position.chain}, incarnation {position.incarnation}"
    show_facts(
        [
            ("proved", f"{place}, block {position.height}"),
            ("signed by", f"{', '.join(voters)}, roster epoch {position.epoch}"),
            ("written", f"{file}, {len(data)} bytes"),
        ]
    )


def _load(state: Path) -> tuple[PeerConfig, Rosters]:
    config = load_peer(folder.read_text(state / CONFIG), str(state / CONFIG))
    return config, load_rosters(state / config.roster, state)


def _opened(state: Path, config: PeerConfig) -> ChainStore:
    copy = location(state, config.store)
    if not is_there(copy):
        raise ConfigError(f"{copy}: there is no peer's copy here")
    return ChainStore(copy, read_only=True)


def _evidence(store: ChainStore, rosters: Rosters, chain: str) -> tuple[int, Conflict]:
    """Give the evidence of the latest incarnation of which there is any.

    Raises: VerificationError if there is none, ConfigError if there is no such chain.
    """
    latest = store.incarnation(chain)
    for incarnation in range(latest, -1, -1):
        found = store.evidence(chain, incarnation)
        if found is not None:
            return incarnation, found
    chains = {*store.chains(), *(gateway.chain for roster in rosters.versions for gateway in roster.gateways)}
    if chain not in chains:
        raise ConfigError(f"there is no chain {chain!r} here")
    if (0, Word.CAUSE) in store.words(chain, latest):
        raise VerificationError(f"chain {chain} is frozen for its recovery key's demand: no evidence of two histories")
    raise VerificationError(f"there is no evidence against chain {chain}: this peer has heard one history of it")
