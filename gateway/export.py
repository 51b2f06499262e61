"""Makes the proof that a person takes away: a leaf with its receipts and its device's enrolment, from what is kept."""

from gateway import canonical, merkle, signing
from gateway.devices import enrolled_device
from gateway.errors import ConfigError, StoreError, Unavailable
from gateway.io.store.database import no_tile_missing, undamaged
from gateway.io.store.readings import ReadingStore, StoredLeaf
from gateway.ledger.quorum import read_vote
from gateway.ledger.receipt import make_receipts, make_transparent
from gateway.ledger.voting import block_of
from gateway.model import EventKind


def transparent_reading(store: ReadingStore, device: str, sequence: int | None) -> tuple[int, bytes]:
    """Give a reading of a device (the latest certified one where no sequence number is given) as a transparent one.

    Raises: ConfigError if there is no such reading, Unavailable if no quorum has signed its block yet, StoreError if
    what is kept does not prove it any more.
    """
    leaf = _latest_certified(store, device) if sequence is None else store.numbered("reading", device, sequence)
    if leaf is None:
        what = f"reading {sequence} of {device}" if sequence else f"certified reading of {device}"
        raise (Unavailable if sequence is None else ConfigError)(f"there is no {what} here")
    return leaf.sequence, make_transparent(leaf.data, _receipts(store, leaf), _enrolment(store, leaf))


def _latest_certified(store: ReadingStore, device: str) -> StoredLeaf | None:
    """Give the newest reading of a device in a certified block; only what is in flight stands before it."""
    for leaf in store.latest("reading", device, limit=10_000):
        block = store.block_of(leaf.position)
        if block is not None and block.certified:
            return leaf
    return None


def _receipts(store: ReadingStore, leaf: StoredLeaf) -> list[bytes]:
    block = store.block_of(leaf.position)
    if block is None or not block.certified:
        raise Unavailable(f"{leaf.kind} {leaf.sequence} of {leaf.issuer} is in no certified block yet; try again later")
    with no_tile_missing():
        path = merkle.tile_path(store.tile, leaf.position, block.size)
    with undamaged(f"block {block.height}"):
        root = block_of(block.proposal).root
    if merkle.inclusion_root(merkle.leaf_hash(leaf.data), leaf.position, block.size, path) != root:
        raise StoreError(f"leaf {leaf.position} was damaged on the disk, or its place in the tree")
    votes = _votes(store, block.height)
    return [receipt for vote in votes for receipt in make_receipts(vote, leaf.position, block.size, path)]


def _votes(store: ReadingStore, height: int) -> list[bytes]:
    """Give the votes of the roster epoch in which a block was certified: the store keeps no others of it."""
    votes = [vote for _, vote in store.votes(height)]
    with undamaged(f"a vote on block {height}"):
        if len({read_vote(signing.parse_blob(vote)[0], vote).epoch for vote in votes}) != 1:
            raise StoreError(f"the votes on block {height} are of different roster epochs, or there are none")
    return votes


def _enrolment(store: ReadingStore, leaf: StoredLeaf) -> bytes:
    kid = signing.parse(leaf.data).kid
    for position, event in store.events():
        if event.kind is EventKind.DEVICE_ENROLLED:
            device = enrolled_device(event)
            if device.id == leaf.issuer and canonical.key_id(device.public_key) == kid:
                found = store.leaf(position)
                return make_transparent(found.data, _receipts(store, found), None)
    raise StoreError(f"the enrolment of {leaf.issuer} is not in the chain")
