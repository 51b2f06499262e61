"""Disks in memory: a transaction is kept as a whole or not at all, and the power can go before and after each."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from gateway import merkle
from gateway.block import Head
from gateway.errors import StoreError
from gateway.ledger.voting import Conflict, Tip, VotedBlock
from gateway.model import Block, Proposal

Power = Callable[[], None]
"""A moment at which the power can go; then it raises."""


class PeerDisk:
    """A peer's `Copy` of every chain, as `gateway.io.store.chains` keeps it."""

    def __init__(self, power: Power) -> None:
        self._power = power
        self._blocks: dict[str, list[VotedBlock]] = {}
        self._hashes: dict[str, list[bytes]] = {}
        self._tips: dict[str, Tip] = {}
        self.evidence: dict[str, Conflict] = {}

    def tip(self, chain: str) -> Tip:
        """Give how far this peer has voted on a chain."""
        return replace(self._tips.get(chain, Tip(chain=chain)), frozen=chain in self.evidence)

    def block(self, chain: str, height: int) -> VotedBlock | None:
        """Give the block that was voted for at a height, None if there is none."""
        return next(iter(self.blocks(chain, height, 1)), None) if height >= 0 else None

    def blocks(self, chain: str, height: int, limit: int) -> list[VotedBlock]:
        """Give the blocks of a chain from a height on."""
        return self._blocks.get(chain, [])[height : height + limit]

    def hashes(self, chain: str, start: int, stop: int) -> list[bytes]:
        """Give the leaf hashes of [start, stop) of a chain."""
        return self._hashes[chain][start:stop]

    def commit(self, votes: Iterable[tuple[Proposal, bytes]], conflicts: Iterable[Conflict]) -> None:
        """Keep proposals with leaf hashes and this peer's votes, and evidence: all or none, durably."""
        self._power()
        for proposal, vote in votes:
            self._insert(proposal, vote)
        for conflict in conflicts:
            self.evidence.setdefault(conflict.chain, conflict)
        self._power()

    def _insert(self, proposal: Proposal, vote: bytes) -> None:
        block = proposal.block
        blocks = self._blocks.setdefault(block.chain, [])
        if block.height != len(blocks):
            raise StoreError(f"block {block.height} of {block.chain} cannot be kept behind {len(blocks)}")
        blocks.append(VotedBlock(block.chain, block.height, block.start, block.size, proposal.signed, vote))
        self._hashes.setdefault(block.chain, [])[block.start :] = proposal.hashes
        frontier = self._tips.get(block.chain, Tip(chain=block.chain)).frontier.extend(proposal.hashes)
        self._tips[block.chain] = Tip(
            chain=block.chain,
            incarnation=block.incarnation,
            next_height=block.height + 1,
            frontier=frontier,
            last_signed=proposal.signed,
        )


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
    """A gateway's leaves, tree, blocks and votes, as `gateway.io.store.readings` keeps them."""

    def __init__(self, power: Power) -> None:
        self.power = power
        self.blocks: list[SealedBlock] = []
        self._hashes: list[bytes] = []
        self._pending: list[Pending] = []

    def backup(self) -> "GatewayDisk":
        """Give a copy of all that is on it now."""
        copy = GatewayDisk(self.power)
        copy.blocks = [replace(block, votes=dict(block.votes)) for block in self.blocks]
        copy._hashes = list(self._hashes)
        copy._pending = list(self._pending)
        return copy

    def load(self, chain: str) -> tuple[Head, list[Pending]]:
        """Give where the chain was sealed up to, and the leaves behind that."""
        if not self.blocks:
            return Head(chain=chain), list(self._pending)
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

    def save_votes(self, height: int, votes: Iterable[tuple[str, bytes]], *, certified: bool) -> None:
        """Keep votes of a block, and that they are a quorum where they are."""
        self.power()
        self.blocks[height].votes.update(votes)
        self.blocks[height].certified |= certified
        self.power()

    def _insert(self, block: Block, signed: bytes, hashes: Sequence[bytes]) -> None:
        if (block.height, block.start) != (len(self.blocks), len(self._hashes)):
            raise StoreError(f"block {block.height} cannot be kept behind {len(self.blocks)}")
        self.blocks.append(SealedBlock(block, signed))
        self._hashes += hashes
