"""What a peer knows and means to do: its copy, where it stands on each chain, what it will keep, then say and note."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Protocol

from gateway import signing
from gateway.errors import StoreError, VerificationError
from gateway.ledger.messages import Topic
from gateway.ledger.rosters import Rosters
from gateway.ledger.standing import Standing, Word, Words, load_standing, roster_of_chain
from gateway.ledger.voting import Tip, VotedBlock, block_of, open_proposal, require_current_keys
from gateway.ledger.wanting import Wanted
from gateway.merkle import EMPTY_ROOT, TileReader
from gateway.model import Block, Certificate, Proposal, Roster

KeysOf = Callable[[Roster], signing.Keys | None]
"""What a peer signs with by a version of the roster; None where it does not belong."""

WordPlace = tuple[str, int, int, Word]
"""Where a word is kept: chain, incarnation, roster epoch, which."""


@dataclass(slots=True)
class Changes:
    """What messages come to, for a copy to keep: all or nothing, durably."""

    votes: dict[tuple[str, int, int], tuple[Proposal, bytes]] = field(default_factory=dict)
    """Blocks that follow the tip, with this peer's vote, by chain, incarnation and height; in order."""
    renewed: dict[tuple[str, int, int], bytes] = field(default_factory=dict)
    """This peer's votes of a later epoch on blocks that it has."""
    certificates: dict[tuple[str, int, int], Certificate] = field(default_factory=dict)
    words: dict[WordPlace, bytes] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.votes or self.renewed or self.certificates or self.words)

    @property
    def chains(self) -> set[str]:
        """The chains on which this peer stands elsewhere after it; a certificate changes nothing of that."""
        return {place[0] for places in (self.votes, self.renewed, self.words) for place in places}


class Copy(Protocol):
    """A peer's own copy of every chain; `io.store` keeps it on a disk, the simulator in memory.

    Several workers of one peer may share it: what one commits makes what another has read of that chain old.
    """

    def tip(self, chain: str) -> Tip:
        """Give how far this peer has voted on a chain, in its latest incarnation.

        What is committed of the chain from now on rests on this, and on what is read after it.
        """

    def moved(self) -> Collection[str]:
        """Give the chains that another worker has changed since their tips were given."""

    def words(self, chain: str, incarnation: int) -> Words:
        """Give what is kept of an incarnation beside its blocks."""

    def block(self, chain: str, incarnation: int, height: int) -> VotedBlock | None:
        """Give the block that was voted for at a height, None if there is none."""

    def blocks(self, chain: str, incarnation: int, height: int, limit: int) -> list[VotedBlock]:
        """Give the blocks of an incarnation from a height on."""

    def hashes(self, chain: str, incarnation: int, start: int, stop: int) -> list[bytes]:
        """Give the leaf hashes of [start, stop)."""

    def certificate(self, chain: str, incarnation: int, height: int) -> Certificate | None:
        """Give the certificate of a block, None if it is not known."""

    def size(self, chain: str, incarnation: int) -> int:
        """Give how many leaves of an incarnation are kept."""

    def reader(self, chain: str, incarnation: int) -> TileReader:
        """Give what reads the tiles of an incarnation."""

    def commit(self, changes: Changes) -> None:
        """Keep these: all or none, durably.

        Raises: Stale if another worker has changed one of their chains since its tip was given.
        """


@dataclass(frozen=True, slots=True)
class Said:
    """A message for the broker."""

    topic: Topic
    payload: bytes
    retain: bool = False


@dataclass(frozen=True, slots=True)
class Note:
    """A line for the log: "behind", "catching up", "caught up", "differs", "frozen", "epoch ended", ..."""

    event: str
    chain: str
    height: int = 0
    why: str = ""


class Book:
    """The state that a peer's rules share; only they write to it."""

    def __init__(self, name: str, keys_of: KeysOf, rosters: Rosters, copy: Copy) -> None:
        self.name = name
        self.keys_of = keys_of
        self.copy = copy
        self.standings: dict[str, Standing] = {}
        self.wanted = Wanted()
        self.changes = Changes()
        self.said: list[Said] = []
        self.notes: list[Note] = []
        self.use(rosters)

    def use(self, rosters: Rosters) -> None:
        """Go by these versions of the roster."""
        self.rosters = rosters
        self.keys = self.keys_of(rosters.current)
        self.active = frozenset(gateway.chain or "" for gateway in rosters.current.gateways)
        with_peers = [roster for roster in rosters.versions if roster.peers]
        self.chains = sorted({gateway.chain or "" for roster in with_peers for gateway in roster.gateways})

    @property
    def roster(self) -> Roster:
        """The current version of the roster."""
        return self.rosters.current

    def may_vote(self, standing: Standing, *, also_below_base: bool = False) -> bool:
        """Say whether this peer votes on a chain now, or takes blocks in at least."""
        return (
            standing.epoch == self.roster.epoch
            and not standing.is_ended
            and not standing.cause
            and (standing.is_level or also_below_base)
            and self.keys is not None
            and standing.tip.chain in self.active
        )

    def say(self, topic: Topic, payload: bytes, *, retain: bool = False) -> None:
        """Have something said once what it rests on is kept."""
        self.said.append(Said(topic, payload, retain))

    def note(self, event: str, standing: Standing, why: str = "") -> None:
        """Have something logged of a chain, at the height that follows its last block."""
        self.notes.append(Note(event, standing.tip.chain, standing.tip.next_height, why))

    def keep(self, standing: Standing, epoch: int, word: Word, data: bytes) -> None:
        """Have a word kept of the incarnation that a chain is in."""
        self.changes.words[standing.tip.chain, standing.tip.incarnation, epoch, word] = data

    def standing(self, chain: str) -> Standing:
        """Give where this peer stands on a chain, read from the copy the first time.

        Raises: VerificationError if no gateway on the roster writes it; StoreError if the copy is damaged.
        """
        if chain not in self.standings:
            tip = self.copy.tip(chain)
            standing = load_standing(self.rosters, tip, self.copy.words(chain, tip.incarnation))
            if tip.last_signed is not None:
                self._require_sound(chain, tip.next_height - 1, tip.last_signed)
            self.standings[chain] = standing
        return self.standings[chain]

    def voted_for(self, standing: Standing, block: Block, signed: bytes = b"") -> tuple[bytes | None, bytes | None]:
        """Give the proposal and the vote at a block's height: of this batch, or from the copy; a new one has none."""
        place = block.chain, standing.tip.incarnation, block.height
        if place in self.changes.votes:
            proposal, vote = self.changes.votes[place]
            return proposal.signed, self.changes.renewed.get(place, vote)
        if block.height >= standing.tip.next_height or block.incarnation != standing.tip.incarnation:
            return None, None
        known = self._block(standing, block.height)
        if known.proposal != signed:
            self._require_sound(block.chain, block.height, known.proposal)
        return known.proposal, self.changes.renewed.get(place, known.vote)

    def require_current(self, standing: Standing, block: Block, signed: bytes) -> None:
        """Check that a proposal beyond the base, of a block that is not here, is by keys of the current roster.

        So a stolen former key, or one signature where there must be two, can neither extend nor freeze a chain.

        Raises: VerificationError if it is not.
        """
        known, _ = self.voted_for(standing, block, signed)
        is_here = known is not None and (known == signed or block_of(known) == block)
        if not is_here and block.height >= standing.base.next_height:
            require_current_keys(self.roster, signed)

    def root_at(self, standing: Standing, height: int) -> bytes:
        """Give the root behind so many blocks of this copy."""
        tip = standing.tip
        if height == tip.next_height:
            return tip.frontier.root()
        if height == 0:
            return EMPTY_ROOT
        place = tip.chain, tip.incarnation, height - 1
        if place in self.changes.votes:
            return self.changes.votes[place][0].block.root
        return block_of(self._block(standing, height - 1).proposal).root

    def _block(self, standing: Standing, height: int) -> VotedBlock:
        known = self.copy.block(standing.tip.chain, standing.tip.incarnation, height)
        if known is None:
            raise StoreError(f"block {height} of chain {standing.tip.chain} is missing")
        return known

    def _require_sound(self, chain: str, height: int, proposal: bytes) -> None:
        """Check a proposal that was kept before it is held against its gateway: a disk can change it too."""
        try:
            open_proposal(roster_of_chain(self.rosters, chain), proposal)
        except VerificationError as error:
            raise StoreError(f"block {height} of chain {chain} is damaged: {error}") from error
