"""How a run has to end: what of every honest gateway's chain must be final, and who must have caught up.

Of a gateway that was never given an old disk: all that it sealed is final, every honest peer that is there has all of
it, and no block that a quorum has signed is missing from it.

Known limitation of a gateway that was given an old disk: it goes on from what a quorum of peers says. A block that it
had signed, that is not on the old disk and that no quorum had signed, may be known to one peer alone.

    That peer is not of the quorum that was asked, or it lies. Then the gateway signs another block at that height, and
    whoever voted for the first, then or later, freezes the chain; it stands still where that leaves too few peers.

    That peer shows the block and does not give it, for it lies or has gone away. Then the gateway waits for it.

Both are asked for nothing here but that the chain stays safe, and that what a quorum had signed before the start is in
it. Every other gateway with an old disk is held to all of the above, without the peers that froze its chain.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from gateway.ledger.policy import is_met
from gateway.model import Roster
from tests.simulation.gateway import HonestGateway
from tests.simulation.peer import HonestPeer
from tests.simulation.promises import Fate, Kind


@dataclass(frozen=True, slots=True)
class Ending:
    """The honest machines of a run, which are held to it."""

    roster: Roster
    fates: dict[str, Fate]
    gateways: Sequence[HonestGateway]
    peers: Sequence[HonestPeer]

    def unfinished(self, away: Collection[str]) -> str:
        """Say who has not come to an end, of those who must; empty if all have."""
        for gateway in self.gateways:
            fate = self.fates[gateway.chain]
            if self.excuse(gateway, away):
                why = gateway.unfinished if len(gateway.disk.blocks) < fate.certified_before else ""
            else:
                why = gateway.unfinished or self._behind(gateway, away)
            if why:
                return why
        return ""

    def excuse(self, gateway: HonestGateway, away: Collection[str]) -> str:
        """Say why a chain may stand still while these peers are away; empty if it may not."""
        kind, chain = self.fates[gateway.chain].kind, gateway.chain
        if kind is Kind.CLONED:
            return "cloned"
        if kind is Kind.HONEST:
            return ""
        there = [peer for peer in self.peers if peer.name not in away]
        able = [peer.name for peer in there if chain not in peer.disk.evidence]
        if len(able) < len(there) and not is_met(self.roster.policy, able):
            return "frozen after an old disk"
        if gateway.awaits > max(peer.disk.tip(chain).next_height for peer in there):
            return "waiting for a block that is kept back"
        return ""

    def require_kept(self) -> None:
        """Check that each honest gateway has every block that a quorum has signed.

        Raises: Broken if not.
        """
        for gateway in self.gateways:
            fate = self.fates[gateway.chain]
            for height, place in sorted(fate.certified.items()):
                if fate.kind is not Kind.CLONED and (not fate.doubled or height < fate.certified_before):
                    gateway.require_kept(place)

    def _behind(self, gateway: HonestGateway, away: Collection[str]) -> str:
        blocks = len(gateway.disk.blocks)
        for peer in self.peers:
            voted = peer.disk.tip(gateway.chain).next_height
            if peer.name not in away and gateway.chain not in peer.disk.evidence and voted < blocks:
                return f"{peer.name} has {voted} of {blocks} blocks of {gateway.chain}"
        return ""
