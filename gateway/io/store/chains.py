"""A peer's own copy of every chain, in one database: blocks with votes, the tree as tiles, what was frozen and why.

    block        the signed proposal and this peer's vote, by chain, incarnation and height
    tile         256 hashes of an incarnation's tree (merkle.py)
    certificate  the votes that made a block final, and the proposal where its signatures are others than the block's
    word         causes, freezes, closings and openings, as messages (ledger.standing)

It is a SQLite file, to which no other connection writes, or a PostgreSQL database, which workers of one peer share.
Everything here blocks: one thread calls it.
"""

from collections.abc import Collection, Iterator
from pathlib import Path

from gateway import cbor, merkle
from gateway.config import STORES
from gateway.errors import ConfigError, StoreError, VerificationError
from gateway.io.store.database import Database, Shareable, Value, Writer, integer, no_tile_missing, undamaged
from gateway.ledger import messages
from gateway.ledger.book import Changes
from gateway.ledger.standing import Word, Words
from gateway.ledger.voting import Conflict, Tip, VotedBlock, block_of
from gateway.merkle import TileReader
from gateway.model import Certificate, Proposal

FILE = "ledger.db"
_LOWEST, _HIGHEST = -(1 << 63), (1 << 63) - 1

_SCHEMA = """
CREATE TABLE block (chain TEXT, incarnation INTEGER, height INTEGER, start INTEGER NOT NULL, size INTEGER NOT NULL,
                    proposal BLOB NOT NULL, vote BLOB NOT NULL,
                    PRIMARY KEY (chain, incarnation, height)) WITHOUT ROWID;
CREATE TABLE tile (chain TEXT, incarnation INTEGER, level INTEGER, number INTEGER, hashes BLOB NOT NULL,
                   PRIMARY KEY (chain, incarnation, level, number)) WITHOUT ROWID;
CREATE TABLE certificate (chain TEXT, incarnation INTEGER, height INTEGER, proposal BLOB, votes BLOB NOT NULL,
                          PRIMARY KEY (chain, incarnation, height)) WITHOUT ROWID;
CREATE TABLE word (chain TEXT, incarnation INTEGER, epoch INTEGER, word TEXT, data BLOB NOT NULL,
                   PRIMARY KEY (chain, incarnation, epoch, word)) WITHOUT ROWID;
"""


def location(state: Path, url: str | None) -> str:
    """Give where a peer's copy is: in a database, if its configuration names one, else in its state folder."""
    return url or str(state / FILE)


def is_there(location: str) -> bool:
    """Say whether there is a copy, as far as one can without opening it: who never ran has none in its folder."""
    return location.startswith(STORES) or Path(location).exists()


class ChainStore:
    """A peer's copy at a `location`. Every method raises StoreError if the disk cannot be trusted."""

    def __init__(self, location: str, *, read_only: bool = False) -> None:
        self._database = _opened(location, read_only=read_only)

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    def moved(self) -> Collection[str]:
        """Give the chains that another worker has changed since their tips were given."""
        return self._database.moved()

    def commit(self, changes: Changes) -> None:
        """Keep these: all or none, durably.

        Raises: Stale if another worker has changed one of these chains since its tip was given.
        """
        with self._database.transaction(*changes.chains) as connection:
            for proposal, vote in changes.votes.values():
                self._insert(connection, proposal, vote)
            for place, vote in changes.renewed.items():
                connection.execute(
                    "UPDATE block SET vote = ? WHERE chain = ? AND incarnation = ? AND height = ?", (vote, *place)
                )
            for place, certificate in changes.certificates.items():
                self._insert_certificate(connection, place, certificate)
            words = [
                (chain, incarnation, epoch, word.value, data)
                for (chain, incarnation, epoch, word), data in changes.words.items()
            ]
            connection.executemany(
                "INSERT INTO word VALUES (?, ?, ?, ?, ?)"
                " ON CONFLICT (chain, incarnation, epoch, word) DO UPDATE SET data = excluded.data",
                words,
            )

    def incarnation(self, chain: str) -> int:
        """Give the latest incarnation of a chain that was begun."""
        sql = "SELECT max(incarnation) FROM word WHERE chain = ? AND word = ?"
        return integer(self._rows(sql, chain, Word.OPENING.value)[0][0] or 0)

    def words(self, chain: str, incarnation: int) -> Words:
        """Give what is kept of an incarnation beside its blocks."""
        sql = "SELECT epoch, word, data FROM word WHERE chain = ? AND incarnation = ?"
        return {(integer(epoch), _word(word)): _blob(data) for epoch, word, data in self._rows(sql, chain, incarnation)}

    def tip(self, chain: str) -> Tip:
        """Give how far this peer has voted on a chain, in its latest incarnation: the frontier is read and checked.

        What is committed of the chain from now on rests on this, and on what is read after it.
        Raises: StoreError also if the tiles do not make the root that was voted for.
        """
        self._database.watch(chain)
        incarnation = self.incarnation(chain)
        frozen = (0, Word.CAUSE) in self.words(chain, incarnation)
        last = self.last_block(chain, incarnation)
        if last is None:
            return Tip(chain=chain, incarnation=incarnation, frozen=frozen)
        with undamaged(f"block {last.height} of chain {chain}"):
            block = block_of(last.proposal)
        place = chain, incarnation, last.height, last.start, last.size
        if (block.chain, block.incarnation, block.height, block.start, block.size) != place:
            raise StoreError(f"chain {chain}: another block stands at height {last.height}")
        with no_tile_missing():
            frontier = merkle.tile_frontier(self.reader(chain, incarnation), block.size)
        if frontier.root() != block.root:
            raise StoreError(f"chain {chain}: the tree does not make the root of block {block.height}")
        return Tip(
            chain=chain,
            incarnation=incarnation,
            next_height=block.height + 1,
            frontier=frontier,
            last_signed=last.proposal,
            frozen=frozen,
        )

    def tile(self, chain: str, incarnation: int, level: int, number: int) -> bytes:
        """Give a tile of an incarnation.

        Raises: KeyError if there is none.
        """
        sql = "SELECT hashes FROM tile WHERE chain = ? AND incarnation = ? AND level = ? AND number = ?"
        for (hashes,) in self._rows(sql, chain, incarnation, level, number):
            if isinstance(hashes, bytes):
                return hashes
        raise KeyError((level, number))

    def reader(self, chain: str, incarnation: int) -> TileReader:
        """Give what reads the tiles of an incarnation."""
        return lambda level, number: self.tile(chain, incarnation, level, number)

    def hashes(self, chain: str, incarnation: int, start: int, stop: int) -> list[bytes]:
        """Give the leaf hashes of [start, stop)."""
        with no_tile_missing():
            return merkle.tile_hashes(self.reader(chain, incarnation), start, stop)

    def block(self, chain: str, incarnation: int, height: int) -> VotedBlock | None:
        """Give the block that was voted for at a height, None if there is none."""
        condition = "chain = ? AND incarnation = ? AND height = ?"
        return next(iter(self._blocks(condition, chain, incarnation, height)), None)

    def last_block(self, chain: str, incarnation: int) -> VotedBlock | None:
        """Give the highest block of an incarnation, None if there is none."""
        condition = "chain = ? AND incarnation = ? ORDER BY height DESC LIMIT 1"
        return next(iter(self._blocks(condition, chain, incarnation)), None)

    def blocks(self, chain: str, incarnation: int, height: int, limit: int) -> list[VotedBlock]:
        """Give the blocks of an incarnation from a height on."""
        condition = "chain = ? AND incarnation = ? AND height >= ? ORDER BY height LIMIT ?"
        return self._blocks(condition, chain, incarnation, height, limit)

    def size(self, chain: str, incarnation: int) -> int:
        """Give how many leaves of an incarnation are kept."""
        last = self.last_block(chain, incarnation)
        return 0 if last is None else last.size

    def certificate(self, chain: str, incarnation: int, height: int) -> Certificate | None:
        """Give the certificate of a block, None if it is not known."""
        sql = (
            "SELECT coalesce(certificate.proposal, block.proposal), votes FROM certificate JOIN block"
            " USING (chain, incarnation, height) WHERE chain = ? AND incarnation = ? AND height = ?"
        )
        for proposal, votes in self._rows(sql, chain, incarnation, height):
            with undamaged(f"the certificate of block {height} of chain {chain}"):
                return Certificate(proposal=_blob(proposal), votes=_votes(cbor.decode(_blob(votes))))
        return None

    def certified(self, chain: str, incarnation: int) -> int:
        """Give how many blocks of an incarnation are final: the last one with a certificate, and all below it."""
        sql = "SELECT height FROM certificate WHERE chain = ? AND incarnation = ? ORDER BY height DESC LIMIT 1"
        return next((integer(height) + 1 for (height,) in self._rows(sql, chain, incarnation)), 0)

    def certificates(self, chain: str, incarnation: int) -> int:
        """Give how many certificates of an incarnation are kept; all are gone through for that."""
        sql = "SELECT count(*) FROM certificate WHERE chain = ? AND incarnation = ?"
        return integer(self._rows(sql, chain, incarnation)[0][0])

    def evidence(self, chain: str, incarnation: int) -> Conflict | None:
        """Give the two proposals for which an incarnation is frozen, None if it is not, or for another cause."""
        data = self.words(chain, incarnation).get((0, Word.CAUSE))
        if data is None:
            return None
        with undamaged(f"the evidence against chain {chain}"):
            _, cause = messages.decode_freezes(data)
        return Conflict(chain, *cause) if len(cause) == 2 else None

    def chains(self) -> list[str]:
        """Give the chains of which there is a block or a word; each is found at once, however many blocks it has."""
        sql = (
            "SELECT min(chain) FROM (SELECT min(chain) AS chain FROM block WHERE chain > ?"
            " UNION ALL SELECT min(chain) FROM word WHERE chain > ?) AS known"
        )
        chains = [""]
        while (following := self._rows(sql, chains[-1], chains[-1])[0][0]) is not None:
            chains.append(_text(following))
        return chains[1:]

    def kept(self) -> dict[tuple[str, int], int]:
        """Give how many blocks there are of every incarnation of which anything is kept; all are gone through."""
        rows = self._rows(
            "SELECT chain, incarnation, (SELECT count(*) FROM block WHERE block.chain = known.chain"
            " AND block.incarnation = known.incarnation) FROM (SELECT chain, incarnation FROM block"
            " UNION SELECT chain, incarnation FROM tile UNION SELECT chain, incarnation FROM certificate"
            " UNION SELECT chain, incarnation FROM word) AS known ORDER BY chain, incarnation"
        )
        return {(_text(chain), integer(incarnation)): integer(blocks) for chain, incarnation, blocks in rows}

    def every_block(self, chain: str, incarnation: int) -> Iterator[VotedBlock]:
        """Give all blocks of an incarnation in order, each read when it is asked for."""
        height = _LOWEST
        while blocks := self.blocks(chain, incarnation, height, 1):
            yield blocks[0]
            height = blocks[0].height + 1

    def tile_counts(self, chain: str, incarnation: int) -> dict[int, int]:
        """Give how many tiles of an incarnation are kept, by level."""
        sql = "SELECT level, count(*) FROM tile WHERE chain = ? AND incarnation = ? GROUP BY level"
        return {integer(level): integer(count) for level, count in self._rows(sql, chain, incarnation)}

    def hold(self) -> None:
        """Read one state of the whole copy from now until it is closed, whatever its peer writes meanwhile."""
        self._database.hold()

    def _insert(self, connection: Writer, proposal: Proposal, vote: bytes) -> None:
        block = proposal.block
        with no_tile_missing():
            tiles = merkle.grown_tiles(self.reader(block.chain, block.incarnation), block.start, proposal.hashes)
        values = [(block.chain, block.incarnation, level, number, tile) for (level, number), tile in tiles.items()]
        connection.executemany(
            "INSERT INTO tile VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT (chain, incarnation, level, number) DO UPDATE SET hashes = excluded.hashes",
            values,
        )
        row = (block.chain, block.incarnation, block.height, block.start, block.size, proposal.signed, vote)
        connection.execute("INSERT INTO block VALUES (?, ?, ?, ?, ?, ?, ?)", row)

    def _insert_certificate(self, connection: Writer, place: tuple[str, int, int], certificate: Certificate) -> None:
        block = self.block(*place)
        proposal = None if block is not None and block.proposal == certificate.proposal else certificate.proposal
        row = (*place, proposal, cbor.encode(list(certificate.votes)))
        connection.execute("INSERT INTO certificate VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING", row)

    def _blocks(self, condition: str, *values: str | int) -> list[VotedBlock]:
        columns = "chain, incarnation, height, start, size, proposal, vote"
        sql = f"SELECT {columns} FROM block WHERE {condition}"  # noqa: S608 - conditions are constants of this file
        return [_block(*row) for row in self._rows(sql, *values)]

    def _rows(self, sql: str, *values: str | int) -> list[tuple[Value, ...]]:
        """Give the rows of a query; a number that no column can hold, which anyone may ask for, stands in none."""
        if any(isinstance(value, int) and not _LOWEST <= value <= _HIGHEST for value in values):
            return []
        return self._database.rows(sql, *values)


def _opened(location: str, *, read_only: bool) -> Shareable:
    if not location.startswith(STORES):
        return Database(location, schema=_SCHEMA, version=1, read_only=read_only)
    try:
        from gateway.io.store.postgresql import PostgresqlDatabase  # noqa: PLC0415 - psycopg is not needed elsewhere
    except ImportError as error:
        raise ConfigError(
            f"a store in PostgreSQL needs psycopg: pip install iomt-gateway[postgresql] ({error})"
        ) from error
    return PostgresqlDatabase(location, schema=_SCHEMA, version=1, read_only=read_only)


def _block(chain: Value, *row: Value) -> VotedBlock:
    incarnation, height, start, size = map(integer, row[:4])
    proposal, vote = map(_blob, row[4:])
    return VotedBlock(_text(chain), incarnation, height, start, size, proposal, vote)


def _votes(items: object) -> tuple[bytes, ...]:
    if not isinstance(items, list) or not all(isinstance(item, bytes) for item in items):
        raise VerificationError("no array of votes")
    return tuple(items)


def _word(value: Value) -> Word:
    try:
        return Word(_text(value))
    except ValueError as error:
        raise StoreError(f"{value!r} where a word is named") from error


def _blob(value: Value) -> bytes:
    if not isinstance(value, bytes):
        raise StoreError(f"{value!r} where the schema has bytes")
    return value


def _text(value: Value) -> str:
    if not isinstance(value, str):
        raise StoreError(f"{value!r} where the schema has a text")
    return value
