"""A real PostgreSQL for tests: a server of its own in a folder of its own, on a Unix socket, ended by process ids."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path
from time import monotonic, sleep
from typing import Any, Self

import psycopg
import pytest

START_LIMIT_S = 20.0
OWNER = "iomt"

# Everything else is as Debian's default: above all, fsync and synchronous_commit are on.
_SETTINGS = {"listen_addresses": "", "shared_buffers": "16MB", "max_connections": "20"}


def _bin() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    if not found:
        pytest.fail("PostgreSQL's server is missing: ./systemd/debian-packages postgresql")
    return found[-1].parent


class Postgres:
    """A server that can be killed and started again; it refuses to be root's, so for root it is Debian's user's."""

    def __init__(self, **settings: str) -> None:
        # Not pytest's folder, into which no other user can look; and short, as the name of a socket must be.
        self.folder = Path(tempfile.mkdtemp(prefix="iomt-postgres-"))
        self.log = self.folder / "log"
        self._bin = _bin()
        self._settings = {**_SETTINGS, "unix_socket_directories": str(self.folder), **settings}
        self._user: dict[str, Any] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers = count()
        if os.getuid() == 0:
            user = pwd.getpwnam("postgres")
            os.chown(self.folder, user.pw_uid, user.pw_gid)
            self._user = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": ()}
        command = ["--pgdata", "data", "--auth", "trust", "--username", OWNER, "--no-sync", "--encoding", "UTF8"]
        subprocess.run(
            [self._bin / "initdb", *command, "--locale", "C.UTF-8"],
            cwd=self.folder,
            check=True,
            capture_output=True,
            **self._user,
        )

    def url(self, database: str = "postgres") -> str:
        """Give where a database is."""
        return f"postgresql://{OWNER}@/{database}?host={self.folder}"

    def start(self) -> Self:
        """Start it and wait until it takes connections."""
        settings = [part for name, value in self._settings.items() for part in ("-c", f"{name}={value}")]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [self._bin / "postgres", "-D", "data", *settings], cwd=self.folder, stderr=log, **self._user
            )
        give_up_s = monotonic() + START_LIMIT_S
        while not self._takes_connections():
            if self._process.poll() is not None or monotonic() > give_up_s:
                self.kill()
                pytest.fail(f"PostgreSQL did not start:\n{self.log.read_text()}")
            sleep(0.02)
        return self

    def create(self) -> str:
        """Make a schema, which is as good as a database and made faster, and give the URL of a store in it."""
        name = f"peer{next(self._numbers)}"
        self.run(f"CREATE SCHEMA {name}")
        return f"{self.url()}&options=-csearch_path%3D{name}"

    def create_database(self) -> tuple[str, str]:
        """Make a database, and give its name and where it is."""
        name = f"peer{next(self._numbers)}"
        self.run(f"CREATE DATABASE {name} TEMPLATE template0")
        return name, self.url(name)

    def run(self, sql: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Run a statement by a connection of its own, and give its rows."""
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            cursor = connection.execute(sql.encode())
            return cursor.fetchall() if cursor.description else []

    def kill(self) -> None:
        """End all its processes at once, as a power cut would; what the system holds of its files stays."""
        if self._process is not None:
            children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text()
            for pid in (self._process.pid, *map(int, children.split())):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def remove(self) -> None:
        """End it, and leave nothing of it, nor of its shared memory."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)  # at once
            self._process.wait(START_LIMIT_S)
        shutil.rmtree(self.folder)

    def _takes_connections(self) -> bool:
        try:
            self.run("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True


@pytest.fixture(scope="session")
def shared_postgres() -> Iterator[Postgres]:
    """Run one server for all tests, each of which makes a database of its own."""
    server = Postgres()
    try:
        yield server.start()
    finally:
        server.remove()


@pytest.fixture
def postgres() -> Iterator[Postgres]:
    """Run a server for one test, which may kill it."""
    server = Postgres()
    try:
        yield server.start()
    finally:
        server.remove()
