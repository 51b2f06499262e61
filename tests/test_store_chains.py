from dataclasses import replace
from pathlib import Path

import apsw
import pytest

from gateway import merkle
from gateway.errors import StoreError
from gateway.io.store.chains import ChainStore
from gateway.ledger.voting import Conflict, Tip
from gateway.model import Proposal
from tests.builders import CHAIN, Chain, make_reading, propose, reading_leaf, ward_chain
from tests.disks import FailingDisk

OTHER = "ward-4.00000000"


def opened(folder: Path, *, read_only: bool = False) -> ChainStore:
    return ChainStore(str(folder / "ledger.db"), read_only=read_only)


def voted(*proposals: Proposal) -> list[tuple[Proposal, bytes]]:
    return [(proposal, f"vote on {proposal.block.height}".encode()) for proposal in proposals]


def filled(folder: Path) -> tuple[ChainStore, Chain]:
    """Give a store that has voted for both blocks of `ward_chain`."""
    store, chain = opened(folder), ward_chain()
    store.commit(voted(*chain.proposals), [])
    return store, chain


def damage(store: ChainStore, sql: str) -> None:
    store._database.rows(sql)


def test_tip_is_where_the_last_vote_was(tmp_path: Path) -> None:
    """After a restart a peer's tip is the last block that it voted for, with the tree read from its tiles."""
    store, chain = filled(tmp_path)
    store.close()
    again = opened(tmp_path)
    last = chain.proposals[-1]
    assert again.tip(CHAIN) == Tip(
        chain=CHAIN, next_height=2, frontier=merkle.Frontier().extend(chain.hashes()), last_signed=last.signed
    )
    again.close()


def test_chain_without_a_block_has_an_empty_tip(tmp_path: Path) -> None:
    """Of a chain that was never voted on, the tip is the empty tree."""
    store, _ = filled(tmp_path)
    assert store.tip(OTHER) == Tip(chain=OTHER)
    store.close()


def test_blocks_come_back_as_they_were_voted_for(tmp_path: Path) -> None:
    """Proposals, votes and leaf hashes are there for any peer or gateway that asks."""
    store, chain = filled(tmp_path)
    blocks = store.blocks(CHAIN, 0, 9)
    assert [(block.proposal, block.vote) for block in blocks] == [
        (chain.proposals[0].signed, b"vote on 0"),
        (chain.proposals[1].signed, b"vote on 1"),
    ]
    assert store.blocks(CHAIN, 1, 9) == [store.block(CHAIN, 1)] == store.blocks(CHAIN, 0, 9)[1:]
    assert store.blocks(CHAIN, 0, 1) == blocks[:1]
    assert store.block(CHAIN, 2) is None
    assert store.hashes(CHAIN, 1, 6) == chain.hashes(1, 6)
    store.close()


def test_chains_are_kept_apart(tmp_path: Path) -> None:
    """Two gateways' chains share nothing: each has its own tree, heights and tip."""
    store, chain = filled(tmp_path)
    first = chain.proposals[0]
    other = propose(replace(first.block, chain=OTHER), first.hashes)
    store.commit(voted(other), [])
    assert store.chains() == {CHAIN: (2, 7), OTHER: (1, 2)}
    assert store.tip(OTHER).next_height == 1
    assert store.tip(CHAIN).next_height == 2
    store.close()


def test_evidence_freezes_a_chain(tmp_path: Path) -> None:
    """Two contradicting proposals are kept, the first pair for good, and freeze their chain and no other."""
    store, chain = filled(tmp_path)
    store.commit([], [Conflict(CHAIN, b"one", b"two")])
    store.commit([], [Conflict(CHAIN, b"three", b"four"), Conflict(OTHER, b"five", b"six")])
    store.close()
    again = opened(tmp_path, read_only=True)
    assert again.frozen() == [CHAIN, OTHER]
    assert again._database.rows("SELECT first, second FROM evidence ORDER BY chain")[0] == (b"one", b"two")
    assert again.tip(CHAIN).frozen
    assert again.tip(CHAIN).last_signed == chain.proposals[1].signed
    assert again.tip(OTHER) == Tip(chain=OTHER, frozen=True)
    again.close()


def test_commit_is_all_or_nothing(tmp_path: Path) -> None:
    """A vote that cannot be kept takes the votes and the evidence beside it with it."""
    store, chain = filled(tmp_path)
    third = chain.seal(reading_leaf(make_reading(6)))
    with pytest.raises(StoreError):
        store.commit(voted(third, chain.proposals[0]), [Conflict(OTHER, b"one", b"two")])
    assert (store.tip(CHAIN).next_height, store.frozen()) == (2, [])
    store.commit(voted(third), [])
    assert store.tip(CHAIN).next_height == 3
    store.close()


def test_one_commit_takes_many_blocks_of_a_chain(tmp_path: Path) -> None:
    """Blocks that came together build on each other within one transaction, over the bounds of tiles."""
    store, chain = opened(tmp_path), Chain()
    for number in range(5):
        chain.seal(*[reading_leaf(make_reading(100 * number + at)) for at in range(1, 101)])
    store.commit(voted(*chain.proposals), [])
    assert store.tip(CHAIN).frontier.root() == merkle.root(chain.hashes())
    assert store.hashes(CHAIN, 250, 260) == chain.hashes(250, 260)
    store.close()


@pytest.mark.parametrize("failure", [apsw.IOError, apsw.FullError])
def test_fault_02_and_03_a_vote_is_kept_whole_or_not_at_all(tmp_path: Path, failure: type[apsw.Error]) -> None:
    """At whatever step the disk fails, the tip after a restart is the old one or the new one, each with its tree."""
    for number in range(1, 500):
        folder = tmp_path / f"{number}"
        folder.mkdir()
        with FailingDisk() as disk:
            store, chain = filled(folder)
            third = chain.seal(*[reading_leaf(make_reading(n)) for n in range(100, 400)])
            disk.fail_at, disk.failure = disk.touched + number, failure
            try:
                store.commit(voted(third), [])
            except StoreError:
                acknowledged = False
            else:
                acknowledged = True
            disk.fail_at = None
            store.close()
        after = opened(folder)
        height = after.tip(CHAIN).next_height
        after.close()
        assert height == 3 if acknowledged else height in {2, 3}
        if acknowledged:
            assert number > 2, "a commit has at least a write and a sync"
            return
    pytest.fail("every commit failed")


@pytest.mark.parametrize(
    ("sql", "refusal"),
    [
        ("UPDATE block SET proposal = (SELECT proposal FROM block)", "another block stands at height 1"),
        ("DELETE FROM tile", "tile .* is missing"),
        ("UPDATE tile SET hashes = substr(hashes, 33)", "tile .* is missing"),
        ("UPDATE tile SET hashes = zeroblob(length(hashes))", "does not make the root"),
        ("UPDATE tile SET hashes = 5", "tile .* is missing"),
        ("UPDATE block SET proposal = x'00' WHERE height = 1", "block 1 of chain .* was damaged"),
        ("UPDATE block SET proposal = 'text' WHERE height = 1", "block 1 of chain .* was damaged"),
    ],
)
def test_damage_is_found_before_a_vote_rests_on_it(tmp_path: Path, sql: str, refusal: str) -> None:
    """A tip whose block or tree was damaged on the disk is a StoreError that names it, never a tip."""
    store, _ = filled(tmp_path)
    damage(store, sql)
    with pytest.raises(StoreError, match=refusal):
        store.tip(CHAIN)
    store.close()


def test_missing_hashes_are_a_store_error(tmp_path: Path) -> None:
    """A tree with a hole is neither read for others nor added to."""
    store, chain = filled(tmp_path)
    damage(store, "DELETE FROM tile")
    with pytest.raises(StoreError, match=r"tile .* is missing"):
        store.hashes(CHAIN, 0, 2)
    with pytest.raises(StoreError, match=r"tile .* is missing"):
        store.commit(voted(chain.seal(reading_leaf(make_reading(6)))), [])
    store.close()
