"""`iomt ledger checkpoint`: the head of a chain as a signed note, which public witnesses and their tools read."""

import time
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import click

from gateway import signing
from gateway.cli.output import as_json_option, gateway_state_option, moment, printable, show_facts, show_json
from gateway.config import load_peer
from gateway.errors import ConfigError, Unavailable, VerificationError
from gateway.io import folder, keyring
from gateway.io.store.chains import FILE, ChainStore
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
    peer_key,
    sign_as_log,
    verify_checkpoint,
    verify_known,
)
from gateway.ledger.policy import describe
from gateway.ledger.quorum import read_vote
from gateway.ledger.roster import gateway_of_chain, open_roster
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
    """Write a note signed by a gateway or a peer.

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
    data, members = folder.read_bytes(note), open_roster(folder.read_bytes(roster))
    try:
        signers = verify_checkpoint(members, data)
    except VerificationError as error:
        if as_json:
            show_json({"verified": False, "file": str(note), "reason": str(error)})
            raise click.exceptions.Exit(error.exit_code) from error
        raise VerificationError(f"{note} is refused: {error}") from error
    if as_json:
        show_json({"verified": True, "file": str(note), **_signers_record(signers)})
    else:
        show_facts(_signers_facts(signers, members))


@checkpoint.command()
@_roster_option
@as_json_option
def keys(roster: Path, as_json: bool) -> None:  # noqa: FBT001 - click's flag
    """Print verifier keys of gateways and peers."""
    members = open_roster(folder.read_bytes(roster))
    known = [("gateway", member, gateway_key(members.ledger, member)) for member in members.gateways]
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
    roster = open_roster(folder.read_bytes(state / config.roster))
    key = _key(state, "gateway", config.id, [each for each in roster.gateways if each.chain == config.chain])
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
    roster = open_roster(folder.read_bytes(state / config.roster))
    key = _key(state, "peer", config.id, roster.peers)
    if chain is None:
        chain = _chain_of(roster, wanted)
    gateway_of_chain(roster, chain)
    if not (state / FILE).exists():
        raise ConfigError(f"{state / FILE}: nothing was kept here yet; iomt peer run starts it")
    store = ChainStore(str(state / FILE), read_only=True)
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
        raise VerificationError(f"chain {chain} is frozen: its gateway signed two histories")
    height = tip.next_height - 1
    if wanted and wanted.size < tip.frontier.size:
        height = bisect_left(range(height), wanted.size, key=lambda at: _size(store, chain, at))
    voted = store.block(chain, height)
    if voted is None:
        raise Unavailable(f"this peer has voted for no block of chain {chain} yet")
    block = _block(roster, voted.proposal, height)
    if height == tip.next_height - 1:
        return block, int(time.time())
    with undamaged(f"the vote on block {height} of chain {chain}"):
        return block, read_vote(signing.parse(voted.vote), voted.vote).voted_ms // 1000


def _size(store: ChainStore, chain: str, height: int) -> int:
    voted = store.block(chain, height)
    return voted.size if voted else 0


def _block(roster: Roster, proposal: bytes, height: int) -> Block:
    """Check a proposal as it came from the disk: what is signed here is what its gateway signed."""
    with undamaged(f"block {height}"):
        return open_proposal(roster, proposal)


def _head(roster: Roster, block: Block) -> Checkpoint:
    return Checkpoint(origin(roster.ledger, block.chain), block.size, block.root)


def _chain_of(roster: Roster, wanted: Checkpoint | None) -> str:
    """Give the chain of a note that is to be signed, or else the only one of the roster."""
    chains = [member.chain or "" for member in roster.gateways]
    if wanted:
        return wanted.origin.rpartition("/")[2]
    if len(chains) != 1:
        raise ConfigError(f"--chain is missing; allowed: {', '.join(chains)}")
    return chains[0]


def _key(state: Path, kind: str, name: str, members: Iterable[Member]) -> signing.Key:
    key = signing.derive_key(keyring.load_master(state), kind, name)
    if key.public_key not in {member.public_key for member in members if member.id == name}:
        raise ConfigError(f"{state}: {kind} {name} with this key is not on the roster; iomt ledger admit")
    return key


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
        "cosignatures": [{"peer": peer, "cosigned_ms": time_s * 1000} for peer, time_s in times],
        "ignored": signers.unknown,
    }


def _signers_facts(signers: Signers, roster: Roster) -> Sequence[tuple[str, object]]:
    head, count = signers.checkpoint, len(signers.cosigned_s)
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
