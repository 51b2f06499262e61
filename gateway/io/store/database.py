"""One SQLite database: opened the same way everywhere, its failures turned into StoreError."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

import apsw

from gateway.errors import StoreError, VerificationError

Value = int | float | str | bytes | None

# A commit of one reading writes whole pages: with small ones an SD card takes 8 KB a reading at 10 a second, not 14,
# for 16 bytes more a reading kept. The write-ahead log is folded in at 4 MB, as with SQLite's own page size.
_PRAGMAS = (
    "PRAGMA page_size = 1024",
    "PRAGMA wal_autocheckpoint = 4000",
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA cache_size = -1024",
    "PRAGMA foreign_keys = ON",
)


class Writer(Protocol):
    """What writes within a transaction, of SQLite or of PostgreSQL."""

    def execute(self, sql: str, values: tuple[Value, ...] = ..., /) -> object:
        """Run a statement."""

    def executemany(self, sql: str, rows: Sequence[tuple[Value, ...]], /) -> object:
        """Run a statement once for each row."""


class Shareable(Protocol):
    """A database that several workers may share, if it is PostgreSQL's (`io.store.postgresql`)."""

    def close(self) -> None:
        """Close the connection."""

    def rows(self, sql: str, *values: Value) -> list[tuple[Value, ...]]:
        """Give the rows of a query."""

    def hold(self) -> None:
        """Read one state from now until it is closed, whatever is written meanwhile."""

    def watch(self, name: str) -> None:
        """Let what is committed under a name rest on what is read from now on."""

    def moved(self) -> set[str]:
        """Give the names under which another connection has committed since they were watched."""

    def transaction(self, *names: str) -> AbstractContextManager[Writer]:
        """Commit what is done within, under these names, durably, or nothing of it.

        Raises: Stale if another connection was there since a name was watched.
        """


class Database:
    """A connection that belongs to one thread at a time. There is one that writes; others open it read-only."""

    def __init__(self, path: str, *, schema: str, version: int, read_only: bool = False) -> None:
        self._path = path
        flags = apsw.SQLITE_OPEN_READONLY if read_only else apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE
        with self._failures():
            self.connection = apsw.Connection(path, flags=flags)
            self.connection.set_busy_timeout(2000)
            if not read_only:
                for pragma in _PRAGMAS:
                    self.connection.execute(pragma).fetchall()
            self._migrate(schema, version, read_only=read_only)

    def close(self) -> None:
        """Close the connection; the last one checkpoints."""
        with self._failures():
            self.connection.close()

    def rows(self, sql: str, *values: Value) -> list[tuple[Value, ...]]:
        """Give the rows of a query."""
        with self._failures():
            return self.connection.execute(sql, values).fetchall()

    def hold(self) -> None:
        """Read one state from now until it is closed, whatever is written meanwhile."""
        self.rows("BEGIN")

    def watch(self, name: str) -> None:
        """Do nothing: nobody else writes, so what was read of any name stays true."""

    def moved(self) -> set[str]:
        """Give nothing, likewise."""
        return set()

    @contextmanager
    def transaction(self, *_names: str) -> Iterator[apsw.Connection]:
        """Commit what is done within, durably, or nothing of it.

        Raises: StoreError if the disk refuses; after that, nothing may be acknowledged.
        """
        with self._failures():
            self.connection.execute("BEGIN IMMEDIATE")
            try:
                yield self.connection
                self.connection.execute("COMMIT")
            except BaseException:
                if self.connection.in_transaction:
                    self.connection.execute("ROLLBACK")
                raise

    @contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except (apsw.Error, UnicodeDecodeError) as error:  # the latter: a text that was damaged
            raise StoreError(f"{self._path}: {error}") from error

    def _migrate(self, schema: str, version: int, *, read_only: bool) -> None:
        found = self.connection.pragma("user_version")
        if found == version:
            return
        if found != 0 or read_only:
            raise StoreError(f"{self._path}: a database of version {found}; this program reads version {version}")
        self.connection.execute(f"BEGIN IMMEDIATE; {schema}; PRAGMA user_version = {version}; COMMIT")


def integer(value: object) -> int:
    """Give an integer column's value.

    Raises: StoreError if the database holds something else.
    """
    if not isinstance(value, int):
        raise StoreError(f"{value!r} where the schema has an integer")
    return value


@contextmanager
def no_tile_missing() -> Iterator[None]:
    """Read tiles of a tree that must all be there.

    Raises: StoreError if one is missing or too short.
    """
    try:
        yield
    except KeyError as error:
        raise StoreError(f"tile {error} of the tree is missing") from error


@contextmanager
def undamaged(what: str) -> Iterator[None]:
    """Read something that was sound when it was kept.

    Raises: StoreError naming it if it is not sound any more.
    """
    try:
        yield
    except VerificationError as error:
        raise StoreError(f"{what} was damaged on the disk: {error}") from error
