import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import apsw
import pytest

from gateway.errors import StoreError
from gateway.io.store.database import Database, integer
from tests.disks import FailingDisk

SCHEMA = "CREATE TABLE fact (id INTEGER PRIMARY KEY, text TEXT NOT NULL)"

# Another process that holds the database's write lock until its standard input ends.
LOCKER = """
import sys, apsw
connection = apsw.Connection(sys.argv[1])
connection.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
sys.stdin.read()
connection.execute("ROLLBACK")
"""


def opened(folder: Path, *, version: int = 1, read_only: bool = False) -> Database:
    return Database(str(folder / "facts.db"), schema=SCHEMA, version=version, read_only=read_only)


def insert(database: Database, *texts: str) -> None:
    insert_rows(database, *[(text,) for text in texts])


def insert_rows(database: Database, *rows: tuple[Any, ...]) -> None:
    with database.transaction() as connection:
        connection.executemany("INSERT INTO fact VALUES (NULL, ?)", rows)


def texts_of(database: Database) -> list[object]:
    return [text for (text,) in database.rows("SELECT text FROM fact ORDER BY id")]


@contextmanager
def locked_elsewhere(folder: Path) -> Iterator[subprocess.Popen[str]]:
    arguments = [sys.executable, "-c", LOCKER, str(folder / "facts.db")]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as locker:
        assert locker.stdout is not None
        assert locker.stdout.readline() == "locked\n"
        yield locker


def test_writes_ahead_and_syncs_at_every_commit(tmp_path: Path) -> None:
    """A commit is durable when it returns: WAL with synchronous=FULL, whatever SQLite's defaults are."""
    database = opened(tmp_path)
    assert database.rows("PRAGMA journal_mode") == [("wal",)]
    assert database.rows("PRAGMA synchronous") == [(2,)]
    database.close()


def test_schema_is_made_once(tmp_path: Path) -> None:
    """What was kept is there when the database is opened again."""
    first = opened(tmp_path)
    insert(first, "kept")
    first.close()
    again = opened(tmp_path)
    assert texts_of(again) == ["kept"]
    again.close()


def test_leaves_one_file_when_closed(tmp_path: Path) -> None:
    """The last one that closes brings the write-ahead log home."""
    database = opened(tmp_path)
    insert(database, "kept")
    database.close()
    assert [path.name for path in tmp_path.iterdir()] == ["facts.db"]


@pytest.mark.parametrize("read_only", [False, True])
def test_refuses_another_version(tmp_path: Path, *, read_only: bool) -> None:
    """A database of another program version is named and refused, and left as it is."""
    database = opened(tmp_path, version=2)
    insert(database, "of version 2")
    database.close()
    with pytest.raises(StoreError, match=r"facts\.db: a database of version 2; this program reads version 1"):
        opened(tmp_path, read_only=read_only)
    after = opened(tmp_path, version=2)
    assert texts_of(after) == ["of version 2"]
    after.close()


def test_reader_does_not_make_a_schema(tmp_path: Path) -> None:
    """An empty database, as a crash at the first start leaves it, is not for a reader to fill."""
    apsw.Connection(str(tmp_path / "facts.db")).execute("PRAGMA journal_mode = WAL").fetchall()
    with pytest.raises(StoreError, match="version 0"):
        opened(tmp_path, read_only=True)
    opened(tmp_path).close()


def test_reader_makes_no_file(tmp_path: Path) -> None:
    """A database that is missing is an error for a reader, with its name."""
    with pytest.raises(StoreError, match=r"facts\.db: unable to open"):
        opened(tmp_path, read_only=True)
    assert list(tmp_path.iterdir()) == []


def test_reader_cannot_write(tmp_path: Path) -> None:
    """A database that was opened to read refuses to be written."""
    opened(tmp_path).close()
    reader = opened(tmp_path, read_only=True)
    with pytest.raises(StoreError, match="readonly"):
        insert(reader, "never")
    reader.close()


def test_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    """Garbage where the database should be is named."""
    (tmp_path / "facts.db").write_bytes(b"no database at all" * 400)
    with pytest.raises(StoreError, match=r"facts\.db: .*not a database"):
        opened(tmp_path)


def test_transaction_keeps_all_or_nothing(tmp_path: Path) -> None:
    """An error of any kind within a transaction undoes what was done before it; the next one works."""
    database = opened(tmp_path)
    with pytest.raises(TypeError, match="Bad binding"):  # by apsw, behind a row that it took
        insert_rows(database, ("undone",), (object(),))
    with pytest.raises(StoreError, match="NOT NULL"):
        insert_rows(database, ("undone",), (None,))
    insert(database, "kept")
    assert texts_of(database) == ["kept"]
    database.close()


@pytest.mark.parametrize("failure", [apsw.IOError, apsw.FullError])
@pytest.mark.parametrize("lasting", [False, True])
def test_fault_02_and_03_a_disk_that_fails_keeps_all_or_nothing(
    tmp_path: Path, failure: type[apsw.Error], *, lasting: bool
) -> None:
    """EIO and ENOSPC at every write and sync of a commit are StoreErrors; what was committed before is all there."""
    for number in range(1, 500):
        folder = tmp_path / f"{number}"
        folder.mkdir()
        with FailingDisk() as disk:
            database = opened(folder)
            insert(database, "before")
            disk.fail_at, disk.failure, disk.lasting = disk.touched + number, failure, lasting
            try:
                insert(database, *["x" * 3000] * 5)
            except StoreError:
                failed = True
            else:
                failed = False
            disk.fail_at = None
            del database
        after = opened(folder)
        found = texts_of(after)
        after.close()
        assert found in (["before"], ["before", *["x" * 3000] * 5])
        if not failed:
            assert number > 2, "a commit has at least a write and a sync"
            return
    pytest.fail("every commit failed")


def test_passing_lock_is_waited_for(tmp_path: Path) -> None:
    """A lock that another process holds for a moment, such as a backup's, delays a commit and no more."""
    database = opened(tmp_path)
    with locked_elsewhere(tmp_path) as locker:
        writer = Thread(target=insert, args=(database, "late"))
        writer.start()
        assert locker.stdin is not None
        locker.stdin.close()
        writer.join()
    assert texts_of(database) == ["late"]
    database.close()


def test_fault_12_database_locked_by_another_process(tmp_path: Path) -> None:
    """A lock that stays is a StoreError that says so; nothing is kept, and once it is gone, all goes on."""
    database = opened(tmp_path)
    with locked_elsewhere(tmp_path), pytest.raises(StoreError, match=r"facts\.db: database is locked"):
        insert(database, "never")
    insert(database, "after")
    assert texts_of(database) == ["after"]
    database.close()


def test_integer_refuses_what_is_none() -> None:
    """A column that does not hold what the schema says is a StoreError, no surprise further on."""
    assert integer(5) == 5
    with pytest.raises(StoreError, match="'5' where the schema has an integer"):
        integer("5")
