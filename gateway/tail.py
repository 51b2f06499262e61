"""The end of a gateway's chain as it is kept: the head that was sealed last, and the leaves behind it."""

from collections.abc import Mapping
from typing import NamedTuple

from gateway import canonical, merkle, signing
from gateway.block import Head
from gateway.errors import StoreError
from gateway.io.store.database import no_tile_missing, undamaged
from gateway.io.store.readings import ReadingStore, StoredLeaf
from gateway.ledger.voting import block_of


class Pending(NamedTuple):
    """A leaf that is durable and not sealed: its hash when it was signed, and when it was made, on both clocks."""

    leaf_hash: bytes
    real_ms: int
    boot_ms: int


def load_tail(store: ReadingStore, chain: str, keys: Mapping[bytes, bytes]) -> tuple[Head, list[Pending]]:
    """Read the end of a chain: where it was sealed up to, and the leaves behind that, whose signers' keys are given.

    Raises: StoreError if the tree does not make the root that was signed last, or a leaf is missing or damaged.
    """
    head = _load_head(store, chain)
    pending: list[Pending] = []
    for leaf in store.leaves(head.frontier.size):
        position = head.frontier.size + len(pending)
        if leaf.position != position:
            raise StoreError(f"leaf {position} is missing: the next one that is kept is {leaf.position}")
        with undamaged(f"leaf {position}"):
            pending.append(_pending(leaf, chain, keys))
    return head, pending


def _pending(leaf: StoredLeaf, chain: str, keys: Mapping[bytes, bytes]) -> Pending:
    message = signing.parse(leaf.data)
    signing.verify(message, keys.get(message.kid, b""))
    if message.claim(canonical.SUBJECT) != chain:
        raise StoreError(f"the store holds chain {message.claim(canonical.SUBJECT)}, the configuration says {chain}")
    read = canonical.decode_reading if leaf.kind == "reading" else canonical.decode_event
    return Pending(merkle.leaf_hash(leaf.data), read(message.payload or b"").at.real_ms, 0)


def _begun_incarnation(store: ReadingStore) -> int:
    """Give the incarnation that the genesis of a tree without blocks names; a chain that is new has none yet."""
    for _, event in store.events():
        incarnation = event.details.get("incarnation")
        if isinstance(incarnation, int):
            return incarnation
    return 0


def _load_head(store: ReadingStore, chain: str) -> Head:
    last = store.last_block()
    if last is None:
        return Head(chain=chain, incarnation=_begun_incarnation(store))
    with undamaged(f"block {last.height}"):
        block = block_of(last.proposal)
    if block.chain != chain:
        raise StoreError(f"the store holds chain {block.chain}, the configuration says {chain}")
    with no_tile_missing():
        frontier = merkle.tile_frontier(store.tile, block.size)
    if frontier.root() != block.root:
        raise StoreError(f"the tree that is kept does not make the root of block {block.height}, which was signed")
    return Head(
        chain=chain,
        incarnation=block.incarnation,
        next_height=block.height + 1,
        frontier=frontier,
        sealed_ms=block.sealed_ms,
    )
