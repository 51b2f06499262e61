"""Disks in memory: a transaction is kept as a whole or not at all, and the power can go before and after each."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from gateway import merkle
from gateway.block import Head
from gateway.errors import StoreError
from gateway.ledger.book import Changes
from gateway.ledger.standing import Word, Words
from gateway.ledger.voting import Tip, VotedBlock
from gateway.merkle import TileReader
from gateway.model import Block, Certificate, Proposal

Power = Callable[[], None]
"""A moment at which the power can go; then it raises."""


class PeerDisk:
    """A peer's `Copy` of every chain, as `gateway.io.store.chains` keeps it.

    `votes` are all that it ever kept, `late` those of them that are of an incarnation behind the latest one.
    """

    def __init__(self, power: Power) -> None:
        self._power = power
        self._blocks: dict[tuple[str, int], list[VotedBlock]] = {}
        self._hashes: dict[tuple[str, int], list[bytes]] = {}
        self._tips: dict[tuple[str, int], Tip] = {}
        self._words: dict[tuple[str, int], dict[tuple[int, Word], bytes]] = {}
        self._certificates: dict[tuple[str, int, int], Certificate] = {}
        self.votes: set[bytes] = set()
        self.late: set[bytes] = set()

    def incarnation(self, chain: str) -> int:
        """Give the latest incarnation of a chain that was begun."""
        begun = (place[1] for place, words in self._words.items() if place[0] == chain and (0, Word.OPENING) in words)
        return max(begun, default=0)

    def tip(self, chain: str) -> Tip:
        """Give how far this peer has voted on a chain, in its latest incarnation."""
        incarnation = self.incarnation(chain)
        tip = self._tips.get((chain, incarnation), Tip(chain=chain, incarnation=incarnation))
        return replace(tip, frozen=self.is_frozen(chain))

    def moved(self) -> tuple[str, ...]:
        """Give the chains that another worker has changed: a peer here is one worker."""
        return ()

    def is_frozen(self, chain: str) -> bool:
        """Say whether the latest incarnation of a chain is frozen for good."""
        return (0, Word.CAUSE) in self.words(chain, self.incarnation(chain))

    @property
    def all_words(self) -> Mapping[tuple[str, int], Words]:
        """What is kept beside blocks, of all chains and incarnations."""
        return self._words

    def words(self, chain: str, incarnation: int) -> Words:
        """Give what is kept of an incarnation beside its blocks."""
        return self._words.get((chain, incarnation), {})

    def block(self, chain: str, incarnation: int, height: int) -> VotedBlock | None:
        """Give the block that was voted for at a height, None if there is none."""
        return next(iter(self.blocks(chain, incarnation, height, 1)), None) if height >= 0 else None

    def blocks(self, chain: str, incarnation: int, height: int, limit: int) -> list[VotedBlock]:
        """Give the blocks of an incarnation from a height on."""
        return self._blocks.get((chain, incarnation), [])[height : height + limit]

    def hashes(self, chain: str, incarnation: int, start: int, stop: int) -> list[bytes]:
        """Give the leaf hashes of [start, stop)."""
        return self._hashes[chain, incarnation][start:stop]

    def certificate(self, chain: str, incarnation: int, height: int) -> Certificate | None:
        """Give the certificate of a block, None if it is not known."""
        return self._certificates.get((chain, incarnation, height))

    def size(self, chain: str, incarnation: int) -> int:
        """Give how many leaves of an incarnation are kept."""
        return len(self._hashes.get((chain, incarnation), ()))

    def reader(self, chain: str, incarnation: int) -> TileReader:
        """Give what reads the tiles of an incarnation."""
        tiles = merkle.grown_tiles(lambda *_: b"", 0, self._hashes.get((chain, incarnation), []))
        return lambda level, number: tiles[level, number]

    def commit(self, changes: Changes) -> None:
        """Keep these: all or none, durably."""
        self._power()
        for (chain, incarnation, _), (proposal, vote) in changes.votes.items():
            self.insert(proposal, vote)
            self._note_vote(chain, incarnation, vote)
        for (chain, incarnation, height), vote in changes.renewed.items():
            blocks = self._blocks[chain, incarnation]
            blocks[height] = replace(blocks[height], vote=vote)
            self._note_vote(chain, incarnation, vote)
        for place, certificate in changes.certificates.items():
            self._certificates.setdefault(place, certificate)
        for (chain, incarnation, epoch, word), data in changes.words.items():
            self._words.setdefault((chain, incarnation), {})[epoch, word] = data
        self._power()

    def insert(self, proposal: Proposal, vote: bytes) -> None:
        """Keep a block behind the last one of its incarnation."""
        block = proposal.block
        place = block.chain, block.incarnation
        blocks = self._blocks.setdefault(place, [])
        if block.height != len(blocks):
            raise StoreError(f"block {block.height} of {block.chain} cannot be kept behind {len(blocks)}")
        row = (block.chain, block.incarnation, block.height, block.start, block.size, proposal.signed, vote)
        blocks.append(VotedBlock(*row))
        self._hashes.setdefault(place, [])[block.start :] = proposal.hashes
        before = self._tips.get(place, Tip(chain=block.chain))
        self._tips[place] = Tip(
            chain=block.chain,
            incarnation=block.incarnation,
            next_height=block.height + 1,
            frontier=before.frontier.extend(proposal.hashes),
            last_signed=proposal.signed,
        )

    def _note_vote(self, chain: str, incarnation: int, vote: bytes) -> None:
        self.votes.add(vote)
        if incarnation < self.incarnation(chain):
            self.late.add(vote)


@dataclass(frozen=True, slots=True)
class Pending:
    """A leaf that is not sealed: its hash, and when it was made."""

    leaf_hash: bytes
    real_ms: int
    boot_ms: int


@dataclass(slots=True)
class SealedBlock:
    """A block as its gateway keeps it."""

    block: Block
    signed: bytes
    certified: bool = False
    votes: dict[str, bytes] = field(default_factory=dict)


class GatewayDisk:
    """A gateway's leaves, tree, blocks and votes, as `gateway.io.store.readings` keeps them.

    `before` is the disk of the incarnation before, which stays, and `opening` the message that began this one.
    """

    def __init__(self, power: Power, incarnation: int = 0) -> None:
        self.power = power
        self.incarnation = incarnation
        self.opening = b""
        self.before: GatewayDisk | None = None
        self.blocks: list[SealedBlock] = []
        self._hashes: list[bytes] = []
        self._pending: list[Pending] = []

    def backup(self) -> "GatewayDisk":
        """Give a copy of all that is on it now."""
        copy = GatewayDisk(self.power, self.incarnation)
        copy.opening, copy.before = self.opening, self.before
        copy.blocks = [replace(block, votes=dict(block.votes)) for block in self.blocks]
        copy._hashes = list(self._hashes)
        copy._pending = list(self._pending)
        return copy

    def reborn(self, genesis: Pending, opening: bytes) -> "GatewayDisk":
        """Give the disk of the next incarnation: its genesis, then what is not certified in this one."""
        after = GatewayDisk(self.power, self.incarnation + 1)
        after.before, after.opening = self, opening
        certified = max((sealed.block.size for sealed in self.blocks if sealed.certified), default=0)
        again = [Pending(leaf_hash, genesis.real_ms, 0) for leaf_hash in self._hashes[certified:]]
        after._pending = [genesis, *again, *self._pending]
        return after

    @property
    def leaves(self) -> list[bytes]:
        """The hashes of all leaves on it, sealed or not."""
        return [*self._hashes, *(leaf.leaf_hash for leaf in self._pending)]

    def load(self, chain: str) -> tuple[Head, list[Pending]]:
        """Give where the chain was sealed up to, and the leaves behind that."""
        if not self.blocks:
            return Head(chain=chain, incarnation=self.incarnation), list(self._pending)
        last = self.blocks[-1].block
        head = Head(
            chain=chain,
            incarnation=last.incarnation,
            next_height=last.height + 1,
            frontier=merkle.Frontier().extend(self._hashes),
            sealed_ms=last.sealed_ms,
        )
        return head, [replace(leaf, boot_ms=0) for leaf in self._pending]

    def hashes(self, block: Block) -> list[bytes]:
        """Give the leaf hashes of a block."""
        return self._hashes[block.start : block.size]

    def uncertified(self, above: int, limit: int) -> list[SealedBlock]:
        """Give the blocks above a height that no quorum has signed yet, the oldest first."""
        return [block for block in self.blocks[above + 1 :] if not block.certified][:limit]

    def append(self, leaves: Sequence[Pending]) -> None:
        """Keep leaves."""
        self.power()
        self._pending += leaves
        self.power()

    def seal(self, block: Block, signed: bytes, hashes: Sequence[bytes]) -> None:
        """Keep a block of the first of the pending leaves."""
        self.power()
        del self._pending[: len(hashes)]
        self._insert(block, signed, hashes)
        self.power()

    def adopt(self, block: Block, signed: bytes, hashes: Sequence[bytes]) -> None:
        """Keep a block that was lost; pending leaves that are in it find their place."""
        self.power()
        contained = set(hashes)
        self._pending = [leaf for leaf in self._pending if leaf.leaf_hash not in contained]
        self._insert(block, signed, hashes)
        self.power()

    def sign_again(self, sealed: SealedBlock, signed: bytes) -> None:
        """Keep a block's proposal with another signature."""
        self.power()
        sealed.signed = signed
        self.power()

    def save_votes(self, height: int, votes: Iterable[tuple[str, bytes]], *, certified: bool) -> None:
        """Keep votes of a block, and that they are a quorum where they are."""
        self.power()
        if certified:
            self.blocks[height].votes.clear()
        self.blocks[height].votes.update(votes)
        self.blocks[height].certified |= certified
        self.power()

    def _insert(self, block: Block, signed: bytes, hashes: Sequence[bytes]) -> None:
        if (block.height, block.start) != (len(self.blocks), len(self._hashes)):
            raise StoreError(f"block {block.height} cannot be kept behind {len(self.blocks)}")
        self.blocks.append(SealedBlock(block, signed))
        self._hashes += hashes
