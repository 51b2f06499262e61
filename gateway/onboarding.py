"""Onboarding: which sensors are near, of which kind, and what the first reading of one is."""

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from typing import Any

from gateway.decode import DECODERS
from gateway.errors import Unavailable
from gateway.io import serial_port
from gateway.model import Sample
from gateway.profile import Profile


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A sensor that was found: where it is reached, what it calls itself, which profiles fit, the likeliest first."""

    address: str
    name: str
    transport: str
    rssi_dbm: int | None
    profiles: tuple[str, ...]


async def find(profiles: Iterable[Profile], seconds: float, adapter: str | None, ports: str) -> list[Candidate]:
    """Look for sensors on the radio for that long, and on the serial ports below the folder `ports`.

    Raises: Unavailable if there is no radio.
    """
    from gateway.io.bluetooth import discover  # noqa: PLC0415 - whoever names an address does not pay for bleak

    known = list(profiles)
    found = list(find_ports(known, ports))
    for heard in await discover(seconds, adapter):
        fits = [profile for profile in known if profile.recognises_ble(heard.name, heard.service_uuids)]
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


async def first_sample(profile: Profile, address: str, seconds: float, adapter: str | None) -> Sample:
    """Connect to a sensor and give the first sample with a value.

    Raises: Unavailable if none came in time, with how far it got.
    """
    heard: asyncio.Future[Sample] = asyncio.get_running_loop().create_future()
    decoder = DECODERS[profile.decoder]()
    stood = ["searching"]

    def hear(chunk: bytes) -> None:
        for item in decoder.feed(chunk):
            if isinstance(item, Sample) and item.measurements and not heard.done():
                heard.set_result(item)

    def change(state: str, reason: str) -> None:
        stood[:] = [f"{state}: {reason}" if reason else state]

    async with asyncio.TaskGroup() as tasks:
        links = [tasks.create_task(link) for link in _links(profile, address, adapter, hear, change)]
        waited: list[asyncio.Future[Any]] = [heard, *links]
        await asyncio.wait(waited, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for link in links:
            link.cancel()
    if not heard.done():
        raise Unavailable(f"no reading from {address} in {seconds:g} s; the link was last {stood[0]}")
    return heard.result()


def _links(
    profile: Profile,
    address: str,
    adapter: str | None,
    hear: Callable[[bytes], None],
    change: Callable[[str, str], None],
) -> list[Coroutine[Any, Any, None]]:
    if profile.line is not None:
        line = profile.line
        settings = serial_port.LineSettings(
            baudrate=line.baudrate, bytesize=line.bytesize, parity=line.parity, stopbits=line.stopbits
        )
        return [serial_port.follow(address, settings, quiet_s=profile.quiet_s, on_chunk=hear, on_state=change)]
    from gateway.io.bluetooth import Radio  # noqa: PLC0415 - see find

    radio = Radio(adapter=adapter)
    follow = radio.follow(
        address, profile.channels[0].uuid, quiet_s=profile.quiet_s, on_frame=hear, on_state=change
    )
    return [radio.run(), follow]


def _most_specific(fits: list[Profile], name: str | None) -> tuple[str, ...]:
    """Give the names of profiles, those that know the very name before those that know the service alone."""
    by_name = [profile for profile in fits if name and profile.knows_name(name)]
    return tuple(dict.fromkeys(profile.name for profile in (*by_name, *fits)))
