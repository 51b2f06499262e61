"""The way of a roster's next version from hand to hand, until enough administrators have signed it.

    one changes something  --roster.draft-->  another signs  --roster.draft-->  the last one needed signs: roster.cose

Where one signature is enough, whoever changes something writes roster.cose at once.
"""

from pathlib import Path
from typing import Any

import click

from gateway import signing
from gateway.cli.output import show_facts, show_json
from gateway.cli.rosters import ROSTER, change_records, roster_record, show_changes, show_rosters
from gateway.errors import ConfigError, VerificationError
from gateway.io import folder, keyring
from gateway.ledger.roster import lacking, read_version, sign_version, signers
from gateway.ledger.rosters import Rosters
from gateway.model import Member, Roster

DRAFT = "roster.draft"
ROLE = "administrator"


def keys_of(master: bytes, name: str) -> signing.Keys:
    """Give what an administrator signs with."""
    return signing.Keys(signing.derive_key(master, ROLE, name), signing.derive_second_key(master, ROLE, name))


def publish(state: Path, rosters: Rosters, after: Roster, *, as_json: bool) -> None:
    """Sign the next version as the administrator of a state folder: it is the roster then, or a draft for others.

    Raises: ConfigError as `signer` does, and if a draft waits there.
    """
    path = state / DRAFT
    if path.exists() and _version_of(path) > rosters.current.version:
        raise ConfigError(f"{path}: waits for signatures; sign it (iomt ledger sign), or remove it to drop its changes")
    after = _signed(state, rosters, after)
    if _is_complete(rosters, after):
        show_rosters(_written(state, rosters, after), state / ROSTER, as_json=as_json)
        return
    folder.write(path, after.signed)
    if not as_json:
        show_changes(rosters.current, after)
    _show_draft(path, rosters, after, as_json=as_json)


def sign_draft(state: Path, path: Path, rosters: Rosters, after: Roster, *, as_json: bool) -> None:
    """Add the signature of a state folder's administrator to a draft; the last one needed makes it the roster.

    Raises: ConfigError as `signer` does.
    """
    after = _signed(state, rosters, after)
    if not _is_complete(rosters, after):
        folder.write(path, after.signed)
        _show_draft(path, rosters, after, as_json=as_json)
        return
    written = _written(state, rosters, after)
    if as_json:
        show_rosters(written, state / ROSTER, as_json=True)
    else:
        click.echo()
        show_facts([("roster", f"{state / ROSTER}, version {after.version}: copy it to every peer and gateway")])


def signer(state: Path, rosters: Rosters, after: Roster) -> str:
    """Give the name of the administrator, of now or to be, whose key a state folder has.

    Raises: ConfigError if there is none, or they have signed the version already.
    """
    master = keyring.load_master(state)
    people = _people(rosters, after)
    own = [each for each in people if signing.derive_key(master, ROLE, each.id).public_key == each.public_key]
    if not own:
        names = ", ".join(sorted({each.id for each in people}))
        raise ConfigError(f"{state}: the key in this folder is none of the administrators' ({names})")
    if after.signed and signers(after, own):
        raise ConfigError(f"{own[0].id} has signed version {after.version} already; it needs others, too")
    return own[0].id


def _signed(state: Path, rosters: Rosters, after: Roster) -> Roster:
    name = signer(state, rosters, after)
    keys = {name: keys_of(keyring.load_master(state), name)}
    return read_version(sign_version(after, keys, after.signed))


def _people(rosters: Rosters, after: Roster) -> list[Member]:
    return [*rosters.current.administrators, *after.administrators]


def _missing(rosters: Rosters, after: Roster) -> list[tuple[str, int, tuple[str, ...]]]:
    """Give how many signatures are needed yet, and of whom: those who are administrators, and those who will be."""
    before = rosters.current
    asked = [("", before)]
    if (before.administrators, before.threshold) != (after.administrators, after.threshold):
        asked = [(", administrators now", before), (", administrators to be", after)]
    found = [(which, *lacking(after, roster)) for which, roster in asked]
    return [(which, count, names) for which, count, names in found if count]


def _is_complete(rosters: Rosters, after: Roster) -> bool:
    return not _missing(rosters, after)


def _written(state: Path, rosters: Rosters, after: Roster) -> Rosters:
    written = rosters.followed_by(after.signed)
    folder.write(state / ROSTER, written.encode())
    draft = state / DRAFT
    if draft.exists() and _version_of(draft) <= after.version:
        draft.unlink()
    return written


def _version_of(path: Path) -> int:
    try:
        return read_version(folder.read_bytes(path)).version
    except VerificationError as error:
        raise ConfigError(f"{path}: not a draft of a roster: {error}; remove it") from error


def _show_draft(path: Path, rosters: Rosters, after: Roster, *, as_json: bool) -> None:
    if as_json:
        show_json(_draft_record(path, rosters, after))
        return
    click.echo()
    facts: list[tuple[str, object]] = [("draft", path)]
    facts += [("to sign it", f"{count} of {', '.join(names)}{who}") for who, count, names in _missing(rosters, after)]
    show_facts([*facts, ("each by", f"iomt ledger sign {path.name}, roster.cose in their state folder")])


def _draft_record(path: Path, rosters: Rosters, after: Roster) -> dict[str, Any]:
    return {
        **roster_record(after),
        "draft": str(path),
        "changes": change_records(rosters.current, after),
        "signed_by": sorted(signers(after, _people(rosters, after))),
        "missing": [{"signatures": count, "of": names} for _, count, names in _missing(rosters, after)],
    }
