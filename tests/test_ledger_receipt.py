from collections.abc import Callable, Sequence
from dataclasses import replace

import cbor2
import pytest

from gateway import canonical, cbor, merkle, signing
from gateway.block import Head
from gateway.devices import Device, enrolment_details
from gateway.errors import VerificationError
from gateway.ledger.receipt import (
    ENROLMENT,
    make_receipt,
    make_receipts,
    make_transparent,
    require_post_quantum,
    verify_transparent,
)
from gateway.ledger.statements import BLOCK_TYPE
from gateway.ledger.voting import cast_vote
from gateway.model import Block, Event, EventKind, Measurement, Reading
from tests.builders import (
    CHAIN,
    DEVICE,
    GATEWAY,
    SEALED_MS,
    VOTED_S,
    Chain,
    alone,
    enrolment_leaf,
    event_leaf,
    flat,
    genesis_leaf,
    key_of,
    keys_of,
    make_event,
    make_reading,
    make_roster,
    member,
    reading_leaf,
    signed_again,
    ward_chain,
)
from tests.epochs import both_keys_of, epochs, full_member, plain, post_quantum, receipts_of

ROSTER = make_roster()
ROSTERS = alone(ROSTER)
PEERS = [peer.id for peer in ROSTER.peers]
WARD = ward_chain()
INDEX, ENROLLED = 4, 1
BLOCK = WARD.block_of(INDEX)
PATH = merkle.inclusion_path(WARD.hashes(), INDEX)
FILE = WARD.transparent_reading(INDEX, ENROLLED, PEERS)
PROOF_OF_ENROLMENT = WARD.transparent_event(ENROLLED, PEERS)


def file_with(
    leaf: bytes | None = None, *, receipts: Sequence[bytes] | None = None, enrolment: bytes | None = None
) -> bytes:
    """Give the file with another leaf, other receipts or another enrolment."""
    return make_transparent(
        WARD.leaves[INDEX] if leaf is None else leaf,
        WARD.receipts(INDEX, PEERS) if receipts is None else receipts,
        PROOF_OF_ENROLMENT if enrolment is None else enrolment,
    )


def receipt_of(
    peer: str,
    *,
    block: Block = BLOCK,
    epoch: int = 1,
    size: int = BLOCK.size,
    index: int = INDEX,
    path: Sequence[bytes] = PATH,
    key: str | None = None,
) -> bytes:
    vote = cast_vote(keys_of(key or peer), peer, epoch, block, VOTED_S)
    return make_receipt(vote, index, size, path)


def stuffed(message: bytes, unprotected: object) -> bytes:
    protected, _, payload, signature = cbor.decode(message).value
    return cbor.encode(cbor2.CBORTag(18, [protected, unprotected, payload, signature]))


def with_proof(unprotected: object) -> bytes:
    return stuffed(receipt_of("peer-0"), unprotected)


def refused(data: bytes, reason: str) -> None:
    """Check that a file is refused with one line that says why."""
    with pytest.raises(VerificationError, match=reason) as caught:
        verify_transparent(data, ROSTERS)
    assert "\n" not in str(caught.value)


# -- what holds


def test_a_transparent_reading_proves_who_measured_what_and_where_it_stands() -> None:
    """With nothing but file and roster: the reading, its device's enrolment, the position, every peer's vote."""
    proven = verify_transparent(FILE, ROSTERS)
    assert isinstance(proven.entry, Reading)
    assert proven.entry.measurements == (Measurement(147842, 60 + 3, "/min"),)
    assert proven.device is not None
    assert (proven.device.id, proven.device.public_key) == (DEVICE, key_of(DEVICE).public_key)
    position = proven.position
    assert (position.chain, position.incarnation, position.index, position.height) == (CHAIN, 0, INDEX, 1)
    assert (position.start, position.size, position.root) == (2, 7, merkle.root(WARD.hashes()))
    assert (position.sealed_ms, position.epoch) == (SEALED_MS, 1)
    assert proven.enrolled == verify_transparent(PROOF_OF_ENROLMENT, ROSTERS).position
    assert not proven.post_quantum
    assert [vote.peer for vote in proven.votes] == PEERS
    assert {vote.voted_ms for vote in proven.votes} == {VOTED_S * 1000}


@pytest.mark.parametrize("index", range(2, 7))
def test_every_reading_of_a_block_can_be_proved(index: int) -> None:
    """Each leaf of the block has its own path."""
    entry = verify_transparent(WARD.transparent_reading(index, ENROLLED, PEERS), ROSTERS).entry
    assert entry.sequence == index - 1


@pytest.mark.parametrize("peers", [PEERS[:3], PEERS[1:], PEERS[::-1]])
def test_a_quorum_of_receipts_in_any_order_suffices(peers: list[str]) -> None:
    """Any three of four peers make the proof."""
    assert len(verify_transparent(WARD.transparent_reading(INDEX, ENROLLED, peers), ROSTERS).votes) == len(peers)


def test_an_event_is_proved_by_its_gateway_and_peers() -> None:
    """Genesis and enrolment need no other proof: the roster names the gateway's key."""
    genesis = verify_transparent(WARD.transparent_event(0, PEERS), ROSTERS)
    assert isinstance(genesis.entry, Event)
    assert (genesis.entry.kind, genesis.device, genesis.position.index) == (EventKind.GENESIS, None, 0)
    enrolment = verify_transparent(PROOF_OF_ENROLMENT, ROSTERS)
    assert enrolment.device is not None
    assert enrolment.device.id == DEVICE


def test_the_leaf_is_what_remains_without_receipts() -> None:
    """Emptying the unprotected map gives back the very bytes that were hashed into the tree."""
    assert stuffed(FILE, {}) == WARD.leaves[INDEX]


# -- what was changed on the way


@pytest.mark.parametrize("flip", [lambda place: 1 << place % 8, lambda _: 0xFF], ids=["bit", "byte"])
def test_every_changed_byte_is_refused(flip: Callable[[int], int]) -> None:
    """Whichever byte changes, in reading, receipts or enrolment, the file is refused."""
    for place in range(len(FILE)):
        changed = bytearray(FILE)
        changed[place] ^= flip(place)
        with pytest.raises(VerificationError):
            verify_transparent(bytes(changed), ROSTERS)


def test_every_truncated_file_is_refused() -> None:
    """Wherever the file ends early, and with a byte too many, it is refused."""
    for size in range(len(FILE)):
        with pytest.raises(VerificationError):
            verify_transparent(FILE[:size], ROSTERS)
    refused(FILE[:-1], "not CBOR")
    refused(FILE + b"\x00", "bytes follow")


def test_a_changed_value_is_refused_by_name() -> None:
    """One bit in the value of the heart rate: the reading's signature does not hold."""
    changed = FILE.replace(b"\x18\x3f\x64/min", b"\x18\x3e\x64/min")
    assert changed != FILE
    refused(changed, f"^the reading: the signature by key {key_of(DEVICE).kid.hex()} does not hold")


def test_a_changed_enrolment_is_refused_by_name() -> None:
    """One bit in the enrolment: it is the enrolment that does not hold."""
    refused(FILE.replace(b"heart-rate-strap", b"heart-rate-strip"), "^the device's enrolment: the receipt of peer-0")


# -- whose key


def test_a_foreign_key_is_refused() -> None:
    """A reading signed by a key that was not enrolled for its device, whichever key its header names."""
    key, payload = key_of("mallory"), canonical.encode_reading(make_reading(3, 63))
    honest = canonical.signer_header(canonical.READING_TYPE, key.kid, DEVICE, CHAIN)
    claimed = canonical.signer_header(canonical.READING_TYPE, key_of(DEVICE).kid, DEVICE, CHAIN)
    refused(
        file_with(signing.sign(key, honest, payload)),
        f"signed by key {key.kid.hex()}, but {DEVICE} was enrolled with {key_of(DEVICE).kid.hex()}",
    )
    refused(file_with(signing.sign(key, claimed, payload)), "^the reading: the signature by key .* does not hold")


def test_an_enrolment_of_another_device_is_refused() -> None:
    """The enrolment is of the device that the reading names."""
    refused(file_with(reading_leaf(make_reading(), "strap-2")), "is of 'strap-2', the enrolment of 'strap-1'")


def test_an_event_must_be_signed_by_the_chains_gateway() -> None:
    """Another gateway on the roster, or a stranger, writes no event into this chain, though peers voted for it."""
    for issuer, key in (("ward-4", "ward-4"), (GATEWAY, "ward-4"), (GATEWAY, "mallory")):
        signer = key_of(key)
        header = canonical.signer_header(canonical.EVENT_TYPE, signer.kid, issuer, CHAIN)
        chain = Chain()
        chain.seal(
            genesis_leaf(), signing.sign(signer, header, canonical.encode_event(make_event(EventKind.CLOCK, {})))
        )
        refused(chain.transparent_event(1, PEERS), f"must be signed by gateway {GATEWAY}")
    header = canonical.signer_header(canonical.EVENT_TYPE, key_of(GATEWAY).kid, GATEWAY, CHAIN)
    chain = Chain()
    chain.seal(
        genesis_leaf(), signing.sign(key_of("mallory"), header, canonical.encode_event(make_event(EventKind.CLOCK, {})))
    )
    refused(chain.transparent_event(1, PEERS), "^the event: the signature by key .* does not hold")


def test_a_device_must_be_enrolled_before_it_measures() -> None:
    """A reading that stands before its enrolment is refused, as is an enrolment in another chain."""
    early = Chain()
    early.seal(genesis_leaf(), reading_leaf(make_reading()), enrolment_leaf())
    refused(early.transparent_reading(1, 2, PEERS), "was not enrolled before this reading")
    other = signed_again(replace(ROSTER, gateways=(*ROSTER.gateways, member("ward-4", "ward-4.0"))))
    elsewhere = Chain()
    elsewhere.head = replace(elsewhere.head, chain="ward-4.0")
    enrolled = Device(id=DEVICE, profile="p", address="a", public_key=key_of(DEVICE).public_key, generation=1)
    details = enrolment_details(enrolled)
    event = event_leaf(make_event(EventKind.DEVICE_ENROLLED, details), "ward-4", "ward-4.0")
    elsewhere.seal(event_leaf(make_event(EventKind.GENESIS, {}), "ward-4", "ward-4.0"), event)
    file = file_with(enrolment=elsewhere.transparent_event(1, PEERS))
    with pytest.raises(VerificationError, match=f"enrolled in incarnation 0 of chain ward-4.0, .* of chain {CHAIN}"):
        verify_transparent(file, alone(other))


# -- whose place


def test_the_path_of_another_leaf_is_refused() -> None:
    """The receipts of the neighbouring leaf prove the neighbour."""
    refused(file_with(receipts=WARD.receipts(INDEX + 1, PEERS)), "^the receipt of peer-0 does not prove this leaf")


def test_another_reading_with_these_receipts_is_refused() -> None:
    """A reading that its device did sign, but that stands elsewhere, is not proved by these receipts."""
    refused(file_with(WARD.leaves[INDEX + 1]), "^the receipt of peer-0 does not prove this leaf")


@pytest.mark.parametrize("size", [5, 6, 8, 1 << 40])
def test_fault_20_a_restated_tree_size_is_refused(size: int) -> None:
    """The size in the proof is the size that the peer signed."""
    receipts = [receipt_of(peer, size=size) for peer in PEERS]
    refused(file_with(receipts=receipts), f"^the receipt of peer-0 restates the tree's size: signed 7, proof {size}$")


@pytest.mark.parametrize("index", [2, 3, 5, 6])
def test_fault_20_a_restated_leaf_index_is_refused(index: int) -> None:
    """The same path from another index leads elsewhere."""
    refused(file_with(receipts=[receipt_of(peer, index=index) for peer in PEERS]), "the receipt of peer-0|the path of")


@pytest.mark.parametrize("index", [0, 1, 7, 1 << 40, -1])
def test_fault_20_an_index_outside_the_block_is_refused(index: int) -> None:
    """A vote proves the leaves of its own block, [2, 7), and no others."""
    refused(file_with(receipts=[receipt_of(peer, index=index) for peer in PEERS]), "outside|inclusion proof")


def test_an_empty_path_is_refused() -> None:
    """A tree that carries a reading has at least its genesis beside it, so a path has at least one hash."""
    lonely = Chain()
    lonely.seal(genesis_leaf())
    refused(lonely.transparent_event(0, PEERS), "empty path")
    refused(file_with(receipts=[receipt_of(peer, path=[]) for peer in PEERS]), "empty path")


@pytest.mark.parametrize("path", [PATH[:-1], [*PATH, bytes(32)], [*PATH[:-1], PATH[-1][:-1]]])
def test_a_path_of_the_wrong_length_is_refused(path: list[bytes]) -> None:
    """A hash too few or too many, or one that is no hash."""
    refused(file_with(receipts=[receipt_of(peer, path=path) for peer in PEERS]), f"the path of leaf {INDEX}")


def test_receipts_for_different_positions_are_refused() -> None:
    """The leaf in the tree of one block and of a later one: each holds, together they are no quorum."""
    longer = WARD.fork()
    later = replace(longer.seal(genesis_leaf()).block, start=2)
    path = merkle.inclusion_path(longer.hashes(), INDEX)
    moved = [receipt_of(peer, block=later, size=later.size, path=path) for peer in PEERS[:2]]
    receipts = [*moved, *WARD.receipts(INDEX, PEERS[2:])]
    refused(file_with(receipts=receipts), "different positions")


def test_receipts_under_different_roots_are_no_quorum() -> None:
    """Two histories that share the leaf and its position: votes for the one do not count for the other."""
    fork = Chain()
    fork.seal(*WARD.leaves[:2])
    fork.seal(*WARD.leaves[2:6], reading_leaf(make_reading(5, 99)))
    assert fork.block_of(INDEX).root != BLOCK.root
    receipts = [*fork.receipts(INDEX, PEERS[:2]), *WARD.receipts(INDEX, PEERS[2:])]
    refused(file_with(receipts=receipts), "different positions")


def test_receipts_of_different_incarnations_are_no_quorum() -> None:
    """Votes for the same root in two incarnations of a chain do not add up."""
    again = [receipt_of(peer, block=replace(BLOCK, incarnation=1)) for peer in PEERS[:2]]
    refused(file_with(receipts=[*again, *WARD.receipts(INDEX, PEERS[2:])]), "different positions")


def test_a_leaf_is_proved_in_the_chain_it_names() -> None:
    """Votes of another chain over a tree with this leaf do not prove it."""
    receipts = [receipt_of(peer, block=replace(BLOCK, chain="ward-4.0")) for peer in PEERS]
    refused(file_with(receipts=receipts), f"names chain '{CHAIN}', its receipts 'ward-4.0'")


# -- how many votes


@pytest.mark.parametrize("peers", [PEERS[:1], PEERS[:2]])
def test_votes_below_the_quorum_are_refused(peers: list[str]) -> None:
    """Fewer than three of four are named as such."""
    refused(file_with(receipts=WARD.receipts(INDEX, peers)), f"^{len(peers)} of 4 have voted, 3 are needed$")


def test_a_reading_without_receipts_is_refused() -> None:
    """Where nobody has voted there is no epoch by which to judge."""
    refused(file_with(receipts=[]), "^the receipts must be of one roster epoch, and are of none$")


def test_fault_20_a_vote_twice_is_refused() -> None:
    """The same peer's receipt twice does not make up a quorum."""
    refused(file_with(receipts=WARD.receipts(INDEX, ["peer-0", "peer-1", "peer-1"])), "of peer-1 there are 2 and 0$")


@pytest.mark.parametrize("epoch", [0, 2])
def test_fault_20_votes_of_another_epoch_are_refused(epoch: int) -> None:
    """Votes under an older or newer roster than is known are named with both epochs."""
    refused(
        file_with(receipts=WARD.receipts(INDEX, PEERS, epoch)),
        f"roster epoch {epoch} is not known; the latest that is, is 1",
    )


def test_fault_20_a_forged_vote_is_refused() -> None:
    """A receipt in a peer's name by another key."""
    receipts = [receipt_of("peer-0", key="mallory"), *WARD.receipts(INDEX, PEERS[1:])]
    refused(file_with(receipts=receipts), "^the receipt of peer-0 .* not by the roster's")


def test_an_unknown_peer_is_refused() -> None:
    """One receipt by a peer that the roster does not have spoils the file, though the others suffice."""
    receipts = WARD.receipts(INDEX, [*PEERS, "peer-9"])
    refused(file_with(receipts=receipts), "peer 'peer-9' is not on the roster")


def test_an_enrolment_below_the_quorum_is_refused() -> None:
    """The enrolment is as final as the reading, or it proves no key."""
    refused(
        file_with(enrolment=WARD.transparent_event(ENROLLED, PEERS[:2])), "^the device's enrolment: 2 of 4 have voted"
    )


# -- epochs and incarnations


def test_receipts_of_two_epochs_are_no_quorum() -> None:
    """Two votes of each of two epochs, each by a peer of both: they do not add up."""
    rosters = epochs(plain)
    file = file_with(receipts=[*WARD.receipts(INDEX, PEERS[:2], 1), *WARD.receipts(INDEX, PEERS[2:], 2)])
    with pytest.raises(VerificationError, match=r"must be of one roster epoch, and are of 1, 2$"):
        verify_transparent(file, rosters)


def test_reading_and_enrolment_are_proved_each_by_the_roster_of_its_epoch() -> None:
    """A device that was enrolled in an earlier epoch measures in a later one: peers of both are asked."""
    peers = tuple(full_member(f"new-{number}") for number in range(4))
    rosters = epochs(lambda roster: replace(roster, peers=peers, policy=flat(3, peers)))
    file = file_with(receipts=WARD.receipts(INDEX, [peer.id for peer in peers], 2))
    proven = verify_transparent(file, rosters)
    assert proven.enrolled is not None
    assert (proven.position.epoch, proven.enrolled.epoch) == (2, 1)
    for epoch in (1, 2):
        with pytest.raises(VerificationError, match=r"peer '.*' is not on the roster"):
            verify_transparent(file_with(receipts=WARD.receipts(INDEX, ["peer-0", "new-1", "new-2"], epoch)), rosters)


def test_an_enrolment_of_another_incarnation_is_refused() -> None:
    """What begins anew enrols its devices anew: the same bytes in the incarnation before prove nothing in this one."""
    again = Chain(head=Head(chain=CHAIN, incarnation=1))
    again.seal(*WARD.leaves[:2])
    again.seal(*WARD.leaves[2:])
    proven = verify_transparent(again.transparent_reading(INDEX, ENROLLED, PEERS), ROSTERS)
    assert proven.position.incarnation == 1
    refused(file_with(receipts=again.receipts(INDEX, PEERS)), "in incarnation 0 .* the reading is of incarnation 1")
    refused(
        file_with(enrolment=again.transparent_event(ENROLLED, PEERS)),
        "in incarnation 1 .* the reading is of incarnation 0",
    )


def signed_by(key: signing.Key) -> Chain:
    """Give a chain that begins with an event by this key in the gateway's name."""
    header = canonical.signer_header(canonical.EVENT_TYPE, key.kid, GATEWAY, CHAIN)
    chain = Chain()
    chain.seal(
        signing.sign(key, header, canonical.encode_event(make_event(EventKind.GENESIS, {}))), enrolment_leaf(sequence=3)
    )
    return chain


def test_events_by_a_former_key_of_the_gateway_hold() -> None:
    """A gateway with a new key goes on with its chain: what the old one signed is final later, too, not before it."""
    new = key_of(GATEWAY, 2)
    former = (key_of(GATEWAY).public_key,)
    gateway = replace(full_member(GATEWAY, CHAIN), public_key=new.public_key, former_keys=former)
    rosters = epochs(lambda roster: replace(roster, gateways=(gateway,)))
    for key, epoch in ((key_of(GATEWAY), 1), (key_of(GATEWAY), 2), (new, 2)):
        proven = verify_transparent(signed_by(key).transparent_event(0, PEERS, epoch), rosters)
        assert proven.position.epoch == epoch
    for key, epoch in ((new, 1), (key_of(GATEWAY, 3), 2)):
        with pytest.raises(VerificationError, match=f"must be signed by gateway {GATEWAY}"):
            verify_transparent(signed_by(key).transparent_event(0, PEERS, epoch), rosters)


def test_receipts_with_different_times_of_sealing_are_no_quorum() -> None:
    """Peers sign when the block was sealed: votes that say otherwise are for another block."""
    other = [receipt_of(peer, block=replace(BLOCK, sealed_ms=SEALED_MS + 1)) for peer in PEERS[:2]]
    refused(file_with(receipts=[*other, *WARD.receipts(INDEX, PEERS[2:])]), "different positions")


# -- post-quantum

QUANTUM = epochs(post_quantum)
SECOND = receipts_of(WARD, INDEX, epoch=2, second=True)
SECOND_ENROLMENT = make_transparent(WARD.leaves[ENROLLED], receipts_of(WARD, ENROLLED, epoch=2, second=True), None)
SECOND_FILE = file_with(receipts=SECOND, enrolment=SECOND_ENROLMENT)


def refused_in_quantum(receipts: Sequence[bytes], reason: str) -> None:
    with pytest.raises(VerificationError, match=reason):
        verify_transparent(file_with(receipts=receipts, enrolment=SECOND_ENROLMENT), QUANTUM)


def test_a_post_quantum_reading_has_two_receipts_of_each_peer() -> None:
    """Each vote is two COSE receipts, in any order; one vote of each peer is what they prove."""
    algorithms = [signing.parse(receipt).header[canonical.ALG] for receipt in SECOND]
    assert algorithms == [canonical.EDDSA, canonical.ML_DSA_44] * 4
    for receipts in (SECOND, SECOND[::-1], SECOND[:6]):
        proven = verify_transparent(file_with(receipts=receipts, enrolment=SECOND_ENROLMENT), QUANTUM)
        assert proven.post_quantum
        assert len(proven.votes) == len(receipts) / 2
        assert {vote.peer for vote in proven.votes} <= set(PEERS)
        require_post_quantum(proven)


def test_a_vote_of_two_receipts_is_the_peers_vote_again() -> None:
    """Without their proofs the two receipts of a peer are what it signed, byte for byte."""
    proven = verify_transparent(SECOND_FILE, QUANTUM)
    messages = [stuffed(receipt, {}) for receipt in SECOND[:2]]
    assert proven.votes[0].signed == b"".join(messages)


@pytest.mark.parametrize("stripped", [range(1, 8, 2), range(1, 4, 2), [7]], ids=["all", "half", "one"])
def test_stripped_second_signatures_are_refused(stripped: Sequence[int]) -> None:
    """In a post-quantum epoch a vote without its second signature is none, even where three others are left."""
    receipts = [receipt for place, receipt in enumerate(SECOND) if place not in stripped]
    refused_in_quantum(receipts, r"has no second signature \(ML-DSA-44\)")


def test_second_signatures_alone_are_refused() -> None:
    """A vote is both: ML-DSA-44 does not stand for Ed25519."""
    refused_in_quantum(SECOND[1::2], "of peer-0 there are 0 and 1$")
    refused_in_quantum([*SECOND, SECOND[1]], "of peer-0 there are 1 and 2$")


def test_a_second_signature_is_its_own_peers_and_of_the_same_vote() -> None:
    """One peer's second signature does not make up for another's, nor that of a vote on another block or time."""
    name = "peer-0"
    others = {
        "by another key": cast_vote(signing.Keys(key_of(name), both_keys_of("peer-1").second), name, 2, BLOCK, VOTED_S),
        "later": cast_vote(both_keys_of(name), name, 2, BLOCK, VOTED_S + 1),
        "elsewhere": cast_vote(both_keys_of(name), name, 2, replace(BLOCK, height=9), VOTED_S),
    }
    for what, vote in others.items():
        second = make_receipts(vote, INDEX, BLOCK.size, PATH)[1]
        reason = "does not hold" if what == "by another key" else "differs in more than algorithm and key"
        refused_in_quantum([SECOND[0], second, *SECOND[2:]], f"^the receipt of {name} .*{reason}")


def test_flipped_bytes_of_a_second_receipt_are_refused() -> None:
    """Whichever byte changes in a receipt with a second signature, of which every 50th is tried, it is refused."""
    receipts = receipts_of(WARD, ENROLLED, PEERS[:3], epoch=2, second=True)
    for place in (*range(250), *range(250, len(receipts[1]), 50)):
        changed = bytearray(receipts[1])
        changed[place] ^= 1 << place % 8
        with pytest.raises(VerificationError):
            verify_transparent(stuffed(SECOND_ENROLMENT, {394: [receipts[0], bytes(changed), *receipts[2:]]}), QUANTUM)


def test_the_proof_beside_a_second_signature_is_checked_too() -> None:
    """A second receipt with the path of another leaf is refused, though its signature holds."""
    vote = cast_vote(both_keys_of("peer-0"), "peer-0", 2, BLOCK, VOTED_S)
    other = merkle.inclusion_path(WARD.hashes(), INDEX + 1)
    receipts = [make_receipts(vote, INDEX, 7, PATH)[0], make_receipts(vote, INDEX, 7, other)[1]]
    refused_in_quantum([*receipts, *SECOND[2:]], "different positions or roots")


@pytest.mark.parametrize(("reading", "enrolment", "holds"), [(2, 2, True), (2, 1, False), (1, 2, False), (1, 1, False)])
def test_a_reading_is_post_quantum_if_its_enrolment_is(reading: int, enrolment: int, holds: bool) -> None:  # noqa: FBT001 - parametrized
    """Whoever wants it gets a refusal unless both are: a forged enrolment would bring any key in."""
    receipts = receipts_of(WARD, INDEX, epoch=reading, second=reading == 2)
    enrolled = receipts_of(WARD, ENROLLED, epoch=enrolment, second=enrolment == 2)
    file = file_with(receipts=receipts, enrolment=make_transparent(WARD.leaves[ENROLLED], enrolled, None))
    proven = verify_transparent(file, QUANTUM)
    assert proven.post_quantum is holds
    if not holds:
        with pytest.raises(VerificationError, match=r"not every vote has a second signature .* epoch 1"):
            require_post_quantum(proven)


def test_an_event_is_post_quantum_by_itself() -> None:
    """An event needs no enrolment."""
    require_post_quantum(verify_transparent(SECOND_ENROLMENT, QUANTUM))
    with pytest.raises(VerificationError, match=r"roster epoch 1 is not post-quantum"):
        require_post_quantum(verify_transparent(PROOF_OF_ENROLMENT, QUANTUM))


def test_second_signatures_are_checked_where_none_are_needed() -> None:
    """In a plain epoch a second signature may be there, and must hold."""
    receipts = receipts_of(WARD, INDEX, epoch=1, second=True)
    assert not verify_transparent(file_with(receipts=receipts), QUANTUM).post_quantum
    refused(file_with(receipts=receipts), "the roster has no key for it")


# -- what is no transparent reading


@pytest.mark.parametrize(
    ("enrolment", "reason"),
    [
        (FILE, "it is no event"),
        (WARD.leaves[INDEX], "it is no event"),
        (WARD.leaves[ENROLLED], "carries its receipts"),
        (b"", "not CBOR"),
    ],
)
def test_an_enrolment_that_is_none_is_refused(enrolment: bytes, reason: str) -> None:
    """Another reading, an event without receipts, nothing; and an event that enrols nobody."""
    refused(file_with(enrolment=enrolment), f"^the device's enrolment: .*{reason}")
    refused(file_with(enrolment=WARD.transparent_event(0, PEERS)), "is no enrolment of a device")


def test_readings_within_readings_are_refused_however_deep() -> None:
    """A reading as its own enrolment, nested a thousand times, is one refusal and no stack overflow."""
    nested = FILE
    for _ in range(1_000):
        nested = make_transparent_unread(WARD.leaves[INDEX], nested)
    refused(nested, "^the device's enrolment: it is no event$")


def make_transparent_unread(leaf: bytes, enrolment: bytes) -> bytes:
    """Give what `make_transparent` would, without reading the leaf again and with no receipts."""
    protected, _, payload, signature = cbor2.loads(leaf).value
    return cbor2.dumps(cbor2.CBORTag(18, [protected, {394: [], ENROLMENT: enrolment}, payload, signature]))


@pytest.mark.parametrize(
    "unprotected",
    [
        {},
        {canonical.RECEIPTS: WARD.receipts(INDEX, PEERS)},
        {ENROLMENT: PROOF_OF_ENROLMENT},
        {canonical.RECEIPTS: WARD.receipts(INDEX, PEERS), ENROLMENT: PROOF_OF_ENROLMENT, 1: -8},
    ],
)
def test_a_reading_carries_receipts_and_enrolment_and_nothing_else(unprotected: dict[int, object]) -> None:
    """What no signature covers has no room for anything more or less."""
    refused(stuffed(FILE, unprotected), "carries its receipts")


@pytest.mark.parametrize("unprotected", [{}, {canonical.RECEIPTS: [], 1: 1}])
def test_an_event_carries_its_receipts_and_nothing_else(unprotected: dict[int, object]) -> None:
    """Likewise for events."""
    refused(stuffed(PROOF_OF_ENROLMENT, unprotected), "an event carries its receipts")


@pytest.mark.parametrize("receipts", [1, "text", b"bytes", {1: b""}, [1], ["text"], [b"x", None], "", b"", None])
def test_receipts_are_an_array_of_byte_strings(receipts: object) -> None:
    """RFC 9942's 394: an array of byte strings, each an encoded receipt."""
    refused(stuffed(PROOF_OF_ENROLMENT, {canonical.RECEIPTS: receipts}), "no array of byte strings")


def test_an_enrolment_is_a_byte_string() -> None:
    """-70002 holds an encoded event."""
    unprotected = {canonical.RECEIPTS: WARD.receipts(INDEX, PEERS), ENROLMENT: 5}
    refused(stuffed(FILE, unprotected), "is no byte string")


@pytest.mark.parametrize(
    ("receipt", "reason"),
    [
        (b"", "not CBOR"),
        (WARD.leaves[0], "not a vote"),
        (cast_vote(keys_of("peer-0"), "peer-0", 1, BLOCK, VOTED_S), "exactly one inclusion proof"),
        (with_proof({396: {}}), "exactly one inclusion proof"),
        (with_proof({396: {-1: []}}), "exactly one inclusion proof"),
        (with_proof({396: {-1: [b"", b""]}}), "exactly one inclusion proof"),
        (with_proof({396: {-1: ["text"]}}), "exactly one inclusion proof"),
        (with_proof({396: {-1: [cbor.encode([7, 4, PATH])], -2: []}}), "exactly one inclusion proof"),
        (with_proof({396: {-1: [cbor.encode([7, 4, PATH])]}, 4: b""}), "exactly one inclusion proof"),
        (with_proof({396: {-1: [b""]}}), "not CBOR"),
        (with_proof({396: {-1: [cbor.encode([7, 4])]}}), r"is \[tree size"),
        (with_proof({396: {-1: [cbor.encode([7, 4, ["text"]])]}}), r"is \[tree size"),
        (with_proof({396: {-1: [cbor.encode(["7", 4, PATH])]}}), r"is \[tree size"),
        (with_proof({396: {-1: [cbor.encode([7, True, PATH])]}}), r"is \[tree size"),
        (with_proof({396: {-1: [cbor.encode([7, -4, PATH])]}}), r"is \[tree size"),
    ],
)
def test_a_receipt_is_a_vote_with_one_inclusion_proof(receipt: bytes, reason: str) -> None:
    """Anything else in a receipt's place is refused, also what equals a proof as a number and is none."""
    refused(file_with(receipts=[receipt, *WARD.receipts(INDEX, PEERS[1:])]), reason)


@pytest.mark.parametrize("content_type", [BLOCK_TYPE, "", 5, None])
def test_another_content_is_neither_reading_nor_event(content_type: object) -> None:
    """A signed block or anything else is not taken for a reading."""
    header = {1: -8, 3: content_type, 4: key_of(DEVICE).kid, 15: {1: DEVICE, 2: CHAIN}}
    leaf = signing.sign(key_of(DEVICE), cbor.encode(header), b"payload")
    refused(file_with(leaf), "neither a reading nor an event")


def test_a_proved_leaf_must_still_be_a_reading() -> None:
    """Signed, in the tree, voted for, and yet of no known format: refused."""
    header = canonical.signer_header(canonical.READING_TYPE, key_of(DEVICE).kid, DEVICE, CHAIN)
    leaf = signing.sign(key_of(DEVICE), header, cbor.encode({1: 2}))
    chain = Chain()
    chain.seal(genesis_leaf(), enrolment_leaf(), leaf)
    refused(chain.transparent_reading(2, 1, PEERS), "not a reading")


def test_a_reading_without_its_payload_is_refused() -> None:
    """A leaf holds its payload; beside it there is nowhere for one."""
    header = canonical.signer_header(canonical.READING_TYPE, key_of(DEVICE).kid, DEVICE, CHAIN)
    leaf = signing.sign(key_of(DEVICE), header, canonical.encode_reading(make_reading()), detached=True)
    refused(file_with(leaf), "must stand in the message")


def test_reading_that_is_younger_than_its_block_is_refused() -> None:
    """A gateway seals no block before the latest time in it: a reading behind that was not there when it was sealed."""
    block = replace(BLOCK, sealed_ms=SEALED_MS - 60_000)
    with pytest.raises(VerificationError, match="is behind that of its block's sealing"):
        verify_transparent(file_with(receipts=[receipt_of(peer, block=block) for peer in PEERS]), ROSTERS)
