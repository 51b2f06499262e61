"""Discovery, for onboarding: which Bluetooth LE devices are near."""

from dataclasses import dataclass

from bleak import BleakScanner
from bleak.backends.device import BLEDevice
from bleak.backends.scanner import AdvertisementData

from gateway.io.bluetooth.bluez import CALL_LIMIT_S, choose_adapter, limit, managed_objects, system_bus


@dataclass(frozen=True, slots=True, kw_only=True)
class Advertisement:
    """A device that was heard: 128-bit UUIDs of its services and service data, as text; its makers' numbers."""

    address: str
    name: str | None
    service_uuids: tuple[str, ...]
    manufacturer_ids: tuple[int, ...]
    rssi_dbm: int


async def discover(seconds: float, adapter: str | None = None) -> list[Advertisement]:
    """Listen for `seconds` and return every device that was heard, the strongest signal first.

    Raises: Unavailable if there is no bus, no BlueZ or no powered adapter; the text says what to do.
    """
    async with limit("asking BlueZ", CALL_LIMIT_S), system_bus() as bus:
        adapter = choose_adapter(await managed_objects(bus), adapter)
    async with limit(f"scanning with {adapter}", seconds + CALL_LIMIT_S):
        heard = await BleakScanner.discover(seconds, return_adv=True, bluez={"adapter": adapter})
    found = (_advertisement(device, data) for device, data in heard.values())
    return sorted(found, key=lambda advertisement: -advertisement.rssi_dbm)


def _advertisement(device: BLEDevice, data: AdvertisementData) -> Advertisement:
    return Advertisement(
        address=device.address,
        name=device.name,
        service_uuids=tuple(dict.fromkeys((*data.service_uuids, *data.service_data))),
        manufacturer_ids=tuple(sorted(data.manufacturer_data)),
        rssi_dbm=data.rssi,
    )
