"""The bytes of the Continuous Glucose Monitoring Service; the sensor that sends them is in cgm_sensor.

    0a 01 78 00 1e 00 05 f0 07 c5    2AA7: 10 bytes, a trend, 120 mg/dL, 30 min, 0.5 mg/dL a minute, CRC

2AA7, measurement: size (it counts itself), flags (bit 0 trend, 1 quality, 5 warning, 6 calibration and temperature, 7
status), glucose in mg/dL (SFLOAT), time offset in minutes since the session's start, the octets of status, calibration
and warning, trend and quality (SFLOATs), CRC. 2AA8, features: 24 bits (12 CRC, 14 several sessions, 15 trend), type of
sample and location (4 bits each: 9 interstitial fluid, 5 subcutaneous tissue). 2AAA, session start: date time, zone in
quarters of an hour (128 unknown), summer time (255 unknown). 2AA9, status: time offset, the three octets. 2AAB, run
time in hours. 2AAC, control point: 1 and 2 set and get the interval in minutes, 3 its answer, 1a and 1b start and stop
the session, 1c answers with opcode and code. With feature 12, all of these end with their CRC.
CRC-16/MCRF4XX: polynomial 1021 reflected, from ffff. Source: Continuous Glucose Monitoring Service 1.0.2, 3.1 to 3.11.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from firmware_stubs.ieee11073 import Number, date_time, sfloat

INTERSTITIAL_FLUID: Final = 9
SUBCUTANEOUS_TISSUE: Final = 5
HAS_CRC: Final = 1 << 12
HAS_SESSIONS: Final = 1 << 14
HAS_TREND: Final = 1 << 15

# Zone and summer time of a session's start.
UNKNOWN_ZONE: Final = b"\x80\xff"


def encode_cgm_record(
    glucose_mg_dl: Number,
    offset_min: int,
    *,
    octets: Sequence[int | None] = (None, None, None),
    trend: Number | None = None,
    quality: Number | None = None,
    has_crc: bool = True,
) -> bytes:
    """Return one record of a CGM Measurement (2AA7); the octets are status, calibration and temperature, warning."""
    flags = (trend is not None) | (quality is not None) << 1
    flags |= sum(1 << 7 - place for place, octet in enumerate(octets) if octet is not None)
    body = bytes((flags,)) + sfloat(glucose_mg_dl) + offset_min.to_bytes(2, "little")
    body += bytes(octet for octet in octets if octet is not None)
    body += b"".join(sfloat(number) for number in (trend, quality) if number is not None)
    size = 1 + len(body) + 2 * has_crc
    record = bytes((size,)) + body
    return with_crc(record) if has_crc else record


def encode_cgm_feature(features: int, kind: int, location: int) -> bytes:
    """Return a CGM Feature (2AA8); without a CRC among the features, ffff stands in its place."""
    value = features.to_bytes(3, "little") + bytes((location << 4 | kind,))
    return with_crc(value) if features & HAS_CRC else value + b"\xff\xff"


def encode_session_start(moment: datetime | None, zone: bytes = UNKNOWN_ZONE) -> bytes:
    """Return a CGM Session Start Time (2AAA) with its CRC; all 0 but the zone, two bytes, for no moment."""
    return with_crc(date_time(moment) + zone)


def encode_cgm_status(offset_min: int, status: int = 0, calibration: int = 0, warning: int = 0) -> bytes:
    """Return a CGM Status (2AA9) with its CRC."""
    return with_crc(offset_min.to_bytes(2, "little") + bytes((status, calibration, warning)))


def encode_run_time(hours: int) -> bytes:
    """Return a CGM Session Run Time (2AAB) with its CRC."""
    return with_crc(hours.to_bytes(2, "little"))


def with_crc(value: bytes) -> bytes:
    """Return the value with its CRC behind it."""
    crc = 0xFFFF
    for byte in value:
        low = (crc ^ byte) & 0xFF
        low ^= low << 4 & 0xFF
        crc = crc >> 8 ^ low << 8 ^ low << 3 ^ low >> 4
    return value + crc.to_bytes(2, "little")


def is_sound(value: bytes) -> bool:
    """Say whether a value that a client wrote ends with its CRC."""
    return len(value) > 2 and value == with_crc(value[:-2])
