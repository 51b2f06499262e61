"""Rosters as commands read and show them: who belongs, what becomes of whom, what a ledger bears."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import click

from gateway.cli import cards
from gateway.cli.output import printable, show_facts, show_json, show_table
from gateway.errors import ConfigError, VerificationError
from gateway.io import folder
from gateway.ledger.changes import Change, Kind, changes
from gateway.ledger.policy import describe, faults, policy_items, smallest
from gateway.ledger.roster import card_fingerprint, signers
from gateway.ledger.rosters import Rosters, open_rosters
from gateway.model import Roster
from gateway.roster_file import KNOWN

ROSTER = "roster.cose"
FEWEST = 4
"""Organisations that bear a dishonest one: 3f + 1."""

_FIELDS = {
    "organisation": "organisation",
    "public_key": "Ed25519 key",
    "chain": "chain",
    "second_key": "ML-DSA-44 key",
    "recovery_key": "recovery key",
    "former_keys": "former keys",
}


def load_rosters(path: Path, state: Path | None = None) -> Rosters:
    """Read and check a roster file; with the state folder of a peer or gateway, also what it has heard since.

    Raises: ConfigError if there is none, VerificationError if it does not hold.
    """
    known = None if state is None else state / KNOWN
    if known is not None and known.exists():
        rosters = open_rosters(folder.read_bytes(known))
        if not path.exists():
            return rosters
        try:
            return rosters.updated(folder.read_bytes(path))
        except VerificationError as error:
            click.echo(f"warning: {printable(str(path))} changes nothing: {error}", err=True)
            return rosters
    if not path.exists():
        raise ConfigError(f"{path}: there is no roster here; copy the ledger's {ROSTER} to it")
    return open_rosters(folder.read_bytes(path))


def roster_record(roster: Roster) -> dict[str, Any]:
    """Give a roster as JSON shows it: n organisations, and how many of them may be dishonest, or silent."""
    dishonest, silent = faults(roster.policy, roster.peers)
    return {
        "ledger": roster.ledger,
        "version": roster.version,
        "epoch": roster.epoch,
        "policy": policy_items(roster.policy),
        "quorum": smallest(roster.policy),
        "n": _organisations(roster),
        "f_safety": dishonest,
        "f_liveness": silent,
        "threshold": roster.threshold,
        "post_quantum": roster.post_quantum,
        "administrators": [cards.member_record(member) for member in roster.administrators],
        "peers": [cards.member_record(member) for member in roster.peers],
        "gateways": [cards.member_record(member) for member in roster.gateways],
    }


def show_rosters(rosters: Rosters, path: Path, *, as_json: bool) -> None:
    """Show the latest version, and which ones of before are kept."""
    roster = rosters.current
    warn_of_faults(roster)
    if as_json:
        show_json({**roster_record(roster), "versions": [_version_record(each) for each in rosters.versions]})
        return
    facts = [("roster", str(path)), ("ledger", roster.ledger), ("version", f"{roster.version}, epoch {roster.epoch}")]
    show_facts([*facts, *_facts(roster)])
    click.echo()
    members = [
        *[("peer", member) for member in roster.peers],
        *[("gateway", member) for member in roster.gateways],
        *[("admin", member) for member in roster.administrators],
    ]
    rows = [(role, member.id, member.organisation, card_fingerprint(member)) for role, member in members]
    show_table(("role", "id", "organisation", "fingerprint of its card"), rows)
    if len(rosters.versions) > 1:
        click.echo()
        show_table(("version", "epoch", "peers", "gateways", "signed by"), map(_version_row, rosters.versions))


def show_changes(before: Roster, after: Roster) -> None:
    """Show all that is other in one version than in another."""
    warn_of_faults(after)
    facts = [("version", _both(f"{before.version}, epoch {before.epoch}", f"{after.version}, epoch {after.epoch}"))]
    for (name, was), (_, will_be) in zip(_facts(before), _facts(after), strict=True):
        facts += [(name, will_be)] if was == will_be else [(name, was), ("  becomes", will_be)]
    show_facts(facts)
    click.echo()
    found = list(changes(before, after))
    if not found:
        click.echo("No member comes, goes or changes.")
        return
    rows = [
        (each.kind, each.role, each.member.id, each.member.organisation, card_fingerprint(each.member))
        for each in found
    ]
    show_table(("what", "role", "id", "organisation", "fingerprint of its card"), rows)
    for line in (line for each in found for line in _details(each)):
        click.echo(f"  {printable(line)}")


def change_records(before: Roster, after: Roster) -> list[dict[str, Any]]:
    """Give what becomes of members as JSON shows it."""
    return [
        {"what": each.kind.value, "role": each.role, **cards.member_record(each.member)}
        for each in changes(before, after)
    ]


def warn_of_faults(roster: Roster) -> None:
    """Say on stderr if one dishonest, or silent, organisation is one too many."""
    if roster.peers and not min(faults(roster.policy, roster.peers)):
        click.echo(f"warning: {_too_few(_organisations(roster))}", err=True)


def _facts(roster: Roster) -> list[tuple[str, str]]:
    dishonest, silent = faults(roster.policy, roster.peers)
    quorum = f"a quorum: {smallest(roster.policy)} or more"
    administrators = ", ".join(member.id for member in roster.administrators)
    return [
        ("policy", describe(roster.policy)),
        ("peers", f"{len(roster.peers)}, organisations: {_organisations(roster)}, {quorum}"),
        ("bears", f"{dishonest} dishonest (safety), {silent} silent (liveness)"),
        ("signed by", f"{roster.threshold} of {administrators}"),
        ("signatures", "Ed25519 and ML-DSA-44" if roster.post_quantum else "Ed25519"),
    ]


def _both(was: str, will_be: str) -> str:
    return f"{was} -> {will_be}"


def _details(change: Change) -> Iterator[str]:
    """Give a line for each thing about a member that no fingerprint says."""
    for name, was, will_be in change.fields:
        yield f"{change.member.id}: {_FIELDS[name]} {_both(_text(was), _text(will_be))}"
    if change.kind is Kind.ADMITTED and change.member.former_keys:  # no card has them
        yield f"{change.member.id}: former keys {_text(change.member.former_keys)}"


def _text(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(_text, value)) or "none"
    if isinstance(value, bytes):
        return f"{value[:8].hex()}..."
    return "none" if value is None else str(value)


def _organisations(roster: Roster) -> int:
    return len({member.organisation for member in roster.peers})


def _too_few(organisations: int) -> str:
    if organisations == FEWEST - 1:
        return f"{organisations} organisations bear no dishonest one: a fourth makes it one"
    if organisations < FEWEST:
        return (
            f"{organisations} organisation{'s bear' if organisations > 1 else ' bears'} no dishonest one: four bear one"
        )
    return f"{organisations} organisations bear no dishonest one by this policy"


def _version_record(roster: Roster) -> dict[str, Any]:
    return {
        "version": roster.version,
        "epoch": roster.epoch,
        "peers": [member.id for member in roster.peers],
        "gateways": [member.id for member in roster.gateways],
        "signed_by": _signed_by(roster),
    }


def _version_row(roster: Roster) -> tuple[object, ...]:
    signed = ", ".join(_signed_by(roster))
    return roster.version, roster.epoch, len(roster.peers), len(roster.gateways), signed


def _signed_by(roster: Roster) -> Iterable[str]:
    return sorted(signers(roster, roster.administrators))
