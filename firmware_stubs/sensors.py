"""The simulated Bluetooth sensors, to the byte: a heart rate monitor and a pulse oximeter, each worn by a person.

    16 4a 9e 03          heart rate 74/min, skin contact, one beat of 926/1024 s
    04 61 00 4a 00 20 01 SpO2 97 %, pulse 74/min, measurement ongoing and fully qualified

All fields are little-endian. 2A37: flags (bit 0 rate is u16, 1 contact, 2 contact supported, 4 intervals), rate,
intervals in 1/1024 s, oldest first. 2A5F: flags (bit 2 measurement status), SpO2 and pulse as SFLOAT, status.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from firmware_stubs.device import Device
from firmware_stubs.people import Person
from firmware_stubs.peripheral import Characteristic, Peripheral, Service, uuid_of

HEART_RATE_MEASUREMENT: Final = uuid_of(0x2A37)
PLX_CONTINUOUS_MEASUREMENT: Final = uuid_of(0x2A5F)

_CHEST: Final = b"\x01"
_BATTERY_PERCENT: Final = b"\x5a"
# The company identifier that the Bluetooth SIG reserves for tests.
_MANUFACTURER: Final = 0xFFFF
# PLX measurement status: bit 5 ongoing, bit 8 fully qualified. The features characteristic says that we send it.
_PLX_STATUS: Final = 1 << 5 | 1 << 8
_PLX_FEATURES: Final = b"\x01\x00" + _PLX_STATUS.to_bytes(2, "little")


@dataclass(frozen=True, slots=True)
class Sensor:
    """A kind of sensor: the device that it is, and how it measures a person once a second."""

    peripheral: Callable[[str], Peripheral]
    characteristic: str
    measure: Callable[[Person, Sequence[int]], bytes]


def encode_heart_rate(rate_per_min: int, intervals_ms: Sequence[int]) -> bytes:
    """Return a Heart Rate Measurement (2A37) with skin contact; Heart Rate Service 1.0, 3.1."""
    flags = 0b00110 | (rate_per_min > 0xFF) | (len(intervals_ms) > 0) << 4
    rate = rate_per_min.to_bytes(2 if rate_per_min > 0xFF else 1, "little")
    intervals = b"".join(round(ms * 1024 / 1000).to_bytes(2, "little") for ms in intervals_ms)
    return bytes([flags]) + rate + intervals


def encode_plx_continuous(spo2_percent: int, pulse_per_min: int) -> bytes:
    """Return a PLX Continuous Measurement (2A5F) with its status; Pulse Oximeter Service 1.0, 3.2."""
    return b"\x04" + encode_sfloat(spo2_percent) + encode_sfloat(pulse_per_min) + _PLX_STATUS.to_bytes(2, "little")


def encode_sfloat(mantissa: int, exponent: int = 0) -> bytes:
    """Return mantissa * 10**exponent as IEEE 11073-20601 SFLOAT; mantissa -2045 to 2045, exponent -8 to 7.

    Raises: ValueError outside of that, where the format has specials or nothing.
    """
    if not (-2045 <= mantissa <= 2045 and -8 <= exponent <= 7):
        raise ValueError(f"{mantissa}e{exponent} is no SFLOAT")
    return ((exponent & 0xF) << 12 | mantissa & 0xFFF).to_bytes(2, "little")


def heart_rate_monitor(address: str) -> Peripheral:
    """Return a chest strap: heart rate, battery, device information."""
    characteristics = (
        Characteristic(uuid=HEART_RATE_MEASUREMENT, flags=("notify",)),
        Characteristic(uuid=uuid_of(0x2A38), flags=("read",), value=_CHEST),
    )
    return _peripheral(address, "Simulated HRM", uuid_of(0x180D), characteristics)


def pulse_oximeter(address: str) -> Peripheral:
    """Return a finger clip: continuous SpO2 and pulse, battery, device information."""
    characteristics = (
        Characteristic(uuid=PLX_CONTINUOUS_MEASUREMENT, flags=("notify",)),
        Characteristic(uuid=uuid_of(0x2A60), flags=("read",), value=_PLX_FEATURES),
    )
    return _peripheral(address, "Simulated PLX", uuid_of(0x1822), characteristics)


SENSORS: Final = {
    "heart_rate": Sensor(
        heart_rate_monitor,
        HEART_RATE_MEASUREMENT,
        lambda person, beats_ms: encode_heart_rate(person.rate_per_min(), beats_ms),
    ),
    "plx": Sensor(
        pulse_oximeter,
        PLX_CONTINUOUS_MEASUREMENT,
        lambda person, _beats_ms: encode_plx_continuous(person.spo2_percent, person.rate_per_min()),
    ),
}


async def wear(device: Device, sensor: Sensor, person: Person, *, speed: float = 1.0) -> None:
    """Measure the person once a second of their time, `speed` times as fast as it passes, and notify; for ever.

    A measurement that nobody is subscribed to is gone, as with a real sensor.
    """
    loop = asyncio.get_running_loop()
    start_s = loop.time()
    second = 0
    while True:
        second += 1
        await asyncio.sleep(start_s + second / speed - loop.time())
        device.notify(sensor.characteristic, sensor.measure(person, person.advance(second * 1000)))


def _peripheral(address: str, name: str, service: str, characteristics: tuple[Characteristic, ...]) -> Peripheral:
    battery = Characteristic(uuid=uuid_of(0x2A19), flags=("read", "notify"), value=_BATTERY_PERCENT)
    information = {0x2A29: b"Simulated", 0x2A24: name.encode(), 0x2A25: address.encode()}
    return Peripheral(
        address=address,
        name=name,
        advertised_uuids=(service,),
        manufacturer_data={_MANUFACTURER: b"\x01"},
        services=(
            Service(uuid=service, characteristics=characteristics),
            Service(uuid=uuid_of(0x180F), characteristics=(battery,)),
            Service(
                uuid=uuid_of(0x180A),
                characteristics=tuple(
                    Characteristic(uuid=uuid_of(number), flags=("read",), value=value)
                    for number, value in information.items()
                ),
            ),
        ),
    )
