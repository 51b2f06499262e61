"""Contec pulse oximeters at 60 frames a second: CMS50D+ (19200 baud, 8O1) and CMS50E, CMS50F (115200, 8N1).

CMS50D+, five bytes; only the first has bit 7 set:

    84 32 05 48 61    quality, pleth, bar, pulse rate bits 6 to 0, SpO2

First byte: bits 3 to 0 signal strength, 4 searching too long, 5 SpO2 dropping, 6 beep. Third byte: bits 3 to 0 bar
graph, 4 probe error, 5 searching, 6 pulse rate bit 7.

CMS50E, CMS50F and later CMS50D+, nine bytes; only the first, the kind of frame, has bit 7 clear:

    01 e0 84 93 92 bc e3 ff ff    kind, top bits, signal, pleth, bar, pulse rate, SpO2, perfusion index

Bit i of the second byte is the top bit of the byte i places after it, so that every byte after the first has bit 7
set on the line; the host's commands (7d 81 a1 80 ... starts the stream) are packed alike. Signal: bits 6 to 0 as in
the first byte of five, 7 probe error. Pleth: 7 bits, and bit 7 searching. Bar: bits 3 to 0 bar graph, 4 no perfusion
index. The perfusion index, 16 bits, the low byte first, ffff for none, is left to the kept frame: no two sources
agree on its unit.

Neither has a checksum. 60 consecutive frames are one sample: a second of pleth, and the last pulse rate and SpO2 in
it, as the display shows them; a status bit that any of them has is a flag. 0, and all bits set, stand for no value.
Sources: Contec, communication protocol of pulse oximeter V1.0 (five bytes) and V7.0 (nine), this as the drivers
CMS50Dplus7 (timegrid) and bedsidemon (Gagistech) have it, and captures of both streams.
"""

import re

from gateway.decode.frame import name_bits
from gateway.decode.stream import Packets
from gateway.model import Measurement, Sample, Waveform

PULSE_RATE = 149530
SPO2 = 150456
PLETH = 150452
_PERIOD_NS = 16_666_667  # 60 Hz
_FRAMES = 60
_CMS50D = re.compile(rb"(?:[\x80-\xff][\x00-\x7f]{4}){60}")
_CMS50E = re.compile(rb"(?:\x01[\x80-\xff]{8}){60}")
_QUALITY_NAMES = ((0x10, "pulse-not-found"), (0x20, "spo2-dropping"))
_PROBE_NAMES = ((0x10, "sensor-fault"), (0x20, "searching"))
_SIGNAL_NAMES = (*_QUALITY_NAMES, (0x80, "sensor-fault"))
_WAVE_NAMES = ((0x80, "searching"),)
_NO_RATES = (0, 255)
_NO_SATURATIONS = (0, 127, 255)


def build_cms50d() -> Packets:
    """Make a decoder of the five-byte stream: a sample is a second with pulse rate, SpO2 and 60 pleth samples."""
    return Packets(size=5 * _FRAMES, form=_CMS50D, read=_read_cms50d)


def build_cms50e() -> Packets:
    """Make a decoder of the nine-byte stream: a sample is a second with pulse rate, SpO2 and 60 pleth samples."""
    return Packets(size=9 * _FRAMES, form=_CMS50E, read=_read_cms50e)


def _read_cms50d(second: bytes) -> Sample:
    *_, bar, rate, saturation = second[-5:]
    qualities = _union(second[0::5])
    probes = _union(second[2::5])
    notes = name_bits(qualities, _QUALITY_NAMES) + name_bits(probes, _PROBE_NAMES)
    return _build_sample(second, (rate | (bar & 0x40) << 1, saturation), second[1::5], notes)


def _read_cms50e(second: bytes) -> Sample:
    signals, waves, rates, saturations = (_unpack(second, place) for place in (2, 3, 5, 6))
    notes = name_bits(_union(signals), _SIGNAL_NAMES) + name_bits(_union(waves), _WAVE_NAMES)
    pleth = bytes(wave & 0x7F for wave in waves)
    return _build_sample(second, (rates[-1], saturations[-1]), pleth, notes)


def _unpack(second: bytes, place: int) -> bytes:
    """Give the byte at this place of each frame of nine, with the top bit that the second byte keeps for it."""
    lows, tops = second[place::9], second[1::9]
    return bytes(low & 0x7F | (top >> place - 2 & 1) << 7 for low, top in zip(lows, tops, strict=True))


def _union(octets: bytes) -> int:
    bits = 0
    for octet in octets:
        bits |= octet
    return bits


def _build_sample(second: bytes, vitals: tuple[int, int], pleth: bytes, notes: list[str]) -> Sample:
    measurements: list[Measurement] = []
    for code, value, missing, unit in (
        (PULSE_RATE, vitals[0], _NO_RATES, "/min"),
        (SPO2, vitals[1], _NO_SATURATIONS, "%"),
    ):
        if value in missing:
            notes.append(f"no-value:{code}:missing")
        else:
            measurements.append(Measurement(code, value, unit))
    measurements.append(Measurement(PLETH, Waveform(period_ns=_PERIOD_NS, scale=0, samples=tuple(pleth)), "1"))
    return Sample(measurements=tuple(measurements), frame=second, flags=tuple(notes))
