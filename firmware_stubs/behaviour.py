"""What a simulated Bluetooth sensor does, without a radio: what it is told goes in, what it sends comes out.

Time is that of the person who wears it, in ms from the moment that both were switched on.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

from firmware_stubs.ieee11073 import current_time, read_current_time
from firmware_stubs.peripheral import Characteristic, Peripheral, Service, uuid_of

BATTERY_LEVEL: Final = uuid_of(0x2A19)
CURRENT_TIME: Final = uuid_of(0x2A2B)
RECORD_ACCESS: Final = uuid_of(0x2A52)

BATTERY_PERCENT: Final = 90

# Errors of ATT that every service has: Core Specification Supplement, part B, 1.2.
NOT_SUBSCRIBED: Final = 0xFD
PROCEDURE_IN_PROGRESS: Final = 0xFE
OUT_OF_RANGE: Final = 0xFF

# The company identifier that the Bluetooth SIG reserves for tests.
_MANUFACTURER: Final = 0xFFFF

# A characteristic's UUID and the value that is notified or indicated.
Sent = tuple[str, bytes]


class AttError(Exception):
    """A sensor refuses a write: the code that it answers with, of which 0x80 to 0x9f are each service's own."""

    def __init__(self, code: int) -> None:
        super().__init__(f"ATT error 0x{code:02x}")
        self.code = code


class DeviceClock:
    """A sensor's own clock: not set after a change of batteries, and then by whoever writes it; knows whole seconds."""

    def __init__(self, moment: datetime | None = None) -> None:
        self._moment = moment
        self._at_ms = 0.0

    def set(self, moment: datetime, now_ms: float) -> None:
        """Go from that moment on."""
        self._moment, self._at_ms = moment, now_ms

    def read(self, now_ms: float) -> datetime | None:
        """Return the wall clock's moment; None while it is not set."""
        return self._moment and self._moment + timedelta(milliseconds=now_ms - self._at_ms)


class Behaviour:
    """A sensor that has a battery and a clock and measures nothing; the kinds of sensors add to it.

    `reachable` says whether it can be heard and connected to now: where it falls, the sensor drops its link.
    """

    def __init__(self, clock: DeviceClock | None = None) -> None:
        self.reachable = True
        self.clock = clock or DeviceClock()
        self.now_ms = 0.0

    @property
    def service_data(self) -> Mapping[str, bytes]:
        """What is advertised now beside names and services, by UUID."""
        return {}

    @property
    def values(self) -> Mapping[str, bytes]:
        """What is read now of the characteristics whose value is another at another time, if the device has them."""
        return {CURRENT_TIME: current_time(self.clock.read(self.now_ms))}

    def written(self, uuid: str, value: bytes) -> list[Sent]:
        """Take what a client wrote, and return the answer.

        Raises: AttError if the sensor refuses it.
        """
        moment = read_current_time(value) if uuid == CURRENT_TIME else None
        if moment is not None:
            self.clock.set(moment, self.now_ms)
        return []

    def subscribed(self, uuid: str) -> list[Sent]:
        """Return what a client hears as soon as it has subscribed."""
        return [(BATTERY_LEVEL, encode_battery(BATTERY_PERCENT))] if uuid == BATTERY_LEVEL else []

    def left(self) -> None:
        """Forget the client, whose link has ended."""

    def tick(self, now_ms: float) -> list[Sent]:
        """Let time pass, and return what is sent now."""
        self.now_ms = now_ms
        return []


def encode_battery(percent: int) -> bytes:
    """Return a Battery Level (2A19); Battery Service 1.1, 3.1."""
    return bytes((percent,))


def describe(
    address: str,
    name: str,
    service: int,
    characteristics: tuple[Characteristic, ...],
    *,
    others: tuple[Service, ...] = (),
    has_clock: bool = False,
) -> Peripheral:
    """Return a connectable sensor: its service, which is advertised, and others, battery, device information.

    One that has a clock has a Current Time that can be written.
    """
    clock = Characteristic(uuid=CURRENT_TIME, flags=("read", "write"), value=current_time(None))
    battery = Characteristic(uuid=BATTERY_LEVEL, flags=("read", "notify"), value=encode_battery(BATTERY_PERCENT))
    return Peripheral(
        address=address,
        name=name,
        advertised_uuids=(uuid_of(service),),
        manufacturer_data={_MANUFACTURER: b"\x01"},
        services=(
            Service(uuid=uuid_of(service), characteristics=characteristics),
            *others,
            *((Service(uuid=uuid_of(0x1805), characteristics=(clock,)),) if has_clock else ()),
            Service(uuid=uuid_of(0x180F), characteristics=(battery,)),
            Service(uuid=uuid_of(0x180A), characteristics=_information(address, name)),
        ),
    )


def _information(address: str, name: str) -> tuple[Characteristic, ...]:
    values = {0x2A29: b"Simulated", 0x2A24: name.encode(), 0x2A25: address.encode()}
    return tuple(Characteristic(uuid=uuid_of(number), flags=("read",), value=value) for number, value in values.items())
