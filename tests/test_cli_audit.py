import os
import pty
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import apsw
import pytest

from gateway import signing
from tests.builders import CHAIN
from tests.commands import Typed, typed
from tests.copies import LEAVES, begin_again, chain_of, damage, forked, leave, make_peer, seated
from tests.processes import ROOT

__all__ = ["typed"]  # fixture


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """Give the folder of a peer that has voted for four blocks and does not run."""
    return make_peer(tmp_path / "peer-0", chain_of(*LEAVES))


def test_sound_copy(typed: Typed, tmp_path: Path) -> None:
    """A copy without a difference ends with 0, and says how much was checked and which certificates are not there."""
    state = make_peer(tmp_path / "peer", chain_of(*LEAVES), certified=[1, 2])
    result = typed("peer", "audit", "--state", state)
    assert (result.code, result.err) == (0, "")
    lines = result.out.splitlines()
    assert lines[:2] == [
        "chain            incarnation  blocks  final  leaves  copy",
        "ward-3.1f0a9c21            0       4      3     557  sound",
    ]
    assert lines[-1] == "without     certificates of their own: 1 block, final by one above"
    record = typed("peer", "audit", "--state", state, "--json").json
    assert record.pop("seconds") > 0
    assert record == {
        "chains": [
            {
                "chain": CHAIN,
                "incarnation": 0,
                "blocks": 4,
                "leaves": 557,
                "certified": 3,
                "certificates_missing": 1,
                "difference": None,
            }
        ],
        "blocks": 4,
        "leaves": 557,
        "first_difference": None,
        "against": [],
    }


def test_sound_copy_of_a_frozen_chain(typed: Typed, tmp_path: Path) -> None:
    """Evidence that proves two histories is no difference."""
    state = make_peer(tmp_path / "peer", *forked())
    assert typed("peer", "audit", "--state", state, "--json").json["first_difference"] is None


def test_every_incarnation_is_audited(typed: Typed, tmp_path: Path) -> None:
    """Blocks, words and certificates of each incarnation are checked, and a difference names the one that it is in."""
    table = seated(tmp_path)
    begin_again(table)
    table.certify(table.propose(b"leaf 0"), 1)
    state = leave(table, "a", tmp_path / "state")
    record = typed("peer", "audit", "--state", state, "--json").json
    found = [(each["incarnation"], each["blocks"], each["certified"]) for each in record["chains"]]
    assert found == [(0, 1, 1), (1, 1, 1)]
    damage(state, "DELETE FROM word WHERE incarnation = 1")
    result = typed("peer", "audit", "--state", state)
    assert result.code == 1
    assert result.err == (
        f"iomt: chain {CHAIN}, incarnation 1, height 1: nothing shows that incarnation 1 was opened\n"
    )


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
        ("INSERT INTO tile VALUES ('ward-3.1f0a9c21', 0, 7, 7, x'00')", 4),
        ("INSERT INTO tile VALUES ('ward-3.1f0a9c21', 0, 'top', 7, x'00')", 4),
        ("INSERT INTO word VALUES ('ward-3.1f0a9c21', 0, 0, 'cause', x'00')", 4),
        ("INSERT INTO word VALUES ('ward-3.1f0a9c21', 0, 0, 'causes', x'00')", 4),
        ("INSERT INTO certificate VALUES ('ward-3.1f0a9c21', 0, 9, x'00', x'00')", 4),
        ("INSERT INTO certificate VALUES ('ward-3.1f0a9c21', 0, 2, NULL, x'00')", 2),
        ("INSERT INTO certificate VALUES ('ward-3.1f0a9c21', 0, 2, NULL, x'80')", 2),
    ],
)
def test_first_difference_is_named(typed: Typed, state: Path, sql: str, height: int) -> None:
    """Whatever was changed on the disk ends with 1, chain and height on stderr, all of it in the JSON."""
    damage(state, sql)
    result = typed("peer", "audit", "--state", state, "--json")
    assert result.code == 1
    assert result.err.startswith(f"iomt: chain {CHAIN}, incarnation 0, height {height}: ")
    first = result.json["first_difference"]
    assert (first["chain"], first["incarnation"], first["height"]) == (CHAIN, 0, height)
    assert first["what"] in result.err
    assert "NOT sound" in typed("peer", "audit", "--state", state).out


def test_stray_rows_of_another_chain_are_found(typed: Typed, state: Path) -> None:
    """What is kept of a chain that nobody writes is a difference of that chain, and of no other."""
    damage(state, "INSERT INTO tile VALUES ('stray', 0, 0, 0, x'00')")
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
    assert result.err == f"iomt: chain {CHAIN}, incarnation 0, height 2: its gateway signed another block for {other}\n"
    assert "  first differs at height 2; its gateway signed both:\n" in result.out
    assert f"  {proposals[0]} here\n  {proposals[1]} there\n" in result.out
    (record,) = typed("peer", "audit", "--state", state, "--against", other, "--json").json["against"]
    assert (record["differs_at"], record["proposals"]) == (2, proposals)


def test_copies_are_compared_incarnation_by_incarnation(typed: Typed, tmp_path: Path) -> None:
    """Of each incarnation it is said how far both copies go, also of one that only one of them has."""
    table = seated(tmp_path)
    table.away.add("a")
    begin_again(table)
    table.certify(table.propose(b"leaf 0"), 1)
    here, there = leave(table, "a", tmp_path / "here"), leave(table, "b", tmp_path / "there")
    records = typed("peer", "audit", "--state", here, "--against", there, "--json").json["against"]
    found = [(each["incarnation"], each["blocks_here"], each["blocks_there"]) for each in records]
    assert found == [(0, 1, 1), (1, 0, 1)]
    out = typed("peer", "audit", "--state", here, "--against", there, "--chain", CHAIN).out
    assert f"chain {CHAIN}, incarnation 1, against {there}:\n  this copy is behind by 1 block\n" in out


def test_damaged_copy_of_another_accuses_nobody(typed: Typed, state: Path, tmp_path: Path) -> None:
    """Another's copy that a disk changed is said to be that, not to be a second history."""
    other = make_peer(tmp_path / "other", chain_of(*LEAVES), name="peer-1")
    damage(other, FLIPPED_PROPOSAL)
    result = typed("peer", "audit", "--state", state, "--chain", CHAIN, "--against", other)
    assert result.code == 1
    assert result.err.startswith(f"iomt: chain {CHAIN}, incarnation 0, against {other}: there: block 2: ")
    assert "  cannot be compared to the end\n" in result.out


def test_copies_are_only_read(typed: Typed, state: Path, tmp_path: Path) -> None:
    """Neither copy is changed by being checked."""
    other = make_peer(tmp_path / "other", chain_of(*LEAVES, branch=1), name="peer-1")
    files = [state / "ledger.db", other / "ledger.db"]
    before = [file.read_bytes() for file in files]
    typed("peer", "audit", "--state", state, "--against", other)
    assert [file.read_bytes() for file in files] == before
