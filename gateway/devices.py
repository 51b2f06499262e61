"""The registry of devices, folded from the events in the chain: there is no other list of them.

device-enrolled {"device": id, "profile": name, "address": where it is reached, "public-key": bytes, "generation": n,
                 ? "sensor-key": bytes,            ; of a device that signs its own statements
                 ? "sequence": n,                  ; the number of its last reading before this incarnation of the chain
                 ? "bond": "authenticated" / ...,  ; how a Bluetooth link was bonded at onboarding
                 ? "manufacturer", "model", "serial", "firmware", "hardware", "software", ...: what it said of itself}
"""

from collections.abc import Iterable
from dataclasses import dataclass

from gateway.errors import VerificationError
from gateway.model import Event, EventKind, Measurement, Waveform
from gateway.profile import Ranges


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """An enrolled device; the address (Bluetooth address, or serial port) is an attribute, never its identity.

    `last_sequence` is the number of its last reading before this incarnation of the chain.
    """

    id: str
    profile: str
    address: str
    public_key: bytes
    generation: int
    sensor_key: bytes | None = None
    bond: str = ""
    information: tuple[tuple[str, str], ...] = ()
    last_sequence: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What onboarding learnt of a device beyond its address: see `Device`."""

    sensor_key: bytes | None = None
    bond: str = ""
    information: tuple[tuple[str, str], ...] = ()


NOTHING_KNOWN = Known()
_KEYS = frozenset(("device", "profile", "address", "public-key", "generation", "sensor-key", "bond", "sequence"))


def enrolment_details(device: Device) -> dict[str, int | str | bytes | bool]:
    """Give the details of the event that enrols a device."""
    details: dict[str, int | str | bytes | bool] = {
        **dict(device.information),
        "device": device.id,
        "profile": device.profile,
        "address": device.address,
        "public-key": device.public_key,
        "generation": device.generation,
    }
    if device.sensor_key is not None:
        details["sensor-key"] = device.sensor_key
    if device.bond:
        details["bond"] = device.bond
    if device.last_sequence:
        details["sequence"] = device.last_sequence
    return details


def enrolled_device(event: Event) -> Device:
    """Read the device out of its enrolment.

    Raises: VerificationError if a detail is missing or of another type.
    """
    details = {"sensor-key": None, "bond": "", "sequence": 0, **event.details}
    match details:
        case {
            "device": str(name),
            "profile": str(profile),
            "address": str(address),
            "public-key": bytes(public_key),
            "generation": int(generation),
            "sensor-key": (bytes() | None) as sensor_key,
            "bond": str(bond),
            "sequence": int(last_sequence),
        }:
            return Device(
                id=name,
                profile=profile,
                address=address,
                public_key=public_key,
                generation=generation,
                sensor_key=sensor_key,
                bond=bond,
                last_sequence=last_sequence,
                information=tuple((key, str(details[key])) for key in sorted(details.keys() - _KEYS)),
            )
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
