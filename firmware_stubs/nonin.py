"""The device's side of Nonin's serial data formats 2, 7 and 8 (OEM III, Xpod, WristOx2): 9600 baud, 8N1.

    01 83 4B 00 CF    format 2, frame 1 of a packet: STATUS 83 (a pulse, first frame), PLETH 4B, FLOAT 00
    01 82 56 48 21    frame 2: FLOAT 48, the low bits of the pulse rate: 72 /min
    83 4B 80 00 4E    format 7, frame 1 of a packet: STATUS 83, PLETH 4B80, FLOAT 00
    80 48 61 00       format 8: pulse rate 72 /min, SpO2 97 %

Format 2: 75 frames a second, 25 are a packet. A frame is 01, STATUS, PLETH, FLOAT and the sum of these four modulo 256.
Format 7: likewise, without the 01 and with 16 bits of PLETH, the high ones first.

STATUS: bit 7 always; 6 sensor disconnected; 5 artifact; 4 out of track; 3 sensor alarm; 2 and 1 the pulse signal
(01 good, 11 medium, 10 poor), set in the 12 frames that follow a beat; 0 in the first frame of a packet.

FLOAT by frame: 1, 2 pulse rate; 3 SpO2; 4 firmware revision; 6, 7 timer in packets; 8 STAT2 (bit 5 SmartPoint,
bit 0 low battery); 9 SpO2-D; 10 fast SpO2; 11 SpO2 of one beat; 14, 15 E-rate; 16 E-SpO2; 17 E-SpO2-D; 20, 21
rate-D; 22, 23 E-rate-D; the others 0. A rate has 9 bits and the timer 14: from bit 7 up in the first of its two
bytes, bits 6 to 0 in the second. Rates average 4 beats, E-rates 8. Where there is no value, a rate is 511 and an
SpO2 127: at once, but in the D values, which are meant for a display, only 10 s later.

Format 8: a frame a second, of D values. Byte 1: bit 7 always; 6 sensor disconnected; 5 out of track; 4 low and 3
marginal perfusion; 2 artifact; 1 and 0 rate bits 8 and 7. Byte 2: rate bits 6 to 0. Byte 3: SpO2. Byte 4: bit 5
SmartPoint; 3 sensor alarm; 0 low battery.

    02 70 02 02 08 03    received: talk in format 8; answered 06, or 15 for a format that is not spoken

Sources: Nonin, OEM III module and WristOx2 model 3150, specification and technical information.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from firmware_stubs.people import pleth_of
from firmware_stubs.physiology import Wearer

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
_SELECT: Final = bytes.fromhex("02700202")
_SELECT_END: Final = 0x03
_SELECT_BYTES: Final = 6
_ACKNOWLEDGED: Final = b"\x06"
_REFUSED: Final = b"\x15"


class Format(IntEnum):
    """A serial data format, by the number that selects it."""

    DF2 = 2
    DF7 = 7
    DF8 = 8


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


class Nonin:
    """An oximeter on a person's finger, from the moment it is switched on, in the format that it was set to.

    `probe` may be set at any time. STATUS follows at once and FLOAT from the next packet on.
    """

    baudrate = BAUDRATE

    def __init__(self, wearer: Wearer, data_format: Format) -> None:
        self.probe = Probe.WORN
        self.data_format = data_format
        self._wearer = wearer
        self._began_ms = 0.0
        self._frames = 0
        self._pulse_frames = _PULSE_FRAMES
        self._displayed = Values()
        self._display_hold_packets = 0
        self._floats = b""
        self._heard = b""

    @property
    def frame_period_ms(self) -> float:
        """How long it is from one frame to the next."""
        return 1000.0 if self.data_format is Format.DF8 else FRAME_PERIOD_MS

    def next_frame(self) -> bytes:
        """Return the next frame; the person lives until it is due."""
        beats_ms = self._wearer.advance(self._began_ms + self._frames * self.frame_period_ms)
        if self.data_format is Format.DF8:
            self._frames += 1
            self._measure(packets=3)
            return encode_format_8(self._displayed, self.probe)
        if beats_ms:
            self._pulse_frames = _PULSE_FRAMES
        index = self._frames % FRAMES_PER_PACKET
        if index == 0:
            values = self._measure(packets=1)
            self._floats = encode_floats(values, self._displayed, timer=self._frames // FRAMES_PER_PACKET)
        frame = self._encode(index)
        self._frames += 1
        self._pulse_frames -= 1
        return frame

    def received(self, data: bytes) -> bytes:
        """Take what arrived, whole or in pieces, and return the answer to each selection of a format in it."""
        self._heard += data
        answers = b""
        while (at := self._heard.find(_SELECT)) >= 0 and len(self._heard) >= at + _SELECT_BYTES:
            number, end = self._heard[at + len(_SELECT) : at + _SELECT_BYTES]
            self._heard = self._heard[at + _SELECT_BYTES :]
            answers += self._select(number) if end == _SELECT_END else _REFUSED
        self._heard = self._heard[-(_SELECT_BYTES - 1) :]
        return answers

    def _select(self, number: int) -> bytes:
        """Begin a packet of another format, when the next frame of the present one would have been due."""
        if number not in frozenset(Format):
            return _REFUSED
        self._began_ms += self._frames * self.frame_period_ms
        self._frames = 0
        self.data_format = Format(number)
        return _ACKNOWLEDGED

    def _encode(self, index: int) -> bytes:
        height = self._wearer.height if self.probe is Probe.WORN else None
        if self.data_format is Format.DF7:
            pleth = 0 if height is None else wide_pleth_of(height)
            frame = bytes((self._status(index), *pleth.to_bytes(2, "big"), self._floats[index]))
        else:
            pleth = 0 if height is None else pleth_of(height)
            frame = bytes((0x01, self._status(index), pleth, self._floats[index]))
        return frame + bytes((sum(frame) % 256,))

    def _status(self, index: int) -> int:
        status = int(self.probe)
        if index == 0:
            status |= _FIRST_FRAME
        if self.probe is Probe.WORN and self._pulse_frames > 0:
            status |= _GOOD_PULSE
        return status

    def _measure(self, *, packets: int) -> Values:
        """Return the values of now, which is so many thirds of a second after the time before."""
        values = Values()
        if self.probe is Probe.WORN:
            values = Values(
                rate_per_min=self._wearer.rate_per_min(4),
                long_rate_per_min=self._wearer.rate_per_min(8),
                spo2_percent=self._wearer.spo2_percent,
            )
            self._displayed = values
            self._display_hold_packets = _DISPLAY_HOLD_PACKETS
        elif self._display_hold_packets > 0:
            self._display_hold_packets -= packets
        else:
            self._displayed = values
        return values


class NoninDf2(Nonin):
    """An OEM III, set to format 2."""

    def __init__(self, wearer: Wearer) -> None:
        super().__init__(wearer, Format.DF2)


class NoninDf7(Nonin):
    """An Xpod, set to format 7."""

    def __init__(self, wearer: Wearer) -> None:
        super().__init__(wearer, Format.DF7)


class NoninDf8(Nonin):
    """A WristOx2, set to format 8."""

    def __init__(self, wearer: Wearer) -> None:
        super().__init__(wearer, Format.DF8)


def wide_pleth_of(height: float) -> int:
    """Return the pleth of 16 bits that a pulse of some height gives, which is that of 8 bits 256 times as fine."""
    return round(256 * (32 + 190 * height))


def encode_format_8(displayed: Values, probe: Probe) -> bytes:
    """Return a frame of format 8, 4 bytes."""
    status = 0x80 | displayed.rate_per_min >> 7
    status |= 1 << 6 if probe is Probe.UNPLUGGED else 0
    status |= 1 << 5 if probe is not Probe.WORN else 0
    no_value = displayed.spo2_percent == NO_SPO2
    second = (0 if no_value else _SMARTPOINT) | (1 << 3 if probe is not Probe.WORN else 0)
    return bytes((status, displayed.rate_per_min & 0x7F, displayed.spo2_percent, second))


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
