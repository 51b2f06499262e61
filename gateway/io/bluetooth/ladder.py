"""What is done about a radio that hears nothing at all: restart the scanner, reset the adapter, end the process.

    60 s of silence -> RESTART_SCANNER,  120 s -> RESET_ADAPTER,  600 s -> EXIT, and systemd starts the gateway anew

Only radio-wide silence climbs it, and only while a device is followed that should be heard all the time; one device
that is silent is its own link's matter. A process that has never heard anything does not end for that: a ward whose
last strap was taken off would restart for ever.
"""

from enum import Enum, auto
from typing import Final

RESTART_S: Final = 60.0
RESET_S: Final = 120.0
EXIT_S: Final = 600.0


class Step(Enum):
    """A rung."""

    RESTART_SCANNER = auto()
    RESET_ADAPTER = auto()
    EXIT = auto()


class Ladder:
    """Times are seconds of one monotonic clock."""

    def __init__(self, now_s: float) -> None:
        self._silent_since_s = now_s
        self._ever_heard = False
        self._climbed: list[Step] = []

    def heard(self, now_s: float) -> None:
        """Note that something was heard: an advertisement of any device, or a frame of one of ours."""
        self._silent_since_s = now_s
        self._ever_heard = True
        if self._climbed:
            self._climbed.clear()

    def silence_s(self, now_s: float) -> float:
        """Give how long nothing was heard."""
        return now_s - self._silent_since_s

    def climb(self, now_s: float, *, expected: bool) -> Step | None:
        """Give the step that is due, each once in a silence; `expected` says whether something should be heard."""
        if not expected:
            self._silent_since_s = now_s
            return None
        silence_s = self.silence_s(now_s)
        for step, due_s in ((Step.EXIT, EXIT_S), (Step.RESET_ADAPTER, RESET_S), (Step.RESTART_SCANNER, RESTART_S)):
            if silence_s >= due_s and (step is not Step.EXIT or self._ever_heard):
                if step in self._climbed:
                    return None
                self._climbed.append(step)
                return step
        return None
