import os
import pty
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import apsw
import pytest

from gateway import signing
from gateway.cli.peer import _ago
from gateway.errors import ConfigError
from gateway.io import control
from gateway.io.store.chains import ChainStore
from gateway.ledger.voting import Conflict, cast_vote
from gateway.model import Proposal
from tests.builders import CHAIN, GATEWAY, VOTED_S, Chain, key_of, make_roster, member, signed_again
from tests.commands import Typed, typed
from tests.processes import ROOT, MakeSite, make_site, wait_for

__all__ = ["make_site", "typed"]  # fixtures

LONG = f"{'a-gateway-of-a-very-long-name-in-a-large-clinic'[:48]}.89abcdef"
LEAVES = (2, 5, 300, 250)


def chain_of(*sizes: int, branch: int = 0) -> list[Proposal]:
    """Give the blocks of a chain of so many leaves each; another branch has other leaves from height 2 on."""
    chain = Chain()
    for height, size in enumerate(sizes):
        chain.seal(*[sha256(b"%d %d %d" % (branch if height > 1 else 0, height, at)).digest() for at in range(size)])
    return chain.proposals


def make_peer(
    folder: Path, proposals: Sequence[Proposal], conflicts: Sequence[Conflict] = (), name: str = "peer-0"
) -> Path:
    """Make a peer's state folder with its copy of a chain."""
    folder.mkdir()
    (folder / "peer.toml").write_text(f'id = "{name}"\nbroker = "mqtt://127.0.0.1:1"\nroster = "roster.cose"\n')
    (folder / "roster.cose").write_bytes(make_roster().signed)
    store = ChainStore(str(folder / "ledger.db"))
    votes = [cast_vote(key_of(name), name, 1, proposal.block, VOTED_S) for proposal in proposals]
    store.commit(zip(proposals, votes, strict=True), conflicts)
    store.close()
    return folder


def damage(folder: Path, sql: str) -> None:
    connection = apsw.Connection(str(folder / "ledger.db"))
    connection.execute(sql)
    connection.close()


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """Give the folder of a peer that has voted for four blocks and does not run."""
    return make_peer(tmp_path / "peer-0", chain_of(*LEAVES))


# -- status


def test_status_of_a_peer_that_does_not_run(typed: Typed, state: Path) -> None:
    """What a peer has voted for is shown from its store, chain by chain."""
    result = typed("peer", "status", "--state", state)
    assert result.code == 0
    root = chain_of(*LEAVES)[-1].block.root.hex()
    assert result.out.splitlines() == [
        "peer        peer-0, roster epoch 1",
        "state       not running (iomt peer run)",
        "",
        "chain            gateway  blocks  leaves  tip root  heard  state",
        f"ward-3.1f0a9c21  ward-3        4     557  {root[:8]}  -      open",
    ]
    assert typed("peer", "status", "--state", state, "--json").json == {
        "peer": "peer-0",
        "running": False,
        "broker": None,
        "epoch": 1,
        "chains": [
            {
                "chain": CHAIN,
                "gateway": GATEWAY,
                "blocks": 4,
                "leaves": 557,
                "root": root,
                "frozen": False,
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
    ours, other = chain_of(*LEAVES), chain_of(*LEAVES, branch=1)[2]
    state = make_peer(tmp_path / "peer", ours, [Conflict(CHAIN, ours[2].signed, other.signed)])
    fingerprints = [signing.fingerprint(signed) for signed in (ours[2].signed, other.signed)]
    result = typed("peer", "status", "--state", state)
    assert f"{CHAIN} is frozen: its gateway signed two histories" in result.out
    assert [line.split() for line in result.out.splitlines()[-2:]] == [["2", each] for each in fingerprints]
    (chain,) = typed("peer", "status", "--state", state, "--json").json["chains"]
    assert chain["frozen"]
    assert [(each["height"], each["proposal"]) for each in chain["evidence"]] == [(2, each) for each in fingerprints]


def test_status_fits_80_columns(typed: Typed, state: Path) -> None:
    """The longest names and large counts fit on a line, the end of a chain's name with them."""
    roster = make_roster()
    gateways = (*roster.gateways, member("x" * 64, LONG))
    (state / "roster.cose").write_bytes(signed_again(replace(roster, gateways=gateways)).signed)
    result = typed("peer", "status", "--state", state)
    assert max(map(len, result.out.splitlines())) <= 80
    assert "~89abcdef" in result.out
    assert {chain["chain"] for chain in typed("peer", "status", "--state", state, "--json").json["chains"]} == {
        CHAIN,
        LONG,
    }


def test_status_of_a_chain_that_left_the_roster(typed: Typed, state: Path) -> None:
    """What is in the copy is shown, though nobody on the roster writes it."""
    roster = make_roster()
    (state / "roster.cose").write_bytes(signed_again(replace(roster, gateways=())).signed)
    (chain,) = typed("peer", "status", "--state", state, "--json").json["chains"]
    assert (chain["chain"], chain["gateway"], chain["blocks"]) == (CHAIN, None, 4)
    assert "unknown" in typed("peer", "status", "--state", state).out


def test_status_of_damaged_evidence_is_refused(typed: Typed, state: Path) -> None:
    """Evidence that a disk changed is no evidence."""
    damage(state, "INSERT INTO evidence VALUES ('ward-3.1f0a9c21', x'00', x'01')")
    result = typed("peer", "status", "--state", state)
    assert (result.code, result.out) == (1, "")
    assert result.err.startswith("iomt: evidence was damaged on the disk: ")


@pytest.mark.parametrize(
    ("ms", "text"), [(0, "0s"), (119_999, "119s"), (120_000, "2m"), (7_200_000, "2h"), (172_800_000, "2d")]
)
def test_spans_are_short(ms: int, text: str) -> None:
    """How long ago something was is said in one number."""
    assert _ago(ms) == text


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


# -- audit


def test_sound_copy(typed: Typed, state: Path) -> None:
    """A copy without a difference ends with 0, and says how much was checked."""
    result = typed("peer", "audit", "--state", state)
    assert (result.code, result.err) == (0, "")
    assert result.out.splitlines()[:2] == [
        "chain            blocks  leaves  copy",
        "ward-3.1f0a9c21       4     557  sound",
    ]
    record = typed("peer", "audit", "--state", state, "--json").json
    assert record.pop("seconds") > 0
    assert record == {
        "chains": [{"chain": CHAIN, "blocks": 4, "leaves": 557, "difference": None}],
        "blocks": 4,
        "leaves": 557,
        "first_difference": None,
        "against": [],
    }


def test_sound_copy_of_a_frozen_chain(typed: Typed, tmp_path: Path) -> None:
    """Evidence that proves two histories is no difference."""
    ours, other = chain_of(*LEAVES), chain_of(*LEAVES, branch=1)[2]
    state = make_peer(tmp_path / "peer", ours, [Conflict(CHAIN, ours[2].signed, other.signed)])
    assert typed("peer", "audit", "--state", state, "--json").json["first_difference"] is None


FLIPPED_PROPOSAL = """
UPDATE block SET proposal = CAST(substr(proposal, 1, 40) || x'00' || substr(proposal, 42) AS BLOB) WHERE height = 2
"""


@pytest.mark.parametrize(
    ("sql", "height"),
    [
        (FLIPPED_PROPOSAL, 2),
        ("UPDATE block SET vote = CAST(x'00' || substr(vote, 2) AS BLOB) WHERE height = 3", 3),
        ("UPDATE block SET vote = CAST(vote AS TEXT) WHERE height = 3", 3),
        ("UPDATE block SET start = 6 WHERE height = 2", 2),
        ("UPDATE block SET size = 'many' WHERE height = 1", 1),
        ("UPDATE block SET height = 'high' WHERE height = 1", 1),
        ("UPDATE block SET height = -1 WHERE height = 0", 0),
        ("DELETE FROM block WHERE height = 1", 1),
        ("UPDATE tile SET hashes = zeroblob(8192) WHERE level = 0 AND number = 1", 2),
        ("UPDATE tile SET hashes = zeroblob(64) WHERE level = 1", 2),
        ("UPDATE tile SET hashes = 'text' WHERE level = 1", 2),
        ("UPDATE tile SET level = 'up' WHERE level = 0 AND number = 2", 3),
        ("INSERT INTO tile VALUES ('ward-3.1f0a9c21', 7, 7, x'00')", 4),
        ("INSERT INTO tile VALUES ('ward-3.1f0a9c21', 'top', 7, x'00')", 4),
        ("INSERT INTO evidence VALUES ('ward-3.1f0a9c21', x'00', x'01')", 4),
    ],
)
def test_first_difference_is_named(typed: Typed, state: Path, sql: str, height: int) -> None:
    """Whatever was changed on the disk ends with 1, chain and height on stderr, all of it in the JSON."""
    damage(state, sql)
    result = typed("peer", "audit", "--state", state, "--json")
    assert result.code == 1
    assert result.err.startswith(f"iomt: chain {CHAIN}, height {height}: ")
    first = result.json["first_difference"]
    assert (first["chain"], first["height"]) == (CHAIN, height)
    assert first["what"] in result.err
    assert "NOT sound" in typed("peer", "audit", "--state", state).out


def test_stray_rows_of_another_chain_are_found(typed: Typed, state: Path) -> None:
    """What is kept of a chain that nobody writes is a difference of that chain, and of no other."""
    damage(state, "INSERT INTO tile VALUES ('stray', 0, 0, x'00')")
    result = typed("peer", "audit", "--state", state, "--json")
    assert result.code == 1
    assert result.json["first_difference"]["chain"] == "stray"
    assert typed("peer", "audit", "--state", state, "--chain", CHAIN).code == 0


def test_damaged_page_is_named(typed: Typed, state: Path) -> None:
    """A page of the database that SQLite cannot read is a difference of the chain that is on it."""
    file = state / "ledger.db"
    connection = apsw.Connection(str(file))
    ((page,),) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'tile'").fetchall()
    connection.close()
    assert isinstance(page, int)
    data = bytearray(file.read_bytes())
    data[1024 * (page - 1)] = 99
    file.write_bytes(data)
    result = typed("peer", "audit", "--state", state, "--chain", CHAIN)
    assert result.code == 1
    assert "malformed" in result.err


def test_no_copy_and_no_chain_are_wrong_usage(typed: Typed, state: Path) -> None:
    """A chain that is nowhere, or a folder without a copy, ends with 2."""
    result = typed("peer", "audit", "--state", state, "--chain", "nowhere")
    assert (result.code, result.err) == (2, f"iomt: there is no chain 'nowhere' here; there are {CHAIN}\n")
    (state / "ledger.db").unlink()
    result = typed("peer", "audit", "--state", state)
    assert (result.code, result.err) == (2, f"iomt: {state / 'ledger.db'}: there is no peer's copy here\n")


def test_chain_without_a_block_is_sound(typed: Typed, tmp_path: Path) -> None:
    """Of a chain on the roster nothing need be kept yet."""
    state = make_peer(tmp_path / "peer", [])
    assert typed("peer", "audit", "--state", state, "--chain", CHAIN, "--json").json["blocks"] == 0


def test_progress_is_for_terminals(state: Path) -> None:
    """A terminal on stderr shows a bar that comes to its end, and stdout has none of it."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "gateway", "peer", "audit", "--json", "--state", str(state)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=theirs, check=True, text=True)
    os.close(theirs)
    shown = os.read(ours, 1 << 16).decode()
    os.close(ours)
    assert "100%" in shown
    assert done.stdout.startswith('{"chains": ')
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True)
    assert done.stderr == ""


# -- against other copies


@pytest.mark.parametrize(
    ("theirs", "said"),
    [
        (LEAVES, "both have the same 4 blocks"),
        (LEAVES[:3], "it is behind by 1 block"),
        ((*LEAVES, 1, 1), "this copy is behind by 2 blocks"),
        ((), "it is behind by 4 blocks"),
    ],
)
def test_copies_of_one_history(typed: Typed, state: Path, tmp_path: Path, theirs: Sequence[int], said: str) -> None:
    """Copies that are as long or not, but the same as far as both go, end with 0."""
    other = make_peer(tmp_path / "other", chain_of(*theirs), name="peer-1")
    result = typed("peer", "audit", "--state", state, "--against", other, "--against", other / "ledger.db")
    assert (result.code, result.err) == (0, "")
    assert result.out.count(f":\n  {said}\n") == 2
    first, second = typed(
        "peer", "audit", "--state", state, "--against", other, "--against", other / "ledger.db", "--json"
    ).json["against"]
    assert (first["blocks_here"], first["blocks_there"], first["differs_at"]) == (4, len(theirs), None)
    assert {**first, "copy": None} == {**second, "copy": None}


def test_copies_of_two_histories(typed: Typed, state: Path, tmp_path: Path) -> None:
    """Where a gateway told two peers two histories, the height is named and both signed proposals are shown."""
    forked = chain_of(*LEAVES, branch=1)
    other = make_peer(tmp_path / "other", forked, name="peer-1")
    proposals = [signing.fingerprint(chain_of(*LEAVES)[2].signed), signing.fingerprint(forked[2].signed)]
    result = typed("peer", "audit", "--state", state, "--against", other)
    assert result.code == 1
    assert result.err == f"iomt: chain {CHAIN}, height 2: its gateway signed another block for {other}\n"
    assert "  first differs at height 2; its gateway signed both:\n" in result.out
    assert f"  {proposals[0]} here\n  {proposals[1]} there\n" in result.out
    (record,) = typed("peer", "audit", "--state", state, "--against", other, "--json").json["against"]
    assert (record["differs_at"], record["proposals"]) == (2, proposals)


def test_damaged_copy_of_another_accuses_nobody(typed: Typed, state: Path, tmp_path: Path) -> None:
    """Another's copy that a disk changed is said to be that, not to be a second history."""
    other = make_peer(tmp_path / "other", chain_of(*LEAVES), name="peer-1")
    damage(other, FLIPPED_PROPOSAL)
    result = typed("peer", "audit", "--state", state, "--chain", CHAIN, "--against", other)
    assert result.code == 1
    assert result.err.startswith(f"iomt: chain {CHAIN}, against {other}: there: block 2: ")
    assert "  cannot be compared to the end\n" in result.out


def test_copies_are_only_read(typed: Typed, state: Path, tmp_path: Path) -> None:
    """Neither copy is changed by being checked."""
    other = make_peer(tmp_path / "other", chain_of(*LEAVES, branch=1), name="peer-1")
    files = [state / "ledger.db", other / "ledger.db"]
    before = [file.read_bytes() for file in files]
    typed("peer", "audit", "--state", state, "--against", other)
    assert [file.read_bytes() for file in files] == before
