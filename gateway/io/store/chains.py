"""A peer's own copy of every chain, in one SQLite file: blocks with votes, the tree as tiles, and evidence.

    block     the signed proposal and this peer's vote, by chain and height
    tile      256 hashes of a chain's tree (merkle.py)
    evidence  two proposals by which a gateway signed two histories; such a chain is frozen

Everything here blocks: one thread calls it, and no other connection writes.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import apsw

from gateway import canonical, merkle, signing
from gateway.errors import StoreError
from gateway.io.store.database import Database, integer, no_tile_missing, undamaged
from gateway.ledger.voting import Conflict, Tip, VotedBlock
from gateway.model import Proposal

FILE = "ledger.db"
_LOWEST = -(1 << 63)

_SCHEMA = """
CREATE TABLE block (chain TEXT, height INTEGER, start INTEGER NOT NULL, size INTEGER NOT NULL,
                    proposal BLOB NOT NULL, vote BLOB NOT NULL, PRIMARY KEY (chain, height)) WITHOUT ROWID;
CREATE TABLE tile (chain TEXT, level INTEGER, number INTEGER, hashes BLOB NOT NULL,
                   PRIMARY KEY (chain, level, number)) WITHOUT ROWID;
CREATE TABLE evidence (chain TEXT PRIMARY KEY, first BLOB NOT NULL, second BLOB NOT NULL) WITHOUT ROWID;
"""


class ChainStore:
    """A peer's database. Every method raises StoreError if the disk cannot be trusted."""

    def __init__(self, path: str, *, read_only: bool = False) -> None:
        self._database = Database(path, schema=_SCHEMA, version=1, read_only=read_only)

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    def commit(self, votes: Iterable[tuple[Proposal, bytes]], conflicts: Iterable[Conflict]) -> None:
        """Keep proposals with leaf hashes and this peer's votes, and evidence: all or none, durably."""
        with self._database.transaction() as connection:
            for proposal, vote in votes:
                self._insert(connection, proposal, vote)
            for conflict in conflicts:
                connection.execute(
                    "INSERT OR IGNORE INTO evidence VALUES (?, ?, ?)", (conflict.chain, conflict.first, conflict.second)
                )

    def tip(self, chain: str) -> Tip:
        """Give how far this peer has voted on a chain, its frontier read from the tiles and checked.

        Raises: StoreError also if the tiles do not make the root that was voted for.
        """
        frozen = bool(self._database.rows("SELECT 1 FROM evidence WHERE chain = ?", chain))
        blocks = self._blocks("chain = ? ORDER BY height DESC LIMIT 1", chain)
        if not blocks:
            return Tip(chain=chain, frozen=frozen)
        last = blocks[0]
        with undamaged(f"block {last.height} of chain {chain}"):
            block = canonical.decode_block(signing.parse(last.proposal).payload or b"")
        if (block.chain, block.height, block.start, block.size) != (chain, last.height, last.start, last.size):
            raise StoreError(f"chain {chain}: another block stands at height {last.height}")
        with no_tile_missing():
            frontier = merkle.tile_frontier(lambda level, number: self.tile(chain, level, number), block.size)
        if frontier.root() != block.root:
            raise StoreError(f"chain {chain}: the tree does not make the root of block {block.height}")
        return Tip(
            chain=chain,
            incarnation=block.incarnation,
            next_height=block.height + 1,
            frontier=frontier,
            last_signed=last.proposal,
            frozen=frozen,
        )

    def tile(self, chain: str, level: int, number: int) -> bytes:
        """Give a tile of a chain.

        Raises: KeyError if there is none.
        """
        sql = "SELECT hashes FROM tile WHERE chain = ? AND level = ? AND number = ?"
        for (hashes,) in self._database.rows(sql, chain, level, number):
            if isinstance(hashes, bytes):
                return hashes
        raise KeyError((level, number))

    def hashes(self, chain: str, start: int, stop: int) -> list[bytes]:
        """Give the leaf hashes of [start, stop) of a chain."""
        with no_tile_missing():
            return merkle.tile_hashes(lambda level, number: self.tile(chain, level, number), start, stop)

    def block(self, chain: str, height: int) -> VotedBlock | None:
        """Give the block that was voted for at a height, None if there is none."""
        return next(iter(self._blocks("chain = ? AND height = ?", chain, height)), None)

    def blocks(self, chain: str, height: int, limit: int) -> list[VotedBlock]:
        """Give the blocks of a chain from a height on."""
        return self._blocks("chain = ? AND height >= ? ORDER BY height LIMIT ?", chain, height, limit)

    def chains(self) -> dict[str, tuple[int, int]]:
        """Give how many blocks and leaves this peer has voted for, by chain."""
        rows = self._database.rows("SELECT chain, count(*), max(size) FROM block GROUP BY chain ORDER BY chain")
        return {str(chain): (integer(blocks), integer(leaves)) for chain, blocks, leaves in rows}

    def frozen(self) -> list[str]:
        """Give the chains of which there is evidence of two histories."""
        return [str(chain) for (chain,) in self._database.rows("SELECT chain FROM evidence ORDER BY chain")]

    def evidence(self, chain: str) -> Conflict | None:
        """Give the evidence for which a chain is frozen, None if it is not."""
        for first, second in self._database.rows("SELECT first, second FROM evidence WHERE chain = ?", chain):
            return _conflict(chain, first, second)
        return None

    def kept(self) -> dict[str, int]:
        """Give how many rows of blocks there are of every chain of which anything is kept."""
        rows = self._database.rows(
            "SELECT chain, (SELECT count(*) FROM block WHERE block.chain = known.chain) FROM (SELECT chain FROM block"
            " UNION SELECT chain FROM tile UNION SELECT chain FROM evidence) AS known ORDER BY chain"
        )
        return {str(chain): integer(blocks) for chain, blocks in rows}

    def every_block(self, chain: str) -> Iterator[VotedBlock]:
        """Give all blocks of a chain in order, each read when it is asked for: what cannot be read is the next one."""
        height = _LOWEST
        while blocks := self.blocks(chain, height, 1):
            yield blocks[0]
            height = integer(blocks[0].height) + 1

    def tile_counts(self, chain: str) -> dict[int, int]:
        """Give how many tiles of a chain are kept, by level."""
        rows = self._database.rows("SELECT level, count(*) FROM tile WHERE chain = ? GROUP BY level", chain)
        return {integer(level): integer(count) for level, count in rows}

    def hold(self) -> None:
        """Read one state of the whole copy from now until it is closed, whatever its peer writes meanwhile."""
        self._database.rows("BEGIN")

    def _insert(self, connection: apsw.Connection, proposal: Proposal, vote: bytes) -> None:
        block = proposal.block
        with no_tile_missing():
            tiles = merkle.grown_tiles(
                lambda level, number: self.tile(block.chain, level, number), block.start, proposal.hashes
            )
        values = [(block.chain, level, number, tile) for (level, number), tile in tiles.items()]
        connection.executemany("INSERT OR REPLACE INTO tile VALUES (?, ?, ?, ?)", values)
        row = (block.chain, block.height, block.start, block.size, proposal.signed, vote)
        connection.execute("INSERT INTO block VALUES (?, ?, ?, ?, ?, ?)", row)

    def _blocks(self, condition: str, *values: str | int) -> list[VotedBlock]:
        sql = f"SELECT chain, height, start, size, proposal, vote FROM block WHERE {condition}"  # noqa: S608 - conditions are constants of this file
        return [_block(*row) for row in self._database.rows(sql, *values)]


def _conflict(*row: Any) -> Conflict:  # noqa: ANN401 - SQLite's row
    return Conflict(*row)


def _block(*row: Any) -> VotedBlock:  # noqa: ANN401 - SQLite's row
    return VotedBlock(*row)
