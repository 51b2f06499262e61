"""CGM Measurement (0x2AA7), CGM Feature (0x2AA8) and CGM Session Start Time (0x2AAA): continuous glucose monitors.

    0f e3 78 00 1e 00 01 02 03 50 00 60 00 ec ac
    size 15, flags, 120 mg/dL, 30 min after the session's start, status, cal/temp, warning, trend, quality, CRC

A notification holds one record or more, each with its size (it counts itself) in front. flags: bit 0 trend, bit 1
quality (SFLOATs), bit 5 a warning octet, bit 6 a calibration and temperature octet, bit 7 a status octet; these three
stand before trend and quality, in the order status, calibration, warning. Two bytes that remain are the E2E-CRC
(CRC-16/MCRF4XX over the record before them); where they do not match, the record is damaged. Each record is a sample;
where a size cannot hold, the rest of the notification is damaged.

Trend (mg/dL a minute) and quality (%) are left to the kept frame: no two sources agree on a code for either.

    6e 9e 01 16 8a c1    feature: bits (bit 12: E2E-CRC), arterial plasma of a finger, CRC

Feature: 24 bits, then the type of sample (low nibble: it chooses the code, as with glucose meters) and its location
(high nibble: a flag), then the CRC, or ffff where the sensor supports none. Where it supports it, a record whose last
two bytes are not its CRC is damaged. Until a feature is learnt, the code is that of glucose in general.

    e2 07 04 18 0d 08 18 08 04 e0 c2    session start: 2018-04-24 13:08:24, two hours east of UTC, and summer time

Session start: date time, zone (quarters of an hour from UTC, 80 unknown), daylight saving (quarters of an hour, ff
unknown), CRC where supported. Once it is learnt, a sample's device time is the session's start in UTC and its offset.
Where the zone or daylight saving is not known, what is known is applied and the sample has the flag "device-clock";
a start that is no date gives "unknown-time". Before it is learnt, the offset stays in the kept frame.
Source: Continuous Glucose Monitoring Service 1.0.2, sections 3.1, 3.2 and 3.4; GATT Specification Supplement, CGM
Measurement, CGM Feature, CGM Session Start Time, Time Zone and DST Offset.
"""

from gateway.decode.frame import Fields, FormatError, name_bits, name_value, put
from gateway.decode.glucose import GLUCOSE, GLUCOSE_TYPES, LOCATIONS
from gateway.decode.number import read_date_time
from gateway.model import Damaged, Measurement, Sample

FEATURE, SESSION_START = "2aa8", "2aaa"
E2E_CRC = 1 << 12
_LOCATIONS = {**LOCATIONS, 5: "site-subcutaneous"}
_SMALLEST = 6
_NO_CRC = b"\xff\xff"
_ZONES = range(-48, 57)
_DAYLIGHT_SAVINGS = (0, 2, 4, 8)
_QUARTER_MS = 15 * 60_000
_MINUTE_MS = 60_000
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
    """A decoder of notifications of CGM records; it learns the sensor's features and when its session began."""

    __slots__ = ("_checked", "_code", "_place", "_start", "_start_checked")

    def __init__(self) -> None:
        self._checked = False
        self._code = GLUCOSE
        self._place: list[str] = []
        self._start: tuple[int | None, list[str]] = None, []
        self._start_checked = False

    def learn(self, characteristic: str, value: bytes, /) -> None:
        """Take the feature or the session's start; one that its CRC does not bear out changes nothing."""
        if characteristic == FEATURE:
            self._learn_feature(value)
        elif characteristic == SESSION_START:
            has_crc = len(value) == 11 and _is_borne_out(value)
            if has_crc or (len(value) == 9 and not self._checked):
                self._start, self._start_checked = _read_start(value), has_crc

    def _learn_feature(self, value: bytes) -> None:
        feature = read_feature(value)
        if feature is None:
            return
        bits, kind, location = feature
        self._checked = bool(bits & E2E_CRC)
        self._code = GLUCOSE_TYPES.get(kind, GLUCOSE)
        self._place = name_value(_LOCATIONS, location)
        if self._checked and not self._start_checked:
            self._start = None, []

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
            made.append(self._decode_record(record))
            at += size
        return made

    def _decode_record(self, record: bytes) -> Sample | Damaged:
        try:
            return self._read_record(record)
        except FormatError as fault:
            return Damaged(frame=record, reason=str(fault))

    def _read_record(self, record: bytes) -> Sample:
        if self._checked and not _is_borne_out(record):
            raise FormatError("E2E-CRC is missing or wrong")
        fields = Fields(record[:-2] if self._checked else record, 1)
        measurements: list[Measurement] = []
        start_ms, notes = self._start
        notes = notes + self._place
        flags = fields.unsigned(1, "flags")
        put(measurements, notes, self._code, fields.sfloat("glucose concentration"), "mg/dL")
        offset_min = fields.unsigned(2, "time offset")
        _read_rest(fields, flags, notes)
        if fields.left() == 2 and not self._checked and not flags & 0x1C:
            fields.take(2, "E2E-CRC")
            if not _is_borne_out(record):
                raise FormatError("E2E-CRC is wrong")
        fields.end(reserved=flags & 0x1C)
        time_ms = None if start_ms is None else start_ms + offset_min * _MINUTE_MS
        return Sample(measurements=tuple(measurements), frame=record, device_time_ms=time_ms, flags=tuple(notes))


def read_feature(value: bytes) -> tuple[int, int, int] | None:
    """Give a CGM Feature's bits, type and sample location; None where its size or its CRC is wrong."""
    if len(value) != 6:
        return None
    bits = int.from_bytes(value[:3], "little")
    sound = _is_borne_out(value) if bits & E2E_CRC else value[4:] == _NO_CRC
    return (bits, value[3] & 0xF, value[3] >> 4) if sound else None


def _read_start(value: bytes) -> tuple[int | None, list[str]]:
    """Give the session's start in UTC, and the notes for each time that counts from it."""
    wall_ms = read_date_time(value[:7])
    if wall_ms is None:
        return None, ["unknown-time"]
    zone, saving = int.from_bytes(value[7:8], "little", signed=True), value[8]
    quarters = (zone if zone in _ZONES else 0) + (saving if saving in _DAYLIGHT_SAVINGS else 0)
    is_known = zone in _ZONES and saving in _DAYLIGHT_SAVINGS
    return wall_ms - quarters * _QUARTER_MS, [] if is_known else ["device-clock"]


def _read_rest(fields: Fields, flags: int, notes: list[str]) -> None:
    for bit, name, names in _OCTETS:
        if flags & bit:
            notes += name_bits(fields.unsigned(1, name), names)
    for bit, name in ((0x01, "trend"), (0x02, "quality")):
        if flags & bit:
            fields.take(2, name)


def _is_borne_out(octets: bytes) -> bool:
    """Say whether the last two bytes are the CRC of those before."""
    return compute_crc(octets[:-2]) == int.from_bytes(octets[-2:], "little")


def compute_crc(octets: bytes) -> int:
    """Give CRC-16/MCRF4XX: polynomial 1021 reflected, from ffff, no final inversion (CGM Service, section 3.11)."""
    crc = 0xFFFF
    for octet in octets:
        crc ^= octet
        for _ in range(8):
            crc = crc >> 1 ^ (0x8408 if crc & 1 else 0)
    return crc
