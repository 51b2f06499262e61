from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from gateway import signing
from gateway.errors import VerificationError
from gateway.ledger import messages
from gateway.ledger.messages import Kind, Topic
from gateway.ledger.voting import sign_block
from gateway.model import Roster
from tests.ledgers import CHAIN, GATEWAY, SEALED_MS, Table, first_roster, keys_of, next_roster, with_peers

FOUR = ("a", "b", "c", "d")


@pytest.fixture
def table(tmp_path: Path) -> Iterator[Table]:
    """Give four peers, of which three are a quorum, around a table."""
    table = Table(tmp_path, first_roster(FOUR))
    table.seat(*FOUR)
    yield table
    table.close()


def test_all_peers_vote_and_keep_the_certificate(table: Table) -> None:
    """A block that all hear is voted for by all, and its certificate is kept by all."""
    proposal = table.propose(b"leaf 0", b"leaf 1")
    table.certify(proposal, 1)
    assert set(table.votes(proposal.block, 1)) == set(FOUR)
    for store in table.stores.values():
        assert store.certificate(CHAIN, 0, 0) is not None
    assert table.refused == []


def test_epoch_ends_when_a_quorum_has_frozen_and_the_tree_goes_on(table: Table) -> None:
    """Peers of both epochs and new ones vote in the next epoch, in the same tree, for all blocks behind the base."""
    table.certify(table.propose(b"leaf 0"), 1)
    uncertified = table.propose(b"leaf 1", to=["a"])
    after = next_roster(table.rosters, with_peers("a", "b", "e", "f"))
    table.adopt(after)
    table.seat("e", "f")
    table.tick(3)
    table.show(uncertified)
    proposal = table.propose(b"leaf 2")
    table.certify(uncertified, 2)
    table.certify(proposal, 2)
    assert set(table.votes(proposal.block, 2)) == {"a", "b", "e", "f"}
    assert [block.height for block in table.blocks("f")] == [0, 1, 2]
    assert table.blocks("f") == table.blocks("a")


def test_nobody_votes_in_an_epoch_that_ended(table: Table) -> None:
    """A peer that has frozen an epoch gives no vote of it, and of the next only once a quorum has frozen."""
    table.propose(b"leaf 0")
    table.adopt(next_roster(table.rosters, with_peers("a", "b", "c")), "a", "b")
    proposal = table.propose(b"leaf 1")
    assert set(table.votes(proposal.block, 1)) == {"c", "d"}
    assert table.votes(proposal.block, 2) == {}
    table.adopt(table.rosters, "c")
    table.tick(31)
    table.show(proposal)
    assert set(table.votes(proposal.block, 2)) == {"a", "b", "c"}


def test_new_peers_say_nothing_before_they_have_reached_the_base(table: Table) -> None:
    """A gateway cannot show newcomers another history than the one that is final: they find it out, and freeze."""
    for number in range(3):
        table.certify(table.propose(b"leaf %d" % number), 1)
    forked = table.writer.fork(1)
    other = [forked.seal(table.rosters.current, b"other %d" % number) for number in range(2)]
    table.adopt(next_roster(table.rosters, with_peers("a", "e", "f", "g")))
    table.writer = forked
    table.away |= {"a", "b", "c", "d"}
    table.seat("e", "f", "g")
    for proposal in [*forked.proposals]:
        table.show(proposal, to=["e", "f", "g"])
    for proposal in other:
        assert table.votes(proposal.block, 2) == {}
    assert table.events("e")[-1] == "frozen"


def test_two_histories_freeze_the_chain_at_every_peer(table: Table) -> None:
    """Whoever hears two proposals that contradict each other shows them to all: all freeze, and prove it."""
    table.propose(b"leaf 0")
    fork = table.writer.fork(0).seal(table.rosters.current, b"another leaf")
    table.show(fork, to=["a"])
    assert all(table.events(name)[-1] == "frozen" for name in FOUR)
    closing = table.closing()
    assert (closing.is_final, closing.incarnation, closing.highest.next_height) == (True, 0, 1)
    assert all(store.evidence(CHAIN, 0) is not None for store in table.stores.values())


def test_chain_is_begun_anew_behind_a_closing(table: Table) -> None:
    """After an opening peers vote from height 0 on in the next incarnation, and in the old one no more."""
    table.propose(b"leaf 0")
    clone = table.writer.fork(0)
    table.show(clone.seal(table.rosters.current, b"another leaf"), to=["a"])
    table.open(table.closing())
    proposal = table.propose(b"leaf 0", b"another leaf")
    table.certify(proposal, 1)
    assert proposal.block.incarnation == 1
    table.show(clone.seal(table.rosters.current, b"and one more"))
    assert [block.incarnation for block in table.blocks("a", 1)] == [1]
    assert [block.height for block in table.blocks("a", 0)] == [0]


def test_recovery_key_closes_a_chain(table: Table) -> None:
    """At the recovery key's demand each peer freezes the incarnation, whatever it knows of it."""
    table.propose(b"leaf 0", to=["a"])
    table.demand_recovery()
    closing = table.closing()
    assert len(closing.shown) == 4
    assert closing.highest.next_height == 1
    table.open(closing)
    table.certify(table.propose(b"leaf"), 1)


def test_opening_needs_a_quorum_of_freezes(table: Table) -> None:
    """An opening behind fewer freezes than a quorum begins nothing."""
    table.propose(b"leaf 0")
    table.away |= {"c", "d"}
    table.demand_recovery()
    with pytest.raises(VerificationError, match="2 of 4 have frozen, 3 are needed"):
        table.closing()


def test_restarted_peer_keeps_what_it_froze(table: Table) -> None:
    """A peer that is started again knows its causes, freezes, closings and openings from its disk."""
    table.propose(b"leaf 0")
    table.demand_recovery()
    table.open(table.closing())
    table.propose(b"leaf 0")
    table.kept.clear()
    table.seat(*FOUR)
    assert [table.stores[name].tip(CHAIN).incarnation for name in FOUR] == [1, 1, 1, 1]
    table.adopt(next_roster(table.rosters, with_peers(*FOUR, "e")))
    table.kept = {topic: payload for topic, payload in table.kept.items() if topic.kind is not Kind.FREEZE}
    table.seat(*FOUR)
    proposal = table.propose(b"leaf 1")
    assert set(table.votes(proposal.block, 2)) == set(FOUR)


def test_incarnation_goes_on_through_the_end_of_an_epoch(table: Table) -> None:
    """A chain in its second incarnation goes on in the next epoch, also with a peer that knew neither."""
    table.propose(b"leaf 0")
    table.demand_recovery()
    table.open(table.closing())
    table.certify(table.propose(b"leaf 0"), 1)
    table.adopt(next_roster(table.rosters, with_peers("a", "b", "c", "e")))
    table.seat("e")
    table.tick(3)
    proposal = table.propose(b"leaf 1")
    assert set(table.votes(proposal.block, 2)) == {"a", "b", "c", "e"}


def test_frozen_chain_is_healed_in_a_later_epoch(table: Table) -> None:
    """A chain that froze for good in one epoch is closed and begun anew in the next."""
    table.propose(b"leaf 0")
    table.demand_recovery()
    table.adopt(next_roster(table.rosters, with_peers("a", "b", "c", "e")))
    table.seat("e")
    table.tick(31)
    closing = table.closing()
    assert closing.epoch == 2
    table.open(closing)
    proposal = table.propose(b"leaf 0")
    assert set(table.votes(proposal.block, 2)) == {"a", "b", "c", "e"}


def test_peer_away_for_two_epochs_comes_back_at_the_latest(table: Table) -> None:
    """A peer that missed the end of two epochs goes on behind the closing of the last one."""
    table.certify(table.propose(b"leaf 0"), 1)
    table.away.add("d")
    table.adopt(next_roster(table.rosters, with_peers("a", "b", "c", "d", "e")), "a", "b", "c")
    table.seat("e")
    table.tick(2)
    table.certify(table.propose(b"leaf 1"), 2)
    table.adopt(next_roster(table.rosters, with_peers("a", "b", "c", "d")), "a", "b", "c", "e")
    table.tick(2)
    table.certify(table.propose(b"leaf 2"), 3)
    table.seat("d", rosters=table.rosters)
    table.tick(3)
    assert [block.height for block in table.blocks("d")] == [0, 1, 2]
    proposal = table.propose(b"leaf 3")
    assert "d" in table.votes(proposal.block, 3)


def test_forged_causes_freeze_nothing(table: Table) -> None:
    """Two proposals that agree, one proposal twice, and a demand by another key freeze nothing."""
    first, second = table.propose(b"leaf 0"), table.propose(b"leaf 1")
    topic = Topic(CHAIN, Kind.FREEZE, "a")
    for cause in ([first.signed, second.signed], [first.signed, first.signed], [first.signed]):
        table.say(topic, messages.encode_freezes((), cause), by="a")
    assert all("frozen" not in table.events(name) for name in FOUR)
    assert len(table.refused) == 9


def test_post_quantum_epoch_wants_two_signatures_of_everyone(table: Table) -> None:
    """From the epoch on in which the roster says so, a block is final with both signatures of gateway and quorum."""
    before = table.propose(b"leaf 0")
    table.adopt(next_roster(table.rosters, lambda roster: replace(roster, post_quantum=True)))
    table.show(before)
    with pytest.raises(VerificationError, match="no second signature"):
        table.certify(before, 2)
    keys = table.writer.keys(table.rosters.current)
    assert keys is not None
    table.certify(table.show(replace(before, signed=sign_block(keys, GATEWAY, before.block))), 2)
    proposal = table.propose(b"leaf 1")
    table.certify(proposal, 2)
    assert all(signing.has_second(vote) for vote in table.certificate(proposal, 2).votes)


def test_post_quantum_epoch_takes_no_new_block_with_one_signature(table: Table) -> None:
    """A proposal without its second signature is voted for by nobody, once the roster wants two."""
    old = table.rosters.current
    table.adopt(next_roster(table.rosters, lambda roster: replace(roster, post_quantum=True)))
    proposal = table.show(table.writer.seal(old, b"leaf 0"))
    assert table.votes(proposal.block, 2) == {}
    assert "no second signature" in table.refused[-1]


def test_peers_catch_up_from_each_other_when_the_gateway_is_gone(table: Table) -> None:
    """A peer that was away takes a long chain from the other peers, with its certificates, when no gateway answers."""
    table.away.add("d")
    proposals = [table.propose(b"leaf %d" % number) for number in range(3 * messages.ANSWER_BLOCKS)]
    for proposal in proposals:
        table.certify(proposal, 1)
    table.away.add("gateway")
    table.seat("d")
    table.tick(5)
    assert table.blocks("d") == table.blocks("a")
    assert table.stores["d"].certificate(CHAIN, 0, 7) == table.stores["a"].certificate(CHAIN, 0, 7)
    assert {"behind", "catching up", "caught up"} <= set(table.events("d"))


def test_heads_show_a_fork_that_no_proposal_showed(table: Table) -> None:
    """Two peers that voted for different histories find it out by comparing heads, and freeze."""
    fork = table.writer.fork(0).seal(table.rosters.current, b"another leaf")
    table.propose(b"leaf 0", to=["a", "b"])
    table.show(fork, to=["c"])
    assert all("frozen" not in table.events(name) for name in FOUR)
    for name in FOUR:
        table.peers[name].say_heads(SEALED_MS)
    table.settle()
    assert all("frozen" in table.events(name) for name in FOUR)
    assert "differs" in table.events("a") + table.events("c")


def test_stolen_former_key_neither_extends_nor_freezes_a_chain(table: Table) -> None:
    """Once a gateway was re-keyed, blocks beyond the base that its former key signs are refused, forks too."""
    table.certify(table.propose(b"leaf 0"), 1)
    thief = table.writer.fork(1)
    old = table.rosters.current
    table.adopt(next_roster(table.rosters, rekeyed_gateway))
    table.writer.keys = keys_of("gateway", GATEWAY, 2).of
    proposal = table.propose(b"leaf 1")
    table.certify(proposal, 2)
    stolen = table.show(thief.seal(old, b"another leaf"))
    cause = messages.encode_freezes((), [proposal.signed, stolen.signed])
    table.say(Topic(CHAIN, Kind.FREEZE, "a"), cause, by="a")
    assert all("frozen" not in table.events(name) for name in FOUR)
    assert all("former key" in refused for refused in table.refused)
    assert len(table.refused) == 4 + 3
    table.certify(table.propose(b"leaf 2"), 2)


def rekeyed_gateway(roster: Roster) -> Roster:
    """Give the roster with the gateway's second key, the first one kept as a former one."""
    (gateway,) = roster.gateways
    after = replace(
        gateway,
        public_key=keys_of("gateway", GATEWAY, 2).public_keys[1],
        former_keys=(gateway.public_key,),
        second_key=None,
    )
    return replace(roster, gateways=(after,))
