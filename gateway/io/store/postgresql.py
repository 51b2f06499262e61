"""One PostgreSQL database, which several workers of one peer may share: opened the same way everywhere.

    edition   how often something was committed under a name, by any connection
    version   of the schema

What is read grows old when another worker commits. A name stands for all that is judged together, as a chain is: it is
watched before it is read, and what is committed under it is refused where another connection was there since. The
row of a name is locked until the commit, so of two workers one waits, and is refused.

A commit is durable when it returns, or the server is refused: fsync and synchronous_commit must be on.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import LiteralString

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from gateway.errors import ConfigError, Stale, StoreError
from gateway.io.store.database import Value, integer

# What the URL does not say: a server that is gone is noticed within 30 s, by the connection and by the system.
_DEFAULTS = {
    "application_name": "iomt-peer",
    "client_encoding": "UTF8",
    "connect_timeout": "10",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "20000",
}

# A worker that stands still holds its locks for so long, and another waits so long for one, then each is at its end.
_LIMITS = ("SET lock_timeout = '10s'", "SET idle_in_transaction_session_timeout = '5s'")
_READ_ONLY = ("SET default_transaction_read_only = on",)
_DURABLE = {"fsync": {"on"}, "synchronous_commit": {"on", "remote_apply"}}

_TYPES = {"INTEGER": "BIGINT", "BLOB": "BYTEA", "TEXT": 'TEXT COLLATE "C"', " WITHOUT ROWID": ""}
_OWN_TABLES = """
CREATE TABLE edition (name TEXT COLLATE "C" PRIMARY KEY, number BIGINT NOT NULL);
CREATE TABLE version (number BIGINT NOT NULL);
"""
_MIGRATING = 0x696F6D74  # "iomt": the advisory lock under which tables are made

_NEXT_EDITION = (
    "INSERT INTO edition VALUES (?, 1) ON CONFLICT (name) DO UPDATE SET number = edition.number + 1"
    " WHERE edition.number = ? RETURNING number"
)

logging.getLogger("psycopg").addHandler(logging.NullHandler())  # says nothing that its errors do not say
logging.getLogger("psycopg").propagate = False


class Writer:
    """What writes within a transaction."""

    def __init__(self, connection: psycopg.Connection) -> None:
        self._connection = connection

    def execute(self, sql: str, values: Sequence[Value] = (), /) -> list[tuple[Value, ...]]:
        """Run a statement, and give its rows if it has any."""
        with self._connection.cursor(binary=True) as cursor:
            cursor.execute(_sql(sql), values)
            return [] if cursor.description is None else cursor.fetchall()

    def executemany(self, sql: str, rows: Sequence[Sequence[Value]], /) -> None:
        """Run a statement once for each row."""
        with self._connection.cursor() as cursor:
            cursor.executemany(_sql(sql), rows)


class PostgresqlDatabase:
    """A connection that belongs to one thread at a time; any number of others may read and write meanwhile.

    Its statements are those of SQLite that PostgreSQL has too, with ? for values and none in a text; so is `schema`.
    Raises: ConfigError if the URL is none or the server does not keep what it commits; StoreError if it is away.
    """

    def __init__(self, url: str, *, schema: str, version: int, read_only: bool = False) -> None:
        given = _given(url)
        self._name = f"PostgreSQL database {given.get('dbname', '')!r} on {given.get('host', 'this machine')}"
        self._editions: dict[str, int] = {}
        with self._failures(), ExitStack() as undo:
            self._connection = psycopg.connect(make_conninfo(**{**_DEFAULTS, **given}), autocommit=True)
            undo.callback(self._connection.close)
            self._connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
            self._writer = Writer(self._connection)
            for setting in _READ_ONLY if read_only else _LIMITS:
                self._writer.execute(setting)
            if not read_only:
                self._require_durable()
            self._migrate(schema, version, read_only=read_only)
            undo.pop_all()

    def close(self) -> None:
        """Close the connection."""
        with self._failures():
            self._connection.close()

    def rows(self, sql: str, *values: Value) -> list[tuple[Value, ...]]:
        """Give the rows of a query."""
        with self._failures():
            return self._writer.execute(sql, values)

    def hold(self) -> None:
        """Read one state from now until it is closed, whatever is written meanwhile."""
        self.rows("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")

    def watch(self, name: str) -> None:
        """Let what is committed under a name rest on what is read from now on."""
        found = self.rows("SELECT number FROM edition WHERE name = ?", name)
        self._editions[name] = integer(found[0][0]) if found else 0

    def moved(self) -> set[str]:
        """Give the names under which another connection has committed since they were watched."""
        found = self.rows("SELECT name, number FROM edition")
        return {str(name) for name, number in found if self._editions.get(str(name), number) != number}

    @contextmanager
    def transaction(self, *names: str) -> Iterator[Writer]:
        """Commit what is done within, under these names, durably, or nothing of it.

        Raises: Stale if another connection was there since a name was watched; StoreError if the server refuses or is
        lost; after that, nothing may be acknowledged.
        """
        with self._failures():
            with self._connection.transaction():
                editions = {name: self._next_edition(name) for name in sorted(names)}  # in order: no deadlock
                yield self._writer
            self._editions |= editions

    def _next_edition(self, name: str) -> int:
        before = self._editions.get(name, 0)
        if self._writer.execute(_NEXT_EDITION, (name, before)) != [(before + 1,)]:
            raise Stale(f"{self._name}: another worker has changed {name}")
        return before + 1

    @contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except psycopg.Error as error:
            raise StoreError(f"{self._name}: {' '.join(str(error).split())}") from error

    def _require_durable(self) -> None:
        """Refuse a server that forgets, and have it stay as it is for this session.

        A standby that may take its place must be a synchronous one, which no connection can see.
        """
        for setting, allowed in _DURABLE.items():
            found = str(self._writer.execute("SELECT current_setting(?)", (setting,))[0][0])
            if found not in allowed:
                wanted = " or ".join(sorted(allowed))
                raise ConfigError(f"{self._name}: {setting} is {found}, so it can forget a vote; it must be {wanted}")
        pin = "SELECT set_config('synchronous_commit', current_setting('synchronous_commit'), false)"
        self._writer.execute(pin)

    def _migrate(self, schema: str, version: int, *, read_only: bool) -> None:
        with self._connection.transaction():
            if not read_only:
                self._writer.execute("SELECT pg_advisory_xact_lock(?)", (_MIGRATING,))
            is_there = self._writer.execute("SELECT to_regclass('version') IS NOT NULL")[0][0]
            found = integer(self._writer.execute("SELECT number FROM version")[0][0]) if is_there else 0
            if found == 0 and not read_only:
                self._create(schema, version)
            elif found != version:
                raise StoreError(f"{self._name}: a database of version {found}; this program reads version {version}")

    def _create(self, schema: str, version: int) -> None:
        for theirs, ours in _TYPES.items():
            schema = schema.replace(theirs, ours)
        for statement in filter(str.strip, f"{schema};{_OWN_TABLES}".split(";")):
            self._writer.execute(statement)
        self._writer.execute("INSERT INTO version VALUES (?)", (version,))


def _given(url: str) -> dict[str, str]:
    """Take a URL apart; what is wrong with it is not repeated, as a password may stand in it."""
    try:
        return {key: str(value) for key, value in conninfo_to_dict(url).items()}
    except psycopg.Error:
        raise ConfigError("the store is no URL of a PostgreSQL database: postgresql://user@host/database") from None


def _sql(sql: str) -> LiteralString:
    """Give a statement as psycopg takes it; it is a constant of the program."""
    return sql.replace("?", "%s")
