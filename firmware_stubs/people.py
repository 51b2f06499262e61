"""The people that the simulated sensors are worn by: recorded beat-to-beat intervals, replayed without end.

A file of `recordings/` holds one person: a header line `rr_ms`, then one interval in ms a line, as in

    rr_ms
    897
    812
"""

import math
from collections import deque
from collections.abc import Iterator
from importlib import resources
from itertools import cycle
from typing import Final

from firmware_stubs.scenarios import REST, Body, body_at

RECORDINGS: Final = ("ppg_rest_25s", "ppg_2min", "ppg_long")

_REMEMBERED_BEATS: Final = 8
_UPSTROKE_END: Final = 0.15
_NOTCH_END: Final = 0.45


def intervals_ms(recording: str) -> Iterator[int]:
    """Yield the recording's beat-to-beat intervals in ms, from the first again after the last, without end.

    Raises: ValueError if the recording is not one of RECORDINGS.
    """
    return cycle(_read_intervals(recording))


def height_at(phase: float) -> float:
    """Return the pulse's height (0 to 1) at a phase of the beat (0 to 1): a steep rise, a decay, a dicrotic wave."""
    if phase < _UPSTROKE_END:
        return (1 - math.cos(math.pi * phase / _UPSTROKE_END)) / 2
    dicrotic = math.exp(-(((phase - _NOTCH_END) / 0.06) ** 2))
    return float(((1 - phase) / (1 - _UPSTROKE_END)) ** 1.5) + 0.15 * dicrotic


def pleth_of(height: float) -> int:
    """Return the pleth (0 to 255) that a pulse of some height gives; it fits up to a height of 1.15."""
    return round(32 + 190 * height)


def pleth_at(phase: float) -> int:
    """Return the pleth (0 to 255) at a phase of the beat (0 to 1)."""
    return pleth_of(height_at(phase))


class Person:
    """One recorded person at a moment, 0 ms at first, which only `advance` moves.

    Eight beats came before that moment, so that a rate can be told from the start. Two persons of
    the same recording that are advanced to the same times are equal in every value.
    """

    def __init__(self, recording: str) -> None:
        recorded = _read_intervals(recording)
        self._usual_interval_ms = sum(recorded) / len(recorded)
        self._coming_ms = cycle(recorded)
        self._past_ms = deque((next(self._coming_ms) for _ in range(_REMEMBERED_BEATS)), maxlen=_REMEMBERED_BEATS)
        self._now_ms = 0.0
        self._beat_start_ms = 0
        self._beat_ms = next(self._coming_ms)
        self._spo2_percent = self._drawn_spo2_percent()

    def advance(self, to_ms: float) -> list[int]:
        """Let time pass until `to_ms` and return the intervals in ms of the beats that ended meanwhile, oldest first.

        Raises: ValueError if `to_ms` is in the past.
        """
        if to_ms < self._now_ms:
            raise ValueError(f"the person is at {self._now_ms} ms, {to_ms} ms is past")
        self._now_ms = to_ms
        ended = []
        while self._beat_start_ms + self._beat_ms <= to_ms:
            ended.append(self._beat_ms)
            self._end_beat()
        return ended

    def rate_per_min(self, beats: int = 4) -> int:
        """Return the mean rate over the last `beats` (1 to 8) whole beats, in beats a minute."""
        recent_ms = list(self._past_ms)[-beats:]
        return round(60_000 * len(recent_ms) / sum(recent_ms))

    @property
    def spo2_percent(self) -> int:
        """The oxygen saturation in per cent, 96 to 99, which no beat moves by more than one."""
        return self._spo2_percent

    @property
    def phase(self) -> float:
        """How far the present beat has got, 0 to 1."""
        return (self._now_ms - self._beat_start_ms) / self._beat_ms

    @property
    def height(self) -> float:
        """The height of the pulse now, 0 to 1."""
        return height_at(self.phase)

    @property
    def pleth(self) -> int:
        """The pleth now, 0 to 255."""
        return pleth_of(self.height)

    @property
    def body(self) -> Body:
        """The body now, which was not recorded: that of a patient at rest."""
        return body_at(REST, self._now_ms)

    def _end_beat(self) -> None:
        self._past_ms.append(self._beat_ms)
        self._beat_start_ms += self._beat_ms
        self._beat_ms = next(self._coming_ms)
        step = self._drawn_spo2_percent() - self._spo2_percent
        self._spo2_percent += max(-1, min(1, step))

    def _drawn_spo2_percent(self) -> int:
        """Return the saturation to move towards: invented, higher where the heart is slower than usual."""
        slowness = sum(self._past_ms) / len(self._past_ms) / self._usual_interval_ms - 1
        return max(96, min(99, round(97.5 + 20 * slowness)))


def _read_intervals(recording: str) -> tuple[int, ...]:
    if recording not in RECORDINGS:
        raise ValueError(f"no recording {recording!r}; there are {', '.join(RECORDINGS)}")
    text = resources.files("firmware_stubs").joinpath("recordings", f"{recording}.csv").read_text("ascii")
    header, *lines = text.split()
    if header != "rr_ms":
        raise ValueError(f"{recording}.csv starts with {header!r} instead of 'rr_ms'")
    return tuple(int(line) for line in lines)
