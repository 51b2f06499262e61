"""The registry of devices, folded from the events in the chain: there is no other list of them.

device-enrolled {"device": id, "profile": name, "address": where it is reached, "public-key": bytes,
                 "generation": n}
"""

from collections.abc import Iterable
from dataclasses import dataclass

from gateway.errors import VerificationError
from gateway.model import Event, EventKind, Measurement, Waveform
from gateway.profile import Ranges


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """An enrolled device; the address (Bluetooth address, or serial port) is an attribute, never its identity."""

    id: str
    profile: str
    address: str
    public_key: bytes
    generation: int


def enrolment_details(device: Device) -> dict[str, int | str | bytes | bool]:
    """Give the details of the event that enrols a device."""
    return {
        "device": device.id,
        "profile": device.profile,
        "address": device.address,
        "public-key": device.public_key,
        "generation": device.generation,
    }


def enrolled_device(event: Event) -> Device:
    """Read the device out of its enrolment.

    Raises: VerificationError if a detail is missing or of another type.
    """
    details = event.details
    match {key: details.get(key) for key in ("device", "profile", "address", "public-key", "generation")}:
        case {
            "device": str(name),
            "profile": str(profile),
            "address": str(address),
            "public-key": bytes(public_key),
            "generation": int(generation),
        }:
            return Device(id=name, profile=profile, address=address, public_key=public_key, generation=generation)
        case _:
            raise VerificationError(f"enrolment {event.sequence} is incomplete")


def fold(events: Iterable[Event]) -> dict[str, Device]:
    """Give the devices that are enrolled after these events, by id, in the order of their enrolment."""
    devices: dict[str, Device] = {}
    for event in events:
        if event.kind is EventKind.DEVICE_ENROLLED:
            device = enrolled_device(event)
            devices[device.id] = device
    return devices


def is_plausible(ranges: Ranges, measurements: Iterable[Measurement]) -> bool:
    """Say whether every value lies within its profile's range: outside, a reading is flagged and never altered."""
    for measurement in measurements:
        limits = ranges.get((measurement.code, measurement.unit))
        value = measurement.value
        if limits and not isinstance(value, Waveform) and not limits[0] <= value <= limits[1]:
            return False
    return True
