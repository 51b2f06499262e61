"""The simulated Bluetooth sensors: each kind by its name, and how one is put on a person and on the radio.

The bytes of each kind are in the file of its service.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from firmware_stubs.behaviour import NOT_SUBSCRIBED, AttError, Behaviour, Sent
from firmware_stubs.blood_pressure import BloodPressureCuff, InflatingCuff, blood_pressure_cuff, inflating_cuff
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
from firmware_stubs.objects import att_error
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
    "WornSensor",
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
    "cuff_pressure": Sensor(inflating_cuff, InflatingCuff),
    "glucose": Sensor(glucose_meter, GlucoseMeter),
    "cgm": Sensor(cgm_sensor, CgmSensor),
    "scale": Sensor(weight_scale, WeightScale),
    "bthome": Sensor(bthome_logger, BthomeLogger),
}


class WornSensor:
    """A device and what it does: what the one is told the other answers."""

    def __init__(self, device: Device, behaviour: Behaviour) -> None:
        self._device = device
        self._behaviour = behaviour
        self._advertised: Mapping[str, bytes] = device.peripheral.service_data
        there = [each for service in device.peripheral.services for each in service.characteristics]
        self._characteristics = {each.uuid for each in there}
        self._control_points = {each.uuid for each in there if {"write", "indicate"} <= set(each.flags)}
        device.on_write = self._written
        device.on_subscribed = lambda uuid: self._do(behaviour.subscribed(uuid))
        device.reachable = behaviour.reachable
        self._do([])

    def tick(self, now_ms: float) -> None:
        """Let the sensor live until then."""
        if not self._device.connected:
            self._behaviour.left()
        self._do(self._behaviour.tick(now_ms))

    def _written(self, uuid: str, value: bytes) -> None:
        if uuid in self._control_points and not self._device.is_subscribed(uuid):
            raise att_error(NOT_SUBSCRIBED)
        try:
            sent = self._behaviour.written(uuid, value)
        except AttError as refusal:
            raise att_error(refusal.code) from refusal
        self._do(sent)

    def _do(self, sent: list[Sent]) -> None:
        for uuid, value in self._behaviour.values.items():
            if uuid in self._characteristics:
                self._device.set_value(uuid, value)
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
    worn = WornSensor(device, sensor.behaviour(person))
    loop = asyncio.get_running_loop()
    start_s = loop.time()
    second = 0
    while True:
        second += 1
        await asyncio.sleep(start_s + second / speed - loop.time())
        worn.tick(second * 1000)
