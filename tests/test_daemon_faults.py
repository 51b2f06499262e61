"""The gateway under faults: each is made for real, to a real process, and nothing that was kept may be lost."""

import contextlib
import random
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from time import sleep

import pytest

from gateway import cbor
from gateway.ledger import messages
from gateway.ledger.messages import Ask, Kind, Topic
from gateway.ledger.voting import block_of, cast_vote
from gateway.model import Block
from tests.builders import keys_of
from tests.processes import Ear, MakeSite, Site, make_site, wait_for

__all__ = ["make_site"]  # a fixture

KILLS = 20


def kept_leaves(site: Site) -> dict[int, bytes]:
    """Give every leaf that is durable now."""
    with site.store() as store:
        return {leaf.position: leaf.data for leaf in store.leaves(0)}


def proposals(site: Site) -> list[bytes]:
    """Give the signed proposals that the gateway keeps, by height."""
    with site.store() as store:
        return [block.proposal for block in store.blocks(0, 1 << 40)]


def voted_proposals(site: Site, peer: str = "peer-0") -> list[bytes]:
    """Give the signed proposals that a peer has voted for, by height."""
    with site.peer_store(peer) as store:
        return [block.proposal for block in store.blocks(site.chain, 0, 0, 1 << 40)]


def await_all_certified(site: Site) -> None:
    """Wait until every block that is sealed by now is certified."""
    site.await_status("certified_blocks", site.await_status("blocks", 1)["blocks"])


def stop_and_audit(site: Site) -> None:
    """End the gateway and check that its chain is whole and the peers' the same."""
    assert site.gateway.end() == 0
    account = site.audit()
    for peer in site.peers:
        voted = voted_proposals(site, peer)
        assert voted == proposals(site)[: len(voted)]
        with site.peer_store(peer) as store:
            assert not store.tip(site.chain).frozen
            assert store.tip(site.chain).next_height == len(voted)
    assert max(len(voted_proposals(site, peer)) for peer in site.peers) >= account.certified


def test_fault_01_twenty_kills_lose_and_double_nothing(make_site: MakeSite) -> None:
    """SIGKILL at any moment, twenty times: every reading that was durable is there once, in order, and certified."""
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")  # noqa: T201 - to repeat a failure with
    chance = random.Random(seed)  # noqa: S311 - a seed, no secret
    site = make_site(speed=60)
    site.start()
    seen, connections = kept_leaves(site), 0
    for _ in range(KILLS):
        if chance.random() < 0.75:
            site.await_log(site.gateway, "broker connected", count=connections + 1)
        sleep(chance.uniform(0, 0.4))  # any moment
        seen |= kept_leaves(site)
        site.gateway.end(signal.SIGKILL)
        assert seen.items() <= kept_leaves(site).items()
        connections = len(site.gateway.logged("broker connected"))
        site.gateway.start()
    site.await_log(site.gateway, "broker connected", count=connections + 1)
    site.await_certified()
    await_all_certified(site)
    stop_and_audit(site)
    assert seen.items() <= kept_leaves(site).items()


def test_fault_17_crash_between_seal_and_publish(make_site: MakeSite) -> None:
    """Blocks that were sealed and never published are published after the crash, byte for byte as they were signed."""
    site = make_site()
    site.start()
    certified = site.await_certified()["certified_blocks"]
    site.broker.kill()
    site.await_status("blocks", certified + 3)
    site.gateway.end(signal.SIGKILL)
    sealed = proposals(site)
    with site.store() as store:
        waiting = [block.height for block in store.uncertified(-1, 99)]
    assert waiting
    assert len(voted_proposals(site)) < len(sealed)
    site.broker.start()
    with Ear(site, f"{messages.PREFIX}/+/proposal") as ear:
        site.start_gateway()
        await_all_certified(site)
    published = {messages.decode_proposal(payload)[0] for _, payload in ear.heard}
    assert {sealed[height] for height in waiting} <= published
    assert proposals(site)[: len(sealed)] == sealed
    stop_and_audit(site)
    assert voted_proposals(site)[: len(sealed)] == sealed


def lose_blocks(site: Site) -> tuple[list[bytes], int]:
    """Run a site, restore an old backup of its gateway's store, and give the proposals and leaves there were."""
    site.start()
    site.await_certified()
    assert site.gateway.end() == 0
    backup = (site.state / "readings.db").read_bytes()
    site.start_gateway()
    site.await_certified(4)
    await_all_certified(site)
    assert site.gateway.end() == 0
    sealed = voted_proposals(site)
    (site.state / "readings.db").write_bytes(backup)
    assert len(proposals(site)) < len(sealed)
    return sealed, block_of(sealed[-1]).size


def audit_with_lost_bodies(site: Site, sealed: list[bytes], leaves: int) -> None:
    """Check that the chain goes on from the blocks that were lost, whose bodies are gone, and never forked."""
    site.await_status("certified_blocks", len(sealed) + 2)
    assert site.gateway.end() == 0
    assert proposals(site)[: len(sealed)] == sealed
    kept = kept_leaves(site)
    account = site.audit(bodies_lost=[position for position in range(leaves) if position not in kept])
    assert len(account.blocks) > len(sealed)
    assert account.blocks[len(sealed)].start == leaves
    for peer in site.peers:
        with site.peer_store(peer) as store:
            assert not store.tip(site.chain).frozen
        voted = voted_proposals(site, peer)
        assert voted == proposals(site)[: len(voted)]


def test_fault_14_old_backup_goes_on_from_the_ledgers_tip(make_site: MakeSite) -> None:
    """A gateway whose store is an old backup takes its lost blocks back from the peers and forks nothing."""
    site = make_site(peers=4)
    sealed, leaves = lose_blocks(site)
    site.start_gateway()
    audit_with_lost_bodies(site, sealed, leaves)
    assert site.gateway.logged("lost block taken back from peers")


def test_fault_39_peer_that_lies_about_lost_blocks_does_no_damage(make_site: MakeSite) -> None:
    """Wrong leaf hashes for a block that was lost are refused, wherever they come first; the right ones are taken."""
    site = make_site()
    sealed, leaves = lose_blocks(site)
    topic = str(Topic(site.chain, Kind.ANSWER, site.chain, "peer-0"))
    first = len(proposals(site))
    with Ear(site) as liar:
        lie = messages.encode_answer(sealed[first], [bytes(32)] * 5, [])
        liar.say(topic, lie, retain=True)  # so that it is there before any answer
        site.start_gateway()
        audit_with_lost_bodies(site, sealed, leaves)
    assert site.gateway.logged("lost block refused", height=first)


def test_fault_39_one_of_four_peers_down_and_two(make_site: MakeSite) -> None:
    """Without one of four peers blocks are certified; without two they wait, and with three again all are certified."""
    site = make_site(peers=4)
    site.start()
    site.await_certified()
    site.peers["peer-3"].end(signal.SIGKILL)
    status = site.await_certified(3)
    assert "peer-3" not in status["voted_last"]
    site.peers["peer-2"].end(signal.SIGKILL)
    blocks = site.status()["blocks"]
    waiting = site.await_status("blocks", blocks + 4)
    assert waiting["certified_blocks"] <= blocks + 1
    site.peers["peer-2"].start()
    site.peers["peer-3"].start()
    site.await_status("certified_blocks", waiting["blocks"])
    wait_for("all peers to catch up", lambda: min(map(site.peer_leaves, site.peers)) >= waiting["leaves"])
    stop_and_audit(site)


def test_fault_36_poison_on_every_topic_is_refused(make_site: MakeSite) -> None:
    """Garbage, foreign votes and heights beyond any integer, retained by the broker, cost a line in the log each."""
    site = make_site()
    site.broker.start()
    chain = site.chain
    beyond = Block(
        chain=chain,
        incarnation=0,
        height=2**64 - 1,
        start=0,
        size=2**64 - 1,
        root=bytes(32),
        start_root=bytes(32),
        sealed_ms=0,
    )
    poison = {
        Topic(chain, Kind.VOTE, "peer-0"): cast_vote(keys_of("peer-0"), "peer-0", 1, beyond, 0),
        Topic(chain, Kind.VOTE, "peer-1"): b"\xff" * 5000,
        Topic(chain, Kind.VOTE, "peer-2"): cast_vote(keys_of("x"), "x", 1, replace(beyond, chain="other"), 0),
        Topic(chain, Kind.TIP, "peer-0"): messages.encode_tip(b"", b""),
        Topic(chain, Kind.ASK, "peer-0"): messages.encode_ask(Ask(incarnation=0, next_height=2**64 - 1)),
        Topic(chain, Kind.ASK, "stranger"): messages.encode_ask(Ask(incarnation=0, next_height=0)),
        Topic(chain, Kind.ANSWER, chain, "peer-0"): cbor.encode([b"", bytes(64), []]),
        Topic(chain, Kind.FREEZE, "peer-0"): messages.encode_freezes([], [b"", b""]),
        Topic(site.roster.ledger, Kind.ROSTER, "stranger"): cbor.encode([b""]),
        Topic(chain, Kind.PROPOSAL): b"",
    }
    with Ear(site) as stranger:
        for topic, payload in poison.items():
            stranger.say(str(topic), payload or b"\x00", retain=True)
        site.peers["peer-0"].start()
        site.start_line()
        site.start_gateway()
        site.await_certified(3)
        assert len(site.gateway.logged("message refused")) >= 5
        stop_and_audit(site)


def test_fault_02_fsync_that_fails_stops_the_gateway(make_site: MakeSite) -> None:
    """At the first EIO of an fsync the gateway ends with one clear line; started again, it has all it had kept."""
    if shutil.which("strace") is None:
        pytest.skip("strace, which makes fsync fail, is not installed")
    site = make_site()
    site.start()
    site.await_certified()
    site.gateway.end()
    seen = kept_leaves(site)
    calls = "fsync,fdatasync"
    site.gateway.start("strace", "-f", "-qq", "-o", "/dev/null", "-e", f"inject={calls}:error=EIO:when=12+")
    assert site.gateway.ended(30) == 1
    assert site.gateway.lines()[-1]["text"] == f"iomt: {site.state / 'readings.db'}: disk I/O error"
    assert "Traceback" not in site.gateway.log.read_text()
    assert len(kept_leaves(site)) > len(seen)
    seen |= kept_leaves(site)
    site.start_gateway()
    site.await_certified(2)
    await_all_certified(site)
    stop_and_audit(site)
    assert seen.items() <= kept_leaves(site).items()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Give a file system of 4 MB, where the gateway's folder will be."""
    folder = tmp_path / "gateway"
    folder.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", "size=4m,mode=700", "tmpfs", str(folder)]
    if subprocess.run(mounting, capture_output=True, check=False).returncode:
        pytest.skip("a small disk can only be mounted by root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(path: Path) -> None:
    """Write a file until its disk has no room for a page."""
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as filler:
        while True:
            filler.write(bytes(4096))


def test_fault_03_full_disk_stops_the_gateway(small_disk: Path, make_site: MakeSite) -> None:
    """On a full disk the gateway ends with one clear line; with room again, it goes on with all that it had kept."""
    site = make_site()
    site.start()
    site.await_certified()
    fill(small_disk / "filler")
    assert site.gateway.ended(30) == 1
    assert site.gateway.lines()[-1]["text"] == f"iomt: {site.state / 'readings.db'}: database or disk is full"
    assert "Traceback" not in site.gateway.log.read_text()
    (small_disk / "filler").unlink()
    seen = kept_leaves(site)
    site.start_gateway()
    site.await_certified(2)
    await_all_certified(site)
    stop_and_audit(site)
    assert seen.items() <= kept_leaves(site).items()
