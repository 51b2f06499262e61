import re
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway import signing
from gateway.ledger.receipt import make_receipt, make_transparent
from gateway.ledger.voting import cast_vote
from tests.builders import DEVICE, VOTED_S, key_of, make_roster, ward_chain
from tests.commands import Typed, state, typed
from tests.states import PEERS

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
    votes = [cast_vote(key_of(peer), peer, 1, chain.block_of(4), VOTED_S) for peer in PEERS]
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
    "votes of another epoch": (certified_by(*PEERS, epoch=2), "is of roster epoch 2, this roster's is 1"),
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
        (lambda _: make_roster(5).signed, 1, "is of another ledger|not by the roster's|are needed|not on the roster"),
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
