from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from threading import Barrier, Thread

import pytest

from gateway import signing
from gateway.errors import VerificationError
from gateway.io.store.chains import ChainStore
from gateway.ledger import messages
from gateway.ledger.anchor import TipPoll
from gateway.ledger.book import Said
from gateway.ledger.messages import Ask, Kind, Topic
from gateway.ledger.peering import PeerRule
from gateway.ledger.quorum import read_vote
from gateway.ledger.rosters import Rosters
from gateway.ledger.standing import Word
from gateway.model import Proposal
from tests.ledgers import (
    CHAIN,
    VOTED_S,
    Table,
    Writer,
    first_roster,
    keys_of,
    next_roster,
    with_peers,
)
from tests.postgres import Postgres, shared_postgres

__all__ = ["shared_postgres"]  # a fixture

FOUR = ("a", "b", "c", "d")
SECOND = "a, second worker"
LIMIT_S = 20.0


@pytest.fixture
def url(shared_postgres: Postgres) -> str:
    """Give an empty database for peer a."""
    return shared_postgres.create()


class Worker:
    """A worker of peer a, and all that it says."""

    def __init__(self, url: str, rosters: Rosters, wall_s: int = VOTED_S) -> None:
        self.store = ChainStore(url)
        self.rule = PeerRule("a", keys_of("peer", "a").of, rosters, self.store)
        self.said: list[Said] = []
        self._wall_s = wall_s

    def hear(self, topic: Topic, payload: bytes) -> None:
        """Take a message, as far as before it is kept."""
        self.rule.hear(topic, payload, 0, self._wall_s)

    def propose(self, proposal: Proposal) -> None:
        """Take a proposal, as far as before it is kept."""
        self.hear(Topic(CHAIN, Kind.PROPOSAL), messages.encode_proposal(proposal.signed, proposal.hashes))

    def settle(self) -> list[Said]:
        """Keep what was taken, and give what is said."""
        said = self.rule.settle()
        self.said += said
        return said

    @property
    def votes(self) -> set[bytes]:
        """The votes that it has said."""
        return {said.payload for said in self.said if said.topic.kind is Kind.VOTE}

    @property
    def heights(self) -> list[int]:
        """The heights that it has said votes on."""
        return sorted(read_vote(signing.parse_blob(vote)[0], vote).height for vote in self.votes)


@pytest.fixture
def workers(url: str) -> Iterator[tuple[Worker, Worker]]:
    """Give two workers of peer a, whose clocks differ, so that what both sign differs, too."""
    rosters = first_roster(FOUR)
    with closing(ChainStore(url)):
        one, other = Worker(url, rosters), Worker(url, rosters, VOTED_S + 1)
    yield one, other
    one.store.close()
    other.store.close()


def test_both_workers_say_one_vote(workers: tuple[Worker, Worker]) -> None:
    """Of two workers that judge a block at the same time, the second says the vote of the first."""
    one, other = workers
    proposal = Writer().seal(first_roster(FOUR).current, b"leaf")
    one.propose(proposal)
    other.propose(proposal)
    one.settle()
    other.settle()
    assert len(one.votes | other.votes) == 1
    assert one.heights == other.heights == [0]


def test_what_lies_beside_a_stale_vote_is_judged_again(workers: tuple[Worker, Worker]) -> None:
    """Where one block of a batch was voted for elsewhere, the blocks behind it are voted for, once each."""
    one, other = workers
    writer, roster = Writer(), first_roster(FOUR).current
    proposals = [writer.seal(roster, b"leaf %d" % number) for number in range(5)]
    for proposal in proposals:
        other.propose(proposal)
    other.rule.say(Said(Topic(CHAIN, Kind.HEADS, "a"), b"beside"))
    for proposal in proposals[:2]:
        one.propose(proposal)
    one.settle()
    said = other.settle()
    assert other.heights == [0, 1, 2, 3, 4]
    assert one.votes < other.votes
    assert said.count(Said(Topic(CHAIN, Kind.HEADS, "a"), b"beside")) == 1
    assert other.settle() == []


def test_two_histories_get_one_vote(workers: tuple[Worker, Worker]) -> None:
    """Of two blocks that a gateway signed for one height, heard by a worker each, one is voted for, and both freeze."""
    one, other = workers
    roster = first_roster(FOUR).current
    one.propose(Writer().seal(roster, b"one history"))
    other.propose(Writer().seal(roster, b"another"))
    one.settle()
    other.settle()
    assert one.heights == [0]
    assert other.heights == []
    assert [note.event for note in other.rule.notes] == ["frozen"]
    assert one.store.evidence(CHAIN, 0) is not None
    with pytest.raises(VerificationError, match="frozen"):
        one.propose(Writer().seal(roster, b"yet another"))


def test_no_worker_votes_behind_a_freeze(workers: tuple[Worker, Worker]) -> None:
    """What one worker froze, for an epoch, is frozen for the other, which has not heard of the roster yet."""
    one, other = workers
    writer, rosters = Writer(), first_roster(FOUR)
    for worker in workers:
        worker.propose(writer.seal(rosters.current, b"leaf") if worker is one else writer.proposals[0])
        worker.settle()
    other.propose(writer.seal(rosters.current, b"the next leaf"))
    one.rule.adopt(next_roster(rosters, with_peers(*FOUR)))
    assert Kind.FREEZE in {said.topic.kind for said in one.settle()}
    assert other.settle() == []
    assert other.heights == [0]
    assert other.store.tip(CHAIN).next_height == 1


def test_a_stated_tip_knows_every_vote_that_was_said(workers: tuple[Worker, Worker]) -> None:
    """A gateway that asks is told of what any worker has voted for: it must not sign that height again."""
    one, other = workers
    proposal = Writer().seal(first_roster(FOUR).current, b"leaf")
    other.rule.greet(0)
    other.settle()
    one.propose(proposal)
    one.settle()
    other.hear(Topic(CHAIN, Kind.ASK, CHAIN), messages.encode_ask(Ask(incarnation=0, next_height=0, nonce=b"n" * 16)))
    (tip,) = [said.payload for said in other.settle() if said.topic.kind is Kind.TIP]
    signed, last = messages.decode_tip(tip)
    assert last == proposal.signed
    TipPoll(first_roster(FOUR).current, CHAIN, 0, b"n" * 16).answer(signed, last)  # which takes it


def test_workers_that_race_vote_once_for_each_height(workers: tuple[Worker, Worker]) -> None:
    """Hundreds of blocks through two workers at the same time get one vote each, whoever says it."""
    writer, roster, count = Writer(), first_roster(FOUR).current, 300
    proposals = [writer.seal(roster, b"leaf %d" % number) for number in range(count)]
    start = Barrier(2, timeout=LIMIT_S)

    def work(worker: Worker) -> None:
        for proposal in proposals:
            if proposal.block.height % 10 == 0:
                start.wait()
            worker.propose(proposal)
            worker.settle()

    threads = [Thread(target=work, args=(worker,)) for worker in workers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    one, other = workers
    assert one.heights == other.heights == list(range(count))
    assert one.votes == other.votes
    voted_s = {read_vote(signing.parse_blob(vote)[0], vote).voted_ms for vote in one.votes}
    assert len(voted_s) == 2, "one was always first, so nothing raced"


def test_workers_that_race_never_vote_for_two_histories(shared_postgres: Postgres) -> None:
    """Whenever a gateway forks, and whichever worker hears which history first, no height has two votes."""
    rosters = first_roster(FOUR)
    for number in range(30):
        writer = Writer()
        common = [writer.seal(rosters.current, b"leaf %d" % at) for at in range(number % 4)]
        histories = [(writer.fork(len(common)), name) for name in (b"one", b"another")]
        url = shared_postgres.create()
        workers = [Worker(url, rosters), Worker(url, rosters, VOTED_S + 1)]
        start = Barrier(2, timeout=LIMIT_S)

        def work(worker: Worker, proposals: list[Proposal], start: Barrier = start) -> None:
            start.wait()
            for proposal in proposals:
                try:
                    worker.propose(proposal)
                except VerificationError:  # frozen by then
                    break
                worker.settle()
            worker.settle()

        proposals = [[*common, *(fork.seal(rosters.current, name) for _ in range(2))] for fork, name in histories]
        threads = [Thread(target=work, args=pair) for pair in zip(workers, proposals, strict=True)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        votes = workers[0].votes | workers[1].votes
        heights = [read_vote(signing.parse_blob(vote)[0], vote).height for vote in votes]
        assert len(heights) == len(set(heights)) > len(common)
        assert workers[0].store.evidence(CHAIN, 0) is not None
        for worker in workers:
            worker.store.close()


# -- a ledger of four peers, one of which has two workers


@pytest.fixture
def table(tmp_path: Path, url: str) -> Iterator[Table]:
    """Give four peers around a table, where peer a sits twice."""
    table = Table(tmp_path, first_roster(FOUR))
    table.stores["a"], table.stores[SECOND] = ChainStore(url), ChainStore(url)
    table.seat(*FOUR)
    table.known[SECOND] = table.rosters
    table.peers[SECOND] = PeerRule("a", keys_of("peer", "a").of, table.rosters, table.stores[SECOND])
    yield table
    table.close()


def votes_of_a(table: Table) -> dict[tuple[int, int, int], set[bytes]]:
    """Give the votes that both workers of peer a have said, by incarnation, epoch and height."""
    found: dict[tuple[int, int, int], set[bytes]] = {}
    for name, said in table.said:
        if name in {"a", SECOND} and said.topic.kind is Kind.VOTE:
            vote = read_vote(signing.parse_blob(said.payload)[0], said.payload)
            found.setdefault((vote.incarnation, vote.epoch, vote.height), set()).add(said.payload)
    return found


def test_workers_go_through_an_epoch_together(table: Table) -> None:
    """Both workers of a peer end an epoch and go on in the next, with one freeze and one vote for each block."""
    table.certify(table.propose(b"leaf 0"), 1)
    table.adopt(next_roster(table.rosters, with_peers(*FOUR)))
    table.tick(3)
    for number in range(1, 4):
        table.certify(table.propose(b"leaf %d" % number), 2)
    assert {place[1:] for place in votes_of_a(table)} >= {(1, 0), (2, 1), (2, 2), (2, 3)}
    assert all(len(votes) == 1 for votes in votes_of_a(table).values())
    assert table.refused == []


def test_a_worker_that_hears_last_of_an_epoch_goes_on_too(table: Table) -> None:
    """A worker that learns of a roster when the other has closed the epoch stands where the other does."""
    table.certify(table.propose(b"leaf 0"), 1)
    after = next_roster(table.rosters, with_peers(*FOUR))
    table.adopt(after, *FOUR)
    table.tick(3)
    table.certify(table.propose(b"leaf 1"), 2)
    table.adopt(after, SECOND)
    table.away.add("a")
    proposal = table.propose(b"leaf 2")
    assert set(table.votes(proposal.block, 2)) == set(FOUR)
    assert all(len(votes) == 1 for votes in votes_of_a(table).values())


def test_freezes_that_a_worker_heard_outlast_what_it_forgets(table: Table) -> None:
    """A worker that heard the freezes of others, and then finds its chain moved, ends the epoch with them."""
    table.certify(table.propose(b"leaf 0"), 1)
    after = next_roster(table.rosters, with_peers(*FOUR))
    table.away.add("a")
    table.adopt(after, "b", "c")  # with which the second worker of a has two freezes, and no roster
    table.away -= {"a"}
    table.peers["a"].adopt(after)
    table.known["a"] = after
    own = [said for said in table.peers["a"].settle() if said.topic.kind is Kind.FREEZE]
    assert own
    table.known[SECOND] = after
    table.peers[SECOND].adopt(after)
    table.settle()
    proposal = table.propose(b"leaf 1", to=[SECOND, "b", "c"])
    assert set(table.votes(proposal.block, 2)) == {"a", "b", "c"}


def test_workers_go_through_a_recovery_together(table: Table) -> None:
    """Both workers of a peer freeze an incarnation for its recovery key, and begin the next with its opening."""
    table.certify(table.propose(b"leaf 0"), 1)
    table.demand_recovery()
    table.open(table.closing())
    proposal = table.propose(b"genesis again")
    table.certify(proposal, 1)
    assert all(len(votes) == 1 for votes in votes_of_a(table).values())
    assert {place[0] for place in votes_of_a(table)} == {0, 1}
    assert table.refused == []


def test_freezes_heard_before_an_opening_count_where_another_worker_heard_it(table: Table) -> None:
    """What a worker heard of an incarnation too early counts once the other worker has begun that incarnation."""
    table.certify(table.propose(b"leaf 0"), 1)
    table.demand_recovery()
    table.away |= {"a", SECOND}
    table.open(table.closing())
    table.propose(b"genesis again")
    table.demand_recovery(incarnation=1)
    table.away.clear()
    for topic, payload in [*table.kept.items()]:
        if topic.kind is Kind.FREEZE and topic.who != "a":
            table.peers[SECOND].hear(topic, payload, 0, VOTED_S)
    table.peers[SECOND].settle()
    opening = Topic(CHAIN, Kind.OPENING, CHAIN)
    table.peers["a"].hear(opening, table.kept[opening], 0, VOTED_S)
    table.peers["a"].settle()
    table.peers[SECOND].hear(opening, table.kept[opening], 0, VOTED_S)
    table.peers[SECOND].settle()
    assert {(1, Word.CLOSED_FOR_GOOD), (0, Word.CAUSE)} <= table.stores[SECOND].words(CHAIN, 1).keys()


def test_a_worker_whose_roster_is_behind_waits_for_it(table: Table) -> None:
    """A worker that finds a chain in an epoch of which it knows no roster refuses what concerns it until it does."""
    table.certify(table.propose(b"leaf 0"), 1)
    table.away.add(SECOND)
    for _ in range(2):
        table.adopt(next_roster(table.rosters, with_peers(*FOUR)), *FOUR)
        table.tick(3)
        table.propose(b"another leaf")
    table.away = {"a"}
    table.peers[SECOND].greet(0)
    table.peers[SECOND].say_heads(0)
    table.peers[SECOND].remind(10_000)
    assert not [said for said in table.peers[SECOND].settle() if said.topic.kind is Kind.ASK]
    proposal = table.propose(b"the last leaf")
    assert [
        text
        for text in table.refused
        if text.startswith(SECOND) and "roster epoch 2, which is not known here yet" in text
    ]
    table.adopt(table.rosters, SECOND)
    table.show(proposal)
    assert set(table.votes(proposal.block, 3)) == set(FOUR)
    assert all(len(votes) == 1 for votes in votes_of_a(table).values())
