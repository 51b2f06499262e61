"""The driver boundary: what `main` asks of a sensor, and a made-up one that needs no hardware.

A driver has `statuses`, the bits of the measurement status (2A5F) that it uses, and `measure(now_ms)`, which returns
what it knows of the time since it was last asked: each beat once, and never a value that is no longer measured.

A MAX30102 goes here: a class with these two, made with `machine.I2C`. It gives red and infrared light at 100 samples a
second, not beats and not saturation: read its FIFO in `measure`, find the beats in the infrared, and calibrate the
ratio of ratios against a reference oximeter. A chip that computes by itself (MAX32664 and its kin) is read the same
way. Where no finger is on it, return a measurement without contact, whose rate is 0 and whose values are None.
"""  # noqa: INP001 - a board has files, no packages

import math
from collections import namedtuple

from encode import DEMO, ONGOING, QUALIFIED  # type: ignore[import-not-found] # a board has them side by side

Measurement = namedtuple(  # noqa: PYI024 - MicroPython has no typing.NamedTuple
    "Measurement",
    (
        "rate_per_min",  # mean of the last beats; 0 without contact
        "intervals_ms",  # of the beats that ended since the last measurement, oldest first
        "has_contact",
        "spo2_percent",  # (mantissa, exponent), or None
        "pulse_per_min",  # likewise
        "status",  # of 2A5F
        "battery_percent",
    ),
)

_RATE_PER_MIN = 66
_BREATHS_PER_MIN = 14
_SINUS_SHARE = 0.06
_BATTERY_PERCENT = 90
_REMEMBERED = 4


class Simulated:
    """A resting adult: beats that lengthen and shorten with the breath; every measurement says that it is made up."""

    statuses = ONGOING | QUALIFIED | DEMO

    def __init__(self, now_ms: int = 0) -> None:
        """Begin with a beat at `now_ms`, in ms of any clock that only goes forward."""
        self._start_ms = now_ms
        self._beat_ms = 0  # when the beat that has not ended began
        self._past_ms = [self._length_ms()] * _REMEMBERED

    def measure(self, now_ms: int) -> Measurement:
        """Return what happened since the last measurement."""
        elapsed_ms = now_ms - self._start_ms
        ended = []
        while self._beat_ms + self._length_ms() <= elapsed_ms:
            length_ms = self._length_ms()
            ended.append(length_ms)
            self._beat_ms += length_ms
        self._past_ms = (self._past_ms + ended)[-_REMEMBERED:]
        rate = (60_000 * _REMEMBERED + sum(self._past_ms) // 2) // sum(self._past_ms)
        spo2_tenths = 974 + round(4 * math.sin(elapsed_ms * 0.000_13))
        return Measurement(
            rate_per_min=rate,
            intervals_ms=tuple(ended),
            has_contact=True,
            spo2_percent=(spo2_tenths, -1),
            pulse_per_min=(rate, 0),
            status=self.statuses,
            battery_percent=_BATTERY_PERCENT,
        )

    def _length_ms(self) -> int:
        """Return how long the beat lasts that has not ended."""
        breath = math.sin(self._beat_ms * _BREATHS_PER_MIN * math.pi * 2 / 60_000)
        return int(60_000 / _RATE_PER_MIN * (1 - _SINUS_SHARE * breath))
