import asyncio
import json
import shutil
import signal
import sys
from contextlib import closing
from pathlib import Path

import pytest

from gateway import signing
from gateway.errors import ConfigError
from gateway.io.mqtt import Broker, Link
from gateway.io.store.chains import ChainStore
from gateway.ledger.messages import Kind, Topic
from gateway.ledger.quorum import read_vote
from tests.brokers import Mosquitto
from tests.certificates import Authority
from tests.postgres import Postgres, postgres, shared_postgres
from tests.processes import ROOT, Ear, MakeSite, Process, Site, make_site, type_iomt, wait_for

__all__ = ["make_site", "postgres", "shared_postgres"]  # fixtures

TLS = """
listener {port} 127.0.0.1
cafile {folder}/ca.pem
certfile {folder}/ca-broker.pem
keyfile {folder}/ca-broker.key
require_certificate true
use_identity_as_username true
acl_file {acl}
"""


def share(site: Site, url: str, workers: int = 2) -> list[Process]:
    """Give the processes of a peer's workers, each with a folder of its own, that share a database."""
    config = site.folder / "peer-0" / "peer.toml"
    config.write_text(f'store = "{url}"\n{config.read_text()}')
    found = [site.peers["peer-0"]]
    for number in range(2, workers + 1):
        state = site.folder / f"peer-0-{number}"
        shutil.copytree(config.parent, state)
        (state / "peer.toml").write_text(f"worker = {number}\n{config.read_text()}")
        command = [sys.executable, "-m", "gateway", "peer", "run", "--state", state]
        found.append(Process(site.folder / f"{state.name}.log", *command))
        site.peers[state.name] = found[-1]  # so that it is started and ended with the others
    return found


def final(site: Site) -> bool:
    """Say whether all that the gateway has sealed is certified."""
    status = site.status()
    return bool(status) and status["blocks"] == status["certified_blocks"]


def test_a_peer_keeps_its_copy_in_a_database(make_site: MakeSite, shared_postgres: Postgres) -> None:
    """A peer whose store is PostgreSQL's certifies a gateway's blocks, and every command finds its copy there."""
    site, url = make_site(), shared_postgres.create()
    (peer,) = share(site, url, workers=1)
    site.start()
    site.await_certified(3)
    peer.end(signal.SIGKILL)
    peer.start()
    site.await_certified(3)
    state = site.folder / "peer-0"
    (chain,) = json.loads(type_iomt("peer", "status", "--state", state, "--json"))["chains"]
    assert chain["blocks"] >= 6
    assert json.loads(type_iomt("peer", "audit", "--state", state, "--json"))["blocks"] >= 6
    type_iomt("ledger", "checkpoint", "sign", "--state", state, "-o", site.folder / "note")
    assert site.chain in (site.folder / "note").read_text()
    assert not (state / "ledger.db").exists()
    assert peer.end() == 0


def test_one_worker_goes_on_where_the_other_is_killed(make_site: MakeSite, shared_postgres: Postgres) -> None:
    """Of two workers of a peer either is enough, whichever ends and comes back; each height gets one vote from both."""
    site, url = make_site(), shared_postgres.create()
    one, other = share(site, url)
    site.broker.start()
    with Ear(site, str(Topic(site.chain, Kind.VOTE, "peer-0"))) as ear:
        site.start_line()
        one.start()
        other.start()
        site.start_gateway()
        site.await_certified(3)
        one.end(signal.SIGKILL)
        site.await_certified(3)
        one.start()
        site.await_log(one, "broker connected", count=2)
        other.end(signal.SIGKILL)
        site.await_certified(3)
        site.line.end()
        wait_for("all to be certified", lambda: final(site))
        assert one.end() == 0
    votes = {payload for _, payload in ear.heard}
    heights = sorted(read_vote(signing.parse_blob(vote)[0], vote).height for vote in votes)
    with closing(ChainStore(url, read_only=True)) as store:
        assert heights == [block.height for block in store.every_block(site.chain, 0)]
        assert votes == {block.vote for block in store.every_block(site.chain, 0)}
    assert len(heights) >= 9
    for worker in (one, other):
        assert not worker.logged("message refused")


def test_fault_01_workers_end_with_their_database_and_come_back_with_it(
    make_site: MakeSite, postgres: Postgres
) -> None:
    """A lost database ends a worker with one clear line; with the database it goes on where all votes had come to."""
    site, url = make_site(), postgres.create()
    workers = share(site, url)
    site.start()
    site.await_certified(2)
    postgres.kill()
    for worker in workers:
        assert worker.ended() == 1
        assert worker.lines()[-1]["text"].startswith("iomt: PostgreSQL database 'postgres' on ")
        assert "Traceback" not in worker.log.read_text()
    postgres.start()
    for worker in workers:
        worker.start()
    site.await_certified(3)


def test_workers_without_a_database_to_share_are_refused(make_site: MakeSite) -> None:
    """A second worker with a file of its own would be a second peer with the same key: it does not start."""
    site = make_site()
    config = site.folder / "peer-0" / "peer.toml"
    config.write_text(f"worker = 2\n{config.read_text()}")
    with pytest.raises(ConfigError, match=r"worker is 2; allowed: 1 where there is no store for workers to share"):
        type_iomt("peer", "run", "--state", config.parent)


async def test_workers_are_one_identity_and_two_clients(tmp_path: Path) -> None:
    """Two workers with one certificate stay connected together, both hear everything and may say what the peer may."""
    authority = Authority(tmp_path)
    authority.issue("broker")
    config = TLS.replace("{folder}", str(tmp_path)).replace("{acl}", str(ROOT / "systemd" / "mosquitto.acl"))
    server = Mosquitto(tmp_path, config).start()
    broker = Broker(host="127.0.0.1", port=server.port, tls=authority.issue("peer-0"))
    links = [Link(broker, identity=name, topics=["iomt/1/+/vote/+"]) for name in ("peer-0", "peer-0/2")]
    try:
        async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(link.run()) for link in links]
            for link in links:
                await link.connected.wait()
            for link in links:
                await link.publish("iomt/1/ward-3/vote/peer-1", b"refused")
                await link.publish("iomt/1/ward-3/vote/peer-0", b"vote")
            for link in links:
                assert [(await link.inbox.get()).topic for _ in links] == ["iomt/1/ward-3/vote/peer-0"] * 2
                assert link.connected.is_set()
            for task in running:
                task.cancel()
    finally:
        server.kill()
