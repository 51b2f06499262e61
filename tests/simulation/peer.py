"""An honest peer: the rule as the product has it, with what `gateway.peer` does around it."""

from collections import deque

from gateway import canonical, signing
from gateway.errors import StoreError, VerificationError
from gateway.ledger.messages import Kind, Topic
from gateway.ledger.peering import PeerRule, Said
from gateway.peer import BATCH
from tests.simulation.clock import WALL_MS
from tests.simulation.disks import PeerDisk
from tests.simulation.machine import Machine, Site
from tests.simulation.promises import Broken

SLOWEST_MS = 30


class HonestPeer(Machine):
    """A peer that follows the rule."""

    def __init__(self, name: str, key: signing.Key, site: Site) -> None:
        super().__init__(name, site)
        self.disk = PeerDisk(self.power)
        self._key = key
        self._rule = PeerRule(name, key, site.roster, self.disk)
        self._inbox: deque[tuple[Topic, bytes]] = deque()
        self._said: list[bytes] = []
        self._heard: list[tuple[bytes, str, int]] = []
        self._seen_evidence: set[str] = set()

    def begin(self) -> None:
        """Read its disk and go on from there."""
        self._rule = PeerRule(self.name, self._key, self.site.roster, self.disk)
        self._inbox.clear()

    def connected(self) -> None:
        """Ask every gateway for what is missing here."""
        for said in self._rule.greet(self.site.clock.now_ms):
            self._say(said)

    def wants(self, topic: Topic) -> bool:
        """Say whether it has subscribed to the topic."""
        return topic.kind in {Kind.PROPOSAL, Kind.ASK} or (topic.kind is Kind.ANSWER and topic.who == self.name)

    def hear(self, topic: Topic, payload: bytes) -> None:
        """Let a message wait to be judged with those that come meanwhile."""
        self._inbox.append((topic, payload))
        if len(self._inbox) == 1:
            self.after(self.site.chance.randint(0, SLOWEST_MS), self._judge)

    def _judge(self) -> None:
        now_ms = self.site.clock.now_ms
        for _ in range(min(BATCH, len(self._inbox))):
            topic, payload = self._inbox.popleft()
            if topic.kind is not Kind.ASK:
                self._note_heard(payload)
            try:
                self._rule.hear(topic, payload, now_ms, (WALL_MS + now_ms) // 1000)
            except VerificationError as error:
                self.site.trace.tell(self.name, f"refuses {topic}: {error}", count="messages refused")
        for said in self._rule.settle():
            self._say(said)
        if self._inbox:
            self.after(0, self._judge)

    def _say(self, said: Said) -> None:
        self.publish(said.topic, said.payload, retain=said.retain)
        if said.topic.kind is Kind.VOTE:
            self._said.append(said.payload)

    # -- what it promises

    def failed(self, error: StoreError) -> None:
        """Be found out: the disk is sound."""
        raise Broken(f"honest {self.name} does not trust its disk: {error}")

    def check(self) -> None:
        """Check what it has said and what it has heard in this step against its disk."""
        promises, disk = self.site.promises, self.disk
        for signed in self._said:
            chain, height = _place_of(signed)
            promises.said(self.name, disk.block(chain, height), signed)
        if self.running:  # else the power went before it could freeze
            for payload, chain, height in self._heard:
                promises.heard(self.name, disk.block(chain, height), payload, disk.evidence.get(chain))
        for chain in disk.evidence.keys() - self._seen_evidence:
            self.site.trace.tell(self.name, f"freezes {chain}", count="chains frozen")
            self._seen_evidence.add(chain)
            promises.froze(self.name, disk.evidence[chain])
        self._said.clear()
        self._heard.clear()

    def _note_heard(self, payload: bytes) -> None:
        """Remember against which block on the disk a proposal stands: the one of its height, or the last one."""
        block = self.site.promises.opened(payload)
        if block is not None:
            last_height = self.disk.tip(block.chain).next_height - 1
            self._heard.append((payload, block.chain, min(block.height, last_height)))


def _place_of(signed: bytes) -> tuple[str, int]:
    message = signing.parse(signed)
    _, _, height, _, _ = message.header[canonical.POSITION]
    return str(message.claim(canonical.SUBJECT)), height
