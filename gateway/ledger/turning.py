"""How a peer ends epochs and incarnations: it freezes, gathers closings, goes on behind them (`ledger.standing`)."""

from dataclasses import replace

from gateway.ledger import messages
from gateway.ledger.book import Book
from gateway.ledger.closing import open_opening, open_recovery
from gateway.ledger.evidence import open_evidence
from gateway.ledger.messages import Kind, Topic
from gateway.ledger.standing import Standing, Word, closing_in, freeze, go_on, note_freeze
from gateway.ledger.voting import Tip, block_of
from gateway.model import Why

REPEAT_MS = 30_000


class Turning:
    """The part of a peer that turns its chains over; it is told of every message that concerns that."""

    def __init__(self, book: Book) -> None:
        self._book = book
        self._repeated_ms = 0
        self._early: dict[str, dict[str, bytes]] = {}
        """The last freezes of each peer that are of an incarnation whose opening was not heard yet, by chain."""

    def standing(self, chain: str) -> Standing:
        """Give where this peer stands on a chain.

        Raises: VerificationError if no gateway on the roster writes it; StoreError if the copy is damaged.
        """
        is_new = chain not in self._book.standings
        standing = self._book.standing(chain)
        if is_new and not standing.is_level:
            self._level(standing)
        if is_new:
            self._hear_early(chain)
        return standing

    def hear(self, topic: Topic, payload: bytes) -> None:
        """Take in freezes, a recovery or an opening.

        Raises: VerificationError if it is not sound.
        """
        match topic.kind:
            case Kind.FREEZE:
                self._hear_freezes(topic, payload)
            case Kind.RECOVERY:
                self._hear_cause(topic.chain, (payload,))
            case Kind.OPENING:
                self._hear_opening(topic, payload)

    def _hear_freezes(self, topic: Topic, payload: bytes) -> None:
        shown, cause = messages.decode_freezes(payload)
        standing = self.standing(topic.chain)
        if cause:
            self._hear_cause(topic.chain, cause)
        for each in shown:
            if note_freeze(self._book.rosters, standing, each).incarnation > standing.tip.incarnation:
                self._early.setdefault(topic.chain, {})[topic.who] = payload
        self.advance(standing)

    def _hear_cause(self, chain: str, cause: tuple[bytes, ...]) -> None:
        """Freeze a chain for good, if two proposals or its recovery key say so of the incarnation that it is in."""
        standing = self.standing(chain)
        if standing.cause:
            return
        if len(cause) == 1:
            place = open_recovery(self._book.roster, cause[0])
        else:
            evidence = open_evidence(self._book.roster, *cause)
            for block, signed in zip((evidence.first, evidence.second), evidence.proposals, strict=True):
                self._book.require_current(standing, block, signed)
            place = evidence.first.chain, evidence.first.incarnation
        if place == (chain, standing.tip.incarnation):
            self.fault(standing, cause)

    def fault(self, standing: Standing, cause: tuple[bytes, ...]) -> None:
        """Freeze an incarnation for good, for a cause that was checked."""
        tip = standing.tip
        standing.cause = cause
        standing.tip = replace(tip, frozen=True)
        self._book.keep(standing, 0, Word.CAUSE, messages.encode_freezes((), cause))
        why = Why.RECOVERY if len(cause) == 1 else Why.TWO_HISTORIES
        self._book.note("frozen", standing, why.value)
        self.advance(standing)

    def advance(self, standing: Standing) -> None:
        """Freeze what has to be frozen, and go on where a closing certificate lets this peer."""
        is_news = self._freeze(standing)
        while (closing := closing_in(self._book.rosters, standing, is_final=False)) is not None:
            go_on(self._book.rosters, standing, closing)
            self._book.keep(standing, closing.epoch, Word.CLOSED, messages.encode_freezes(closing.shown, ()))
            self._level(standing)
            self._freeze(standing)
            is_news = True
            self._book.note("epoch ended", standing, f"epoch {closing.epoch}")
        final = closing_in(self._book.rosters, standing, is_final=True)
        if final is not None and (True not in standing.closed or standing.closed[True].epoch < final.epoch):
            standing.closed[True] = final
            self._book.keep(standing, final.epoch, Word.CLOSED_FOR_GOOD, messages.encode_freezes(final.shown, ()))
            is_news = True
        if is_news:
            self._book.say(Topic(standing.tip.chain, Kind.FREEZE, self._book.name), standing.message(), retain=True)

    def _freeze(self, standing: Standing) -> bool:
        """Sign what this peer has to freeze in its term; says whether that is new."""
        keys = (
            None
            if standing.epoch > self._book.roster.epoch
            else self._book.keys_of(self._book.rosters.of_epoch(standing.epoch))
        )
        if keys is None:
            return False
        is_past = standing.epoch < self._book.roster.epoch
        why = Why.EPOCH
        if standing.cause and not is_past:
            why = Why.RECOVERY if len(standing.cause) == 1 else Why.TWO_HISTORIES
        elif not is_past:
            return False
        key = standing.epoch, why is not Why.EPOCH
        if key in standing.own:
            return False
        shown = freeze(keys, self._book.name, standing, why)
        standing.own[key] = shown
        standing.heard.setdefault(key, {})[self._book.name] = shown
        word = Word.FROZEN if why is Why.EPOCH else Word.FROZEN_FOR_GOOD
        self._book.keep(standing, standing.epoch, word, messages.encode_freezes((shown,), ()))
        return True

    def repeat_freezes(self, now_ms: int) -> None:
        """Say again, now and then, what waits for the freezes of others: who did not know the epoch may know it now."""
        if now_ms - self._repeated_ms < REPEAT_MS:
            return
        self._repeated_ms = now_ms
        for standing in self._book.standings.values():
            is_final = bool(standing.cause)
            if (standing.epoch, is_final) in standing.own and (is_final is False or True not in standing.closed):
                self._book.say(Topic(standing.tip.chain, Kind.FREEZE, self._book.name), standing.message(), retain=True)

    def _hear_opening(self, topic: Topic, payload: bytes) -> None:
        """Begin a later incarnation, from nothing."""
        signed, shown = messages.decode_opening(payload)
        closing = open_opening(self._book.rosters, signed, shown)
        incarnation = closing.incarnation + 1
        standing = self.standing(closing.chain)
        if closing.chain != topic.chain or incarnation <= standing.tip.incarnation:
            return
        standing = Standing(Tip(chain=closing.chain, incarnation=incarnation), closing.epoch)
        self._book.standings[closing.chain] = standing
        self._book.keep(standing, 0, Word.OPENING, payload)
        self._book.wanted.forget(closing.chain)
        self._book.note("incarnation begun", standing, f"incarnation {incarnation}")
        self.advance(standing)
        self._hear_early(topic.chain)

    def _hear_early(self, chain: str) -> None:
        """Hear again what was heard of the incarnation that a chain has come to, here or by another worker."""
        for who, early in [*self._early.get(chain, {}).items()]:
            self._hear_freezes(Topic(chain, Kind.FREEZE, who), early)

    def _level(self, standing: Standing) -> None:
        """See whether the tip has reached the base, on the base's history."""
        base, tip = standing.base, standing.tip
        if base.next_height > tip.next_height:
            self._book.wanted.begin(tip.chain, base.next_height)
            return
        standing.is_level = True
        if base.next_height:
            block = block_of(base.proposal)
            known, _ = self._book.voted_for(standing, block, base.proposal)
            if known is None or block_of(known) != block:
                standing.is_level = False
                self.fault(standing, (known or b"", base.proposal))
