import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from functools import partial
from threading import Barrier, Thread
from time import monotonic, sleep

import psycopg
import pytest

from gateway.errors import ConfigError, Stale, StoreError
from gateway.io.store.chains import ChainStore
from gateway.io.store.postgresql import PostgresqlDatabase
from gateway.ledger.book import Changes
from gateway.ledger.standing import Word
from gateway.model import Proposal
from tests.builders import CHAIN, Chain, make_reading, reading_leaf, ward_chain
from tests.postgres import Postgres, postgres, shared_postgres
from tests.test_store_chains import CAUSE, OTHER, certified, voted, worded

__all__ = ["postgres", "shared_postgres"]  # fixtures

SCHEMA = "CREATE TABLE fact (id INTEGER PRIMARY KEY, text TEXT NOT NULL)"
LIMIT_S = 20.0


@pytest.fixture
def url(shared_postgres: Postgres) -> str:
    """Give an empty database."""
    return shared_postgres.create()


def wait_for(look: Callable[[], object]) -> None:
    give_up_s = monotonic() + LIMIT_S
    while not look():
        assert monotonic() < give_up_s
        sleep(0.005)


def seal(chain: Chain, leaves: int = 1) -> Proposal:
    first = len(chain.leaves)
    return chain.seal(*[reading_leaf(make_reading(number)) for number in range(first, first + leaves)])


@contextmanager
def two_workers(url: str) -> Iterator[tuple[ChainStore, ChainStore, Chain]]:
    """Give two stores over one database that both know of the two blocks of `ward_chain`."""
    chain = ward_chain()
    with closing(ChainStore(url)) as one, closing(ChainStore(url)) as other:
        one.commit(voted(*chain.proposals))
        assert other.tip(CHAIN).next_height == 2
        yield one, other, chain


def opened(url: str, *, version: int = 1, read_only: bool = False) -> PostgresqlDatabase:
    return PostgresqlDatabase(url, schema=SCHEMA, version=version, read_only=read_only)


# -- workers that share a database


def test_who_was_first_is_right(url: str) -> None:
    """What rests on a tip that another worker has moved since is refused, whole, until the tip is read again."""
    with two_workers(url) as (one, other, chain):
        third, twin = seal(chain.fork()), seal(chain.fork(), leaves=2)
        one.commit(voted(third))
        beside = replace(voted(twin), words=worded(OTHER, 0, Word.CAUSE, CAUSE).words)
        with pytest.raises(Stale, match=f"another worker has changed {CHAIN}"):
            other.commit(beside)
        assert not other.tip(OTHER).frozen
        assert other.tip(CHAIN) == one.tip(CHAIN)
        assert [block.proposal for block in other.blocks(CHAIN, 0, 2, 9)] == [third.signed]


@pytest.mark.parametrize(
    "changes",
    [worded(CHAIN, 0, Word.FROZEN, b"a freeze", epoch=1), Changes(renewed={(CHAIN, 0, 1): b"of a later epoch"})],
    ids=["freeze", "renewal"],
)
def test_every_change_of_a_chain_makes_what_was_read_old(url: str, changes: Changes) -> None:
    """A worker that has not seen that another froze a chain, or voted in a later epoch, keeps no vote of its own."""
    with two_workers(url) as (one, other, chain):
        one.commit(changes)
        with pytest.raises(Stale):
            other.commit(voted(seal(chain)))
        assert other.tip(CHAIN).next_height == 2


def test_certificates_and_other_chains_make_nothing_old(url: str) -> None:
    """A certificate changes nothing on which a vote rests, and chains have nothing to do with each other."""
    with two_workers(url) as (one, other, chain):
        for store in (one, other):
            store.commit(certified(chain.proposals[0], b"a"))
        one.commit(worded(OTHER, 0, Word.CAUSE, CAUSE))
        other.commit(voted(seal(chain)))
        assert one.tip(CHAIN).next_height == 3
        assert one.certificates(CHAIN, 0) == 1


def test_a_worker_is_told_what_has_moved(url: str) -> None:
    """Chains whose tip another worker has moved are named until they are read again; one's own commits move nothing."""
    with two_workers(url) as (one, other, chain):
        assert not one.moved()
        assert not other.moved()
        one.commit(voted(seal(chain)))
        one.commit(worded(OTHER, 0, Word.CAUSE, CAUSE))  # of which the other has read nothing yet
        assert not one.moved()
        assert other.moved() == {CHAIN}
        other.tip(CHAIN)
        assert not other.moved()


def test_a_tip_that_was_never_read_is_no_ground_to_vote_on(url: str) -> None:
    """A store that has read nothing of a chain takes it for empty, and is refused where it is not."""
    with two_workers(url) as (_, _, chain), closing(ChainStore(url)) as third, pytest.raises(Stale):
        third.commit(voted(seal(chain)))


@pytest.mark.parametrize("isolation", ["read committed", "serializable"])
def test_the_second_waits_for_the_first(shared_postgres: Postgres, isolation: str) -> None:
    """Of two commits on one chain the later one waits until the first is there, whatever the database's default is."""
    name, url = shared_postgres.create_database()
    shared_postgres.run(f"ALTER DATABASE {name} SET default_transaction_isolation = '{isolation}'")
    ended: list[str] = []

    def commit(store: ChainStore, proposal: Proposal) -> None:
        try:
            store.commit(voted(proposal))
        except Stale:
            ended.append("stale")

    with two_workers(url) as (one, other, chain):
        third, twin = seal(chain.fork()), seal(chain.fork(), leaves=2)
        with one._database.transaction(CHAIN) as writer:
            one._insert(writer, third, b"vote on 2")
            later = Thread(target=commit, args=(other, twin))
            later.start()
            wait_for(lambda: waiting_for_locks(shared_postgres, name))
        later.join()
        assert ended == ["stale"]
        assert other.tip(CHAIN).last_signed == third.signed


def waiting_for_locks(server: Postgres, name: str) -> int:
    """Count the connections of a database that wait for a lock."""
    ((count,),) = server.run(
        f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{name}' AND wait_event_type = 'Lock'"  # noqa: S608 - our own name
    )
    return int(count)


def test_two_workers_never_keep_two_blocks_at_one_height(url: str) -> None:
    """Workers that race for every height with blocks of their own keep one each time, and know which."""
    heights, kept = 150, [0, 0]
    start = Barrier(2, timeout=LIMIT_S)

    def vote(number: int) -> None:
        """Seal what follows the tip, of so many leaves that blocks of two workers differ, and be first with it."""
        with closing(ChainStore(url)) as store:
            for height in range(heights):
                start.wait()
                tip = store.tip(CHAIN)
                if tip.next_height > height:
                    continue
                chain = Chain()
                chain.leaves = [b""] * tip.frontier.size
                chain.head = replace(chain.head, next_height=height, frontier=tip.frontier)
                try:
                    store.commit(voted(seal(chain, leaves=1 + number)))
                    kept[number] += 1
                except Stale:
                    assert store.tip(CHAIN).next_height == height + 1

    workers = [Thread(target=vote, args=(number,)) for number in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sum(kept) == heights
    assert min(kept) > 0, "one was always first, so nothing raced"
    with closing(ChainStore(url)) as store:
        assert [block.height for block in store.every_block(CHAIN, 0)] == list(range(heights))
        assert store.tip(CHAIN).frontier.size == kept[0] + 2 * kept[1]


def test_workers_make_the_tables_once(url: str) -> None:
    """Workers that start at the same time on an empty database find one set of tables."""
    start, failures = Barrier(4, timeout=LIMIT_S), []

    def begin() -> None:
        start.wait()
        try:
            with closing(ChainStore(url)) as store:
                assert store.kept() == {}
        except StoreError as error:
            failures.append(error)

    workers = [Thread(target=begin) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert failures == []


# -- a server that is lost, or not to be trusted


def test_fault_01_a_server_killed_in_mid_commit_keeps_nothing_half(postgres: Postgres) -> None:
    """A commit that had written part of its rows when the server died is a StoreError, and nothing of it is there."""
    name, url = postgres.create_database()
    chain, failures = ward_chain(), []

    def commit(store: ChainStore, changes: Changes) -> None:
        try:
            store.commit(changes)
        except StoreError as error:
            failures.append(str(error))

    with closing(ChainStore(url)) as store, closing(psycopg.connect(url)) as blocker:
        store.commit(voted(*chain.proposals))
        blocker.execute("LOCK TABLE word IN SHARE MODE")  # behind the blocks, which are written by then
        changes = replace(voted(seal(chain, leaves=300)), words=worded(CHAIN, 0, Word.CAUSE, CAUSE).words)
        committing = Thread(target=commit, args=(store, changes))
        committing.start()
        wait_for(lambda: waiting_for_locks(postgres, name))
        postgres.kill()
        committing.join()
        assert len(failures) == 1
        assert failures[0].startswith(f"PostgreSQL database {name!r} on {postgres.folder}: ")
        with pytest.raises(StoreError):
            store.tip(CHAIN)
        with pytest.raises(StoreError):
            ChainStore(url)
    postgres.start()
    with closing(ChainStore(url)) as after:
        assert (after.tip(CHAIN).next_height, after.tip(CHAIN).frozen) == (2, False)
        after.commit(changes)
        assert (after.tip(CHAIN).next_height, after.tip(CHAIN).frozen) == (3, True)


def test_fault_01_what_was_acknowledged_outlives_the_server(postgres: Postgres) -> None:
    """Whenever the server is killed, all that was committed is there after its recovery, and at most one block more."""
    url, chain = postgres.create(), Chain()
    for _ in range(3):
        committed: list[int] = []
        committing = Thread(target=commit_for_ever, args=(url, chain, committed))
        committing.start()
        wait_for(partial(over, 20, committed))
        postgres.kill()
        committing.join()
        postgres.start()
        with closing(ChainStore(url)) as store:
            kept = store.tip(CHAIN).next_height
        assert kept in {committed[-1], committed[-1] + 1}
        chain = resumed(chain, kept)


def over(count: int, items: list[int]) -> bool:
    return len(items) > count


def commit_for_ever(url: str, chain: Chain, committed: list[int]) -> None:
    """Commit blocks until that fails, and note how many blocks there are each time that it did not."""
    with closing(ChainStore(url)) as store, suppress(StoreError):
        store.tip(CHAIN)
        while True:
            store.commit(voted(seal(chain)))
            committed.append(len(chain.proposals))


def resumed(chain: Chain, height: int) -> Chain:
    """Give a chain as it was behind so many blocks."""
    again, start = Chain(), 0
    for proposal in chain.proposals[:height]:
        again.seal(*chain.leaves[start : proposal.block.size])
        start = proposal.block.size
    return again


def test_a_server_that_forgets_is_refused(shared_postgres: Postgres) -> None:
    """A database whose commits are not on the disk when they return is a wrong configuration, and says which."""
    name, url = shared_postgres.create_database()
    ChainStore(url).close()
    for setting in ("off", "local", "remote_write"):
        shared_postgres.run(f"ALTER DATABASE {name} SET synchronous_commit = {setting}")
        with pytest.raises(
            ConfigError, match=f"synchronous_commit is {setting}, so it can forget a vote; it must be on"
        ):
            ChainStore(url)
        ChainStore(url, read_only=True).close()
    server = Postgres(fsync="off")
    try:
        url = server.start().create()
        with pytest.raises(ConfigError, match="fsync is off"):
            ChainStore(url)
        assert server.run("SELECT count(*) FROM pg_tables WHERE tablename = 'block'") == [(0,)]
    finally:
        server.remove()


def test_a_server_cannot_begin_to_forget(postgres: Postgres) -> None:
    """What the server was when the store was opened holds for its connection, whatever is configured later."""
    url = postgres.create()
    setting = "SELECT current_setting('synchronous_commit')"
    with closing(ChainStore(url)) as store, psycopg.connect(url, autocommit=True) as other:
        postgres.run("ALTER SYSTEM SET synchronous_commit = off")
        postgres.run("SELECT pg_reload_conf()")
        wait_for(lambda: other.execute(setting).fetchall() == [("off",)])
        assert store._database.rows(setting) == [("on",)]


def test_fault_12_a_lock_that_stays_is_a_store_error(shared_postgres: Postgres) -> None:
    """A lock that another holds is waited for, and not for ever."""
    url = shared_postgres.create()
    with closing(ChainStore(url)) as store, psycopg.connect(url) as blocker:
        store._database.rows("SET lock_timeout = '50ms'")
        blocker.execute("LOCK TABLE block IN SHARE MODE")
        with pytest.raises(StoreError, match="lock timeout"):
            store.commit(voted(*ward_chain().proposals))
        blocker.rollback()
        store.commit(voted(*ward_chain().proposals))
        assert store.tip(CHAIN).next_height == 2


# -- as any database


@pytest.mark.parametrize("read_only", [False, True])
def test_refuses_another_version(url: str, *, read_only: bool) -> None:
    """A database of another program version is named and refused."""
    opened(url, version=2).close()
    with pytest.raises(StoreError, match="a database of version 2; this program reads version 1"):
        opened(url, read_only=read_only)
    opened(url, version=2).close()


def test_reader_makes_no_tables_and_cannot_write(url: str) -> None:
    """A database that was opened to read is left as it is, also an empty one."""
    with pytest.raises(StoreError, match="version 0"):
        opened(url, read_only=True)
    opened(url).close()
    with closing(opened(url, read_only=True)) as reader:
        with pytest.raises(StoreError, match="read-only"), reader.transaction() as writer:
            writer.execute("INSERT INTO fact VALUES (?, ?)", (1, "never"))
        assert reader.rows("SELECT * FROM fact") == []


def test_transaction_keeps_all_or_nothing(url: str) -> None:
    """An error within a transaction undoes what was done before it; the next one works."""
    with closing(opened(url)) as database:
        with pytest.raises(StoreError, match="not-null"), database.transaction() as writer:
            writer.executemany("INSERT INTO fact VALUES (?, ?)", [(1, "undone"), (2, None)])
        with database.transaction() as writer:
            writer.executemany("INSERT INTO fact VALUES (?, ?)", [(1, "kept"), (1 << 60, "too")])
        assert database.rows("SELECT id, text FROM fact ORDER BY id") == [(1, "kept"), (1 << 60, "too")]


@pytest.mark.parametrize("wrong", ["postgresql://peer:se%cret@host/db", "postgres://h/db?secret=1"])
def test_a_wrong_url_is_refused_and_not_repeated(wrong: str) -> None:
    """A URL that is none is a wrong configuration; the password in it goes into no log."""
    with pytest.raises(ConfigError, match="PostgreSQL") as refusal:
        ChainStore(wrong)
    assert "secret" not in str(refusal.value)
    assert "se%cret" not in str(refusal.value)


def test_a_server_that_is_not_there_is_a_store_error_without_the_password() -> None:
    """Where the server is, and that it does not answer, is said; the password is not."""
    with pytest.raises(StoreError, match=r"'chains' on 127\.0\.0\.1: .*refused") as failure:
        ChainStore("postgresql://peer:geheim@127.0.0.1:1/chains")
    assert "geheim" not in str(failure.value)


def test_without_psycopg_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever names a database and did not install for it is told what is missing."""
    monkeypatch.setitem(sys.modules, "gateway.io.store.postgresql", None)  # so importing it fails
    with pytest.raises(ConfigError, match=r"pip install iomt-gateway\[postgresql\]"):
        ChainStore("postgresql://peer@db/chains")
