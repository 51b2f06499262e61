"""How a run has to end: what of every honest gateway's chain must be final, and who must have caught up.

All that an honest gateway has ever kept is final in one incarnation or another, it goes on in the latest epoch of the
roster, every honest peer that belongs and is there has all of its latest incarnation and votes in it, and no block that
a quorum has signed is missing from it. That holds for a chain that was frozen, too: its owner begins it anew.

A gateway that was given an old disk goes on from what a quorum of peers says. A block that it had signed, that is not
on the old disk and that no quorum had signed, may be known to one peer alone.

    That peer is not of the quorum that was asked, or it lies. Then the gateway signs another block at that height, and
    whoever voted for the first, then or later, freezes the chain, so that its owner begins it anew.

    That peer shows the block and does not give it, for it lies or has gone away. Then the gateway waits for it, until
    its owner begins the chain anew.

What a quorum had signed before the start is in its chain in any case.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from tests.simulation.gateway import HonestGateway
from tests.simulation.owner import Owner
from tests.simulation.peer import HonestPeer
from tests.simulation.promises import Promises
from tests.simulation.traits import Kind

PATIENCE_MS = 20_000
"""How long a gateway with an old disk waits, after all has healed, before its owner does something about it."""


@dataclass(frozen=True, slots=True)
class Ending:
    """The honest machines of a run, which are held to it."""

    promises: Promises
    gateways: Sequence[HonestGateway]
    owners: Sequence[Owner]
    peers: Sequence[HonestPeer]

    def unfinished(self, away: Collection[str]) -> str:
        """Say who has not come to an end; empty if all have."""
        for gateway, owner in zip(self.gateways, self.owners, strict=True):
            if owner.is_closing or owner.means_to_close:
                return f"{owner.name} waits for freezes"
            if self.promises.fates[gateway.chain].kind is Kind.CLONED and not owner.begun:
                return f"{owner.name} has not begun {gateway.chain} anew"
            why = gateway.unfinished or self._behind(gateway, away)
            if why:
                return why
        return ""

    def help(self, away: Collection[str], waited_ms: int) -> None:
        """Let owners see what a person sees: that there are two gateways, or that one waits for what nobody gives."""
        for gateway, owner in zip(self.gateways, self.owners, strict=True):
            there = [peer.disk for peer in self.peers if peer.name not in away]
            highest = max(disk.tip(gateway.chain).next_height for disk in there)
            kind = self.promises.fates[gateway.chain].kind
            is_cloned = kind is Kind.CLONED and not owner.begun
            is_waiting = kind is Kind.RESTORED and waited_ms >= PATIENCE_MS and not gateway.may_seal
            if is_cloned or is_waiting or gateway.awaits > highest:
                owner.mean_to_close()

    def require_kept(self) -> None:
        """Check that each honest gateway has every block that a quorum has signed, and all of its own is final.

        Raises: Broken if not.
        """
        for gateway in self.gateways:
            fate, incarnation = self.promises.fates[gateway.chain], gateway.disk.incarnation
            for number in range(incarnation + 1):
                for block in self.promises.final((gateway.chain, number)):
                    is_old = fate.certified_before.get((number, block.height)) == block
                    if fate.kind is not Kind.CLONED and (number not in fate.doubled or is_old):
                        gateway.require_kept(block)
            gateway.require_final()
            self.promises.require_goes_on(gateway.chain, incarnation)

    def _behind(self, gateway: HonestGateway, away: Collection[str]) -> str:
        roster = gateway.roster.rosters.current
        present = {member.id for member in roster.peers} - set(away)
        for peer in self.peers:
            if peer.name in present:
                lacks = peer.lacks(gateway.chain, gateway.disk.incarnation, len(gateway.disk.blocks))
                if lacks:
                    return f"{peer.name} lacks {lacks} of {gateway.chain}"
        return ""
