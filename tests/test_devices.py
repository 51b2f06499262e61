from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import canonical
from gateway.devices import Device, enrolled_device, enrolment_details, fold, is_plausible
from gateway.errors import VerificationError
from gateway.model import Event, EventKind, Measurement, Waveform
from tests.builders import make_event

DEVICE = Device(id="strap-1", profile="strap", address="C0:FF:EE:00:00:01", public_key=bytes(32), generation=1)
DEVICES = st.builds(
    Device,
    id=st.sampled_from(["a", "b", "c"]),
    profile=st.text(max_size=10),
    address=st.text(max_size=20),
    public_key=st.binary(min_size=32, max_size=32),
    generation=st.integers(1, 2**32),
)
RANGES = {(147842, "/min"): (Decimal(0), Decimal(300)), (150364, "Cel"): (Decimal("10.5"), Decimal(50))}


def enrolment(device: Device, sequence: int = 1) -> Event:
    """Give a device's enrolment as it stands in the chain: written, read back."""
    event = make_event(EventKind.DEVICE_ENROLLED, enrolment_details(device), sequence)
    return canonical.decode_event(canonical.encode_event(event))


@given(DEVICES)
def test_a_device_comes_back_from_its_enrolment(device: Device) -> None:
    """The event says all there is to know of a device."""
    assert enrolled_device(enrolment(device)) == device


@given(st.lists(DEVICES, max_size=8))
def test_the_registry_is_what_the_events_say_last(devices: list[Device]) -> None:
    """By id, the latest enrolment of each, in the order in which they first came; other events change nothing."""
    events = [make_event(EventKind.GENESIS, {"device": "x"}), *map(enrolment, devices)]
    registry = fold(events)
    assert registry == {device.id: device for device in devices}
    assert list(registry) == list(dict.fromkeys(device.id for device in devices))


@pytest.mark.parametrize("missing", ["device", "profile", "address", "public-key", "generation"])
def test_an_incomplete_enrolment_is_refused(missing: str) -> None:
    """A detail that is missing or of another type is named by the event's number."""
    details = enrolment_details(DEVICE)
    other: int | bytes = b"?" if missing != "public-key" else 5
    for broken in ({key: value for key, value in details.items() if key != missing}, {**details, missing: other}):
        event = make_event(EventKind.DEVICE_ENROLLED, broken, sequence=7)
        with pytest.raises(VerificationError, match="enrolment 7 is incomplete"):
            enrolled_device(event)
        with pytest.raises(VerificationError, match="enrolment 7 is incomplete"):
            fold([event])


@pytest.mark.parametrize(
    ("measurement", "plausible"),
    [
        (Measurement(147842, 72, "/min"), True),
        (Measurement(147842, 0, "/min"), True),
        (Measurement(147842, 300, "/min"), True),
        (Measurement(147842, Decimal("300.1"), "/min"), False),
        (Measurement(147842, -1, "/min"), False),
        (Measurement(150364, Decimal("10.5"), "Cel"), True),
        (Measurement(150364, Decimal("10.49"), "Cel"), False),
        (Measurement(150364, Decimal("1E+3"), "Cel"), False),
        (Measurement(150364, Decimal("98.6"), "[degF]"), True),
        (Measurement(999, 10**9, "/min"), True),
        (Measurement(147842, Waveform(period_ns=1, scale=0, samples=(999,)), "/min"), True),
    ],
)
def test_fault_25_what_lies_outside_its_range_is_told(measurement: Measurement, *, plausible: bool) -> None:
    """Ends included, in the profile's unit alone; what has no range, and a waveform, is not judged."""
    assert is_plausible(RANGES, [measurement]) is plausible
    assert is_plausible(RANGES, [Measurement(147842, 70, "/min"), measurement]) is plausible


def test_no_measurement_is_plausible() -> None:
    """Where nothing was measured nothing is out of range."""
    assert is_plausible(RANGES, [])
