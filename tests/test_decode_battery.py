import pytest

from gateway.decode import DECODERS
from gateway.model import Damaged, Measurement, Sample


@pytest.mark.parametrize("level", [0, 42, 100])
def test_a_level_is_per_cent(level: int) -> None:
    """0 to 100."""
    frame = bytes((level,))
    assert DECODERS["gatt.battery"]().feed(frame) == [
        Sample(measurements=(Measurement(67996, level, "%"),), frame=frame)
    ]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "battery level is cut off: 0 of 1 bytes"),
        ("65", "battery level 101 is reserved"),
        ("6400", "1 bytes after the last field"),
    ],
)
def test_what_is_no_level_is_damaged(text: str, reason: str) -> None:
    """101 to 255 are reserved."""
    frame = bytes.fromhex(text)
    assert DECODERS["gatt.battery"]().feed(frame) == [Damaged(frame=frame, reason=reason)]
