"""A reading with its proof: what a person keeps, and what anyone checks with nothing but this file and a roster.

    transparent = 18([<< leaf's protected >>, {394: [+ receipt], -70002: enrolment}, payload, signature])
    receipt     = 18([<< vote's protected >>, {396: {-1: [<< [tree size, leaf index, [+ hash]] >>]}}, null, signature])

394 holds a COSE receipt (RFC 9942) for each signature of each peer that voted for the leaf's block: one with Ed25519
and, in a post-quantum epoch, one with ML-DSA-44; without their unprotected maps the two are that peer's vote. All name
one position (-70001), signed by that peer: a proof of another size or outside [start, size) is refused. The roster of
the epoch in it says whose votes these are. -70002 holds the transparent event by which the gateway enrolled the device
in the same incarnation, of whichever epoch, so that the key that signed the reading can itself be proved. An event has
no -70002: its signer is the gateway on the roster. A device that was enrolled with a sensor key signed its readings
itself, too: the statement in the reading must hold and say the same. Without its unprotected map the message is the
leaf.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cbor2

from gateway import canonical, cbor, merkle, signing
from gateway.decode.statement import verify_statement
from gateway.devices import Device, enrolled_device
from gateway.errors import VerificationError
from gateway.ledger.quorum import read_vote, require_quorum, verify_vote
from gateway.ledger.roster import gateway_of_chain
from gateway.ledger.rosters import Rosters
from gateway.model import Event, EventKind, Reading, Roster, Vote

ENROLMENT = -70002
INCLUSION = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """Where a leaf stands: its index, and the block whose votes, of one roster epoch, prove it."""

    chain: str
    incarnation: int
    index: int
    height: int
    start: int
    size: int
    root: bytes
    sealed_ms: int
    epoch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Proven:
    """What a transparent reading proves: the entry, by which device, where, and who saw it when.

    `enrolled` is where the device was enrolled; `post_quantum` says that all votes, those on the enrolment too, hold
    also where Ed25519 is broken.
    """

    entry: Reading | Event
    device: Device | None
    position: Position
    votes: tuple[Vote, ...]
    post_quantum: bool
    enrolled: Position | None = None


@dataclass(frozen=True, slots=True)
class _Receipt:
    """A receipt read and not yet checked: the vote in it, and where by its proof the leaf would stand."""

    message: signing.Message
    vote: Vote
    position: Position

    @property
    def is_second(self) -> bool:
        algorithm = self.message.header[canonical.ALG]
        return type(algorithm) is int and algorithm == canonical.ML_DSA_44


def make_receipts(vote: bytes, index: int, size: int, path: Sequence[bytes]) -> list[bytes]:
    """Give the receipts of a leaf by one peer, one for each signature of its vote."""
    return [make_receipt(message, index, size, path) for message in signing.split_blob(vote)]


def make_receipt(vote: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes:
    """Give one signature of a vote with the leaf's inclusion proof beside it."""
    proof = cbor.encode([size, index, list(path)])
    return _with_unprotected(signing.parse(vote), {canonical.TREE_PROOFS: {INCLUSION: [proof]}})


def make_transparent(leaf: bytes, receipts: Sequence[bytes], enrolment: bytes | None) -> bytes:
    """Give a leaf with its receipts and, for a reading, the transparent event that enrolled its device."""
    unprotected: dict[int, object] = {canonical.RECEIPTS: list(receipts)}
    if enrolment is not None:
        unprotected[ENROLMENT] = enrolment
    return _with_unprotected(signing.parse(leaf), unprotected)


def verify_transparent(data: bytes, rosters: Rosters) -> Proven:
    """Check a transparent reading or event against the roster of its epoch: signer, place in the tree, quorum.

    Raises: VerificationError, naming the first thing that does not hold.
    """
    message = signing.parse(data)
    kind = message.header.get(canonical.CONTENT_TYPE)
    if kind == canonical.EVENT_TYPE:
        return _verify_event(message, rosters)
    if kind == canonical.READING_TYPE:
        return _verify_reading(message, rosters)
    raise VerificationError(f"content type {kind!r} is neither a reading nor an event")


def require_post_quantum(proven: Proven) -> None:
    """Check that what was proved holds also where Ed25519 is broken.

    Raises: VerificationError if a vote that it rests on has no second signature.
    """
    if not proven.post_quantum:
        epochs = sorted({place.epoch for place in (proven.position, proven.enrolled) if place is not None})
        raise VerificationError(
            f"not every vote has a second signature (ML-DSA-44): roster epoch {' or '.join(map(str, epochs))} is not"
            " post-quantum"
        )


def _verify_reading(message: signing.Message, rosters: Rosters) -> Proven:
    if message.unprotected.keys() != {canonical.RECEIPTS, ENROLMENT}:
        raise VerificationError("a reading carries its receipts (394) and its device's enrolment (-70002)")
    enrolment = _verify_enrolment(message.unprotected[ENROLMENT], rosters)
    device, enrolled = enrolment.device, enrolment.position
    if device is None:
        raise VerificationError("-70002 is no enrolment of a device")
    _check_signer(message, device)
    position, roster, votes = _verify_receipts(message, rosters)
    if (position.chain, position.incarnation) != (enrolled.chain, enrolled.incarnation):
        raise VerificationError(
            f"{device.id} was enrolled in incarnation {enrolled.incarnation} of chain {enrolled.chain}, the reading is"
            f" of incarnation {position.incarnation} of chain {position.chain}"
        )
    if enrolled.index >= position.index:
        raise VerificationError(f"{device.id} was not enrolled before this reading in chain {position.chain}")
    entry = canonical.decode_reading(message.payload or b"")
    _check_time(entry, position)
    if device.sensor_key is not None:
        verify_statement(entry, device.sensor_key)
    return Proven(
        entry=entry,
        device=device,
        position=position,
        votes=votes,
        post_quantum=roster.post_quantum and enrolment.post_quantum,
        enrolled=enrolled,
    )


def _check_time(entry: Reading | Event, position: Position) -> None:
    """Check that an entry is no younger than its block: a gateway seals none before the latest time in it."""
    if entry.at.real_ms > position.sealed_ms:
        raise VerificationError(
            f"the entry's time, {entry.at.real_ms} ms, is behind that of its block's sealing, {position.sealed_ms} ms"
        )


def _check_signer(message: signing.Message, device: Device) -> None:
    if message.claim(canonical.ISSUER) != device.id:
        raise VerificationError(
            f"the reading is of {message.claim(canonical.ISSUER)!r}, the enrolment of {device.id!r}"
        )
    if message.kid != canonical.key_id(device.public_key):
        raise VerificationError(
            f"the reading is signed by key {message.kid.hex()}, "
            f"but {device.id} was enrolled with {canonical.key_id(device.public_key).hex()}"
        )
    _blame("the reading", message, device.public_key)


def _verify_enrolment(data: object, rosters: Rosters) -> Proven:
    if not isinstance(data, bytes):
        raise VerificationError("the enrolment (-70002) is no byte string")
    try:
        return _verify_event(_parse_event(data), rosters)
    except VerificationError as error:
        raise VerificationError(f"the device's enrolment: {error}") from error


def _parse_event(data: bytes) -> signing.Message:
    message = signing.parse(data)
    if message.header.get(canonical.CONTENT_TYPE) != canonical.EVENT_TYPE:
        raise VerificationError("it is no event")
    return message


def _verify_event(message: signing.Message, rosters: Rosters) -> Proven:
    if message.unprotected.keys() != {canonical.RECEIPTS}:
        raise VerificationError("an event carries its receipts (394) and nothing else")
    position, roster, votes = _verify_receipts(message, rosters)
    gateway = gateway_of_chain(roster, position.chain)
    keys = {canonical.key_id(key): key for key in (*gateway.former_keys, gateway.public_key)}
    if message.claim(canonical.ISSUER) != gateway.id or message.kid not in keys:
        raise VerificationError(f"an event of chain {position.chain} must be signed by gateway {gateway.id}")
    _blame("the event", message, keys[message.kid])
    entry = canonical.decode_event(message.payload or b"")
    _check_time(entry, position)
    device = enrolled_device(entry) if entry.kind is EventKind.DEVICE_ENROLLED else None
    return Proven(entry=entry, device=device, position=position, votes=votes, post_quantum=roster.post_quantum)


# -- receipts


def _verify_receipts(message: signing.Message, rosters: Rosters) -> tuple[Position, Roster, tuple[Vote, ...]]:
    """Check every receipt, that they are a quorum, and that all are for one position in the chain the leaf names.

    A position includes the root: two histories can share a leaf at the same place, and are not one quorum's.
    """
    leaf = merkle.leaf_hash(_with_unprotected(message, {}))
    by_peer: dict[str, list[_Receipt]] = {}
    for receipt in _receipts_of(message):
        read = _read_receipt(receipt, leaf)
        by_peer.setdefault(read.vote.peer, []).append(read)
    positions = {receipt.position for receipts in by_peer.values() for receipt in receipts}
    epochs = sorted({position.epoch for position in positions})
    if len(epochs) != 1:
        raise VerificationError(
            f"the receipts must be of one roster epoch, and are of {', '.join(map(str, epochs)) or 'none'}"
        )
    roster = rosters.of_epoch(epochs[0])
    votes = tuple(_verify_vote(name, receipts, roster) for name, receipts in by_peer.items())
    require_quorum(roster, by_peer)
    if len(positions) != 1:
        raise VerificationError("the receipts are for different positions or roots")
    position = positions.pop()
    if message.claim(canonical.SUBJECT) != position.chain:
        raise VerificationError(
            f"the leaf names chain {message.claim(canonical.SUBJECT)!r}, its receipts {position.chain!r}"
        )
    return position, roster, votes


def _receipts_of(message: signing.Message) -> Sequence[bytes]:
    receipts = message.unprotected[canonical.RECEIPTS]
    if not isinstance(receipts, list | tuple) or not all(isinstance(receipt, bytes) for receipt in receipts):
        raise VerificationError("the receipts (394) are no array of byte strings")
    return receipts


def _read_receipt(receipt: bytes, leaf: bytes) -> _Receipt:
    message = signing.parse(receipt)
    vote = read_vote(message, receipt)
    size, index, path = _proof(message)
    if size != vote.size:
        raise VerificationError(
            f"the receipt of {vote.peer} restates the tree's size: signed {vote.size}, proof {size}"
        )
    if not vote.start <= index < size:
        raise VerificationError(f"the receipt of {vote.peer} is for leaf {index}, outside [{vote.start}, {size})")
    if not path:
        raise VerificationError(f"the receipt of {vote.peer} has an empty path: nothing stands beside the leaf")
    position = Position(
        chain=vote.chain,
        incarnation=vote.incarnation,
        index=index,
        height=vote.height,
        start=vote.start,
        size=size,
        root=merkle.inclusion_root(leaf, index, size, path),
        sealed_ms=vote.sealed_ms,
        epoch=vote.epoch,
    )
    return _Receipt(message, vote, position)


def _verify_vote(name: str, receipts: Sequence[_Receipt], roster: Roster) -> Vote:
    """Put the one or two receipts of a peer together to the vote that it gave, and check that."""
    firsts = [receipt for receipt in receipts if not receipt.is_second]
    seconds = [receipt for receipt in receipts if receipt.is_second]
    if len(firsts) != 1 or len(seconds) > 1:
        raise VerificationError(
            f"a peer's vote is one receipt, and one by ML-DSA-44 at most; of {name} there are {len(firsts)} and"
            f" {len(seconds)}"
        )
    signed = b"".join(_with_unprotected(receipt.message, {}) for receipt in firsts + seconds)
    try:
        messages = signing.parse_blob(signed)
        vote = read_vote(messages[0], signed)
        verify_vote(roster, messages, vote, firsts[0].position.root)
    except VerificationError as error:
        raise VerificationError(f"the receipt of {name} does not prove this leaf: {error}") from error
    return vote


def _proof(message: signing.Message) -> tuple[int, int, list[bytes]]:
    match message.unprotected:
        case {canonical.TREE_PROOFS: {-1: [bytes(encoded)], **others}, **rest} if not others and not rest:
            proof = cbor.decode(encoded)
        case _:
            raise VerificationError("a receipt carries exactly one inclusion proof (396)")
    match proof:
        case [int(size), int(index), [*path]] if all(isinstance(node, bytes) for node in path):
            if cbor.are_naturals(size, index):
                return size, index, path
    raise VerificationError("an inclusion proof is [tree size, leaf index, [+ hash]]")


def _blame(what: str, message: signing.Message, public_key: bytes) -> None:
    try:
        signing.verify(message, public_key)
    except VerificationError as error:
        raise VerificationError(f"{what}: {error}") from error


def _with_unprotected(message: signing.Message, unprotected: Mapping[int, Any]) -> bytes:
    """Give a COSE_Sign1 with another unprotected map: the only part that no signature covers."""
    return cbor.encode(cbor2.CBORTag(18, [message.protected, unprotected, message.payload, message.signature]))
