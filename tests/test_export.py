from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway import canonical, signing
from gateway.errors import ConfigError, StoreError, Unavailable
from gateway.export import transparent_reading
from gateway.io.store.readings import ReadingStore
from gateway.ledger.receipt import verify_transparent
from gateway.ledger.voting import cast_vote
from gateway.model import Reading
from tests.builders import DEVICE, VOTED_S, alone, keys_of, make_reading, make_roster, reading_leaf, ward_chain
from tests.epochs import both_keys_of, epochs, post_quantum
from tests.states import PEERS, keep, row_of


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ReadingStore]:
    """Give a store with `ward_chain`, certified, and one reading that is not sealed yet."""
    store = ReadingStore(str(tmp_path / "readings.db"))
    keep(store, ward_chain())
    store.append([row_of(reading_leaf(make_reading(6)), 7)])
    yield store
    store.close()


def test_every_reading_can_be_proved(store: ReadingStore) -> None:
    """Each certified reading comes with the receipts of every peer that voted, and holds against the roster."""
    for sequence in range(1, 6):
        number, data = transparent_reading(store, DEVICE, sequence)
        proven = verify_transparent(data, alone(make_roster()))
        assert number == sequence
        assert proven.entry == make_reading(sequence, 60 + sequence)
        assert {vote.peer for vote in proven.votes} == set(PEERS)


def test_latest_is_the_latest_certified(store: ReadingStore) -> None:
    """Without a number it is the newest reading in a certified block that is proved, not one that waits."""
    number, data = transparent_reading(store, DEVICE, None)
    entry = verify_transparent(data, alone(make_roster())).entry
    assert isinstance(entry, Reading)
    assert (number, entry.sequence) == (5, 5)


def test_votes_that_come_late_are_receipts_too(store: ReadingStore) -> None:
    """A vote that was kept behind the quorum makes one more receipt."""
    before = transparent_reading(store, DEVICE, 1)[1]
    store._database.rows("INSERT INTO vote SELECT height, 'peer-9', vote FROM vote WHERE peer = 'peer-0'")
    assert len(transparent_reading(store, DEVICE, 1)[1]) > len(before)


def test_post_quantum_votes_are_two_receipts_each(store: ReadingStore) -> None:
    """What was certified again in a post-quantum epoch is proved by both signatures of each vote."""
    for proposal in ward_chain().proposals:
        votes = [(peer, cast_vote(both_keys_of(peer), peer, 2, proposal.block, VOTED_S)) for peer in PEERS]
        store.save_votes(proposal.block.height, votes, certified=True)
    _, data = transparent_reading(store, DEVICE, 3)
    assert len(signing.parse(data).unprotected[canonical.RECEIPTS]) == 2 * len(PEERS)
    proven = verify_transparent(data, epochs(post_quantum))
    assert (proven.post_quantum, proven.position.epoch, len(proven.votes)) == (True, 2, len(PEERS))


def test_votes_of_two_epochs_are_not_exported(store: ReadingStore) -> None:
    """A store never keeps votes of two epochs on a certified block: one that does was damaged."""
    block = ward_chain().proposals[1].block
    store.save_votes(1, [("peer-3", cast_vote(keys_of("peer-3"), "peer-3", 2, block, VOTED_S))], certified=False)
    with pytest.raises(StoreError, match="the votes on block 1 are of different roster epochs"):
        transparent_reading(store, DEVICE, 3)


def test_reading_that_is_not_certified_is_unavailable(store: ReadingStore) -> None:
    """A reading that no quorum has signed cannot be proved yet, whether it is sealed or not."""
    with pytest.raises(Unavailable, match=f"reading 6 of {DEVICE} is in no certified block yet"):
        transparent_reading(store, DEVICE, 6)
    store._database.rows("UPDATE block SET certified = 0")
    with pytest.raises(Unavailable, match=f"reading 5 of {DEVICE} is in no certified block yet"):
        transparent_reading(store, DEVICE, 5)
    with pytest.raises(Unavailable, match=f"there is no certified reading of {DEVICE} here"):
        transparent_reading(store, DEVICE, None)


def test_reading_that_is_not_here_is_named(store: ReadingStore) -> None:
    """A number or a device that nothing was kept of is the asker's mistake."""
    with pytest.raises(ConfigError, match=f"there is no reading 7 of {DEVICE} here"):
        transparent_reading(store, DEVICE, 7)
    with pytest.raises(ConfigError, match="there is no reading 1 of strap-9 here"):
        transparent_reading(store, "strap-9", 1)


@pytest.mark.parametrize(
    ("sql", "refusal"),
    [
        ("DELETE FROM tile", "tile .* is missing"),
        ("UPDATE tile SET hashes = zeroblob(length(hashes))", "leaf 2 was damaged"),
        (
            "UPDATE leaf SET tail = CAST(substr(tail, 1, 80) || x'00' || substr(tail, 82) AS BLOB) WHERE position = 2",
            "leaf 2",
        ),
        ("UPDATE vote SET vote = x'00' WHERE height = 1", "a vote on block 1 was damaged"),
        ("DELETE FROM vote WHERE height = 1", "of different roster epochs, or there are none"),
        ("UPDATE block SET proposal = x'00' WHERE height = 1", "block 1 was damaged"),
        ("DELETE FROM leaf WHERE position = 1", f"the enrolment of {DEVICE} is not in the chain"),
    ],
)
def test_damaged_proof_is_not_handed_out(store: ReadingStore, sql: str, refusal: str) -> None:
    """What the disk has changed is found when the proof is made, not by whoever is to be convinced by it."""
    store._database.rows(sql)
    with pytest.raises(StoreError, match=refusal):
        transparent_reading(store, DEVICE, 1)
