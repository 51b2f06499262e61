"""`iomt ledger`: who belongs. Administrators sign each version of the roster; members are admitted by card."""

from pathlib import Path

import click

from gateway.cli import cards
from gateway.cli.checkpoint import checkpoint
from gateway.cli.drafts import ROLE, keys_of, publish, sign_draft, signer
from gateway.cli.output import as_json_option, show_facts, show_json, state_option
from gateway.cli.reincarnate import reincarnate
from gateway.cli.rosters import ROSTER, load_rosters, show_changes, show_rosters
from gateway.errors import ConfigError
from gateway.io import folder, keyring
from gateway.ledger import changes
from gateway.ledger.policy import parse_policy
from gateway.ledger.roster import card_fingerprint, ledger_name, open_version, sign_version
from gateway.ledger.rosters import Rosters
from gateway.model import NOBODY, Member, Policy, Roster

ledger_state_option = state_option("/var/lib/iomt/ledger")
_FILE = click.Path(dir_okay=False, path_type=Path)
_name_option = click.option("--name", default=ROLE, show_default=True, help="Who signs with it.")
_policy_option = click.option("--policy", help="Whose votes are needed, such as '2 of lab, (2 of a-1, a-2, a-3)'.")
_cards_argument = click.argument("card", nargs=-1, required=True, type=_FILE)


@click.group()
def ledger() -> None:
    """Create a ledger, change who belongs, sign that, show it."""


@ledger.command()
@ledger_state_option
@_name_option
@as_json_option
def create(state: Path, name: str, as_json: bool) -> None:  # noqa: FBT001 - click's flag
    """Make an administrator's key and a roster without members yet.

    The key stays in the state folder; the roster is public: copy it to every peer and gateway.
    """
    cards.checked_name(name)
    folder.create(state)
    master = keyring.create_master(state)
    member = cards.make_member(ROLE, master, name)
    roster = Roster(
        ledger=ledger_name([member]),
        version=1,
        epoch=0,
        policy=NOBODY,
        administrators=(member,),
        peers=(),
        gateways=(),
    )
    rosters = Rosters((open_version(sign_version(roster, {name: keys_of(master, name)})),))
    folder.write(state / ROSTER, rosters.encode())
    show_rosters(rosters, state / ROSTER, as_json=as_json)


@ledger.command()
@ledger_state_option
@_name_option
@as_json_option
def key(state: Path, name: str, as_json: bool) -> None:  # noqa: FBT001 - click's flag
    """Make the key of one more administrator, on their own machine, and its card.

    Whoever is one already puts the card into iomt ledger administrators. Copy the ledger's roster.cose to the state
    folder, to sign with iomt ledger sign.
    """
    cards.checked_name(name)
    folder.create(state)
    member = cards.make_member(ROLE, keyring.create_master(state), name)
    card = state / f"{name}.card"
    cards.write_card(card, ROLE, member)
    if as_json:
        show_json({**cards.member_record(member), "card": str(card)})
        return
    show_facts([(ROLE, name), ("fingerprint", card_fingerprint(member)), ("card", f"{card}, for the others")])


@ledger.command()
@ledger_state_option
@_cards_argument
@_policy_option
@as_json_option
def admit(state: Path, card: tuple[Path, ...], policy: str | None, as_json: bool) -> None:  # noqa: FBT001 - click's flag
    """Admit peers and gateways by their cards.

    New peers begin a new epoch. Without --policy, of n organisations floor(2n / 3) + 1 are needed, each by its one
    peer or by more than half of its peers. Compare the fingerprint of each card with its owner before you admit it,
    and whose peer it is: that is what the ledger rests on.
    """
    found = cards.read_cards(card, "peer", "gateway")
    peers = [member for kind, member in found if kind == "peer"]
    gateways = [member for kind, member in found if kind == "gateway"]
    rosters = load_rosters(state / ROSTER)
    publish(state, rosters, changes.admitted(rosters.current, peers, gateways, _read(policy)), as_json=as_json)


@ledger.command()
@ledger_state_option
@click.argument("name", nargs=-1, required=True)
@_policy_option
@as_json_option
def retire(state: Path, name: tuple[str, ...], policy: str | None, as_json: bool) -> None:  # noqa: FBT001 - click's flag
    """Take peers and gateways off the roster, which begins a new epoch.

    What they signed in earlier epochs stays valid. Without --policy, the default one of those who stay is set.
    """
    rosters = load_rosters(state / ROSTER)
    publish(state, rosters, changes.retired(rosters.current, name, _read(policy)), as_json=as_json)


@ledger.command()
@ledger_state_option
@click.argument("card", type=_FILE)
@as_json_option
def rekey(state: Path, card: Path, as_json: bool) -> None:  # noqa: FBT001 - click's flag
    """Give a peer or gateway the new keys of its card, which begins a new epoch.

    The card comes of iomt rekey, or iomt peer rekey. Compare its fingerprint with its owner.
    """
    ((_, member),) = cards.read_cards((card,), "peer", "gateway")
    rosters = load_rosters(state / ROSTER)
    publish(state, rosters, changes.rekeyed(rosters.current, member), as_json=as_json)


@ledger.command("policy")
@ledger_state_option
@click.argument("expression")
@as_json_option
def set_policy(state: Path, expression: str, as_json: bool) -> None:  # noqa: FBT001 - click's flag
    """Say whose votes make a block final, which begins a new epoch.

    In quotation marks: '2 of lab, regulator, (2 of st-anna-1, st-anna-2, st-anna-3)'.
    """
    rosters = load_rosters(state / ROSTER)
    publish(state, rosters, changes.with_policy(rosters.current, parse_policy(expression)), as_json=as_json)


@ledger.command("post-quantum")
@ledger_state_option
@as_json_option
def post_quantum(state: Path, as_json: bool) -> None:  # noqa: FBT001 - click's flag
    """Have all blocks and votes signed with ML-DSA-44, too, from a new epoch on."""
    rosters = load_rosters(state / ROSTER)
    publish(state, rosters, changes.post_quantum(rosters.current), as_json=as_json)


@ledger.command()
@ledger_state_option
@click.argument("who", nargs=-1, required=True)
@click.option("--threshold", type=int, required=True, help="How many of them must sign each later version.")
@as_json_option
def administrators(state: Path, who: tuple[str, ...], threshold: int, as_json: bool) -> None:  # noqa: FBT001 - click's flag
    """Say who the administrators are: each by name, or by card who is not one yet.

    Whoever is not named is none any more. Enough of those of before must sign it, and enough of those to be.
    """
    rosters = load_rosters(state / ROSTER)
    members = [_administrator(rosters.current, each) for each in who]
    publish(state, rosters, changes.with_administrators(rosters.current, members, threshold), as_json=as_json)


@ledger.command()
@ledger_state_option
@click.argument("draft", type=_FILE)
@click.option("--yes", is_flag=True, help="Do not ask.")
@as_json_option
def sign(state: Path, draft: Path, yes: bool, as_json: bool) -> None:  # noqa: FBT001 - click's flag
    """Sign the next version of the roster, after showing what it changes.

    Needs the ledger's roster.cose in the state folder. The last signature that is needed makes it the roster.
    """
    if as_json and not yes:
        raise click.UsageError("--json asks nothing: it goes with --yes.")
    rosters = load_rosters(state / ROSTER)
    after = rosters.draft(folder.read_bytes(draft))
    signer(state, rosters, after)
    if not as_json:
        show_changes(rosters.current, after)
    if not yes:
        click.confirm(f"Sign version {after.version}?", abort=True)
    sign_draft(state, draft, rosters, after, as_json=as_json)


@ledger.command()
@ledger_state_option
@click.option("--roster", type=_FILE, help="A roster file, instead of --state.")
@as_json_option
def show(state: Path, roster: Path | None, as_json: bool) -> None:  # noqa: FBT001 - click's flag
    """Check a roster's signatures and show who belongs, the epoch and the policy."""
    path = roster or state / ROSTER
    show_rosters(load_rosters(path), path, as_json=as_json)


ledger.add_command(checkpoint)
ledger.add_command(reincarnate)


def _read(policy: str | None) -> Policy | None:
    return None if policy is None else parse_policy(policy)


def _administrator(roster: Roster, who: str) -> Member:
    for member in roster.administrators:
        if member.id == who:
            return member
    if not Path(who).exists():
        raise ConfigError(f"{who}: no administrator on the roster has that name, and no card is there")
    ((_, member),) = cards.read_cards((Path(who),), ROLE)
    return member
