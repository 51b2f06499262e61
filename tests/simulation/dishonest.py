"""Peers and gateways that lie: they have their own keys and hear all that is said, and keep to no rule."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from gateway import merkle, signing
from gateway.block import Head, next_block
from gateway.errors import VerificationError
from gateway.ledger import messages
from gateway.ledger.anchor import state_tip
from gateway.ledger.messages import Kind, Topic
from gateway.ledger.voting import Tip, cast_vote, sign_block
from gateway.model import Block, Member
from tests.simulation.clock import WALL_MS
from tests.simulation.machine import Machine, Site

REMEMBERED = 64
QUIET_MS = 500
"""How long a liar lets pass between two messages out of turn: two of them would else answer each other for ever."""


class Trait(StrEnum):
    """What a dishonest peer does with what it hears."""

    KEEPS_SILENT = "silent"
    VOTES_FOR_ALL = "all"
    VOTES_FOR_NOTHING_REAL = "invents"
    LIES_ABOUT_TIPS = "tips"
    REPLAYS = "replays"
    TALKS_GARBAGE = "garbage"


class DishonestPeer(Machine):
    """A peer with some traits, of which one shows at a time."""

    def __init__(self, name: str, key: signing.Key, site: Site, traits: Sequence[Trait]) -> None:
        super().__init__(name, site)
        self._key = key
        self._traits = traits
        self._heard: deque[tuple[Topic, bytes]] = deque(maxlen=REMEMBERED)
        self._blocks: deque[tuple[Block, bytes]] = deque(maxlen=REMEMBERED)
        self._quiet_until_ms = 0

    def wants(self, topic: Topic) -> bool:
        """Say whether it has subscribed to the topic: to all that others say."""
        return self.name not in {topic.who if topic.kind is not Kind.ANSWER else "", topic.by}

    def hear(self, topic: Topic, payload: bytes) -> None:
        """Do as its traits are."""
        self._heard.append((topic, payload))
        block = self.site.promises.opened(payload) if topic.kind in {Kind.PROPOSAL, Kind.ANSWER} else None
        if block is not None:
            self._blocks.append((block, messages.decode_proposal(payload)[0]))
        match self.site.chance.choice(self._traits):
            case Trait.VOTES_FOR_ALL if block is not None:
                self._vote(block)
            case Trait.VOTES_FOR_NOTHING_REAL if block is not None:
                self._vote(self._invented(block))
            case Trait.LIES_ABOUT_TIPS if topic.kind is Kind.ASK and topic.who == topic.chain:
                self._answer(topic.chain, payload)
            case Trait.REPLAYS | Trait.TALKS_GARBAGE as trait if self.site.clock.now_ms >= self._quiet_until_ms:
                self._quiet_until_ms = self.site.clock.now_ms + QUIET_MS
                if trait is Trait.REPLAYS:
                    self._replay()
                else:
                    self._talk_garbage(topic)

    def _vote(self, block: Block) -> None:
        voted_s = (WALL_MS + self.site.clock.now_ms) // 1000
        signed = cast_vote(self._key, self.name, self.site.roster.epoch, block, voted_s)
        self.site.promises.voted(self.name, block, signed)
        self.publish(Topic(block.chain, Kind.VOTE, self.name), signed)

    def _invented(self, block: Block) -> Block:
        chance = self.site.chance
        invented: list[Block] = [
            replace(block, root=chance.randbytes(32)),
            replace(block, height=block.height + chance.randint(1, 3)),
            replace(block, start=block.start + 1, size=block.size + 1),
            replace(block, incarnation=1),
        ]
        return chance.choice(invented)

    def _answer(self, chain: str, ask: bytes) -> None:
        """Show a tip that its chain once had, or none, or hold back what it shows."""
        _, nonce = messages.decode_ask(ask)
        known = [(block, signed) for block, signed in self._blocks if block.chain == chain]
        tip, signed = Tip(chain=chain), b""
        if known and self.site.chance.random() < 0.7:
            block, signed = self.site.chance.choice(known)
            tip = replace(tip, incarnation=block.incarnation, next_height=block.height + 1)
            statement = self._statement(block, nonce)
        else:
            statement = state_tip(self._key, self.name, tip, nonce)
        self.publish(Topic(chain, Kind.TIP, self.name), messages.encode_tip(statement, signed), retain=True)

    def _statement(self, block: Block, nonce: bytes) -> bytes:
        """State a block as the tip; its frontier is not needed, only its size and root are said."""
        return state_tip(self._key, self.name, _TipOf(block), nonce)  # type: ignore[arg-type]  # a liar's tip

    def _replay(self) -> None:
        topic, payload = self.site.chance.choice(self._heard)
        if topic.kind is Kind.PROPOSAL and self.site.chance.random() < 0.5:
            to = self.site.chance.choice(self.site.roster.peers).id
            topic = Topic(topic.chain, Kind.ANSWER, self.site.chance.choice([to, topic.chain]), self.name)
        self.publish(topic, payload)

    def _talk_garbage(self, topic: Topic) -> None:
        chance = self.site.chance
        garbage = chance.choice([b"", chance.randbytes(40), b"\x82\x40\x58\x20" + bytes(32), b"\x82\x00\x40"])
        if self._heard and chance.random() < 0.5:  # one flipped bit in something real
            heard = chance.choice(self._heard)[1] or b"\x00"
            bit = 1 << chance.randrange(8 * len(heard))
            garbage = (int.from_bytes(heard, "big") ^ bit).to_bytes(len(heard), "big")
        to = chance.choice(self.site.roster.peers).id
        said = chance.choice(
            [
                Topic(topic.chain, Kind.VOTE, self.name),
                Topic(topic.chain, Kind.TIP, self.name),
                Topic(topic.chain, Kind.ASK, self.name),
                Topic(topic.chain, Kind.ANSWER, topic.chain, self.name),
                Topic(topic.chain, Kind.ANSWER, to, self.name),
            ]
        )
        self.publish(said, garbage)


@dataclass(slots=True)
class _TipOf:
    """What `state_tip` reads of a tip, for a block whose tree the liar does not have."""

    block: Block

    @property
    def chain(self) -> str:
        return self.block.chain

    @property
    def incarnation(self) -> int:
        return self.block.incarnation

    @property
    def next_height(self) -> int:
        return self.block.height + 1

    @property
    def frontier(self) -> "_TipOf":
        return self

    @property
    def size(self) -> int:
        return self.block.size

    def root(self) -> bytes:
        return self.block.root


@dataclass(slots=True)
class Branch:
    """One history of a chain: the head before each block, and the blocks' messages."""

    heads: list[Head]
    said: list[bytes] = field(default_factory=list)


class DishonestGateway(Machine):
    """A gateway that grows several histories of its chain and shows them to whom it likes."""

    def __init__(self, name: str, member: Member, key: signing.Key, site: Site, every_ms: int) -> None:
        super().__init__(name, site)
        self._chain = member.chain or ""
        self._id = member.id
        self._key = key
        self._every_ms = every_ms
        self._leaves = 0
        self._branches = [Branch([Head(chain=self._chain)])]

    def begin(self) -> None:
        """Go on lying."""
        self.after(self.site.chance.randint(1, self._every_ms), self._act)

    def wants(self, topic: Topic) -> bool:
        """Say whether it has subscribed to the topic: it answers who asks."""
        return topic.chain == self._chain and topic.kind is Kind.ASK

    def hear(self, topic: Topic, payload: bytes) -> None:
        """Answer with the blocks of any history."""
        try:
            height, _ = messages.decode_ask(payload)
        except VerificationError:
            return
        branch = self.site.chance.choice(self._branches)
        for said in branch.said[height : height + messages.ANSWER_BLOCKS]:
            self._tell(Topic(self._chain, Kind.ANSWER, topic.who, self._chain), said)

    def _act(self) -> None:
        chance = self.site.chance
        branch = chance.choice(self._branches)
        match chance.randrange(10):
            case 0 | 1:
                height = chance.randrange(max(len(branch.said) - 3, 0), len(branch.said) + 1)
                self._branches.append(Branch(branch.heads[: height + 1], branch.said[:height]))
            case 2:
                self._tell_some(self._twisted(branch))
            case 3 if branch.said:
                self._tell_some(chance.choice(branch.said))
            case 4 | 5:
                self._split(branch)
            case _:
                self._tell_some(self._grown(branch))
        self.after(chance.randint(1, 2 * self._every_ms), self._act)

    def _split(self, branch: Branch) -> None:
        """Show one next block to some peers, and another to the rest."""
        other = Branch(list(branch.heads), list(branch.said))
        self._branches.append(other)
        names = [member.id for member in self.site.roster.peers]
        some = self.site.chance.sample(names, len(names) // 2)
        self._tell(Topic(self._chain, Kind.PROPOSAL), self._grown(branch), some)
        self._tell(Topic(self._chain, Kind.PROPOSAL), self._grown(other), [name for name in names if name not in some])

    def _grown(self, branch: Branch) -> bytes:
        block, hashes, after = self._next(branch.heads[-1])
        branch.said.append(messages.encode_proposal(sign_block(self._key, self._id, block), hashes))
        branch.heads.append(after)
        return branch.said[-1]

    def _twisted(self, branch: Branch) -> bytes:
        """Sign a block that is wrong in one way."""
        chance = self.site.chance
        block, hashes, _ = self._next(branch.heads[-1])
        twisted: list[Block] = [
            replace(block, start=max(block.start - 1, 0), size=block.size - 1),
            replace(block, start=block.start + 1, size=block.size + 1),
            replace(block, start_root=chance.randbytes(32)),
            replace(block, root=chance.randbytes(32)),
            replace(block, height=block.height + 1),
            replace(block, incarnation=1),
            replace(block, sealed_ms=block.sealed_ms + 1),
        ]
        return messages.encode_proposal(sign_block(self._key, self._id, chance.choice(twisted)), hashes)

    def _next(self, head: Head) -> tuple[Block, list[bytes], Head]:
        hashes = []
        for _ in range(self.site.chance.randint(1, 3)):
            self._leaves += 1
            hashes.append(merkle.leaf_hash(f"leaf {self._leaves} of {self.name}".encode()))
        block, after = next_block(head, hashes, 0, WALL_MS + self.site.clock.now_ms)
        return block, hashes, after

    def _tell_some(self, said: bytes) -> None:
        """Show a block to some peers, or to all."""
        names = [member.id for member in self.site.roster.peers]
        some = self.site.chance.sample(names, self.site.chance.randint(1, len(names)))
        self._tell(Topic(self._chain, Kind.PROPOSAL), said, some)

    def _tell(self, topic: Topic, said: bytes, to: Sequence[str] | None = None) -> None:
        self.site.promises.proposed(said)
        self.site.network.publish(self.name, topic, said, to=to)
