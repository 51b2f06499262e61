"""A reading with its proof: what a person keeps, and what anyone checks with nothing but this file and a roster.

    transparent = 18([<< leaf's protected >>, {394: [+ receipt], -70002: enrolment}, payload, signature])
    receipt     = 18([<< vote's protected >>, {396: {-1: [<< [tree size, leaf index, [+ hash]] >>]}}, null, signature])

394 holds one COSE receipt (RFC 9942) by each peer that voted for the leaf's block, with the position -70001 signed by
that peer: a proof of another size or outside [start, size) is refused. -70002 holds the transparent event by which the
gateway enrolled the device, so that the key that signed the reading can itself be proved. An event has no -70002: its
signer is the gateway on the roster. A device that was enrolled with a sensor key signed its readings itself, too: the
statement in the reading must hold and say the same. Without its unprotected map the message is the leaf.
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
from gateway.model import Event, EventKind, Reading, Roster, Vote

ENROLMENT = -70002
INCLUSION = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """Where a leaf stands: its index, and the block whose votes prove it."""

    chain: str
    incarnation: int
    index: int
    height: int
    start: int
    size: int
    root: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Proven:
    """What a transparent reading proves: the entry, by which device, where, and who saw it when."""

    entry: Reading | Event
    device: Device | None
    position: Position
    votes: tuple[Vote, ...]


def make_receipt(vote: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes:
    """Give the receipt of a leaf: a peer's vote with the leaf's inclusion proof beside it."""
    proof = cbor.encode([size, index, list(path)])
    return _with_unprotected(vote, {canonical.TREE_PROOFS: {INCLUSION: [proof]}})


def make_transparent(leaf: bytes, receipts: Sequence[bytes], enrolment: bytes | None) -> bytes:
    """Give a leaf with its receipts and, for a reading, the transparent event that enrolled its device."""
    unprotected: dict[int, object] = {canonical.RECEIPTS: list(receipts)}
    if enrolment is not None:
        unprotected[ENROLMENT] = enrolment
    return _with_unprotected(leaf, unprotected)


def verify_transparent(data: bytes, roster: Roster) -> Proven:
    """Check a transparent reading or event against a roster: signer, place in the tree, quorum, epoch.

    Raises: VerificationError, naming the first thing that does not hold.
    """
    message = signing.parse(data)
    kind = message.header.get(canonical.CONTENT_TYPE)
    if kind == canonical.EVENT_TYPE:
        return _verify_event(message, data, roster)
    if kind == canonical.READING_TYPE:
        return _verify_reading(message, data, roster)
    raise VerificationError(f"content type {kind!r} is neither a reading nor an event")


def _verify_reading(message: signing.Message, data: bytes, roster: Roster) -> Proven:
    if message.unprotected.keys() != {canonical.RECEIPTS, ENROLMENT}:
        raise VerificationError("a reading carries its receipts (394) and its device's enrolment (-70002)")
    enrolment = _verify_enrolment(message.unprotected[ENROLMENT], roster)
    device = enrolment.device
    if device is None:
        raise VerificationError("-70002 is no enrolment of a device")
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
    position, votes = _verify_receipts(message, data, roster)
    if (position.chain, True) != (enrolment.position.chain, enrolment.position.index < position.index):
        raise VerificationError(f"{device.id} was not enrolled before this reading in chain {position.chain}")
    entry = canonical.decode_reading(message.payload or b"")
    if device.sensor_key is not None:
        verify_statement(entry, device.sensor_key)
    return Proven(entry=entry, device=device, position=position, votes=votes)


def _verify_enrolment(data: object, roster: Roster) -> Proven:
    if not isinstance(data, bytes):
        raise VerificationError("the enrolment (-70002) is no byte string")
    try:
        return _verify_event(_parse_event(data), data, roster)
    except VerificationError as error:
        raise VerificationError(f"the device's enrolment: {error}") from error


def _parse_event(data: bytes) -> signing.Message:
    message = signing.parse(data)
    if message.header.get(canonical.CONTENT_TYPE) != canonical.EVENT_TYPE:
        raise VerificationError("it is no event")
    return message


def _verify_event(message: signing.Message, data: bytes, roster: Roster) -> Proven:
    if message.unprotected.keys() != {canonical.RECEIPTS}:
        raise VerificationError("an event carries its receipts (394) and nothing else")
    position, votes = _verify_receipts(message, data, roster)
    gateway = gateway_of_chain(roster, position.chain)
    if message.claim(canonical.ISSUER) != gateway.id or message.kid != canonical.key_id(gateway.public_key):
        raise VerificationError(f"an event of chain {position.chain} must be signed by gateway {gateway.id}")
    _blame("the event", message, gateway.public_key)
    entry = canonical.decode_event(message.payload or b"")
    device = enrolled_device(entry) if entry.kind is EventKind.DEVICE_ENROLLED else None
    return Proven(entry=entry, device=device, position=position, votes=votes)


def _verify_receipts(message: signing.Message, data: bytes, roster: Roster) -> tuple[Position, tuple[Vote, ...]]:
    """Check every receipt, that they are a quorum, and that all are for one position in the chain the leaf names.

    A position includes the root: two histories can share a leaf at the same place, and are not one quorum's.
    """
    receipts = message.unprotected[canonical.RECEIPTS]
    if not isinstance(receipts, list | tuple) or not all(isinstance(receipt, bytes) for receipt in receipts):
        raise VerificationError("the receipts (394) are no array of byte strings")
    leaf = merkle.leaf_hash(_with_unprotected(data, {}))
    checked = [_verify_receipt(receipt, leaf, roster) for receipt in receipts]
    require_quorum(roster, [vote.peer for _, vote in checked])
    positions = {position for position, _ in checked}
    if len(positions) != 1:
        raise VerificationError("the receipts are for different positions or roots")
    position = positions.pop()
    if message.claim(canonical.SUBJECT) != position.chain:
        raise VerificationError(
            f"the leaf names chain {message.claim(canonical.SUBJECT)!r}, its receipts {position.chain!r}"
        )
    return position, tuple(vote for _, vote in checked)


def _verify_receipt(receipt: bytes, leaf: bytes, roster: Roster) -> tuple[Position, Vote]:
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
    root = merkle.inclusion_root(leaf, index, size, path)
    try:
        verify_vote(roster, message, vote, root)
    except VerificationError as error:
        raise VerificationError(f"the receipt of {vote.peer} does not prove this leaf: {error}") from error
    position = Position(
        chain=vote.chain,
        incarnation=vote.incarnation,
        index=index,
        height=vote.height,
        start=vote.start,
        size=size,
        root=root,
    )
    return position, vote


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


def _with_unprotected(message: bytes, unprotected: Mapping[int, Any]) -> bytes:
    """Give a COSE_Sign1 with another unprotected map: the only part that no signature covers."""
    protected, _, payload, signature = cbor.decode(message).value
    return cbor.encode(cbor2.CBORTag(18, [protected, unprotected, payload, signature]))
