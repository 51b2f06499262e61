"""A heart-rate and pulse-oximeter peripheral for ESP32 and Raspberry Pi Pico W, on MicroPython with aioble.

    180D heart rate        2A37 measurement (notify), 2A38 location (read)
    1822 pulse oximeter    2A5F continuous measurement (notify), 2A60 features (read)
    180F battery           2A19 level (read, notify)
    180A information       2A29 maker, 2A24 model, 2A25 serial number (read)

It measures once a second, whether anybody listens or not; a measurement that nobody is subscribed to is gone. The
battery's level is told once a minute, as nothing says here that a client has just subscribed to it.
"""  # noqa: INP001 - a board has files, no packages

# A board's modules and the times of its clock are not on this machine.
# mypy: disable-error-code="import-not-found, attr-defined"

import asyncio
import binascii
import sys
import time

import aioble
import bluetooth
import encode
import machine
from sensor import Simulated

NAME = "iomt-finger"
PERIOD_MS = 1000
BATTERY_PERIOD_MS = 60_000

_ADVERTISED = (0x180D, 0x1822)
_ADVERTISING_INTERVAL_US = 250_000
_GENERIC_PULSE_OXIMETER = 0x0C40  # Assigned Numbers, appearance values


class Peripheral:
    """The services with a sensor behind them."""

    def __init__(self, sensor: Simulated) -> None:
        self._sensor = sensor
        heart, oximeter, battery, information = (
            aioble.Service(bluetooth.UUID(number)) for number in (0x180D, 0x1822, 0x180F, 0x180A)
        )
        self._rate = _characteristic(heart, 0x2A37, notify=True)
        _characteristic(heart, 0x2A38, read=True, initial=bytes((encode.FINGER,)))
        self._oximetry = _characteristic(oximeter, 0x2A5F, notify=True)
        _characteristic(oximeter, 0x2A60, read=True, initial=encode.plx_features(sensor.statuses))
        self._battery = _characteristic(battery, 0x2A19, read=True, notify=True)
        _characteristic(information, 0x2A29, read=True, initial=b"IoMT")
        _characteristic(information, 0x2A24, read=True, initial=(NAME + " " + sys.platform).encode())
        _characteristic(information, 0x2A25, read=True, initial=binascii.hexlify(machine.unique_id()))
        aioble.register_services(heart, oximeter, battery, information)
        self._battery_due_ms = 0

    def measure(self, now_ms: int) -> None:
        """Measure, and tell whoever is subscribed."""
        measured = self._sensor.measure(now_ms)
        rate = encode.heart_rate(measured.rate_per_min, measured.intervals_ms, has_contact=measured.has_contact)
        self._rate.write(rate, send_update=True)
        values = encode.plx_continuous(measured.spo2_percent, measured.pulse_per_min, measured.status)
        self._oximetry.write(values, send_update=True)
        if now_ms >= self._battery_due_ms:
            self._battery_due_ms = now_ms + BATTERY_PERIOD_MS
            self._battery.write(encode.battery(measured.battery_percent), send_update=True)


def _characteristic(service: aioble.Service, number: int, **properties: object) -> aioble.Characteristic:
    return aioble.Characteristic(service, bluetooth.UUID(number), **properties)


async def live(peripheral: Peripheral) -> None:
    """Measure once a period, for ever, and first before anybody can connect."""
    now_ms, last = 0, time.ticks_ms()
    while True:
        peripheral.measure(now_ms)
        await asyncio.sleep_ms(PERIOD_MS)
        ticks = time.ticks_ms()
        now_ms, last = now_ms + time.ticks_diff(ticks, last), ticks  # ticks wrap around, this time does not


async def receive() -> None:
    """Be found and connected to, by one at a time, for ever."""
    services = [bluetooth.UUID(number) for number in _ADVERTISED]
    while True:
        connection = await aioble.advertise(
            _ADVERTISING_INTERVAL_US, name=NAME, services=services, appearance=_GENERIC_PULSE_OXIMETER
        )
        await connection.disconnected(timeout_ms=None)


async def main() -> None:
    """Be that peripheral."""
    peripheral = Peripheral(Simulated())
    await asyncio.gather(live(peripheral), receive())


if __name__ == "__main__":
    asyncio.run(main())
