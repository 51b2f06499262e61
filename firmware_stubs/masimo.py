"""The device's side of Masimo's ASCII 1 line (Rad-8): 9600 baud, 8N1, a line a second.

    03/01/26 08:00:07 SN=0000056661 SPO2=098% BPM=062 PI=03.60% SPCO=--.-% SPMET=--.-% DESAT=-- PIDELTA=+-- \
ALARM=0000 EXC=000800

Month, day, year of the century and time by the device's clock; dashes where there is no value. EXC is hexadecimal:
1 no sensor, 2 defective sensor, 4 low perfusion, 8 pulse search, 10 interference, 20 sensor off patient, 40 ambient
light, 80 unrecognised sensor, 400 low signal quality, 800 normal operation (SET). Lines end with CR LF.
Source: Masimo, serial interface of Rad-8 and Radical-7, ASCII 1 output; public captures of a Rad-8.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Final

from firmware_stubs.physiology import Wearer

NO_SENSOR: Final = 0x001
OFF_PATIENT: Final = 0x020
NORMAL: Final = 0x800

_PERIOD_MS: Final = 1000.0
_SERIAL_NUMBER: Final = "0000056661"
_SWITCHED_ON: Final = datetime(2026, 3, 1, 8, tzinfo=UTC)
_LOW_PERFUSION_PERCENT: Final = Decimal("0.3")
_LOW_PERFUSION: Final = 0x004


@dataclass(frozen=True, slots=True, kw_only=True)
class Display:
    """What the oximeter shows; None is shown as dashes."""

    spo2_percent: int | None
    rate_per_min: int | None
    perfusion_percent: Decimal | None
    exceptions: int = NORMAL


def encode_ascii1(moment: datetime, display: Display) -> bytes:
    """Return a line with its end."""
    spo2 = "---" if display.spo2_percent is None else f"{display.spo2_percent:03}"
    rate = "---" if display.rate_per_min is None else f"{display.rate_per_min:03}"
    perfusion = "--.--" if display.perfusion_percent is None else f"{display.perfusion_percent:05.2f}"
    line = (
        f"{moment:%m/%d/%y %H:%M:%S} SN={_SERIAL_NUMBER} SPO2={spo2}% BPM={rate} PI={perfusion}% SPCO=--.-% SPMET=--.-%"
        f" DESAT=-- PIDELTA=+-- ALARM=0000 EXC={display.exceptions:06X}\r\n"
    )
    return line.encode("ascii")


class MasimoRad8:
    """A Rad-8 whose clock started at 2026-03-01 08:00:00; `has_finger` may be set at any time."""

    baudrate = 9600
    frame_period_ms = _PERIOD_MS

    def __init__(self, wearer: Wearer) -> None:
        self.has_finger = True
        self._wearer = wearer
        self._lines = 0

    def next_frame(self) -> bytes:
        """Return the next line; the person lives until it is due."""
        now_ms = self._lines * _PERIOD_MS
        self._lines += 1
        self._wearer.advance(now_ms)
        return encode_ascii1(_SWITCHED_ON + timedelta(milliseconds=now_ms), self._display())

    def received(self, _data: bytes) -> bytes:
        """Answer nothing: the line is one-way."""
        return b""

    def _display(self) -> Display:
        if not self.has_finger:
            return Display(spo2_percent=None, rate_per_min=None, perfusion_percent=None, exceptions=OFF_PATIENT)
        perfusion = self._wearer.body.perfusion_percent
        return Display(
            spo2_percent=self._wearer.spo2_percent,
            rate_per_min=self._wearer.rate_per_min(8),
            perfusion_percent=perfusion,
            exceptions=NORMAL | _LOW_PERFUSION * (perfusion < _LOW_PERFUSION_PERCENT),
        )
