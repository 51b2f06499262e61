"""What the ledger promises, checked by one who sees the whole network.

    certificates  no two of a chain contradict each other, whatever votes anyone puts together
    votes         an honest peer's votes on a chain make one history, and each was on its disk when it was said
    freezing      an honest peer that hears a block which contradicts its own freezes the chain, and its evidence holds
    gateways      an honest gateway signs one history, and is never accused of two

A gateway that was given an old disk back may sign again what it has lost and no quorum had signed: see `Fate`.
"""

from dataclasses import dataclass, field
from enum import StrEnum

from gateway.errors import VerificationError
from gateway.ledger import messages
from gateway.ledger.policy import is_met
from gateway.ledger.quorum import verify_block_vote, verify_certificate
from gateway.ledger.voting import Conflict, VotedBlock, open_proposal
from gateway.model import Block, Roster

Place = tuple[int, int, int, bytes]
"""Height, start, size and root: what a vote says of a block, beside its chain and incarnation."""


class Broken(Exception):  # noqa: N818 - what it says is the finding
    """A promise was broken."""


class Kind(StrEnum):
    """What becomes of a chain's gateway."""

    HONEST = "honest"
    RESTORED = "restored"
    CLONED = "cloned"
    FORGED = "forged"


@dataclass(slots=True)
class Fate:
    """What is known of a chain.

    It is `doubled` where its gateway signed two blocks of one height. What was `certified_before` a start with an old
    disk are the blocks below that height.
    """

    kind: Kind
    published: dict[int, list[Block]] = field(default_factory=dict)
    certified: dict[int, Place] = field(default_factory=dict)
    doubled: bool = False
    certified_before: int = 0

    def restored(self) -> None:
        """Be told that the gateway starts with an old disk."""
        self.kind = Kind.RESTORED
        self.certified_before = max(self.certified, default=-1) + 1


def contradict(one: Block, other: Block) -> bool:
    """Say whether no single history can have both blocks, by nothing but what they say."""
    low, high = sorted((one, other), key=lambda block: block.height)
    between = high.height - low.height - 1
    if between < 0:
        return low != high
    if between == 0:
        return (high.start, high.start_root) != (low.size, low.root)
    return high.start < low.size + between


class Promises:
    """All that was signed and said in one run."""

    def __init__(self, roster: Roster, fates: dict[str, Fate]) -> None:
        self.fates = fates
        self._roster = roster
        self._opened: dict[bytes, Block | None] = {}
        self._signed: dict[bytes, Block] = {}
        self._known: dict[bytes, Block] = {}
        self._tally: dict[tuple[str, int, Place], set[str]] = {}
        self._histories: dict[tuple[str, str], dict[int, Block]] = {}

    def opened(self, payload: bytes) -> Block | None:
        """Give the block in a proposal's message, None if it is not one of its gateway."""
        if payload not in self._opened:
            try:
                signed, _ = messages.decode_proposal(payload)
                self._opened[payload] = self._block(signed)
            except VerificationError:
                self._opened[payload] = None
        return self._opened[payload]

    # -- gateways

    def proposed(self, payload: bytes) -> None:
        """See a gateway sign a block, or publish one."""
        block = self.opened(payload)
        if block is None:
            return
        fate = self.fates[block.chain]
        others = fate.published.setdefault(block.height, [])
        if block in others:
            return
        others.append(block)
        fate.doubled |= len(others) > 1
        if len(others) > 1 and fate.kind is Kind.HONEST:
            raise Broken(f"the honest gateway of {block.chain} signed two blocks {block.height}")
        if len(others) > 1 and fate.kind is Kind.RESTORED and block.height < fate.certified_before:
            raise Broken(f"the gateway of {block.chain} signed block {block.height} again, which was certified before")

    def certificate(self, payload: bytes) -> None:
        """See a gateway publish a certificate."""
        block = verify_certificate(self._roster, messages.decode_certificate(payload))
        if self.fates[block.chain].certified.get(block.height) != _place(block):
            raise Broken(f"a certificate of block {block.height} of {block.chain} is of votes that nobody saw")

    # -- peers

    def voted(self, peer: str, block: Block, signed: bytes) -> None:
        """See a peer vote for a block; whether the vote holds is checked here."""
        if signed in self._known:
            return
        if verify_block_vote(self._roster, block, signed).peer != peer:
            raise Broken(f"{peer} said another's vote")
        self._known[signed] = block
        place = _place(block)
        voters = self._tally.setdefault((block.chain, block.incarnation, place), set())
        voters.add(peer)
        if is_met(self._roster.policy, voters):
            self._certify(block.chain, place)

    def said(self, peer: str, kept: VotedBlock | None, signed: bytes) -> None:
        """See an honest peer's vote, and what is on its disk at that height when the step is over."""
        if kept is None or kept.vote != signed:
            raise Broken(f"{peer} said a vote that is not on its disk")
        block = self._known.get(signed) or self._block(kept.proposal)
        history = self._histories.setdefault((peer, block.chain), {})
        if history.setdefault(block.height, block) != block:
            raise Broken(f"honest {peer} voted for two blocks {block.height} of {block.chain}")
        if block.height and contradict(history.get(block.height - 1, block), block):
            raise Broken(
                f"honest {peer} voted for block {block.height} of {block.chain}, which does not follow its own"
            )
        self.voted(peer, block, signed)

    def heard(self, peer: str, own: VotedBlock | None, payload: bytes, evidence: Conflict | None) -> None:
        """See an honest peer hear a proposal, with the block of its own beside it, and its evidence afterwards."""
        block = self.opened(payload)
        if block is None or own is None or evidence is not None:
            return
        known = self._block(own.proposal)
        if known.incarnation == block.incarnation and contradict(known, block):
            raise Broken(f"honest {peer} heard two histories of {block.chain} and did not freeze it")

    def froze(self, peer: str, evidence: Conflict) -> None:
        """See an honest peer keep evidence against a gateway."""
        first, second = (self._block(signed) for signed in (evidence.first, evidence.second))
        if not (first.chain == second.chain == evidence.chain and contradict(first, second)):
            raise Broken(f"the evidence of {peer} against {evidence.chain} proves nothing")
        if self.fates[evidence.chain].kind is Kind.HONEST:
            raise Broken(f"{peer} froze {evidence.chain}, whose gateway is honest")

    def _block(self, signed: bytes) -> Block:
        if signed not in self._signed:
            self._signed[signed] = open_proposal(self._roster, signed)
        return self._signed[signed]

    def _certify(self, chain: str, place: Place) -> None:
        certified = self.fates[chain].certified
        if certified.setdefault(place[0], place) != place:
            raise Broken(f"two certificates of block {place[0]} of {chain}")
        for other in certified.values():
            (low_height, _, size, _), (high_height, start, _, _) = sorted((place, other))
            between = high_height - low_height - 1
            if between >= 0 and (start < size + between or (between == 0 and start != size)):
                raise Broken(f"the certificates of blocks {low_height} and {high_height} of {chain} do not fit")


def _place(block: Block) -> Place:
    return block.height, block.start, block.size, block.root
