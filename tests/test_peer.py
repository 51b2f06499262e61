import shutil
import signal
import subprocess
from dataclasses import replace
from time import monotonic

import apsw
import pytest

from gateway import cbor
from gateway.ledger import messages
from gateway.ledger.closing import Shown
from gateway.ledger.messages import Ask, Kind, Topic
from gateway.ledger.quorum import read_vote, verify_block_vote
from gateway.ledger.voting import block_of, open_proposal, sign_block
from gateway.model import Block
from gateway.signing import Keys, parse
from tests.processes import ROOT, Ear, MakeSite, Site, make_site, wait_for

__all__ = ["make_site"]  # a fixture


@pytest.fixture
def running(make_site: MakeSite) -> Site:
    """Give a site of one peer that runs and has certified something."""
    site = make_site()
    site.start()
    site.await_certified(2)
    return site


def voted_block(site: Site, height: int, peer: str = "peer-0") -> tuple[Block, bytes, bytes]:
    """Give the block that a peer voted for at a height, the signed proposal, and the vote."""
    with site.peer_store(peer) as store:
        found = store.block(site.chain, 0, height)
        assert found is not None
        return block_of(found.proposal), found.proposal, found.vote


def test_vote_is_what_the_peer_keeps(running: Site) -> None:
    """The vote that a gateway holds is the one that the peer keeps, over the block that both hold."""
    block, proposal, vote = voted_block(running, 0)
    assert verify_block_vote(running.roster, block, vote).peer == "peer-0"
    with running.store() as store:
        assert store.votes(0) == [("peer-0", vote)]
        kept = store.block(0)
        assert kept is not None
        assert kept.proposal == proposal


def test_same_proposal_gets_the_same_vote_again(running: Site) -> None:
    """A proposal that comes again, also after a restart of the peer, is answered with the very vote that was kept."""
    _, proposal, vote = voted_block(running, 0)
    with running.peer_store("peer-0") as store:
        message = messages.encode_proposal(proposal, store.hashes(running.chain, 0, 0, voted_block(running, 0)[0].size))
    running.gateway.end()
    topic = str(Topic(running.chain, Kind.VOTE, "peer-0"))
    with Ear(running, topic) as ear:
        for count in (1, 2):
            ear.say(str(Topic(running.chain, Kind.PROPOSAL)), message)
            wait_for("the vote", lambda count=count: len(ear.heard) >= count)  # type: ignore[misc]  # a default in a lambda
            running.peers["peer-0"].end(signal.SIGKILL)
            running.peers["peer-0"].start()
            running.await_log(running.peers["peer-0"], "broker connected", count=count + 1)
    assert ear.heard == [(topic, vote)] * 2


def test_killed_peer_catches_up(make_site: MakeSite) -> None:
    """A peer that was killed while many blocks were made asks for what it lacks and votes for all of it."""
    site = make_site(peers=4, leaves=8)
    site.start()
    site.await_certified()
    site.peers["peer-3"].end(signal.SIGKILL)
    behind = site.peer_leaves("peer-3")
    status = site.await_certified(2 * messages.ANSWER_BLOCKS + 4)
    assert "peer-3" not in status["voted_last"]
    site.peers["peer-3"].start()
    wait_for("it to catch up", lambda: site.peer_leaves("peer-3") >= status["leaves"] - status["unsealed"] > behind)
    site.await_log(site.peers["peer-3"], "caught up")
    wait_for("its vote to count again", lambda: "peer-3" in site.status()["voted_last"])
    with site.peer_store("peer-3") as store, site.store() as own:
        blocks = store.blocks(site.chain, 0, 0, 1 << 40)
        assert [block.proposal for block in blocks] == [b.proposal for b in own.blocks(0, 1 << 40)][: len(blocks)]


def await_all_certified(site: Site) -> int:
    """Wait until all that the gateway has taken is certified, and give how many leaves that is."""

    def look() -> int:
        status = site.status()
        done = status["unsealed"] == 0 and status["blocks"] == status["certified_blocks"]
        return int(status["leaves"]) if done else 0

    return wait_for("all to be certified", look)


def test_peer_that_catches_up_follows_a_gateway_without_readings(make_site: MakeSite) -> None:
    """What was certified without it comes to a peer also where no new block does."""
    site = make_site(peers=4)
    for name in ("peer-0", "peer-1", "peer-2"):
        site.peers[name].start()
    site.broker.start()
    site.start_line()
    site.start_gateway()
    site.await_certified(2)
    site.line.end()
    wait_for(
        "all to be certified", lambda: (s := site.status())["unsealed"] == s["blocks"] - s["certified_blocks"] == 0
    )
    leaves = site.status()["leaves"]
    site.peers["peer-3"].start()
    wait_for("it to catch up", lambda: site.peer_leaves("peer-3") == leaves)


def test_fault_16_two_proposals_for_one_height_freeze_the_chain(make_site: MakeSite) -> None:
    """Two blocks that a gateway signed for one height are kept as evidence, and nothing of that chain counts again."""
    site = make_site(peers=4)
    site.start()
    site.await_certified(2)
    block, proposal, _ = voted_block(site, 1)
    other = replace(block, root=bytes(32))
    forged = sign_block(Keys(site.key), "ward-3", other)
    with Ear(site) as twin:
        twin.say(str(Topic(site.chain, Kind.PROPOSAL)), messages.encode_proposal(forged, [bytes(32)]))
    for peer in site.peers.values():
        site.await_log(peer, "chain frozen", why="two-histories")
    line = site.await_log(site.gateway, "chain frozen: iomt ledger reincarnate")
    assert line["why"] == "two histories: two blocks at height 1"
    certified = site.status()["certified_blocks"]
    site.peers["peer-0"].end(signal.SIGKILL)
    site.peers["peer-0"].start()
    site.await_status("unsealed", site.status()["unsealed"] + 200)
    assert site.status()["certified_blocks"] == certified
    assert site.status()["stopped_by"] == line["why"]
    for name in site.peers:
        with site.peer_store(name) as store:
            evidence = store.evidence(site.chain, 0)
        assert evidence is not None
        assert {evidence.first, evidence.second} == {proposal, forged}
        assert open_proposal(site.roster, proposal) != open_proposal(site.roster, forged)


def flip_time(proposal: bytes) -> bytes:
    """Flip a bit in the last byte of the time at which a block was sealed."""
    at = len(proposal) - 67  # before the head and the 64 bytes of the signature
    return proposal[:at] + bytes((proposal[at] ^ 1,)) + proposal[at + 1 :]


@pytest.mark.parametrize(
    ("height", "sql"),
    [
        (0, "UPDATE block SET proposal = :flipped WHERE height = :height"),
        (-1, "UPDATE block SET proposal = :flipped WHERE height = :height"),
        (0, "DELETE FROM block WHERE height = :height"),
    ],
    ids=["first", "last", "missing"],
)
def test_fault_13_damaged_block_accuses_nobody(running: Site, height: int, sql: str) -> None:
    """A peer whose kept block was changed or lost by its disk stops, and does not take its gateway for a forger."""
    running.gateway.end()
    running.peers["peer-0"].end()
    with running.peer_store("peer-0") as chains:
        height %= chains.tip(running.chain).next_height
    block, proposal, _ = voted_block(running, height)
    connection = apsw.Connection(str(running.folder / "peer-0" / "ledger.db"))
    connection.execute(sql, {"flipped": flip_time(proposal), "height": height})
    connection.close()
    running.peers["peer-0"].start()
    with running.store() as store, Ear(running) as ear:
        message = messages.encode_proposal(proposal, store.hashes(block.start, block.size))
        wait_for("it to listen", lambda: len(running.peers["peer-0"].logged("broker connected")) == 2)
        ear.say(str(Topic(running.chain, Kind.PROPOSAL)), message)
        assert running.peers["peer-0"].ended() == 1
    assert f"block {height} of chain" in running.peers["peer-0"].lines()[-1]["text"]
    with running.peer_store("peer-0") as chains:
        assert chains.evidence(running.chain, 0) is None


def test_fault_02_no_vote_leaves_without_its_fsync(make_site: MakeSite) -> None:
    """A peer whose disk refuses an fsync ends with one clear line, and what it could not keep it has not said."""
    if shutil.which("strace") is None:
        pytest.skip("strace, which makes fsync fail, is not installed")
    site = make_site()
    site.broker.start()
    site.start_line()
    peer = site.peers["peer-0"]
    peer.start("strace", "-f", "-qq", "-o", "/dev/null", "-e", "inject=fsync,fdatasync:error=EIO:when=9+")
    with Ear(site, f"{messages.PREFIX}/+/vote/+") as ear:
        site.start_gateway()
        assert peer.ended(30) == 1
    assert peer.lines()[-1]["text"] == f"iomt: {site.folder / 'peer-0' / 'ledger.db'}: disk I/O error"
    assert "Traceback" not in peer.log.read_text()
    said = {read_vote(parse(vote), vote).height for _, vote in ear.heard}
    with site.peer_store("peer-0") as store:
        assert said <= set(range(store.tip(site.chain).next_height))
    peer.start()
    site.await_certified(2)


def test_fault_36_poison_on_every_topic_is_refused(make_site: MakeSite) -> None:
    """Garbage, and questions for heights beyond any integer, cost a peer a line in the log each."""
    site = make_site()
    site.broker.start()
    chain = site.chain
    poison = {
        Topic(chain, Kind.PROPOSAL): b"\xff" * 5000,
        Topic("unknown", Kind.PROPOSAL): cbor.encode([b"", b""]),
        Topic(chain, Kind.ASK, chain): messages.encode_ask(Ask(incarnation=0, next_height=2**64 - 1)),
        Topic(chain, Kind.ASK, "stranger"): messages.encode_ask(Ask(incarnation=0, next_height=0)),
        Topic("unknown", Kind.ASK, "stranger"): messages.encode_ask(Ask(incarnation=0, next_height=0)),
        Topic(chain, Kind.ANSWER, "peer-0", "stranger"): cbor.encode([b"", bytes(64), []]),
        Topic(chain, Kind.CERTIFICATE): cbor.encode([b"", []]),
        Topic(chain, Kind.FREEZE, "stranger"): messages.encode_freezes([Shown(b"", b"")], [b"", b""]),
        Topic(chain, Kind.RECOVERY): b"\x00",
        Topic(chain, Kind.OPENING, "stranger"): messages.encode_opening(b"", []),
        Topic(chain, Kind.PROVE, "stranger"): cbor.encode(["peer-0", 0, 2**64 - 1, 0, None]),
        Topic(site.roster.ledger, Kind.HEADS, "stranger"): b"\x00",
        Topic(site.roster.ledger, Kind.ROSTER, "stranger"): cbor.encode([b""]),
    }
    with Ear(site) as stranger:
        for topic, payload in poison.items():
            stranger.say(str(topic), payload, retain=True)
        site.peers["peer-0"].start()
        site.start_line()
        site.start_gateway()
        site.await_certified(2)
    assert len(site.peers["peer-0"].logged("message refused")) >= 8
    assert site.peers["peer-0"].end() == 0


def test_stops_within_five_seconds_and_leaves_only_its_state(running: Site) -> None:
    """SIGTERM is obeyed at once, twice as well as once; no log of the database stays."""
    peer = running.peers["peer-0"]
    began_s = monotonic()
    peer.send(signal.SIGTERM)
    assert peer.end(signal.SIGTERM) in {0, -signal.SIGTERM}  # the latter: it came when all was done
    assert monotonic() - began_s < 5
    assert peer.logged("stopped")
    assert "Traceback" not in peer.log.read_text()
    files = sorted(path.name for path in (running.folder / "peer-0").iterdir())
    assert files == ["known-roster.cose", "ledger.db", "lock", "master.key", "peer-0.card", "peer.toml"]


def test_second_peer_in_a_folder_is_refused(running: Site) -> None:
    """One folder is one peer: a second one ends with code 2 and a line, and the first goes on."""
    peer = running.peers["peer-0"]
    second = subprocess.run(peer.arguments, cwd=ROOT, capture_output=True, text=True, check=False)
    assert second.returncode == 2
    assert second.stderr == f"iomt: {running.folder / 'peer-0'}: in use by another iomt process; stop it first\n"
    running.await_certified()
