"""The device's side of Contec's pulse oximeters, 60 frames a second: CMS50D+ of five bytes, CMS50E and F of nine.

    c4 4b 08 3e 61    CMS50D+ (19200 baud): signal 4 and a beep, pleth 4b, bar 8, pulse rate 62, SpO2 97

Only the first byte has bit 7. First: bits 3 to 0 signal strength, 4 searching too long, 5 SpO2 dropping, 6 beep. Third:
bits 3 to 0 bar graph, 4 probe error, 5 searching, 6 pulse rate bit 7. Without a finger, pulse rate and SpO2 are 0.

    01 e0 84 cb 98 be e1 ff ff    CMS50E (115200 baud): kind 1, top bits, signal 4, pleth 4b, bar 8, rate 62, SpO2 97

Only the first byte, the kind of frame, lacks bit 7. Bit i of the second byte is bit 7 of the byte i after it: signal
(bits 3 to 0; 4 searching too long, 5 SpO2 dropping, 6 beep, 7 probe error), pleth (7 bits; 7 searching), bar (bits 3 to
0; 4 no perfusion index), pulse rate, SpO2, perfusion index (16 bits, the low byte first, ffff for none; in a unit that
is not known, so ours has none). It is silent until it hears

    7d 81 a1 80 80 80 80 80 80    and stops when it hears a2 for a1, or has not heard a1 or af for ten seconds

af, "the computer is there", is to come every five seconds; how long the device waits is an assumption of ours.
Sources: Contec, communication protocol of pulse oximeter V1.0 (five bytes) and V7.0 (nine), as public drivers quote it,
and public captures.
"""

from dataclasses import dataclass
from typing import Final

from firmware_stubs.physiology import Wearer

START: Final = bytes.fromhex("7d81a1808080808080")
STOP: Final = bytes.fromhex("7d81a2808080808080")
KEEP_ALIVE: Final = bytes.fromhex("7d81af808080808080")
PATIENCE_MS: Final = 10_000

_PERIOD_MS: Final = 1000 / 60
_REAL_TIME: Final = 0x01
_STOPPED: Final = b"\x0c\x80"
_NO_PERFUSION: Final = 0xFFFF
_SIGNAL: Final = 4
# A beep is as long as the frames that it is told in.
_BEEP_FRAMES: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """What both kinds of frame tell: pleth 0 to 127, signal 0 to 15, bar graph 0 to 15, and what is wrong."""

    pleth: int
    rate_per_min: int
    spo2_percent: int
    signal: int = _SIGNAL
    bar: int = 0
    is_beep: bool = False
    is_probe_error: bool = False
    is_searching: bool = False
    is_searching_long: bool = False
    is_dropping: bool = False

    @property
    def status(self) -> int:
        """The signal strength with the three bits over it."""
        return self.signal | self.is_searching_long << 4 | self.is_dropping << 5 | self.is_beep << 6


def encode_five(moment: Moment) -> bytes:
    """Return a frame of the CMS50D+."""
    bar = moment.bar | moment.is_probe_error << 4 | moment.is_searching << 5 | (moment.rate_per_min & 0x80) >> 1
    return bytes((0x80 | moment.status, moment.pleth, bar, moment.rate_per_min & 0x7F, moment.spo2_percent))


def encode_nine(moment: Moment, perfusion: int = _NO_PERFUSION) -> bytes:
    """Return a real-time frame of the CMS50E and CMS50F."""
    signal = moment.status | moment.is_probe_error << 7
    pleth = moment.pleth | moment.is_searching << 7
    bar = moment.bar | (perfusion == _NO_PERFUSION) << 4
    data = (signal, pleth, bar, moment.rate_per_min, moment.spo2_percent)
    return pack(_REAL_TIME, bytes(data) + perfusion.to_bytes(2, "little"))


def pack(kind: int, data: bytes) -> bytes:
    """Return a frame of up to seven bytes of data as V7.0 packs it, their top bits apart."""
    tops = sum(byte >> 7 << place for place, byte in enumerate(data))
    return bytes((kind, 0x80 | tops)) + bytes(byte | 0x80 for byte in data)


class _Contec:
    """What both oximeters measure; `has_finger` may be set at any time."""

    frame_period_ms = _PERIOD_MS

    def __init__(self, wearer: Wearer) -> None:
        self.has_finger = True
        self._wearer = wearer
        self._frames = 0
        self._beep_frames = 0

    def _measure(self) -> Moment:
        """Let the person live until the next frame is due, and return what it tells."""
        if self._wearer.advance(self._frames * _PERIOD_MS):
            self._beep_frames = _BEEP_FRAMES
        self._frames += 1
        self._beep_frames -= 1
        if not self.has_finger:
            return Moment(pleth=0, rate_per_min=0, spo2_percent=0, signal=0, is_probe_error=True, is_searching=True)
        pleth = self._wearer.pleth // 2
        return Moment(
            pleth=pleth,
            rate_per_min=self._wearer.rate_per_min(8),
            spo2_percent=self._wearer.spo2_percent,
            bar=pleth // 8,
            is_beep=self._beep_frames > 0,
        )


class Cms50d(_Contec):
    """A CMS50D+, which talks as long as it is on."""

    baudrate = 19_200

    def next_frame(self) -> bytes:
        """Return the next frame, 5 bytes; the person lives until it is due."""
        return encode_five(self._measure())

    def received(self, _data: bytes) -> bytes:
        """Answer nothing: the live stream is one-way."""
        return b""


class Cms50e(_Contec):
    """A CMS50E, which talks when it is told to and while somebody listens."""

    baudrate = 115_200

    def __init__(self, wearer: Wearer) -> None:
        super().__init__(wearer)
        self._heard = b""
        self._talks_until_frame = 0

    def next_frame(self) -> bytes:
        """Return the next frame, 9 bytes, or nothing while it is silent; the person lives until it is due."""
        moment = self._measure()
        return encode_nine(moment) if self._frames <= self._talks_until_frame else b""

    def received(self, data: bytes) -> bytes:
        """Obey the commands in what arrived, whole or in pieces, and return the answers."""
        self._heard += data
        answers = b""
        while len(self._heard) >= len(START):
            command = self._heard[: len(START)]
            if command[0] != START[0]:
                self._heard = self._heard[1:]
                continue
            self._heard = self._heard[len(START) :]
            answers += self._obey(command)
        return answers

    def _obey(self, command: bytes) -> bytes:
        talks = self._frames < self._talks_until_frame
        if command == START or (command == KEEP_ALIVE and talks):
            self._talks_until_frame = self._frames + round(PATIENCE_MS / _PERIOD_MS)
        if command != STOP:
            return b""
        self._talks_until_frame = 0
        return _STOPPED
