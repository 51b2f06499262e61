from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import canonical, cbor, signing
from gateway.errors import VerificationError
from gateway.ledger.policy import default_policy
from gateway.ledger.quorum import (
    certificate_epoch,
    read_vote,
    require_quorum,
    verify_block_vote,
    verify_certificate,
)
from gateway.ledger.statements import BLOCK_TYPE, POSITION, vote_header
from gateway.ledger.voting import cast_vote, sign_block
from gateway.model import NOBODY, Block, Certificate, Roster
from tests.builders import (
    GATEWAY,
    SEALED_MS,
    VOTED_S,
    key_of,
    keys_of,
    make_roster,
    member,
    propose,
    signed_again,
    ward_chain,
)
from tests.epochs import PEERS, both_keys_of, epochs, post_quantum

ROSTER = make_roster()
CHAIN = ward_chain()
PROPOSAL = CHAIN.proposals[1]
BLOCK = PROPOSAL.block


def vote_of(peer: str, block: Block = BLOCK, *, epoch: int = ROSTER.epoch, key: str | None = None) -> bytes:
    return cast_vote(keys_of(key or peer), peer, epoch, block, VOTED_S)


def certificate_of(*votes: bytes) -> Certificate:
    return Certificate(proposal=PROPOSAL.signed, votes=votes)


def header_of(**changes: object) -> bytes:
    """Give a vote with entries of its protected header changed, `None` leaves one out; signed by its peer's key."""
    names = {"alg": 1, "type": 3, "kid": 4, "claims": 15, "tree": 395, "position": -70001}
    key = key_of("peer-0")
    header: dict[int, object] = dict(cbor.decode(vote_header(canonical.EDDSA, key.kid, "peer-0", VOTED_S, 1, BLOCK)))
    header |= {names[name]: value for name, value in changes.items()}
    encoded = cbor.encode({label: value for label, value in header.items() if value is not None})
    return signing.sign(key, encoded, BLOCK.root, detached=True)


@given(st.sets(st.integers(0, 3)))
def test_exactly_a_quorum_of_distinct_votes_makes_a_block_final(voters: set[int]) -> None:
    """Of four peers any three or four do, in any order; fewer do not."""
    certificate = certificate_of(*[vote_of(f"peer-{number}") for number in voters])
    if len(voters) >= 3:
        assert verify_certificate(ROSTER, certificate) == BLOCK
    else:
        with pytest.raises(VerificationError, match=f"{len(voters)} of 4 have voted, 3 are needed"):
            verify_certificate(ROSTER, certificate)


def test_without_a_vote_nothing_is_final() -> None:
    """Where there are no peers, no certificate holds."""
    alone = replace(ROSTER, peers=(), policy=NOBODY)
    with pytest.raises(VerificationError, match="0 of 0 have voted, 1 is needed"):
        verify_certificate(alone, certificate_of())


def test_fault_20_a_repeated_vote_does_not_count_twice() -> None:
    """Two peers' votes and one of them again are no quorum."""
    with pytest.raises(VerificationError, match="counted twice"):
        verify_certificate(ROSTER, certificate_of(vote_of("peer-0"), vote_of("peer-1"), vote_of("peer-0")))


def test_fault_20_a_forged_vote_is_refused() -> None:
    """A vote in a peer's name by another key is refused, whether it shows that key or claims the peer's."""
    with pytest.raises(VerificationError, match=r"is by key .*, not by the roster's"):
        verify_block_vote(ROSTER, BLOCK, vote_of("peer-0", key="mallory"))
    header = vote_header(canonical.EDDSA, key_of("peer-0").kid, "peer-0", VOTED_S, ROSTER.epoch, BLOCK)
    forged = signing.sign(key_of("mallory"), header, BLOCK.root, detached=True)
    with pytest.raises(VerificationError, match="does not hold"):
        verify_block_vote(ROSTER, BLOCK, forged)


def test_fault_20_a_peers_vote_in_another_peers_name_is_refused() -> None:
    """One peer cannot vote for two."""
    with pytest.raises(VerificationError, match="vote of peer-1 is by key"):
        verify_block_vote(ROSTER, BLOCK, vote_of("peer-1", key="peer-0"))


@pytest.mark.parametrize("epoch", [0, 2])
def test_fault_20_a_vote_of_another_epoch_is_refused(epoch: int) -> None:
    """Votes of an older or a newer roster do not count under this one."""
    with pytest.raises(VerificationError, match=f"is of roster epoch {epoch}, this roster's is 1"):
        verify_block_vote(ROSTER, BLOCK, vote_of("peer-0", epoch=epoch))


@pytest.mark.parametrize(
    "restated",
    [
        replace(BLOCK, incarnation=1),
        replace(BLOCK, height=2),
        replace(BLOCK, start=1),
        replace(BLOCK, size=BLOCK.size + 1),
        replace(BLOCK, chain="ward-4.0"),
        replace(BLOCK, sealed_ms=BLOCK.sealed_ms + 1),
    ],
)
def test_fault_20_a_vote_for_a_restated_position_is_refused(restated: Block) -> None:
    """A vote counts for the very chain, incarnation, height and range that its peer signed."""
    with pytest.raises(VerificationError, match="is for another position"):
        verify_block_vote(ROSTER, BLOCK, vote_of("peer-0", restated))
    with pytest.raises(VerificationError, match="is for another position"):
        verify_block_vote(ROSTER, restated, vote_of("peer-0"))


def test_fault_20_a_vote_for_another_root_is_refused() -> None:
    """The root is what is signed: at the same position another one does not hold."""
    with pytest.raises(VerificationError, match="does not hold"):
        verify_block_vote(ROSTER, BLOCK, vote_of("peer-0", replace(BLOCK, root=bytes(32))))


def test_a_stranger_does_not_vote() -> None:
    """Whoever is not a peer on the roster, the gateway itself included, is refused by name."""
    for stranger in ("peer-4", "ward-3", "admin"):
        with pytest.raises(VerificationError, match=f"peer '{stranger}' is not on the roster"):
            verify_block_vote(ROSTER, BLOCK, vote_of(stranger))


def test_one_bad_vote_spoils_a_certificate() -> None:
    """A certificate is what its votes are: a bad one is refused even where the others suffice."""
    votes = [vote_of(f"peer-{number}") for number in range(3)]
    with pytest.raises(VerificationError, match="epoch"):
        verify_certificate(ROSTER, certificate_of(*votes, vote_of("peer-3", epoch=9)))


def test_a_certificate_is_for_a_proposal_of_its_gateway() -> None:
    """Votes do not make up for a proposal that the gateway did not sign."""
    votes = tuple(vote_of(f"peer-{number}") for number in range(4))
    forged = propose(BLOCK, [], "mallory").signed
    with pytest.raises(VerificationError, match="a proposal for chain"):
        verify_certificate(ROSTER, Certificate(proposal=forged, votes=votes))


def test_the_quorum_is_the_rosters() -> None:
    """Where the roster asks for all, three of four do not suffice."""
    strict: Roster = make_roster(4, quorum=4)
    votes = [vote_of(f"peer-{number}") for number in range(4)]
    assert verify_certificate(strict, certificate_of(*votes)) == BLOCK
    with pytest.raises(VerificationError, match="3 of 4 have voted, 4 are needed"):
        verify_certificate(strict, certificate_of(*votes[:3]))
    require_quorum(strict, iter(["peer-0", "peer-1", "peer-2", "peer-3"]))


def test_a_hospital_with_three_peers_counts_once() -> None:
    """Of four organisations three are needed, and the hospital's only with two of its three peers."""
    peers = [replace(member(f"peer-{number}"), organisation="hospital") for number in range(3)]
    others = [member(f"peer-{number}") for number in range(3, 6)]
    members = (*peers, *others)
    roster = signed_again(replace(ROSTER, peers=members, policy=default_policy(members)))
    votes = [vote_of(f"peer-{number}", epoch=roster.epoch) for number in range(6)]
    assert verify_certificate(roster, certificate_of(*votes[1:5])) == BLOCK
    assert verify_certificate(roster, certificate_of(*votes[3:])) == BLOCK
    with pytest.raises(VerificationError, match=r"^2 of 4 have voted, 3 are needed$"):
        verify_certificate(roster, certificate_of(*votes[:4]))
    reason = r"^2 of 4 have voted, 3 are needed; 1 of \(peer-0, peer-1, peer-2\) have voted, 2 are needed$"
    with pytest.raises(VerificationError, match=reason):
        verify_certificate(roster, certificate_of(*votes[2:5]))


CLAIMS: Mapping[int, Any] = {1: "peer-0", 2: BLOCK.chain, 6: VOTED_S}
PLACE = [1, 0, 1, 2, 7, SEALED_MS]


@pytest.mark.parametrize(
    "changes",
    [
        {"type": BLOCK_TYPE},
        {"kid": None},
        {"claims": None},
        {"claims": {1: "peer-0", 2: BLOCK.chain}},
        {"claims": {**CLAIMS, 1: b"peer-0"}},
        {"claims": {**CLAIMS, 2: 7}},
        {"claims": {**CLAIMS, 6: "now"}},
        {"claims": {**CLAIMS, 6: True}},
        {"claims": {**CLAIMS, 6: -1}},
        {"tree": None},
        {"tree": 2},
        {"tree": True},
        {"position": None},
        {"position": PLACE[:5]},
        {"position": [*PLACE, 0]},
        {"position": [True, *PLACE[1:]]},
        {"position": [1, False, *PLACE[2:]]},
        {"position": [1, 0, True, *PLACE[3:]]},
        {"position": [*PLACE[:4], b"7", SEALED_MS]},
        {"position": [*PLACE[:3], -2, 7, SEALED_MS]},
        {"position": [*PLACE[:5], True]},
        {"position": [*PLACE[:5], "now"]},
    ],
)
def test_what_is_not_exactly_a_votes_header_is_refused(changes: dict[str, object]) -> None:
    """A vote has its entries and no others, each of its type: true is no number, though it equals 1."""
    assert cbor.decode(vote_header(canonical.EDDSA, b"", "", 0, 1, BLOCK))[POSITION] == PLACE
    with pytest.raises(VerificationError, match="not a vote"):
        verify_block_vote(ROSTER, BLOCK, header_of(**changes))


def test_a_vote_carries_nothing_unsigned() -> None:
    """Beside its protected header a vote has nothing; what has is a receipt, and no vote."""
    protected, _, _, signature = cbor.decode(vote_of("peer-0")).value
    stuffed = cbor.encode(cbor2.CBORTag(18, [protected, {396: {}}, None, signature]))
    with pytest.raises(VerificationError, match="no unprotected header"):
        verify_block_vote(ROSTER, BLOCK, stuffed)


def test_a_vote_with_its_root_inside_is_refused() -> None:
    """The root is detached, as RFC 9942 has it: nobody reads it from the vote."""
    key = key_of("peer-0")
    attached = signing.sign(key, vote_header(canonical.EDDSA, key.kid, "peer-0", VOTED_S, 1, BLOCK), BLOCK.root)
    with pytest.raises(VerificationError, match="in one of the two"):
        verify_block_vote(ROSTER, BLOCK, attached)


def test_every_flipped_bit_of_a_vote_is_refused() -> None:
    """Whichever single bit changes, the vote does not count."""
    vote = vote_of("peer-0")
    for place in range(len(vote) * 8):
        flipped = bytearray(vote)
        flipped[place // 8] ^= 1 << place % 8
        with pytest.raises(VerificationError):
            verify_block_vote(ROSTER, BLOCK, bytes(flipped))


def test_a_votes_time_is_read_in_milliseconds() -> None:
    """Signed in seconds, as CWT has it; given in milliseconds as all times here."""
    signed = vote_of("peer-0")
    assert read_vote(signing.parse(signed), signed).voted_ms == VOTED_S * 1000


def test_a_time_of_sealing_may_be_before_1970() -> None:
    """A gateway whose clock is wrong still anchors: its peers sign what it said."""
    block = replace(BLOCK, sealed_ms=-1)
    assert verify_block_vote(ROSTER, block, vote_of("peer-0", block)).sealed_ms == -1


def test_a_certificate_is_of_the_epoch_that_its_votes_name() -> None:
    """Whoever has a certificate finds the roster for it; without a vote there is none to find."""
    assert certificate_epoch(certificate_of(vote_of("peer-0", epoch=7))) == 7
    with pytest.raises(VerificationError, match="without votes"):
        certificate_epoch(certificate_of())


# -- post-quantum

QUANTUM = epochs(post_quantum).current
SECOND_PROPOSAL = sign_block(both_keys_of(GATEWAY), GATEWAY, BLOCK)
SECOND_VOTES = [cast_vote(both_keys_of(peer), peer, 2, BLOCK, VOTED_S) for peer in PEERS]


def test_a_post_quantum_certificate_has_every_signature_twice() -> None:
    """Proposal and votes each carry a second signature, and a quorum of such votes makes a block final."""
    for votes in (SECOND_VOTES, SECOND_VOTES[:3]):
        certificate = Certificate(proposal=SECOND_PROPOSAL, votes=tuple(votes))
        assert verify_certificate(QUANTUM, certificate) == BLOCK
    assert [len(signing.split_blob(blob)) for blob in (SECOND_PROPOSAL, *SECOND_VOTES)] == [2] * 5


@pytest.mark.parametrize("stripped", [range(4), range(2), [3]], ids=["all", "half", "one"])
def test_votes_without_second_signatures_are_refused(stripped: Sequence[int]) -> None:
    """In a post-quantum epoch a vote by Ed25519 alone is none: it spoils a certificate, also where three are left."""
    votes = [signing.split_blob(vote)[0] if number in stripped else vote for number, vote in enumerate(SECOND_VOTES)]
    with pytest.raises(VerificationError, match=r"has no second signature \(ML-DSA-44\)"):
        verify_certificate(QUANTUM, Certificate(proposal=SECOND_PROPOSAL, votes=tuple(votes)))


def test_half_a_quorum_of_second_signatures_is_refused() -> None:
    """Two whole votes of four are as few as two votes in a plain epoch."""
    with pytest.raises(VerificationError, match="2 of 4 have voted, 3 are needed"):
        verify_certificate(QUANTUM, Certificate(proposal=SECOND_PROPOSAL, votes=tuple(SECOND_VOTES[:2])))


def test_a_proposal_without_its_second_signature_is_refused() -> None:
    """In a post-quantum epoch the gateway signs twice, too."""
    certificate = Certificate(proposal=PROPOSAL.signed, votes=tuple(SECOND_VOTES))
    with pytest.raises(VerificationError, match="the proposal of block 1 has no second signature"):
        verify_certificate(QUANTUM, certificate)


def test_votes_of_two_epochs_are_no_certificate() -> None:
    """Votes of the plain epoch before do not make up for those that are missing."""
    votes = (*SECOND_VOTES[:2], *[vote_of(peer, epoch=1) for peer in PEERS[2:]])
    with pytest.raises(VerificationError, match="is of roster epoch 1, this roster's is 2"):
        verify_certificate(QUANTUM, Certificate(proposal=SECOND_PROPOSAL, votes=votes))


def test_a_second_signature_by_another_key_is_refused() -> None:
    """One peer's second signature is not another's; a second first one is none."""
    mixed = signing.Keys(key_of("peer-0"), both_keys_of("peer-1").second)
    with pytest.raises(VerificationError, match="does not hold"):
        verify_block_vote(QUANTUM, BLOCK, cast_vote(mixed, "peer-0", 2, BLOCK, VOTED_S))
    first = signing.split_blob(SECOND_VOTES[0])[0]
    with pytest.raises(VerificationError, match="of the second signature is not ML-DSA-44"):
        verify_block_vote(QUANTUM, BLOCK, first + first)


def test_a_second_signature_that_nobody_knows_is_refused() -> None:
    """Where the roster has no key for it, a second signature cannot be checked, and is not passed over."""
    with pytest.raises(VerificationError, match="the roster has no key for it"):
        verify_block_vote(ROSTER, BLOCK, cast_vote(both_keys_of("peer-0"), "peer-0", 1, BLOCK, VOTED_S))


@given(st.integers(0, len(SECOND_VOTES[0]) * 8 - 1))
def test_every_flipped_bit_of_a_post_quantum_vote_is_refused(place: int) -> None:
    """Whichever single bit changes, in the first signature or the second, the vote does not count."""
    flipped = bytearray(SECOND_VOTES[0])
    flipped[place // 8] ^= 1 << place % 8
    with pytest.raises(VerificationError):
        verify_block_vote(QUANTUM, BLOCK, bytes(flipped))
