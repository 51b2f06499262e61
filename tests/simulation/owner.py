"""Who owns an honest gateway: has its chain closed and begun anew, as `iomt ledger reincarnate` does.

The recovery key demands that the incarnation be closed, until a quorum has frozen it; then the gateway's disk is begun
anew behind the closing, and the gateway is switched on again. A clone is switched off, or overlooked.
"""

from collections.abc import Sequence

from gateway import merkle
from gateway.errors import VerificationError
from gateway.freezing import DEMAND_AGAIN_S
from gateway.ledger import messages
from gateway.ledger.closing import Closing, open_recovery, sign_opening, sign_recovery
from gateway.ledger.evidence import open_evidence
from gateway.ledger.messages import Kind, Topic
from gateway.ledger.rosters import Rosters
from gateway.ledger.standing import Standing, closing_in, note_freeze
from gateway.ledger.voting import Tip
from tests.simulation.disks import Pending
from tests.simulation.gateway import HonestGateway
from tests.simulation.machine import Machine, Site
from tests.simulation.membership import recovery_key_of

LOOK_MS = 1_000
REACTION_MS = (2_000, 20_000)
WAIT_MS = 60_000
"""How long a closing is waited for, before all is begun again with the roster that is known by then."""


class Owner(Machine):
    """The owner of one gateway, at its machine."""

    def __init__(self, gateway: HonestGateway, site: Site) -> None:
        super().__init__(f"{gateway.name}-owner", site)
        self.clones: list[HonestGateway] = []
        self.is_closing = False
        self.begun = 0
        """How many incarnations were begun here."""
        self._gateway = gateway
        self._chain = gateway.chain
        self._key = recovery_key_of(gateway.id)
        self._standing = Standing(Tip(chain=self._chain), 1)
        self.means_to_close = False

    def begin(self) -> None:
        """Look after the gateway again; what was not finished is begun anew."""
        if self.is_closing:
            self.close()
        self.after(LOOK_MS, self._look)

    def wants(self, topic: Topic) -> bool:
        """Say whether it listens to the topic."""
        return topic.chain == self._chain and topic.kind is Kind.FREEZE

    def mean_to_close(self) -> None:
        """Decide that the chain is to be begun anew, and do it after a while."""
        if not self.means_to_close and not self.is_closing:
            self.means_to_close = True
            self.site.clock.after(self.site.chance.randint(*REACTION_MS), self.close)

    def close(self) -> None:
        """Switch the gateway off, and have its incarnation closed."""
        self.means_to_close = False
        self.is_closing = True
        self._gateway.stop(held=True)
        incarnation, rosters = self._gateway.disk.incarnation, self._rosters()
        self._standing = Standing(Tip(chain=self._chain, incarnation=incarnation), rosters.current.epoch)
        self.site.trace.tell(self.name, f"has incarnation {incarnation} closed", count="closings demanded")
        self.connect()
        self.after(0, lambda: self._demand(self.site.clock.now_ms + WAIT_MS))

    def hear(self, topic: Topic, payload: bytes) -> None:
        """Take in freezes, and what caused them."""
        try:
            shown, cause = messages.decode_freezes(payload)
            for each in shown if self.is_closing else ():
                note_freeze(self._gateway.roster.rosters, self._standing, each)
            if len(cause) and not self.is_closing:
                self._see(cause)
        except VerificationError as error:
            self.site.trace.tell(self.name, f"refuses {topic}: {error}", count="messages refused")
        if self.is_closing:
            closing = closing_in(self._gateway.roster.rosters, self._standing, is_final=True)
            if closing is not None:
                self._begin_anew(closing)

    # -- pieces

    def _look(self) -> None:
        if self._gateway.stopped_by and self._gateway.running:
            self.mean_to_close()
        self.after(LOOK_MS, self._look)

    def _see(self, cause: Sequence[bytes]) -> None:
        roster = self._gateway.roster.rosters.current
        if len(cause) == 2:
            first = open_evidence(roster, *cause).first
            place = first.chain, first.incarnation
        else:
            place = open_recovery(roster, cause[0])
        if place == (self._chain, self._gateway.disk.incarnation):
            self.mean_to_close()

    def _rosters(self) -> Rosters:
        self._gateway.roster.look()
        return self._gateway.roster.rosters

    def _demand(self, until_ms: int) -> None:
        if not self.is_closing:
            return
        if self.site.clock.now_ms >= until_ms:
            self.close()
            return
        incarnation = self._standing.tip.incarnation
        demand = sign_recovery(self._key, self._gateway.id, self._chain, incarnation)
        self.publish(Topic(self._chain, Kind.RECOVERY), demand)
        self.after(int(DEMAND_AGAIN_S * 1000), lambda: self._demand(until_ms))

    def _begin_anew(self, closing: Closing) -> None:
        gateway, incarnation = self._gateway, closing.incarnation + 1
        opening = messages.encode_opening(sign_opening(self._key, gateway.id, closing), closing.shown)
        leaf = f"genesis of {self._chain}, incarnation {incarnation}, behind {closing.digest.hex()}"
        self.power()
        gateway.disk = gateway.disk.reborn(Pending(merkle.leaf_hash(leaf.encode()), gateway.wall_ms, 0), opening)
        self.is_closing = False
        self.begun += 1
        self.site.trace.tell(self.name, f"begins incarnation {incarnation}", count="incarnations begun")
        for clone in self.clones:
            if self.site.chance.random() < 0.7:
                clone.stop(held=True)
        gateway.release()
        gateway.start()
