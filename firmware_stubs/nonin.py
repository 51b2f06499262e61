"""The device's side of Nonin's serial data format 2 (OEM III, Xpod): 9600 baud, 8N1, 75 frames a second.

    01 83 4B 00 CF    frame 1 of a packet: STATUS 83 (a pulse, first frame), PLETH 4B, FLOAT 00 (pulse rate, high bits)
    01 82 56 48 21    frame 2: FLOAT 48 (pulse rate, low bits): 72 /min

A frame is 01, STATUS, PLETH, FLOAT and the sum of these four modulo 256. 25 frames are a packet, a third of a second.

STATUS: bit 7 always; 6 sensor disconnected; 5 artifact; 4 out of track; 3 sensor alarm; 2 and 1 the pulse signal
(01 good, 11 medium, 10 poor), set in the 12 frames that follow a beat; 0 in the first frame of a packet.

FLOAT by frame: 1, 2 pulse rate; 3 SpO2; 4 firmware revision; 6, 7 timer in packets; 8 STAT2 (bit 5 SmartPoint,
bit 0 low battery); 9 SpO2-D; 10 fast SpO2; 11 SpO2 of one beat; 14, 15 E-rate; 16 E-SpO2; 17 E-SpO2-D; 20, 21
rate-D; 22, 23 E-rate-D; the others 0. A rate has 9 bits and the timer 14: from bit 7 up in the first of its two
bytes, bits 6 to 0 in the second. Rates average 4 beats, E-rates 8. Where there is no value, a rate is 511 and an
SpO2 127: at once, but in the D values, which are meant for a display, only 10 s later.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from firmware_stubs.people import Person

BAUDRATE: Final = 9600
FRAME_PERIOD_MS: Final = 1000 / 75
FRAMES_PER_PACKET: Final = 25
NO_RATE: Final = 511
NO_SPO2: Final = 127

_FIRST_FRAME: Final = 0x01
_GOOD_PULSE: Final = 0x02
_PULSE_FRAMES: Final = 12
_DISPLAY_HOLD_PACKETS: Final = 30
_REVISION: Final = 48
_SMARTPOINT: Final = 0x20


class Probe(IntEnum):
    """Where the finger probe is; the number is what STATUS says of it."""

    WORN = 0x80
    OFF_FINGER = 0x98
    UNPLUGGED = 0xD8


@dataclass(frozen=True, slots=True, kw_only=True)
class Values:
    """What the oximeter makes of one moment: rates over 4 and 8 beats, saturation."""

    rate_per_min: int = NO_RATE
    long_rate_per_min: int = NO_RATE
    spo2_percent: int = NO_SPO2


class NoninDf2:
    """An oximeter on a person's finger, from the moment it is switched on.

    `probe` may be set at any time. STATUS follows at once and FLOAT from the next packet on.
    """

    frame_period_ms = FRAME_PERIOD_MS

    def __init__(self, person: Person) -> None:
        self.probe = Probe.WORN
        self._person = person
        self._frames = 0
        self._pulse_frames = _PULSE_FRAMES
        self._displayed = Values()
        self._display_hold_packets = 0
        self._floats = b""

    def next_frame(self) -> bytes:
        """Return the next frame, 5 bytes; the person lives until it is due."""
        index = self._frames % FRAMES_PER_PACKET
        if self._person.advance(self._frames * FRAME_PERIOD_MS):
            self._pulse_frames = _PULSE_FRAMES
        if index == 0:
            self._floats = self._measure()
        pleth = self._person.pleth if self.probe is Probe.WORN else 0
        frame = bytes((0x01, self._status(index), pleth, self._floats[index]))
        self._frames += 1
        self._pulse_frames -= 1
        return frame + bytes((sum(frame) % 256,))

    def _status(self, index: int) -> int:
        status = int(self.probe)
        if index == 0:
            status |= _FIRST_FRAME
        if self.probe is Probe.WORN and self._pulse_frames > 0:
            status |= _GOOD_PULSE
        return status

    def _measure(self) -> bytes:
        """Return the FLOAT bytes of the packet that starts now."""
        values = Values()
        if self.probe is Probe.WORN:
            values = Values(
                rate_per_min=self._person.rate_per_min(4),
                long_rate_per_min=self._person.rate_per_min(8),
                spo2_percent=self._person.spo2_percent,
            )
            self._displayed = values
            self._display_hold_packets = _DISPLAY_HOLD_PACKETS
        elif self._display_hold_packets > 0:
            self._display_hold_packets -= 1
        else:
            self._displayed = values
        return encode_floats(values, self._displayed, timer=self._frames // FRAMES_PER_PACKET)


def encode_floats(values: Values, displayed: Values, *, timer: int) -> bytes:
    """Return the FLOAT bytes of one packet, 25; `timer` counts packets and wraps at 16384."""
    floats = bytearray(FRAMES_PER_PACKET)
    for first_frame, number in (
        (1, values.rate_per_min),
        (6, timer % (1 << 14)),
        (14, values.long_rate_per_min),
        (20, displayed.rate_per_min),
        (22, displayed.long_rate_per_min),
    ):
        floats[first_frame - 1] = number >> 7
        floats[first_frame] = number & 0x7F
    floats[4 - 1] = _REVISION
    floats[8 - 1] = 0 if values.spo2_percent == NO_SPO2 else _SMARTPOINT
    for frame in (3, 10, 11, 16):
        floats[frame - 1] = values.spo2_percent
    for frame in (9, 17):
        floats[frame - 1] = displayed.spo2_percent
    return bytes(floats)
