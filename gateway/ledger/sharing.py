"""What a peer's worker does where others share its copy: it judges by what is kept now, and again if one was first.

    hear, hear, ... -> settle: commit --Stale--> forget those chains -> hear, hear, ... again -> commit

Every worker hears everything, in the order of its own connection: who asks behind a proposal is told of the vote on it.
"""

from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial, wraps
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from gateway.errors import Stale, VerificationError
from gateway.ledger.book import Book, Changes
from gateway.ledger.standing import Standing
from gateway.ledger.turning import Turning


class Sharing:
    """What was judged since the last commit, so that it can be judged again."""

    def __init__(self, book: Book, turning: Turning) -> None:
        self._book = book
        self._turning = turning
        self._judged: list[Callable[[], None]] = []

    def judge(self, call: Callable[[], None]) -> None:
        """Judge something; the first time since the last commit, by what other workers have kept till now."""
        if not self._judged:
            self._forget(self._book.copy.moved())
        self._judged.append(call)
        call()

    def commit(self) -> None:
        """Keep what was judged; where another worker was first, judge all of it again.

        Raises: StoreError if it cannot be kept.
        """
        book = self._book
        while book.changes:
            try:
                book.copy.commit(book.changes)
                book.changes = Changes()
            except Stale:
                self._judge_again()
        self._judged.clear()

    def _judge_again(self) -> None:
        book = self._book
        stale = book.changes.chains
        book.changes = Changes()
        book.said.clear()
        book.notes.clear()
        self._forget(stale)
        for call in self._judged:
            with suppress(VerificationError):  # refused before or, as when the chain was frozen meanwhile, now
                call()

    def _forget(self, chains: Iterable[str]) -> None:
        """Read, when they are needed again, where this peer stands on these chains."""
        for chain in chains:
            before = self._book.standings.pop(chain, None)
            if before is not None and before.heard:
                with suppress(VerificationError):  # in an epoch whose roster this worker has yet to hear
                    _keep_heard(self._book.name, before, self._turning.standing(chain))


def _keep_heard(name: str, before: Standing, standing: Standing) -> None:
    """Keep the freezes of other peers, which are in memory alone; this peer's own are as the copy has them."""
    if before.tip.incarnation != standing.tip.incarnation:
        return
    for key, known in before.heard.items():
        if key[0] >= standing.epoch:
            others = {peer: shown for peer, shown in known.items() if peer != name}
            standing.heard[key] = others | standing.heard.get(key, {})


class _Shares(Protocol):
    sharing: Sharing


Rule = TypeVar("Rule", bound=_Shares)
Values = ParamSpec("Values")


def judged(method: Callable[Concatenate[Rule, Values], None]) -> Callable[Concatenate[Rule, Values], None]:
    """Have what a method comes to judged again, before it is kept, where another worker was first."""

    @wraps(method)
    def judge(rule: Rule, /, *values: Values.args, **named: Values.kwargs) -> None:
        rule.sharing.judge(partial(method, rule, *values, **named))

    return judge
