"""Frames for every decoder, as the simulated sensors send them: three hundred that differ, in their order."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Final

from firmware_stubs import blood_pressure, bthome, cgm, contec, glucose, masimo, nonin, oximeter, scale, thermometer
from firmware_stubs.behaviour import encode_battery
from firmware_stubs.ieee11073 import date_time
from firmware_stubs.line import Sensor
from firmware_stubs.physiology import Patient
from tests.bench.numbered import strap_frame
from tests.statements import ed25519_sensor, payload_of, stuff

COUNT: Final = 300
"""Whole seconds of 60 frames, whole packets of 25."""

_BEGAN: Final = datetime(2025, 11, 24, 8, 0, tzinfo=UTC)
_STAMP: Final = date_time(_BEGAN)
_SENSOR: Final = ed25519_sensor()
_QUALITY: Final = oximeter.Quality(status=1 << 7, sensor_status=0, amplitude_index=Decimal("3.6"))


def frames_of(decoder: str) -> list[bytes]:
    """Give frames, each what a notification, an advertisement or a device on a line says at once.

    Raises: KeyError if there are none for this decoder.
    """
    if decoder in _SPEAKERS:
        speaker = _SPEAKERS[decoder](Patient("rest"))
        speaker.received(contec.START)
        return [speaker.next_frame() for _ in range(COUNT)]
    return [_ENCODERS[decoder](number) for number in range(COUNT)]


def _temperature(number: int) -> bytes:
    celsius = Decimal(3600 + number % 400).scaleb(-2)
    return thermometer.encode_temperature(celsius, stamp=_STAMP, site=thermometer.Site.EAR)


def _pressure(number: int) -> bytes:
    pressures = Decimal(110 + number % 40), Decimal(70 + number % 20), Decimal(85 + number % 25)
    pulse = Decimal(60 + number % 60)
    return blood_pressure.encode_blood_pressure(pressures, stamp=_STAMP, pulse_per_min=pulse, user=1, status=0)


def _glucose(number: int) -> bytes:
    concentration = glucose.Concentration(value=Decimal(80 + number % 90).scaleb(-5), kind=1, location=1)
    return glucose.encode_glucose(number, _STAMP, offset_min=-5, concentration=concentration, status=0)


def _context(number: int) -> bytes:
    return glucose.encode_context(number, glucose.Context(carbohydrate=(1, Decimal(number % 90).scaleb(-3)), meal=1))


def _composition(number: int) -> bytes:
    parts = {scale.Part.WEIGHT: 14_000 + number, scale.Part.BODY_WATER_MASS: 8000 + number}
    return scale.encode_body_composition(220 + number % 90, parts, stamp=_STAMP, user=1)


def _masimo(number: int) -> bytes:
    display = masimo.Display(
        spo2_percent=90 + number % 10, rate_per_min=60 + number % 60, perfusion_percent=Decimal("3.60")
    )
    return masimo.encode_ascii1(_BEGAN + timedelta(seconds=number), display)


def _advertisement(number: int) -> bytes:
    objects = (
        (bthome.Object.PACKET, number & 0xFF),
        (bthome.Object.BATTERY_PERCENT, 90),
        (bthome.Object.TEMPERATURE_CENTI, Decimal(500 + number).scaleb(-2)),
        (bthome.Object.HUMIDITY_CENTI, Decimal(5055).scaleb(-2)),
    )
    return bthome.encode_bthome(objects)


_ENCODERS: Final[Mapping[str, Callable[[int], bytes]]] = {
    "gatt.heart_rate": strap_frame,
    "gatt.plx_continuous": lambda number: oximeter.encode_plx_continuous(
        Decimal(90 + number % 10), Decimal(60 + number % 60), quality=_QUALITY
    ),
    "gatt.plx_spot_check": lambda number: oximeter.encode_plx_spot_check(
        Decimal(90 + number % 10), Decimal(60 + number % 60), stamp=_STAMP, quality=_QUALITY
    ),
    "gatt.temperature": _temperature,
    "gatt.intermediate_temperature": _temperature,
    "gatt.blood_pressure": _pressure,
    "gatt.cuff_pressure": lambda number: blood_pressure.encode_cuff_pressure(Decimal(number % 200)),
    "gatt.glucose": _glucose,
    "gatt.glucose_context": _context,
    "gatt.cgm": lambda number: cgm.encode_cgm_record(Decimal(80 + number % 90), number, trend=Decimal("0.5")),
    "gatt.weight": lambda number: scale.encode_weight(14_000 + number, stamp=_STAMP, user=1, bmi_height=(224, 1800)),
    "gatt.body_composition": _composition,
    "gatt.battery": lambda number: encode_battery(number % 101),
    "serial.masimo_ascii1": _masimo,
    "serial.iomt_frame": lambda number: stuff(_SENSOR.state(payload_of(sequence=number + 1))) + b"\x00",
    "adv.bthome_v2": _advertisement,
}

_SPEAKERS: Final[Mapping[str, Callable[[Patient], Sensor]]] = {
    "serial.nonin_df2": nonin.NoninDf2,
    "serial.nonin_df7": nonin.NoninDf7,
    "serial.nonin_df8": nonin.NoninDf8,
    "serial.cms50d": contec.Cms50d,
    "serial.cms50e": contec.Cms50e,
}
