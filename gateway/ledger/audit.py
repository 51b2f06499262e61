"""Whether a peer's copy of a chain still is what the peer voted for: every block judged again, every hash made again.

    block 0, 1, 2, ... -> follow: signature, place, root of its leaf hashes, own vote, tiles above -> end: no more tiles

A copy is sound if the rule of `voting` accepts each block behind the one before, as it did when the vote was cast, if
the tree's tiles of every level are those of its leaves and no others, and if what accuses a gateway proves something.
One tile of each level is held at a time. Votes of earlier roster epochs count as they did: the key stays.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from gateway import canonical, merkle, signing
from gateway.errors import VerificationError
from gateway.ledger.quorum import read_vote
from gateway.ledger.roster import peer
from gateway.ledger.voting import Accepted, Conflict, Tip, VotedBlock, judge, open_proposal
from gateway.merkle import HASH_SIZE, TILE_HEIGHT, TILE_WIDTH, TileReader
from gateway.model import Block, Member, Proposal, Roster

_FULL = TILE_WIDTH * HASH_SIZE


class ChainAudit:
    """One chain of one peer's copy; whatever raises VerificationError has found the first difference, at `height`.

    Raises: VerificationError if the peer is not on the roster.
    """

    def __init__(self, roster: Roster, peer_name: str, chain: str, read: TileReader) -> None:
        self._roster = roster
        self._member = peer(roster, peer_name)
        self._tip = Tip(chain=chain)
        self._tiles = _Tiles(read)

    @property
    def height(self) -> int:
        """The block that is looked at: the one behind those that were found sound."""
        return self._tip.next_height

    @property
    def leaves(self) -> int:
        """How many leaves were found sound."""
        return self._tip.frontier.size

    def follow(self, voted: VotedBlock) -> None:
        """Check the next block as it is kept, its leaf hashes, the tiles that they complete, and the vote.

        Raises: VerificationError saying what does not hold.
        """
        block = _opened(self._roster, self._tip.chain, self.height, voted)
        tip = self._judged(block, voted.proposal)
        _check_vote(self._member, block, voted.vote)
        self._tiles.check_completed(block.start, block.size)
        self._tip = tip

    def check_evidence(self, evidence: Conflict, proposal_at: Callable[[int], bytes | None]) -> None:
        """Check, behind the last block, that two proposals prove what this peer froze the chain for.

        `proposal_at` gives the signed proposal that was voted for at a height, None if there is none.
        Raises: VerificationError if they prove nothing, or not what was judged.
        """
        what = f"the evidence against chain {self._tip.chain}"
        try:
            blocks = [open_proposal(self._roster, signed) for signed in (evidence.first, evidence.second)]
            accused = Proposal(block=blocks[1], signed=evidence.second, hashes=())
            verdict = judge(self._roster, self._tip, accused, proposal_at(accused.block.height))
        except VerificationError as error:
            raise VerificationError(f"{what}: {error}") from error
        if verdict != evidence:
            raise VerificationError(f"{what} does not contradict what was voted for")

    def end(self, tiles: Mapping[int, int]) -> None:
        """Check, behind the last block, that the tree ends where the blocks do; `tiles` counts what is kept, by level.

        Raises: VerificationError if it goes on, or ends before.
        """
        self._tiles.check_end(self.leaves, tiles)

    def _judged(self, block: Block, signed: bytes) -> Tip:
        is_next = block.start == self.leaves
        hashes = self._tiles.leaf_hashes(block) if is_next else ()
        verdict = judge(self._roster, self._tip, Proposal(block=block, signed=signed, hashes=hashes), None)
        if not isinstance(verdict, Accepted):
            raise VerificationError(f"block {block.height} does not follow the block before it")
        return verdict.tip


class _Tiles:
    """The tiles of a copy, each level read from left to right."""

    def __init__(self, read: TileReader) -> None:
        self._read = read
        self._last: dict[int, tuple[int, bytes]] = {}

    def leaf_hashes(self, block: Block) -> tuple[bytes, ...]:
        """Give the leaf hashes of a block."""
        hashes: list[bytes] = []
        for number in range(block.start >> TILE_HEIGHT, (block.size - 1 >> TILE_HEIGHT) + 1):
            first = max(block.start - number * TILE_WIDTH, 0)
            last = min(block.size - number * TILE_WIDTH, TILE_WIDTH)
            piece = self._tile(0, number)[first * HASH_SIZE : last * HASH_SIZE]
            if len(piece) != (last - first) * HASH_SIZE:
                raise VerificationError(f"tile {(0, number)} is too short for block {block.height}")
            hashes += merkle.split_hashes(piece)
        return tuple(hashes)

    def check_completed(self, start: int, size: int) -> None:
        """Check the nodes above the tiles of leaf hashes that are complete at `size` and were not at `start`."""
        for number in range(start >> TILE_HEIGHT, size >> TILE_HEIGHT):
            self._check_above(0, number)

    def check_end(self, size: int, tiles: Mapping[int, int]) -> None:
        """Check that the last tile of every level is as long as the tree is large, and that no others are kept."""
        wanted: dict[int, int] = {}
        level, nodes = 0, size
        while nodes:
            full, rest = divmod(nodes, TILE_WIDTH)
            wanted[level] = full + bool(rest)
            if rest:
                self._require_length(level, full, rest * HASH_SIZE)
            level, nodes = level + 1, full
        if dict(tiles) != wanted:
            raise VerificationError(f"tiles by level are {dict(tiles)}, those of a tree of {size} are {wanted}")

    def _check_above(self, level: int, number: int) -> None:
        """Check that a complete tile's root stands where it belongs in the level above, and so on upwards."""
        self._require_length(level, number, _FULL)
        root = merkle.root(merkle.split_hashes(self._tile(level, number)))
        above, place = divmod(number, TILE_WIDTH)
        tile = self._tile(level + 1, above)
        if tile[place * HASH_SIZE : (place + 1) * HASH_SIZE] != root:
            raise VerificationError(f"hash {place} of tile {(level + 1, above)} is not the root of {(level, number)}")
        if place == TILE_WIDTH - 1:
            self._check_above(level + 1, above)

    def _require_length(self, level: int, number: int, length: int) -> None:
        found = len(self._tile(level, number))
        if found != length:
            raise VerificationError(f"tile {(level, number)} is {found} bytes long, not {length}")

    def _tile(self, level: int, number: int) -> bytes:
        last, tile = self._last.get(level, (-1, b""))
        if last != number:
            try:
                tile = self._read(level, number)
            except KeyError as error:
                raise VerificationError(f"tile {(level, number)} is missing") from error
            self._last[level] = (number, tile)
        return tile


@dataclass(frozen=True, slots=True)
class Fork:
    """Where two peers' copies of a chain first differ: both proposals are signed by its gateway."""

    height: int
    here: bytes
    there: bytes


def first_fork(roster: Roster, chain: str, here: Iterable[VotedBlock], there: Iterable[VotedBlock]) -> Fork | None:
    """Compare two copies of a chain, both from height 0 on, as far as the shorter one goes.

    Raises: VerificationError if a copy is damaged before they differ: a disk accuses nobody.
    """
    for height, (ours, theirs) in enumerate(zip(here, there, strict=False)):
        same_place = ours.height == theirs.height == height
        if same_place and ours.proposal == theirs.proposal:
            continue
        block = _opened(roster, chain, height, ours, "here: ")
        if _opened(roster, chain, height, theirs, "there: ") != block:
            return Fork(height, ours.proposal, theirs.proposal)
    return None


def _opened(roster: Roster, chain: str, height: int, voted: VotedBlock, where: str = "") -> Block:
    """Give the block that must stand at a height, its gateway's signature checked."""
    if voted.height != height:
        raise VerificationError(f"{where}block {height} is missing")
    try:
        block = open_proposal(roster, voted.proposal)
    except VerificationError as error:
        raise VerificationError(f"{where}block {height}: {error}") from error
    if (block.chain, block.height, block.start, block.size) != (chain, height, voted.start, voted.size):
        raise VerificationError(f"{where}another block stands at height {height}")
    return block


def _check_vote(member: Member, block: Block, signed: bytes) -> None:
    what = f"the vote on block {block.height}"
    try:
        message = signing.parse(signed)
        vote = read_vote(message, signed)
        signing.verify(message, member.public_key, detached=block.root)
    except VerificationError as error:
        raise VerificationError(f"{what}: {error}") from error
    position = (vote.chain, vote.incarnation, vote.height, vote.start, vote.size)
    if position != (block.chain, block.incarnation, block.height, block.start, block.size) or message.unprotected:
        raise VerificationError(f"{what} is for another position")
    if vote.peer != member.id or message.kid != canonical.key_id(member.public_key):
        raise VerificationError(f"{what} is not by {member.id}")
