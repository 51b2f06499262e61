"""How incarnations and epochs may end and begin, checked by one who sees all freezes, votes and openings.

An honest peer's votes in an epoch of an incarnation all stand below what it says when it freezes there.
It votes in a later epoch only after a quorum has frozen the one before, in a later incarnation only after a quorum
has frozen the one before for good.
Any quorum of freezes for good bounds what is certified in an incarnation, now and for ever.
"""

from dataclasses import dataclass, field

from gateway import signing
from gateway.ledger import messages
from gateway.ledger.closing import Shown, open_freeze
from gateway.ledger.policy import is_met
from gateway.ledger.standing import Word, Words
from gateway.ledger.statements import decode_freeze
from gateway.model import Freeze, Why
from tests.simulation.membership import Membership

Tree = tuple[str, int]
Term = tuple[str, int, int]
"""A chain, an incarnation of it, and a roster epoch."""


class Broken(Exception):  # noqa: N818 - what it says is the finding
    """A promise was broken."""


@dataclass(slots=True)
class _Frozen:
    """The lowest place that each peer has stated: in freezes for good, and in all."""

    for_good: dict[str, int] = field(default_factory=dict)
    at_all: dict[str, int] = field(default_factory=dict)


class Turns:
    """All freezes of one run, and what they allow."""

    def __init__(self, membership: Membership) -> None:
        self._membership = membership
        self._frozen: dict[Term, _Frozen] = {}
        self._voted: dict[tuple[str, Term], int] = {}
        self._certified: dict[Tree, int] = {}
        self._known: set[bytes] = set()

    def froze(self, shown: Shown) -> Freeze | None:
        """See a freeze of any peer; gives it the first time.

        Raises: VerificationError if it does not hold.
        """
        if shown.signed in self._known:
            return None
        freeze = open_freeze(self._membership.rosters, shown)
        self._known.add(shown.signed)
        term = freeze.chain, freeze.incarnation, freeze.epoch
        frozen = self._frozen.setdefault(term, _Frozen())
        for places in (frozen.at_all, frozen.for_good) if freeze.why is not Why.EPOCH else (frozen.at_all,):
            places[freeze.peer] = min(freeze.next_height, places.get(freeze.peer, freeze.next_height))
        self._check_bound((freeze.chain, freeze.incarnation))
        return freeze

    def froze_honestly(self, peer: str, shown: Shown, words: Words) -> None:
        """See an honest peer say a freeze of its own, with what is on its disk of that incarnation."""
        freeze = self.froze(shown)
        if freeze is None:
            return
        word = Word.FROZEN if freeze.why is Why.EPOCH else Word.FROZEN_FOR_GOOD
        if words.get((freeze.epoch, word)) != messages.encode_freezes((shown,), ()):
            raise Broken(f"{peer} said a freeze that is not on its disk")
        voted = self._voted.get((peer, (freeze.chain, freeze.incarnation, freeze.epoch)), 0)
        if voted > freeze.next_height:
            raise Broken(f"honest {peer} froze {freeze.chain} at {freeze.next_height} and had voted up to {voted}")

    def voted(self, peer: str, tree: Tree, epoch: int, height: int) -> None:
        """See an honest peer say a vote."""
        term = (*tree, epoch)
        frozen = self._frozen.get(term)
        if frozen is not None and height >= frozen.at_all.get(peer, height + 1):
            raise Broken(f"honest {peer} voted for block {height} of {tree[0]} after it had frozen epoch {epoch}")
        if (peer, term) not in self._voted and not self._is_begun(tree, epoch):
            raise Broken(f"honest {peer} voted in epoch {epoch} of {tree[0]}, incarnation {tree[1]}: it was not begun")
        self._voted[peer, term] = max(height + 1, self._voted.get((peer, term), 0))

    def began(self, peer: str, chain: str, incarnation: int, opening: bytes) -> None:
        """See an honest peer begin an incarnation."""
        _, shown = messages.decode_opening(opening)
        messages_shown = [signing.parse_blob(each.signed)[0] for each in shown]
        freezes = [decode_freeze(message.payload or b"", str(message.claim(1))) for message in messages_shown]
        terms = {(freeze.chain, freeze.incarnation, freeze.epoch) for freeze in freezes}
        for term in terms:
            if len(terms) == 1 and term[:2] == (chain, incarnation - 1) and self._is_closed(term):
                return
        raise Broken(f"honest {peer} began incarnation {incarnation} of {chain}, and no quorum had closed the last one")

    def certified(self, tree: Tree, blocks: int) -> None:
        """See that so many blocks of an incarnation are final."""
        self._certified[tree] = blocks
        self._check_bound(tree)

    # -- pieces

    def _is_begun(self, tree: Tree, epoch: int) -> bool:
        epochs = [
            roster.epoch
            for roster in self._membership.rosters.versions
            if any(gateway.chain == tree[0] for gateway in roster.gateways)
        ]
        earlier = sorted({known for known in epochs if known < epoch})
        chain, incarnation = tree
        if (not earlier and incarnation == 0) or (incarnation and self._is_closed((chain, incarnation - 1, epoch))):
            return True
        before = self._frozen.get((chain, incarnation, earlier[-1])) if earlier else None
        return before is not None and is_met(self._membership.rosters.of_epoch(earlier[-1]).policy, before.at_all)

    def _is_closed(self, term: Term) -> bool:
        frozen = self._frozen.get(term)
        return frozen is not None and is_met(self._membership.rosters.of_epoch(term[2]).policy, frozen.for_good)

    def _check_bound(self, tree: Tree) -> None:
        """Hold what is final against the lowest place that a quorum of freezes for good can come to."""
        blocks = self._certified.get(tree, 0)
        for (chain, incarnation, epoch), frozen in self._frozen.items():
            if (chain, incarnation) != tree:
                continue
            quorum: list[str] = []
            for peer in sorted(frozen.for_good, key=lambda name: (frozen.for_good[name], name)):
                quorum.append(peer)
                if is_met(self._membership.rosters.of_epoch(epoch).policy, quorum):
                    if blocks > frozen.for_good[peer]:
                        raise Broken(
                            f"{blocks} blocks of incarnation {incarnation} of {chain} are certified, and a quorum had"
                            f" closed it at {frozen.for_good[peer]}"
                        )
                    break
