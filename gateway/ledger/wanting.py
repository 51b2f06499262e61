"""Which blocks a peer knows of and does not have, whom it has asked for them, and when it asks again."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from gateway.ledger.messages import ANSWER_BLOCKS

ASK_AGAIN_MS = 1_000
TELL_MS = 5_000


@dataclass(slots=True)
class _Asked:
    next_height: int
    when_ms: int


@dataclass(slots=True)
class Wanted:
    """By chain: the height behind the last block that is known of, and the last question."""

    _goals: dict[str, int] = field(default_factory=dict)
    _asked: dict[str, _Asked] = field(default_factory=dict)
    _turns: dict[str, int] = field(default_factory=dict)
    _told_ms: dict[str, int] = field(default_factory=dict)

    def begin(self, chain: str, goal: int) -> bool:
        """Want the blocks below a height; says whether nothing was wanted of that chain before."""
        is_new = chain not in self._goals
        self._goals[chain] = max(goal, self._goals.get(chain, 0))
        return is_new

    def goal(self, chain: str) -> int:
        """Give the height below which blocks are wanted, 0 where none are."""
        return self._goals.get(chain, 0)

    def reached(self, chain: str, next_height: int) -> bool:
        """Be told how far the copy goes; says whether that is all that was wanted."""
        if chain not in self._goals or next_height < self._goals[chain]:
            return False
        self.forget(chain)
        return True

    def forget(self, chain: str) -> None:
        """Want nothing of a chain any more."""
        self._goals.pop(chain, None)
        self._turns.pop(chain, None)

    def asked(self, chain: str, next_height: int, now_ms: int) -> None:
        """Take note of a question for the blocks from a height on."""
        self._asked[chain] = _Asked(next_height, now_ms)

    def may_ask(self, chain: str, next_height: int, now_ms: int) -> bool:
        """Say whether to ask for the blocks from a height on: for the same ones at most once a second."""
        asked = self._asked.get(chain)
        return asked is None or asked.next_height != next_height or now_ms - asked.when_ms >= ASK_AGAIN_MS

    def is_last_of_answer(self, chain: str, next_height: int) -> bool:
        """Say whether the copy has reached the end of what the last question can be answered with."""
        asked = self._asked.get(chain)
        return asked is not None and next_height >= asked.next_height + ANSWER_BLOCKS

    def overdue(self, now_ms: int) -> list[str]:
        """Give the chains of which something is wanted and nothing has been asked for a second."""
        return [
            chain
            for chain in self._goals
            if chain not in self._asked or now_ms - self._asked[chain].when_ms >= ASK_AGAIN_MS
        ]

    def turn(self, chain: str, sources: Sequence[str]) -> str:
        """Give whom to ask next of these, each in its turn."""
        turn = self._turns[chain] = self._turns.get(chain, 0) + 1
        return sources[turn % len(sources)]

    def is_time_to_tell(self, chain: str, now_ms: int) -> bool:
        """Say, every few seconds, that a person may be told how far it has come."""
        if now_ms - self._told_ms.get(chain, -TELL_MS) < TELL_MS:
            return False
        self._told_ms[chain] = now_ms
        return True
