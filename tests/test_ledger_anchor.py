from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import canonical, cbor, merkle, signing
from gateway.errors import VerificationError
from gateway.ledger.anchor import FIRST_RETRY_MS, LAST_RETRY_MS, WINDOW, Anchor, TipPoll, state_tip
from gateway.ledger.closing import Place
from gateway.ledger.quorum import verify_certificate
from gateway.ledger.statements import BLOCK_TYPE
from gateway.ledger.voting import cast_vote
from gateway.model import Proposal
from tests.builders import CHAIN, VOTED_S, Chain, key_of, keys_of, make_roster, member, signed_again, ward_chain

ROSTER = make_roster()
PEERS = [peer.id for peer in ROSTER.peers]
WARD = ward_chain()
NONCE = b"sixteen bytes..."


def vote_of(peer: str, proposal: Proposal, epoch: int = 1) -> bytes:
    return cast_vote(keys_of(peer), peer, epoch, proposal.block, VOTED_S)


def anchored(*proposals: Proposal) -> Anchor:
    anchor = Anchor(ROSTER)
    for proposal in proposals:
        anchor.propose(proposal.block, proposal.signed, proposal.signed + b" as a message")
    return anchor


def message_of(proposal: Proposal) -> bytes:
    return proposal.signed + b" as a message"


def tip_at(count: int, chain: Chain = WARD) -> Place:
    """Give the place behind this many blocks."""
    hashes = [leaf_hash for proposal in chain.proposals[:count] for leaf_hash in proposal.hashes]
    frontier = merkle.Frontier().extend(hashes)
    proposal = chain.proposals[count - 1].signed if count else b""
    return Place(count, frontier.size, frontier.root(), proposal)


def stated(key: str, peer: str, place: Place, incarnation: int = 0) -> bytes:
    """Give the tip that somebody states with a key in a peer's name."""
    return state_tip(keys_of(key), peer, CHAIN, incarnation, place, NONCE)


def answer_of(peer: str, count: int, *, nonce: bytes = NONCE) -> tuple[bytes, bytes]:
    place = tip_at(count)
    return state_tip(keys_of(peer), peer, CHAIN, 0, place, nonce), place.proposal


# -- blocks in flight


def test_a_quorum_of_votes_makes_the_certificate() -> None:
    """Two votes are awaited on, the third makes a certificate that verifies, and the block is no longer in flight."""
    first, second = WARD.proposals
    anchor = anchored(first, second)
    assert anchor.count(1, vote_of("peer-3", second)) is None
    assert anchor.count(1, vote_of("peer-0", second)) is None
    certified = anchor.count(1, vote_of("peer-2", second))
    assert certified is not None
    assert (certified.block, certified.peers) == (second.block, ("peer-0", "peer-2", "peer-3"))
    assert verify_certificate(ROSTER, certified.certificate) == second.block
    assert (anchor.in_flight(0), anchor.in_flight(1)) == (True, False)


def test_fault_20_a_vote_that_comes_again_counts_once() -> None:
    """However often one peer says the same, it is one vote."""
    anchor = anchored(WARD.proposals[0])
    for peer in ("peer-0", "peer-1", "peer-0", "peer-1", "peer-0"):
        assert anchor.count(0, vote_of(peer, WARD.proposals[0])) is None
    assert anchor.count(0, vote_of("peer-2", WARD.proposals[0])) is not None


def test_fault_20_bad_votes_are_refused_and_change_nothing() -> None:
    """A vote for another block, of another epoch or by a stranger is refused; the good ones still suffice."""
    first, second = WARD.proposals
    anchor = anchored(first)
    for bad in (vote_of("peer-0", second), vote_of("peer-0", first, epoch=7), vote_of("mallory", first), b"", b"\x00"):
        with pytest.raises(VerificationError):
            anchor.count(0, bad)
    for peer in PEERS[:2]:
        assert anchor.count(0, vote_of(peer, first)) is None
    assert anchor.count(0, vote_of(PEERS[2], first)) is not None


def test_the_window_bounds_what_is_in_flight() -> None:
    """Each block takes one of the places, a certificate gives it back."""
    anchor = anchored(*WARD.proposals)
    assert anchor.room == WINDOW - 2
    for peer in PEERS[:3]:
        anchor.count(0, vote_of(peer, WARD.proposals[0]))
    assert anchor.room == WINDOW - 1


def test_blocks_are_due_at_once_in_order_and_then_ever_more_rarely() -> None:
    """The lowest first; repeated after 1, 2, 4, ... seconds, at last every 30."""
    second, first = WARD.proposals[::-1]
    anchor = anchored(second, first)
    assert anchor.due(0) == [message_of(first), message_of(second)]
    now_ms, waits = 0, []
    for _ in range(8):
        assert anchor.due(now_ms) == []
        wait_ms = next(wait for wait in range(1, 40_000) if anchor.due(now_ms + wait))
        waits.append(wait_ms)
        now_ms += wait_ms
    assert waits == [FIRST_RETRY_MS, 2000, 4000, 8000, 16_000, LAST_RETRY_MS, LAST_RETRY_MS, LAST_RETRY_MS]


def test_after_a_reconnection_everything_in_flight_is_due() -> None:
    """What was published before may never have arrived, and the patience begins anew."""
    anchor = anchored(*WARD.proposals)
    for now_ms in (0, 1000, 3000, 7000):
        anchor.due(now_ms)
    anchor.reconnected()
    assert anchor.due(7001) == [message_of(proposal) for proposal in WARD.proposals]
    assert anchor.due(7001 + FIRST_RETRY_MS - 1) == []
    assert len(anchor.due(7001 + FIRST_RETRY_MS)) == 2


def test_a_certified_block_is_not_published_again() -> None:
    """Votes free a block from being due."""
    anchor = anchored(WARD.proposals[0])
    for peer in PEERS[:3]:
        anchor.count(0, vote_of(peer, WARD.proposals[0]))
    anchor.reconnected()
    assert anchor.due(10**9) == []


# -- the question before the first block


@given(st.lists(st.tuples(st.sampled_from(PEERS), st.integers(0, 2)), max_size=8))
def test_a_quorum_of_answers_tells_how_far_the_chain_goes(answers: list[tuple[str, int]]) -> None:
    """It is answered when three of four have said so; the highest block that any of them shows is what counts."""
    poll = TipPoll(ROSTER, CHAIN, 0, NONCE)
    assert (poll.answered, poll.next_height) == (False, 0)
    for peer, count in answers:
        poll.answer(*answer_of(peer, count))
    assert poll.answered == (len({peer for peer, _ in answers}) >= 3)
    assert poll.next_height == max((count for _, count in answers), default=0)


def test_fault_14_a_peers_later_answer_does_not_take_back_a_block() -> None:
    """Once a peer has shown a signed block, an older answer of its that comes late does not hide it."""
    poll = TipPoll(ROSTER, CHAIN, 0, NONCE)
    poll.answer(*answer_of("peer-0", 2))
    poll.answer(*answer_of("peer-0", 0))
    assert poll.next_height == 2


def test_an_answer_to_an_earlier_question_is_passed_over() -> None:
    """What the broker kept from before carries another nonce: neither counted nor an error."""
    poll = TipPoll(ROSTER, CHAIN, 0, NONCE)
    for peer in PEERS:
        poll.answer(*answer_of(peer, 2, nonce=b"an older one"))
    assert (poll.answered, poll.next_height) == (False, 0)


def test_an_answer_about_another_chain_is_passed_over() -> None:
    """A tip of another chain says nothing about this one."""
    roster = signed_again(replace(ROSTER, gateways=(*ROSTER.gateways, member("ward-4", "ward-4.0"))))
    poll = TipPoll(roster, "ward-4.0", 0, NONCE)
    poll.answer(*answer_of("peer-0", 2))
    assert poll.next_height == 0


def test_an_answer_by_a_stranger_or_in_a_peers_name_is_refused() -> None:
    """Only peers on the roster answer, each with its own key."""
    tip = tip_at(1)
    proposal = tip.proposal
    poll = TipPoll(ROSTER, CHAIN, 0, NONCE)
    with pytest.raises(VerificationError, match="peer 'mallory' is not on the roster"):
        poll.answer(stated("mallory", "mallory", tip), proposal)
    with pytest.raises(VerificationError, match="does not hold"):
        poll.answer(stated("mallory", "peer-0", tip), proposal)
    with pytest.raises(VerificationError, match="does not hold"):
        poll.answer(stated("peer-1", "peer-0", tip), proposal)
    nameless = signing.sign(key_of("peer-0"), cbor.encode({1: -8}), b"")
    with pytest.raises(VerificationError, match="is not on the roster"):
        poll.answer(nameless, proposal)


def test_another_statement_of_a_peer_is_no_tip() -> None:
    """What a peer signed as something else is not taken for an answer."""
    key = key_of("peer-0")
    header = canonical.signer_header(BLOCK_TYPE, key.kid, "peer-0", CHAIN)
    with pytest.raises(VerificationError, match="not a tip"):
        TipPoll(ROSTER, CHAIN, 0, NONCE).answer(signing.sign(key, header, b""), b"")


def test_a_peer_cannot_claim_a_block_that_the_gateway_did_not_sign() -> None:
    """A tip beyond the empty tree comes with the gateway's own proposal for exactly that place."""
    tip = tip_at(2)
    proposal, earlier = tip.proposal, tip_at(1).proposal
    forged = ward_chain(4).proposals[1].signed
    poll = TipPoll(ROSTER, CHAIN, 0, NONCE)
    with pytest.raises(VerificationError, match="not CBOR"):
        poll.answer(stated("peer-0", "peer-0", tip), b"")
    for shown in (earlier, forged):
        with pytest.raises(VerificationError, match="the tip of peer-0 is not the block that it shows"):
            poll.answer(stated("peer-0", "peer-0", tip), shown)
    for claim in (
        replace(tip, next_height=3),
        replace(tip, size=tip_at(1).size),
        replace(tip, root=tip_at(1).root),
        replace(tip, next_height=0),
    ):
        with pytest.raises(VerificationError, match="is not the block that it shows"):
            poll.answer(stated("peer-0", "peer-0", claim), proposal)
    with pytest.raises(VerificationError, match="is not the block that it shows"):
        poll.answer(stated("peer-0", "peer-0", tip, incarnation=1), proposal)
    assert poll.next_height == 0


def test_every_flipped_bit_of_an_answer_is_refused_or_passed_over() -> None:
    """A damaged answer never counts."""
    signed, proposal = answer_of("peer-0", 1)
    poll = TipPoll(ROSTER, CHAIN, 0, NONCE)
    for place in range(len(signed) * 8):
        flipped = bytearray(signed)
        flipped[place // 8] ^= 1 << place % 8
        with pytest.raises(VerificationError):
            poll.answer(bytes(flipped), proposal)
    assert poll.next_height == 0
