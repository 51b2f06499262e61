"""Nonin OEM III and Xpod pulse oximeters, serial data formats 2, 7 and 8 (9600 baud, 8N1).

Format 2: a packet of 25 frames, three packets a second; a frame is one of 75 pleth samples a second.

    01 81 2a 00 ac    start, STATUS, PLETH, FLOAT, CHK = sum of the four modulo 256

Format 7 is the same with 16 bits of pleth and no start byte:

    81 02 9a 00 1d    STATUS, PLETH high, PLETH low, FLOAT, CHK = sum of the four modulo 256

Format 8 is one frame a second, of displayed values alone and without a checksum; only its first byte has bit 7 set:

    80 48 61 00       STATUS (below), HR bits 6 to 0, SpO2-D, STATUS 2 (bit 3 sensor alarm, 1 and 0 low battery)

STATUS of formats 2 and 7: bit 7 always 1; 6 sensor disconnected; 5 artifact; 4 out of track; 3 sensor alarm; 2 and 1
perfusion (01 green, 11 yellow, 10 red); 0 SYNC, set on the packet's first frame alone. FLOAT by frame: 1, 2 HR; 3
SpO2; 8 STAT2 (bit 0 low battery); 9 SpO2-D; 20, 21 HR-D; ... A rate is (MSB & 3) << 7 | LSB & 7F, 511 for none; a
saturation 7 bits, 127 for none. A sample takes HR and SpO2, which are missing at once when the finger is off: the
displayed HR-D and SpO2-D hold their last value for seconds, and a held value is not a measured one. The other
averages stay in the kept frame. A packet is sound only with all 25 frames sound. Its
flags are those of any of its frames.

STATUS of format 8: bit 6 sensor disconnected; 5 out of track; 4 low and 3 marginal perfusion; 2 artifact; 1 and 0 HR
bits 8 and 7.
Sources: Nonin OEM III module and WristOx2 model 3150, specification and technical information.
"""

import re

from gateway.decode.frame import FormatError, name_bits
from gateway.decode.stream import Packets
from gateway.model import Measurement, Sample, Waveform

PULSE_RATE = 149530
SPO2 = 150456
PLETH = 150452
_PERIOD_NS = 13_333_333  # 75 Hz
_NO_RATE, _NO_SATURATION = 511, 127
_FRAME = 5
_PACKET = _FRAME * 25
_SYNC, _NO_SYNC = b"[" + bytes(range(0x81, 0x100, 2)) + b"]", b"[" + bytes(range(0x80, 0x100, 2)) + b"]"
_FORMAT_2 = re.compile(b"\x01" + _SYNC + b"...(?:\x01" + _NO_SYNC + b"...){24}", re.DOTALL)
_FORMAT_7 = re.compile(_SYNC + b"....(?:" + _NO_SYNC + b"....){24}", re.DOTALL)
_FORMAT_8 = re.compile(rb"[\x80-\xff][\x00-\x7f]{3}")

_STATUS_NAMES = (
    (0x40, "sensor-disconnected"),
    (0x20, "artifact"),
    (0x10, "out-of-track"),
    (0x08, "sensor-alarm"),
)
_RED, _YELLOW = 0x04, 0x06
_FORMAT_8_NAMES = (
    (0x40, "sensor-disconnected"),
    (0x20, "out-of-track"),
    (0x10, "low-perfusion"),
    (0x08, "marginal-perfusion"),
    (0x04, "artifact"),
)
_FORMAT_8_NAMES_2 = ((0x08, "sensor-alarm"), (0x03, "low-battery"))


def build_format_2() -> Packets:
    """Make a decoder of serial data format 2: a sample is one packet with pulse rate, SpO2 and 25 pleth samples."""
    return Packets(size=_PACKET, form=_FORMAT_2, read=_read_format_2)


def build_format_7() -> Packets:
    """Make a decoder of serial data format 7: a sample is one packet with pulse rate, SpO2 and 25 pleth samples."""
    return Packets(size=_PACKET, form=_FORMAT_7, read=_read_format_7)


def build_format_8() -> Packets:
    """Make a decoder of serial data format 8: a sample is one frame with pulse rate and SpO2."""
    return Packets(size=4, form=_FORMAT_8, read=_read_format_8)


def _read_format_2(packet: bytes) -> Sample:
    return _read_packet(packet, packet[1::5], tuple(packet[2::5]))


def _read_format_7(packet: bytes) -> Sample:
    pleth = tuple(high << 8 | low for high, low in zip(packet[1::5], packet[2::5], strict=True))
    return _read_packet(packet, packet[0::5], pleth)


def _read_format_8(frame: bytes) -> Sample:
    status, rate, saturation, status_2 = frame
    measurements: list[Measurement] = []
    notes = name_bits(status, _FORMAT_8_NAMES) + name_bits(status_2, _FORMAT_8_NAMES_2)
    _put_vitals(measurements, notes, (status & 3) << 7 | rate, saturation)
    return Sample(measurements=tuple(measurements), frame=frame, flags=tuple(notes))


def _read_packet(packet: bytes, statuses: bytes, pleth: tuple[int, ...]) -> Sample:
    """Read what formats 2 and 7 share: FLOAT fourth and the checksum fifth in each frame; raises FormatError."""
    for at in range(0, _PACKET, _FRAME):
        if sum(packet[at : at + 4]) & 0xFF != packet[at + 4]:
            raise FormatError(f"frame {at // _FRAME + 1}: checksum is wrong")
    values = packet[3::5]
    measurements: list[Measurement] = []
    notes = _name_statuses(statuses)
    if values[7] & 0x01:
        notes.append("low-battery")
    _put_vitals(measurements, notes, (values[0] & 3) << 7 | values[1] & 0x7F, values[2] & 0x7F)
    measurements.append(Measurement(PLETH, Waveform(period_ns=_PERIOD_NS, scale=0, samples=pleth), "1"))
    return Sample(measurements=tuple(measurements), frame=packet, flags=tuple(notes))


def _put_vitals(measurements: list[Measurement], notes: list[str], rate: int, saturation: int) -> None:
    for code, value, missing, unit in (
        (PULSE_RATE, rate, _NO_RATE, "/min"),
        (SPO2, saturation, _NO_SATURATION, "%"),
    ):
        if value == missing:
            notes.append(f"no-value:{code}:missing")
        else:
            measurements.append(Measurement(code, value, unit))


def _name_statuses(statuses: bytes) -> list[str]:
    seen = 0
    perfusions = set()
    for status in statuses:
        seen |= status
        perfusions.add(status & _YELLOW)
    notes = name_bits(seen, _STATUS_NAMES)
    if _RED in perfusions:
        notes.append("low-perfusion")
    if _YELLOW in perfusions:
        notes.append("marginal-perfusion")
    return notes
