"""Where one peer stands on one chain: its tip, the roster epoch in which it may vote there, what it froze and why.

    term t --roster t+1 known--> frozen in t --closing of t--> term t+1, behind the highest place in it (the base)
    any term --two histories, or the recovery key--> frozen for good --opening--> the next incarnation, from height 0

A peer says no vote of its term before its tip has reached the base: then every block that is or will be final in an
earlier epoch is in the history for which it votes. What it states when it freezes is its tip or, before that, the base.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from gateway import signing
from gateway.errors import StoreError, VerificationError
from gateway.ledger import messages
from gateway.ledger.closing import START, Closing, Place, Shown, close, open_freeze, sign_freeze
from gateway.ledger.policy import is_met
from gateway.ledger.rosters import Rosters
from gateway.ledger.statements import decode_freeze
from gateway.ledger.voting import Tip
from gateway.model import Freeze, Roster, Why


class Word(StrEnum):
    """What a peer keeps of a chain beside its blocks; the bytes are those of messages."""

    CAUSE = "cause"
    FROZEN = "frozen"
    FROZEN_FOR_GOOD = "frozen for good"
    CLOSED = "closed"
    CLOSED_FOR_GOOD = "closed for good"
    OPENING = "opening"


Words = Mapping[tuple[int, Word], bytes]
"""What is kept of one incarnation of a chain, by roster epoch; a cause and an opening are of epoch 0."""


@dataclass(slots=True)
class Standing:
    """One chain; it changes only together with what is kept of it."""

    tip: Tip
    epoch: int
    base: Place = START
    is_level: bool = True
    cause: tuple[bytes, ...] = ()
    own: dict[tuple[int, bool], Shown] = field(default_factory=dict)  # by epoch, and whether for good
    heard: dict[tuple[int, bool], dict[str, Shown]] = field(default_factory=dict)
    closed: dict[bool, Closing] = field(default_factory=dict)  # the latest that ended an epoch; what ended all

    @property
    def is_ended(self) -> bool:
        """Whether this peer votes no more in its term, though it may in the next."""
        return (self.epoch, False) in self.own

    @property
    def place(self) -> Place:
        """The place that a freeze states."""
        if not self.is_level or not self.tip.last_signed:
            return self.base
        return Place(self.tip.next_height, self.tip.frontier.size, self.tip.frontier.root(), self.tip.last_signed)

    def message(self) -> bytes:
        """Give the message that tells what this peer froze, and the closings it knows."""
        shown = list(self.own.values())
        for closing in self.closed.values():
            shown += [each for each in closing.shown if each not in shown]
        return messages.encode_freezes(shown, self.cause)


def first_epoch(rosters: Rosters, chain: str) -> int:
    """Give the first roster epoch with peers in which a chain's gateway belonged."""
    for roster in rosters.versions:
        if roster.peers and any(gateway.chain == chain for gateway in roster.gateways):
            return roster.epoch
    raise VerificationError(f"no gateway on the roster writes chain {chain!r}")


def next_epoch(rosters: Rosters, chain: str, epoch: int) -> int:
    """Give the first epoch after this one in which the chain's gateway belongs, or the one after all that are known."""
    for roster in rosters.versions:
        if roster.epoch > epoch and any(gateway.chain == chain for gateway in roster.gateways):
            return roster.epoch
    return rosters.current.epoch + 1


def roster_of_chain(rosters: Rosters, chain: str) -> Roster:
    """Give the last version of the roster on which the chain's gateway belongs.

    Raises: VerificationError if there is none.
    """
    for roster in reversed(rosters.versions):
        if any(gateway.chain == chain for gateway in roster.gateways):
            return roster
    raise VerificationError(f"no gateway on the roster writes chain {chain!r}")


def load_standing(rosters: Rosters, tip: Tip, words: Words) -> Standing:
    """Give where a peer stands from what it kept of the incarnation of its tip.

    Raises: VerificationError if no gateway on the roster writes the chain, or it is in a later epoch than is known;
    StoreError if what was kept does not hold any more.
    """
    standing = Standing(tip, first_epoch(rosters, tip.chain))
    latest = max((epoch for epoch, _ in words), default=0)
    if latest > rosters.current.epoch:  # by another worker, or before an old roster was put back
        raise VerificationError(f"chain {tip.chain} is in roster epoch {latest}, which is not known here yet")
    try:
        for (epoch, word), data in sorted(words.items()):
            _restore(rosters, standing, epoch, word, data)
    except VerificationError as error:
        raise StoreError(f"what was kept of chain {tip.chain} is damaged: {error}") from error
    return standing


def _restore(rosters: Rosters, standing: Standing, epoch: int, word: Word, data: bytes) -> None:
    shown, cause = messages.decode_freezes(data) if word is not Word.OPENING else ((), ())
    match word:
        case Word.CAUSE:
            standing.cause = cause
            standing.tip = replace(standing.tip, frozen=True)
        case Word.FROZEN | Word.FROZEN_FOR_GOOD:
            key = epoch, word is Word.FROZEN_FOR_GOOD
            standing.own[key] = shown[0]
            standing.heard.setdefault(key, {})[open_freeze(rosters, shown[0]).peer] = shown[0]
        case Word.CLOSED:
            go_on(rosters, standing, close(rosters, shown))
        case Word.CLOSED_FOR_GOOD:
            standing.closed[True] = close(rosters, shown)
        case Word.OPENING:
            standing.epoch = max(standing.epoch, opened_epoch(data))


def opened_epoch(opening: bytes) -> int:
    """Give the epoch in which the incarnation behind an opening begins: the one in which that before it was closed."""
    _, shown = messages.decode_opening(opening)
    message, _ = signing.parse_blob(shown[0].signed)
    return decode_freeze(message.payload or b"", "").epoch


def go_on(rosters: Rosters, standing: Standing, closing: Closing) -> None:
    """Go to the term behind a closing that ended an epoch."""
    standing.epoch = next_epoch(rosters, standing.tip.chain, closing.epoch)
    standing.closed[False] = closing
    if closing.highest.next_height > standing.base.next_height:
        standing.base = closing.highest
    standing.is_level = False
    standing.heard = {key: value for key, value in standing.heard.items() if key[0] >= standing.epoch or key[1]}


def note_freeze(rosters: Rosters, standing: Standing, shown: Shown) -> Freeze:
    """Take note of a freeze, if it is of the chain's incarnation and of a term that is not behind this peer.

    Raises: VerificationError if it is not sound.
    """
    freeze = open_freeze(rosters, shown)
    is_here = (freeze.chain, freeze.incarnation) == (standing.tip.chain, standing.tip.incarnation)
    if is_here and freeze.epoch >= standing.epoch:
        known = standing.heard.setdefault((freeze.epoch, freeze.why is not Why.EPOCH), {})
        known.setdefault(freeze.peer, shown)
    return freeze


def closing_in(rosters: Rosters, standing: Standing, *, is_final: bool) -> Closing | None:
    """Give the closing that the freezes heard so far make, of the latest epoch in which they do."""
    for (epoch, final), known in sorted(standing.heard.items(), reverse=True):
        if epoch >= standing.epoch and final is is_final and is_met(rosters.of_epoch(epoch).policy, known):
            return close(rosters, [known[name] for name in sorted(known)])
    return None


def freeze(keys: signing.Keys, name: str, standing: Standing, why: Why) -> Shown:
    """Give this peer's freeze in its term."""
    place = standing.place
    signed = sign_freeze(
        keys,
        Freeze(
            peer=name,
            chain=standing.tip.chain,
            incarnation=standing.tip.incarnation,
            next_height=place.next_height,
            size=place.size,
            root=place.root,
            epoch=standing.epoch,
            why=why,
        ),
    )
    return Shown(signed, place.proposal)
