"""The check of a whole chain as it is kept: what no fault may have lost, doubled, reordered or left unsigned."""

from collections.abc import Sequence
from dataclasses import dataclass

from gateway import canonical, merkle, signing
from gateway.devices import enrolled_device
from gateway.io.store.readings import ReadingStore, StoredBlock, StoredLeaf, payload_of
from gateway.ledger.quorum import certificate_epoch, verify_certificate
from gateway.ledger.rosters import Rosters
from gateway.ledger.voting import block_of
from gateway.model import Block, Certificate, EventKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """What a chain holds: readings by device, the blocks in order, how many of them are certified."""

    readings: dict[str, int]
    leaves: int
    blocks: tuple[Block, ...]
    certified: int


def audit(store: ReadingStore, rosters: Rosters | None = None, *, bodies_lost: Sequence[int] = ()) -> Account:
    """Check everything that a chain promises; AssertionError or VerificationError says what does not hold.

    Every position is there, every leaf is signed by a key that the chain itself enrolled, sequence numbers of each
    signer are 1, 2, 3 ..., blocks follow each other and their roots are those of the leaves. With rosters, the votes
    of every certified block are a quorum. Leaves in `bodies_lost` are known by their hashes alone.
    """
    leaves = list(store.leaves(0))
    lost = set(bodies_lost)
    assert [leaf.position for leaf in leaves] == [at for at in range(store.size()) if at not in lost]
    _check_signatures(leaves)
    counts = _check_sequences(leaves)
    hashes = {leaf.position: merkle.leaf_hash(leaf.data) for leaf in leaves}
    if lost:
        hashes |= {position: store.hashes(position, position + 1)[0] for position in lost}
    stored = store.blocks(0, 1 << 40)
    blocks = _check_blocks(stored, [hashes[position] for position in sorted(hashes)])
    certified = [block for block in stored if block.certified]
    if rosters is not None:
        for block in certified:
            votes = tuple(vote for _, vote in store.votes(block.height))
            certificate = Certificate(proposal=block.proposal, votes=votes)
            assert verify_certificate(rosters.of_epoch(certificate_epoch(certificate)), certificate) in blocks
    readings = {issuer: count for (kind, issuer), count in counts.items() if kind == "reading"}
    return Account(readings=readings, leaves=store.size(), blocks=blocks, certified=len(certified))


def _check_signatures(leaves: Sequence[StoredLeaf]) -> None:
    genesis = canonical.decode_event(payload_of(next(leaf for leaf in leaves if leaf.kind == "event").data))
    assert genesis.kind is EventKind.GENESIS
    gateway_key = genesis.details["public-key"]
    assert isinstance(gateway_key, bytes)
    keys: dict[str, bytes] = {}
    for leaf in leaves:
        signing.verify(leaf.data, gateway_key if leaf.kind == "event" else keys[leaf.issuer])
        if leaf.kind == "event":
            event = canonical.decode_event(payload_of(leaf.data))
            if event.kind is EventKind.DEVICE_ENROLLED:
                device = enrolled_device(event)
                assert device.id not in keys, "enrolled twice"
                keys[device.id] = device.public_key


def _check_sequences(leaves: Sequence[StoredLeaf]) -> dict[tuple[str, str], int]:
    counts: dict[tuple[str, str], int] = {}
    for leaf in leaves:
        signer = (leaf.kind, leaf.issuer)
        read = canonical.decode_reading if leaf.kind == "reading" else canonical.decode_event
        counts[signer] = counts.get(signer, 0) + 1
        assert leaf.sequence == read(payload_of(leaf.data)).sequence == counts[signer], f"{signer} {leaf.sequence}"
    return counts


def _check_blocks(stored: Sequence[StoredBlock], hashes: Sequence[bytes]) -> tuple[Block, ...]:
    blocks = tuple(block_of(block.proposal) for block in stored)
    size, frontier = 0, merkle.Frontier()
    for height, block in enumerate(blocks):
        assert (block.height, block.start, block.start_root) == (height, size, frontier.root())
        frontier = frontier.extend(hashes[block.start : block.size])
        assert (block.size, block.root) == (frontier.size, frontier.root())
        size = block.size
    if blocks:
        assert blocks[-1].root == merkle.root(list(hashes[:size]))
    return blocks
