from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_stubs.bthome import Object, seal_bthome
from gateway.decode import DECODERS
from gateway.decode.bthome import Bthome, is_numbered
from gateway.model import Damaged, Measurement, Sample

# The examples of bthome.io/format and bthome.io/encryption.
PLAIN = bytes.fromhex("4002ca0903bf13")
KEY = bytes.fromhex("231d39c1d7cc1ab1aee224cd096db932")
ADDRESS = bytes.fromhex("5448e68f80a5")
SEALED = bytes.fromhex("41a47266c95f730011223378237214")
CLIMATE = (Measurement(188508, Decimal("25.06"), "Cel"), Measurement(1024 << 16 | 1, Decimal("50.55"), "%"))


def decode(text: str) -> Sample | Damaged:
    (made,) = DECODERS["adv.bthome_v2"]().feed(bytes.fromhex(text))
    return made


def test_the_example_of_the_format() -> None:
    """25.06 Cel and 50.55 % of humidity, whose code is of the private partition."""
    assert Bthome().feed(PLAIN) == [Sample(measurements=CLIMATE, frame=PLAIN)]


def test_the_example_of_the_encryption() -> None:
    """The same objects, sealed for one address under one key."""
    assert Bthome(KEY, ADDRESS).feed(SEALED) == [Sample(measurements=CLIMATE, frame=SEALED)]


@pytest.mark.parametrize(
    ("decoder", "frame", "reason"),
    [
        (Bthome(), SEALED, "encrypted, and no key is known"),
        (Bthome(KEY, ADDRESS), PLAIN, "not encrypted, though this device has a key"),
        (Bthome(KEY, ADDRESS), SEALED[:8], "counter or check is cut off"),
        (Bthome(KEY, bytes(6)), SEALED, "check is wrong: another key or address, or a changed frame"),
        (
            Bthome(KEY, ADDRESS),
            SEALED[:1] + b"\xa5" + SEALED[2:],
            "check is wrong: another key or address, or a changed frame",
        ),
    ],
)
def test_a_frame_that_cannot_be_opened_is_damaged(decoder: Bthome, frame: bytes, reason: str) -> None:
    """Neither an encrypted frame nor a plain one in its place is believed without the key."""
    assert decoder.feed(frame) == [Damaged(frame=frame, reason=reason)]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("40 02 ca09", "25.06"),
        ("40 45 1101", "27.3"),
        ("40 57 ea", "-22"),
        ("40 58 ea", "-7.70"),
        ("40 02 0080", "-327.68"),
    ],
)
def test_every_form_of_temperature(text: str, value: str) -> None:
    """Four objects of different sizes and steps, each with the digits that it has."""
    sample = decode(text)
    assert isinstance(sample, Sample)
    assert [str(each.value) for each in sample.measurements] == [value]


def test_battery_and_time() -> None:
    """97 %, low, 2023-06-18 11:28:29, after a packet number and before a text."""
    sample = decode("40 0009 0161 1501 50 5de98e64 53 02 6869")
    assert isinstance(sample, Sample)
    assert sample.measurements == (Measurement(67996, 97, "%"),)
    assert sample.device_time_ms == 0x648EE95D * 1000
    assert sample.flags == ("low-battery", "device-clock")


def test_an_unknown_object_ends_what_can_be_read() -> None:
    """What stood before it is sound; its size is not known."""
    sample = decode("40 02 ca09 ef 0102")
    assert isinstance(sample, Sample)
    assert sample.measurements == CLIMATE[:1]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "device information is missing or not of version 2"),
        ("2002ca09", "device information is missing or not of version 2"),
        ("4002ca", "temperature is cut off: 1 of 2 bytes"),
        ("4003bf", "humidity is cut off: 1 of 2 bytes"),
        ("40530541", "text or raw object is cut off: 1 of 5 bytes"),
    ],
)
def test_a_frame_that_breaks_the_format_is_damaged(text: str, reason: str) -> None:
    """The reason names the object, and the bytes are kept."""
    assert decode(text) == Damaged(frame=bytes.fromhex(text), reason=reason)


@settings(deadline=None)
@given(st.integers(-0x8000, 0x7FFF))
def test_every_temperature_is_exact(hundredths: int) -> None:
    """Hundredths of a degree of both signs."""
    frame = b"\x40\x02" + hundredths.to_bytes(2, "little", signed=True)
    value = Decimal(hundredths).scaleb(-2)
    assert Bthome().feed(frame) == [Sample(measurements=(Measurement(188508, value, "Cel"),), frame=frame)]


def sealed(counter: int) -> bytes:
    return seal_bthome([(Object.TEMPERATURE_CENTI, Decimal("25.06"))], key=KEY, address=ADDRESS, counter=counter)


def test_counter_that_goes_back_is_flagged() -> None:
    """A device that was reset, or an old frame sent again by somebody else, is not silently taken for new."""
    decoder = Bthome(KEY, ADDRESS)
    flags = []
    for counter in (7, 8, 8, 3, 4):
        (sample,) = decoder.feed(sealed(counter))
        assert isinstance(sample, Sample)
        flags.append(sample.flags)
    assert flags == [(), (), (), ("counter-went-back",), ()]


@pytest.mark.parametrize(("frame", "numbered"), [(PLAIN, False), (SEALED, True), (b"\x40\x00\x07", True), (b"", False)])
def test_frames_that_bear_a_number_are_known(frame: bytes, numbered: bool) -> None:  # noqa: FBT001 - a table
    """By the counter of the encryption, or a packet id: equal frames are then one measurement, however late."""
    assert is_numbered(frame) == numbered
