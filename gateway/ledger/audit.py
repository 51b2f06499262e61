"""Whether a peer's copy of a chain still is what the peer voted for: every block judged again, every hash made again.

    block 0, 1, 2, ... -> follow: signature, place, root of its leaf hashes, own vote, certificate, tiles above
                       -> check_words: causes, freezes, closings, the opening -> end: nothing more

A copy of an incarnation is sound if the rule of `voting` accepts each block behind the one before, as it did when the
vote was cast; if certificates are those of its blocks, the tree's tiles of every level those of its leaves, and there
are no others; and if every word proves what it is kept for. A vote and a certificate are held against the roster of
the epoch that they name, a proposal against the last version on which the chain's gateway belonged. One tile of each
level is held at a time.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from gateway import merkle, signing
from gateway.errors import VerificationError
from gateway.ledger.audit_words import ProposalAt, WordAudit
from gateway.ledger.quorum import certificate_epoch, read_vote, verify_block_vote, verify_certificate
from gateway.ledger.rosters import Rosters
from gateway.ledger.standing import Words, roster_of_chain
from gateway.ledger.voting import Accepted, Tip, VotedBlock, judge, open_proposal
from gateway.merkle import HASH_SIZE, TILE_HEIGHT, TILE_WIDTH, TileReader
from gateway.model import Block, Certificate, Proposal, Roster

_FULL = TILE_WIDTH * HASH_SIZE


class ChainAudit:
    """One incarnation of a peer's copy; whatever raises VerificationError has found the first difference, at `height`.

    Raises: VerificationError if no gateway ever wrote the chain.
    """

    def __init__(self, rosters: Rosters, peer_name: str, chain: str, incarnation: int, read: TileReader) -> None:
        self._rosters = rosters
        self._peer = peer_name
        self._roster = roster_of_chain(rosters, chain)
        self._tip = Tip(chain=chain, incarnation=incarnation)
        self._tiles = _Tiles(read)
        self._voted: dict[int, int] = {}  # by roster epoch: the height behind the last block with a vote of it
        self.certificates = 0
        self.certified = 0
        """How many blocks are final: the last one with a certificate, and all below it."""

    @property
    def height(self) -> int:
        """The block that is looked at: the one behind those that were found sound."""
        return self._tip.next_height

    @property
    def leaves(self) -> int:
        """How many leaves were found sound."""
        return self._tip.frontier.size

    def follow(self, voted: VotedBlock, certificate: Certificate | None = None) -> None:
        """Check the next block as it is kept, its leaf hashes, the tiles that they complete, vote and certificate.

        Raises: VerificationError saying what does not hold.
        """
        block = _opened(self._roster, self._tip, self.height, voted)
        tip = self._judged(block, voted.proposal)
        self._check_vote(block, voted.vote)
        if certificate is not None:
            self._check_certificate(block, certificate)
            self.certificates += 1
            self.certified = tip.next_height
        self._tiles.check_completed(block.start, block.size)
        self._tip = tip

    def check_words(self, words: Words, proposal_at: ProposalAt) -> None:
        """Check, behind the last block, what is kept of the incarnation beside its blocks (`ledger.audit_words`).

        Raises: VerificationError if something of it proves nothing, or does not fit the blocks.
        """
        WordAudit(
            rosters=self._rosters,
            peer=self._peer,
            chain=self._tip.chain,
            incarnation=self._tip.incarnation,
            voted=self._voted,
            proposal_at=proposal_at,
        ).check(words)

    def end(self, tiles: Mapping[int, int], certificates: int) -> None:
        """Check, behind the last block, that tree and certificates end where the blocks do.

        `tiles` counts what is kept, by level, and `certificates` likewise.
        Raises: VerificationError if they go on, or the tree ends before.
        """
        self._tiles.check_end(self.leaves, tiles)
        if certificates != self.certificates:
            raise VerificationError(f"{certificates} certificates are kept, of its blocks {self.certificates}")

    # -- blocks

    def _judged(self, block: Block, signed: bytes) -> Tip:
        is_next = block.start == self.leaves
        hashes = self._tiles.leaf_hashes(block) if is_next else ()
        verdict = judge(self._roster, self._tip, Proposal(block=block, signed=signed, hashes=hashes), None)
        if not isinstance(verdict, Accepted):
            raise VerificationError(f"block {block.height} does not follow the block before it")
        return verdict.tip

    def _check_vote(self, block: Block, signed: bytes) -> None:
        what = f"the vote on block {block.height}"
        try:
            message, _ = signing.parse_blob(signed)
            epoch = read_vote(message, signed).epoch
            vote = verify_block_vote(self._rosters.of_epoch(epoch), block, signed)
        except VerificationError as error:
            raise VerificationError(f"{what}: {error}") from error
        if vote.peer != self._peer:
            raise VerificationError(f"{what} is not by {self._peer}")
        self._voted[epoch] = block.height + 1

    def _check_certificate(self, block: Block, certificate: Certificate) -> None:
        what = f"the certificate of block {block.height}"
        try:
            found = verify_certificate(self._rosters.of_epoch(certificate_epoch(certificate)), certificate)
        except VerificationError as error:
            raise VerificationError(f"{what}: {error}") from error
        if found != block:
            raise VerificationError(f"{what} is of another one")


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


def first_fork(
    rosters: Rosters, chain: str, incarnation: int, here: Iterable[VotedBlock], there: Iterable[VotedBlock]
) -> Fork | None:
    """Compare two copies of an incarnation, both from height 0 on, as far as the shorter one goes.

    Raises: VerificationError if a copy is damaged before they differ: a disk accuses nobody.
    """
    for height, (ours, theirs) in enumerate(zip(here, there, strict=False)):
        same_place = ours.height == theirs.height == height
        if same_place and ours.proposal == theirs.proposal:
            continue
        roster, tip = roster_of_chain(rosters, chain), Tip(chain=chain, incarnation=incarnation)
        block = _opened(roster, tip, height, ours, "here: ")
        if _opened(roster, tip, height, theirs, "there: ") != block:
            return Fork(height, ours.proposal, theirs.proposal)
    return None


def _opened(roster: Roster, tip: Tip, height: int, voted: VotedBlock, where: str = "") -> Block:
    """Give the block that must stand at a height of an incarnation, its gateway's signature checked."""
    if voted.height != height:
        raise VerificationError(f"{where}block {height} is missing")
    try:
        block = open_proposal(roster, voted.proposal)
    except VerificationError as error:
        raise VerificationError(f"{where}block {height}: {error}") from error
    place = tip.chain, tip.incarnation, height, voted.start, voted.size
    if (block.chain, block.incarnation, block.height, block.start, block.size) != place:
        raise VerificationError(f"{where}another block stands at height {height}")
    return block
