"""The bytes of a heart-rate and pulse-oximeter peripheral, on MicroPython and CPython alike; imports nothing.

    16 4a b4 03               2A37: heart rate 74/min, skin contact, one beat of 948/1024 s
    04 61 00 4a 00 20 05      2A5F: SpO2 97 %, pulse 74/min, ongoing, fully qualified, made up
    01 00 20 05               2A60: it has a measurement status, of which it uses those three bits
    5a                        2A19: 90 %

2A37: flags (bit 0 the rate has 16 bits, 1 contact, 2 contact supported, 3 energy, 4 intervals), rate, energy in kJ,
intervals in 1/1024 s, oldest first. 2A5F: flags (bit 2 measurement status, 4 pulse amplitude index), SpO2 and pulse,
then those two. An SFLOAT is 4 bits of exponent and 12 of mantissa, both two's complement; 7ff is NaN.
Sources: Heart Rate Service 1.0, 3.1 and 3.2; Pulse Oximeter Service 1.0.1, 3.3 and 3.4; Battery Service 1.1, 3.1;
IEEE 11073-20601, SFLOAT-Type.
"""  # noqa: INP001 - a board has files, no packages

ONGOING = 1 << 5
QUALIFIED = 1 << 8
DEMO = 1 << 10
FINGER = 3

NAN = b"\xff\x07"

_CONTACT = 0b010
_CONTACT_SUPPORTED = 0b100
_HAS_STATUS = 1 << 2
_HAS_AMPLITUDE = 1 << 4


def heart_rate(
    rate_per_min: int,
    intervals_ms: tuple[int, ...] = (),
    *,
    has_contact: bool = True,
    energy_kj: int | None = None,
) -> bytes:
    """Return a Heart Rate Measurement (2A37); each interval goes out as the nearest 1/1024 s.

    Raises: ValueError if a number does not fit.
    """
    wide = rate_per_min > 0xFF
    flags = wide | _CONTACT_SUPPORTED | (_CONTACT if has_contact else 0)
    flags |= (energy_kj is not None) << 3 | bool(intervals_ms) << 4
    value = bytes((flags,)) + _unsigned(rate_per_min, 2 if wide else 1)
    if energy_kj is not None:
        value += _unsigned(energy_kj, 2)
    for interval_ms in intervals_ms:
        value += _unsigned((interval_ms * 1024 + 500) // 1000, 2)
    return value


def plx_continuous(
    spo2_percent: tuple[int, int] | None,
    pulse_per_min: tuple[int, int] | None,
    status: int,
    amplitude_index: tuple[int, int] | None = None,
) -> bytes:
    """Return a PLX Continuous Measurement (2A5F); numbers are (mantissa, exponent), SpO2 and pulse None if unknown.

    Raises: ValueError if a number does not fit.
    """
    flags = _HAS_STATUS | (0 if amplitude_index is None else _HAS_AMPLITUDE)
    value = bytes((flags,)) + _sfloat_or_nan(spo2_percent) + _sfloat_or_nan(pulse_per_min) + _unsigned(status, 2)
    return value if amplitude_index is None else value + sfloat(*amplitude_index)


def plx_features(status: int) -> bytes:
    """Return the PLX Features (2A60) of an oximeter that uses these bits of the measurement status."""
    return b"\x01\x00" + _unsigned(status, 2)


def battery(percent: int) -> bytes:
    """Return a Battery Level (2A19).

    Raises: ValueError if it is not 0 to 100.
    """
    if percent > 100:
        raise ValueError(f"{percent} % is no battery level")
    return _unsigned(percent, 1)


def sfloat(mantissa: int, exponent: int = 0) -> bytes:
    """Return mantissa * 10**exponent as SFLOAT; mantissa -2045 to 2045, exponent -8 to 7.

    Raises: ValueError outside of that, where the format has specials or nothing.
    """
    if not (-2045 <= mantissa <= 2045 and -8 <= exponent <= 7):
        raise ValueError(f"{mantissa}e{exponent} is no SFLOAT")
    return _unsigned((exponent & 0xF) << 12 | mantissa & 0xFFF, 2)


def _sfloat_or_nan(number: tuple[int, int] | None) -> bytes:
    return NAN if number is None else sfloat(*number)


def _unsigned(number: int, size: int) -> bytes:
    """Return a number, little-endian; older MicroPython would cut one off that does not fit."""
    if not 0 <= number < 1 << 8 * size:
        raise ValueError(f"{number} does not fit into {size} bytes")
    return number.to_bytes(size, "little")
