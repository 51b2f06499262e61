"""Values as JSON shows them, the same from a running daemon and from the disk."""

from collections.abc import Mapping
from typing import Any

from gateway.devices import Device, Known
from gateway.model import Event, Measurement, Reading, Waveform


def device_record(device: Device) -> dict[str, Any]:
    """Give a device: id, profile, address, keys in hex, generation, bond, what it said of itself."""
    return {
        "id": device.id,
        "profile": device.profile,
        "address": device.address,
        "public_key": device.public_key.hex(),
        "generation": device.generation,
        "sensor_key": None if device.sensor_key is None else device.sensor_key.hex(),
        "bond": device.bond,
        "information": dict(device.information),
    }


def known_of(record: Mapping[str, Any]) -> Known:
    """Read back what `device_record` gives of what onboarding learnt; what is missing is not known.

    Raises: ValueError or TypeError if it is something else.
    """
    sensor_key = record.get("sensor_key")
    return Known(
        sensor_key=None if sensor_key is None else bytes.fromhex(sensor_key),
        bond=str(record.get("bond", "")),
        information=tuple((str(key), str(value)) for key, value in sorted(record.get("information", {}).items())),
    )


def reading_record(reading: Reading) -> dict[str, Any]:
    """Give a reading: sequence, times in ms, values as exact decimal text, flags, the frame in hex."""
    return {
        "sequence": reading.sequence,
        "received_ms": reading.at.real_ms,
        "clock": [reading.at.epoch, reading.at.monotonic_ms],
        "device_time_ms": reading.device_time_ms,
        "measurements": [measurement_record(measurement) for measurement in reading.measurements],
        "flags": list(reading.flags),
        "decoder": reading.decoder,
        "signed_by_sensor": reading.statement is not None,
        "frame": reading.frame.hex(),
    }


def event_record(event: Event) -> dict[str, Any]:
    """Give an event: sequence, time in ms, kind, details with byte strings in hex."""
    details = {key: value.hex() if isinstance(value, bytes) else value for key, value in event.details.items()}
    return {
        "sequence": event.sequence,
        "received_ms": event.at.real_ms,
        "clock": [event.at.epoch, event.at.monotonic_ms],
        "kind": event.kind.value,
        "details": details,
    }


def measurement_record(measurement: Measurement) -> dict[str, Any]:
    """Give a measurement: code, value (int, exact decimal text, or a waveform's parts), unit."""
    value = measurement.value
    if isinstance(value, Waveform):
        shown: Any = {"period_ns": value.period_ns, "scale": value.scale, "samples": list(value.samples)}
    else:
        shown = value if isinstance(value, int) else str(value)
    return {"code": measurement.code, "value": shown, "unit": measurement.unit}
