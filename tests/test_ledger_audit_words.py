from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import VerificationError
from gateway.ledger import messages
from gateway.ledger.audit import ChainAudit
from gateway.ledger.audit_words import WordAudit
from gateway.ledger.closing import sign_recovery
from gateway.ledger.rosters import Rosters
from gateway.ledger.standing import Word
from gateway.model import Roster
from tests.ledgers import CHAIN, GATEWAY, Table, first_roster, next_roster, recovery_key, with_peers

FOUR = ("a", "b", "c", "d")
Words = dict[tuple[int, Word], bytes]


@pytest.fixture
def table(tmp_path: Path) -> Iterator[Table]:
    """Give four peers, of which three are a quorum, around a table."""
    table = Table(tmp_path, first_roster(FOUR))
    table.seat(*FOUR)
    yield table
    table.close()


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Table]:
    """Give a table after two epochs and a recovery, at which the second incarnation was begun; not to be changed."""
    table = Table(tmp_path_factory.mktemp("lived"), first_roster(FOUR))
    table.seat(*FOUR)
    table.certify(table.propose(b"leaf 0"), 1)
    table.adopt(next_roster(table.rosters, with_peers("a", "b", "c", "e")))
    table.seat("e")
    table.tick(3)
    table.certify(table.propose(b"leaf 1"), 2)
    table.demand_recovery()
    table.open(table.closing())
    table.certify(table.propose(b"leaf 0"), 2)
    yield table
    table.close()


def audited(table: Table, name: str) -> dict[int, tuple[int, int]]:
    """Audit a peer's whole copy; give by incarnation how many blocks it has and how many are final."""
    store, found = table.stores[name], {}
    for chain, incarnation in store.kept():
        audit = ChainAudit(table.rosters, name, chain, incarnation, store.reader(chain, incarnation))
        blocks = list(store.every_block(chain, incarnation))
        for voted in blocks:
            audit.follow(voted, store.certificate(chain, incarnation, voted.height))
        audit.end(store.tile_counts(chain, incarnation), store.certificates(chain, incarnation))
        proposals = {voted.height: voted.proposal for voted in blocks}
        audit.check_words(store.words(chain, incarnation), proposals.get)
        found[incarnation] = (audit.height, audit.certified)
    return found


def auditor(table: Table, name: str = "a", incarnation: int = 0) -> WordAudit:
    """Give the audit of what a peer keeps beside its blocks, with the votes that it cast."""
    store = table.stores[name]
    return WordAudit(
        rosters=table.rosters,
        peer=name,
        chain=CHAIN,
        incarnation=incarnation,
        voted={},
        proposal_at={voted.height: voted.proposal for voted in store.every_block(CHAIN, incarnation)}.get,
    )


def words_of(table: Table, name: str = "a", incarnation: int = 0) -> Words:
    return dict(table.stores[name].words(CHAIN, incarnation))


def freezes_of(words: Words, epoch: int, word: Word) -> bytes:
    """Give the freezes that are kept, as the message of one freeze of another peer."""
    shown, _ = messages.decode_freezes(words[epoch, word])
    return messages.encode_freezes(shown[-1:], ())


# -- what is sound


def test_a_copy_through_epochs_and_incarnations_is_sound(lived: Table) -> None:
    """What peers keep as a ledger turns over is what they may keep, of every incarnation."""
    for name in ("a", "b", "c", "e"):
        assert audited(lived, name) == {0: (2, 2), 1: (1, 1)}
    assert audited(lived, "d") == {0: (1, 1), 1: (0, 0)}
    assert {word for _, word in words_of(lived)} == {*Word} - {Word.OPENING}
    assert words_of(lived, incarnation=1).keys() == {(0, Word.OPENING)}


def test_a_copy_of_two_histories_is_sound(table: Table) -> None:
    """Evidence, and freezes that show another history than this peer's, belong to a sound copy."""
    table.propose(b"leaf 0")
    fork = table.writer.fork(0)
    table.show(fork.seal(table.rosters.current, b"another leaf"), to=["a"])
    assert [audited(table, name) for name in FOUR] == [{0: (1, 0)}] * 4


def test_a_copy_that_contradicts_the_base_is_sound(table: Table) -> None:
    """Newcomers who were shown another history than the final one have frozen, and can show it."""
    for number in range(3):
        table.certify(table.propose(b"leaf %d" % number), 1)
    forked = table.writer.fork(1)
    for number in range(3):
        forked.seal(table.rosters.current, b"other %d" % number)
    table.adopt(next_roster(table.rosters, with_peers("a", "e", "f", "g")))
    table.writer = forked
    table.away |= {*FOUR}
    table.seat("e", "f", "g")
    for proposal in forked.proposals:
        table.show(proposal, to=["e", "f", "g"])
    assert [audited(table, name) for name in ("a", "e")] == [{0: (3, 3)}, {0: (2, 0)}]


def test_a_copy_behind_the_base_is_sound(table: Table) -> None:
    """A newcomer that has not reached the base yet keeps closings of blocks that it does not have."""
    table.propose(b"leaf 0")
    table.writer = table.writer.fork(0)  # which answers nothing
    table.adopt(next_roster(table.rosters, with_peers("a", "b", "c", "e")))
    table.away |= {*FOUR}
    table.seat("e")
    assert (1, Word.CLOSED) in words_of(table, "e")
    assert audited(table, "e") == {0: (0, 0)}


def test_a_copy_without_a_block_is_sound(table: Table) -> None:
    """An epoch may end before there is a block: then its freezes show none."""
    table.adopt(next_roster(table.rosters, with_peers("a", "b", "c")))
    assert (1, Word.CLOSED) in words_of(table)
    assert audited(table, "a") == {0: (0, 0)}


def test_a_post_quantum_copy_is_sound(tmp_path: Path) -> None:
    """Votes, certificates and freezes of a post-quantum epoch have two signatures each, and both are checked."""
    table = Table(tmp_path, first_roster(FOUR, post_quantum=True))
    table.seat(*FOUR)
    table.certify(table.propose(b"leaf 0"), 1)
    table.demand_recovery()
    assert audited(table, "a") == {0: (1, 1)}
    damaged = words_of(table)
    shown, _ = messages.decode_freezes(damaged[1, Word.FROZEN_FOR_GOOD])
    halved = replace(shown[0], signed=shown[0].signed[: shown[0].signed.index(b"\xd2\x84", 2)])
    damaged[1, Word.FROZEN_FOR_GOOD] = messages.encode_freezes((halved,), ())
    with pytest.raises(VerificationError, match="has no second signature"):
        auditor(table).check(damaged)
    table.close()


def test_words_of_keys_that_were_replaced_are_sound(lived: Table) -> None:
    """What a recovery key said holds after the gateway has another one, and after it has left the roster."""

    def with_other_key(roster: Roster) -> Roster:
        return replace(roster, gateways=tuple(replace(each, recovery_key=bytes(32)) for each in roster.gateways))

    rekeyed = next_roster(lived.rosters, with_other_key)
    for rosters in (rekeyed, next_roster(rekeyed, lambda roster: replace(roster, gateways=()))):
        replace(auditor(lived), rosters=rosters).check(words_of(lived))
        replace(auditor(lived, incarnation=1), rosters=rosters).check(words_of(lived, incarnation=1))


# -- what is not


@given(data=st.data())
def test_a_flipped_bit_of_a_word_is_found(lived: Table, data: st.DataObject) -> None:
    """One bit of any cause, freeze, closing or opening is found, and the word is named."""
    incarnation = data.draw(st.integers(0, 1))
    words = words_of(lived, incarnation=incarnation)
    epoch, word = data.draw(st.sampled_from(sorted(words)))
    bit = data.draw(st.integers(0, 8 * len(words[epoch, word]) - 1))
    changed = bytearray(words[epoch, word])
    changed[bit // 8] ^= 1 << bit % 8
    words[epoch, word] = bytes(changed)
    with pytest.raises(VerificationError, match=f"^what is kept as '{word.value}' of epoch {epoch}: "):
        auditor(lived, incarnation=incarnation).check(words)


CHANGES: dict[str, Callable[[Words], object]] = {
    "'frozen' of epoch 2: it belongs to incarnation 0 of .*, epoch 1": lambda words: words.update(
        {(2, Word.FROZEN): words[1, Word.FROZEN]}
    ),
    "'frozen' of epoch 2: it ends the incarnation": lambda words: words.update(
        {(2, Word.FROZEN): words[2, Word.FROZEN_FOR_GOOD]}
    ),
    "'frozen for good' of epoch 1: it ends an epoch": lambda words: words.update(
        {(1, Word.FROZEN_FOR_GOOD): words[1, Word.FROZEN]}
    ),
    "'frozen for good' of epoch 2: nothing shows why": lambda words: words.pop((0, Word.CAUSE)),
    "'frozen' of epoch 1: it is by [bcd], not by a": lambda words: words.update(
        {(1, Word.FROZEN): freezes_of(words, 1, Word.CLOSED)}
    ),
    "'frozen' of epoch 1: not one freeze": lambda words: words.update({(1, Word.FROZEN): words[1, Word.CLOSED]}),
    "'closed' of epoch 1: 1 of 4 have frozen, 3 are needed": lambda words: words.update(
        {(1, Word.CLOSED): words[1, Word.FROZEN]}
    ),
    "'closed' of epoch 2: it ends the incarnation": lambda words: words.update(
        {(2, Word.CLOSED): words[2, Word.CLOSED_FOR_GOOD]}
    ),
    "'closed for good' of epoch 1: it ends an epoch": lambda words: words.update(
        {(1, Word.CLOSED_FOR_GOOD): words[1, Word.CLOSED]}
    ),
    "'closed' of epoch 3: it belongs to incarnation 0 of .*, epoch 1": lambda words: words.update(
        {(3, Word.CLOSED): words[1, Word.CLOSED]}
    ),
    "'cause' of epoch 2: it belongs to incarnation 0": lambda words: words.update(
        {(2, Word.CAUSE): words[0, Word.CAUSE]}
    ),
    "'cause' of epoch 0: it belongs to incarnation 4": lambda words: words.update(
        {(0, Word.CAUSE): messages.encode_freezes((), (sign_recovery(recovery_key(), GATEWAY, CHAIN, 4),))}
    ),
    "'cause' of epoch 0: neither two proposals nor": lambda words: words.update(
        {(0, Word.CAUSE): messages.encode_freezes((), ())}
    ),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_word_in_another_place_is_found(lived: Table, what: str) -> None:
    """A word that is sound proves nothing where another belongs, or without the one that it rests on."""
    words = words_of(lived)
    CHANGES[what](words)
    with pytest.raises(VerificationError, match=what):
        auditor(lived).check(words)


def test_evidence_that_proves_nothing_is_found(lived: Table) -> None:
    """Two proposals of one history accuse nobody."""
    words = words_of(lived)
    proposals = [voted.proposal for voted in lived.stores["a"].blocks(CHAIN, 0, 0, 2)]
    words[0, Word.CAUSE] = messages.encode_freezes((), proposals)
    with pytest.raises(VerificationError, match="do not contradict each other"):
        auditor(lived).check(words)


def test_an_opening_of_another_incarnation_is_found(lived: Table) -> None:
    """An incarnation rests on the opening that names it: not on another's, and not on none."""
    opening = words_of(lived, incarnation=1)
    with pytest.raises(VerificationError, match="'opening' of epoch 0: it belongs to incarnation 1"):
        auditor(lived).check(words_of(lived) | opening)
    with pytest.raises(VerificationError, match="nothing shows that incarnation 1 was opened"):
        auditor(lived, incarnation=1).check({})


def test_a_vote_behind_a_freeze_is_found(lived: Table) -> None:
    """A peer that has frozen an epoch at a height has no vote of that epoch at it or above."""
    replace(auditor(lived), voted={1: 1, 2: 2}).check(words_of(lived))
    with pytest.raises(VerificationError, match="'frozen' of epoch 1: block 1 was voted for behind height 1"):
        replace(auditor(lived), voted={1: 2, 2: 2}).check(words_of(lived))


def test_a_freeze_or_a_base_on_another_history_is_found(table: Table) -> None:
    """What ended an epoch stands on this copy's history, where no evidence says that there are two."""
    other = table.writer.fork(0).seal(table.rosters.current, b"another leaf")
    table.propose(b"leaf 0")
    table.adopt(next_roster(table.rosters, with_peers("a", "b", "c")))
    words = words_of(table)
    moved = replace(auditor(table), proposal_at=lambda _: other.signed)
    with pytest.raises(VerificationError, match="'closed' of epoch 1: it shows another block 0 than this copy has"):
        moved.check(words)
    del words[1, Word.CLOSED]
    with pytest.raises(VerificationError, match="'frozen' of epoch 1: it shows another block 0 than this copy has"):
        moved.check(words)


def test_an_unknown_epoch_is_found(lived: Table) -> None:
    """What is of a roster epoch that nobody shows proves nothing."""
    rosters = Rosters(lived.rosters.versions[:1])
    with pytest.raises(VerificationError, match="roster epoch 2 is not known"):
        replace(auditor(lived), rosters=rosters).check(words_of(lived))
