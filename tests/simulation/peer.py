"""An honest peer: the rule as the product has it, with what `gateway.peer` does around it."""

from collections import deque

from gateway import canonical, signing
from gateway.errors import StoreError, VerificationError
from gateway.ledger import messages
from gateway.ledger.book import Said
from gateway.ledger.messages import Kind, Topic
from gateway.ledger.peering import PeerRule
from gateway.ledger.quorum import read_vote
from gateway.ledger.rosters import Rosters
from gateway.ledger.standing import Word
from gateway.ledger.statements import decode_freeze
from gateway.ledger.voting import open_proposal, require_current_keys
from gateway.peer import BATCH, BEAT_S, HEADS_EVERY_MS
from tests.simulation.disks import PeerDisk
from tests.simulation.machine import Machine, Site
from tests.simulation.membership import RosterFile, keys_of
from tests.simulation.promises import signed_in
from tests.simulation.turns import Broken

SLOWEST_MS = 30
HEARD = frozenset({Kind.PROPOSAL, Kind.CERTIFICATE, Kind.RECOVERY, Kind.ASK, Kind.FREEZE, Kind.OPENING, Kind.HEADS})


class HonestPeer(Machine):
    """A peer that follows the rule; one that is not `alert` looks at its roster's file only when it starts."""

    def __init__(self, name: str, site: Site, rosters: Rosters, *, alert: bool) -> None:
        super().__init__(name, site)
        self.disk = PeerDisk(self.power)
        self.roster = RosterFile(rosters, self.power)
        self.alert = alert
        self._rule = self._new_rule()
        self._inbox: deque[tuple[Topic, bytes]] = deque()
        self._heads_ms = 0
        self._said: list[Said] = []
        self._heard: list[tuple[bytes, str, int, int]] = []
        self._seen: set[tuple[str, int, Word]] = set()
        site.promises.disks[name] = self.disk

    def begin(self) -> None:
        """Read its disk and go on from there."""
        self.roster.look()
        self._rule = self._new_rule()
        self._inbox.clear()
        self.after(int(BEAT_S * 1000), self._look)

    def connected(self) -> None:
        """Ask every gateway for what is missing here, and tell of what it knows."""
        self._rule.greet(self.site.clock.now_ms)
        self._rule.say(self._tell_roster())
        self._say_heads()
        self._settle()

    def wants(self, topic: Topic) -> bool:
        """Say whether it has subscribed to the topic."""
        return (
            topic.kind in HEARD or topic.kind is Kind.ROSTER or (topic.kind is Kind.ANSWER and topic.who == self.name)
        )

    def hear(self, topic: Topic, payload: bytes) -> None:
        """Let a message wait to be judged with those that come meanwhile."""
        self._inbox.append((topic, payload))
        if len(self._inbox) == 1:
            self.after(self.site.chance.randint(0, SLOWEST_MS), self._judge)

    def calm(self) -> None:
        """Let no more power cut happen to it, and look at the roster's file."""
        super().calm()
        self.alert = True

    def lacks(self, chain: str, incarnation: int, blocks: int) -> str:
        """Say what it lacks of a chain that has so many blocks; empty if nothing."""
        roster, tip = self.site.membership.rosters.current, self.disk.tip(chain)
        standing = self._rule._turning.standing(chain)
        if self.roster.rosters.current != roster:
            return "the roster"
        if (tip.incarnation, tip.next_height) != (incarnation, blocks):
            return f"blocks: it has {tip.next_height} of {blocks} in incarnation {tip.incarnation} of {incarnation}"
        if tip.frozen or standing.epoch != roster.epoch or not standing.is_level:
            return f"a vote: frozen {tip.frozen}, epoch {standing.epoch}, level {standing.is_level}"
        return ""

    # -- what it does

    def _new_rule(self) -> PeerRule:
        return PeerRule(self.name, keys_of("peer", self.name).of, self.roster.rosters, self.disk)

    def _judge(self) -> None:
        for _ in range(min(BATCH, len(self._inbox))):
            topic, payload = self._inbox.popleft()
            try:
                self._take(topic, payload)
            except VerificationError as error:
                self.site.trace.tell(self.name, f"refuses {topic}: {error}", count="messages refused")
        self._settle()
        if self._inbox:
            self.after(0, self._judge)

    def _take(self, topic: Topic, payload: bytes) -> None:
        if topic.kind is Kind.ROSTER:
            self._adopt(self.roster.hear(payload))
            return
        if topic.kind in {Kind.PROPOSAL, Kind.ANSWER}:
            self._note_heard(payload)
        self._rule.hear(topic, payload, self.site.clock.now_ms, self.wall_ms // 1000)

    def _look(self) -> None:
        if self.alert:
            self._adopt(self.roster.look())
        self._rule.remind(self.site.clock.now_ms)
        if self.site.clock.now_ms - self._heads_ms >= HEADS_EVERY_MS:
            self._say_heads()
        self._settle()
        self.after(int(BEAT_S * 1000), self._look)

    def _adopt(self, rosters: Rosters | None) -> None:
        if rosters is not None:
            self.site.trace.tell(self.name, f"goes by epoch {rosters.current.epoch}", count="rosters adopted")
            self._rule.adopt(rosters)
            self._rule.say(self._tell_roster())

    def _tell_roster(self) -> Said:
        rosters = self.roster.rosters
        return Said(Topic(rosters.current.ledger, Kind.ROSTER, self.name), rosters.encode(), retain=True)

    def _say_heads(self) -> None:
        self._heads_ms = self.site.clock.now_ms
        self._rule.say_heads(self.wall_ms)

    def _settle(self) -> None:
        said = self._rule.settle()
        for note in self._rule.notes:
            self.site.trace.tell(
                self.name, f"notes {note.event} {note.chain} {note.height} {note.why}", count=note.event
            )
        self._rule.notes.clear()
        for each in said:
            self.publish(each.topic, each.payload, retain=each.retain)
            if each.topic.kind in {Kind.VOTE, Kind.FREEZE}:
                self._said.append(each)

    # -- what it promises

    def failed(self, error: StoreError) -> None:
        """Be found out: the disk is sound."""
        raise Broken(f"honest {self.name} does not trust its disk: {error}")

    def check(self) -> None:
        """Check what it has said and what it has heard in this step against its disk."""
        for said in self._said:
            if said.topic.kind is Kind.VOTE:
                self._check_vote(said.payload)
            else:
                self._check_freezes(said)
        if self.running:  # else the power went before it could freeze
            for payload, chain, incarnation, height in self._heard:
                self._check_heard(payload, chain, incarnation, height)
        self._said.clear()
        self._heard.clear()
        self._check_words()

    def _check_vote(self, signed: bytes) -> None:
        message, _ = signing.parse_blob(signed)
        vote = read_vote(message, signed)
        self.site.promises.said(self.name, vote.chain, vote.incarnation, vote.epoch, vote.height, signed)

    def _check_freezes(self, said: Said) -> None:
        shown, _ = messages.decode_freezes(said.payload)
        for each in shown:
            message, _ = signing.parse_blob(each.signed)
            if message.claim(canonical.ISSUER) == self.name:
                freeze = decode_freeze(message.payload or b"", self.name)
                words = self.disk.words(freeze.chain, freeze.incarnation)
                self.site.promises.turns.froze_honestly(self.name, each, words)

    def _check_words(self) -> None:
        """See what is new on its disk beside blocks: causes and openings."""
        for (chain, incarnation), words in self.disk.all_words.items():
            for word in (Word.CAUSE, Word.OPENING):
                if (0, word) not in words or (chain, incarnation, word) in self._seen:
                    continue
                self._seen.add((chain, incarnation, word))
                if word is Word.CAUSE:
                    _, cause = messages.decode_freezes(words[0, word])
                    self.site.trace.tell(self.name, f"freezes {chain}", count="chains frozen")
                    self.site.promises.accused(self.name, chain, cause)
                else:
                    self.site.promises.turns.began(self.name, chain, incarnation, words[0, word])

    def _check_heard(self, payload: bytes, chain: str, incarnation: int, height: int) -> None:
        block, own = self.site.promises.opened(payload), self.disk.block(chain, incarnation, height)
        if block is None or own is None or (0, Word.CAUSE) in self.disk.words(chain, incarnation):
            return
        self.site.promises.heard(self.site.promises.block(own.proposal), block, self.name)

    def _note_heard(self, payload: bytes) -> None:
        """Remember against which block on the disk a proposal stands: the one of its height, or the last one."""
        block = self.site.promises.opened(payload)
        if block is None or not self._knows(payload):
            return
        tip = self.disk.tip(block.chain)
        self._heard.append((payload, block.chain, tip.incarnation, min(block.height, tip.next_height - 1)))

    def _knows(self, payload: bytes) -> bool:
        """Say whether a proposal is by a gateway that is on its roster, with the key that it has there."""
        roster, signed = self.roster.rosters.current, signed_in(payload)
        try:
            open_proposal(roster, signed)
            require_current_keys(roster, signed)
        except VerificationError:
            return False
        return True
