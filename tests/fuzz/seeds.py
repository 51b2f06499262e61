"""What devices send, as their stubs encode it: the inputs from which others are made."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Final

from firmware_stubs import blood_pressure, bthome, cgm, contec, glucose, heart_rate, masimo, nonin, oximeter, scale
from firmware_stubs import thermometer as thermometers
from firmware_stubs.behaviour import encode_battery
from firmware_stubs.ieee11073 import Special, date_time
from firmware_stubs.people import RECORDINGS, Person
from tests.statements import VALUES, ed25519_sensor, es256_sensor, payload_of, stuff

_NOON: Final = datetime(2026, 3, 1, 12, tzinfo=UTC)
_STAMP: Final = date_time(_NOON)
_PRESSURES: Final = (Decimal(121), Decimal("80.5"), Decimal(94))
_HEARD: Final = oximeter.Quality(status=0x0200, sensor_status=0x000800, amplitude_index=Decimal("3.6"))
_CONTEXT: Final = glucose.Context(
    carbohydrate=(1, Decimal("0.05")),
    meal=3,
    tester_health=(2, 5),
    exercise=(600, 40),
    medication=(2, Decimal("0.000004")),
    is_medication_in_litres=False,
    hba1c_percent=Decimal("5.9"),
    extended_flags=0,
)
_OBJECTS: Final[list[tuple[bthome.Object, Decimal | int]]] = [
    (bthome.Object.PACKET, 7),
    (bthome.Object.BATTERY_PERCENT, 100),
    (bthome.Object.TEMPERATURE_CENTI, Decimal("-3.10")),
    (bthome.Object.IS_BATTERY_LOW, 0),
    (bthome.Object.TIME_STAMP_S, 1_764_000_000),
]
_RECORD: Final = cgm.encode_cgm_record(
    Decimal(120), 30, octets=(1, 2, 3), trend=Decimal("0.5"), quality=Decimal(96), has_crc=True
)
_FEATURE: Final = cgm.encode_cgm_feature(cgm.HAS_CRC, 9, 5)
_START: Final = cgm.encode_session_start(_NOON)

FRAMES: Final[dict[str, tuple[bytes, ...]]] = {
    "gatt.heart_rate": (
        heart_rate.encode_heart_rate(72, [Decimal("812.5"), 800], energy_kj=12),
        heart_rate.encode_heart_rate(300, [], has_contact=False),
    ),
    "gatt.plx_continuous": (
        oximeter.encode_plx_continuous(
            Decimal(97), Decimal(61), fast=(Decimal(98), Decimal(60)), slow=(Special.NAN, Decimal(62)), quality=_HEARD
        ),
    ),
    "gatt.plx_spot_check": (
        oximeter.encode_plx_spot_check(Decimal(97), Special.NRES, stamp=_STAMP, is_clock_set=False, quality=_HEARD),
        oximeter.encode_plx_spot_check(Decimal(97), Decimal(61)),
    ),
    "gatt.temperature": (
        thermometers.encode_temperature(Decimal("36.65"), stamp=_STAMP, site=thermometers.Site(1)),
        thermometers.encode_temperature(Special.NAN, is_fahrenheit=True),
    ),
    "gatt.blood_pressure": (
        blood_pressure.encode_blood_pressure(_PRESSURES, stamp=_STAMP, pulse_per_min=Decimal(61), user=1, status=3),
        blood_pressure.encode_blood_pressure(_PRESSURES, is_kpa=True, stamp=date_time(None)),
    ),
    "gatt.cuff_pressure": (blood_pressure.encode_cuff_pressure(Decimal(140)),),
    "gatt.glucose": (
        glucose.encode_glucose(
            7,
            _STAMP,
            offset_min=-60,
            concentration=glucose.Concentration(value=Decimal("0.0055"), kind=1, location=1, is_molar=True),
            status=0xFFFF,
            has_context=True,
        ),
        glucose.encode_glucose(8, date_time(None)),
    ),
    "gatt.glucose_context": (glucose.encode_context(7, _CONTEXT),),
    "gatt.cgm": (_RECORD, _RECORD + cgm.encode_cgm_record(Special.NAN, 35, has_crc=False)),
    "gatt.weight": (scale.encode_weight(14_000, stamp=_STAMP, user=2, bmi_height=(231, 1740)),),
    "gatt.body_composition": (
        scale.encode_body_composition(215, dict.fromkeys(scale.Part, 1000), stamp=_STAMP, user=0xFF, goes_on=True),
        scale.encode_body_composition(scale.UNSUCCESSFUL, {}, is_imperial=True),
    ),
    "gatt.battery": (encode_battery(97),),
    "adv.bthome_v2": (
        bthome.encode_bthome(_OBJECTS),
        bthome.seal_bthome(_OBJECTS, key=bytes(16), address=bytes(6), counter=3),
    ),
}
FRAMES["gatt.intermediate_temperature"] = FRAMES["gatt.temperature"]

LESSONS: Final[dict[str, dict[str, tuple[bytes, ...]]]] = {
    "gatt.heart_rate": {"2a38": (b"\x01",)},
    "gatt.temperature": {"2a1d": (b"\x02",)},
    "gatt.intermediate_temperature": {"2a1d": (b"\x09",)},
    "gatt.cgm": {"2aa8": (_FEATURE, cgm.encode_cgm_feature(0, 1, 1)), "2aaa": (_START, _START[:-2])},
}
"""What a device says of all its measurements, by the characteristic that says so."""


def _worn() -> Person:
    return Person(RECORDINGS[0])


def _stream(sensor: nonin.Nonin | contec.Cms50d | contec.Cms50e, frames: int) -> bytes:
    """Give a sensor's frames one behind the other."""
    sensor.received(contec.START)
    return b"".join(sensor.next_frame() for _ in range(frames))


_LINE: Final = masimo.encode_ascii1(
    _NOON, masimo.Display(spo2_percent=98, rate_per_min=61, perfusion_percent=Decimal("3.60"))
)
_DASHES: Final = masimo.encode_ascii1(
    _NOON, masimo.Display(spo2_percent=None, rate_per_min=None, perfusion_percent=None, exceptions=masimo.OFF_PATIENT)
)
STATEMENTS: Final = (
    ed25519_sensor().state(payload_of(f8=1_764_000_000_123, f9=["poor-signal"])),
    es256_sensor().state(payload_of(values=[[150452, {1: 13_333_333, 2: -2, 3: list(range(-20, 20))}, "1"]])),
    ed25519_sensor(algorithm=-19).state(payload_of(values=VALUES * 12)),
)

STREAMS: Final[dict[str, tuple[bytes, ...]]] = {
    "serial.nonin_df2": (_stream(nonin.NoninDf2(_worn()), 25), _stream(nonin.NoninDf2(_worn()), 60)),
    "serial.nonin_df7": (_stream(nonin.NoninDf7(_worn()), 25), _stream(nonin.NoninDf7(_worn()), 60)),
    "serial.nonin_df8": (_stream(nonin.NoninDf8(_worn()), 1), _stream(nonin.NoninDf8(_worn()), 5)),
    "serial.cms50d": (_stream(contec.Cms50d(_worn()), 60), _stream(contec.Cms50d(_worn()), 130)),
    "serial.cms50e": (_stream(contec.Cms50e(_worn()), 60), _stream(contec.Cms50e(_worn()), 130)),
    "serial.masimo_ascii1": (_LINE, _DASHES, _LINE + _DASHES),
    "serial.iomt_frame": tuple(stuff(statement) + b"\x00" for statement in STATEMENTS),
}
"""What a line carries; the first of each is exactly one frame, with what ends it."""
