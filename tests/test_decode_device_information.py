import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.decode.device_information import DEVICE_INFORMATION, read_information


@pytest.mark.parametrize(
    ("characteristic", "name"),
    [
        ("2a29", "manufacturer"),
        ("2a24", "model"),
        ("2a25", "serial"),
        ("2a26", "firmware"),
        ("2a27", "hardware"),
        ("2a28", "software"),
    ],
)
def test_a_text_has_its_name(characteristic: str, name: str) -> None:
    """The names of the Device Information Service's strings."""
    assert read_information(characteristic, b"Polar Electro Oy") == (name, "Polar Electro Oy")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (b"H10\0\0", "H10"),
        (b"\x1b[31mH10\x07\r\n", "[31mH10"),
        ("Thermomètre µ".encode(), "Thermomètre µ"),
        ("a\u202eb\u2028c\u200bd".encode(), "abcd"),
        (b"\xff\xfeX", "\ufffd\ufffdX"),
        (b"x" * 70, "x" * 64),
        (b"x" * 63 + b" y", "x" * 63),
    ],
)
def test_a_text_is_printable_and_short(value: bytes, text: str) -> None:
    """NUL, control characters and marks of direction are left out; 64 characters are enough."""
    assert read_information("2a24", value) == ("model", text)


@pytest.mark.parametrize("value", [b"", b"\0\0", b" \r\n"])
def test_an_empty_text_says_nothing(value: bytes) -> None:
    """Nothing printable, nothing said."""
    assert read_information("2a29", value) is None


@pytest.mark.parametrize(
    ("characteristic", "text", "expected"),
    [
        ("2a23", "debc9afeff563412", ("system-id", "123456fffe9abcde")),
        ("2a50", "015d0001000101", ("pnp-id", "Bluetooth 005d:0001 v1.0.1")),
        ("2a50", "025c0a34120001", ("pnp-id", "USB 0a5c:1234 v1.0")),
        ("2a50", "025c0a34121302", ("pnp-id", "USB 0a5c:1234 v2.1.3")),
        ("2a50", "075c0a34120001", ("pnp-id", "source 7 0a5c:1234 v1.0")),
        ("2a23", "debc9afeff5634", None),
        ("2a50", "025c0a341200", None),
        ("2a19", "64", None),
    ],
)
def test_numbers_are_written_as_their_specifications_do(
    characteristic: str, text: str, expected: tuple[str, str] | None
) -> None:
    """The Supplement's System ID, OUI 123456 and 9ABCDE; versions JJMN of Device ID, 0213 is 2.1.3; wrong sizes."""
    assert read_information(characteristic, bytes.fromhex(text)) == expected


@settings(deadline=None)
@given(characteristic=st.sampled_from(DEVICE_INFORMATION) | st.text(max_size=5), value=st.binary(max_size=520))
def test_no_value_raises(characteristic: str, value: bytes) -> None:
    """Whatever a device says is nothing, or a name and a printable text."""
    said = read_information(characteristic, value)
    assert said is None or (said[1].isprintable() and 0 < len(said[1]) <= 64)
