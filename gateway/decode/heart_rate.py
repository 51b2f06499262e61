"""Heart Rate Measurement (0x2A37) and Body Sensor Location (0x2A38), GATT heart rate sensors.

    16 49 34 03          flags (contact seen, RR present), 73 /min, RR 820/1024 s = 800.78125 ms
    1e 55 32 00 21 00    flags, 85 /min, 50 kJ, RR 33/1024 s

flags: bit 0 the rate has 16 bits, not 8; bits 1 and 2 skin contact and whether the strap can tell; bit 3 energy
expended (kJ, 16 bits); bit 4 RR intervals, one or more of 16 bits each, oldest first, to the end of the frame.
Bits 5 to 7 are reserved and ignored, as the Heart Rate Profile asks. Energy is what was spent since the strap was last
told to begin at 0; it stays at 65535 when it gets there.

    01    body sensor location: chest

The location, one byte, is learnt and then a flag of every sample ("site-chest"); 0, another place, gives none.
Source: Heart Rate Service 1.0, sections 3.1 and 3.2; GATT Specification Supplement, Heart Rate Measurement; the code
of energy is MDC_HF_ENERGY of IEEE 11073-10441.
"""

from decimal import Decimal
from struct import unpack_from

from gateway.decode.frame import FormatError
from gateway.model import Measurement, Sample

HEART_RATE = 147842
RR_INTERVAL = 147240
ENERGY_EXPENDED = 8454263
BODY_SENSOR_LOCATION = "2a38"
LOCATIONS = {1: "site-chest", 2: "site-wrist", 3: "site-finger", 4: "site-hand", 5: "site-ear-lobe", 6: "site-foot"}
_WIDE, _CONTACT, _CONTACT_SUPPORTED, _ENERGY, _RR = 0x01, 0x02, 0x04, 0x08, 0x10
_NO_CONTACT = ("no-contact",)


def read_heart_rate(frame: bytes, place: tuple[str, ...]) -> Sample:
    """Give the rate in /min, energy expended in kJ and each RR interval in ms, exact; raises FormatError."""
    size = len(frame)
    if size < 2:
        raise FormatError("heart rate is missing")
    flags = frame[0]
    rate, at = frame[1], 2
    if flags & _WIDE:
        if size < 3:
            raise FormatError("heart rate is cut off: 1 of 2 bytes")
        rate, at = rate | frame[2] << 8, 3
    measurements: tuple[Measurement, ...] = (Measurement(HEART_RATE, rate, "/min"),)
    if flags & _ENERGY:
        if size < at + 2:
            raise FormatError(f"energy expended is cut off: {size - at} of 2 bytes")
        measurements += (Measurement(ENERGY_EXPENDED, frame[at] | frame[at + 1] << 8, "kJ"),)
        at += 2
    if flags & _RR:
        measurements += _read_intervals(frame, at)
    elif size > at and flags < 0x20:
        raise FormatError(f"{size - at} bytes after the last field")
    if flags & (_CONTACT | _CONTACT_SUPPORTED) == _CONTACT_SUPPORTED:
        place = _NO_CONTACT + place
    return Sample(measurements=measurements, frame=frame, flags=place)


def _read_intervals(frame: bytes, at: int) -> tuple[Measurement, ...]:
    count, rest = divmod(len(frame) - at, 2)
    if rest or not count:
        raise FormatError("RR interval is cut off: 1 of 2 bytes" if rest else "RR interval is missing")
    return tuple(
        Measurement(RR_INTERVAL, Decimal(ticks * 125) / 128, "ms") for ticks in unpack_from(f"<{count}H", frame, at)
    )
