import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from gateway import signing
from gateway.block import Head
from gateway.io.keyring import write_secret
from gateway.io.store.chains import ChainStore
from gateway.io.store.readings import ReadingStore
from gateway.ledger.book import Changes
from gateway.ledger.checkpoint import gateway_key, parse_checkpoint, parse_note, verify_line
from gateway.ledger.closing import sign_recovery
from gateway.ledger.messages import encode_freezes
from gateway.ledger.standing import Word
from gateway.ledger.voting import cast_vote, sign_block
from gateway.model import Roster
from tests.builders import (
    CHAIN,
    GATEWAY,
    MASTER,
    VOTED_S,
    Chain,
    alone,
    make_reading,
    make_roster,
    reading_leaf,
    signed_again,
    ward_chain,
)
from tests.commands import Typed, typed
from tests.ledgers import recovery_key
from tests.states import make_state

__all__ = ["typed"]  # fixture

GATEWAY_KEYS = signing.Keys(signing.derive_key(MASTER, "gateway", GATEWAY))


def peer_secret(peer: str) -> bytes:
    return f"the master secret of {peer}".encode().ljust(32, b".")


def peer_signer(peer: str) -> signing.Key:
    return signing.derive_key(peer_secret(peer), "peer", peer)


def roster_of() -> Roster:
    """Give a roster whose keys are those that the folders' own secrets make."""
    roster = make_roster()
    peers = tuple(replace(peer, public_key=peer_signer(peer.id).public_key) for peer in roster.peers)
    gateways = tuple(replace(gateway, public_key=GATEWAY_KEYS.first.public_key) for gateway in roster.gateways)
    return signed_again(replace(roster, peers=peers, gateways=gateways))


ROSTER = roster_of()


def signed_by_gateway(chain: Chain) -> Chain:
    """Give a chain whose blocks are signed with the key of the gateway's folder."""
    chain.proposals = [
        replace(proposal, signed=sign_block(GATEWAY_KEYS, GATEWAY, proposal.block)) for proposal in chain.proposals
    ]
    return chain


def longer(chain: Chain) -> Chain:
    """Give the chain with a third block."""
    fork = chain.fork()
    fork.seal(reading_leaf(make_reading(6, 66)))
    return signed_by_gateway(fork)


@pytest.fixture
def chain() -> Chain:
    return signed_by_gateway(ward_chain())


@pytest.fixture
def ward(tmp_path: Path, chain: Chain) -> Path:
    """Give a gateway's folder with two certified blocks."""
    return make_state(tmp_path / "ward", chain, ROSTER)


MakePeer = Callable[..., Path]


@pytest.fixture
def make_peer(tmp_path: Path, chain: Chain) -> MakePeer:
    """Give a function that makes a peer's folder, with what it voted for and what it holds against a gateway."""

    def make(name: str, voted: Chain = chain, cause: Sequence[bytes] = ()) -> Path:
        state = tmp_path / name
        state.mkdir()
        config = f'id = "{name}"\nbroker = "mqtt://127.0.0.1:1"\nroster = "roster.cose"\n'
        (state / "peer.toml").write_text(config)
        (state / "roster.cose").write_bytes(alone(ROSTER).encode())
        write_secret(state / "master.key", peer_secret(name))
        store = ChainStore(str(state / "ledger.db"))
        for proposal in voted.proposals:
            vote = cast_vote(signing.Keys(peer_signer(name)), name, 1, proposal.block, VOTED_S + proposal.block.height)
            block = proposal.block
            store.commit(Changes(votes={(CHAIN, block.incarnation, block.height): (proposal, vote)}))
        if cause:
            store.commit(Changes(words={(CHAIN, 0, 0, Word.CAUSE): encode_freezes((), cause)}))
        store.close()
        return state

    return make


SIGN = ("ledger", "checkpoint", "sign")
VERIFY = ("ledger", "checkpoint", "verify")


def test_note_that_goes_from_hand_to_hand_verifies(
    typed: Typed, ward: Path, make_peer: MakePeer, tmp_path: Path
) -> None:
    """A gateway signs its head, three peers add theirs, and the roster alone shows that a quorum cosigned, and when."""
    note, roster = tmp_path / "note", ward / "roster.cose"
    result = typed(*SIGN, "--state", ward, "-o", note)
    assert result.out == f"checkpoint of 7 leaves of {ROSTER.ledger}/{CHAIN}, signatures: 1, {note}\n"
    before = int(time.time())
    for name in ("peer-0", "peer-1"):
        assert typed(*SIGN, "--state", make_peer(name), "--add", note, "-o", note).code == 0
    refused = typed(*VERIFY, note, "--roster", roster)
    reason = "2 of 4 have cosigned, 3 are needed"
    assert (refused.code, refused.out, refused.err) == (1, "", f"iomt: {note} is refused: {reason}\n")
    assert typed(*VERIFY, note, "--roster", roster, "--json").json == {
        "verified": False,
        "file": str(note),
        "reason": reason,
    }
    note.write_text(typed(*SIGN, "--state", make_peer("peer-2"), "--add", note).out)
    found = typed(*VERIFY, note, "--roster", roster, "--json").json
    assert (found["verified"], found["size"], found["gateway"], found["ignored"]) == (True, 7, GATEWAY, 0)
    assert found["epoch"] == 1
    assert [signed["peer"] for signed in found["cosignatures"]] == ["peer-0", "peer-1", "peer-2"]
    assert all(before * 1000 <= signed["cosigned_ms"] <= time.time() * 1000 for signed in found["cosignatures"])
    told = typed(*VERIFY, note, "--roster", roster)
    assert told.code == 0
    assert told.out.startswith(f"verified    checkpoint of 7 leaves\norigin      {ROSTER.ledger}/{CHAIN}\n")
    assert "quorum      3 of 4 peers, epoch 1\nneeded      3 of peer-0, peer-1, peer-2, peer-3\n" in told.out
    assert "ignored" not in told.out


def test_note_alone_is_on_stdout(typed: Typed, ward: Path, chain: Chain) -> None:
    """Without -o stdout is the note, byte for byte, which --json has within."""
    plain = typed(*SIGN, "--state", ward)
    head = parse_checkpoint(parse_note(plain.out.encode()).text)
    assert (head.size, head.root) == (7, chain.proposals[-1].block.root)
    assert typed(*SIGN, "--state", ward, "--chain", CHAIN, "--json").json == {
        "origin": f"{ROSTER.ledger}/{CHAIN}",
        "size": 7,
        "root": head.root.hex(),
        "file": None,
        "note": plain.out,
    }


def test_gateway_signs_what_is_certified_alone(typed: Typed, ward: Path, chain: Chain) -> None:
    """A block that waits for votes is not signed; before the first certified one there is nothing to sign."""
    third = longer(chain).proposals[-1]
    store = ReadingStore(str(ward / "readings.db"))
    store.seal(third.block, third.signed, third.hashes)
    store.close()
    assert typed(*SIGN, "--state", ward, "--json").json["size"] == 7
    store = ReadingStore(str(ward / "readings.db"))
    store._database.connection.execute("UPDATE block SET certified = 0")
    store.close()
    result = typed(*SIGN, "--state", ward)
    assert (result.code, result.out) == (3, "")
    assert result.err == f"iomt: no block of chain {CHAIN} is certified yet\n"


@pytest.mark.parametrize("leaves", [2, 7])
def test_peer_that_has_gone_on_cosigns_what_it_voted_for(
    typed: Typed, make_peer: MakePeer, tmp_path: Path, chain: Chain, leaves: int
) -> None:
    """A head behind the peer's tip is cosigned as of the vote on it, when it was the largest that the peer had seen."""
    block = next(proposal.block for proposal in chain.proposals if proposal.block.size == leaves)
    note = tmp_path / "note"
    short = Chain(proposals=chain.proposals[: block.height + 1])
    note.write_text(typed(*SIGN, "--state", make_peer("peer-0", short)).out)
    state = make_peer("peer-1", longer(chain))
    assert typed(*SIGN, "--state", state, "--json").json["size"] == 8
    added = parse_note(typed(*SIGN, "--state", state, "--add", note).out.encode())
    assert parse_checkpoint(added.text).size == leaves
    assert int.from_bytes(added.signatures[1].signature[:8], "big") == VOTED_S + block.height


def test_gateway_adds_its_signature_to_what_peers_signed(
    typed: Typed, ward: Path, make_peer: MakePeer, tmp_path: Path, chain: Chain
) -> None:
    """A gateway signs an earlier head of its own, too; one that signs twice has one line."""
    note = tmp_path / "note"
    note.write_text(typed(*SIGN, "--state", make_peer("peer-0", Chain(proposals=chain.proposals[:1]))).out)
    for _ in range(2):
        assert typed(*SIGN, "--state", ward, "--add", note, "-o", note).code == 0
    found = parse_note(note.read_bytes())
    assert parse_checkpoint(found.text).size == 2
    assert [line.name for line in found.signatures] == [f"peer-0.{ROSTER.ledger}", f"{ROSTER.ledger}/{CHAIN}"]


def test_another_root_is_refused_and_both_are_named(
    typed: Typed, ward: Path, make_peer: MakePeer, tmp_path: Path, chain: Chain
) -> None:
    """No one signs a head that is not theirs: other root, other size, more lines, or a signature that does not hold."""
    note, sound = tmp_path / "note", typed(*SIGN, "--state", ward).out
    root, peer = chain.proposals[-1].block.root.hex(), make_peer("peer-0")
    other = sound.replace(sound.split("\n")[2], "A" * 43 + "=")
    extended = sound.replace("\n\n", "\nanything\n\n")
    longer_line = sound.replace("\n7\n", "\n9\n")
    damaged = sound[:-5] + "AAA=\n"
    for text, reasons in (
        (other, (f"7 leaves, root {'00' * 32}; here it is", f"7 leaves, root {root}")),
        (longer_line, ("9 leaves", "7 leaves")),
        (extended, ("lines after its root",)),
        (damaged, ("does not hold",)),
    ):
        note.write_text(text)
        for state in (ward, peer):
            result = typed(*SIGN, "--state", state, "--add", note, "-o", note)
            assert (result.code, result.out, result.err.count("\n")) == (1, "", 1)
            assert all(reason in result.err for reason in reasons)
            assert note.read_text() == text


def test_frozen_chain_is_not_cosigned(typed: Typed, make_peer: MakePeer, chain: Chain) -> None:
    """A peer with proof of two histories cosigns neither, nor one that its recovery key has closed."""
    two = (chain.proposals[1].signed, longer(chain).proposals[-1].signed)
    demand = (sign_recovery(recovery_key(), GATEWAY, CHAIN, 0),)
    for name, cause, why in (
        ("peer-0", two, "its gateway signed two histories"),
        ("peer-1", demand, "its recovery key demands it"),
    ):
        result = typed(*SIGN, "--state", make_peer(name, cause=cause))
        assert (result.code, result.out) == (1, "")
        assert result.err == f"iomt: chain {CHAIN} is frozen: {why}\n"


def test_what_cannot_be_signed_is_explained(typed: Typed, ward: Path, make_peer: MakePeer, tmp_path: Path) -> None:
    """A wrong chain, a peer that has not voted, a key that is not on the roster: a line and the code that fits."""
    peer, empty = make_peer("peer-0"), make_peer("peer-1", Chain())
    fresh, stranger = make_peer("peer-2"), make_peer("stranger")
    (fresh / "ledger.db").unlink()
    (tmp_path / "garbage").write_text("garbage")
    for arguments, code, reason in (
        ((ward, "--chain", "ward-9"), 2, f"allowed: {CHAIN}"),
        ((peer, "--chain", "ward-9"), 1, "no gateway on the roster writes chain 'ward-9'"),
        ((empty,), 3, f"this peer has voted for no block of chain {CHAIN} yet"),
        ((fresh,), 2, "nothing was kept here yet; iomt peer run starts it"),
        ((stranger,), 2, "peer stranger with this key is not on the roster"),
        ((ward, "--add", tmp_path / "garbage"), 1, "not a signed note"),
        ((tmp_path,), 2, "gateway.toml: No such file"),
    ):
        result = typed(*SIGN, "--state", *arguments)
        assert (result.code, result.out, result.err.count("\n")) == (code, "", 1)
        assert reason in result.err


def test_peer_of_many_gateways_is_told_which_chain(typed: Typed, make_peer: MakePeer) -> None:
    """Where there is more than one chain, the one that is meant has to be named."""
    second = replace(ROSTER.gateways[0], id="ward-4", chain="ward-4.0", public_key=bytes(32))
    state = make_peer("peer-0")
    (state / "roster.cose").write_bytes(
        alone(signed_again(replace(ROSTER, gateways=(*ROSTER.gateways, second)))).encode()
    )
    result = typed(*SIGN, "--state", state)
    assert (result.code, result.err) == (2, f"iomt: --chain is missing; allowed: {CHAIN}, ward-4.0\n")
    assert typed(*SIGN, "--state", state, "--chain", CHAIN, "--json").json["size"] == 7


def test_damaged_disk_signs_nothing(typed: Typed, make_peer: MakePeer, ward: Path) -> None:
    """What was damaged on the disk is not signed."""
    peer = make_peer("peer-0")
    for store in (ChainStore(str(peer / "ledger.db")), ReadingStore(str(ward / "readings.db"))):
        store._database.rows("UPDATE block SET proposal = zeroblob(9)")
        store.close()
    for state in (peer, ward):
        result = typed(*SIGN, "--state", state)
        assert (result.code, result.out) == (1, "")
        assert "was damaged on the disk" in result.err


def test_lines_of_public_witnesses_are_ignored(typed: Typed, ward: Path, make_peer: MakePeer, tmp_path: Path) -> None:
    """A note that public witnesses cosigned keeps their lines and verifies as it did; how many is said."""
    note = tmp_path / "note"
    note.write_text(typed(*SIGN, "--state", ward).out + "— witness.example/w1 AAAAAAAA\n")
    for name in ("peer-0", "peer-1", "peer-2"):
        typed(*SIGN, "--state", make_peer(name), "--add", note, "-o", note)
    assert "— witness.example/w1 AAAAAAAA\n" in note.read_text()
    told = typed(*VERIFY, note, "--roster", ward / "roster.cose")
    assert (told.code, told.out.splitlines()[-1]) == (0, "ignored     1 by keys that are not on the roster")


def test_verifier_keys_are_printed(typed: Typed, ward: Path) -> None:
    """Each gateway and peer has a verifier key, alone on its line; --json says whose it is."""
    keys = ("ledger", "checkpoint", "keys", "--roster", ward / "roster.cose")
    lines = typed(*keys).out.splitlines()
    assert [line.split("+")[0] for line in lines] == [
        f"{ROSTER.ledger}/{CHAIN}",
        *[f"peer-{number}.{ROSTER.ledger}" for number in range(4)],
    ]
    first = typed(*keys, "--json").out.splitlines()[0]
    assert lines[0] in first
    assert '"role": "gateway", "id": "ward-3"' in first


def begun_again(chain: Chain) -> Chain:
    """Give the chain's next incarnation, of the same leaves in one block."""
    again = Chain(head=Head(chain=CHAIN, incarnation=1))
    again.seal(*chain.leaves)
    return signed_by_gateway(again)


def test_note_is_of_the_latest_incarnation(
    typed: Typed, ward: Path, make_peer: MakePeer, tmp_path: Path, chain: Chain
) -> None:
    """A chain that was begun anew is another log: its origin says so, and no one cosigns the one before any more."""
    again, old = begun_again(chain), tmp_path / "old"
    old.write_text(typed(*SIGN, "--state", ward).out)
    note, roster = tmp_path / "note", ward / "roster.cose"
    state = make_state(tmp_path / "again", again, ROSTER)
    assert typed(*SIGN, "--state", state, "-o", note).code == 0
    for name in ("peer-0", "peer-1", "peer-2"):
        peer = make_peer(name)
        store = ChainStore(str(peer / "ledger.db"))
        block = again.proposals[0].block
        vote = cast_vote(signing.Keys(peer_signer(name)), name, 1, block, VOTED_S)
        opening = {(CHAIN, 1, 0, Word.OPENING): b"kept, and not read here"}
        store.commit(Changes(votes={(CHAIN, 1, 0): (again.proposals[0], vote)}, words=opening))
        store.close()
        assert typed(*SIGN, "--state", peer, "--add", note, "-o", note).code == 0
        refused = typed(*SIGN, "--state", peer, "--add", old)
        assert (refused.code, refused.out) == (1, "")
        assert f"the note is of {ROSTER.ledger}/{CHAIN}, 7 leaves" in refused.err
    found = typed(*VERIFY, note, "--roster", roster, "--json").json
    assert (found["origin"], found["size"]) == (f"{ROSTER.ledger}/{CHAIN}/1", 7)
    keys = ("ledger", "checkpoint", "keys", "--roster", roster)
    assert typed(*keys, "--incarnation", 1).out.startswith(f"{ROSTER.ledger}/{CHAIN}/1+")


def test_roster_that_was_heard_is_gone_by(typed: Typed, ward: Path, chain: Chain) -> None:
    """A gateway that heard of its new key signs with it, what it sealed with the former one too."""
    new = signing.derive_key(MASTER, "gateway", GATEWAY, 2)
    former = (GATEWAY_KEYS.first.public_key,)
    gateway = replace(ROSTER.gateways[0], public_key=new.public_key, former_keys=former)
    after = signed_again(replace(ROSTER, version=2, epoch=2, gateways=(gateway,)))
    (ward / "known-roster.cose").write_bytes(alone(ROSTER).followed_by(after.signed).encode())
    refused = typed(*SIGN, "--state", ward)
    assert (refused.code, refused.out) == (2, "")
    assert f"gateway {GATEWAY} with this key is not on the roster" in refused.err
    (ward / "gateway.toml").write_text((ward / "gateway.toml").read_text() + "generation = 2\n")
    note = parse_note(typed(*SIGN, "--state", ward).out.encode())
    head = parse_checkpoint(note.text)
    assert head.root == chain.proposals[-1].block.root
    assert verify_line(gateway_key(ROSTER.ledger, gateway), note.text, note.signatures[0]) is None
