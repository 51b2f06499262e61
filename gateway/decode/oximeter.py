"""PLX Continuous Measurement (0x2A5F) and PLX Spot-Check Measurement (0x2A5E), GATT pulse oximeters.

    00 61 00 48 00    continuous: flags, SpO2 97 %, pulse rate 72 /min (SFLOATs)
    03 61 00 48 00 60 00 49 00 5f 00 47 00    continuous: the fast pair 96 %, 73 /min and the slow pair 95 %, 71 /min
    0f ac f3 be f5 e8 07 0b 1d 17 08 39 20 40 22 00 00 66 e3    spot check: flags, 94.0 %, 147.0 /min, then below

Continuous, after flags and the normal pair: bit 0 a fast pair, bit 1 a slow pair, bit 2 measurement status (16 bits),
bit 3 device and sensor status (24 bits), bit 4 pulse amplitude index (SFLOAT, %). Spot check: bit 0 date time, bits 1,
2 and 3 the same two statuses and index, bit 4 the device's clock is not set (its time is then not taken). Other flag
bits are reserved; fields that they announce at the end are left to the kept frame.

The fast and slow pairs respond faster and slower than the normal one. IEEE 11073-10404 gives all three the same codes
and tells them apart by a supplemental type (MDC_MODALITY_FAST, MDC_MODALITY_SLOW); as measurements they could be taken
for the normal pair, so they are flags: "fast:150456:96", "slow:149530:71", the number with the digits that were sent,
or a special's name.

Measurement status, of which bits 0 to 4 are reserved, and device and sensor status, bits 16 to 23, give a flag for
each bit that says what a value is worth; that a measurement goes on, is validated or is fully qualified gives none.
Source: Pulse Oximeter Service 1.0.1, sections 3.2 and 3.3.
"""

from decimal import Decimal
from struct import Struct

from gateway.decode.frame import Fields, FormatError, name_bits, put
from gateway.decode.number import read_sfloat
from gateway.model import Measurement, Sample, Special

SPO2 = 150456
PULSE_RATE = 149530
PULSE_AMPLITUDE_INDEX = 150448
_HEAD = Struct("<BHH")
_RESERVED = 0xE0

_STATUS_NAMES = (
    (1 << 6, "early-estimate"),
    (1 << 9, "stored"),
    (1 << 10, "demo-data"),
    (1 << 11, "test-data"),
    (1 << 12, "calibrating"),
    (1 << 13, "unavailable"),
    (1 << 14, "questionable"),
    (1 << 15, "invalid"),
)
_SENSOR_NAMES = (
    (1 << 0, "extended-update"),
    (1 << 1, "malfunction"),
    (1 << 2, "irregular-signal"),
    (1 << 3, "inadequate-signal"),
    (1 << 4, "poor-signal"),
    (1 << 5, "low-perfusion"),
    (1 << 6, "erratic-signal"),
    (1 << 7, "non-pulsatile"),
    (1 << 8, "questionable-pulse"),
    (1 << 9, "analysing"),
    (1 << 10, "interference"),
    (1 << 11, "sensor-off"),
    (1 << 12, "unknown-sensor"),
    (1 << 13, "sensor-displaced"),
    (1 << 14, "sensor-fault"),
    (1 << 15, "sensor-disconnected"),
)


def read_plx_continuous(frame: bytes) -> Sample:
    """Give SpO2 and pulse amplitude index in %, pulse rate in /min; raises FormatError."""
    measurements: list[Measurement] = []
    notes: list[str] = []
    flags = _read_head(frame, measurements, notes)
    if flags or len(frame) > _HEAD.size:
        fields = Fields(frame, _HEAD.size)
        for bit, name in ((0x01, "fast"), (0x02, "slow")):
            if flags & bit:
                notes.append(f"{name}:{SPO2}:{_write(fields.sfloat(f'{name} SpO2'))}")
                notes.append(f"{name}:{PULSE_RATE}:{_write(fields.sfloat(f'{name} pulse rate'))}")
        _read_tail(fields, flags >> 2, measurements, notes)
        fields.end(reserved=flags & _RESERVED)
    return Sample(measurements=tuple(measurements), frame=frame, flags=tuple(notes))


def read_plx_spot_check(frame: bytes) -> Sample:
    """Give SpO2 and pulse amplitude index in %, pulse rate in /min, with the device's time; raises FormatError."""
    measurements: list[Measurement] = []
    notes: list[str] = []
    flags = _read_head(frame, measurements, notes)
    fields = Fields(frame, _HEAD.size)
    time_ms = fields.time_stamp(notes, clock_set=not flags & 0x10) if flags & 0x01 else None
    _read_tail(fields, flags >> 1, measurements, notes)
    fields.end(reserved=flags & _RESERVED)
    return Sample(measurements=tuple(measurements), frame=frame, device_time_ms=time_ms, flags=tuple(notes))


def _read_head(frame: bytes, measurements: list[Measurement], notes: list[str]) -> int:
    if len(frame) < _HEAD.size:
        raise FormatError(f"flags, SpO2 or pulse rate is cut off: {len(frame)} of 5 bytes")
    flags, spo2, pulse_rate = _HEAD.unpack_from(frame)
    put(measurements, notes, SPO2, read_sfloat(spo2), "%")
    put(measurements, notes, PULSE_RATE, read_sfloat(pulse_rate), "/min")
    return int(flags)


def _read_tail(fields: Fields, flags: int, measurements: list[Measurement], notes: list[str]) -> None:
    """Read what both characteristics end with; bits 0, 1, 2 of `flags`: status, sensor status, amplitude index."""
    if flags & 0x01:
        notes += name_bits(fields.unsigned(2, "measurement status"), _STATUS_NAMES)
    if flags & 0x02:
        notes += name_bits(fields.unsigned(3, "device and sensor status"), _SENSOR_NAMES)
    if flags & 0x04:
        put(measurements, notes, PULSE_AMPLITUDE_INDEX, fields.sfloat("pulse amplitude index"), "%")


def _write(value: Decimal | Special) -> str:
    return value if isinstance(value, Special) else f"{value:f}"
