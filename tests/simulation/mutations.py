"""Rules that are wrong in one way each, put into the product for the length of a run: the promises must notice."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import pytest

from gateway.anchoring import Anchoring
from gateway.ledger import closing, peering, policy, standing
from gateway.ledger.book import Book, Said
from gateway.ledger.closing import Closing
from gateway.ledger.peering import PeerRule
from gateway.ledger.rosters import Rosters
from gateway.ledger.standing import Standing
from gateway.ledger.turning import Turning
from gateway.ledger.voting import Accepted, Behind, Conflict, Tip, Verdict, VotedBlock, judge
from gateway.model import Proposal, Roster
from tests.simulation.disks import PeerDisk

SEEDS = range(60)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutation:
    """A wrong rule: how it is put in, and a piece of what one of the first `SEEDS` then says is broken."""

    name: str
    put_in: Callable[[pytest.MonkeyPatch], None]
    broken: str


def _lower_quorum(patch: pytest.MonkeyPatch) -> None:
    """Let one vote less be a quorum."""
    patch.setattr(policy, "_is_met", lambda rule, voted: policy._count(rule, voted) >= rule.threshold - 1)


def _say_before_storing(patch: pytest.MonkeyPatch) -> None:
    """Say votes first and store them then: what the power cuts off between is said and lost."""
    settle = PeerRule.settle

    def say_first(rule: PeerRule) -> Iterator[Said]:
        yield from list(rule._book.said)
        settle(rule)

    patch.setattr(PeerRule, "settle", say_first)


def _accept_any_start(patch: pytest.MonkeyPatch) -> None:
    """Vote for whatever is at the next height, wherever it starts."""

    def judge_height(roster: Roster, tip: Tip, proposal: Proposal, voted_for: bytes | None) -> Verdict:
        verdict = judge(roster, tip, proposal, voted_for)
        if isinstance(verdict, Conflict) and proposal.block.height == tip.next_height:
            return Accepted(proposal, _tip_after(tip, proposal))
        return verdict

    patch.setattr(peering, "judge", judge_height)


def _vote_twice(patch: pytest.MonkeyPatch) -> None:
    """Vote for a second block at a height instead of freezing the chain, on a disk that keeps the later one."""

    def judge_lightly(roster: Roster, tip: Tip, proposal: Proposal, voted_for: bytes | None) -> Verdict:
        verdict = judge(roster, tip, proposal, voted_for)
        if isinstance(verdict, Conflict):
            return Accepted(proposal, tip) if voted_for is not None else Behind(proposal.block, tip.next_height)
        return verdict

    insert = PeerDisk.insert

    def replace_or_insert(disk: PeerDisk, proposal: Proposal, vote: bytes) -> None:
        block = proposal.block
        blocks = disk._blocks.get((block.chain, block.incarnation), [])
        if block.height < len(blocks):
            row = (block.chain, block.incarnation, block.height, block.start, block.size, proposal.signed, vote)
            blocks[block.height] = VotedBlock(*row)
        else:
            insert(disk, proposal, vote)

    patch.setattr(peering, "judge", judge_lightly)
    patch.setattr(PeerDisk, "insert", replace_or_insert)


def _seal_without_asking(patch: pytest.MonkeyPatch) -> None:
    """Seal from the start on, without asking how far the chain goes."""
    patch.setattr(Anchoring, "may_seal", True)


def _freeze_nothing(patch: pytest.MonkeyPatch) -> None:
    """Keep no evidence and go on."""
    patch.setattr(Turning, "fault", lambda *_: None)


def _vote_below_the_base(patch: pytest.MonkeyPatch) -> None:
    """Vote in a new epoch before the copy has all that is final in the earlier ones."""

    def be_level(_: Turning, standing: Standing) -> None:
        standing.is_level = True

    patch.setattr(Turning, "_level", be_level)


def _go_on_without_closing(patch: pytest.MonkeyPatch) -> None:
    """Take the freezes of anyone for the closing of an epoch."""
    patch.setattr(standing, "is_met", lambda _, known: bool(known))
    close = closing.close

    def close_epochs(rosters: Rosters, shown: list[closing.Shown]) -> Closing:
        with pytest.MonkeyPatch.context() as within:
            within.setattr(closing, "require", lambda *_: None)
            return close(rosters, shown)

    patch.setattr(standing, "close", close_epochs)


def _open_without_quorum(patch: pytest.MonkeyPatch) -> None:
    """Begin an incarnation behind any freeze of the last one."""
    patch.setattr(closing, "require", lambda *_: None)


def _vote_on_when_frozen(patch: pytest.MonkeyPatch) -> None:
    """Vote in an epoch that this peer has frozen, as before."""
    may_vote = Book.may_vote

    def may_still_vote(book: Book, standing: Standing, *, also_below_base: bool = False) -> bool:
        own, standing.own = standing.own, {}
        try:
            return may_vote(book, standing, also_below_base=also_below_base) or (
                standing.epoch < book.roster.epoch and book.keys is not None and not standing.cause
            )
        finally:
            standing.own = own

    patch.setattr(Book, "may_vote", may_still_vote)


def _tip_after(tip: Tip, proposal: Proposal) -> Tip:
    frontier = tip.frontier.extend(proposal.hashes)
    return replace(tip, next_height=proposal.block.height + 1, frontier=frontier, last_signed=proposal.signed)


MUTATIONS = (
    Mutation(name="a quorum of q - 1", put_in=_lower_quorum, broken="two certificates"),
    Mutation(name="said before stored", put_in=_say_before_storing, broken="not on its disk"),
    Mutation(name="any start", put_in=_accept_any_start, broken="does not follow its own"),
    Mutation(name="votes twice", put_in=_vote_twice, broken="voted for two blocks"),
    Mutation(name="seals without asking", put_in=_seal_without_asking, broken="again"),
    Mutation(name="no freeze", put_in=_freeze_nothing, broken="did not freeze it"),
    Mutation(name="votes below the base", put_in=_vote_below_the_base, broken="votes in epoch"),
    Mutation(name="goes on without closing", put_in=_go_on_without_closing, broken="it was not begun"),
    Mutation(name="opens without a quorum", put_in=_open_without_quorum, broken="no quorum had closed"),
    Mutation(name="votes on when frozen", put_in=_vote_on_when_frozen, broken="after it had frozen"),
)
