"""The gateway's readings, tree, blocks and votes in one SQLite file.

    header   what every leaf of one signer begins with, once: leaf = header.prefix || leaf.tail; what a clone numbered
             alike, before its chain was begun anew, is of another branch than 0
    leaf     position in the tree, signer, its sequence number, the rest of the leaf
    tile     256 hashes of the tree (merkle.py); a tile grows and is otherwise never changed
    block    the signed proposals by height; certified is 1 once a quorum has signed
    vote     the peers' signatures
    damaged  the last frames that could not be decoded, as heard

Everything here blocks: one thread calls it, and no other connection writes. A leaf that is not yet sealed has no
tile: its hash is taken from its bytes, read back, when its block is sealed.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import apsw

from gateway import canonical, merkle, signing
from gateway.errors import StoreError
from gateway.io.store.database import Database, integer, no_tile_missing, undamaged
from gateway.model import Block, Event

FILE = "readings.db"
DAMAGED_KEPT = 1000

_SCHEMA = """
CREATE TABLE header (id INTEGER PRIMARY KEY, kind TEXT NOT NULL, issuer TEXT NOT NULL, prefix BLOB NOT NULL,
                     branch INTEGER NOT NULL, UNIQUE (prefix, branch));
CREATE TABLE leaf (position INTEGER PRIMARY KEY, header INTEGER NOT NULL, sequence INTEGER NOT NULL,
                   tail BLOB NOT NULL);
CREATE UNIQUE INDEX leaf_by_signer ON leaf (header, sequence);
CREATE TABLE tile (level INTEGER, number INTEGER, hashes BLOB NOT NULL, PRIMARY KEY (level, number)) WITHOUT ROWID;
CREATE TABLE block (height INTEGER PRIMARY KEY, start INTEGER NOT NULL UNIQUE, size INTEGER NOT NULL,
                    proposal BLOB NOT NULL, certified INTEGER NOT NULL);
CREATE INDEX block_uncertified ON block (height) WHERE certified = 0;
CREATE TABLE vote (height INTEGER, peer TEXT, vote BLOB NOT NULL, PRIMARY KEY (height, peer)) WITHOUT ROWID;
CREATE TABLE damaged (id INTEGER PRIMARY KEY, device TEXT NOT NULL, received_ms INTEGER NOT NULL,
                      reason TEXT NOT NULL, frame BLOB NOT NULL);
"""

_BY_POSITION = "leaf JOIN header ON id = header"
# A CROSS JOIN keeps this order: signers, which are few, and of each its leaves in leaf_by_signer; never all leaves.
_BY_SIGNER = "header CROSS JOIN leaf ON id = header"


@dataclass(frozen=True, slots=True)
class Signer:
    """Whose leaves they are: the prefix that all of them share, and what it says."""

    kind: str
    issuer: str
    prefix: bytes
    branch: int = 0


class LeafRow(NamedTuple):
    """A leaf on its way to the disk."""

    position: int
    signer: Signer
    sequence: int
    tail: bytes


@dataclass(frozen=True, slots=True)
class StoredLeaf:
    """A leaf as it was read back; kind is "reading" or "event"."""

    position: int
    kind: str
    issuer: str
    sequence: int
    data: bytes
    branch: int = 0


@dataclass(frozen=True, slots=True)
class StoredBlock:
    """A sealed block with its signed proposal."""

    height: int
    start: int
    size: int
    proposal: bytes
    certified: bool


@dataclass(frozen=True, slots=True)
class DamagedFrame:
    """A frame that could not be decoded, as heard."""

    device: str
    received_ms: int
    reason: str
    data: bytes


class ReadingStore:
    """The gateway's database. Every method raises StoreError if the disk cannot be trusted."""

    def __init__(self, path: str, *, read_only: bool = False) -> None:
        self._database = Database(path, schema=_SCHEMA, version=1, read_only=read_only)
        self._headers: dict[tuple[bytes, int], int] = {}

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    # -- written

    def append(self, rows: Sequence[LeafRow]) -> None:
        """Keep leaves, all or none, durably when this returns; the first is the next one of the tree."""
        known = dict(self._headers)
        try:
            with self._database.transaction() as connection:
                self._require_next(rows)
                values = [(row.position, self._header(row.signer), row.sequence, row.tail) for row in rows]
                connection.executemany("INSERT INTO leaf VALUES (?, ?, ?, ?)", values)
        except StoreError:
            self._headers = known
            raise

    def seal(self, block: Block, proposal: bytes, hashes: Sequence[bytes]) -> None:
        """Keep a block with its signed proposal and its leaf hashes."""
        with self._database.transaction() as connection:
            self._insert_block(connection, block, proposal, hashes)

    def adopt(self, block: Block, proposal: bytes, hashes: Sequence[bytes]) -> None:
        """Keep a block that this gateway signed once and has lost: hashes without bodies.

        Leaves here that are not sealed are moved behind it; those that the block contains find their place in it.
        """
        with self._database.transaction() as connection:
            places = {leaf_hash: block.start + offset for offset, leaf_hash in enumerate(hashes)}
            after = block.size
            moves = []
            for leaf in list(self.leaves(block.start)):
                place = places.get(merkle.leaf_hash(leaf.data))
                if place is None:
                    place, after = after, after + 1
                moves.append((-1 - place, leaf.position))
            connection.executemany("UPDATE leaf SET position = ? WHERE position = ?", moves)
            connection.execute("UPDATE leaf SET position = -1 - position WHERE position < 0")
            self._insert_block(connection, block, proposal, hashes)

    def save_votes(self, height: int, votes: Sequence[tuple[str, bytes]], *, certified: bool) -> None:
        """Keep votes of a block, and that they are a quorum where they are."""
        with self._database.transaction() as connection:
            if certified:  # what came before may be of an earlier roster epoch
                connection.execute("DELETE FROM vote WHERE height = ?", (height,))
            values = [(height, peer, vote) for peer, vote in votes]
            connection.executemany("INSERT OR REPLACE INTO vote VALUES (?, ?, ?)", values)
            if certified:
                connection.execute("UPDATE block SET certified = 1 WHERE height = ?", (height,))

    def sign_again(self, height: int, proposal: bytes) -> None:
        """Keep a block's proposal with other signatures."""
        with self._database.transaction() as connection:
            connection.execute("UPDATE block SET proposal = ? WHERE height = ?", (proposal, height))

    def keep_damaged(self, frames: Sequence[DamagedFrame]) -> None:
        """Keep damaged frames and drop the oldest beyond DAMAGED_KEPT."""
        with self._database.transaction() as connection:
            values = [(frame.device, frame.received_ms, frame.reason, frame.data) for frame in frames]
            connection.executemany("INSERT INTO damaged VALUES (NULL, ?, ?, ?, ?)", values)
            connection.execute("DELETE FROM damaged WHERE id <= (SELECT max(id) FROM damaged) - ?", (DAMAGED_KEPT,))

    # -- read

    def leaf(self, position: int) -> StoredLeaf:
        """Give one leaf.

        Raises: StoreError if it is not there.
        """
        for leaf in self.leaves(position, position + 1):
            return leaf
        raise StoreError(f"leaf {position} is not in the store")

    def leaves(self, start: int, stop: int = 1 << 62) -> Iterator[StoredLeaf]:
        """Give the leaves of [start, stop) that are here, in the order of the tree."""
        yield from self._select("position >= ? AND position < ? ORDER BY position", start, stop)

    def leaf_bytes(self, start: int, stop: int) -> list[bytes]:
        """Give the bytes of the leaves of [start, stop) that are here, in the order of the tree."""
        sql = (
            "SELECT prefix, tail FROM leaf JOIN header ON id = header WHERE position >= ? AND position < ?"
            " ORDER BY position"
        )
        return [b"".join(_row(row)) for row in self._database.rows(sql, start, stop)]

    def latest(self, kind: str, issuer: str | None, limit: int) -> list[StoredLeaf]:
        """Give the latest leaves of a kind, of one issuer or of all, the newest first."""
        if issuer is None:
            return list(self._select("kind = ? ORDER BY position DESC LIMIT ?", kind, limit))
        found: list[StoredLeaf] = []
        sql = "SELECT id FROM header WHERE kind = ? AND issuer = ? ORDER BY id DESC"
        for (header,) in self._database.rows(sql, kind, issuer):
            condition = "header = ? ORDER BY sequence DESC LIMIT ?"
            found += self._select(condition, integer(header), limit - len(found))
        return found

    def numbered(self, kind: str, issuer: str, sequence: int) -> StoredLeaf | None:
        """Give the leaf of an issuer with that sequence number, None if there is none."""
        condition = "kind = ? AND issuer = ? AND sequence = ?"
        return next(self._select(condition, kind, issuer, sequence, leaves=_BY_SIGNER), None)

    def events(self) -> Iterator[tuple[int, Event]]:
        """Give the audit trail with positions, in the order of the tree."""
        for leaf in self._select("kind = 'event' ORDER BY position", leaves=_BY_SIGNER):
            with undamaged(f"event {leaf.sequence}"):
                event = canonical.decode_event(payload_of(leaf.data))
            yield leaf.position, event

    def last_sequences(self) -> dict[str, int]:
        """Give the last sequence number of each issuer."""
        sql = (
            "SELECT issuer, max((SELECT max(sequence) FROM leaf WHERE header = header.id)) FROM header GROUP BY issuer"
        )
        return {str(issuer): integer(last) for issuer, last in self._database.rows(sql) if last is not None}

    def damaged(self, limit: int) -> list[DamagedFrame]:
        """Give the latest damaged frames, the newest first."""
        sql = "SELECT device, received_ms, reason, frame FROM damaged ORDER BY id DESC LIMIT ?"
        return [DamagedFrame(*_row(row)) for row in self._database.rows(sql, limit)]

    def size(self) -> int:
        """Give the position behind the last leaf: how far the tree goes once all is sealed."""
        sql = (
            "SELECT max(coalesce((SELECT max(position) + 1 FROM leaf), 0), coalesce((SELECT max(size) FROM block), 0))"
        )
        return integer(self._database.rows(sql)[0][0])

    def hashes(self, start: int, stop: int) -> list[bytes]:
        """Give the leaf hashes of [start, stop), all of which are sealed."""
        with no_tile_missing():
            return merkle.tile_hashes(self.tile, start, stop)

    def tile(self, level: int, number: int) -> bytes:
        """Give a tile.

        Raises: KeyError if there is none.
        """
        rows = self._database.rows("SELECT hashes FROM tile WHERE level = ? AND number = ?", level, number)
        if not rows:
            raise KeyError((level, number))
        return _row(rows[0])[0]  # type: ignore[no-any-return]  # the schema's type

    def block(self, height: int) -> StoredBlock | None:
        """Give the block at a height, None if there is none."""
        return next(iter(self._blocks("height = ?", height)), None)

    def last_block(self) -> StoredBlock | None:
        """Give the highest block, None if nothing was sealed."""
        return next(iter(self._blocks("1 ORDER BY height DESC LIMIT 1")), None)

    def block_of(self, position: int) -> StoredBlock | None:
        """Give the block in which a leaf was sealed, None while it is not."""
        found = self._blocks("start <= ? ORDER BY start DESC LIMIT 1", position)
        return found[0] if found and position < found[0].size else None

    def blocks(self, height: int, limit: int) -> list[StoredBlock]:
        """Give the blocks from a height on."""
        return self._blocks("height >= ? ORDER BY height LIMIT ?", height, limit)

    def uncertified(self, above: int, limit: int) -> list[StoredBlock]:
        """Give the blocks above a height that no quorum has signed yet, the oldest first."""
        return self._blocks("certified = 0 AND height > ? ORDER BY height LIMIT ?", above, limit)

    def certified_size(self) -> int:
        """Give how many leaves the highest certified block proves: those of a block below it are in its tree."""
        return integer(self._database.rows("SELECT coalesce(max(size), 0) FROM block WHERE certified = 1")[0][0])

    def branches(self) -> int:
        """Give the number behind the highest branch of which there are leaves."""
        return integer(self._database.rows("SELECT coalesce(max(branch), 0) + 1 FROM header")[0][0])

    def block_counts(self) -> tuple[int, int]:
        """Give how many blocks are sealed, and how many of them are certified."""
        sql = "SELECT (SELECT count(*) FROM block), (SELECT count(*) FROM block WHERE certified = 0)"
        sealed, uncertified = self._database.rows(sql)[0]
        return integer(sealed), integer(sealed) - integer(uncertified)

    def votes(self, height: int) -> list[tuple[str, bytes]]:
        """Give the votes of a block by peer."""
        rows = self._database.rows("SELECT peer, vote FROM vote WHERE height = ? ORDER BY peer", height)
        return [_row(row) for row in rows]

    def forget_cache(self) -> None:
        """Drop the page cache, so that what is read next comes from the file."""
        self._database.connection.release_memory()

    # -- pieces

    def _require_next(self, rows: Sequence[LeafRow]) -> None:
        size = self.size()
        if rows and rows[0].position != size:
            raise StoreError(f"leaf {rows[0].position} cannot follow {size} leaves")

    def _header(self, signer: Signer) -> int:
        key = signer.prefix, signer.branch
        if key not in self._headers:
            sql = "INSERT INTO header VALUES (NULL, ?, ?, ?, ?) ON CONFLICT (prefix, branch) DO NOTHING"
            self._database.connection.execute(sql, (signer.kind, signer.issuer, *key))
            found = self._database.rows("SELECT id FROM header WHERE prefix = ? AND branch = ?", *key)
            self._headers[key] = integer(found[0][0])
        return self._headers[key]

    def _insert_block(
        self, connection: apsw.Connection, block: Block, proposal: bytes, hashes: Sequence[bytes]
    ) -> None:
        with no_tile_missing():
            tiles = merkle.grown_tiles(self.tile, block.start, hashes)
        values = [(level, number, tile) for (level, number), tile in tiles.items()]
        connection.executemany("INSERT OR REPLACE INTO tile VALUES (?, ?, ?)", values)
        connection.execute(
            "INSERT INTO block VALUES (?, ?, ?, ?, 0)", (block.height, block.start, block.size, proposal)
        )

    def _select(self, condition: str, *values: str | int, leaves: str = _BY_POSITION) -> Iterator[StoredLeaf]:
        columns = "position, kind, issuer, sequence, prefix, tail, branch"
        sql = f"SELECT {columns} FROM {leaves} WHERE {condition}"  # noqa: S608 - conditions are constants of this file
        for row in self._database.rows(sql, *values):
            yield _leaf(*row)

    def _blocks(self, condition: str, *values: int) -> list[StoredBlock]:
        sql = f"SELECT height, start, size, proposal, certified FROM block WHERE {condition}"  # noqa: S608 - as above
        return [_block(*row) for row in self._database.rows(sql, *values)]


def payload_of(leaf: bytes) -> bytes:
    """Give the payload of a leaf of ours, whose signature was checked when it was made.

    Raises: VerificationError if it is no message any more.
    """
    return signing.parse(leaf).payload or b""


def _leaf(*row: Any) -> StoredLeaf:  # noqa: ANN401 - SQLite's row
    position, kind, issuer, sequence, prefix, tail, branch = row
    return StoredLeaf(position, kind, issuer, sequence, prefix + tail, branch)


def _block(height: Any, start: Any, size: Any, proposal: Any, certified: Any) -> StoredBlock:  # noqa: ANN401 - SQLite's row
    return StoredBlock(height, start, size, proposal, certified == 1)


_row: Callable[[tuple[Any, ...]], Any] = tuple
