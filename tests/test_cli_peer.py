from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway import signing
from gateway.cli.standing import ago
from gateway.errors import ConfigError
from gateway.io import control
from gateway.ledger.evidence import decode_evidence
from gateway.ledger.policy import default_policy
from gateway.ledger.rosters import Rosters
from gateway.roster_file import KNOWN
from tests.builders import CHAIN, GATEWAY, alone, make_roster, member, signed_again
from tests.commands import Typed, typed
from tests.copies import FOUR, LEAVES, begin_again, chain_of, damage, forked, leave, make_peer, seated
from tests.ledgers import Table, next_roster, with_peers
from tests.processes import MakeSite, make_site, wait_for

__all__ = ["make_site", "typed"]  # fixtures

LONG = f"{'a-gateway-of-a-very-long-name-in-a-large-clinic'[:48]}.89abcdef"


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """Give the folder of a peer that has voted for four blocks and does not run."""
    return make_peer(tmp_path / "peer-0", chain_of(*LEAVES))


def test_status_of_a_peer_that_does_not_run(typed: Typed, tmp_path: Path) -> None:
    """What a peer has voted for is shown from its store, chain by chain."""
    state = make_peer(tmp_path / "peer", chain_of(*LEAVES), certified=[0, 2])
    result = typed("peer", "status", "--state", state)
    assert result.code == 0
    root = chain_of(*LEAVES)[-1].block.root.hex()
    assert result.out.splitlines() == [
        "peer        peer-0, roster epoch 1",
        "state       not running (iomt peer run)",
        "",
        "chain            inc  epoch  blocks  final  leaves  root    heard  state",
        f"ward-3.1f0a9c21    0      1       4      3     557  {root[:6]}  -      open",
    ]
    assert typed("peer", "status", "--state", state, "--json").json == {
        "peer": "peer-0",
        "running": False,
        "broker": None,
        "epoch": 1,
        "on_roster": True,
        "chains": [
            {
                "chain": CHAIN,
                "gateway": GATEWAY,
                "incarnation": 0,
                "epoch": 1,
                "blocks": 4,
                "certified": 3,
                "leaves": 557,
                "root": root,
                "state": "open",
                "base": 0,
                "frozen": False,
                "closed": False,
                "evidence": [],
                "heard_ms_ago": None,
            }
        ],
    }


def test_status_of_a_peer_that_never_ran(typed: Typed, state: Path) -> None:
    """A peer without a copy has voted for nothing of any chain on its roster."""
    (state / "ledger.db").unlink()
    (chain,) = typed("peer", "status", "--state", state, "--json").json["chains"]
    assert (chain["chain"], chain["blocks"], chain["leaves"], chain["frozen"]) == (CHAIN, 0, 0, False)


def test_status_shows_the_evidence(typed: Typed, tmp_path: Path) -> None:
    """A frozen chain is said to be frozen, with both proposals that its gateway signed."""
    ours, cause = forked()
    state = make_peer(tmp_path / "peer", ours, cause)
    fingerprints = [signing.fingerprint(signed) for signed in cause]
    result = typed("peer", "status", "--state", state)
    assert f"{CHAIN} is frozen: its gateway signed two histories" in result.out
    assert [line.split() for line in result.out.splitlines()[-2:]] == [["2", each] for each in fingerprints]
    (chain,) = typed("peer", "status", "--state", state, "--json").json["chains"]
    assert (chain["frozen"], chain["state"]) == (True, "frozen: two histories")
    assert [(each["height"], each["proposal"]) for each in chain["evidence"]] == [(2, each) for each in fingerprints]


def test_status_fits_80_columns(typed: Typed, tmp_path: Path) -> None:
    """The longest names and large counts fit on a line, the end of a chain's name with them."""
    roster = make_roster()
    gateways = (*roster.gateways, member("x" * 64, LONG))
    state = make_peer(tmp_path / "peer", chain_of(3), certified=[0])
    rosters = alone(signed_again(replace(roster, gateways=gateways, epoch=10000)))
    (state / "roster.cose").write_bytes(rosters.encode())
    damage(state, "UPDATE certificate SET height = 9999998")
    result = typed("peer", "status", "--state", state)
    assert max(map(len, result.out.splitlines())) <= 80
    assert "~89abcdef" in result.out
    assert {chain["chain"] for chain in typed("peer", "status", "--state", state, "--json").json["chains"]} == {
        CHAIN,
        LONG,
    }


def test_status_goes_by_what_the_peer_has_heard(typed: Typed, state: Path) -> None:
    """A roster that the peer heard of counts beside an older file; it may be one on which the peer is no more."""
    before, peers = make_roster(), make_roster().peers[1:]
    after = signed_again(replace(before, version=2, epoch=2, peers=peers, policy=default_policy(peers)))
    (state / KNOWN).write_bytes(Rosters((before, after)).encode())
    status = typed("peer", "status", "--state", state, "--json").json
    assert (status["epoch"], status["on_roster"]) == (2, False)
    assert "peer        peer-0, not on the roster of epoch 2\n" in typed("peer", "status", "--state", state).out


def test_status_of_a_chain_that_nobody_writes(typed: Typed, state: Path) -> None:
    """What is in the copy is shown, though nobody on any roster writes it."""
    damage(state, "UPDATE block SET chain = 'stray'; UPDATE tile SET chain = 'stray'; DELETE FROM block WHERE height")
    damage(state, "INSERT INTO word VALUES ('strange', 0, 1, 'frozen', x'00'); DELETE FROM block")
    ours, strange = typed("peer", "status", "--state", state, "--json").json["chains"][::-1]
    assert (ours["chain"], ours["gateway"], ours["epoch"], ours["state"]) == (CHAIN, GATEWAY, 1, "open")
    assert (strange["chain"], strange["gateway"], strange["epoch"]) == ("strange", None, None)
    assert strange["state"] == "nobody votes"
    shown = typed("peer", "status", "--state", state).out
    assert "strange has no votes: its gateway was on no roster that has peers" in shown


def test_status_of_damaged_words_is_refused(typed: Typed, state: Path) -> None:
    """Evidence that a disk changed is no evidence."""
    damage(state, "INSERT INTO word VALUES ('ward-3.1f0a9c21', 0, 0, 'cause', x'00')")
    result = typed("peer", "status", "--state", state)
    assert (result.code, result.out.count("frozen")) == (1, 0)
    assert result.err.startswith(f"iomt: what was kept of chain {CHAIN} is damaged: ")
    damage(state, "UPDATE word SET data = x'82808241004101'")
    result = typed("peer", "status", "--state", state)
    assert result.err.startswith("iomt: evidence was damaged on the disk: ")


def retire_gateway(table: Table) -> None:
    table.adopt(next_roster(table.rosters, lambda roster: replace(roster, gateways=())))


def end_epoch(table: Table) -> None:
    table.adopt(next_roster(table.rosters, with_peers("a", "b", "c", "e")))


def end_epoch_for_one(table: Table) -> None:
    table.adopt(next_roster(table.rosters, with_peers("a", "b", "c", "e")), "a")


@pytest.mark.parametrize(
    ("live", "expected", "said"),
    [
        (end_epoch, (0, 2, 1, "open", False), ""),
        (end_epoch_for_one, (0, 1, 1, "waits for the end of epoch 1", False), "waits for the end of epoch 1\n"),
        (retire_gateway, (0, None, 1, "left the roster", False), "is at its end: its gateway is on the roster no more"),
        (
            Table.demand_recovery,
            (0, 1, 1, "frozen: recovery", True),
            "is frozen: its recovery key demands it\na quorum",
        ),
        (begin_again, (1, 1, 0, "open", False), ""),
    ],
)
def test_status_of_a_chain_that_turned_over(
    typed: Typed,
    tmp_path: Path,
    live: Callable[[Table], object],
    expected: tuple[int, int | None, int, str, bool],
    said: str,
) -> None:
    """Incarnation, epoch and what keeps a chain from going on are those in which the peer stands."""
    table = seated(tmp_path)
    live(table)
    state = leave(table, "a", tmp_path / "state")
    (chain,) = typed("peer", "status", "--state", state, "--json").json["chains"]
    found = (chain["incarnation"], chain["epoch"], chain["blocks"], chain["state"], chain["closed"])
    assert found == expected
    shown = typed("peer", "status", "--state", state).out
    assert f"{CHAIN} {said}" in shown if said else shown.count("\n") == 5
    assert typed("peer", "audit", "--state", state).code == 0


def test_status_of_a_newcomer_behind_the_base(typed: Typed, tmp_path: Path) -> None:
    """A peer that still lacks blocks of earlier epochs is said to be behind, and how far it has to go."""
    table = seated(tmp_path)
    table.writer = table.writer.fork(0)  # which answers nothing
    end_epoch(table)
    table.away |= {*FOUR}
    table.seat("e")
    state = leave(table, "e", tmp_path / "state")
    (chain,) = typed("peer", "status", "--state", state, "--json").json["chains"]
    assert (chain["state"], chain["blocks"], chain["base"]) == ("behind the base", 0, 1)
    shown = typed("peer", "status", "--state", state).out
    assert "is behind: this peer votes again once it has all 1 blocks of earlier epochs" in shown


@pytest.mark.parametrize(
    ("ms", "text"), [(0, "0s"), (119_999, "119s"), (120_000, "2m"), (7_200_000, "2h"), (172_800_000, "2d")]
)
def test_spans_are_short(ms: int, text: str) -> None:
    """How long ago something was is said in one number."""
    assert ago(ms) == text


def test_status_and_audit_of_a_running_peer(make_site: MakeSite, typed: Typed) -> None:
    """A peer that runs says that it does and when it heard of its chain; its copy can be checked meanwhile."""
    site = make_site()
    site.start()
    site.await_certified(2)
    state = site.folder / "peer-0"

    def heard() -> Any:  # noqa: ANN401 - JSON
        status = typed("peer", "status", "--state", state, "--json").json
        return status if status["chains"][0]["heard_ms_ago"] is not None else None

    status = wait_for("it to hear", heard)
    assert (status["running"], status["broker"]) == (True, "connected")
    (chain,) = status["chains"]
    assert chain["blocks"] >= 2
    assert 0 <= chain["heard_ms_ago"] < 20_000
    assert "running, broker connected" in typed("peer", "status", "--state", state).out
    audit = typed("peer", "audit", "--state", state, "--json").json
    assert audit["first_difference"] is None
    assert audit["blocks"] >= chain["blocks"]
    with pytest.raises(ConfigError, match="allowed: status"):
        control.call(state / control.SOCKET, {"do": "stop"})


# -- evidence


def test_evidence_is_written_for_anyone_to_check(typed: Typed, tmp_path: Path) -> None:
    """What froze a chain becomes a file that proves it with nothing but the roster."""
    ours, cause = forked()
    state = make_peer(tmp_path / "peer", ours, cause)
    file = tmp_path / "ward.evidence"
    result = typed("peer", "evidence", CHAIN, "--state", state, "-o", file)
    assert result.code == 0
    assert result.out.splitlines() == [
        f"gateway     {GATEWAY}, incarnation 0 of chain {CHAIN}",
        "signed      two blocks at height 2",
        f"written     {file}",
    ]
    assert decode_evidence(file.read_bytes()) == cause
    assert typed("verify", "evidence", file, "--roster", state / "roster.cose").code == 0
    record = typed("peer", "evidence", CHAIN, "--state", state, "-o", file, "--json").json
    assert record == {
        "chain": CHAIN,
        "incarnation": 0,
        "gateway": GATEWAY,
        "contradiction": "two blocks at height 2",
        "file": str(file),
    }


def test_evidence_of_an_earlier_incarnation_stays(
    typed: Typed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A chain that was begun anew still has evidence against it; the file is named after the chain by itself."""
    table = seated(tmp_path)
    table.show(table.writer.fork(0).seal(table.rosters.current, b"another leaf"), to=["a"])
    table.open(table.closing())
    table.certify(table.propose(b"leaf 0"), 1)
    state = leave(table, "b", tmp_path / "state")
    monkeypatch.chdir(tmp_path)
    assert "incarnation 0 of chain" in typed("peer", "evidence", CHAIN, "--state", state).out
    assert typed("verify", "evidence", f"{CHAIN}.evidence", "--roster", state / "roster.cose").code == 0


def test_no_evidence_is_said(typed: Typed, state: Path, tmp_path: Path) -> None:
    """Where there is no evidence, the peer says so, and why; nothing is written."""
    file = tmp_path / "none"
    result = typed("peer", "evidence", CHAIN, "--state", state, "-o", file)
    said = f"iomt: there is no evidence against chain {CHAIN}: this peer has heard one history of it\n"
    assert (result.code, result.err) == (1, said)
    result = typed("peer", "evidence", "nowhere", "--state", state, "-o", file)
    assert (result.code, result.err) == (2, "iomt: there is no chain 'nowhere' here\n")
    table = seated(tmp_path)
    table.demand_recovery()
    frozen = leave(table, "a", tmp_path / "frozen")
    result = typed("peer", "evidence", CHAIN, "--state", frozen, "-o", file)
    assert (result.code, "no evidence of two histories" in result.err) == (1, True)
    (state / "ledger.db").unlink()
    result = typed("peer", "evidence", CHAIN, "--state", state, "-o", file)
    assert (result.code, result.err) == (2, f"iomt: {state / 'ledger.db'}: there is no peer's copy here\n")
    assert not file.exists()


def test_damaged_evidence_is_not_written(typed: Typed, tmp_path: Path) -> None:
    """Two proposals that a disk changed accuse nobody."""
    ours, cause = forked()
    state = make_peer(tmp_path / "peer", ours, [cause[0], cause[1][:-1] + b"\0"])
    result = typed("peer", "evidence", CHAIN, "--state", state, "-o", tmp_path / "none")
    assert result.code == 1
    assert result.err.startswith(f"iomt: the evidence against chain {CHAIN} was damaged on the disk: ")
    assert not (tmp_path / "none").exists()
