"""What a peer does with each message: votes, answers, questions, evidence. A pure state machine over its own copy.

    messages -> hear, hear, ... -> settle: one transaction of the copy -> what may then be said

The order is the safety: proposals, leaf hashes and votes are durable, in one transaction, before a vote is said. A
crash before that has voted for nothing; one after it gives the same votes again.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Protocol

from gateway import signing
from gateway.errors import StoreError, VerificationError
from gateway.ledger import messages
from gateway.ledger.anchor import state_tip
from gateway.ledger.messages import Kind, Topic
from gateway.ledger.roster import gateway_of_chain
from gateway.ledger.voting import (
    Accepted,
    Behind,
    Conflict,
    Repeated,
    Tip,
    VotedBlock,
    cast_vote,
    judge,
    open_proposal,
)
from gateway.model import Block, Proposal, Roster

ASK_AGAIN_MS = 1_000


class Copy(Protocol):
    """A peer's own copy of every chain; `io.store.chains` keeps it on a disk, the simulator in memory."""

    def tip(self, chain: str) -> Tip:
        """Give how far this peer has voted on a chain."""

    def block(self, chain: str, height: int) -> VotedBlock | None:
        """Give the block that was voted for at a height, None if there is none."""

    def blocks(self, chain: str, height: int, limit: int) -> list[VotedBlock]:
        """Give the blocks of a chain from a height on."""

    def hashes(self, chain: str, start: int, stop: int) -> list[bytes]:
        """Give the leaf hashes of [start, stop) of a chain."""

    def commit(self, votes: Iterable[tuple[Proposal, bytes]], conflicts: Iterable[Conflict]) -> None:
        """Keep proposals with leaf hashes and this peer's votes, and evidence: all or none, durably."""


@dataclass(frozen=True, slots=True)
class Said:
    """A message for the broker."""

    topic: Topic
    payload: bytes
    retain: bool = False


@dataclass(frozen=True, slots=True)
class Note:
    """A line for the log: "behind", "caught up", "refused", "frozen"."""

    event: str
    chain: str
    height: int = 0
    why: str = ""


@dataclass(slots=True)
class _Batch:
    """What some messages come to: the tips after them, what to keep, what to say once it is kept."""

    tips: dict[str, Tip]
    votes: dict[tuple[str, int], tuple[Proposal, bytes]] = field(default_factory=dict)
    conflicts: list[Conflict] = field(default_factory=list)
    said: list[Said] = field(default_factory=list)


class PeerRule:
    """One peer; `now_ms` is a monotonic clock, `wall_s` what a vote says of when it was cast."""

    def __init__(self, name: str, key: signing.Key, roster: Roster, copy: Copy) -> None:
        self._name = name
        self._key = key
        self._roster = roster
        self._copy = copy
        self._tips: dict[str, Tip] = {}
        self._asked: dict[str, tuple[int, int]] = {}
        self._behind: set[str] = set()
        self._batch = _Batch({})
        self.notes: list[Note] = []

    def hear(self, topic: Topic, payload: bytes, now_ms: int, wall_s: int) -> None:
        """Judge one message; what comes of it is kept and said by `settle`.

        Raises: VerificationError if it is refused, which changes nothing; StoreError if the copy is damaged.
        """
        if topic.kind is Kind.ASK:
            self._hear_ask(topic, payload)
        elif topic.kind in {Kind.PROPOSAL, Kind.ANSWER}:
            self._hear_proposal(topic, payload, now_ms, wall_s)

    def settle(self) -> list[Said]:
        """Keep what the messages since the last time came to, and give what may now be said.

        Raises: StoreError if it cannot be kept; then nothing may be said.
        """
        batch = self._batch
        if batch.votes or batch.conflicts:
            self._copy.commit(batch.votes.values(), batch.conflicts)
        self._tips = batch.tips
        self._batch = _Batch(dict(self._tips))
        return batch.said

    def greet(self, now_ms: int) -> list[Said]:
        """Give the questions with which a peer begins on a connection, one a chain."""
        said = []
        for gateway in self._roster.gateways:
            tip = self._tip(gateway.chain or "")
            self._asked[tip.chain] = (tip.next_height, now_ms)
            said.append(Said(Topic(tip.chain, Kind.ASK, self._name), messages.encode_ask(tip.next_height, b"")))
        return said

    # -- pieces

    def _hear_proposal(self, topic: Topic, payload: bytes, now_ms: int, wall_s: int) -> None:
        signed, hashes = messages.decode_proposal(payload)
        block = open_proposal(self._roster, signed)
        known_proposal, known_vote = self._voted_for(block, signed)
        proposal = Proposal(block=block, signed=signed, hashes=hashes)
        batch = self._batch
        match judge(self._roster, self._tip(block.chain), proposal, known_proposal):
            case Accepted(_, tip):
                vote = cast_vote(self._key, self._name, self._roster.epoch, block, wall_s)
                batch.votes[block.chain, block.height] = (proposal, vote)
                batch.tips[block.chain] = tip
                self._say(Topic(block.chain, Kind.VOTE, self._name), vote)
                self._note_progress(topic, tip, now_ms)
            case Repeated():
                self._say(Topic(block.chain, Kind.VOTE, self._name), known_vote or b"")
            case Behind(_, next_height):
                self._ask(block.chain, next_height, now_ms)
            case Conflict() as conflict:
                batch.conflicts.append(conflict)
                batch.tips[block.chain] = replace(batch.tips[block.chain], frozen=True)
                self.notes.append(Note("frozen", block.chain, block.height))

    def _hear_ask(self, topic: Topic, payload: bytes) -> None:
        """Answer a gateway that starts: how far this peer has voted on its chain, and the blocks it asks for."""
        gateway_of_chain(self._roster, topic.chain)
        if topic.who != topic.chain:
            return
        next_height, nonce = messages.decode_ask(payload)
        tip = self._tip(topic.chain)
        statement = state_tip(self._key, self._name, tip, nonce)
        answer = messages.encode_tip(statement, tip.last_signed or b"")
        self._say(Topic(topic.chain, Kind.TIP, self._name), answer, retain=True)
        if next_height >= tip.next_height:
            return
        back = Topic(topic.chain, Kind.ANSWER, topic.who, self._name)
        for block in self._copy.blocks(topic.chain, next_height, messages.ANSWER_BLOCKS):
            hashes = self._copy.hashes(topic.chain, block.start, block.size)
            self._say(back, messages.encode_proposal(block.proposal, hashes))

    def _note_progress(self, topic: Topic, tip: Tip, now_ms: int) -> None:
        """Ask on after the last block of an answer; say when a chain that was behind follows its gateway again."""
        if topic.kind is Kind.ANSWER:
            asked, _ = self._asked.get(tip.chain, (0, 0))
            if tip.next_height >= asked + messages.ANSWER_BLOCKS:
                self._ask(tip.chain, tip.next_height, now_ms)
        elif tip.chain in self._behind:
            self._behind.discard(tip.chain)
            self.notes.append(Note("caught up", tip.chain, tip.next_height - 1))

    def _ask(self, chain: str, next_height: int, now_ms: int) -> None:
        """Ask for blocks, the same ones at most once a second."""
        asked, when_ms = self._asked.get(chain, (-1, 0))
        if asked == next_height and now_ms - when_ms < ASK_AGAIN_MS:
            return
        if chain not in self._behind:
            self._behind.add(chain)
            self.notes.append(Note("behind", chain, next_height))
        self._asked[chain] = (next_height, now_ms)
        self._say(Topic(chain, Kind.ASK, self._name), messages.encode_ask(next_height, b""))

    def _say(self, topic: Topic, payload: bytes, *, retain: bool = False) -> None:
        self._batch.said.append(Said(topic, payload, retain))

    def _tip(self, chain: str) -> Tip:
        tips = self._batch.tips
        if chain not in tips:
            tip = self._copy.tip(chain)
            if tip.last_signed is not None:
                self._require_sound(chain, tip.next_height - 1, tip.last_signed)
            tips[chain] = tip
        return tips[chain]

    def _voted_for(self, block: Block, signed: bytes) -> tuple[bytes | None, bytes | None]:
        """Give the proposal and the vote at a block's height: of this batch, or from the copy; a new one has none."""
        if (block.chain, block.height) in self._batch.votes:
            proposal, vote = self._batch.votes[block.chain, block.height]
            return proposal.signed, vote
        if block.height >= self._tip(block.chain).next_height:
            return None, None
        known = self._copy.block(block.chain, block.height)
        if known is None:
            raise StoreError(f"block {block.height} of chain {block.chain} is missing")
        if known.proposal != signed:
            self._require_sound(block.chain, block.height, known.proposal)
        return known.proposal, known.vote

    def _require_sound(self, chain: str, height: int, proposal: bytes) -> None:
        """Check a proposal that was kept before it is held against its gateway: a disk can change it too."""
        try:
            open_proposal(self._roster, proposal)
        except VerificationError as error:
            raise StoreError(f"block {height} of chain {chain} is damaged: {error}") from error
