"""Onboarding: which sensors are near, of which kind, and what the first reading of one is."""

import asyncio
import time
from collections.abc import Coroutine, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from gateway import links
from gateway.decode.device_information import DEVICE_INFORMATION, read_information
from gateway.decode.features import FEATURES, describe_feature
from gateway.decode.record_access import RecordAccess
from gateway.devices import Device, Known
from gateway.errors import Unavailable
from gateway.hearing import Hearing
from gateway.io import serial_port
from gateway.model import Damaged, Sample
from gateway.profile import Profile, Records, Transport


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A sensor that was found: where it is reached, what it calls itself, which profiles fit, the likeliest first."""

    address: str
    name: str
    transport: str
    rssi_dbm: int | None
    profiles: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class First:
    """The first that was heard of a sensor: a sample, what it says of itself, and the frames by characteristic."""

    sample: Sample
    information: tuple[tuple[str, str], ...]
    frames: tuple[tuple[str, bytes], ...]


async def find(profiles: Iterable[Profile], seconds: float, adapter: str | None, ports: str) -> list[Candidate]:
    """Look for sensors on the radio for that long, and on the serial ports below the folder `ports`.

    Raises: Unavailable if there is no radio.
    """
    from gateway.io.bluetooth import discover  # noqa: PLC0415 - whoever names an address does not pay for bleak

    known = list(profiles)
    found = list(find_ports(known, ports))
    for heard in await discover(seconds, adapter):
        fits = [
            profile
            for profile in known
            if profile.recognises_ble(heard.name, heard.service_uuids, heard.manufacturer_ids)
        ]
        found.append(
            Candidate(
                address=heard.address,
                name=heard.name or "",
                transport="ble",
                rssi_dbm=heard.rssi_dbm,
                profiles=_most_specific(fits, heard.name),
            )
        )
    return found


def find_ports(profiles: Iterable[Profile], ports: str) -> list[Candidate]:
    """Look for sensors on the serial ports below a folder."""
    known = list(profiles)
    found = []
    for port in serial_port.list_ports(ports):
        usb = f"{port.vendor_id:04x}:{port.product_id:04x}" if port.vendor_id and port.product_id else None
        fits = [profile for profile in known if profile.recognises_port(port.name, usb)]
        names = _most_specific(fits, port.name)
        found.append(Candidate(address=port.path, name=port.name, transport="serial", rssi_dbm=None, profiles=names))
    return found


async def first_reading(
    profile: Profile, address: str, seconds: float, adapter: str | None, known: Known, bind_key: bytes | None = None
) -> First:
    """Connect to a sensor and give its first sample with a value.

    Raises: Unavailable if none came in time, with how far it got.
    """
    device = Device(
        id="new", profile=profile.name, address=address, public_key=b"", generation=0,
        sensor_key=known.sensor_key, bond=known.bond,
    )  # fmt: skip
    ear = _Ear(profile, Hearing(device, profile, bind_key=bind_key))
    async with asyncio.TaskGroup() as tasks:
        links = [tasks.create_task(link) for link in _links(profile, address, adapter, ear)]
        waited: list[asyncio.Future[Any]] = [ear.sample, *links]
        await asyncio.wait(waited, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for link in links:
            link.cancel()
    if not ear.sample.done():
        raise Unavailable(f"no reading from {address} in {seconds:g} s; the link was last {ear.stood}")
    return First(
        sample=ear.sample.result(), information=tuple(sorted(ear.information.items())), frames=tuple(ear.frames)
    )


class _Ear:
    """The listener of a sensor that is being onboarded."""

    def __init__(self, profile: Profile, hearing: Hearing) -> None:
        self.sample: asyncio.Future[Sample] = asyncio.get_running_loop().create_future()
        self.information: dict[str, str] = {}
        self.frames: list[tuple[str, bytes]] = []
        self.stood = "searching"
        self._profile = profile
        self._hearing = hearing

    def change(self, state: str, reason: str) -> None:
        self.stood = f"{state}: {reason}" if reason else state

    def opened(self, *, bonded: bool) -> Sequence[tuple[str, bytes]]:
        self._hearing.begin(bonded=bonded)
        return ()

    def learn(self, uuid: str, value: bytes) -> None:
        self._hearing.learn(uuid, value)
        said = read_information(uuid, value)
        if said is not None:
            self.information[said[0]] = said[1]
        features = describe_feature(uuid, value)
        if features:
            self.information["features"] = " ".join(features)

    def subscribed(self) -> Sequence[tuple[str, bytes]]:
        if self._profile.records is Records.NONE:
            return ()
        return ((links.RECORD_ACCESS, RecordAccess().report_all(0)),)

    def hear(self, uuid: str, frame: bytes) -> Sequence[tuple[str, bytes]]:
        if uuid == links.RECORD_ACCESS:
            return ()
        self.frames.append((uuid, frame))
        is_main = uuid == self._profile.channels[0].uuid
        for item in self._hearing.hear(uuid, frame, time.monotonic()):
            if isinstance(item, Damaged):
                self.stood = f"connected, but a frame is damaged: {item.reason}"
            elif is_main and item.sample.measurements and not self.sample.done():
                self.sample.set_result(item.sample)
        return ()


def _links(profile: Profile, address: str, adapter: str | None, ear: _Ear) -> list[Coroutine[Any, Any, None]]:
    if profile.transport is Transport.SERIAL:
        return [links.follow(profile, address, ear, None)]
    from gateway.io.bluetooth import Radio  # noqa: PLC0415 - see find

    radio = Radio(adapter=adapter)
    return [radio.run(), links.follow(profile, address, ear, radio, (*DEVICE_INFORMATION, *FEATURES))]


def _most_specific(fits: list[Profile], name: str | None) -> tuple[str, ...]:
    """Give the names of profiles, those that know the very name before those that know the service alone."""
    by_name = [profile for profile in fits if name and profile.knows_name(name)]
    return tuple(dict.fromkeys(profile.name for profile in (*by_name, *fits)))
