import re
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway import signing
from gateway.io.store.readings import ReadingStore
from gateway.ledger.evidence import encode_evidence
from gateway.ledger.receipt import make_receipt, make_transparent
from gateway.ledger.voting import cast_vote
from tests.builders import DEVICE, GATEWAY, VOTED_S, Chain, alone, key_of, keys_of, make_roster, ward_chain
from tests.commands import Typed, state, typed
from tests.epochs import epochs, post_quantum, receipts_of
from tests.states import PEERS, keep

__all__ = ["state", "typed"]  # fixtures


def changed(data: bytes) -> bytes:
    return data.replace(b"/min", b"/max", 1)


def other_path(data: bytes) -> bytes:
    """Give leaf 3 with the receipts of leaf 4."""
    del data
    chain = ward_chain()
    return make_transparent(chain.leaves[3], chain.receipts(4, PEERS), chain.transparent_event(1, PEERS))


def restated(data: bytes) -> bytes:
    """Give leaf 4 as if the tree had been one leaf larger."""
    del data
    chain = ward_chain()
    votes = [cast_vote(keys_of(peer), peer, 1, chain.block_of(4), VOTED_S) for peer in PEERS]
    receipts = [make_receipt(vote, 4, 8, [bytes(32)] * 3) for vote in votes]
    return make_transparent(chain.leaves[4], receipts, chain.transparent_event(1, PEERS))


def certified_by(*peers: str, epoch: int = 1) -> Callable[[bytes], bytes]:
    return lambda _: ward_chain().transparent_reading(4, 1, peers, epoch)


def signed_by_another(data: bytes) -> bytes:
    """Give leaf 4 signed with a key that was never enrolled."""
    del data
    chain = ward_chain()
    message = signing.parse(chain.leaves[4])
    forged = signing.sign(key_of("forger"), message.protected, message.payload or b"")
    return make_transparent(forged, chain.receipts(4, PEERS), chain.transparent_event(1, PEERS))


REFUSALS: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "changed byte": (changed, "the reading: the signature by key .* does not hold"),
    "foreign key": (signed_by_another, "the reading: the signature by key .* does not hold"),
    "path of another leaf": (other_path, "does not prove this leaf"),
    "restated tree size": (restated, "restates the tree's size: signed 7, proof 8"),
    "votes below quorum": (certified_by("peer-0", "peer-1"), "2 of 4 have voted, 3 are needed"),
    "votes of another epoch": (certified_by(*PEERS, epoch=2), "roster epoch 2 is not known; the latest that is, is 1"),
    "unknown peer": (certified_by("peer-0", "peer-1", "stranger"), "peer 'stranger' is not on the roster"),
    "truncated file": (lambda data: data[:-1], "not CBOR"),
    "empty file": (lambda _: b"", "not CBOR"),
    "longer file": (lambda data: data + b"\x00", "bytes follow it"),
    "another message": (lambda _: ward_chain().proposals[0].signed, "neither a reading nor an event"),
}


@pytest.mark.parametrize("what", REFUSALS)
def test_forged_or_damaged_proof_is_refused(typed: Typed, state: Path, tmp_path: Path, what: str) -> None:
    """What does not hold is refused with code 1 and one line that names the file and says what is wrong."""
    file, roster = tmp_path / "reading.cose", state / "roster.cose"
    typed("export", "--state", state, "--device", DEVICE, "-o", file)
    forge, reason = REFUSALS[what]
    file.write_bytes(forge(file.read_bytes()))
    result = typed("verify", file, "--roster", roster)
    assert (result.code, result.out, result.err.count("\n")) == (1, "", 1)
    assert result.err.startswith(f"iomt: {file} is refused: ")
    assert re.search(reason, result.err)
    as_json = typed("verify", file, "--roster", roster, "--json")
    assert (as_json.code, as_json.err) == (1, "")
    assert (as_json.json["verified"], f"iomt: {file} is refused: {as_json.json['reason']}\n") == (False, result.err)


@pytest.mark.parametrize(
    ("damage", "code", "reason"),
    [
        (
            lambda _: alone(make_roster(5)).encode(),
            1,
            "is of another ledger|not by the roster's|are needed|not on the roster",
        ),
        (lambda roster: roster[:-1] + bytes((roster[-1] ^ 1,)), 1, "signature by key .* does not hold"),
        (lambda roster: roster[:9], 1, "not CBOR"),
    ],
    ids=["another ledger's", "changed", "truncated"],
)
def test_roster_that_does_not_hold_is_refused(
    typed: Typed, state: Path, tmp_path: Path, damage: Callable[[bytes], bytes], code: int, reason: str
) -> None:
    """A proof is worth what its roster is: one that is damaged, or names other peers, proves nothing."""
    file, roster = tmp_path / "reading.cose", state / "roster.cose"
    typed("export", "--state", state, "--device", DEVICE, "-o", file)
    roster.write_bytes(damage(roster.read_bytes()))
    result = typed("verify", file, "--roster", roster)
    assert (result.code, result.out, result.err.count("\n")) == (code, "", 1)
    assert re.search(reason, result.err)


def test_missing_files_are_named(typed: Typed, state: Path, tmp_path: Path) -> None:
    """A proof or a roster that is not there is a mistake of whoever typed the command: code 2, and the name."""
    result = typed("verify", tmp_path / "none", "--roster", state / "roster.cose")
    assert (result.code, result.err) == (2, f"iomt: {tmp_path / 'none'}: No such file or directory\n")
    result = typed("verify", state / "roster.cose", "--roster", tmp_path / "none")
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith(f"iomt: {tmp_path / 'none'}: there is no roster here")


# -- what is shown


def test_epoch_incarnation_and_time_of_sealing_are_shown(typed: Typed, state: Path, tmp_path: Path) -> None:
    """Whoever verifies is told when the block was sealed, in which incarnation and roster epoch, signed how."""
    file, roster = tmp_path / "reading.cose", state / "roster.cose"
    typed("export", "--state", state, "--device", DEVICE, "-o", file)
    found = typed("verify", file, "--roster", roster, "--json").json
    assert (found["incarnation"], found["epoch"], found["post_quantum"]) == (0, 1, False)
    assert found["sealed_ms"] == ward_chain().block_of(4).sealed_ms
    told = typed("verify", file, "--roster", roster).out
    assert "sealed      2025-11-24 16:00:00.000 UTC, in incarnation 0\n" in told
    assert "quorum      3 of 4 peers, epoch 1\n" in told
    assert told.endswith("signatures  Ed25519\n")


def test_verify_reading_is_the_same(typed: Typed, state: Path, tmp_path: Path) -> None:
    """A file is taken for a reading where no other command is named, wherever its options stand."""
    file, roster = tmp_path / "reading.cose", state / "roster.cose"
    typed("export", "--state", state, "--device", DEVICE, "-o", file)
    short = typed("verify", file, "--roster", roster)
    assert short == typed("verify", "reading", file, "--roster", roster) == typed("verify", "--roster", roster, file)
    assert short.code == 0


def test_nothing_to_verify_is_wrong_usage(typed: Typed) -> None:
    """Without a file it is said that there is none."""
    result = typed("verify")
    assert (result.code, result.out) == (2, "")
    assert "Missing argument 'FILE'" in result.err


# -- post-quantum


def proof_in(epoch: int) -> bytes:
    """Give a reading that was certified in epoch 1, plain, or epoch 2, post-quantum."""
    chain, second = ward_chain(), epoch == 2
    enrolled = make_transparent(chain.leaves[1], receipts_of(chain, 1, epoch=epoch, second=second), None)
    return make_transparent(chain.leaves[4], receipts_of(chain, 4, epoch=epoch, second=second), enrolled)


def test_policy_pq_refuses_what_one_broken_algorithm_would_forge(typed: Typed, tmp_path: Path) -> None:
    """A reading of a post-quantum epoch passes and says so; one of the epoch before holds, and not by --policy pq."""
    file, roster = tmp_path / "reading.cose", tmp_path / "roster.cose"
    roster.write_bytes(epochs(post_quantum).encode())
    file.write_bytes(proof_in(2))
    told = typed("verify", file, "--roster", roster, "--policy", "pq")
    assert (told.code, told.err) == (0, "")
    assert "quorum      4 of 4 peers, epoch 2\n" in told.out
    assert told.out.endswith("signatures  Ed25519 and ML-DSA-44\n")
    file.write_bytes(proof_in(1))
    assert typed("verify", file, "--roster", roster, "--json").json["post_quantum"] is False
    refused = typed("verify", file, "--roster", roster, "--policy", "pq")
    assert (refused.code, refused.out, refused.err.count("\n")) == (1, "", 1)
    assert "is refused: not every vote has a second signature (ML-DSA-44): roster epoch 1" in refused.err


# -- evidence


def forked() -> tuple[bytes, bytes]:
    """Give two proposals of block 1 that the gateway signed."""
    chain, fork = ward_chain(), Chain()
    fork.seal(*chain.leaves[:2])
    return chain.proposals[1].signed, fork.seal(*chain.leaves[2:5]).signed


def test_evidence_says_in_words_who_did_what(typed: Typed, state: Path, tmp_path: Path) -> None:
    """Two signed histories: which gateway, chain, incarnation and blocks, when they were sealed, and why not both."""
    file, roster, pair = tmp_path / "evidence.cbor", state / "roster.cose", forked()
    file.write_bytes(encode_evidence(*pair))
    told = typed("verify", "evidence", file, "--roster", roster)
    assert (told.code, told.err) == (0, "")
    shown = [
        f"proved                    gateway {GATEWAY} of {GATEWAY}.example signed two histories",
        "chain                     ward-3.1f0a9c21, incarnation 0",
        "why                       two blocks at height 1",
    ]
    lines = told.out.splitlines()
    assert lines[:3] == shown
    for line, signed, leaves in zip(lines[3:], pair, ("[2, 7)", "[2, 5)"), strict=True):
        assert line.startswith(f"proposal {signing.fingerprint(signed)} block 1, leaves {leaves}, root ")
        assert line.endswith(", sealed 2025-11-24 16:00:00.000 UTC")
    found = typed("verify", "evidence", file, "--roster", roster, "--json").json
    assert (found["verified"], found["gateway"], found["chain"]) == (True, GATEWAY, "ward-3.1f0a9c21")
    assert (found["incarnation"], found["contradiction"]) == (0, "two blocks at height 1")
    assert [each["proposal"] for each in found["proposals"]] == [signing.fingerprint(signed) for signed in pair]
    assert [each["size"] for each in found["proposals"]] == [7, 5]


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda one, _: encode_evidence(one, one), "blocks 1 and 1 do not contradict each other"),
        (lambda one, other: encode_evidence(one, other[:-1] + bytes([other[-1] ^ 1])), "does not hold"),
        (lambda one, _: one, "not evidence"),
        (lambda one, _: encode_evidence(one, b""), "not CBOR"),
        (lambda _, other: encode_evidence(ward_chain().leaves[0], other), "not a block"),
    ],
    ids=["one block", "forged", "one proposal", "nothing", "a leaf"],
)
def test_evidence_that_proves_nothing_is_refused(
    typed: Typed, state: Path, tmp_path: Path, make: Callable[[bytes, bytes], bytes], reason: str
) -> None:
    """Code 1 and one line that says why, and the same in JSON."""
    file, roster = tmp_path / "evidence.cbor", state / "roster.cose"
    file.write_bytes(make(*forked()))
    result = typed("verify", "evidence", file, "--roster", roster)
    assert (result.code, result.out, result.err.count("\n")) == (1, "", 1)
    assert result.err.startswith(f"iomt: {file} is refused: ")
    assert reason in result.err
    as_json = typed("verify", "evidence", file, "--roster", roster, "--json")
    assert (as_json.code, as_json.json["verified"]) == (1, False)


# -- earlier incarnations


def test_what_an_earlier_incarnation_certified_is_exported_too(typed: Typed, state: Path, tmp_path: Path) -> None:
    """Readings that stayed in the store of an incarnation before are found there; what is nowhere is said as before."""
    for incarnation in (0, 1):
        (state / "readings.db").rename(state / f"incarnation-{incarnation}.db")
        store = ReadingStore(str(state / "readings.db"))
        if incarnation == 0:
            keep(store, ward_chain(2))
        store.close()
    file, roster = tmp_path / "reading.cose", state / "roster.cose"
    latest = typed("export", "--state", state, "--device", DEVICE, "-o", file, "--json").json
    assert latest["sequence"] == 2
    assert typed("verify", file, "--roster", roster).code == 0
    assert typed("export", "--state", state, "--device", DEVICE, "--number", 5, "-o", file).code == 0
    assert typed("verify", file, "--roster", roster, "--json").json["entry"]["sequence"] == 5
    result = typed("export", "--state", state, "--device", DEVICE, "--number", 6, "-o", file)
    assert (result.code, result.err) == (2, f"iomt: there is no reading 6 of {DEVICE} here\n")
