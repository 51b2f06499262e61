"""The demonstration, run as a user would, and what it leaves checked with nothing of ours."""

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

DEMO = (sys.executable, "-m", "gateway", "demo")
LIMIT_S = 90


@pytest.fixture(scope="module")
def demonstrated(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """Run `iomt demo --json` once; give its object and its state folder."""
    state = tmp_path_factory.mktemp("demo") / "state"
    done = subprocess.run([*DEMO, "--json", "--state", state], capture_output=True, timeout=LIMIT_S, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout), state


def processes_under(folder: Path) -> list[str]:
    """Give the command lines of processes that name the folder."""
    lines = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            try:
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            if str(folder) in command:
                lines.append(command)
    return lines


def verify_sign1(public_key: str, message: Any, payload: bytes) -> dict[int, Any]:  # noqa: ANN401 - CBOR
    """Check a COSE_Sign1 by RFC 9052 alone and give its protected header."""
    protected, _, _, signature = message.value
    signed = cbor2.dumps(["Signature1", protected, b"", payload])
    Ed25519PublicKey.from_public_bytes(bytes.fromhex(public_key)).verify(signature, signed)
    header: dict[int, Any] = cbor2.loads(protected)
    return header


def climb(leaf: bytes, size: int, index: int, path: tuple[bytes, ...]) -> bytes:
    """Give the root that a path leads to, by RFC 9162 2.1.3.2 written out for this test."""
    node, at, last = leaf, index, size - 1
    for sibling in path:
        if at % 2 or at == last:
            node = hashlib.sha256(b"\1" + sibling + node).digest()
            while at % 2 == 0:
                at, last = at // 2, last // 2
        else:
            node = hashlib.sha256(b"\1" + node + sibling).digest()
        at, last = at // 2, last // 2
    return node


def test_the_object_says_that_all_was_so(demonstrated: tuple[dict[str, Any], Path]) -> None:
    """One JSON object: nothing lost, blocks certified, the peer caught up, the forgery refused, in under a minute."""
    result, _ = demonstrated
    assert result["lost"] == 0
    assert result["verified"] is result["tamper_detected"] is result["caught_up"] is True
    assert result["certified_blocks"] >= 5
    assert result["blocks"] >= result["certified_blocks"]
    assert (result["devices"], result["peers"], result["quorum"]) == (3, 4, 3)
    assert result["readings"] >= 9
    assert result["seconds"] < 60


def test_what_it_leaves_holds_for_foreign_eyes(demonstrated: tuple[dict[str, Any], Path]) -> None:
    """reading.cose, ledger.json and device.json are a proof for whoever has cbor2, SHA-256 and Ed25519."""
    _, state = demonstrated
    ledger = json.loads((state / "ledger.json").read_text())
    device = json.loads((state / "device.json").read_text())
    statement = cbor2.loads((state / "reading.cose").read_bytes())
    protected, unprotected, payload, signature = statement.value
    header = verify_sign1(device["public_key"], statement, payload)
    assert header[15][1] == device["id"]
    assert header[15][2] == ledger["gateways"][0]["chain"]
    bare = cbor2.dumps(cbor2.CBORTag(18, [protected, {}, payload, signature]))
    leaf = hashlib.sha256(b"\0" + bare).digest()
    keys = {peer["id"]: peer["public_key"] for peer in ledger["peers"]}
    voters = set()
    for receipt in unprotected[394]:
        message = cbor2.loads(receipt)
        size, index, path = cbor2.loads(message.value[1][396][-1][0])
        peer = cbor2.loads(message.value[0])[15][1]
        vote = verify_sign1(keys[peer], message, climb(leaf, size, index, path))
        assert vote[-70001][0] == ledger["epoch"]
        assert vote[-70001][4] == size
        voters.add(peer)
    assert len(voters) >= ledger["quorum"]


def test_nothing_is_left_running(demonstrated: tuple[dict[str, Any], Path]) -> None:
    """After it has ended, no process of it runs."""
    _, state = demonstrated
    assert processes_under(state) == []


@pytest.fixture
def interrupted(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Start the demonstration, for a test that ends it early."""
    with subprocess.Popen([*DEMO, "--state", tmp_path / "state"], stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupting_it_leaves_no_process_behind(
    interrupted: subprocess.Popen[str], tmp_path: Path, number: signal.Signals
) -> None:
    """Ctrl-C and SIGTERM in the middle stop every part before the command itself ends."""
    assert interrupted.stdout is not None
    for line in interrupted.stdout:
        if "peers and gateway started" in line:
            break
    interrupted.send_signal(number)
    assert interrupted.wait(LIMIT_S) == 130
    assert processes_under(tmp_path) == []


def test_a_folder_in_use_is_refused(tmp_path: Path) -> None:
    """A state folder with something in it is left as it is: exit code 2."""
    (tmp_path / "thesis.tex").write_text("years of work")
    done = subprocess.run([*DEMO, "--state", tmp_path], capture_output=True, timeout=LIMIT_S, check=False)
    assert done.returncode == 2
    assert b"not empty" in done.stderr
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.tex"]
