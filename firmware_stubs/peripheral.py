"""What a simulated Bluetooth LE device is: its address, what it advertises, its services and characteristics."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

CCCD: Final = "00002902-0000-1000-8000-00805f9b34fb"

# How a device pairs: not at all; without asking anybody; both sides show a number that their people compare; we type
# what the device shows; the device's user types what we show.
Pairing = Literal["none", "just-works", "numeric", "passkey-display", "passkey-entry"]


def uuid_of(number: int) -> str:
    """Return the 128-bit text of an assigned 16-bit UUID."""
    return f"{number:08x}-0000-1000-8000-00805f9b34fb"


@dataclass(frozen=True, slots=True, kw_only=True)
class Characteristic:
    """A characteristic: UUID, BlueZ's names of its properties ("read", "notify", ...), the value a read gives at first.

    `protected`: the device lets only a bonded client read, write or subscribe, which no property tells beforehand.
    """

    uuid: str
    flags: tuple[str, ...]
    value: bytes = b""
    protected: bool = False

    @property
    def notifies(self) -> bool:
        """Whether a client may subscribe."""
        return not {"notify", "indicate"}.isdisjoint(self.flags)


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A primary service and its characteristics, in the order of their handles."""

    uuid: str
    characteristics: tuple[Characteristic, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Peripheral:
    """A device: what it advertises, what is found once it is connected, how it pairs.

    `service_data` is by 128-bit UUID as text; `passkey` is the number of whichever side shows one.
    """

    address: str
    name: str
    services: tuple[Service, ...]
    advertised_uuids: tuple[str, ...]
    manufacturer_data: Mapping[int, bytes] = field(default_factory=dict)
    service_data: Mapping[str, bytes] = field(default_factory=dict)
    rssi_dbm: int = -60
    mtu: int = 247
    pairing: Pairing = "none"
    passkey: int = 123456
