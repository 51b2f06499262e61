import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import apsw
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import canonical, cbor, merkle, signing
from gateway.block import Head, next_block
from gateway.errors import StoreError
from gateway.io.store.readings import DAMAGED_KEPT, DamagedFrame, LeafRow, ReadingStore, payload_of
from gateway.model import EventKind, Proposal
from tests.builders import (
    CHAIN,
    DEVICE,
    GATEWAY,
    Chain,
    genesis_leaf,
    key_of,
    make_reading,
    reading_leaf,
    ward_chain,
)
from tests.disks import FailingDisk
from tests.states import row_of

FILE = "readings.db"

# Another process that appends readings, three at a time, until its standard input ends.
WRITER = """
import select, sys
from gateway.io.store.readings import ReadingStore
from tests.test_store_readings import reading_rows
store, number = ReadingStore(sys.argv[1]), 0
while not select.select([sys.stdin], [], [], 0)[0]:
    store.append(reading_rows(number, number + 3))
    number += 3
    print(number, flush=True)
"""


def opened(folder: Path, *, read_only: bool = False) -> ReadingStore:
    return ReadingStore(str(folder / FILE), read_only=read_only)


def reading_rows(start: int, stop: int, device: str = DEVICE, first: int | None = None) -> list[LeafRow]:
    """Give readings at positions [start, stop), numbered from `first`, or by their places."""
    numbers = range(start + 1, stop + 1) if first is None else range(first, first + stop - start)
    return [
        row_of(reading_leaf(make_reading(number), device), position)
        for position, number in zip(range(start, stop), numbers, strict=True)
    ]


def ward_rows(readings: int = 5) -> list[LeafRow]:
    """Give the leaves of `ward_chain`: genesis, an enrolment, readings."""
    return [row_of(leaf, position) for position, leaf in enumerate(ward_chain(readings).leaves)]


def filled(folder: Path, readings: int = 5) -> tuple[ReadingStore, Chain]:
    """Give a store that holds `ward_chain`: both blocks, no votes."""
    store, chain = opened(folder), ward_chain(readings)
    store.append(ward_rows(readings))
    for proposal in chain.proposals:
        store.seal(proposal.block, proposal.signed, proposal.hashes)
    return store, chain


def contents(store: ReadingStore) -> object:
    """Give everything that a store holds."""
    return [store._database.rows(f"SELECT * FROM {table}") for table in ("leaf", "tile", "block", "vote", "damaged")]  # noqa: S608 - the tables' names


# -- leaves


def test_leaves_come_back_whole(tmp_path: Path) -> None:
    """A leaf is kept in two parts and comes back byte for byte, in the order of the tree, after a restart too."""
    store, chain = filled(tmp_path)
    store.close()
    again = opened(tmp_path, read_only=True)
    assert [leaf.data for leaf in again.leaves(0)] == chain.leaves
    assert [leaf.position for leaf in again.leaves(2, 4)] == [2, 3]
    assert again.leaf_bytes(2, 4) == chain.leaves[2:4]
    assert again.leaf(6).data == chain.leaves[6]
    assert again.size() == 7
    again.close()


def test_missing_leaf_is_a_store_error(tmp_path: Path) -> None:
    """A leaf that should be there and is not cannot be passed over."""
    store, _ = filled(tmp_path)
    with pytest.raises(StoreError, match="leaf 7 is not in the store"):
        store.leaf(7)
    store.close()


def test_latest_are_of_one_kind_and_issuer(tmp_path: Path) -> None:
    """The latest readings come newest first, of one device or of all; events are not among them."""
    store, _ = filled(tmp_path, readings=2)
    store.append(reading_rows(4, 6, "strap-2", first=1))
    assert [(leaf.issuer, leaf.sequence) for leaf in store.latest("reading", None, 3)] == [
        ("strap-2", 2),
        ("strap-2", 1),
        (DEVICE, 2),
    ]
    assert [leaf.sequence for leaf in store.latest("reading", DEVICE, 10)] == [2, 1]
    assert [leaf.sequence for leaf in store.latest("event", None, 1)] == [2]
    assert store.latest("reading", "unknown", 10) == []
    store.close()


def test_device_with_two_keys_is_one_issuer(tmp_path: Path) -> None:
    """A device that has signed with one key and then another has one sequence, newest first over both."""
    store, _ = filled(tmp_path, readings=3)
    header = canonical.signer_header(canonical.READING_TYPE, key_of(DEVICE, 2).kid, DEVICE, CHAIN)
    payloads = [canonical.encode_reading(make_reading(number)) for number in (4, 5)]
    rotated = [signing.sign(key_of(DEVICE, 2), header, payload) for payload in payloads]
    store.append([row_of(leaf, 5 + at) for at, leaf in enumerate(rotated)])
    assert [leaf.sequence for leaf in store.latest("reading", DEVICE, 4)] == [5, 4, 3, 2]
    assert [leaf.sequence for leaf in store.latest("reading", DEVICE, 1)] == [5]
    numbered = [store.numbered("reading", DEVICE, number) for number in (1, 5)]
    assert [leaf.position for leaf in numbered if leaf] == [2, 6]
    assert store.last_sequences()[DEVICE] == 5
    store.close()


def test_numbered_leaf_is_found(tmp_path: Path) -> None:
    """A device and a sequence number name one leaf, or none."""
    store, chain = filled(tmp_path)
    found = store.numbered("reading", DEVICE, 3)
    assert found is not None
    assert found.data == chain.leaves[4]
    assert store.numbered("reading", DEVICE, 6) is None
    assert store.numbered("event", GATEWAY, 2) is not None
    store.close()


def test_events_are_the_audit_trail(tmp_path: Path) -> None:
    """Events come decoded, with their positions, in the order of the tree."""
    store, _ = filled(tmp_path)
    assert [(at, event.kind) for at, event in store.events()] == [
        (0, EventKind.GENESIS),
        (1, EventKind.DEVICE_ENROLLED),
    ]
    store.close()


def test_damaged_event_is_named(tmp_path: Path) -> None:
    """An event that cannot be read any more is a StoreError: the registry of devices rests on it."""
    store, _ = filled(tmp_path)
    store._database.rows("UPDATE leaf SET tail = zeroblob(length(tail)) WHERE position = 1")
    with pytest.raises(StoreError, match="event 2 was damaged on the disk"):
        list(store.events())
    store._database.rows("UPDATE header SET issuer = CAST(x'ff' AS TEXT)")
    with pytest.raises(StoreError, match=r"readings\.db: .*utf-8"):
        store.last_sequences()
    store.close()


def test_last_sequences_are_by_issuer(tmp_path: Path) -> None:
    """Who has signed leaves here goes on counting from the last of them."""
    store, _ = filled(tmp_path)
    assert store.last_sequences() == {GATEWAY: 2, DEVICE: 5}
    store.close()


def test_empty_store_has_nothing(tmp_path: Path) -> None:
    """A new store holds no leaf, block or signer."""
    store = opened(tmp_path)
    assert (store.size(), store.last_sequences(), store.block_counts()) == (0, {}, (0, 0))
    assert (store.last_block(), store.block(0), store.block_of(0)) == (None, None, None)
    store.append([])
    assert store.size() == 0
    store.close()


def test_leaf_is_never_written_twice(tmp_path: Path) -> None:
    """A place in the tree and a signer's number are taken once; a batch that takes one again is refused whole."""
    store, chain = filled(tmp_path)
    for again in (reading_rows(6, 8), [*reading_rows(7, 9), *reading_rows(9, 10, first=3)]):
        with pytest.raises(StoreError):
            store.append(again)
    assert [leaf.data for leaf in store.leaves(0)] == chain.leaves
    store.close()


def test_hole_is_refused(tmp_path: Path) -> None:
    """Leaves are kept in the order of the tree: one that would leave a hole for ever is not taken."""
    store, _ = filled(tmp_path)
    with pytest.raises(StoreError, match="leaf 9 cannot follow 7 leaves"):
        store.append(reading_rows(9, 11))
    store.append(reading_rows(7, 9))
    assert store.size() == 9
    store.close()


def test_batch_that_failed_leaves_no_signer(tmp_path: Path) -> None:
    """A signer that was new in a batch that was undone is kept with its first leaf that stays."""
    store = opened(tmp_path)
    with pytest.raises(StoreError):
        store.append([*reading_rows(0, 2), *reading_rows(1, 2)])
    store.append(reading_rows(0, 2))
    assert [leaf.sequence for leaf in store.leaves(0)] == [1, 2]
    store.close()


def test_signer_is_kept_once(tmp_path: Path) -> None:
    """What all leaves of a device begin with is stored once, also by another run of the program."""
    store, _ = filled(tmp_path)
    store.close()
    again = opened(tmp_path)
    again.append(reading_rows(7, 9, first=6))
    assert again._database.rows("SELECT issuer FROM header ORDER BY id") == [(GATEWAY,), (DEVICE,)]
    again.close()


# -- the tree and its blocks


@given(st.lists(st.integers(1, 400), min_size=1, max_size=5), st.data())
def test_tiles_are_the_tree(sizes: Sequence[int], data: st.DataObject) -> None:
    """However leaves are cut into blocks, the tiles give every leaf hash and every inclusion path of the tree."""
    hashes = [merkle.leaf_hash(f"leaf {number}".encode()) for number in range(sum(sizes))]
    store, head = ReadingStore(":memory:"), Head(chain=CHAIN)
    for size in sizes:
        start = head.frontier.size
        block, head = next_block(head, hashes[start : start + size], 0, 0)
        store.seal(block, b"proposal", hashes[start : start + size])
    size = sum(sizes[: data.draw(st.integers(1, len(sizes)))])
    index = data.draw(st.integers(0, size - 1))
    assert merkle.tile_path(store.tile, index, size) == merkle.inclusion_path(hashes[:size], index)
    assert merkle.tile_frontier(store.tile, size).root() == merkle.root(hashes[:size])
    assert store.hashes(index, size) == hashes[index:size]
    store.close()


def test_missing_tile_is_a_store_error(tmp_path: Path) -> None:
    """A tree with a hole is damage: hashes are not read from it, and nothing is added to it."""
    store, chain = filled(tmp_path)
    store._database.rows("DELETE FROM tile")
    with pytest.raises(KeyError):
        store.tile(0, 0)
    with pytest.raises(StoreError, match="tile"):
        store.hashes(0, 7)
    after = chain.seal(reading_leaf(make_reading(6)))
    with pytest.raises(StoreError, match="tile"):
        store.seal(after.block, after.signed, after.hashes)
    assert store.block(2) is None
    store.close()


def test_blocks_are_found_by_height_and_by_leaf(tmp_path: Path) -> None:
    """A block is found by its height, by a leaf in it, and as the last one; a leaf that is not sealed has none."""
    store, chain = filled(tmp_path)
    store.append(reading_rows(7, 8, first=6))
    first, second = chain.proposals
    assert [block.proposal for block in store.blocks(0, 9)] == [first.signed, second.signed]
    assert [block.height for block in store.blocks(1, 9)] == [1]
    assert [block.height for block in store.blocks(0, 1)] == [0]
    assert store.last_block() == store.block(1) == store.block_of(2) == store.block_of(6)
    assert store.block_of(1) == store.block(0)
    assert store.block_of(7) is None
    assert (store.block(0), store.block(2)) != (None, None)
    store.close()


def test_block_is_sealed_once(tmp_path: Path) -> None:
    """A second block at a height, or from the same leaf on, is refused and leaves the tree as it was."""
    store, chain = filled(tmp_path)
    before = contents(store)
    again = chain.fork()
    again.head = Head(chain=CHAIN, next_height=2)
    for proposal in (chain.proposals[1], again.seal(genesis_leaf())):
        with pytest.raises(StoreError):
            store.seal(proposal.block, proposal.signed, proposal.hashes)
        assert contents(store) == before
    store.close()


def test_certified_is_what_a_quorum_signed(tmp_path: Path) -> None:
    """Votes are kept by peer; a block counts as certified from the moment that it is said with them, and for good."""
    store, _ = filled(tmp_path)
    assert [block.height for block in store.uncertified(-1, 9)] == [0, 1]
    store.save_votes(0, [("peer-1", b"one"), ("peer-0", b"nought")], certified=True)
    store.save_votes(0, [("peer-2", b"late")], certified=False)
    store.save_votes(1, [("peer-0", b"early")], certified=False)
    assert store.votes(0) == [("peer-0", b"nought"), ("peer-1", b"one"), ("peer-2", b"late")]
    assert [block.height for block in store.uncertified(-1, 9)] == [1]
    assert store.uncertified(1, 9) == []
    assert store.block_counts() == (2, 1)
    first = store.block(0)
    assert first is not None
    assert first.certified
    store.close()


# -- blocks that come back from peers


def test_adopted_block_has_hashes_without_bodies(tmp_path: Path) -> None:
    """A block that was lost comes back as hashes: the tree goes on behind it, its bodies stay away."""
    store, chain = filled(tmp_path)
    lost = chain.seal(*[reading_leaf(make_reading(number)) for number in (6, 7, 8)])
    store.adopt(lost.block, lost.signed, lost.hashes)
    assert store.size() == 10
    assert list(store.leaves(7)) == []
    assert store.hashes(7, 10) == list(lost.hashes)
    last = store.last_block()
    assert last is not None
    assert (last.proposal, last.certified) == (lost.signed, False)
    store.append(reading_rows(10, 11, first=6))
    store.close()


def test_adopted_block_finds_its_leaves_and_moves_the_others_behind(tmp_path: Path) -> None:
    """Leaves that are not sealed here keep their order behind the block; those that it contains find their place."""
    store, chain = filled(tmp_path)
    mine = [reading_leaf(make_reading(number)) for number in range(6, 12)]
    store.append([row_of(leaf, 7 + at) for at, leaf in enumerate(mine)])
    foreign = [reading_leaf(make_reading(number, 99)) for number in (90, 91)]
    lost = chain.seal(foreign[0], mine[3], foreign[1], mine[0])
    store.adopt(lost.block, lost.signed, lost.hashes)
    assert [(leaf.position, leaf.data) for leaf in store.leaves(7)] == [
        (8, mine[3]),
        (10, mine[0]),
        (11, mine[1]),
        (12, mine[2]),
        (13, mine[4]),
        (14, mine[5]),
    ]
    store.close()


# -- damaged frames


def test_damaged_frames_are_a_ring(tmp_path: Path) -> None:
    """Damaged frames are kept as heard, the newest first; beyond their number the oldest go."""
    store = opened(tmp_path)
    frames = [DamagedFrame(DEVICE, number, "checksum", number.to_bytes(2, "big")) for number in range(DAMAGED_KEPT + 5)]
    store.keep_damaged(frames[:3])
    assert store.damaged(9) == frames[2::-1]
    store.keep_damaged(frames[3:])
    assert store.damaged(1) == [frames[-1]]
    assert store.damaged(2 * DAMAGED_KEPT)[-1] == frames[5]
    store.close()


# -- the disk


def test_forgotten_cache_is_read_from_the_file_again(tmp_path: Path) -> None:
    """What was changed in the file behind the program's back shows once the cache is forgotten."""
    store, chain = filled(tmp_path)
    tail = chain.leaves[6][-64:]
    log = tmp_path / f"{FILE}-wal"
    assert store.leaf(6).data.endswith(tail)
    log.write_bytes(log.read_bytes().replace(tail, bytes(64)))
    store.forget_cache()
    assert store.leaf(6).data.endswith(bytes(64))
    store.close()


def test_reader_sees_whole_batches_while_another_process_writes(tmp_path: Path) -> None:
    """A reader of a store that another process writes sees all of a batch or none, and each look at least the last."""
    arguments = [sys.executable, "-c", WRITER, str(tmp_path / FILE)]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdin is not None
        assert writer.stdout is not None
        writer.stdout.readline()
        reader = opened(tmp_path, read_only=True)
        for _ in range(50):
            acknowledged = int(writer.stdout.readline())
            positions = [leaf.position for leaf in reader.leaves(0)]
            assert positions == list(range(len(positions)))
            assert len(positions) % 3 == 0
            assert len(positions) >= acknowledged
        writer.stdin.close()
        acknowledged = int(writer.stdout.readlines()[-1])
        assert writer.wait() == 0
    assert reader.size() == acknowledged
    reader.close()


LATER = reading_rows(7, 70, first=6)
WRITES: dict[str, Callable[[ReadingStore, Proposal], None]] = {
    "append": lambda store, _: store.append(LATER),
    "seal": lambda store, proposal: store.seal(proposal.block, proposal.signed, proposal.hashes),
    "adopt": lambda store, proposal: store.adopt(proposal.block, proposal.signed, proposal.hashes),
    "votes": lambda store, _: store.save_votes(1, [("peer-0", b"v" * 5000)], certified=True),
    "damaged": lambda store, _: store.keep_damaged([DamagedFrame(DEVICE, 1, "noise", b"n" * 5000)]),
}


@pytest.mark.parametrize("failure", [apsw.IOError, apsw.FullError])
@pytest.mark.parametrize("write", WRITES)
def test_fault_02_and_03_every_write_is_all_or_nothing(tmp_path: Path, write: str, failure: type[apsw.Error]) -> None:
    """At whatever step of a write the disk fails, the store holds what it held or all of it; acknowledged means all."""
    store, chain = filled(tmp_path)
    before = contents(store)
    store.close()
    sound = (tmp_path / FILE).read_bytes()
    lost = chain.seal(*[reading_leaf(make_reading(number)) for number in range(100, 400)])
    after = written_but(tmp_path, sound, write, lost)
    for number in range(1, 500):
        acknowledged = written_but(tmp_path, sound, write, lost, failing=(number, failure))
        store = opened(tmp_path)
        found = contents(store)
        store.close()
        assert found == after if acknowledged else found in (before, after)
        if acknowledged:
            assert number > 2, "a commit has at least a write and a sync"
            return
    pytest.fail("every write failed")


def written_but(
    folder: Path, sound: bytes, write: str, lost: Proposal, failing: tuple[int, type[apsw.Error]] | None = None
) -> object:
    """Write to a copy of a store, whose disk may fail at a step; give what it holds then, or None if it was refused."""
    for path in folder.iterdir():
        path.unlink()
    (folder / FILE).write_bytes(sound)
    with FailingDisk() as disk:
        store = opened(folder)
        if failing:
            disk.fail_at, disk.failure = disk.touched + failing[0], failing[1]
        try:
            WRITES[write](store, lost)
            return contents(store)
        except StoreError:
            return None
        finally:
            disk.fail_at = None
            store.close()


@pytest.mark.parametrize("ending", ["-shm", "-wal"])
@pytest.mark.parametrize("kept_bytes", [None, 0, 1, 32, 4152, 20_000, 33_000])
def test_fault_11_log_or_index_deleted_or_truncated(tmp_path: Path, ending: str, kept_bytes: int | None) -> None:
    """Without its -shm a store is whole; with a shorter -wal, or none, it holds whole batches up to some point."""
    store = opened(tmp_path)
    store._database.connection.pragma("wal_autocheckpoint", 0)
    for number in range(0, 60, 3):
        store.append(reading_rows(number, number + 3))
    killed = tmp_path / "killed"  # the files as SIGKILL leaves them
    killed.mkdir()
    for path in tmp_path.glob(f"{FILE}*"):
        (killed / path.name).write_bytes(path.read_bytes())
    store.close()
    victim = killed / f"{FILE}{ending}"
    if kept_bytes is None:
        victim.unlink()
    else:
        victim.write_bytes(victim.read_bytes()[:kept_bytes])
    again = opened(killed)
    found = [leaf.position for leaf in again.leaves(0)]
    again.close()
    assert found == list(range(len(found)))
    assert len(found) % 3 == 0
    assert len(found) == 60 or ending == "-wal"


def test_payload_is_the_signed_middle(tmp_path: Path) -> None:
    """The payload of a leaf is what its signer signed; a message without one has an empty payload."""
    store, _ = filled(tmp_path)
    assert canonical.decode_reading(payload_of(store.leaf(2).data)) == make_reading(1, 61)
    vote = signing.sign(key_of("peer-0"), cbor.encode({canonical.ALG: -8}), b"root", detached=True)
    assert payload_of(vote) == b""
    store.close()
