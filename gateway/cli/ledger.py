"""`iomt ledger`: who belongs. The administrator's key signs the roster; peers and gateways are admitted by card."""

from pathlib import Path
from typing import Any

import click

from gateway import canonical, signing
from gateway.cli import cards
from gateway.cli.checkpoint import checkpoint
from gateway.cli.output import as_json_option, show_facts, show_json, show_table, state_option
from gateway.errors import ConfigError
from gateway.io import folder, keyring
from gateway.ledger.policy import describe, faults, smallest
from gateway.ledger.roster import admitted, ledger_name, open_roster, sign_roster
from gateway.model import NOBODY, Member, Roster

ROSTER = "roster.cose"
FEWEST = 4
"""Organisations that bear a dishonest one: 3f + 1."""

ledger_state_option = state_option("/var/lib/iomt/ledger")


@click.group()
def ledger() -> None:
    """Create a ledger, admit peers and gateways, show who belongs."""


ledger.add_command(checkpoint)


@ledger.command()
@ledger_state_option
@click.option("--name", default="administrator", show_default=True, help="Who signs the roster.")
@as_json_option
def create(state: Path, name: str, as_json: bool) -> None:  # noqa: FBT001 - click's flag
    """Make an administrator's key and a roster without members yet.

    The key stays in the state folder; the roster is public: copy it to every peer and gateway.
    """
    folder.create(state)
    key = _administrator_key(keyring.create_master(state), name)
    member = Member(id=cards.checked_name(name), organisation=name, public_key=key.public_key)
    roster = Roster(
        ledger=ledger_name([member]),
        version=1,
        epoch=0,
        policy=NOBODY,
        administrators=(member,),
        peers=(),
        gateways=(),
    )
    folder.write(state / ROSTER, sign_roster(roster, [key]))
    _show(roster, state / ROSTER, as_json=as_json)


@ledger.command()
@ledger_state_option
@click.argument("card", nargs=-1, required=True, type=click.Path(dir_okay=False, path_type=Path))
@as_json_option
def admit(state: Path, card: tuple[Path, ...], as_json: bool) -> None:  # noqa: FBT001 - click's flag
    """Admit peers and gateways by their cards, and sign the next version of the roster.

    New peers begin a new epoch, and set the policy: of n organisations floor(2n / 3) + 1 are needed, each by its
    one peer or by more than half of its peers. Compare the key on each card with its owner before you admit it, and
    whose peer it is: that is what the ledger rests on.
    """
    roster = open_roster(folder.read_bytes(state / ROSTER))
    admitted_cards = [cards.read_card(path) for path in card]
    peers = [member for kind, member in admitted_cards if kind == "peer"]
    gateways = [member for kind, member in admitted_cards if kind == "gateway"]
    after = admitted(roster, peers, gateways)
    key = _administrator_key(keyring.load_master(state), roster.administrators[0].id)
    folder.write(state / ROSTER, sign_roster(after, [key]))
    _show(after, state / ROSTER, as_json=as_json)


@ledger.command()
@ledger_state_option
@click.option("--roster", type=click.Path(dir_okay=False, path_type=Path), help="A roster file, instead of --state.")
@as_json_option
def show(state: Path, roster: Path | None, as_json: bool) -> None:  # noqa: FBT001 - click's flag
    """Check a roster's signatures and show who belongs, the epoch and the policy."""
    path = roster or state / ROSTER
    _show(open_roster(folder.read_bytes(path)), path, as_json=as_json)


def _administrator_key(master: bytes, name: str) -> signing.Key:
    return signing.derive_key(master, "administrator", name)


def _show(roster: Roster, path: Path, *, as_json: bool) -> None:
    record = roster_record(roster)
    organisations, dishonest, silent = record["n"], record["f_safety"], record["f_liveness"]
    if roster.peers and not min(dishonest, silent):
        click.echo(f"warning: {_too_few(organisations)}", err=True)
    if as_json:
        show_json(record)
        return
    show_facts(
        [
            ("roster", path),
            ("ledger", roster.ledger),
            ("version", f"{roster.version}, epoch {roster.epoch}"),
            ("policy", describe(roster.policy)),
            ("peers", f"{len(roster.peers)}, organisations: {organisations}, a quorum: {record['quorum']} or more"),
            ("bears", f"{dishonest} dishonest (safety), {silent} silent (liveness)"),
        ]
    )
    members = [
        *[("peer", member) for member in roster.peers],
        *[("gateway", member) for member in roster.gateways],
        *[("admin", member) for member in roster.administrators],
    ]
    click.echo()
    rows = [(kind, member.id, member.organisation, member.public_key.hex()[:32]) for kind, member in members]
    show_table(("role", "id", "organisation", "public key (first half)"), rows)


def _too_few(organisations: int) -> str:
    if organisations == FEWEST - 1:
        return f"{organisations} organisations bear no dishonest one: a fourth makes it one"
    if organisations < FEWEST:
        return (
            f"{organisations} organisation{'s bear' if organisations > 1 else ' bears'} no dishonest one: four bear one"
        )
    return f"{organisations} organisations bear no dishonest one by this policy"


def roster_record(roster: Roster) -> dict[str, Any]:
    """Give a roster as JSON shows it: n organisations, and how many of them may be dishonest, or silent."""
    dishonest, silent = faults(roster.policy, roster.peers)
    return {
        "ledger": roster.ledger,
        "version": roster.version,
        "epoch": roster.epoch,
        "policy": canonical.policy_items(roster.policy),
        "quorum": smallest(roster.policy),
        "n": len({member.organisation for member in roster.peers}),
        "f_safety": dishonest,
        "f_liveness": silent,
        "administrators": [cards.member_record(member) for member in roster.administrators],
        "peers": [cards.member_record(member) for member in roster.peers],
        "gateways": [cards.member_record(member) for member in roster.gateways],
    }


def load_roster(path: Path) -> Roster:
    """Read and check a roster for a command that needs one.

    Raises: ConfigError if there is none, VerificationError if it does not hold.
    """
    if not path.exists():
        raise ConfigError(f"{path}: there is no roster here; copy the ledger's {ROSTER} to it")
    return open_roster(folder.read_bytes(path))
