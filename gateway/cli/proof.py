"""What `iomt peer prove` does: makes the proof of a leaf from a peer's copy, which holds no leaf but knows its hash."""

from bisect import bisect_right
from collections.abc import Sequence

import cbor2

from gateway import canonical, cbor, merkle, signing
from gateway.errors import StoreError, VerificationError
from gateway.io.store.chains import ChainStore
from gateway.io.store.database import no_tile_missing, undamaged
from gateway.ledger.proving import find_leaf
from gateway.ledger.receipt import ENROLMENT, Proven, make_receipts, make_transparent, verify_transparent
from gateway.ledger.rosters import Rosters
from gateway.ledger.voting import VotedBlock, block_of


def prove_leaf(store: ChainStore, rosters: Rosters, leaf: bytes, enrolment: bytes | None) -> tuple[bytes, Proven]:
    """Give the transparent reading or event of a leaf, and what it proves.

    `leaf` and `enrolment` may have unprotected maps: these are made anew. Without an `enrolment` a reading's own is
    taken. One that is not in the same incarnation of this copy is left as it is.
    Raises: VerificationError if the copy does not prove it.
    """
    message = signing.parse(leaf)
    chain = str(message.claim(canonical.SUBJECT))
    incarnation, receipts = _found(store, message, chain, range(store.incarnation(chain), -1, -1))
    proof = None
    if message.header.get(canonical.CONTENT_TYPE) == canonical.READING_TYPE:
        proof = _enrolment(store, message, chain, incarnation, enrolment)
    data = make_transparent(leaf, receipts, proof)
    return data, verify_transparent(data, rosters)


def _enrolment(store: ChainStore, reading: signing.Message, chain: str, incarnation: int, given: bytes | None) -> bytes:
    """Give the transparent event by which a reading's device was enrolled."""
    enrolment = reading.unprotected.get(ENROLMENT) if given is None else given
    if not isinstance(enrolment, bytes):
        device = reading.claim(canonical.ISSUER)
        raise VerificationError(f"a reading is proved with the event that enrolled {device}: name it with --enrolment")
    event = signing.parse(enrolment)
    try:
        _, receipts = _found(store, event, chain, [incarnation])
    except VerificationError:
        if canonical.RECEIPTS not in event.unprotected:
            raise
        return enrolment
    return make_transparent(enrolment, receipts, None)


def _found(
    store: ChainStore, message: signing.Message, chain: str, incarnations: Sequence[int]
) -> tuple[int, list[bytes]]:
    """Give the first of these incarnations in which a leaf is final, and its receipts there.

    Raises: VerificationError if there is none.
    """
    bare = cbor2.CBORTag(18, [message.protected, {}, message.payload, message.signature])
    leaf = merkle.leaf_hash(cbor.encode(bare))
    refused = f"this peer's copy of chain {chain} does not hold this leaf"
    for incarnation in incarnations:
        with no_tile_missing():
            index = find_leaf(store.reader(chain, incarnation), store.size(chain, incarnation), leaf)
        if index is None:
            continue
        block = _block_with(store, chain, incarnation, index)
        receipts = _receipts(store, block, index, leaf)
        if receipts:
            return incarnation, receipts
        refused = f"no certificate of block {block.height} of chain {chain} is kept here: ask another peer"
    raise VerificationError(refused)


def _block_with(store: ChainStore, chain: str, incarnation: int, index: int) -> VotedBlock:
    """Give the block in which a leaf was sealed; O(log n) of them are read."""

    def block_at(height: int) -> VotedBlock:
        found = store.block(chain, incarnation, height)
        if found is None:
            raise StoreError(f"block {height} of chain {chain} is missing")
        return found

    last = store.last_block(chain, incarnation)
    last_height = 0 if last is None else last.height
    return block_at(bisect_right(range(last_height), index, key=lambda height: block_at(height).size))


def _receipts(store: ChainStore, voted: VotedBlock, index: int, leaf: bytes) -> list[bytes]:
    certificate = store.certificate(voted.chain, voted.incarnation, voted.height)
    if certificate is None:
        return []
    with no_tile_missing():
        path = merkle.tile_path(store.reader(voted.chain, voted.incarnation), index, voted.size)
    with undamaged(f"block {voted.height} of chain {voted.chain}"):
        root = block_of(voted.proposal).root
    if merkle.inclusion_root(leaf, index, voted.size, path) != root:
        raise StoreError(f"the tree does not make the root of block {voted.height} of chain {voted.chain}")
    return [receipt for vote in certificate.votes for receipt in make_receipts(vote, index, voted.size, path)]
