"""Weight Measurement (0x2A9D) and Body Composition Measurement (0x2A9C), GATT scales.

    0e 20 5c ea 07 07 0e 17 29 20 01 40 01 80 07
    flags, 23584 x 0.005 kg = 117.920 kg, 2026-07-14 23:41:32, user 1, BMI 32.0, height 1.920 m

Weight: flags (8 bits): bit 0 imperial (0.01 lb and 0.1 in, not 0.005 kg and 0.001 m); bit 1 date time; bit 2 user (FF
is unknown); bit 3 BMI (0.1 kg/m2) and height. A weight of ffff is an unsuccessful measurement.

    98 03 c2 00 df 1a 97 01 cc 2f ca 21 a8 11
    flags, fat 19.4 %, basal metabolism, muscle %, soft lean mass 61.180 kg, body water mass 43.250 kg, impedance

Body composition: flags (16 bits): bit 0 imperial; 1 date time; 2 user; 3 basal metabolism (kJ); 4 muscle (0.1 %);
5 muscle mass; 6 fat free mass; 7 soft lean mass; 8 body water mass; 9 impedance (0.1 ohm); 10 weight; 11 height; 12
the record goes on in another packet. Fat (0.1 %) stands first; ffff is an unsuccessful measurement. Basal metabolism,
muscle percentage and mass, and impedance are left to the kept frame: no two sources agree on a code of IEEE
11073-10101 for any of them. Other flag bits are reserved, as elsewhere.
Source: Weight Scale Service 1.0.1, section 3.2; Body Composition Service 1.0.1, section 3.2.
"""

from decimal import Decimal

from gateway.decode.frame import Fields
from gateway.model import Measurement, Sample

WEIGHT = 188736
HEIGHT = 188740
BODY_FAT = 188748
BODY_MASS_INDEX = 188752
FAT_FREE_MASS = 188756
SOFT_LEAN_MASS = 188760
BODY_WATER = 188764
_UNSUCCESSFUL = 0xFFFF
_COMPOSITION = (
    (1 << 3, "basal metabolism", None),
    (1 << 4, "muscle percentage", None),
    (1 << 5, "muscle mass", None),
    (1 << 6, "fat free mass", FAT_FREE_MASS),
    (1 << 7, "soft lean mass", SOFT_LEAN_MASS),
    (1 << 8, "body water mass", BODY_WATER),
    (1 << 9, "impedance", None),
    (1 << 10, "weight", WEIGHT),
    (1 << 11, "height", HEIGHT),
)


def read_weight(frame: bytes) -> Sample:
    """Give weight, body mass index and height, in the units of the scale; raises FormatError."""
    fields = Fields(frame)
    measurements: list[Measurement] = []
    notes: list[str] = []
    flags = fields.unsigned(1, "flags")
    _put_raw(measurements, notes, WEIGHT, fields.unsigned(2, "weight"), _mass(imperial=flags & 0x01))
    time_ms = fields.time_stamp(notes) if flags & 0x02 else None
    if flags & 0x04:
        fields.user(notes)
    if flags & 0x08:
        _put_raw(measurements, notes, BODY_MASS_INDEX, fields.unsigned(2, "body mass index"), (1, -1, "kg/m2"))
        _put_raw(measurements, notes, HEIGHT, fields.unsigned(2, "height"), _length(imperial=flags & 0x01))
    fields.end(reserved=flags & 0xF0)
    return Sample(measurements=tuple(measurements), frame=frame, device_time_ms=time_ms, flags=tuple(notes))


def read_body_composition(frame: bytes) -> Sample:
    """Give body fat in % and masses, weight and height in the units of the scale; raises FormatError."""
    fields = Fields(frame)
    measurements: list[Measurement] = []
    notes: list[str] = []
    flags = fields.unsigned(2, "flags")
    mass, length = _mass(imperial=flags & 0x01), _length(imperial=flags & 0x01)
    _put_raw(measurements, notes, BODY_FAT, fields.unsigned(2, "body fat"), (1, -1, "%"))
    time_ms = fields.time_stamp(notes) if flags & 1 << 1 else None
    if flags & 1 << 2:
        fields.user(notes)
    for bit, name, code in _COMPOSITION:
        if flags & bit:
            raw = fields.unsigned(2, name)
            if code is not None:
                _put_raw(measurements, notes, code, raw, length if code == HEIGHT else mass)
    if flags & 1 << 12:
        notes.append("multi-packet")
    fields.end(reserved=flags & 0xE000)
    return Sample(measurements=tuple(measurements), frame=frame, device_time_ms=time_ms, flags=tuple(notes))


def _mass(*, imperial: int) -> tuple[int, int, str]:
    return (1, -2, "[lb_av]") if imperial else (5, -3, "kg")


def _length(*, imperial: int) -> tuple[int, int, str]:
    return (1, -1, "[in_i]") if imperial else (1, -3, "m")


def _put_raw(
    measurements: list[Measurement], notes: list[str], code: int, raw: int, resolution: tuple[int, int, str]
) -> None:
    """Add raw x step x 10^scale in a unit, exact; `resolution` is step, scale and unit."""
    step, scale, unit = resolution
    if raw == _UNSUCCESSFUL and code in (WEIGHT, BODY_FAT):
        notes.append(f"no-value:{code}:unsuccessful")
    else:
        measurements.append(Measurement(code, Decimal(raw * step).scaleb(scale), unit))
