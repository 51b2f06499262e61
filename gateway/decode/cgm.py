"""CGM Measurement, GATT characteristic 0x2AA7: continuous glucose monitors.

    0f e3 78 00 1e 00 01 02 03 50 00 60 00 ec ac
    size 15, flags, 120 mg/dL, 30 min after the session's start, status, cal/temp, warning, trend, quality, CRC

A notification holds one record or more, each with its size (it counts itself) in front. flags: bit 0 trend, bit 1
quality (SFLOATs), bit 5 a warning octet, bit 6 a calibration and temperature octet, bit 7 a status octet; these three
stand before trend and quality, in the order status, calibration, warning. Two bytes that remain are the E2E-CRC
(CRC-16/MCRF4XX over the record before them); where they do not match, the record is damaged. Each record is a sample;
where a size cannot hold, the rest of the notification is damaged.

The time offset counts from a session start that only another characteristic tells, so it stays in the kept frame, as
do trend and quality; the kind of sample is told by a third one, so the code is that of glucose in general.
Source: Continuous Glucose Monitoring Service 1.0.2, section 3.1; GATT Specification Supplement, CGM Measurement.
"""

from gateway.decode.frame import Fields, FormatError, name_bits, put
from gateway.model import Damaged, Measurement, Sample

GLUCOSE = 160020
_SMALLEST = 6
_STATUS_NAMES = (
    (1 << 0, "session-stopped"),
    (1 << 1, "low-battery"),
    (1 << 2, "unknown-sensor"),
    (1 << 3, "sensor-fault"),
    (1 << 4, "device-alert"),
    (1 << 5, "malfunction"),
)
_CALIBRATION_NAMES = (
    (1 << 0, "time-synchronisation-due"),
    (1 << 1, "calibration-not-allowed"),
    (1 << 2, "calibration-recommended"),
    (1 << 3, "calibration-due"),
    (1 << 4, "sensor-too-hot"),
    (1 << 5, "sensor-too-cold"),
    (1 << 6, "calibrating"),
)
_WARNING_NAMES = (
    (1 << 0, "below-patient-limit"),
    (1 << 1, "above-patient-limit"),
    (1 << 2, "below-hypo-limit"),
    (1 << 3, "above-hyper-limit"),
    (1 << 4, "falling-fast"),
    (1 << 5, "rising-fast"),
    (1 << 6, "below-measurable"),
    (1 << 7, "above-measurable"),
)
_OCTETS = (
    (0x80, "status", _STATUS_NAMES),
    (0x40, "calibration and temperature", _CALIBRATION_NAMES),
    (0x20, "warning", _WARNING_NAMES),
)


class CgmRecords:
    """A decoder of notifications of CGM records."""

    __slots__ = ()

    def feed(self, chunk: bytes, /) -> list[Sample | Damaged]:
        """Give each record's sample, in order, and what is damaged."""
        made: list[Sample | Damaged] = []
        at = 0
        while at < len(chunk) or not made:
            size = chunk[at] if chunk else 0
            record = chunk[at : at + size]
            if not _SMALLEST <= size == len(record):
                made.append(Damaged(frame=chunk[at:], reason=f"size {size} does not hold for {len(chunk) - at} bytes"))
                break
            made.append(_decode_record(record))
            at += size
        return made


def _decode_record(record: bytes) -> Sample | Damaged:
    try:
        return _read_record(record)
    except FormatError as fault:
        return Damaged(frame=record, reason=str(fault))


def _read_record(record: bytes) -> Sample:
    fields = Fields(record, 1)
    measurements: list[Measurement] = []
    notes: list[str] = []
    flags = fields.unsigned(1, "flags")
    put(measurements, notes, GLUCOSE, fields.sfloat("glucose concentration"), "mg/dL")
    fields.take(2, "time offset")
    for bit, name, names in _OCTETS:
        if flags & bit:
            notes += name_bits(fields.unsigned(1, name), names)
    for bit, name in ((0x01, "trend"), (0x02, "quality")):
        if flags & bit:
            fields.take(2, name)
    if fields.left() == 2 and not flags & 0x1C and fields.unsigned(2, "E2E-CRC") != compute_crc(record[:-2]):
        raise FormatError("E2E-CRC is wrong")
    fields.end(reserved=flags & 0x1C)
    return Sample(measurements=tuple(measurements), frame=record, flags=tuple(notes))


def compute_crc(octets: bytes) -> int:
    """Give CRC-16/MCRF4XX: polynomial 1021 reflected, from ffff, no final inversion (CGM Service, section 3.11)."""
    crc = 0xFFFF
    for octet in octets:
        crc ^= octet
        for _ in range(8):
            crc = crc >> 1 ^ (0x8408 if crc & 1 else 0)
    return crc
