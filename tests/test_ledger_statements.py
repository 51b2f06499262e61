"""Readings that a sensor signed itself, as whoever holds the file checks them."""

from dataclasses import replace

import pytest

from gateway.decode.statement import StatementFrames
from gateway.devices import Device, enrolment_details
from gateway.errors import VerificationError
from gateway.ledger.receipt import Proven, verify_transparent
from gateway.model import EventKind, Measurement, Reading, Sample
from tests.builders import (
    DEVICE,
    Chain,
    alone,
    event_leaf,
    genesis_leaf,
    key_of,
    make_event,
    make_reading,
    make_roster,
    reading_leaf,
)
from tests.statements import Sensor, ed25519_sensor, es256_sensor, payload_of, stuff

ROSTER = make_roster()
PEERS = [peer.id for peer in ROSTER.peers]
SENSORS = [ed25519_sensor(), es256_sensor(), es256_sensor(compressed=False)]


def reading_of(sensor: Sensor) -> Reading:
    """Give the reading that a gateway makes of what a sensor signed."""
    frame = stuff(sensor.state(payload_of(42)))
    (sample,) = StatementFrames().feed(frame + b"\x00")
    assert isinstance(sample, Sample)
    made = replace(make_reading(), measurements=sample.measurements, frame=frame, statement=sample.statement)
    return replace(made, decoder="serial.iomt_frame/1", flags=("out-of-range",))


def verified(reading: Reading, sensor_key: bytes | None) -> Proven:
    """Put a reading into a chain in which its device was enrolled with a sensor key, and check it from its file."""
    device = Device(
        id=DEVICE, profile="iomt-sensor-serial", address="/dev/ttyUSB0", public_key=key_of(DEVICE).public_key,
        generation=1, sensor_key=sensor_key,
    )  # fmt: skip
    chain = Chain()
    chain.seal(genesis_leaf(), event_leaf(make_event(EventKind.DEVICE_ENROLLED, enrolment_details(device), 2)))
    chain.seal(reading_leaf(reading))
    return verify_transparent(chain.transparent_reading(2, 1, PEERS), alone(ROSTER))


@pytest.mark.parametrize("sensor", SENSORS, ids=["Ed25519", "P-256, compressed", "P-256"])
def test_statement_that_holds_is_proved(sensor: Sensor) -> None:
    """Both keys are checked: the gateway's for the device, and the sensor's own from the enrolment."""
    proven = verified(reading_of(sensor), sensor.public_key)
    assert proven.device is not None
    assert proven.device.sensor_key == sensor.public_key
    assert isinstance(proven.entry, Reading)
    assert proven.entry.statement is not None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"statement": None}, "carries no statement"),
        ({"measurements": (Measurement(149530, 60, "/min"),)}, "measurements are not those"),
        ({"device_time_ms": 1}, "device time is not the one"),
        ({"statement": ed25519_sensor(bytes(32)).state(payload_of(42))}, "the sensor's is"),
    ],
)
def test_gateway_that_says_something_else_is_refused(change: dict[str, object], reason: str) -> None:
    """What the gateway signed must be what the sensor signed: a gateway that lies about such a sensor is found out."""
    sensor = ed25519_sensor()
    with pytest.raises(VerificationError, match=reason):
        verified(replace(reading_of(sensor), **change), sensor.public_key)  # type: ignore[arg-type]  # a table's values


def test_device_without_a_sensor_key_needs_no_statement() -> None:
    """A sensor that signs nothing is proved by the gateway's key for it alone."""
    assert verified(make_reading(), None).device is not None
