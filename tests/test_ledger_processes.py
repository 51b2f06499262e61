"""The ledger's rules on real processes, sockets and disks: clones, reincarnation, new epochs, second signatures."""

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from gateway import signing
from gateway.cli import main
from gateway.errors import VerificationError
from gateway.io.store.readings import ReadingStore
from gateway.ledger.quorum import verify_certificate
from gateway.ledger.rosters import Rosters, open_rosters
from gateway.model import Certificate
from gateway.roster_file import KNOWN
from tests.processes import MakeSite, Process, Site, make_site, type_iomt, wait_for

__all__ = ["make_site"]  # a fixture


@pytest.fixture(autouse=True)
def plain_logs() -> Iterator[None]:
    """Undo what commands that run in this process make of the log: their stderr is gone with the test."""
    yield
    structlog.reset_defaults()


def reincarnate(site: Site, *options: object) -> dict[str, object]:
    """Close the gateway's chain and begin it anew, and give what the command says of it."""
    command = ["ledger", "reincarnate", "--state", site.state, "--yes", "--json"]
    return dict(json.loads(type_iomt(*command, *options).splitlines()[-1]))  # log lines stand before it here


def verified(site: Site, *options: object) -> int:
    """Export the latest certified reading, verify it, and give the exit code."""
    file = site.folder / "reading.cose"
    type_iomt("export", "--state", site.state, "--device", site.sensors[0], "-o", file)
    command = ["verify", file, "--roster", site.folder / "ledger" / "roster.cose", *options]
    return main.run([str(part) for part in command])


def init_peer(site: Site, name: str) -> Process:
    """Make one more peer, not yet admitted."""
    state = site.folder / name
    member = ["--broker", site.broker.url, "--roster", site.folder / "ledger" / "roster.cose"]
    type_iomt("peer", "init", "--state", state, "--id", name, *member)
    process = Process(site.folder / f"{name}.log", sys.executable, "-m", "gateway", "peer", "run", "--state", state)
    site.peers[name] = process
    return process


def await_epoch(site: Site, epoch: int) -> None:
    """Wait until the gateway goes by a roster epoch, and blocks are certified in it."""
    wait_for(f"epoch {epoch}", lambda: site.status().get("epoch") == epoch)
    wait_for("blocks to be certified", lambda: certified_in(site, epoch))


def certified_in(site: Site, epoch: int) -> bool:
    """Say whether the last certified block was certified in an epoch; its certificate must hold."""
    with site.store() as store:
        blocks = [block for block in store.blocks(0, 1 << 40) if block.certified]
        votes = tuple(vote for _, vote in store.votes(blocks[-1].height))
        certificate = Certificate(proposal=blocks[-1].proposal, votes=votes)
    try:
        verify_certificate(site.rosters.of_epoch(epoch), certificate)
    except VerificationError:
        return False
    return True


def test_fault_19_clone_is_found_and_its_chain_healed(make_site: MakeSite) -> None:
    """Two boxes with one card freeze their chain within seconds; one of them goes on, with what both had read."""
    site = make_site(peers=4)
    site.start()
    site.await_certified(2)
    assert site.gateway.end() == 0
    shutil.copytree(site.state, site.folder / "clone", ignore=shutil.ignore_patterns("control", "lock"))
    clone = Process(site.folder / "clone.log", *site.gateway.arguments[:-1], site.folder / "clone")
    try:
        site.start_gateway()
        clone.start()
        for peer in site.peers.values():
            site.await_log(peer, "chain frozen", why="two-histories")
        site.await_log(site.gateway, "chain frozen: iomt ledger reincarnate")
    finally:
        clone.kill()
    assert site.gateway.end() == 0
    with site.store() as store:
        uncertified = store.size() - store.certified_size()
    said = reincarnate(site, "--branch", site.folder / "clone")
    assert (said["closed"], said["begun"], said["again"]) == (0, 1, uncertified)
    roster = site.folder / "ledger" / "roster.cose"
    assert main.run(["verify", "evidence", str(said["evidence"]), "--roster", str(roster)]) == 0
    site.start_gateway()
    site.await_certified(3)
    assert site.status()["incarnation"] == 1
    assert verified(site) == 0
    assert site.gateway.end() == 0


def test_recovery_key_closes_and_opens_a_chain(make_site: MakeSite) -> None:
    """A chain that nothing is wrong with is closed at its recovery key's demand, and every reading stays proven."""
    site = make_site(peers=4)
    site.start()
    site.await_certified(2)
    file = site.folder / "before.cose"
    type_iomt("export", "--state", site.state, "--device", site.sensors[0], "-o", file)
    assert site.gateway.end() == 0
    said = reincarnate(site)
    assert said["evidence"] is None
    assert {peer["why"] for peer in said["peers"]} == {"recovery"}  # type: ignore[attr-defined]  # JSON
    site.start_gateway()
    site.await_certified(2)
    assert verified(site) == 0
    assert main.run(["verify", str(file), "--roster", str(site.folder / "ledger" / "roster.cose")]) == 0
    store = ReadingStore(str(site.state / "incarnation-0.db"), read_only=True)
    assert store.certified_size() > 0
    store.close()


def test_reincarnation_waits_for_a_quorum_and_changes_nothing_without(make_site: MakeSite) -> None:
    """With two of four peers away nothing is closed, the command says who is silent, and the chain goes on after."""
    site = make_site(peers=4)
    site.start()
    site.await_certified()
    assert site.gateway.end() == 0
    for name in ("peer-2", "peer-3"):
        site.peers[name].end(signal.SIGKILL)
    command = ["ledger", "reincarnate", "--state", str(site.state), "--yes", "--wait", "2"]
    done = subprocess.run([sys.executable, "-m", "gateway", *command], capture_output=True, text=True, check=False)
    assert (done.returncode, "silent: peer-2, peer-3" in done.stderr) == (3, True)
    assert not list(site.state.glob("opening-*"))
    site.peers["peer-2"].start()
    said = reincarnate(site)
    assert said["begun"] == 1


def test_peer_is_replaced_while_all_runs(make_site: MakeSite) -> None:
    """One peer is retired and another admitted: the epoch ends, the newcomer catches up and votes, nothing is lost."""
    site = make_site(peers=4)
    site.start()
    site.await_certified(2)
    newcomer = init_peer(site, "peer-4")
    ledger = site.folder / "ledger"
    epoch = site.rosters.current.epoch
    type_iomt("ledger", "retire", "--state", ledger, "peer-3")
    await_epoch(site, epoch + 1)
    type_iomt("ledger", "admit", "--state", ledger, site.folder / "peer-4" / "peer-4.card")
    newcomer.start()
    await_epoch(site, epoch + 2)
    wait_for("the newcomer's vote", lambda: "peer-4" in site.status()["voted_last"])
    assert "peer-3" not in site.status()["voted_last"]
    assert verified(site) == 0
    assert site.gateway.end() == 0
    site.audit()


def test_roster_given_to_one_peer_reaches_all(make_site: MakeSite) -> None:
    """A new roster is copied to one peer alone: the others, and the gateway, have it from there, and keep it."""
    site = make_site(peers=4)
    shared = site.folder / "ledger" / "roster.cose"
    states = [site.folder / name for name in site.peers] + [site.state]
    for state in states:
        shutil.copy(shared, state / "own.cose")
        config = next(state.glob("*.toml"))
        config.write_text(config.read_text().replace(str(shared), "own.cose"))
    site.start()
    site.await_certified(2)
    epoch = site.rosters.current.epoch
    type_iomt("ledger", "retire", "--state", site.folder / "ledger", "peer-3")
    shutil.copy(shared, site.folder / "peer-0" / "own.cose")
    await_epoch(site, epoch + 1)
    assert all(known(state) == site.rosters for state in states if state.name != "peer-3")


def known(state: Path) -> Rosters:
    """Give the roster that a running member knows."""
    return open_rosters((state / KNOWN).read_bytes())


def test_ledger_becomes_post_quantum_while_all_runs(make_site: MakeSite, capfd: pytest.CaptureFixture[str]) -> None:
    """From the epoch on in which the roster says so, readings pass the post-quantum policy; older ones do not."""
    site = make_site(peers=4)
    site.start()
    site.await_certified(2)
    assert verified(site, "--policy", "pq") == 1
    assert "post-quantum" in capfd.readouterr().err
    epoch = site.rosters.current.epoch
    type_iomt("ledger", "post-quantum", "--state", site.folder / "ledger")
    await_epoch(site, epoch + 1)
    with site.store() as store:
        votes = store.votes(max(block.height for block in store.blocks(0, 1 << 40) if block.certified))
    assert all(signing.has_second(vote) for _, vote in votes)
    assert verified(site) == 0
