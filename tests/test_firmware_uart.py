import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_stubs.uart import mishear

SPEEDS = st.sampled_from((4800, 9600, 19_200, 38_400, 115_200))


@given(st.binary(max_size=40), SPEEDS)
def test_at_the_same_speed_everything_is_heard(data: bytes, baud: int) -> None:
    """Every byte, whatever its bits and its neighbours."""
    assert mishear(data, sent_baud=baud, heard_baud=baud) == data


@given(st.binary(max_size=40), SPEEDS)
def test_a_clock_that_is_two_per_cent_off_does_no_harm(data: bytes, baud: int) -> None:
    """As with real crystals: the middle of each bit is still met."""
    assert mishear(data, sent_baud=baud, heard_baud=round(baud * 1.02)) == data


@pytest.mark.parametrize(
    ("sent_baud", "heard_baud", "heard"),
    [(9600, 19_200, "66e6"), (19_200, 9600, "ff"), (9600, 115_200, "0000000000")],
)
def test_at_another_speed_it_is_garbage(sent_baud: int, heard_baud: int, heard: str) -> None:
    """More bytes where the receiver is faster, fewer where it is slower, and always the same."""
    assert mishear(b"\x55", sent_baud=sent_baud, heard_baud=heard_baud).hex() == heard


@given(st.binary(max_size=200), SPEEDS, SPEEDS)
def test_it_always_ends(data: bytes, sent_baud: int, heard_baud: int) -> None:
    """No signal keeps the receiver from coming to its end, and no more bytes are heard than there was time for."""
    heard = mishear(data, sent_baud=sent_baud, heard_baud=heard_baud)

    assert len(heard) <= len(data) * max(1, heard_baud / sent_baud) + 1
