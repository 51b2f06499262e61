"""The simulated Bluetooth sensors: each kind by its name, and how one is put on a person and on the radio.

The bytes of each kind are in the file of its service.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from firmware_stubs.behaviour import Behaviour, Sent
from firmware_stubs.blood_pressure import BloodPressureCuff, blood_pressure_cuff
from firmware_stubs.bthome import BthomeLogger, bthome_logger
from firmware_stubs.cgm_sensor import CgmSensor, cgm_sensor
from firmware_stubs.device import Device
from firmware_stubs.glucose import GlucoseMeter, glucose_meter
from firmware_stubs.heart_rate import (
    HEART_RATE_MEASUREMENT,
    HeartRateMonitor,
    encode_heart_rate,
    heart_rate_monitor,
)
from firmware_stubs.ieee11073 import encode_sfloat
from firmware_stubs.oximeter import (
    PLX_CONTINUOUS_MEASUREMENT,
    ContinuousOximeter,
    SpotCheckOximeter,
    encode_plx_continuous,
    pulse_oximeter,
    spot_check_oximeter,
)
from firmware_stubs.peripheral import Peripheral
from firmware_stubs.physiology import Wearer
from firmware_stubs.scale import WeightScale, weight_scale
from firmware_stubs.thermometer import Thermometer, thermometer

__all__ = [
    "HEART_RATE_MEASUREMENT",
    "PLX_CONTINUOUS_MEASUREMENT",
    "SENSORS",
    "Sensor",
    "encode_heart_rate",
    "encode_plx_continuous",
    "encode_sfloat",
    "heart_rate_monitor",
    "pulse_oximeter",
    "wear",
]


@dataclass(frozen=True, slots=True)
class Sensor:
    """A kind of sensor: the device that it is at an address, and what it does on a person."""

    peripheral: Callable[[str], Peripheral]
    behaviour: Callable[[Wearer], Behaviour]


SENSORS: Final[Mapping[str, Sensor]] = {
    "heart_rate": Sensor(heart_rate_monitor, HeartRateMonitor),
    "plx": Sensor(pulse_oximeter, ContinuousOximeter),
    "plx_spot": Sensor(spot_check_oximeter, SpotCheckOximeter),
    "thermometer": Sensor(thermometer, Thermometer),
    "blood_pressure": Sensor(blood_pressure_cuff, BloodPressureCuff),
    "glucose": Sensor(glucose_meter, GlucoseMeter),
    "cgm": Sensor(cgm_sensor, CgmSensor),
    "scale": Sensor(weight_scale, WeightScale),
    "bthome": Sensor(bthome_logger, BthomeLogger),
}


class _Worn:
    """A device and what it does: what the one is told the other answers."""

    def __init__(self, device: Device, behaviour: Behaviour) -> None:
        self._device = device
        self._behaviour = behaviour
        self._advertised: Mapping[str, bytes] = device.peripheral.service_data
        device.on_write = lambda uuid, value: self._do(behaviour.written(uuid, value))
        device.on_subscribed = lambda uuid: self._do(behaviour.subscribed(uuid))
        device.reachable = behaviour.reachable

    def tick(self, now_ms: float) -> None:
        """Let the sensor live until then."""
        if not self._device.connected:
            self._behaviour.left()
        self._do(self._behaviour.tick(now_ms))

    def _do(self, sent: list[Sent]) -> None:
        for uuid, value in sent:
            self._device.notify(uuid, value)
        if self._device.reachable != self._behaviour.reachable:
            self._device.reachable = self._behaviour.reachable
            if not self._device.reachable:
                self._device.lose_link()
        advertised = self._behaviour.service_data
        if advertised != self._advertised:
            self._advertised = advertised
            for uuid, value in advertised.items():
                self._device.set_service_data(uuid, value)


async def wear(device: Device, sensor: Sensor, person: Wearer, *, speed: float = 1.0) -> None:
    """Let the sensor live on the person, a second of their time after the other, `speed` times as fast; for ever."""
    worn = _Worn(device, sensor.behaviour(person))
    loop = asyncio.get_running_loop()
    start_s = loop.time()
    second = 0
    while True:
        second += 1
        await asyncio.sleep(start_s + second / speed - loop.time())
        worn.tick(second * 1000)
