"""What a device says that it can do: the feature characteristics of the health services.

    2a49    15 00          body-movement, irregular-pulse, position
    2a60    48 00          time-stamp, pulse-amplitude-index
    2a9e    3f 00 00 00    time-stamp, multiple-users, body-mass-index, weight-step-0.005-kg

Each is a number of bits, little-endian, one for each thing that is supported: 2A49 blood pressure (16 bits), 2A51
glucose (16), 2A60 pulse oximeter (16, then which status bits it uses), 2AA8 CGM (24, then type, location and CRC; see
gateway.decode.cgm), 2A9E weight scale (32) and 2A9B body composition (32), of which both have the steps of mass and
height as numbers. Of thermometers there are 2A21, the interval between measurements in seconds (0: no interval), and
2A1D, the place; of heart rate sensors 2A38, the place. Bits that are reserved say nothing.
Source: GATT Specification Supplement, under each characteristic's name; Blood Pressure Service 1.1.1, section 3.3.
"""

from collections.abc import Mapping

from gateway.decode import heart_rate, thermometer
from gateway.decode.cgm import FEATURE, read_feature

_BLOOD_PRESSURE = (
    "body-movement",
    "cuff-fit",
    "irregular-pulse",
    "pulse-rate-range",
    "position",
    "multiple-bonds",
    "e2e-crc",
    "user-data",
    "user-facing-time",
)
_GLUCOSE = (
    "low-battery",
    "sensor-fault",
    "sample-size",
    "strip-insertion",
    "strip-type",
    "measurable-range",
    "temperature",
    "strip-pulled-early",
    "device-fault",
    "clock-fault",
    "multiple-bonds",
)
_OXIMETER = (
    "measurement-status",
    "sensor-status",
    "stored-spot-checks",
    "time-stamp",
    "fast-values",
    "slow-values",
    "pulse-amplitude-index",
    "multiple-bonds",
)
_CGM = (
    "calibration",
    "patient-limits",
    "hypo-alert",
    "hyper-alert",
    "rate-alerts",
    "device-alert",
    "sensor-fault",
    "temperature",
    "measurable-range",
    "low-battery",
    "sensor-type",
    "device-fault",
    "e2e-crc",
    "multiple-bonds",
    "multiple-sessions",
    "trend",
    "quality",
)
_SCALE = ("time-stamp", "multiple-users", "body-mass-index")
_COMPOSITION = (
    "time-stamp",
    "multiple-users",
    "basal-metabolism",
    "muscle-percentage",
    "muscle-mass",
    "fat-free-mass",
    "soft-lean-mass",
    "body-water-mass",
    "impedance",
    "weight",
    "height",
)
_BITS = {"2a49": (2, _BLOOD_PRESSURE), "2a51": (2, _GLUCOSE), "2a60": (2, _OXIMETER)}
_SCALES = {"2a9e": (_SCALE, "weight"), "2a9b": (_COMPOSITION, "mass")}
_PLACES: Mapping[str, Mapping[int, str]] = {
    heart_rate.BODY_SENSOR_LOCATION: heart_rate.LOCATIONS,
    thermometer.TEMPERATURE_TYPE: thermometer.PLACES,
}
_MASS_STEPS_KG = {1: "0.5", 2: "0.2", 3: "0.1", 4: "0.05", 5: "0.02", 6: "0.01", 7: "0.005"}
_HEIGHT_STEPS_M = {1: "0.01", 2: "0.005", 3: "0.001"}
FEATURES = (*_BITS, *_SCALES, *_PLACES, FEATURE, "2a21")
"""The characteristics that `describe_feature` reads."""


def describe_feature(characteristic: str, value: bytes) -> tuple[str, ...]:
    """Give what a characteristic ("2a49") says that its device supports; nothing for one of no use or of no sense."""
    if characteristic in _BITS:
        size, names = _BITS[characteristic]
        return _name_all(int.from_bytes(value[:size], "little"), names) if len(value) >= size else ()
    if characteristic == FEATURE:
        feature = read_feature(value)
        return _name_all(feature[0], _CGM) if feature else ()
    if characteristic in _SCALES:
        return _describe_scale(*_SCALES[characteristic], value)
    if characteristic in _PLACES and len(value) == 1:
        place = _PLACES[characteristic].get(value[0])
        return (place,) if place else ()
    if characteristic == "2a21" and len(value) == 2:
        seconds = int.from_bytes(value, "little")
        return (f"every-{seconds}-s",) if seconds else ("no-interval",)
    return ()


def _name_all(bits: int, names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for place, name in enumerate(names) if bits >> place & 1)


def _describe_scale(names: tuple[str, ...], what: str, value: bytes) -> tuple[str, ...]:
    """Name a scale's bits and, behind them, the steps of mass (4 bits) and height (3 bits)."""
    if len(value) < 4:
        return ()
    bits = int.from_bytes(value[:4], "little")
    mass = _MASS_STEPS_KG.get(bits >> len(names) & 0xF)
    height = _HEIGHT_STEPS_M.get(bits >> len(names) + 4 & 0x7)
    steps = ((f"{what}-step-{mass}-kg", mass), (f"height-step-{height}-m", height))
    return _name_all(bits, names) + tuple(text for text, step in steps if step)
