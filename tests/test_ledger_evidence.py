from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import cbor, merkle, signing
from gateway.errors import VerificationError
from gateway.ledger.evidence import contradiction, decode_evidence, encode_evidence, open_evidence
from gateway.ledger.rosters import Rosters
from gateway.ledger.standing import roster_of_chain
from gateway.ledger.voting import cast_vote, sign_block
from gateway.model import Block
from tests.builders import CHAIN, GATEWAY, SEALED_MS, VOTED_S, Chain, key_of, keys_of, make_roster, propose
from tests.epochs import both_keys_of, epochs, full_member

ROSTER = make_roster()


def chain_of(*blocks: int, branch: int = 0) -> Chain:
    """Give a chain whose blocks have these numbers of leaves."""
    chain = Chain()
    for count in blocks:
        chain.seal(*[b"leaf %d of branch %d" % (len(chain.leaves) + number, branch) for number in range(count)])
    return chain


def block_at(height: int, start: int, size: int, root: bytes = bytes(32), start_root: bytes = bytes(32)) -> Block:
    return Block(
        chain=CHAIN,
        incarnation=0,
        height=height,
        start=start,
        size=size,
        root=root,
        start_root=start_root,
        sealed_ms=SEALED_MS,
    )


def signed(block: Block) -> bytes:
    return propose(block, []).signed


MINE = chain_of(2, 3, 1)
FORK = chain_of(2, 3, 1, branch=1)


# -- what is proved


def test_fault_16_two_signed_histories_convict_their_gateway() -> None:
    """Two proposals of one height are enough: who signed them, both blocks, and why they cannot be of one history."""
    first, second = MINE.proposals[1], FORK.proposals[1]
    found = open_evidence(ROSTER, first.signed, second.signed)
    assert (found.gateway.id, found.first, found.second) == (GATEWAY, first.block, second.block)
    assert found.contradiction == "two blocks at height 1"
    assert found.proposals == (first.signed, second.signed)


def test_the_lower_block_comes_first() -> None:
    """In whichever order evidence is given, it reads the same."""
    lower, higher = MINE.proposals[0], FORK.proposals[1]
    assert open_evidence(ROSTER, lower.signed, higher.signed) == open_evidence(ROSTER, higher.signed, lower.signed)
    assert open_evidence(ROSTER, higher.signed, lower.signed).proposals == (lower.signed, higher.signed)


@pytest.mark.parametrize(
    ("lower", "higher", "why"),
    [
        (block_at(1, 2, 5), block_at(1, 2, 6), "two blocks at height 1"),
        (block_at(1, 2, 5), replace(block_at(1, 2, 5), sealed_ms=SEALED_MS + 1), "two blocks at height 1"),
        (block_at(1, 2, 5), block_at(2, 6, 7), "block 2 does not continue block 1"),
        (block_at(1, 2, 5), block_at(2, 5, 7, start_root=bytes([1] * 32)), "block 2 does not continue block 1"),
        (block_at(1, 2, 5), block_at(2, 4, 7), "block 2 begins at leaf 4, but the blocks before it hold 5 or more"),
        (block_at(1, 2, 5), block_at(3, 5, 7), "block 3 begins at leaf 5, but the blocks before it hold 6 or more"),
        (block_at(1, 2, 5), block_at(9, 11, 12), "block 9 begins at leaf 11, but the blocks before it hold 12 or more"),
    ],
)
def test_blocks_that_no_history_holds_both_are_a_contradiction(lower: Block, higher: Block, why: str) -> None:
    """The same height, the next one with another start, or too few leaves for the blocks between."""
    found = open_evidence(ROSTER, signed(higher), signed(lower))
    assert found.contradiction == why


@pytest.mark.parametrize(
    ("lower", "higher"),
    [
        (block_at(1, 2, 5), block_at(1, 2, 5)),
        (block_at(1, 2, 5), block_at(2, 5, 6)),
        (block_at(1, 2, 5), block_at(3, 6, 7)),
        (block_at(1, 2, 5), block_at(3, 900, 901, start_root=bytes([1] * 32))),
        (block_at(0, 0, 5), block_at(5, 9, 10)),
    ],
)
def test_blocks_that_one_history_may_hold_prove_nothing(lower: Block, higher: Block) -> None:
    """The same block twice, one behind the other, or with room between for blocks that nobody shows."""
    with pytest.raises(VerificationError, match="do not contradict each other"):
        open_evidence(ROSTER, signed(lower), signed(higher))


@given(st.lists(st.integers(1, 4), min_size=1, max_size=6), st.integers(0, 5), st.integers(0, 5))
def test_no_history_contradicts_itself(counts: list[int], one: int, other: int) -> None:
    """Whatever an honest gateway signed, no two of its blocks are evidence."""
    blocks = [proposal.block for proposal in chain_of(*counts).proposals]
    lower, higher = sorted((one % len(blocks), other % len(blocks)))
    with pytest.raises(VerificationError, match="do not contradict each other"):
        contradiction(blocks[lower], blocks[higher])


@given(st.lists(st.integers(1, 3), min_size=2, max_size=5), st.lists(st.integers(1, 3), min_size=2, max_size=5))
def test_what_is_told_as_a_contradiction_fits_no_history(mine: list[int], other: list[int]) -> None:
    """Two blocks of two histories that part at leaf 0: neighbours and equal heights always contradict each other."""
    one, fork = chain_of(*mine).proposals, chain_of(*other, branch=1).proposals
    for height in range(min(len(one), len(fork))):
        assert contradiction(one[height].block, fork[height].block) == f"two blocks at height {height}"
    for height in range(min(len(one), len(fork) - 1)):
        assert contradiction(one[height].block, fork[height + 1].block)


# -- what is no evidence


@pytest.mark.parametrize("changes", [{"incarnation": 1}, {"chain": "ward-4.0"}])
def test_two_trees_may_differ(changes: dict[str, object]) -> None:
    """Blocks of two incarnations, or of two chains, are of two trees."""
    other = replace(FORK.proposals[1].block, **changes)  # type: ignore[arg-type]  # by name
    with pytest.raises(VerificationError, match="different chains or incarnations"):
        contradiction(MINE.proposals[1].block, other)


def test_evidence_needs_both_signatures() -> None:
    """Nobody can accuse a gateway of what it did not sign: a stranger's, a peer's, a changed proposal, a vote."""
    mine, other = MINE.proposals[1].signed, FORK.proposals[1].block
    changed = bytearray(FORK.proposals[1].signed)
    changed[-1] ^= 1
    for forged, reason in (
        (sign_block(keys_of("mallory"), GATEWAY, other), "does not hold"),
        (sign_block(keys_of("peer-0"), "peer-0", other), f"must be by {GATEWAY}"),
        (bytes(changed), "does not hold"),
        (cast_vote(keys_of("peer-0"), "peer-0", 1, other, VOTED_S), "not a proposal"),
        (b"", "not CBOR"),
    ):
        for pair in ((mine, forged), (forged, mine)):
            with pytest.raises(VerificationError, match=reason):
                open_evidence(ROSTER, *pair)


def test_a_chain_that_nobody_on_the_roster_writes_convicts_nobody() -> None:
    """Evidence is against a gateway of the ledger."""
    blocks = [replace(chain.proposals[1].block, chain="other") for chain in (MINE, FORK)]
    with pytest.raises(VerificationError, match="no gateway on the roster writes chain 'other'"):
        open_evidence(ROSTER, *[signed(block) for block in blocks])


# -- through the years


def rekeyed() -> Rosters:
    """Give a ledger whose gateway has a new key in epoch 2, and is gone in epoch 3."""
    former = (key_of(GATEWAY).public_key,)
    gateway = replace(full_member(GATEWAY, CHAIN), public_key=key_of(GATEWAY, 2).public_key, former_keys=former)
    return epochs(lambda roster: replace(roster, gateways=(gateway,)), lambda roster: replace(roster, gateways=()))


def test_a_gateway_that_left_is_convicted_all_the_same() -> None:
    """Evidence is judged by the last roster with the gateway, by its key there and its former ones."""
    rosters = rekeyed()
    assert rosters.current.gateways == ()
    roster = roster_of_chain(rosters, CHAIN)
    old = MINE.proposals[1].signed
    new = sign_block(signing.Keys(key_of(GATEWAY, 2)), GATEWAY, FORK.proposals[1].block)
    assert open_evidence(roster, old, new).contradiction == "two blocks at height 1"
    with pytest.raises(VerificationError, match="does not hold"):
        open_evidence(roster, old, sign_block(keys_of(GATEWAY, 3), GATEWAY, FORK.proposals[1].block))


def test_second_signatures_of_evidence_must_hold() -> None:
    """Proposals of a post-quantum epoch are evidence, and one with another's second signature is none."""
    roster = epochs().current
    pair = [sign_block(both_keys_of(GATEWAY), GATEWAY, chain.proposals[1].block) for chain in (MINE, FORK)]
    assert open_evidence(roster, *pair).proposals == tuple(pair)
    forged = signing.Keys(key_of(GATEWAY), both_keys_of("peer-0").second)
    with pytest.raises(VerificationError, match="is not by the key on the roster"):
        open_evidence(roster, pair[0], sign_block(forged, GATEWAY, FORK.proposals[1].block))


# -- the file


def test_evidence_is_read_back_as_it_was_written() -> None:
    """Two proposals in a file, in their order."""
    pair = MINE.proposals[1].signed, FORK.proposals[1].signed
    assert decode_evidence(encode_evidence(*pair)) == pair


@pytest.mark.parametrize(
    "data",
    [
        b"",
        cbor.encode([b"one"]),
        cbor.encode([b"one", b"two", b"three"]),
        cbor.encode([b"one", "two"]),
        cbor.encode({}),
    ],
)
def test_what_is_no_evidence_file_is_refused(data: bytes) -> None:
    """Anything but two byte strings."""
    with pytest.raises(VerificationError, match=r"not evidence: two proposals|not CBOR"):
        decode_evidence(data)


@given(st.binary(max_size=200))
def test_garbage_is_refused_and_never_more(data: bytes) -> None:
    """Any bytes are a pair or raise VerificationError."""
    try:
        pair = decode_evidence(data)
    except VerificationError:
        return
    assert encode_evidence(*pair) == data


def test_an_empty_tree_has_no_block() -> None:
    """A block without leaves is none: it cannot be shown as the other one at its height."""
    empty = replace(MINE.proposals[0].block, size=0, root=merkle.EMPTY_ROOT)
    with pytest.raises(VerificationError, match="is empty"):
        open_evidence(ROSTER, MINE.proposals[0].signed, signed(empty))
