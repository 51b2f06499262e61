"""The patients who are not recordings: a heart, lungs and a body that move through a scenario, the same in every run.

Each beat's length is drawn when the beat begins: the scenario's rate, longer and shorter with the breath (respiratory
sinus arrhythmia), and chance. In "af" there is chance alone, and much of it: no two intervals have to do with each
other, which is what atrial fibrillation is known by.
"""

import math
import random
from collections import deque
from typing import Final, Protocol

from firmware_stubs.people import RECORDINGS, Person, height_at, pleth_of
from firmware_stubs.scenarios import SCENARIOS, Body, body_at, value_at

# Whom a simulated sensor can be worn by.
WEARERS: Final = (*RECORDINGS, *SCENARIOS)

_REMEMBERED_BEATS: Final = 8
_SHORTEST_MS: Final = 250
_LONGEST_MS: Final = 2500
# How much the breath moves the height of the pulse, and chance and time the saturation.
_BREATH_IN_PULSE: Final = 0.08
_SPO2_WAVE_PERCENT: Final = 0.4


class Wearer(Protocol):
    """A person whom sensors can be put on: a recorded one or one of a scenario."""

    def advance(self, to_ms: float) -> list[int]:
        """Let time pass and return the intervals in ms of the beats that ended meanwhile, oldest first."""

    def rate_per_min(self, beats: int = 4) -> int:
        """Return the mean rate over the last `beats` (1 to 8) whole beats."""

    @property
    def spo2_percent(self) -> int:
        """The oxygen saturation."""

    @property
    def phase(self) -> float:
        """How far the present beat has got, 0 to 1."""

    @property
    def height(self) -> float:
        """The height of the pulse, 0 at its foot and about 1 at its peak."""

    @property
    def pleth(self) -> int:
        """The pleth, 0 to 255."""

    @property
    def body(self) -> Body:
        """Temperature, pressure and what else moves slowly."""


class Patient:
    """A patient of a scenario at a moment, 0 ms at first, which only `advance` moves.

    Two patients of the same scenario and seed that are advanced to the same times are equal in every value.

    Raises: ValueError if the scenario is not one of SCENARIOS.
    """

    def __init__(self, scenario: str, seed: int = 0) -> None:
        if scenario not in SCENARIOS:
            raise ValueError(f"no scenario {scenario!r}; there are {', '.join(SCENARIOS)}")
        self._scenario = SCENARIOS[scenario]
        self._random = random.Random(f"{scenario} {seed}")  # noqa: S311 - a patient that a test can repeat, no secret
        self._now_ms = 0.0
        self._beat_start_ms = 0
        self._breaths = 0.0
        self._beat_ms = _LONGEST_MS
        self._past_ms: deque[int] = deque(maxlen=_REMEMBERED_BEATS)
        for _ in range(_REMEMBERED_BEATS):
            self._past_ms.append(self._drawn_beat_ms())
        self._beat_ms = self._drawn_beat_ms()

    def advance(self, to_ms: float) -> list[int]:
        """Let time pass until `to_ms` and return the intervals in ms of the beats that ended meanwhile, oldest first.

        Raises: ValueError if `to_ms` is in the past.
        """
        if to_ms < self._now_ms:
            raise ValueError(f"the patient is at {self._now_ms} ms, {to_ms} ms is past")
        self._now_ms = to_ms
        ended = []
        while self._beat_start_ms + self._beat_ms <= to_ms:
            ended.append(self._beat_ms)
            self._past_ms.append(self._beat_ms)
            self._beat_start_ms += self._beat_ms
            self._beat_ms = self._drawn_beat_ms()
        return ended

    def rate_per_min(self, beats: int = 4) -> int:
        """Return the mean rate over the last `beats` (1 to 8) whole beats, in beats a minute."""
        recent_ms = list(self._past_ms)[-beats:]
        return round(60_000 * len(recent_ms) / sum(recent_ms))

    @property
    def spo2_percent(self) -> int:
        """The oxygen saturation in per cent."""
        wave = _SPO2_WAVE_PERCENT * math.sin(self._now_ms * math.tau / 47_000)
        return min(100, round(value_at(self._scenario.spo2, self._now_ms) + wave))

    @property
    def phase(self) -> float:
        """How far the present beat has got, 0 to 1."""
        return (self._now_ms - self._beat_start_ms) / self._beat_ms

    @property
    def height(self) -> float:
        """The height of the pulse, which is lower while the patient breathes in."""
        return height_at(self.phase) * (1 - _BREATH_IN_PULSE * math.sin(self._breaths * math.tau))

    @property
    def pleth(self) -> int:
        """The pleth now, 0 to 255."""
        return pleth_of(self.height)

    @property
    def body(self) -> Body:
        """The patient's body now."""
        return body_at(self._scenario, self._now_ms)

    def _drawn_beat_ms(self) -> int:
        """Return how long the beat that begins now is to be, and breathe on by as much."""
        scenario = self._scenario
        sinus = scenario.sinus_share * math.sin(self._breaths * math.tau)
        mean_ms = 60_000 / value_at(scenario.rate, self._beat_start_ms)
        drawn_ms = mean_ms * (1 - sinus) * self._random.lognormvariate(0, scenario.jitter_share)
        beat_ms = max(_SHORTEST_MS, min(_LONGEST_MS, round(drawn_ms)))
        self._breaths = (self._breaths + beat_ms * value_at(scenario.respiration, self._beat_start_ms) / 60_000) % 1
        return beat_ms


def wearer(name: str) -> Person | Patient:
    """Return the person of a recording or the patient of a scenario, by its name in WEARERS.

    Raises: ValueError if it is neither.
    """
    if name not in WEARERS:
        raise ValueError(f"no recording {name!r}; there are {', '.join(WEARERS)}")
    return Patient(name) if name in SCENARIOS else Person(name)
