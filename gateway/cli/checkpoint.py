"""`iomt ledger checkpoint`: the head of a chain as a signed note, which public witnesses and their tools read."""

import time
from bisect import bisect_left
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import click

from gateway import signing
from gateway.cli.output import as_json_option, gateway_state_option, moment, printable, show_facts, show_json
from gateway.cli.rosters import load_rosters
from gateway.config import load_peer
from gateway.errors import ConfigError, Unavailable, VerificationError
from gateway.io import folder, keyring
from gateway.io.store.chains import ChainStore, is_there, location
from gateway.io.store.database import undamaged
from gateway.io.store.readings import ReadingStore, StoredBlock
from gateway.ledger.checkpoint import (
    Checkpoint,
    Note,
    NoteSignature,
    Signers,
    cosign,
    gateway_key,
    origin,
    parse_checkpoint,
    parse_note,
    parse_origin,
    peer_key,
    sign_as_log,
    verify_checkpoint,
    verify_known,
)
from gateway.ledger.member_keys import MemberKeys
from gateway.ledger.policy import describe
from gateway.ledger.quorum import read_vote
from gateway.ledger.rosters import Rosters
from gateway.ledger.standing import roster_of_chain
from gateway.ledger.voting import open_proposal
from gateway.model import Block, Member, Roster

_FILE = click.Path(dir_okay=False, path_type=Path)
_roster_option = click.option("--roster", required=True, type=_FILE, help="The ledger's roster.")


class Signed(NamedTuple):
    """A head that this folder's owner vouches for, its signature, and the roster by which it knows others."""

    roster: Roster
    head: Checkpoint
    signature: NoteSignature


@click.group()
def checkpoint() -> None:
    """Sign a chain's head so that public witnesses can read it, verify it."""


@checkpoint.command()
@gateway_state_option
@click.option("--chain", help="Which chain; a peer has many.")
@click.option("--add", type=_FILE, help="A note, to add a signature to.")
@click.option("--output", "-o", type=_FILE, help="The file to write, not stdout.")
@as_json_option
def sign(state: Path, chain: str | None, add: Path | None, output: Path | None, as_json: bool) -> None:  # noqa: FBT001 - click's flag
    """Write a note signed by a gateway or a peer, of the latest incarnation.

    A gateway signs its last certified block; a peer cosigns the last block that it voted for. With --add, each
    signs the head in the note if it is one of those that it certified or voted for: a note that goes from hand to
    hand collects the signatures of all.
    """
    note = parse_note(folder.read_bytes(add)) if add else None
    wanted = parse_checkpoint(note.text) if note else None
    signed = _signed(state, chain, wanted)
    if note is not None and wanted is not None:
        _require_same(note, wanted, signed.head)
        verify_known(signed.roster, note)
    note = (note or Note(str(signed.head), ())).signed(signed.signature)
    if output:
        folder.write(output, note.encode())
    if as_json:
        show_json(
            {**_head_record(signed.head), "file": str(output) if output else None, "note": note.encode().decode()}
        )
    elif output:
        shown = f"checkpoint of {signed.head.size} leaves of {signed.head.origin}"
        click.echo(printable(f"{shown}, signatures: {len(note.signatures)}, {output}"))
    else:
        click.echo(note.encode(), nl=False)


@checkpoint.command()
@click.argument("note", type=_FILE)
@_roster_option
@as_json_option
def verify(note: Path, roster: Path, as_json: bool) -> None:  # noqa: FBT001 - click's flag
    """Check that gateway and quorum signed a note.

    Signatures of others, such as public witnesses, are ignored. Exit code 0 if it holds; 1, with one line that says
    what is wrong, if not.
    """
    data, rosters = folder.read_bytes(note), load_rosters(roster)
    try:
        signers = verify_checkpoint(rosters, data)
    except VerificationError as error:
        if as_json:
            show_json({"verified": False, "file": str(note), "reason": str(error)})
            raise click.exceptions.Exit(error.exit_code) from error
        raise VerificationError(f"{note} is refused: {error}") from error
    if as_json:
        show_json({"verified": True, "file": str(note), **_signers_record(signers)})
    else:
        show_facts(_signers_facts(signers))


@checkpoint.command()
@_roster_option
@click.option("--incarnation", type=click.IntRange(0), default=0, show_default=True, help="Of the gateways' chains.")
@as_json_option
def keys(roster: Path, incarnation: int, as_json: bool) -> None:  # noqa: FBT001 - click's flag
    """Print verifier keys of gateways and peers.

    A gateway's has its chain's incarnation in its name: witnesses know each as a log of its own.
    """
    members = load_rosters(roster).current
    known = [("gateway", member, gateway_key(members.ledger, member, incarnation)) for member in members.gateways]
    known += [("peer", member, peer_key(members.ledger, member)) for member in members.peers]
    for role, member, key in known:
        if as_json:
            show_json({"role": role, "id": member.id, "name": key.name, "key": str(key)})
        else:
            click.echo(str(key))


# -- what is signed


def _signed(state: Path, chain: str | None, wanted: Checkpoint | None) -> Signed:
    from gateway.cli.peer import CONFIG  # noqa: PLC0415 - it imports the ledger's commands, of which this is one

    return (_signed_by_peer if (state / CONFIG).exists() else _signed_by_gateway)(state, chain, wanted)


def _signed_by_gateway(state: Path, chain: str | None, wanted: Checkpoint | None) -> Signed:
    from gateway.cli.gateway import load_config  # noqa: PLC0415 - as above
    from gateway.cli.reading import open_store  # noqa: PLC0415 - as above

    config = load_config(state)
    if chain not in {None, config.chain}:
        raise ConfigError(f"--chain is {chain}; allowed: {config.chain}, the one that this gateway writes")
    rosters = load_rosters(state / config.roster, state)
    roster = roster_of_chain(rosters, config.chain)
    key = _key(state, roster, "gateway", config.id, config.generation)
    store = open_store(state)
    stored = _certified(store, wanted)
    store.close()
    if stored is None:
        raise Unavailable(f"no block of chain {config.chain} is certified yet")
    head = _head(roster, _block(roster, stored.proposal, stored.height))
    return Signed(roster, head, sign_as_log(key, head.origin, str(head)))


def _certified(store: ReadingStore, wanted: Checkpoint | None) -> StoredBlock | None:
    """Give the certified block that makes the size that is wanted, else the last before the first uncertified one."""
    block = store.block_of(wanted.size - 1) if wanted else None
    if wanted and block and block.certified and block.size == wanted.size:
        return block
    waiting = store.uncertified(-1, 1)
    return store.block(waiting[0].height - 1) if waiting else store.last_block()


def _signed_by_peer(state: Path, chain: str | None, wanted: Checkpoint | None) -> Signed:
    from gateway.cli.peer import CONFIG  # noqa: PLC0415 - it imports the ledger's commands, of which this is one

    config = load_peer(folder.read_text(state / CONFIG), str(state / CONFIG))
    rosters = load_rosters(state / config.roster, state)
    if chain is None:
        chain = _chain_of(rosters, wanted)
    roster = roster_of_chain(rosters, chain)
    key = _key(state, rosters.current, "peer", config.id, config.generation)
    copy = location(state, config.store)
    if not is_there(copy):
        raise ConfigError(f"{copy}: nothing was kept here yet; iomt peer run starts it")
    store = ChainStore(copy, read_only=True)
    block, time_s = _voted(store, roster, chain, wanted)
    store.close()
    head = _head(roster, block)
    member = Member(id=config.id, organisation="", public_key=key.public_key)
    return Signed(roster, head, cosign(key, peer_key(roster.ledger, member).name, str(head), time_s))


def _voted(store: ChainStore, roster: Roster, chain: str, wanted: Checkpoint | None) -> tuple[Block, int]:
    """Give the block that is wanted, or else the tip, and when it was the largest that this peer had seen.

    The tip is it now. An earlier one was it when this peer voted for it, which its vote says.
    """
    tip = store.tip(chain)
    if tip.frozen:
        conflict = store.evidence(chain, tip.incarnation)
        why = "its recovery key demands it" if conflict is None else "its gateway signed two histories"
        raise VerificationError(f"chain {chain} is frozen: {why}")
    place, height = (chain, tip.incarnation), tip.next_height - 1
    if wanted and wanted.size < tip.frontier.size:
        height = bisect_left(range(height), wanted.size, key=lambda at: _size(store, *place, at))
    voted = store.block(*place, height)
    if voted is None:
        raise Unavailable(f"this peer has voted for no block of chain {chain} yet")
    block = _block(roster, voted.proposal, height)
    if height == tip.next_height - 1:
        return block, int(time.time())
    with undamaged(f"the vote on block {height} of chain {chain}"):
        message, _ = signing.parse_blob(voted.vote)
        return block, read_vote(message, voted.vote).voted_ms // 1000


def _size(store: ChainStore, chain: str, incarnation: int, height: int) -> int:
    voted = store.block(chain, incarnation, height)
    return voted.size if voted else 0


def _block(roster: Roster, proposal: bytes, height: int) -> Block:
    """Check a proposal as it came from the disk: what is signed here is what its gateway signed."""
    with undamaged(f"block {height}"):
        return open_proposal(roster, proposal)


def _head(roster: Roster, block: Block) -> Checkpoint:
    return Checkpoint(origin(roster.ledger, block.chain, block.incarnation), block.size, block.root)


def _chain_of(rosters: Rosters, wanted: Checkpoint | None) -> str:
    """Give the chain of a note that is to be signed, or else the only one of the roster."""
    if wanted:
        return parse_origin(wanted.origin)[1]
    chains = [member.chain or "" for member in rosters.current.gateways]
    if len(chains) != 1:
        raise ConfigError(f"--chain is missing; allowed: {', '.join(chains)}")
    return chains[0]


def _key(state: Path, roster: Roster, role: str, name: str, generation: int) -> signing.Key:
    return MemberKeys(keyring.load_master(state), role, name, generation).require(roster).first


def _require_same(note: Note, wanted: Checkpoint, head: Checkpoint) -> None:
    if wanted != head:
        raise VerificationError(f"the note is of {_in_words(wanted)}; here it is {_in_words(head)}")
    if note.text != str(head):
        raise VerificationError("the note has lines after its root, which nobody here vouches for")


def _in_words(head: Checkpoint) -> str:
    return f"{head.origin[:80]}, {head.size} leaves, root {head.root.hex()}"


# -- what is shown


def _head_record(head: Checkpoint) -> dict[str, object]:
    return {"origin": head.origin, "size": head.size, "root": head.root.hex()}


def _signers_record(signers: Signers) -> dict[str, object]:
    times = sorted(signers.cosigned_s.items())
    return {
        **_head_record(signers.checkpoint),
        "gateway": signers.gateway.id,
        "epoch": signers.roster.epoch,
        "cosignatures": [{"peer": peer, "cosigned_ms": time_s * 1000} for peer, time_s in times],
        "ignored": signers.unknown,
    }


def _signers_facts(signers: Signers) -> Sequence[tuple[str, object]]:
    head, roster, count = signers.checkpoint, signers.roster, len(signers.cosigned_s)
    return [
        ("verified", f"checkpoint of {head.size} leaves"),
        ("origin", head.origin),
        ("root", head.root.hex()),
        ("signed by", f"gateway {signers.gateway.id}"),
        *[("cosigned by", f"{peer}, {moment(at * 1000)}") for peer, at in sorted(signers.cosigned_s.items())],
        ("quorum", f"{count} of {len(roster.peers)} peers, epoch {roster.epoch}"),
        ("needed", describe(roster.policy)),
        *([("ignored", f"{signers.unknown} by keys that are not on the roster")] if signers.unknown else []),
    ]
