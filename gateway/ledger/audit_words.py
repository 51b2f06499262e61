"""Whether what a peer keeps of an incarnation beside its blocks proves what it is kept for, and fits the blocks.

    opening       by the chain's recovery key, behind a closing for good of the incarnation before
    cause         two proposals that contradict each other, or the recovery key's demand
    frozen, ...   this peer's own, at its place in the history, and no vote of that epoch behind it
    closed, ...   a closing certificate; one that ended an epoch ends on this history, as far as it goes

What a chain's keys say is held against each version of the roster on which its gateway belonged: one of them must do.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from gateway.errors import VerificationError
from gateway.ledger import messages
from gateway.ledger.closing import Shown, close, open_freeze, open_opening, open_recovery
from gateway.ledger.evidence import open_evidence
from gateway.ledger.rosters import Rosters
from gateway.ledger.standing import Word, Words
from gateway.ledger.voting import block_of
from gateway.model import Why

Value = TypeVar("Value")

ProposalAt = Callable[[int], bytes | None]
"""The signed proposal that was voted for at a height, None if there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WordAudit:
    """The words of one incarnation of one peer's copy, whose blocks were found sound."""

    rosters: Rosters
    peer: str
    chain: str
    incarnation: int
    voted: Mapping[int, int]
    """By roster epoch: the height behind the last block with a vote of it."""
    proposal_at: ProposalAt

    def check(self, words: Words) -> None:
        """Check them all.

        Raises: VerificationError if one proves nothing, does not fit the blocks, or is missing.
        """
        if self.incarnation and (0, Word.OPENING) not in words:
            raise VerificationError(f"nothing shows that incarnation {self.incarnation} was opened")
        has_cause = (0, Word.CAUSE) in words
        for (epoch, word), data in sorted(words.items()):
            try:
                self._check(word, epoch, data, has_cause=has_cause)
            except VerificationError as error:
                raise VerificationError(f"what is kept as {word.value!r} of epoch {epoch}: {error}") from error

    def _check(self, word: Word, epoch: int, data: bytes, *, has_cause: bool) -> None:
        if word is Word.OPENING:
            signed, shown = messages.decode_opening(data)
            before = self._under_some_version(lambda rosters: open_opening(rosters, signed, shown))
            self._require_place(before.chain, before.incarnation + 1, 0, epoch)
            return
        shown, cause = messages.decode_freezes(data)
        match word:
            case Word.CAUSE:
                self._require_place(*self._under_some_version(lambda rosters: _accused(rosters, cause)), 0, epoch)
            case Word.FROZEN | Word.FROZEN_FOR_GOOD:
                self._check_freeze(word, epoch, shown, has_cause=has_cause)
            case _:
                closing = close(self.rosters, shown)
                self._require_place(closing.chain, closing.incarnation, closing.epoch, epoch)
                _require_kind(word is Word.CLOSED_FOR_GOOD, closing.is_final)
                if not closing.is_final and not has_cause:
                    self._require_on_history(closing.highest.proposal)

    def _check_freeze(self, word: Word, epoch: int, shown: tuple[Shown, ...], *, has_cause: bool) -> None:
        if len(shown) != 1:
            raise VerificationError("not one freeze")
        freeze = open_freeze(self.rosters, shown[0])
        self._require_place(freeze.chain, freeze.incarnation, freeze.epoch, epoch)
        is_final = freeze.why is not Why.EPOCH
        _require_kind(word is Word.FROZEN_FOR_GOOD, is_final)
        if freeze.peer != self.peer:
            raise VerificationError(f"it is by {freeze.peer}, not by {self.peer}")
        if is_final and not has_cause:
            raise VerificationError("nothing shows why it was frozen for good")
        if self.voted.get(epoch, 0) > freeze.next_height:
            raise VerificationError(f"block {self.voted[epoch] - 1} was voted for behind height {freeze.next_height}")
        if not has_cause:
            self._require_on_history(shown[0].proposal)

    def _require_on_history(self, signed: bytes) -> None:
        """Check that a block is one of this history, if that goes so far."""
        if not signed:
            return
        block = block_of(signed)
        known = self.proposal_at(block.height)
        if known is not None and block_of(known) != block:
            raise VerificationError(f"it shows another block {block.height} than this copy has")

    def _require_place(self, chain: str, incarnation: int, epoch: int, kept_epoch: int) -> None:
        if (chain, incarnation, epoch) != (self.chain, self.incarnation, kept_epoch):
            raise VerificationError(f"it belongs to incarnation {incarnation} of chain {chain}, epoch {epoch}")

    def _under_some_version(self, check: Callable[[Rosters], Value]) -> Value:
        """Give what a check comes to by the first version with the gateway by which it holds.

        Raises: VerificationError, that of the latest of them, if it holds by none.
        """
        versions = self.rosters.versions
        belongs = [self.chain in {gateway.chain for gateway in roster.gateways} for roster in versions]
        *earlier, latest = [Rosters(versions[: at + 1]) for at, is_there in enumerate(belongs) if is_there]
        for rosters in earlier:
            with suppress(VerificationError):
                return check(rosters)
        return check(latest)


def _accused(rosters: Rosters, cause: tuple[bytes, ...]) -> tuple[str, int]:
    """Give the chain and the incarnation that a cause freezes for good."""
    match cause:
        case (recovery,):
            return open_recovery(rosters.current, recovery)
        case (first, second):
            block = open_evidence(rosters.current, first, second).first
            return block.chain, block.incarnation
    raise VerificationError("neither two proposals nor a recovery key's demand")


def _require_kind(is_kept_as_final: bool, is_final: bool) -> None:  # noqa: FBT001 - two of one kind
    if is_kept_as_final != is_final:
        raise VerificationError(f"it ends {'the incarnation' if is_final else 'an epoch'}")
