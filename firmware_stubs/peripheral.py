"""What a simulated Bluetooth LE device is: its address, what it advertises, its services and characteristics."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

CCCD: Final = "00002902-0000-1000-8000-00805f9b34fb"


def uuid_of(number: int) -> str:
    """Return the 128-bit text of an assigned 16-bit UUID."""
    return f"{number:08x}-0000-1000-8000-00805f9b34fb"


@dataclass(frozen=True, slots=True, kw_only=True)
class Characteristic:
    """A characteristic: UUID, BlueZ's names of its properties ("read", "notify", ...), the value a read gives."""

    uuid: str
    flags: tuple[str, ...]
    value: bytes = b""

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
    """A device: what it advertises, and what is found once it is connected."""

    address: str
    name: str
    services: tuple[Service, ...]
    advertised_uuids: tuple[str, ...]
    manufacturer_data: Mapping[int, bytes] = field(default_factory=dict)
    rssi_dbm: int = -60
    mtu: int = 247
