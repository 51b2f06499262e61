from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import canonical, cbor, merkle, signing
from gateway.errors import VerificationError
from gateway.ledger.audit import ChainAudit, Fork, first_fork
from gateway.ledger.rosters import Rosters
from gateway.ledger.statements import BLOCK_TYPE, encode_block
from gateway.ledger.voting import VotedBlock, cast_vote
from gateway.model import Block, Certificate, Proposal
from tests.builders import (
    CHAIN,
    GATEWAY,
    SEALED_MS,
    VOTED_S,
    alone,
    key_of,
    keys_of,
    make_roster,
    member,
    propose,
    signed_again,
)

PEER = "peer-0"
QUORUM = ("peer-0", "peer-1", "peer-2")
ROSTERS = alone(make_roster())
SIZES = (2, 5, 250, 300, 100, 1, 360)  # blocks within, over and at the bounds of tiles


@dataclass
class Copy:
    """A peer's copy of one chain in memory, which a test may damage."""

    blocks: list[VotedBlock] = field(default_factory=list)
    tiles: dict[tuple[int, int], bytes] = field(default_factory=dict)
    certificates: dict[int, Certificate] = field(default_factory=dict)

    def copied(self) -> "Copy":
        """Give one of its own to damage."""
        return Copy(list(self.blocks), dict(self.tiles), dict(self.certificates))

    def read(self, level: int, number: int) -> bytes:
        """Give a tile, as merkle.TileReader."""
        return self.tiles[level, number]

    def counts(self) -> Mapping[int, int]:
        """Give how many tiles there are by level."""
        levels = [level for level, _ in self.tiles]
        return {level: levels.count(level) for level in levels}


def leaf(number: int, branch: int = 0) -> bytes:
    return sha256(b"%d %d" % (branch, number)).digest()


def proposals_of(*sizes: int, branch: int = 0) -> Iterator[Proposal]:
    """Give a chain of blocks with so many leaves each; leaves of other branches are others from the second block on."""
    frontier = merkle.Frontier()
    for height, size in enumerate(sizes):
        start = frontier.size
        hashes = [leaf(number, branch if height else 0) for number in range(start, start + size)]
        after = frontier.extend(hashes)
        block = Block(
            chain=CHAIN,
            incarnation=0,
            height=height,
            start=start,
            size=after.size,
            root=after.root(),
            start_root=frontier.root(),
            sealed_ms=SEALED_MS + height,
        )
        yield propose(block, hashes)
        frontier = after


def voted_for(proposal: Proposal, epoch: int = 1, peer: str = PEER) -> VotedBlock:
    block = proposal.block
    vote = cast_vote(keys_of(peer), peer, epoch, block, VOTED_S)
    return VotedBlock(CHAIN, block.incarnation, block.height, block.start, block.size, proposal.signed, vote)


def certificate_of(proposal: Proposal, *peers: str, epoch: int = 1) -> Certificate:
    votes = [cast_vote(keys_of(peer), peer, epoch, proposal.block, VOTED_S) for peer in peers or QUORUM]
    return Certificate(proposal=proposal.signed, votes=tuple(votes))


def copy_of(*sizes: int, branch: int = 0) -> Copy:
    copy = Copy()
    for proposal in proposals_of(*sizes, branch=branch):
        copy.tiles |= merkle.grown_tiles(copy.read, proposal.block.start, proposal.hashes)
        copy.blocks.append(voted_for(proposal))
    return copy


@cache
def sound() -> Copy:
    """Give a copy with two levels of tiles and two certificates; not to be changed."""
    copy = copy_of(*SIZES)
    for height in (2, 4):
        copy.certificates[height] = certificate_of(proposals()[height])
    return copy


@cache
def proposals() -> tuple[Proposal, ...]:
    """Give the blocks of `sound`."""
    return tuple(proposals_of(*SIZES))


@cache
def tall() -> Copy:
    """Give a copy with three levels of tiles; not to be changed."""
    return copy_of(*[8192] * 8, 1)


def walk(audit: ChainAudit, copy: Copy) -> None:
    for voted in copy.blocks:
        audit.follow(voted, copy.certificates.get(voted.height))
    audit.end(copy.counts(), len(copy.certificates))


def audited(copy: Copy, rosters: Rosters = ROSTERS) -> ChainAudit:
    """Audit a copy that is sound."""
    audit = ChainAudit(rosters, PEER, CHAIN, 0, copy.read)
    walk(audit, copy)
    return audit


def refused_at(copy: Copy, match: str, rosters: Rosters = ROSTERS) -> int:
    """Audit a damaged copy, and give the height of the first difference."""
    audit = ChainAudit(rosters, PEER, CHAIN, 0, copy.read)
    with pytest.raises(VerificationError, match=match):
        walk(audit, copy)
    return audit.height


def flipped(data: bytes, bit: int) -> bytes:
    at = bit // 8 % len(data)
    return data[:at] + bytes((data[at] ^ 1 << bit % 8,)) + data[at + 1 :]


def block_with_leaf(number: int) -> int:
    """Give the height of the block of `sound` in which a leaf is."""
    return next(voted.height for voted in sound().blocks if number < voted.size)


# -- what is sound


@pytest.mark.parametrize("sizes", [(), (1,), (256,), (255, 1, 1), (512, 4096), SIZES])
def test_an_undamaged_copy_is_sound(sizes: tuple[int, ...]) -> None:
    """Whatever a peer keeps by the rules is found sound, to the last leaf."""
    audit = audited(copy_of(*sizes))
    assert (audit.height, audit.leaves) == (len(sizes), sum(sizes))


def test_certificates_are_counted() -> None:
    """All blocks below one with a certificate are final; so many of them have none of their own."""
    audit = audited(sound())
    assert (audit.certified, audit.certificates) == (5, 2)
    audit = audited(copy_of(*SIZES))
    assert (audit.certified, audit.certificates) == (0, 0)


def test_a_tall_tree_is_sound() -> None:
    """A tree of three levels of tiles is read to its top."""
    assert {level for level, _ in tall().tiles} == {0, 1, 2}
    assert audited(tall()).leaves == 8 * 8192 + 1


@cache
def two_epochs() -> Rosters:
    """Give a ledger whose four peers were followed by three others and `PEER`, in the next epoch."""
    before = make_roster()
    peers = (*before.peers[:1], *(member(name) for name in ("peer-5", "peer-6", "peer-7")))
    policy = replace(before.policy, of=tuple(peer.id for peer in peers))
    return Rosters((before, signed_again(replace(before, version=2, epoch=2, peers=peers, policy=policy))))


def test_votes_count_by_the_roster_of_their_epoch() -> None:
    """A block may have a vote of any epoch in which the peer belonged, and a certificate of any quorum of then."""
    copy = sound().copied()
    copy.blocks[5] = voted_for(proposals()[5], epoch=2)
    copy.certificates[5] = certificate_of(proposals()[5], "peer-5", "peer-6", "peer-7", epoch=2)
    assert audited(copy, two_epochs()).certified == 6
    assert refused_at(copy, "the vote on block 5: roster epoch 2 is not known") == 5
    copy.certificates[5] = certificate_of(proposals()[5], "peer-5", "peer-6", "peer-7", epoch=1)
    assert refused_at(copy, "the certificate of block 5: peer 'peer-5' is not on the roster", two_epochs()) == 5


def test_a_gateway_that_was_retired_has_written_what_it_wrote() -> None:
    """Proposals are held against the last version of the roster on which their gateway belonged."""
    before = make_roster()
    retired = Rosters((before, signed_again(replace(before, version=2, epoch=2, gateways=()))))
    assert audited(sound(), retired).height == len(SIZES)


def test_a_proposal_that_was_signed_again_has_its_own_certificate() -> None:
    """A certificate may be for other signatures over the very same block."""
    copy = sound().copied()
    copy.certificates[3] = replace(certificate_of(proposals()[3]), proposal=signed_otherwise(proposals()[3].block))
    assert copy.certificates[3].proposal != copy.blocks[3].proposal
    assert audited(copy).certificates == 3


def signed_otherwise(block: Block) -> bytes:
    """Give the gateway's signature over a block with the other name of the algorithm."""
    key = key_of(GATEWAY)
    header = {1: canonical.ED25519, 3: BLOCK_TYPE, 4: key.kid, 15: {1: GATEWAY, 2: CHAIN}}
    return signing.sign(key, cbor.encode(header), encode_block(block))


# -- flipped bits


BITS = st.integers(0, 2**20)


@given(height=st.integers(0, len(SIZES) - 1), bit=BITS, part=st.sampled_from(["proposal", "vote"]))
def test_a_flipped_bit_of_a_signed_thing_is_found(height: int, bit: int, part: str) -> None:
    """One bit of any proposal or vote is found, at its height."""
    copy = sound().copied()
    voted = copy.blocks[height]
    damaged: dict[str, Any] = {part: flipped(getattr(voted, part), bit)}
    copy.blocks[height] = replace(voted, **damaged)
    assert refused_at(copy, f"block {height}") == height


@given(height=st.integers(0, len(SIZES) - 1), bit=st.integers(0, 40), part=st.sampled_from(["height", "start", "size"]))
def test_a_flipped_bit_of_a_place_is_found(height: int, bit: int, part: str) -> None:
    """One bit of any number by which blocks are found is found, at its height."""
    copy = sound().copied()
    voted = copy.blocks[height]
    number: dict[str, Any] = {part: getattr(voted, part) ^ 1 << bit}
    copy.blocks[height] = replace(voted, **number)
    assert refused_at(copy, "is missing|another block stands") == height


@given(leaf_number=st.integers(0, sum(SIZES) - 1), bit=st.integers(0, 255))
def test_a_flipped_bit_of_a_leaf_hash_is_found(leaf_number: int, bit: int) -> None:
    """One bit of any leaf hash is found, at the block that sealed it."""
    copy = sound().copied()
    number, place = divmod(leaf_number, 256)
    copy.tiles[0, number] = flipped(copy.tiles[0, number], 256 * place + bit)
    assert refused_at(copy, "do not make its root") == block_with_leaf(leaf_number)


@given(place=st.integers(0, sum(SIZES) // 256 - 1), bit=st.integers(0, 255))
def test_a_flipped_bit_of_a_node_above_is_found(place: int, bit: int) -> None:
    """One bit of any hash above the leaves is found, at the block that completed the tile below."""
    copy = sound().copied()
    copy.tiles[1, 0] = flipped(copy.tiles[1, 0], 256 * place + bit)
    assert refused_at(copy, rf"hash {place} of tile \(1, 0\)") == block_with_leaf(256 * (place + 1) - 1)


@given(bit=BITS, vote=st.none() | st.integers(0, 2))
def test_a_flipped_bit_of_a_certificate_is_found(bit: int, vote: int | None) -> None:
    """One bit of a certificate's proposal or votes is found, at its block."""
    copy = sound().copied()
    certificate = copy.certificates[2]
    votes = list(certificate.votes)
    if vote is None:
        certificate = replace(certificate, proposal=flipped(certificate.proposal, bit))
    else:
        votes[vote] = flipped(votes[vote], bit)
    copy.certificates[2] = replace(certificate, votes=tuple(votes))
    assert refused_at(copy, "the certificate of block 2") == 2


@pytest.mark.parametrize(("tile", "bit"), [((0, 255), 9), ((1, 0), 65_535), ((2, 0), 0)], ids=str)
def test_a_flipped_bit_at_any_level_is_found(tile: tuple[int, int], bit: int) -> None:
    """One bit anywhere in a tall tree is found at the block that completed what it belongs to."""
    copy = tall().copied()
    copy.tiles[tile] = flipped(copy.tiles[tile], bit)
    assert refused_at(copy, "do not make its root|is not the root of") == 7


# -- what is missing, too much, or in the wrong place


def test_a_missing_block_is_named() -> None:
    """Where a block is missing its height is what differs."""
    copy = sound().copied()
    del copy.blocks[2]
    assert refused_at(copy, "block 2 is missing") == 2


@pytest.mark.parametrize(
    ("tile", "change", "height", "what"),
    [
        ((0, 1), lambda _: None, 2, r"tile \(0, 1\) is missing"),
        ((0, 1), lambda tile: tile[:-32], 3, "too short"),
        ((0, 1), lambda tile: tile + bytes(32), 3, r"tile \(0, 1\) is 8224 bytes long, not 8192"),
        ((0, 3), lambda tile: tile + bytes(32), 7, "bytes long"),
        ((0, 4), lambda _: b"", 7, r"tiles by level are \{0: 5, 1: 1\}"),
        ((1, 0), lambda _: None, 2, r"tile \(1, 0\) is missing"),
        ((1, 0), lambda tile: tile[:-1], 6, "is not the root"),
        ((1, 0), lambda tile: tile + bytes(32), 7, "bytes long"),
        ((2, 0), lambda _: bytes(32), 7, "tiles by level"),
    ],
)
def test_a_tile_of_another_length_is_named(
    tile: tuple[int, int], change: Callable[[bytes], bytes | None], height: int, what: str
) -> None:
    """A tile that is missing, cut off, too long or one too many is found and named."""
    copy = sound().copied()
    changed = change(copy.tiles.pop(tile, b""))
    if changed is not None:
        copy.tiles[tile] = changed
    assert refused_at(copy, what) == height


def test_blocks_in_another_order_are_found() -> None:
    """A block that stands where another belongs is found, with row and signature both changed places."""
    copy = sound().copied()
    first, second = copy.blocks[1:3]
    copy.blocks[1:3] = [replace(second, height=1), replace(first, height=2)]
    assert refused_at(copy, "another block stands at height 1") == 1


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"start": 3}, "does not follow"),
        ({"start_root": bytes(32)}, "does not follow"),
        ({"root": bytes(32)}, "do not make its root"),
        ({"incarnation": 1}, "another block stands"),
        ({"chain": "ward-4.00000000"}, "no gateway on the roster"),
    ],
)
def test_a_signed_block_that_cannot_follow_is_found(changes: dict[str, int | bytes | str], what: str) -> None:
    """A gateway's signature does not help a block that this peer could not have voted for."""
    copy = sound().copied()
    block = proposals()[1].block
    copy.blocks[1] = voted_for(propose(replace(block, **changes), ()))  # type: ignore[arg-type]  # a field's own type each
    assert refused_at(copy, what) == 1


def test_a_block_of_another_incarnation_is_found() -> None:
    """A block belongs to the incarnation that is signed in it, wherever its row says that it stands."""
    copy = copy_of(2)
    audit = ChainAudit(ROSTERS, PEER, CHAIN, 1, copy.read)
    with pytest.raises(VerificationError, match="another block stands at height 0"):
        audit.follow(copy.blocks[0])


def test_a_vote_for_another_block_is_found() -> None:
    """A vote that this peer cast elsewhere is none for the block beside it, nor is another peer's."""
    copy = sound().copied()
    block = proposals()[4].block
    moved = replace(block, height=5)
    copy.blocks[4] = replace(copy.blocks[4], vote=cast_vote(keys_of(PEER), PEER, 1, moved, VOTED_S))
    assert refused_at(copy, "the vote on block 4: the vote of peer-0 is for another position") == 4
    copy.blocks[4] = replace(copy.blocks[4], vote=cast_vote(keys_of(PEER), "peer-1", 1, block, VOTED_S))
    assert refused_at(copy, "the vote on block 4: the vote of peer-1 is by key") == 4
    copy.blocks[4] = voted_for(proposals()[4], peer="peer-1")
    assert refused_at(copy, "the vote on block 4 is not by peer-0") == 4


@pytest.mark.parametrize(
    ("certificate", "what"),
    [
        (lambda: certificate_of(proposals()[3]), "the certificate of block 4 is of another one"),
        (lambda: certificate_of(proposals()[4], "peer-1", "peer-3"), "2 of 4 have voted, 3 are needed"),
        (lambda: replace(certificate_of(proposals()[4]), votes=()), "a certificate without votes"),
        (
            lambda: replace(certificate_of(proposals()[4]), votes=certificate_of(proposals()[3]).votes),
            "for another position than block 4",
        ),
    ],
)
def test_a_certificate_that_makes_nothing_final_is_found(certificate: Callable[[], Certificate], what: str) -> None:
    """A certificate of another block, or without a quorum, is found at the block beside which it stands."""
    copy = sound().copied()
    copy.certificates[4] = certificate()
    assert refused_at(copy, what) == 4


def test_a_certificate_of_no_block_is_found() -> None:
    """Every certificate belongs to a block that is there."""
    copy = sound().copied()
    copy.certificates[99] = certificate_of(proposals()[4])
    assert refused_at(copy, "3 certificates are kept, of its blocks 2") == len(SIZES)


def test_a_stranger_has_no_copy() -> None:
    """Who was on no roster cannot have voted, and a chain that nobody writes is nobody's."""
    audit = ChainAudit(ROSTERS, "nobody", CHAIN, 0, sound().read)
    with pytest.raises(VerificationError, match="the vote on block 0 is not by nobody"):
        audit.follow(sound().blocks[0])
    with pytest.raises(VerificationError, match="no gateway on the roster writes chain 'nowhere'"):
        ChainAudit(ROSTERS, PEER, "nowhere", 0, Copy().read)


# -- two copies


def test_copies_of_one_history_do_not_differ() -> None:
    """Two peers' copies are the same as far as both go, whoever voted."""
    here, there = sound().blocks, [voted_for(proposal, peer="peer-1") for proposal in proposals()]
    assert first_fork(ROSTERS, CHAIN, 0, here, there) is None
    assert first_fork(ROSTERS, CHAIN, 0, here[:3], there) is None
    assert first_fork(ROSTERS, CHAIN, 0, [], there) is None


def test_copies_of_two_histories_differ_where_the_gateway_forked() -> None:
    """The first height of two histories is named, with both signed proposals."""
    here, there = sound().blocks, copy_of(*SIZES, branch=2).blocks
    assert first_fork(ROSTERS, CHAIN, 0, here, there) == Fork(1, here[1].proposal, there[1].proposal)


def test_a_fork_that_joins_again_is_found() -> None:
    """Blocks cut elsewhere differ, also where the tree and all later blocks are the same."""
    here, there = copy_of(2, 3, 4, 5).blocks, copy_of(3, 2, 4, 5).blocks
    assert here[2:] == there[2:]
    assert first_fork(ROSTERS, CHAIN, 0, here, there) == Fork(0, here[0].proposal, there[0].proposal)


def test_a_block_signed_twice_is_no_fork() -> None:
    """A second valid signature over the very same block, here with the other name of the algorithm, is no other one."""
    here, there = sound().blocks, list(sound().blocks)
    there[0] = replace(there[0], proposal=signed_otherwise(proposals()[0].block))
    assert there[0] != here[0]
    assert first_fork(ROSTERS, CHAIN, 0, here, there) is None


@given(height=st.integers(0, len(SIZES) - 1), bit=BITS, is_here=st.booleans())
def test_damage_is_no_fork(height: int, bit: int, is_here: bool) -> None:  # noqa: FBT001 - Hypothesis gives it
    """A copy that a disk changed does not accuse the gateway."""
    whole, damaged = sound().blocks, list(sound().blocks)
    damaged[height] = replace(damaged[height], proposal=flipped(damaged[height].proposal, bit))
    pair = (damaged, whole) if is_here else (whole, damaged)
    with pytest.raises(VerificationError, match=f"^{'here' if is_here else 'there'}: block {height}: "):
        first_fork(ROSTERS, CHAIN, 0, *pair)


def test_a_lost_block_is_no_fork() -> None:
    """A copy that lost a block does not accuse the gateway either."""
    lost = list(sound().blocks)
    del lost[2]
    with pytest.raises(VerificationError, match=r"^there: block 2 is missing"):
        first_fork(ROSTERS, CHAIN, 0, sound().blocks, lost)
