"""What the ledger promises, checked by one who sees the whole network.

    certificates  no two of an incarnation contradict each other, whatever votes of whichever epochs are put together,
                  and what is certified in an epoch is in the history that every later epoch goes on with
    votes         an honest peer's votes on an incarnation make one history, and each was on its disk when it was said
    turns         nor does it vote behind what it froze, in an epoch or incarnation that was not begun (`turns`)
    freezing      an honest peer that hears a block which contradicts its own freezes the chain, and its evidence holds
    gateways      an honest gateway signs one history, and is never accused of two

A gateway that was given an old disk back may sign again what it has lost and no quorum had signed: see `Fate`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gateway.errors import VerificationError
from gateway.ledger import messages
from gateway.ledger.policy import is_met
from gateway.ledger.quorum import certificate_epoch, verify_block_vote, verify_certificate
from gateway.ledger.voting import open_proposal
from gateway.model import Block, Certificate
from tests.simulation.membership import Membership
from tests.simulation.traits import Kind
from tests.simulation.turns import Broken, Turns

if TYPE_CHECKING:
    from tests.simulation.disks import PeerDisk

Tree = tuple[str, int]
"""A chain and an incarnation of it."""


@dataclass(slots=True)
class Fate:
    """What is known of a chain.

    An incarnation is `doubled` in which its gateway signed two blocks of one height. `certified_before` are the blocks
    that were certified before a start with an old disk, by incarnation and height.
    """

    kind: Kind
    published: dict[tuple[int, int], list[Block]] = field(default_factory=dict)
    doubled: set[int] = field(default_factory=set)
    certified_before: dict[tuple[int, int], Block] = field(default_factory=dict)


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
    """All that was signed and said in one run; `disks` are those of the honest peers."""

    def __init__(self, membership: Membership, fates: dict[str, Fate]) -> None:
        self.fates = fates
        self.disks: dict[str, PeerDisk] = {}
        self.certified: dict[Tree, dict[int, Block]] = {}
        self.turns = Turns(membership)
        self._membership = membership
        self._opened: dict[bytes, Block | None] = {}
        self._signed: dict[bytes, Block] = {}
        self._known: dict[bytes, Block] = {}
        self._voters: dict[tuple[Block, int], set[str]] = {}
        self._final: dict[Tree, Sequence[Block]] = {}
        self._epochs: dict[Tree, list[tuple[int, Block]]] = {}
        self._histories: dict[tuple[str, Tree], dict[int, Block]] = {}
        self._spoke: dict[Tree, dict[str, int]] = {}

    def opened(self, payload: bytes) -> Block | None:
        """Give the block in the message of a proposal or an answer, None if it is not one of its gateway."""
        if payload not in self._opened:
            try:
                self._opened[payload] = self.block(signed_in(payload))
            except VerificationError:
                return None
        return self._opened[payload]

    def block(self, signed: bytes) -> Block:
        """Give the block of a proposal.

        Raises: VerificationError if it is not one of its gateway.
        """
        if signed not in self._signed:
            self._signed[signed] = open_proposal(self._membership.rosters.current, signed)
        return self._signed[signed]

    def final(self, tree: Tree) -> Sequence[Block]:
        """Give the history of an incarnation up to the highest block that is certified."""
        return self._final.get(tree, ())

    def require_goes_on(self, chain: str, incarnation: int) -> None:
        """Check that the last block of a chain is certified in the latest epoch.

        Raises: Broken if not.
        """
        epoch = max(epoch for epoch, _ in self._epochs.get((chain, incarnation), [(0, None)]))
        if epoch != self._membership.rosters.current.epoch:
            raise Broken(f"{chain} does not go on in the latest epoch, its last certificate is of epoch {epoch}")

    # -- gateways

    def proposed(self, payload: bytes) -> None:
        """See a gateway sign a block, or publish one."""
        block = self.opened(payload)
        if block is None:
            return
        fate, place = self.fates[block.chain], (block.incarnation, block.height)
        others = fate.published.setdefault(place, [])
        if block in others:
            return
        others.append(block)
        if len(others) == 1:
            return
        fate.doubled.add(block.incarnation)
        if fate.kind is Kind.HONEST:
            raise Broken(f"the honest gateway of {block.chain} signed two blocks {block.height}")
        if fate.kind is Kind.RESTORED and fate.certified_before.get(place, block) != block:
            raise Broken(f"the gateway of {block.chain} signed block {block.height} again, which was certified before")

    def restored(self, chain: str) -> None:
        """Be told that a gateway starts with an old disk."""
        self.fates[chain].kind = Kind.RESTORED
        for (known, incarnation), blocks in self._final.items():
            if known == chain:
                self.fates[chain].certified_before |= {(incarnation, block.height): block for block in blocks}

    def certificate(self, payload: bytes) -> None:
        """See a gateway publish a certificate."""
        certificate = messages.decode_certificate(payload)
        block = verify_certificate(self._membership.rosters.of_epoch(certificate_epoch(certificate)), certificate)
        if self.certified.get((block.chain, block.incarnation), {}).get(block.height) != block:
            raise Broken(f"a certificate of block {block.height} of {block.chain} is of votes that nobody saw")

    # -- peers

    def voted(self, peer: str, block: Block, signed: bytes) -> None:
        """See a peer vote for a block; whether the vote holds is checked here."""
        if signed in self._known:
            return
        epoch = certificate_epoch(_alone(signed))
        roster = self._membership.rosters.of_epoch(epoch)
        if verify_block_vote(roster, block, signed).peer != peer:
            raise Broken(f"{peer} said another's vote")
        self._known[signed] = block
        voters = self._voters.setdefault((block, epoch), set())
        voters.add(peer)
        if is_met(roster.policy, voters):
            self._certify(block, epoch, voters)

    def said(self, peer: str, chain: str, incarnation: int, epoch: int, height: int, signed: bytes) -> None:
        """See an honest peer's vote, when the step is over."""
        disk, tree = self.disks[peer], (chain, incarnation)
        kept = disk.block(chain, incarnation, height)
        if kept is None or signed not in disk.votes:
            raise Broken(f"{peer} said a vote that is not on its disk")
        block = self._known.get(signed) or self.block(kept.proposal)
        history = self._histories.setdefault((peer, tree), {})
        if history.setdefault(height, block) != block:
            raise Broken(f"honest {peer} voted for two blocks {height} of {chain}")
        if height and contradict(history.get(height - 1, block), block):
            raise Broken(f"honest {peer} voted for block {height} of {chain}, which does not follow its own")
        if signed in disk.late:
            raise Broken(f"honest {peer} voted in incarnation {incarnation} of {chain} after the next one was begun")
        self.turns.voted(peer, tree, epoch, height)
        self._speak(peer, tree, epoch)
        self.voted(peer, block, signed)

    def heard(self, own: Block, heard: Block, peer: str) -> None:
        """See an honest peer not freeze a chain, after it heard a proposal, with a block of its own beside it.

        Raises: Broken if the two contradict each other.
        """
        if own.incarnation == heard.incarnation and contradict(own, heard):
            raise Broken(f"honest {peer} heard two histories of {own.chain} and did not freeze it")

    def accused(self, peer: str, chain: str, cause: Sequence[bytes]) -> None:
        """See an honest peer keep evidence against a gateway, or a demand of its recovery key."""
        if len(cause) == 2:
            first, second = (self.block(signed) for signed in cause)
            if not (first.chain == second.chain == chain and contradict(first, second)):
                raise Broken(f"the evidence of {peer} against {chain} proves nothing")
            if self.fates[chain].kind is Kind.HONEST:
                raise Broken(f"{peer} froze {chain}, whose gateway is honest")

    # -- pieces

    def _speak(self, peer: str, tree: Tree, epoch: int) -> None:
        """See an honest peer vote in an epoch, perhaps for the first time: all of the earlier ones is behind it."""
        spoke = self._spoke.setdefault(tree, {})
        if epoch > spoke.get(peer, 0):
            spoke[peer] = epoch
            for earlier, block in self._epochs.get(tree, ()):
                if earlier < epoch:
                    self._require_behind(peer, block, epoch)

    def _require_behind(self, peer: str, block: Block, epoch: int) -> None:
        kept = self.disks[peer].block(block.chain, block.incarnation, block.height)
        if kept is None or self.block(kept.proposal) != block:
            raise Broken(
                f"honest {peer} votes in epoch {epoch} without block {block.height} of {block.chain}, certified before"
            )

    def _certify(self, block: Block, epoch: int, voters: set[str]) -> None:
        tree = block.chain, block.incarnation
        certified = self.certified.setdefault(tree, {})
        if certified.setdefault(block.height, block) != block:
            raise Broken(f"two certificates of block {block.height} of {block.chain}")
        for other in certified.values():
            if contradict(block, other):
                raise Broken(
                    f"the certificates of blocks {block.height} and {other.height} of {block.chain} do not fit"
                )
        self._epochs.setdefault(tree, []).append((epoch, block))
        for peer, latest in self._spoke.get(tree, {}).items():
            if latest > epoch:
                self._require_behind(peer, block, latest)
        self._extend(tree, block, voters)
        self.turns.certified(tree, len(self._final.get(tree, ())))

    def _extend(self, tree: Tree, block: Block, voters: set[str]) -> None:
        """Hold the history behind a certified block, as any honest voter has it, against what is final."""
        honest = sorted(voters & self.disks.keys())
        if not honest:
            return
        rows = self.disks[honest[0]].blocks(*tree, 0, block.height + 1)
        history = [self.block(row.proposal) for row in rows]
        final = self._final.get(tree, ())
        if any(one != other for one, other in zip(history, final, strict=False)):
            raise Broken(f"block {block.height} of {block.chain} was certified on another history than what is final")
        if len(history) > len(final):
            self._final[tree] = history


def signed_in(payload: bytes) -> bytes:
    """Give the signed proposal in the message of a proposal or an answer.

    Raises: VerificationError if it is neither.
    """
    try:
        return messages.decode_proposal(payload)[0]
    except VerificationError:
        return messages.decode_answer(payload)[0]


def _alone(vote: bytes) -> Certificate:
    return Certificate(proposal=b"", votes=(vote,))
