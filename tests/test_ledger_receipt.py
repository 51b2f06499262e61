from collections.abc import Callable, Sequence
from dataclasses import replace

import cbor2
import pytest

from gateway import canonical, cbor, merkle, signing
from gateway.devices import Device, enrolment_details
from gateway.errors import VerificationError
from gateway.ledger.receipt import ENROLMENT, make_receipt, make_transparent, verify_transparent
from gateway.ledger.voting import cast_vote
from gateway.model import Block, Event, EventKind, Measurement, Reading
from tests.builders import (
    CHAIN,
    DEVICE,
    GATEWAY,
    VOTED_S,
    Chain,
    enrolment_leaf,
    event_leaf,
    genesis_leaf,
    key_of,
    make_event,
    make_reading,
    make_roster,
    member,
    reading_leaf,
    signed_again,
    ward_chain,
)

ROSTER = make_roster()
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
    vote = cast_vote(key_of(key or peer), peer, epoch, block, VOTED_S)
    return make_receipt(vote, index, size, path)


def stuffed(message: bytes, unprotected: object) -> bytes:
    protected, _, payload, signature = cbor.decode(message).value
    return cbor.encode(cbor2.CBORTag(18, [protected, unprotected, payload, signature]))


def with_proof(unprotected: object) -> bytes:
    return stuffed(receipt_of("peer-0"), unprotected)


def refused(data: bytes, reason: str) -> None:
    """Check that a file is refused with one line that says why."""
    with pytest.raises(VerificationError, match=reason) as caught:
        verify_transparent(data, ROSTER)
    assert "\n" not in str(caught.value)


# -- what holds


def test_a_transparent_reading_proves_who_measured_what_and_where_it_stands() -> None:
    """With nothing but file and roster: the reading, its device's enrolment, the position, every peer's vote."""
    proven = verify_transparent(FILE, ROSTER)
    assert isinstance(proven.entry, Reading)
    assert proven.entry.measurements == (Measurement(147842, 60 + 3, "/min"),)
    assert proven.device is not None
    assert (proven.device.id, proven.device.public_key) == (DEVICE, key_of(DEVICE).public_key)
    position = proven.position
    assert (position.chain, position.incarnation, position.index, position.height) == (CHAIN, 0, INDEX, 1)
    assert (position.start, position.size, position.root) == (2, 7, merkle.root(WARD.hashes()))
    assert [vote.peer for vote in proven.votes] == PEERS
    assert {vote.voted_ms for vote in proven.votes} == {VOTED_S * 1000}


@pytest.mark.parametrize("index", range(2, 7))
def test_every_reading_of_a_block_can_be_proved(index: int) -> None:
    """Each leaf of the block has its own path."""
    entry = verify_transparent(WARD.transparent_reading(index, ENROLLED, PEERS), ROSTER).entry
    assert entry.sequence == index - 1


@pytest.mark.parametrize("peers", [PEERS[:3], PEERS[1:], PEERS[::-1]])
def test_a_quorum_of_receipts_in_any_order_suffices(peers: list[str]) -> None:
    """Any three of four peers make the proof."""
    assert len(verify_transparent(WARD.transparent_reading(INDEX, ENROLLED, peers), ROSTER).votes) == len(peers)


def test_an_event_is_proved_by_its_gateway_and_peers() -> None:
    """Genesis and enrolment need no other proof: the roster names the gateway's key."""
    genesis = verify_transparent(WARD.transparent_event(0, PEERS), ROSTER)
    assert isinstance(genesis.entry, Event)
    assert (genesis.entry.kind, genesis.device, genesis.position.index) == (EventKind.GENESIS, None, 0)
    enrolment = verify_transparent(PROOF_OF_ENROLMENT, ROSTER)
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
            verify_transparent(bytes(changed), ROSTER)


def test_every_truncated_file_is_refused() -> None:
    """Wherever the file ends early, and with a byte too many, it is refused."""
    for size in range(len(FILE)):
        with pytest.raises(VerificationError):
            verify_transparent(FILE[:size], ROSTER)
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
    with pytest.raises(VerificationError, match=f"was not enrolled before this reading in chain {CHAIN}"):
        verify_transparent(file, other)


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


@pytest.mark.parametrize("peers", [[], PEERS[:1], PEERS[:2]])
def test_votes_below_the_quorum_are_refused(peers: list[str]) -> None:
    """Fewer than three of four are named as such."""
    refused(file_with(receipts=WARD.receipts(INDEX, peers)), f"^{len(peers)} of 4 have voted, 3 are needed$")


def test_fault_20_a_vote_twice_is_refused() -> None:
    """The same peer's receipt twice does not make up a quorum."""
    refused(file_with(receipts=WARD.receipts(INDEX, ["peer-0", "peer-1", "peer-1"])), "vote is counted twice")


@pytest.mark.parametrize("epoch", [0, 2])
def test_fault_20_votes_of_another_epoch_are_refused(epoch: int) -> None:
    """Votes under an older or newer roster are named with both epochs."""
    refused(
        file_with(receipts=WARD.receipts(INDEX, PEERS, epoch)),
        f"the vote of peer-0 is of roster epoch {epoch}, this roster's is 1",
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
        (cast_vote(key_of("peer-0"), "peer-0", 1, BLOCK, VOTED_S), "exactly one inclusion proof"),
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


@pytest.mark.parametrize("content_type", [canonical.BLOCK_TYPE, "", 5, None])
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
