from dataclasses import replace

import cbor2
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gateway import canonical, cbor, merkle, signing
from gateway.errors import VerificationError
from gateway.ledger.policy import is_met
from gateway.ledger.quorum import verify_block_vote
from gateway.ledger.statements import BLOCK_TYPE, encode_block
from gateway.ledger.voting import (
    Accepted,
    Behind,
    Conflict,
    Repeated,
    Tip,
    Verdict,
    block_of,
    cast_vote,
    judge,
    open_proposal,
    require_current_keys,
    sign_block,
)
from gateway.model import Block, Proposal, Roster
from tests.builders import (
    CHAIN,
    GATEWAY,
    SEALED_MS,
    VOTED_S,
    Chain,
    key_of,
    keys_of,
    make_roster,
    member,
    propose,
    signed_again,
)
from tests.epochs import both_keys_of, epochs, full_member, post_quantum

ROSTER = make_roster()
PICKS = st.integers(0, 1000)


def leaf(number: int, branch: int = 0) -> bytes:
    return b"leaf %d of branch %d" % (number, branch)


def chain_of(*blocks: int) -> Chain:
    """Give a chain whose blocks have these numbers of leaves."""
    chain = Chain()
    for count in blocks:
        chain.seal(*[leaf(len(chain.leaves) + number) for number in range(count)])
    return chain


class Voter:
    """A peer's memory: its tip and what it voted for; what it hears is judged and kept as `gateway.peer` does it."""

    def __init__(self, roster: Roster = ROSTER) -> None:
        self.roster = roster
        self.tip = Tip(chain=CHAIN)
        self.voted: list[Proposal] = []

    def hear(self, proposal: Proposal) -> Verdict:
        """Judge a proposal and keep what comes of it."""
        assert open_proposal(self.roster, proposal.signed) == proposal.block
        height = proposal.block.height
        known = self.voted[height].signed if height < len(self.voted) else None
        verdict = judge(self.roster, self.tip, proposal, known)
        if isinstance(verdict, Accepted):
            self.tip = verdict.tip
            self.voted.append(verdict.proposal)
        if isinstance(verdict, Conflict):
            self.tip = replace(self.tip, frozen=True)
        return verdict


def contradict(one: Block, other: Block) -> bool:
    """Say whether no single history can have both blocks, by nothing but what they say."""
    low, high = sorted((one, other), key=lambda block: block.height)
    if low.height == high.height:
        return low != high
    between = high.height - low.height - 1
    if between == 0:
        return (high.start, high.start_root) != (low.size, low.root)
    return high.start < low.size + between


def block_in(signed: bytes) -> Block:
    return open_proposal(ROSTER, signed)


# -- whatever the order


class Gateway(RuleBasedStateMachine):
    """A gateway that seals blocks and forks its chain as it likes; who hears of it is the subclasses' matter."""

    def __init__(self) -> None:
        super().__init__()
        self.branches = [Chain()]
        self.signed: list[tuple[Proposal, list[Proposal]]] = []
        self.leaves = 0

    @rule(branch=PICKS, counts=st.lists(st.integers(1, 3), min_size=1, max_size=3))
    def seal(self, branch: int, counts: list[int]) -> None:
        """Seal blocks of so many leaves on one of the branches."""
        chain = self.branches[branch % len(self.branches)]
        for count in counts:
            self.leaves += count
            proposal = chain.seal(*[leaf(number) for number in range(self.leaves - count, self.leaves)])
            self.signed.append((proposal, list(chain.proposals)))

    @rule(branch=PICKS, keep=st.integers(0, 4))
    def fork(self, branch: int, keep: int) -> None:
        """Begin another branch behind the first blocks of one."""
        chain, kept = self.branches[branch % len(self.branches)], Chain()
        for proposal in chain.proposals[:keep]:
            kept.seal(*chain.leaves[proposal.block.start : proposal.block.size])
        self.branches.append(kept)


class OnePeer(Gateway):
    """One peer that hears the gateway's proposals in any order, again and again.

    Its votes follow one history; a conflict is told exactly where two signed blocks contradict each other.
    """

    def __init__(self) -> None:
        super().__init__()
        self.peer = Voter()

    @precondition(lambda self: self.signed)
    @rule(picks=st.lists(PICKS, min_size=1, max_size=6))
    def deliver(self, picks: list[int]) -> None:
        """Let the peer hear any of what was signed, and check what it makes of it."""
        for pick in picks:
            proposal, history = self.signed[pick % len(self.signed)]
            before = list(self.peer.voted)
            if self.peer.tip.frozen and proposal not in before:
                with pytest.raises(VerificationError, match="is frozen"):
                    self.peer.hear(proposal)
            else:
                check(self.peer.hear(proposal), before, proposal, history)

    @precondition(lambda self: self.signed)
    @rule(pick=PICKS, flip=st.integers(0, 255), damage=st.sampled_from(["none", "flip", "more", "fewer"]))
    def deliver_with_wrong_hashes(self, pick: int, flip: int, damage: str) -> None:
        """Let the peer hear a proposal whose leaf hashes were damaged on the way: it is never voted for."""
        proposal, _ = self.signed[pick % len(self.signed)]
        first = bytearray(proposal.hashes[0])
        first[flip // 8] ^= 1 << flip % 8
        damaged = {
            "none": (),
            "flip": (bytes(first), *proposal.hashes[1:]),
            "more": (*proposal.hashes, bytes(32)),
            "fewer": proposal.hashes[:-1],
        }
        before = self.peer.tip
        try:
            verdict = self.peer.hear(replace(proposal, hashes=damaged[damage]))
        except VerificationError:
            assert self.peer.tip == before
        else:
            assert not isinstance(verdict, Accepted)

    @invariant()
    def the_tip_is_what_was_voted_for(self) -> None:
        """Size, root, height and last proposal are those of the blocks voted for, one behind the other."""
        hashes = [leaf_hash for proposal in self.peer.voted for leaf_hash in proposal.hashes]
        assert self.peer.tip.frontier.size == len(hashes)
        assert self.peer.tip.frontier.root() == merkle.root(hashes)
        assert self.peer.tip.next_height == len(self.peer.voted)
        assert self.peer.tip.last_signed == (self.peer.voted[-1].signed if self.peer.voted else None)


def check(verdict: Verdict, before: list[Proposal], proposal: Proposal, history: list[Proposal]) -> None:
    """Check a verdict against what the peer had voted for and the whole history that ends with the proposal."""
    follows = before == history[: len(before)]
    match verdict:
        case Repeated(block):
            assert proposal in before
            assert block == proposal.block
        case Accepted():
            assert [*before, proposal] == history
        case Behind(_, next_height):
            assert next_height == len(before) < proposal.block.height
        case Conflict(chain, first, second):
            assert chain == CHAIN
            assert not follows
            assert contradict(block_in(first), block_in(second))
    if any(contradict(voted.block, proposal.block) for voted in before):
        assert isinstance(verdict, Conflict)


class FourPeers(Gateway):
    """Three honest peers, and one that votes for everything that was ever signed.

    With one liar in four, whatever the gateway signs, no two certificates conflict.
    """

    def __init__(self) -> None:
        super().__init__()
        self.honest = [Voter() for _ in range(3)]
        self.votes: dict[tuple[int, bytes], set[str]] = {}

    @precondition(lambda self: self.signed)
    @rule(who=st.integers(0, 2), picks=st.lists(PICKS, min_size=1, max_size=6))
    def deliver(self, who: int, picks: list[int]) -> None:
        """Let one of the honest peers hear any of what was signed, and count its vote."""
        for pick in picks:
            proposal, _ = self.signed[pick % len(self.signed)]
            try:
                verdict = self.honest[who].hear(proposal)
            except VerificationError:
                continue
            if isinstance(verdict, Accepted | Repeated):
                self.votes.setdefault((proposal.block.height, proposal.block.root), {"peer-3"}).add(f"peer-{who}")

    @invariant()
    def no_two_certificates_conflict(self) -> None:
        """Check that at each height no more than one block has a quorum."""
        certified = [place for place, voters in self.votes.items() if is_met(ROSTER.policy, voters)]
        assert len({height for height, _ in certified}) == len(certified)


OnePeer.TestCase.settings = settings(max_examples=60, stateful_step_count=40)
FourPeers.TestCase.settings = settings(max_examples=60, stateful_step_count=40)


TestOnePeer = OnePeer.TestCase
TestFourPeers = FourPeers.TestCase


# -- one verdict at a time


def test_an_honest_chain_is_accepted_in_order() -> None:
    """Block after block: accepted, the tip follows, and no leaf hash of before is needed again."""
    chain, peer = chain_of(2, 1, 7), Voter()
    for proposal in chain.proposals:
        verdict = peer.hear(proposal)
        assert verdict == Accepted(proposal, peer.tip)
    assert peer.tip.frontier.root() == merkle.root(chain.hashes())


def test_a_repeated_proposal_is_known_even_when_its_hashes_are_lost() -> None:
    """The same signed bytes are the same proposal, at the tip and far behind it."""
    chain, peer = chain_of(2, 1, 7), Voter()
    for proposal in chain.proposals:
        peer.hear(proposal)
    for proposal in chain.proposals:
        assert peer.hear(replace(proposal, hashes=())) == Repeated(proposal.block)


def test_a_gap_is_asked_for_from_the_tip_on() -> None:
    """What lies beyond the tip tells from which height on blocks are missing."""
    chain, peer = chain_of(2, 1, 7), Voter()
    assert peer.hear(chain.proposals[2]) == Behind(chain.proposals[2].block, 0)
    peer.hear(chain.proposals[0])
    assert peer.hear(chain.proposals[2]) == Behind(chain.proposals[2].block, 1)


def test_fault_16_two_roots_for_one_size_are_evidence() -> None:
    """Two blocks of the same range with different roots: both signed proposals are given, and the chain is frozen."""
    chain, peer = chain_of(2), Voter()
    fork = chain.fork()
    mine, other = chain.seal(leaf(2)), fork.seal(leaf(2, branch=1))
    for proposal in chain.proposals:
        peer.hear(proposal)
    assert peer.hear(other) == Conflict(CHAIN, mine.signed, other.signed)
    assert peer.hear(mine) == Repeated(mine.block)
    with pytest.raises(VerificationError, match=f"chain {CHAIN} is frozen"):
        peer.hear(chain.seal(leaf(3)))


def test_fault_19_the_same_key_in_two_gateways_is_a_conflict() -> None:
    """Two gateways with one key that go on from the same block: the second one's next block is the evidence."""
    chain, peer = chain_of(2, 2), Voter()
    clone = chain.fork()
    for proposal in chain.proposals:
        peer.hear(proposal)
    mine = chain.seal(leaf(4))
    clone.seal(leaf(4, branch=1))
    theirs = clone.seal(leaf(5, branch=1))
    peer.hear(mine)
    assert peer.hear(theirs) == Conflict(CHAIN, mine.signed, theirs.signed)


def moved(block: Block, **changes: int | bytes) -> Proposal:
    return propose(replace(block, **changes), [merkle.leaf_hash(leaf(9))])  # type: ignore[arg-type]  # by name


@pytest.mark.parametrize(
    ("height", "start", "size"),
    [(1, 3, 4), (1, 2, 4), (0, 3, 4), (2, 2, 4), (2, 4, 5), (3, 3, 4), (3, 2, 4), (0, 0, 3), (1, 9, 10)],
)
def test_a_signed_block_that_cannot_follow_is_a_conflict(height: int, start: int, size: int) -> None:
    """Behind blocks [0, 2), [2, 3) no history has these: another height or start than theirs, or the wrong root."""
    chain, peer = chain_of(2, 1), Voter()
    for proposal in chain.proposals:
        peer.hear(proposal)
    other = moved(chain.proposals[1].block, height=height, start=start, size=size, start_root=merkle.EMPTY_ROOT)
    verdict = peer.hear(other)
    assert isinstance(verdict, Conflict)
    assert contradict(block_in(verdict.first), block_in(verdict.second))


def test_the_same_block_signed_twice_is_no_conflict() -> None:
    """A second valid signature over the very same block, here with the other name of the algorithm, is no evidence."""
    chain, peer = chain_of(2, 1), Voter()
    for proposal in chain.proposals:
        peer.hear(proposal)
    block, key = chain.proposals[0].block, key_of(GATEWAY)
    header = {1: canonical.ED25519, 3: BLOCK_TYPE, 4: key.kid, 15: {1: GATEWAY, 2: CHAIN}}
    again = signing.sign(key, cbor.encode(header), encode_block(block))
    assert again != chain.proposals[0].signed
    assert peer.hear(Proposal(block=block, signed=again, hashes=())) == Repeated(block)


@pytest.mark.parametrize(("height", "start"), [(0, 3), (1, 0)])
def test_a_chain_begins_with_height_0_from_an_empty_tree(height: int, start: int) -> None:
    """A first block that begins elsewhere is refused and is no evidence: there is nothing to contradict."""
    other = moved(chain_of(2).proposals[0].block, height=height, start=start, size=start + 1)
    with pytest.raises(VerificationError, match="must be height 0 from an empty tree"):
        Voter().hear(other)


def test_another_incarnation_is_refused() -> None:
    """A peer that holds incarnation 0 votes for no block of another."""
    block = replace(chain_of(2).proposals[0].block, incarnation=1)
    with pytest.raises(VerificationError, match="is at incarnation 0, not 1"):
        Voter().hear(propose(block, []))


def test_wrong_hashes_change_nothing_and_the_right_ones_still_count() -> None:
    """Leaf hashes are not signed: damaged ones are refused without a trace, whoever damaged them."""
    chain, peer = chain_of(3), Voter()
    proposal = chain.proposals[0]
    for hashes in ((), proposal.hashes[:2], (*proposal.hashes, bytes(32)), proposal.hashes[::-1]):
        with pytest.raises(VerificationError, match="do not make its root"):
            peer.hear(replace(proposal, hashes=hashes))
    assert isinstance(peer.hear(proposal), Accepted)


def test_a_tip_judges_its_own_chain_only() -> None:
    """The tip of one chain says nothing about another's block."""
    roster = signed_again(replace(ROSTER, gateways=(*ROSTER.gateways, member("ward-4", "ward-4.0"))))
    block = replace(chain_of(1).proposals[0].block, chain="ward-4.0")
    with pytest.raises(VerificationError, match="cannot judge chain"):
        judge(roster, Tip(chain=CHAIN), propose(block, [], "ward-4"), None)


# -- proposals


def test_a_proposal_is_by_the_gateway_of_its_chain() -> None:
    """A stranger's key, another gateway's, and a peer's: refused."""
    roster = signed_again(replace(ROSTER, gateways=(*ROSTER.gateways, member("ward-4", "ward-4.0"))))
    block = chain_of(1).proposals[0].block
    assert open_proposal(roster, sign_block(keys_of(GATEWAY), GATEWAY, block)) == block
    with pytest.raises(VerificationError, match="does not hold"):
        open_proposal(roster, sign_block(keys_of("mallory"), GATEWAY, block))
    for signer in ("ward-4", "peer-0"):
        with pytest.raises(VerificationError, match=f"must be by {GATEWAY}"):
            open_proposal(roster, sign_block(keys_of(signer), signer, block))
    with pytest.raises(VerificationError, match="writes chain 'other'"):
        open_proposal(roster, sign_block(keys_of(GATEWAY), GATEWAY, replace(block, chain="other")))


def signed_block(content_type: str, issuer: str, subject: str) -> bytes:
    key = key_of(GATEWAY)
    header = canonical.signer_header(content_type, key.kid, issuer, subject)
    return signing.sign(key, header, encode_block(chain_of(1).proposals[0].block))


@pytest.mark.parametrize(
    ("signed", "reason"),
    [
        (signed_block(canonical.EVENT_TYPE, GATEWAY, CHAIN), "not a proposal"),
        (signed_block(BLOCK_TYPE, "ward-4", CHAIN), "must be by"),
        (signed_block(BLOCK_TYPE, GATEWAY, "other"), "must be by"),
        (b"", "not CBOR"),
        (signing.sign(key_of(GATEWAY), cbor.encode({1: -8, 3: BLOCK_TYPE}), b"", detached=True), "CBOR"),
    ],
)
def test_what_is_no_proposal_is_refused(signed: bytes, reason: str) -> None:
    """Another content type, another signer or chain in the header, no message, no payload."""
    with pytest.raises(VerificationError, match=reason):
        open_proposal(ROSTER, signed)


def test_a_proposal_carries_nothing_unsigned() -> None:
    """The unprotected header of a proposal is empty."""
    protected, _, payload, signature = cbor.decode(chain_of(1).proposals[0].signed).value
    with pytest.raises(VerificationError, match="not a proposal"):
        open_proposal(ROSTER, cbor.encode(cbor2.CBORTag(18, [protected, {1: 1}, payload, signature])))


# -- keys


def test_a_former_key_of_the_gateway_signs_nothing_new() -> None:
    """What a gateway signed with a former key is its proposal still, and is not voted for any more."""
    former = (key_of(GATEWAY).public_key,)
    gateway = replace(full_member(GATEWAY, CHAIN), public_key=key_of(GATEWAY, 2).public_key, former_keys=former)
    roster = epochs(lambda roster: replace(roster, gateways=(gateway,))).current
    block = chain_of(1).proposals[0].block
    old, new = (sign_block(keys_of(GATEWAY, generation), GATEWAY, block) for generation in (1, 2))
    assert open_proposal(roster, old) == open_proposal(roster, new) == block_of(old) == block
    require_current_keys(roster, new)
    with pytest.raises(VerificationError, match=f"is by a former key of {GATEWAY}"):
        require_current_keys(roster, old)


def test_in_a_post_quantum_epoch_a_proposal_is_signed_twice() -> None:
    """A proposal without its second signature is the gateway's, and is not voted for."""
    roster = epochs(post_quantum).current
    block = chain_of(1).proposals[0].block
    once, twice = sign_block(keys_of(GATEWAY), GATEWAY, block), sign_block(both_keys_of(GATEWAY), GATEWAY, block)
    assert open_proposal(roster, once) == open_proposal(roster, twice) == block
    require_current_keys(roster, twice)
    with pytest.raises(VerificationError, match=r"has no second signature \(ML-DSA-44\)"):
        require_current_keys(roster, once)
    forged = signing.Keys(key_of(GATEWAY), both_keys_of("peer-0").second)
    with pytest.raises(VerificationError, match="is not by the key on the roster"):
        open_proposal(roster, sign_block(forged, GATEWAY, block))
    broken = bytearray(twice)
    broken[-1] ^= 1
    with pytest.raises(VerificationError, match="does not hold"):
        open_proposal(roster, bytes(broken))


def test_the_same_block_signed_again_is_the_same_proposal() -> None:
    """ML-DSA-44 gives another signature each time: a block that is signed again is known by its block."""
    roster = epochs(post_quantum).current
    chain, peer = chain_of(2), Voter(roster)
    block = chain.proposals[0].block
    signed = [sign_block(both_keys_of(GATEWAY), GATEWAY, block) for _ in range(2)]
    first, again = (replace(chain.proposals[0], signed=each) for each in signed)
    assert first.signed != again.signed
    assert isinstance(peer.hear(first), Accepted)
    assert peer.hear(again) == Repeated(first.block)


# -- votes


def test_a_vote_is_for_one_block_at_one_place() -> None:
    """A vote names peer, chain, epoch, incarnation, height, range and time of sealing, and comes again the same."""
    block = chain_of(2, 3).proposals[1].block
    signed = cast_vote(keys_of("peer-1"), "peer-1", ROSTER.epoch, block, VOTED_S)
    vote = verify_block_vote(ROSTER, block, signed)
    assert (vote.peer, vote.chain, vote.voted_ms, vote.epoch) == ("peer-1", CHAIN, VOTED_S * 1000, ROSTER.epoch)
    assert (vote.incarnation, vote.height, vote.start, vote.size, vote.sealed_ms) == (0, 1, 2, 5, SEALED_MS)
    assert signed == vote.signed == cast_vote(keys_of("peer-1"), "peer-1", ROSTER.epoch, block, VOTED_S)
