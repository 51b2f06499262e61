import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cbor2
import pytest

from gateway import cbor, merkle
from gateway.errors import VerificationError
from gateway.ledger.receipt import make_receipt, make_transparent, verify_transparent
from gateway.ledger.voting import cast_vote, sign_block
from tests.builders import DEVICE, GATEWAY, VOTED_S, alone, key_of, keys_of, make_roster, ward_chain
from tests.epochs import receipts_of

FOLDER = Path(__file__).parent / "oracles"
ENVIRONMENT = Path(__file__).parents[1] / ".venv" / "oracles"
ORACLES = ["cwt", "scitt-cose"]

PEERS = [peer.id for peer in make_roster().peers]
WARD = ward_chain(12)
INDEX, ENROLLED = 7, 1
LEAF = WARD.leaves[INDEX]
BLOCK = WARD.block_of(INDEX)
PATH = merkle.inclusion_path(WARD.hashes(), INDEX)

Answer = dict[str, str | None]


@dataclass(frozen=True)
class Oracles:
    """The foreign implementations, in their own process."""

    python: Path

    def ask(self, cases: Iterable[dict[str, Any]]) -> list[Answer]:
        """Give for each case what each oracle says: why it refuses, or None."""
        asked = json.dumps(list(cases))
        command = [str(self.python), str(FOLDER / "verify.py")]
        done = subprocess.run(command, input=asked, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stderr
        answers: list[Answer] = json.loads(done.stdout)
        return answers


@pytest.fixture(scope="module")
def oracles() -> Oracles:
    """Make the oracles' environment, once; where the package index cannot be reached, skip and say so."""
    wanted = (FOLDER / "requirements.txt").read_text()
    made, python = ENVIRONMENT / "made-from.txt", ENVIRONMENT / "bin" / "python"
    if not made.exists() or made.read_text() != wanted:
        shutil.rmtree(ENVIRONMENT, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(ENVIRONMENT)], check=True, timeout=120)
        install = [str(python), "-m", "pip", "install", "--quiet", "--retries", "1", "--timeout", "20"]
        done = subprocess.run(
            [*install, "-r", str(FOLDER / "requirements.txt")], capture_output=True, text=True, check=False, timeout=600
        )
        if done.returncode != 0 and "connection broken" in done.stderr:
            pytest.skip("cwt and scitt-cose are not installed and the package index cannot be reached")
        assert done.returncode == 0, done.stderr
        made.write_text(wanted)
    return Oracles(python)


def statement(message: bytes, signer: str) -> dict[str, Any]:
    return {"what": "statement", "message": message.hex(), "key": key_of(signer).public_key.hex()}


def receipt(message: bytes, peer: str = "peer-0", leaf: bytes = LEAF) -> dict[str, Any]:
    return {"what": "receipt", "message": message.hex(), "key": key_of(peer).public_key.hex(), "leaf": leaf.hex()}


def flipped(data: bytes, place: int) -> bytes:
    changed = bytearray(data)
    changed[place] ^= 1
    return bytes(changed)


def sound_receipt(peer: str = "peer-0", index: int = INDEX) -> bytes:
    return WARD.receipts(index, [peer])[0]


def with_path(path: list[bytes], index: int = INDEX, size: int = BLOCK.size) -> bytes:
    return make_receipt(cast_vote(keys_of("peer-0"), "peer-0", 1, BLOCK, VOTED_S), index, size, path)


def test_our_statements_are_accepted(oracles: Oracles) -> None:
    """A reading, an event, a block and a transparent reading as it stands: each verifies under its signer's key."""
    cases = [
        statement(LEAF, DEVICE),
        statement(WARD.leaves[ENROLLED], GATEWAY),
        statement(sign_block(keys_of(GATEWAY), GATEWAY, BLOCK), GATEWAY),
        statement(WARD.transparent_reading(INDEX, ENROLLED, PEERS), DEVICE),
    ]
    assert oracles.ask(cases) == [dict.fromkeys(ORACLES)] * len(cases)


def test_every_receipt_of_every_leaf_is_accepted(oracles: Oracles) -> None:
    """Each peer's receipt proves each leaf of the chain, from genesis to the last, to each oracle."""
    cases = [
        receipt(sound_receipt(peer, index), peer, WARD.leaves[index])
        for index in range(len(WARD.leaves))
        for peer in PEERS
    ]
    assert oracles.ask(cases) == [dict.fromkeys(ORACLES)] * len(cases)


def test_receipts_are_found_where_rfc_9942_puts_them(oracles: Oracles) -> None:
    """scitt-cose finds in 394 one receipt by each peer, and each holds for the leaf."""
    transparent = {
        "what": "transparent",
        "message": WARD.transparent_reading(INDEX, ENROLLED, PEERS).hex(),
        "keys": [key_of(peer).public_key.hex() for peer in PEERS],
        "leaf": LEAF.hex(),
    }
    assert oracles.ask([transparent]) == [dict.fromkeys(ORACLES)] * len(PEERS)


def test_first_receipts_of_a_post_quantum_reading_are_accepted(oracles: Oracles) -> None:
    """Where a peer's vote is two receipts, the one with Ed25519 is a receipt to those who know no ML-DSA."""
    receipts = receipts_of(WARD, INDEX, PEERS, epoch=2, second=True)
    cases = [receipt(message, peer) for message, peer in zip(receipts[::2], PEERS, strict=True)]
    assert oracles.ask(cases) == [dict.fromkeys(ORACLES)] * len(cases)
    answers = oracles.ask(receipt(message, peer) for message, peer in zip(receipts[1::2], PEERS, strict=True))
    assert all(answer[oracle] is not None for answer in answers for oracle in ORACLES)


REFUSED: dict[str, Callable[[], dict[str, Any]]] = {
    "signature": lambda: statement(flipped(LEAF, -1), DEVICE),
    "payload": lambda: statement(flipped(LEAF, len(LEAF) - 80), DEVICE),
    "header": lambda: statement(LEAF.replace(DEVICE.encode(), b"strap-2"), DEVICE),
    "foreign key": lambda: statement(LEAF, "mallory"),
    "truncated": lambda: statement(LEAF[:-1], DEVICE),
    "receipt: signature": lambda: receipt(flipped(sound_receipt(), -1)),
    "receipt: foreign key": lambda: receipt(sound_receipt(), "mallory"),
    "receipt: path": lambda: receipt(with_path([*PATH[:-1], bytes(32)])),
    "receipt: shorter path": lambda: receipt(with_path(PATH[:-1])),
    "receipt: longer path": lambda: receipt(with_path([*PATH, bytes(32)])),
    "receipt: path of another leaf": lambda: receipt(with_path(merkle.inclusion_path(WARD.hashes(), INDEX + 1))),
    "receipt: another leaf": lambda: receipt(sound_receipt(), leaf=WARD.leaves[INDEX + 1]),
    "receipt: restated index": lambda: receipt(with_path(PATH, index=INDEX - 1)),
    "receipt: changed leaf": lambda: receipt(sound_receipt(), leaf=flipped(LEAF, len(LEAF) - 80)),
    "receipt: leaf with its receipts": lambda: receipt(
        sound_receipt(), leaf=WARD.transparent_reading(INDEX, ENROLLED, PEERS)
    ),
}


def test_what_was_tampered_with_is_refused(oracles: Oracles) -> None:
    """Flipped signature, payload, header, key, path, index and leaf: no oracle accepts any."""
    answers = dict(zip(REFUSED, oracles.ask(case() for case in REFUSED.values()), strict=True))
    accepted = [(name, oracle) for name, answer in answers.items() for oracle in ORACLES if answer[oracle] is None]
    assert accepted == []


def test_every_flipped_byte_of_leaf_and_receipt_is_refused(oracles: Oracles) -> None:
    """Whichever byte changes, both oracles refuse the leaf, and the receipt, but for the tree size in its proof."""
    proof = sound_receipt()
    size_at = proof.index(cbor.encode([BLOCK.size, INDEX, PATH])) + 1
    places = [place for place in range(len(proof)) if place != size_at]
    cases = [statement(flipped(LEAF, place), DEVICE) for place in range(len(LEAF))]
    cases += [receipt(flipped(proof, place)) for place in places]
    answers = oracles.ask(cases)
    accepted = [(number, name) for number, answer in enumerate(answers) for name in ORACLES if answer[name] is None]
    assert accepted == []


def test_fault_20_a_restated_size_passes_them_and_not_us(oracles: Oracles) -> None:
    """RFC 9942 leaves the tree size unsigned, and leaf 7 of 14 has the path of leaf 7 of 15: -70001 refuses it here."""
    restated = with_path(PATH, size=BLOCK.size + 1)
    assert oracles.ask([receipt(restated)]) == [dict.fromkeys(ORACLES)]
    receipts = [restated, *WARD.receipts(INDEX, PEERS[1:])]
    file = make_transparent(LEAF, receipts, WARD.transparent_event(ENROLLED, PEERS))
    with pytest.raises(VerificationError, match="restates the tree's size: signed 14, proof 15"):
        verify_transparent(file, alone(make_roster()))


def test_our_bytes_are_what_cbor2_makes_of_their_parts() -> None:
    """The transparent reading is deterministic CBOR to the library too: decoded and encoded, the same bytes."""
    data = WARD.transparent_reading(INDEX, ENROLLED, PEERS)
    assert cbor2.dumps(cbor2.loads(data)) == data
