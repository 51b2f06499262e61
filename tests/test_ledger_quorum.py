from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import canonical, cbor, signing
from gateway.errors import VerificationError
from gateway.ledger.quorum import read_vote, require_quorum, verify_block_vote, verify_certificate
from gateway.ledger.roster import admitted
from gateway.ledger.voting import cast_vote
from gateway.model import NOBODY, Block, Certificate, Roster
from tests.builders import VOTED_S, key_of, make_roster, member, propose, signed_again, ward_chain

ROSTER = make_roster()
CHAIN = ward_chain()
PROPOSAL = CHAIN.proposals[1]
BLOCK = PROPOSAL.block


def vote_of(peer: str, block: Block = BLOCK, *, epoch: int = ROSTER.epoch, key: str | None = None) -> bytes:
    return cast_vote(key_of(key or peer), peer, epoch, block, VOTED_S)


def certificate_of(*votes: bytes) -> Certificate:
    return Certificate(proposal=PROPOSAL.signed, votes=votes)


def header_of(**changes: object) -> bytes:
    """Give a vote with entries of its protected header changed, `None` leaves one out; signed by its peer's key."""
    names = {"alg": 1, "type": 3, "kid": 4, "claims": 15, "tree": 395, "position": -70001}
    key = key_of("peer-0")
    header: dict[int, object] = dict(cbor.decode(canonical.vote_header(key.kid, "peer-0", VOTED_S, 1, BLOCK)))
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
    header = canonical.vote_header(key_of("peer-0").kid, "peer-0", VOTED_S, ROSTER.epoch, BLOCK)
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
    roster = signed_again(admitted(make_roster(0), [*peers, *others], []))
    votes = [vote_of(f"peer-{number}", epoch=roster.epoch) for number in range(6)]
    assert verify_certificate(roster, certificate_of(*votes[1:5])) == BLOCK
    assert verify_certificate(roster, certificate_of(*votes[3:])) == BLOCK
    with pytest.raises(VerificationError, match=r"^2 of 4 have voted, 3 are needed$"):
        verify_certificate(roster, certificate_of(*votes[:4]))
    reason = r"^2 of 4 have voted, 3 are needed; 1 of \(peer-0, peer-1, peer-2\) have voted, 2 are needed$"
    with pytest.raises(VerificationError, match=reason):
        verify_certificate(roster, certificate_of(*votes[2:5]))


CLAIMS: Mapping[int, Any] = {1: "peer-0", 2: BLOCK.chain, 6: VOTED_S}
PLACE = [1, 0, 1, 2, 7]


@pytest.mark.parametrize(
    "changes",
    [
        {"type": canonical.BLOCK_TYPE},
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
        {"position": PLACE[:4]},
        {"position": [*PLACE, 0]},
        {"position": [True, *PLACE[1:]]},
        {"position": [1, False, *PLACE[2:]]},
        {"position": [1, 0, True, *PLACE[3:]]},
        {"position": [*PLACE[:4], b"7"]},
        {"position": [*PLACE[:3], -2, 7]},
    ],
)
def test_what_is_not_exactly_a_votes_header_is_refused(changes: dict[str, object]) -> None:
    """A vote has its entries and no others, each of its type: true is no number, though it equals 1."""
    assert cbor.decode(canonical.vote_header(b"", "", 0, 1, BLOCK))[canonical.POSITION] == PLACE
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
    attached = signing.sign(key, canonical.vote_header(key.kid, "peer-0", VOTED_S, 1, BLOCK), BLOCK.root)
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
