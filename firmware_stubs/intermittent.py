"""What cuffs and scales have in common: they sleep, and wake for a measurement that somebody makes."""

from collections.abc import Iterable
from typing import Final

from firmware_stubs.behaviour import Behaviour, DeviceClock, Sent

AWAKE_MS: Final = 30_000
LINGER_MS: Final = 2000


class Intermittent(Behaviour):
    """A sensor that can be connected to for half a minute after a measurement, or after what else has woken it.

    It keeps what it measured until a client subscribes to it, indicates all of that in order, and two seconds after
    the last it drops the link and sleeps.
    """

    def __init__(self, clock: DeviceClock | None = None) -> None:
        super().__init__(clock)
        self.reachable = False
        self._stored: list[Sent] = []
        self._heard: set[str] = set()
        self._asleep_ms = 0.0

    def store(self, values: Iterable[Sent]) -> None:
        """Keep what was measured, and wake."""
        self._stored += values
        self.wake()

    def wake(self) -> None:
        """Stay awake from now on for as long as usual."""
        self.reachable = True
        self._asleep_ms = self.now_ms + AWAKE_MS

    def is_heard(self, uuid: str) -> bool:
        """Say whether a client listens to this characteristic."""
        return uuid in self._heard

    def subscribed(self, uuid: str) -> list[Sent]:
        """Return what is stored for this characteristic."""
        self._heard.add(uuid)
        return super().subscribed(uuid) + self.heard()

    def left(self) -> None:
        """Keep what is measured from now on."""
        self._heard.clear()

    def heard(self) -> list[Sent]:
        """Take out what is stored for the characteristics that a client listens to."""
        sent = [each for each in self._stored if each[0] in self._heard]
        self._stored = [each for each in self._stored if each[0] not in self._heard]
        if sent and not self._stored:
            self._asleep_ms = self.now_ms + LINGER_MS
        return sent

    def tick(self, now_ms: float) -> list[Sent]:
        """Fall asleep when it is time to."""
        super().tick(now_ms)
        if now_ms >= self._asleep_ms:
            self.reachable = False
        return []
