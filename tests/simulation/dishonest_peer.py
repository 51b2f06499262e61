"""Peers that lie: they have their own keys and hear all that is said, and keep to no rule."""

import contextlib
from collections import deque
from collections.abc import Sequence
from dataclasses import replace

from gateway import signing
from gateway.errors import VerificationError
from gateway.ledger import messages
from gateway.ledger.anchor import state_tip
from gateway.ledger.closing import START, Place, Shown, sign_freeze
from gateway.ledger.messages import Kind, Topic
from gateway.ledger.voting import cast_vote
from gateway.model import Block, Freeze, Roster, Why
from tests.simulation.machine import Machine, Site
from tests.simulation.membership import keys_of
from tests.simulation.promises import signed_in
from tests.simulation.traits import Trait

REMEMBERED = 64
PASSED_ON = 6
QUIET_MS = 1_000
"""How long a liar lets pass between two messages out of turn: two of them would else answer each other for ever."""


class DishonestPeer(Machine):
    """A peer with some traits, of which one shows at a time; it knows every roster at once."""

    def __init__(self, name: str, site: Site, traits: Sequence[Trait]) -> None:
        super().__init__(name, site)
        self._keys_of = keys_of("peer", name).of
        self._traits = traits
        self._heard: deque[tuple[Topic, bytes]] = deque(maxlen=REMEMBERED)
        self._blocks: deque[tuple[Block, bytes]] = deque(maxlen=REMEMBERED)
        self._freezes: deque[tuple[Topic, Shown]] = deque(maxlen=REMEMBERED)
        self._causes: dict[str, tuple[bytes, ...]] = {}
        self._quiet_until_ms = 0

    def wants(self, topic: Topic) -> bool:
        """Say whether it has subscribed to the topic: to all that others say."""
        return self.name not in {topic.who if topic.kind is not Kind.ANSWER else "", topic.by}

    def hear(self, topic: Topic, payload: bytes) -> None:
        """Do as its traits are."""
        self._heard.append((topic, payload))
        block = self._note(topic, payload)
        is_quiet = self.site.clock.now_ms < self._quiet_until_ms
        match self.site.chance.choice(self._traits):
            case Trait.VOTES_FOR_ALL if block is not None:
                self._vote(block)
            case Trait.VOTES_FOR_NOTHING_REAL if block is not None:
                self._vote(self._invented(block))
            case Trait.LIES_ABOUT_TIPS if topic.kind is Kind.ASK and topic.who == topic.chain:
                self._answer(topic.chain, payload)
            case Trait.FREEZES_WRONGLY if not is_quiet:
                self._quiet_until_ms = self.site.clock.now_ms + QUIET_MS
                self._freeze(topic.chain)
            case Trait.REPLAYS | Trait.TALKS_GARBAGE as trait if not is_quiet:
                self._quiet_until_ms = self.site.clock.now_ms + QUIET_MS
                if trait is Trait.REPLAYS:
                    self._replay()
                else:
                    self._talk_garbage(topic)

    def _note(self, topic: Topic, payload: bytes) -> Block | None:
        if topic.kind is Kind.FREEZE:
            try:
                shown, cause = messages.decode_freezes(payload)
            except VerificationError:
                return None
            self._freezes += [(topic, each) for each in shown]
            if cause:
                self._causes[topic.chain] = cause
        if topic.kind not in {Kind.PROPOSAL, Kind.ANSWER}:
            return None
        block = self.site.promises.opened(payload)
        if block is not None:
            self._blocks.append((block, signed_in(payload)))
        return block

    # -- votes and tips

    def _keys(self) -> tuple[Roster, signing.Keys] | None:
        """Draw a version of the roster by which it belongs: mostly the latest."""
        rosters = self.site.membership.rosters
        mine = [(roster, keys) for roster in rosters.versions if (keys := self._keys_of(roster)) is not None]
        if not mine:
            return None
        return mine[-1] if self.site.chance.random() < 0.7 else self.site.chance.choice(mine)

    def _vote(self, block: Block) -> None:
        drawn = self._keys()
        if drawn is not None:
            roster, keys = drawn
            signed = cast_vote(keys, self.name, roster.epoch, block, self.wall_ms // 1000)
            self.site.promises.voted(self.name, block, signed)
            self.publish(Topic(block.chain, Kind.VOTE, self.name), signed)

    def _invented(self, block: Block) -> Block:
        chance = self.site.chance
        invented: list[Block] = [
            replace(block, root=chance.randbytes(32)),
            replace(block, height=block.height + chance.randint(1, 3)),
            replace(block, start=block.start + 1, size=block.size + 1),
            replace(block, incarnation=block.incarnation + 1),
        ]
        return chance.choice(invented)

    def _answer(self, chain: str, payload: bytes) -> None:
        """Show a tip that its chain once had, or none, or hold back what it shows."""
        drawn = self._keys()
        if drawn is None:
            return
        ask = messages.decode_ask(payload)
        incarnation, place = self._place(chain, ask.incarnation)
        statement = state_tip(drawn[1], self.name, chain, incarnation, place, ask.nonce)
        self.publish(Topic(chain, Kind.TIP, self.name), messages.encode_tip(statement, place.proposal), retain=True)

    def _place(self, chain: str, incarnation: int) -> tuple[int, Place]:
        """Draw a place at which a chain once was: the highest one that it knows, any, or the beginning."""
        known = [each for each in self._blocks if each[0].chain == chain]
        match self.site.chance.randrange(4):
            case 0 | 1 if known:
                block, signed = max(known, key=lambda each: (each[0].incarnation, each[0].height))
            case 2 if known:
                block, signed = self.site.chance.choice(known)
            case _:
                return incarnation, START
        return block.incarnation, Place(block.height + 1, block.size, block.root, signed)

    # -- freezes

    def _freeze(self, chain: str) -> None:
        """Freeze what it likes, and pass on others' freezes, with their cause or without."""
        drawn, chance = self._keys(), self.site.chance
        shown = [each for topic, each in self._freezes if topic.chain == chain]
        shown = chance.sample(shown, chance.randint(0, min(len(shown), PASSED_ON)))
        if drawn is not None and chain.startswith("chain"):
            shown.insert(0, self._frozen(chain, *drawn))
        cause = self._causes.get(chain, ()) if chance.random() < 0.3 else ()
        self.publish(Topic(chain, Kind.FREEZE, self.name), messages.encode_freezes(shown, cause), retain=True)

    def _frozen(self, chain: str, roster: Roster, keys: signing.Keys) -> Shown:
        incarnation, place = self._place(chain, self.site.chance.randrange(2))
        freeze = Freeze(
            peer=self.name,
            chain=chain,
            incarnation=incarnation,
            next_height=place.next_height,
            size=place.size,
            root=place.root,
            epoch=roster.epoch,
            why=self.site.chance.choice((Why.EPOCH, Why.EPOCH, Why.TWO_HISTORIES, Why.RECOVERY)),
        )
        shown = Shown(sign_freeze(keys, freeze), place.proposal)
        with contextlib.suppress(VerificationError):  # of a chain that this roster does not have
            self.site.promises.turns.froze(shown)
        return shown

    # -- noise

    def _replay(self) -> None:
        topic, payload = self.site.chance.choice(self._heard)
        if topic.kind is Kind.PROPOSAL and self.site.chance.random() < 0.5:
            to = self.site.chance.choice(self.site.membership.rosters.current.peers).id
            topic = Topic(topic.chain, Kind.ANSWER, self.site.chance.choice([to, topic.chain]), self.name)
            signed, hashes = messages.decode_proposal(payload)
            payload = messages.encode_answer(signed, hashes, ())
        self.publish(topic, payload)

    def _talk_garbage(self, topic: Topic) -> None:
        chance = self.site.chance
        garbage = chance.choice([b"", chance.randbytes(40), b"\x82\x40\x58\x20" + bytes(32), b"\x82\x00\x40"])
        if self._heard and chance.random() < 0.5:  # one flipped bit in something real
            heard = chance.choice(self._heard)[1] or b"\x00"
            bit = 1 << chance.randrange(8 * len(heard))
            garbage = (int.from_bytes(heard, "big") ^ bit).to_bytes(len(heard), "big")
        to = chance.choice(self.site.membership.rosters.current.peers).id
        said = chance.choice(
            [
                *(Topic(topic.chain, kind, self.name) for kind in (Kind.VOTE, Kind.TIP, Kind.ASK, Kind.FREEZE)),
                *(Topic(topic.chain, kind, self.name) for kind in (Kind.OPENING, Kind.HEADS, Kind.ROSTER)),
                Topic(topic.chain, Kind.ANSWER, topic.chain, self.name),
                Topic(topic.chain, Kind.ANSWER, to, self.name),
            ]
        )
        self.publish(said, garbage)
