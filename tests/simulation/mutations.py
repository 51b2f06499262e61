"""Rules that are wrong in one way each, put into the product for the length of a run: the promises must notice."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import pytest

from gateway.anchoring import Anchoring
from gateway.ledger import peering, policy
from gateway.ledger.peering import PeerRule, Said
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
        yield from rule._batch.said
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

    insert = PeerDisk._insert

    def replace_or_insert(disk: PeerDisk, proposal: Proposal, vote: bytes) -> None:
        block, blocks = proposal.block, disk._blocks.get(proposal.block.chain, [])
        if block.height < len(blocks):
            blocks[block.height] = VotedBlock(block.chain, block.height, block.start, block.size, proposal.signed, vote)
        else:
            insert(disk, proposal, vote)

    patch.setattr(peering, "judge", judge_lightly)
    patch.setattr(PeerDisk, "_insert", replace_or_insert)


def _seal_without_asking(patch: pytest.MonkeyPatch) -> None:
    """Seal from the start on, without asking how far the chain goes."""
    patch.setattr(Anchoring, "may_seal", True)


def _tip_after(tip: Tip, proposal: Proposal) -> Tip:
    frontier = tip.frontier.extend(proposal.hashes)
    return replace(tip, next_height=proposal.block.height + 1, frontier=frontier, last_signed=proposal.signed)


MUTATIONS = (
    Mutation(name="a quorum of q - 1", put_in=_lower_quorum, broken="two certificates"),
    Mutation(name="said before stored", put_in=_say_before_storing, broken="not on its disk"),
    Mutation(name="any start", put_in=_accept_any_start, broken="does not follow its own"),
    Mutation(name="votes twice", put_in=_vote_twice, broken="voted for two blocks"),
    Mutation(name="seals without asking", put_in=_seal_without_asking, broken="again"),
)
