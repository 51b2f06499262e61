"""Values as JSON shows them, the same from a running daemon and from the disk."""

from typing import Any

from gateway.devices import Device
from gateway.model import Event, Measurement, Reading, Waveform


def device_record(device: Device) -> dict[str, Any]:
    """Give a device: id, profile, address, public key in hex, generation."""
    return {
        "id": device.id,
        "profile": device.profile,
        "address": device.address,
        "public_key": device.public_key.hex(),
        "generation": device.generation,
    }


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
