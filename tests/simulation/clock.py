"""Virtual time: what happens next, and what has happened."""

from collections import Counter, deque
from collections.abc import Callable
from heapq import heappop, heappush
from zlib import crc32

WALL_MS = 1_764_000_000_000
LAST_STEPS = 40


class Clock:
    """Calls in the order of their time; those of one time in the order in which they were asked for."""

    def __init__(self) -> None:
        self.now_ms = 0
        self.steps = 0
        self._asked = 0
        self._queue: list[tuple[int, int, Callable[[], None]]] = []

    def after(self, delay_ms: int, call: Callable[[], None]) -> None:
        """Call it when that time has passed."""
        self._asked += 1
        heappush(self._queue, (self.now_ms + delay_ms, self._asked, call))

    def run_to(self, until_ms: int) -> None:
        """Let time pass, with all that happens in it."""
        while self._queue and self._queue[0][0] <= until_ms:
            self.now_ms, _, call = heappop(self._queue)
            self.steps += 1
            call()
        self.now_ms = until_ms


class Trace:
    """What happened: a fingerprint of all of it, and the last steps in words."""

    def __init__(self, clock: Clock, show: Callable[[str], None] | None = None) -> None:
        self._clock = clock
        self._show = show
        self.fingerprint = 0
        self.last: deque[str] = deque(maxlen=LAST_STEPS)
        self.counts: Counter[str] = Counter()

    def tell(self, who: str, what: str, payload: bytes = b"", *, count: str = "") -> None:
        """Take a step down, and count it under a name."""
        if count:
            self.counts[count] += 1
        line = f"{self._clock.now_ms / 1000:9.3f} s  {who:8} {what}"
        self.fingerprint = crc32(payload, crc32(line.encode(), self.fingerprint))
        self.last.append(line)
        if self._show is not None:
            self._show(line)
