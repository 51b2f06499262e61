import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.io.store.chains import ChainStore
from gateway.ledger.book import Changes
from gateway.ledger.messages import encode_opening
from gateway.ledger.receipt import ENROLMENT
from gateway.ledger.standing import Word
from gateway.ledger.voting import cast_vote
from gateway.model import Certificate, Proposal
from gateway.signing import parse
from tests.builders import (
    CHAIN,
    DEVICE,
    VOTED_S,
    Chain,
    keys_of,
    make_reading,
    propose,
    reading_leaf,
    ward_chain,
)
from tests.commands import Typed, typed
from tests.copies import damage, make_peer

__all__ = ["typed"]  # fixture

VOTERS = ("peer-1", "peer-2", "peer-3")


@pytest.fixture(scope="module")
def chain() -> Chain:
    """Give a chain of five blocks: genesis and enrolment in the first, 600 readings in the others."""
    chain = ward_chain(2)
    for start in (3, 203, 403):
        chain.seal(*[reading_leaf(make_reading(start + number)) for number in range(1, 200)])
    return chain


@pytest.fixture
def state(tmp_path: Path, chain: Chain) -> Path:
    """Give a peer's folder with a copy of that chain, all of it certified but the block before the last."""
    return make_peer(tmp_path / "peer-0", chain.proposals, certified=[0, 1, 2, 4])


def written(folder: Path, name: str, data: bytes) -> Path:
    (folder / name).write_bytes(data)
    return folder / name


def certify_again(state: Path, proposals: Sequence[Proposal]) -> None:
    """Add blocks with certificates to a copy, in the incarnation that they are of, which is opened."""
    changes = Changes()
    for proposal in proposals:
        block = proposal.block
        place = block.chain, block.incarnation, block.height
        votes = [cast_vote(keys_of(voter), voter, 1, block, VOTED_S) for voter in VOTERS]
        changes.votes[place] = (proposal, votes[0])
        changes.certificates[place] = Certificate(proposal=proposal.signed, votes=tuple(votes))
        changes.words[block.chain, block.incarnation, 0, Word.OPENING] = encode_opening(b"", ())
    store = ChainStore(str(state / "ledger.db"))
    store.commit(changes)
    store.close()


def begun_again(chain: Chain) -> list[Proposal]:
    """Give the blocks of a chain as those of its next incarnation."""
    return [propose(replace(each.block, incarnation=1), each.hashes) for each in chain.proposals]


@pytest.mark.parametrize("index", [2, 3, 4, 202, 402, 600])
def test_a_reading_is_proved_without_its_gateway(
    typed: Typed, state: Path, chain: Chain, tmp_path: Path, index: int
) -> None:
    """A reading's bytes and its enrolment, wherever they were kept, become a file that proves it to anyone."""
    leaf = written(tmp_path, "leaf", chain.leaves[index])
    enrolment = written(tmp_path, "enrolment", chain.leaves[1])
    result = typed("peer", "prove", leaf, "--enrolment", enrolment, "--state", state)
    file = tmp_path / "leaf.proof"
    assert result.out.splitlines() == [
        f"proved      leaf {index} of chain {CHAIN}, incarnation 0, block {chain.block_of(index).height}",
        "signed by   peer-0, peer-2, peer-3, roster epoch 1",
        f"written     {file}, {file.stat().st_size} bytes",
    ]
    assert typed("verify", file, "--roster", state / "roster.cose").code == 0


def test_a_leaf_in_a_block_without_a_certificate_is_not_proved(
    typed: Typed, state: Path, chain: Chain, tmp_path: Path
) -> None:
    """Where this peer does not know who voted for a block, it says so: another may."""
    leaf = written(tmp_path, "leaf", chain.leaves[256])
    result = typed("peer", "prove", leaf, "--state", state)
    refusal = f"no certificate of block 3 of chain {CHAIN} is kept here: ask another peer"
    assert (result.code, result.err) == (1, f"iomt: {refusal}\n")
    assert not (tmp_path / "leaf.proof").exists()


def test_an_event_needs_no_enrolment(typed: Typed, state: Path, chain: Chain, tmp_path: Path) -> None:
    """An event is proved by itself, to the file that was named."""
    leaf, file = written(tmp_path, "leaf", chain.leaves[1]), tmp_path / "event"
    record = typed("peer", "prove", leaf, "--state", state, "-o", file, "--json").json
    assert record == {
        "chain": CHAIN,
        "incarnation": 0,
        "index": 1,
        "height": 0,
        "votes": ["peer-0", "peer-2", "peer-3"],
        "file": str(file),
        "bytes": file.stat().st_size,
    }
    assert typed("verify", file, "--roster", state / "roster.cose").code == 0


def test_an_exported_reading_is_proved_anew(typed: Typed, state: Path, chain: Chain, tmp_path: Path) -> None:
    """The receipts of an exported reading and of the enrolment in it are made anew, whoever voted for them before."""
    exported = written(tmp_path, "exported", chain.transparent_reading(4, 1, VOTERS))
    assert typed("peer", "prove", exported, "--state", state).code == 0
    file = tmp_path / "exported.proof"
    votes = typed("verify", file, "--roster", state / "roster.cose", "--json").json["votes"]
    assert [vote["peer"] for vote in votes] == ["peer-0", "peer-2", "peer-3"]
    assert parse(file.read_bytes()).unprotected[ENROLMENT] == chain.transparent_event(1, ["peer-0", *VOTERS[1:]])


def test_an_enrolment_that_is_not_here_stays_as_it_is(typed: Typed, state: Path, chain: Chain, tmp_path: Path) -> None:
    """An enrolment with receipts of its own is kept where this copy cannot make others; without any it is refused."""
    damage(state, "DELETE FROM certificate WHERE height = 0")
    exported = written(tmp_path, "exported", chain.transparent_reading(4, 1, VOTERS))
    assert typed("peer", "prove", exported, "--state", state).code == 0
    file = tmp_path / "exported.proof"
    assert typed("verify", file, "--roster", state / "roster.cose").code == 0
    assert parse(file.read_bytes()).unprotected[ENROLMENT] == chain.transparent_event(1, VOTERS)
    bare = written(tmp_path, "bare", chain.leaves[1])
    result = typed("peer", "prove", exported, "--enrolment", bare, "--state", state)
    assert (result.code, "no certificate of block 0" in result.err) == (1, True)


def test_what_cannot_be_proved_is_refused(typed: Typed, state: Path, chain: Chain, tmp_path: Path) -> None:
    """A leaf that is not in the copy, one of a stranger's chain, and a reading without its enrolment are refused."""
    bare = written(tmp_path, "bare", chain.leaves[4])
    result = typed("peer", "prove", bare, "--state", state)
    said = f"iomt: a reading is proved with the event that enrolled {DEVICE}: name it with --enrolment\n"
    assert (result.code, result.err) == (1, said)
    for leaf in (reading_leaf(make_reading(999)), reading_leaf(make_reading(1), chain="ward-4.00000000")):
        result = typed("peer", "prove", written(tmp_path, "other", leaf), "--state", state)
        assert (result.code, "does not hold this leaf" in result.err) == (1, True)
    result = typed("peer", "prove", bare, "--enrolment", written(tmp_path, "wrong", chain.leaves[0]), "--state", state)
    assert (result.code, "is no enrolment of a device" in result.err) == (1, True)
    result = typed("peer", "prove", written(tmp_path, "garbage", b"garbage"), "--state", state)
    assert result.code == 1
    assert not (tmp_path / "bare.proof").exists()


def test_a_leaf_is_proved_in_the_incarnation_in_which_it_is_final(
    typed: Typed, state: Path, chain: Chain, tmp_path: Path
) -> None:
    """The latest incarnation counts; what was final only in an earlier one is proved there, with its enrolment."""
    leaf, early = written(tmp_path, "leaf", chain.leaves[300]), written(tmp_path, "early", chain.leaves[4])
    enrolment = written(tmp_path, "enrolment", chain.leaves[1])
    command = ["peer", "prove", "--enrolment", enrolment, "--state", state, "--json"]
    certify_again(state, begun_again(chain)[:3])
    assert typed(*command, early).json["incarnation"] == 1
    damage(state, "DELETE FROM certificate WHERE incarnation = 1 AND height = 2")
    assert typed(*command, early).json["incarnation"] == 0
    assert typed("verify", tmp_path / "early.proof", "--roster", state / "roster.cose").code == 0
    assert typed(*command, leaf).code == 1  # block 3 has a certificate in neither


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("DELETE FROM tile WHERE level = 0", "tile .* is missing"),
        ("DELETE FROM block WHERE height = 2", f"block 2 of chain {CHAIN} is missing"),
        ("UPDATE block SET proposal = x'00' WHERE height = 2", "block 2 of chain .* was damaged on the disk"),
        (
            "UPDATE block SET proposal = (SELECT proposal FROM block WHERE height = 1) WHERE height = 2",
            "the tree does not make the root of block 2",
        ),
        ("UPDATE certificate SET votes = x'80' WHERE height = 2", "no certificate of block 2"),
    ],
)
def test_a_damaged_copy_proves_nothing(
    typed: Typed, state: Path, chain: Chain, tmp_path: Path, sql: str, said: str
) -> None:
    """What the disk changed is found before a proof is given out."""
    damage(state, sql)
    leaf, enrolment = written(tmp_path, "leaf", chain.leaves[4]), written(tmp_path, "enrolment", chain.leaves[1])
    result = typed("peer", "prove", leaf, "--enrolment", enrolment, "--state", state)
    assert result.code == 1
    assert re.search(said, result.err)
