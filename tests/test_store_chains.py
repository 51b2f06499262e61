from dataclasses import replace
from pathlib import Path

import apsw
import pytest

from gateway import cbor, merkle
from gateway.errors import StoreError
from gateway.io.store.chains import FILE, ChainStore
from gateway.io.store.database import Database
from gateway.ledger.book import Changes
from gateway.ledger.messages import encode_freezes, encode_opening
from gateway.ledger.standing import Word
from gateway.ledger.voting import Conflict, Tip
from gateway.model import Certificate, Proposal
from tests.builders import CHAIN, Chain, make_reading, propose, reading_leaf, ward_chain
from tests.disks import FailingDisk
from tests.postgres import Postgres, shared_postgres

__all__ = ["shared_postgres"]  # a fixture

OTHER = "ward-4.00000000"
CAUSE = encode_freezes((), (b"one", b"two"))
OPENING = encode_opening(b"opening", ())
BEYOND = 1 << 63  # what no column can hold


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Give a place for a copy, in each of the two databases."""
    if request.param == "sqlite":
        return str(tmp_path / FILE)
    postgres: Postgres = request.getfixturevalue("shared_postgres")
    return postgres.create()


def opened(place: Path | str, *, read_only: bool = False) -> ChainStore:
    """Open the copy at a place, or in a folder."""
    return ChainStore(str(place / FILE if isinstance(place, Path) else place), read_only=read_only)


def voted(*proposals: Proposal) -> Changes:
    """Give the changes by which a peer votes for blocks."""
    blocks = [(proposal.block, proposal) for proposal in proposals]
    return Changes(
        votes={
            (block.chain, block.incarnation, block.height): (proposal, f"vote on {block.height}".encode())
            for block, proposal in blocks
        }
    )


def worded(chain: str, incarnation: int, word: Word, data: bytes, epoch: int = 0) -> Changes:
    """Give the changes by which a peer keeps a word."""
    return Changes(words={(chain, incarnation, epoch, word): data})


def certified(proposal: Proposal, *votes: bytes, signed: bytes = b"") -> Changes:
    """Give the changes by which a peer keeps a certificate, of a proposal with other signatures if they are given."""
    block = proposal.block
    certificate = Certificate(proposal=signed or proposal.signed, votes=votes)
    return Changes(certificates={(block.chain, block.incarnation, block.height): certificate})


def filled(place: Path | str) -> tuple[ChainStore, Chain]:
    """Give a store that has voted for both blocks of `ward_chain`."""
    store, chain = opened(place), ward_chain()
    store.commit(voted(*chain.proposals))
    return store, chain


def damage(store: ChainStore, sql: str) -> None:
    store._database.rows(sql)


def test_tip_is_where_the_last_vote_was(place: str) -> None:
    """After a restart a peer's tip is the last block that it voted for, with the tree read from its tiles."""
    store, chain = filled(place)
    store.close()
    again = opened(place)
    last = chain.proposals[-1]
    assert again.tip(CHAIN) == Tip(
        chain=CHAIN, next_height=2, frontier=merkle.Frontier().extend(chain.hashes()), last_signed=last.signed
    )
    again.close()


def test_chain_without_a_block_has_an_empty_tip(place: str) -> None:
    """Of a chain that was never voted on, the tip is the empty tree."""
    store, _ = filled(place)
    assert store.tip(OTHER) == Tip(chain=OTHER)
    assert store.size(OTHER, 0) == store.certified(OTHER, 0) == store.certificates(OTHER, 0) == 0
    store.close()


def test_blocks_come_back_as_they_were_voted_for(place: str) -> None:
    """Proposals, votes and leaf hashes are there for any peer or gateway that asks."""
    store, chain = filled(place)
    blocks = store.blocks(CHAIN, 0, 0, 9)
    assert [(block.proposal, block.vote) for block in blocks] == [
        (chain.proposals[0].signed, b"vote on 0"),
        (chain.proposals[1].signed, b"vote on 1"),
    ]
    assert store.blocks(CHAIN, 0, 1, 9) == [store.block(CHAIN, 0, 1)] == store.blocks(CHAIN, 0, 0, 9)[1:]
    assert store.blocks(CHAIN, 0, 0, 1) == blocks[:1]
    assert list(store.every_block(CHAIN, 0)) == blocks
    assert store.block(CHAIN, 0, 2) is None
    assert store.hashes(CHAIN, 0, 1, 6) == chain.hashes(1, 6)
    assert store.size(CHAIN, 0) == 7
    assert merkle.tile_path(store.reader(CHAIN, 0), 3, 7) == merkle.inclusion_path(chain.hashes(), 3)
    assert store.tile_counts(CHAIN, 0) == {0: 1}
    store.close()


def test_chains_and_incarnations_are_kept_apart(place: str) -> None:
    """Two gateways' chains share nothing, nor do two incarnations of one: each has its own tree, heights and words."""
    store, chain = filled(place)
    first = chain.proposals[0]
    other = propose(replace(first.block, chain=OTHER), first.hashes)
    again = propose(replace(first.block, incarnation=1), first.hashes)
    store.commit(voted(other, again))
    assert store.chains() == [CHAIN, OTHER]
    assert store.kept() == {(CHAIN, 0): 2, (CHAIN, 1): 1, (OTHER, 0): 1}
    assert [store.tip(name).next_height for name in (CHAIN, OTHER)] == [2, 1]
    assert [block.height for block in store.blocks(CHAIN, 1, 0, 9)] == [0]
    assert store.hashes(CHAIN, 1, 0, 2) == list(first.hashes)
    assert [store.size(CHAIN, incarnation) for incarnation in range(3)] == [7, 2, 0]
    store.close()


def test_an_opening_begins_an_incarnation(place: str) -> None:
    """The tip is that of the incarnation opened last, empty until it has a block."""
    store, chain = filled(place)
    store.commit(worded(CHAIN, 0, Word.CAUSE, CAUSE))
    store.commit(worded(CHAIN, 1, Word.OPENING, OPENING))
    store.commit(worded(CHAIN, 2, Word.CAUSE, CAUSE))  # of which no opening was heard
    assert (store.incarnation(CHAIN), store.incarnation(OTHER)) == (1, 0)
    assert store.tip(CHAIN) == Tip(chain=CHAIN, incarnation=1)
    first = chain.proposals[0]
    store.commit(voted(propose(replace(first.block, incarnation=1), first.hashes)))
    assert (store.tip(CHAIN).incarnation, store.tip(CHAIN).next_height) == (1, 1)
    store.close()


def test_words_come_back_as_they_were_kept(place: str) -> None:
    """What was frozen and closed is kept by incarnation and epoch; the latest of its kind there is what counts."""
    store, _ = filled(place)
    store.commit(worded(CHAIN, 0, Word.FROZEN, b"epoch 1", epoch=1))
    store.commit(worded(CHAIN, 0, Word.FROZEN, b"epoch 2", epoch=2))
    store.commit(worded(CHAIN, 1, Word.OPENING, b"other"))
    store.commit(worded(CHAIN, 0, Word.FROZEN, b"epoch 2 again", epoch=2))
    store.close()
    again = opened(place, read_only=True)
    assert again.words(CHAIN, 0) == {(1, Word.FROZEN): b"epoch 1", (2, Word.FROZEN): b"epoch 2 again"}
    assert again.words(CHAIN, 1) == {(0, Word.OPENING): b"other"}
    assert again.words(OTHER, 0) == {}
    again.close()


def test_evidence_freezes_a_chain(place: str) -> None:
    """A cause that is kept freezes its chain and no other; only two proposals are evidence."""
    store, chain = filled(place)
    store.commit(worded(CHAIN, 0, Word.CAUSE, CAUSE))
    store.commit(worded(OTHER, 0, Word.CAUSE, encode_freezes((), (b"recovery",))))
    store.close()
    again = opened(place, read_only=True)
    assert again.evidence(CHAIN, 0) == Conflict(CHAIN, b"one", b"two")
    assert again.evidence(OTHER, 0) is None
    assert again.evidence(CHAIN, 1) is None
    assert again.tip(CHAIN).frozen
    assert again.tip(CHAIN).last_signed == chain.proposals[1].signed
    assert again.tip(OTHER) == Tip(chain=OTHER, frozen=True)
    assert again.chains() == [CHAIN, OTHER]
    assert again.kept()[OTHER, 0] == 0
    again.close()


def test_a_vote_is_renewed(place: str) -> None:
    """The vote of a later epoch takes the place of the one before it, also within one commit, and of no other."""
    store, chain = filled(place)
    third = chain.seal(reading_leaf(make_reading(6)))
    changes = voted(third)
    changes.renewed = {(CHAIN, 0, 1): b"again on 1", (CHAIN, 0, 2): b"again on 2"}
    store.commit(changes)
    votes = [block.vote for block in store.blocks(CHAIN, 0, 0, 9)]
    assert votes == [b"vote on 0", b"again on 1", b"again on 2"]
    store.close()


def test_certificates_come_back_as_they_were_heard(place: str) -> None:
    """Votes are kept with the proposal that they were for, which may be signed otherwise; the first ones stay."""
    store, chain = filled(place)
    first, second = chain.proposals
    third = chain.seal(reading_leaf(make_reading(6)))
    store.commit(certified(first, b"a", b"b"))
    store.commit(certified(first, b"c"))
    together = voted(third)
    together.certificates = certified(third, b"d").certificates
    store.commit(together)
    assert store.certificate(CHAIN, 0, 0) == Certificate(proposal=first.signed, votes=(b"a", b"b"))
    assert store.certificate(CHAIN, 0, 1) is None
    assert store.certificate(CHAIN, 1, 0) is None
    assert (store.certified(CHAIN, 0), store.certificates(CHAIN, 0)) == (3, 2)
    store.commit(certified(second, b"e", signed=b"signed again"))
    assert store.certificate(CHAIN, 0, 1) == Certificate(proposal=b"signed again", votes=(b"e",))
    assert store._database.rows("SELECT count(*) FROM certificate WHERE proposal IS NULL") == [(2,)]
    store.close()


def test_commit_is_all_or_nothing(place: str) -> None:
    """A block that cannot be kept takes the votes, renewals, certificates and words beside it with it."""
    store, chain = filled(place)
    third = chain.seal(reading_leaf(make_reading(6)))
    before = state_of(store)
    changes = voted(third)
    changes.votes[CHAIN, 0, 0] = (chain.proposals[0], b"twice")
    with pytest.raises(StoreError, match=r"(?i)unique"):
        store.commit(changes)
    assert state_of(store) == before
    everything = replace(
        voted(third),
        renewed={(CHAIN, 0, 0): b"again"},
        certificates=certified(chain.proposals[0], b"a").certificates,
        words={**worded(OTHER, 0, Word.CAUSE, CAUSE).words, (CHAIN, 0, 0, Word.CAUSE): None},  # type: ignore[dict-item]  # cannot be kept
    )
    with pytest.raises(StoreError, match=r"(?i)not.null"):
        store.commit(everything)
    assert state_of(store) == before
    store.commit(voted(third))
    assert store.tip(CHAIN).next_height == 3
    store.close()


def state_of(store: ChainStore) -> list[object]:
    """Give every row of a store."""
    tables = ("block", "tile", "certificate", "word")
    return [store._database.rows(f"SELECT * FROM {table}") for table in tables]  # noqa: S608 - constants


def test_one_commit_takes_many_blocks_of_a_chain(place: str) -> None:
    """Blocks that came together build on each other within one transaction, over the bounds of tiles."""
    store, chain = opened(place), Chain()
    for number in range(5):
        chain.seal(*[reading_leaf(make_reading(100 * number + at)) for at in range(1, 101)])
    store.commit(voted(*chain.proposals))
    assert store.tip(CHAIN).frontier.root() == merkle.root(chain.hashes())
    assert store.hashes(CHAIN, 0, 250, 260) == chain.hashes(250, 260)
    assert store.tile_counts(CHAIN, 0) == {0: 2, 1: 1}
    store.close()


def test_a_reader_holds_one_state(place: str) -> None:
    """Who holds a copy sees nothing of what its peer keeps meanwhile."""
    store, chain = filled(place)
    reader = opened(place, read_only=True)
    reader.hold()
    assert reader.kept() == {(CHAIN, 0): 2}
    store.commit(voted(chain.seal(reading_leaf(make_reading(6)))))
    assert reader.kept() == {(CHAIN, 0): 2}
    assert store.kept() == {(CHAIN, 0): 3}
    reader.close()
    store.close()


@pytest.mark.parametrize("number", [BEYOND, 1 << 64, -BEYOND - 1])
def test_nothing_stands_at_numbers_beyond_all_columns(place: str, number: int) -> None:
    """Anyone may ask for any incarnation and height; what cannot be kept is not there, and harms nobody."""
    store, _ = filled(place)
    assert store.blocks(CHAIN, number, 0, 9) == store.blocks(CHAIN, 0, number, 9) == []
    assert store.block(CHAIN, 0, number) is None
    assert store.certificate(CHAIN, number, 0) is None
    assert store.size(CHAIN, number) == 0
    assert store.words(CHAIN, number) == {}
    with pytest.raises(KeyError):
        store.tile(CHAIN, number, 0, 0)
    store.close()


@pytest.mark.parametrize("failure", [apsw.IOError, apsw.FullError])
def test_fault_02_and_03_a_vote_is_kept_whole_or_not_at_all(tmp_path: Path, failure: type[apsw.Error]) -> None:
    """At whatever step the disk fails, the copy after a restart is the old one or the new one, each whole."""
    for number in range(1, 500):
        folder = tmp_path / f"{number}"
        folder.mkdir()
        with FailingDisk() as disk:
            store, chain = filled(folder)
            third = chain.seal(*[reading_leaf(make_reading(n)) for n in range(100, 400)])
            everything = replace(
                voted(third),
                certificates=certified(chain.proposals[1], b"a").certificates,
                words=worded(OTHER, 0, Word.CAUSE, CAUSE).words,
            )
            disk.fail_at, disk.failure = disk.touched + number, failure
            try:
                store.commit(everything)
            except StoreError:
                acknowledged = False
            else:
                acknowledged = True
            disk.fail_at = None
            store.close()
        after = opened(folder)
        found = (after.tip(CHAIN).next_height, after.certified(CHAIN, 0), after.tip(OTHER).frozen)
        after.close()
        assert found == (3, 2, True) if acknowledged else found in {(2, 0, False), (3, 2, True)}
        if acknowledged:
            assert number > 2, "a commit has at least a write and a sync"
            return
    pytest.fail("every commit failed")


@pytest.mark.parametrize(
    ("sql", "refusal"),
    [
        ("UPDATE block SET proposal = (SELECT proposal FROM block)", "another block stands at height 1"),
        (
            "INSERT INTO word VALUES ('ward-3.1f0a9c21', 1, 0, 'opening', x'00'); UPDATE block SET incarnation = 1",
            "another block stands at height 1",
        ),
        ("DELETE FROM tile", "tile .* is missing"),
        ("UPDATE tile SET hashes = substr(hashes, 33)", "tile .* is missing"),
        ("UPDATE tile SET hashes = zeroblob(length(hashes))", "does not make the root"),
        ("UPDATE tile SET hashes = 5", "tile .* is missing"),
        ("UPDATE block SET proposal = x'00' WHERE height = 1", "block 1 of chain .* was damaged"),
        ("UPDATE block SET proposal = 'text' WHERE height = 1", "'text' where the schema has bytes"),
        ("UPDATE block SET vote = 5 WHERE height = 1", "5 where the schema has bytes"),
        ("UPDATE block SET size = 'many' WHERE height = 1", "'many' where the schema has an integer"),
        ("UPDATE word SET word = 'melted'", "'melted' where a word is named"),
        ("UPDATE word SET data = 'text'", "'text' where the schema has bytes"),
        ("UPDATE word SET epoch = 'late'", "'late' where the schema has an integer"),
        ("UPDATE word SET incarnation = 'next', word = 'opening'", "'next' where the schema has an integer"),
    ],
)
def test_damage_is_found_before_a_vote_rests_on_it(tmp_path: Path, sql: str, refusal: str) -> None:
    """A tip whose block, tree or words were damaged on the disk is a StoreError that names it, never a tip."""
    store, _ = filled(tmp_path)
    store.commit(worded(CHAIN, 0, Word.FROZEN, b"a freeze", epoch=3))
    damage(store, sql)
    with pytest.raises(StoreError, match=refusal):
        store.tip(CHAIN)
    store.close()


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE certificate SET votes = x'00'",
        "UPDATE certificate SET votes = x'8100'",
        "UPDATE certificate SET votes = x'ff'",
        "UPDATE certificate SET votes = 'text'",
        "UPDATE certificate SET proposal = 5",
    ],
)
def test_a_damaged_certificate_is_a_store_error(tmp_path: Path, sql: str) -> None:
    """Votes that a disk changed beyond reading are no certificate."""
    store, chain = filled(tmp_path)
    store.commit(certified(chain.proposals[0], b"a"))
    damage(store, sql)
    with pytest.raises(StoreError):
        store.certificate(CHAIN, 0, 0)
    store.close()


def test_a_damaged_cause_is_a_store_error(place: str) -> None:
    """Evidence that a disk changed is none."""
    store, _ = filled(place)
    store.commit(worded(CHAIN, 0, Word.CAUSE, cbor.encode(["no", "freezes"])))
    with pytest.raises(StoreError, match=r"the evidence against chain .* was damaged on the disk"):
        store.evidence(CHAIN, 0)
    store.close()


@pytest.mark.parametrize(
    "sql",
    ["UPDATE block SET chain = x'00'", "UPDATE word SET chain = x'ff'", "UPDATE word SET chain = CAST(x'ff' AS TEXT)"],
)
def test_a_chain_without_a_name_is_a_store_error(tmp_path: Path, sql: str) -> None:
    """A row whose chain a disk changed beyond reading is not passed over."""
    store, _ = filled(tmp_path)
    store.commit(worded(CHAIN, 0, Word.CAUSE, CAUSE))
    damage(store, sql)
    with pytest.raises(StoreError):
        store.chains()
    with pytest.raises(StoreError):
        store.kept()
    store.close()


def test_a_block_at_the_end_of_all_numbers_ends_the_walk(place: str) -> None:
    """A height that a disk changed to the largest there is, is given, and nothing behind it looked for."""
    store, _ = filled(place)
    damage(store, "UPDATE block SET height = 9223372036854775807 WHERE height = 1")
    assert [block.height for block in store.every_block(CHAIN, 0)] == [0, BEYOND - 1]
    store.close()


def test_missing_hashes_are_a_store_error(place: str) -> None:
    """A tree with a hole is neither read for others nor added to."""
    store, chain = filled(place)
    damage(store, "DELETE FROM tile")
    with pytest.raises(StoreError, match=r"tile .* is missing"):
        store.hashes(CHAIN, 0, 0, 2)
    with pytest.raises(StoreError, match=r"tile .* is missing"):
        store.commit(voted(chain.seal(reading_leaf(make_reading(6)))))
    store.close()


def test_a_large_copy_is_listed_without_reading_it(tmp_path: Path) -> None:
    """Chains, sizes and what is final are looked up, not counted: no step is taken for each block."""
    store, chain = filled(tmp_path)
    store.commit(certified(chain.proposals[1], b"a"))
    damage(
        store,
        "WITH RECURSIVE n(at) AS (VALUES (2) UNION ALL SELECT at + 1 FROM n WHERE at < 20000)"
        " INSERT INTO block SELECT chain, 0, at, start + at, size + at, proposal, vote FROM block, n WHERE height = 1",
    )
    steps = 0

    def step() -> bool:
        nonlocal steps
        steps += 1
        return False

    assert isinstance(store._database, Database)
    store._database.connection.set_progress_handler(step, 100)
    assert store.chains() == [CHAIN]
    assert store.size(CHAIN, 0) == 20007
    assert store.certified(CHAIN, 0) == 2
    assert steps < 10
    store.close()
