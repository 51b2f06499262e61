import struct
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.decode import DECODERS, Learner
from gateway.model import Damaged, Measurement, Sample


def decode(text: str) -> Sample | Damaged:
    (made,) = DECODERS["gatt.heart_rate"]().feed(bytes.fromhex(text))
    return made


def test_rate_and_intervals() -> None:
    """Rate first, then each RR interval, oldest first, as exact milliseconds."""
    assert decode("1649 3403 0004") == Sample(
        measurements=(
            Measurement(147842, 73, "/min"),
            Measurement(147240, Decimal("800.78125"), "ms"),
            Measurement(147240, Decimal(1000), "ms"),
        ),
        frame=bytes.fromhex("164934030004"),
    )


@pytest.mark.parametrize(("text", "flags"), [("0048", ()), ("0248", ()), ("0448", ("no-contact",)), ("0648", ())])
def test_contact_is_judged_only_where_the_strap_can_tell(text: str, flags: tuple[str, ...]) -> None:
    """Contact is missing when bit 2 (supported) is set and bit 1 (detected) is not."""
    sample = decode(text)
    assert isinstance(sample, Sample)
    assert sample.flags == flags


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "heart rate is missing"),
        ("00", "heart rate is missing"),
        ("0148", "heart rate is cut off: 1 of 2 bytes"),
        ("0848", "energy expended is cut off: 0 of 2 bytes"),
        ("084801", "energy expended is cut off: 1 of 2 bytes"),
        ("1048", "RR interval is missing"),
        ("10483403ff", "RR interval is cut off: 1 of 2 bytes"),
        ("004801", "1 bytes after the last field"),
    ],
)
def test_a_frame_that_breaks_the_format_is_damaged(text: str, reason: str) -> None:
    """The reason names the field, and the bytes are kept."""
    assert decode(text) == Damaged(frame=bytes.fromhex(text), reason=reason)


def test_reserved_flags_may_announce_more() -> None:
    """A field of a later version of the service is left to the kept frame."""
    sample = decode("20480102")
    assert isinstance(sample, Sample)
    assert sample.measurements == (Measurement(147842, 72, "/min"),)


def test_energy_stands_before_the_intervals() -> None:
    """Android-BLE-Common-Library's frame: 85 /min, 50 kJ, one interval of 33/1024 s."""
    sample = decode("1e55 3200 2100")
    assert isinstance(sample, Sample)
    assert sample.measurements == (
        Measurement(147842, 85, "/min"),
        Measurement(8454263, 50, "kJ"),
        Measurement(147240, Decimal("32.2265625"), "ms"),
    )


@pytest.mark.parametrize(
    ("location", "flags"),
    [
        ("00", ()),
        ("01", ("site-chest",)),
        ("02", ("site-wrist",)),
        ("03", ("site-finger",)),
        ("04", ("site-hand",)),
        ("05", ("site-ear-lobe",)),
        ("06", ("site-foot",)),
        ("07", ()),
        ("ff", ()),
    ],
)
def test_where_the_sensor_sits_is_learnt(location: str, flags: tuple[str, ...]) -> None:
    """Body Sensor Location as the Heart Rate Service lists it: 0 is another place, 7 and more are reserved."""
    decoder = DECODERS["gatt.heart_rate"]()
    assert isinstance(decoder, Learner)
    decoder.learn("2a38", bytes.fromhex(location))
    made = decoder.feed(b"\x04\x48") + decoder.feed(b"\x00\x48")
    assert [each.flags for each in made if isinstance(each, Sample)] == [("no-contact", *flags), flags]


@settings(deadline=None)
@given(characteristic=st.text(max_size=5) | st.just("2a38"), value=st.binary(max_size=3))
def test_garbage_teaches_nothing(characteristic: str, value: bytes) -> None:
    """A value of another size, or of another characteristic, leaves what was learnt."""
    decoder = DECODERS["gatt.heart_rate"]()
    assert isinstance(decoder, Learner)
    decoder.learn("2a38", b"\x01")
    decoder.learn(characteristic, value)
    (sample,) = decoder.feed(b"\x00\x48")
    assert isinstance(sample, Sample)
    assert sample.flags == ("site-chest",) or (characteristic == "2a38" and len(value) == 1)


@settings(deadline=None)
@given(
    rate=st.integers(0, 0xFFFF),
    energy=st.none() | st.integers(0, 0xFFFF),
    ticks=st.lists(st.integers(0, 0xFFFF), max_size=9),
)
def test_what_a_strap_packs_comes_back(rate: int, energy: int | None, ticks: list[int]) -> None:
    """Every rate, width, optional field and number of intervals, exact to the 1/1024 s."""
    flags = (rate > 0xFF) | (energy is not None) << 3 | bool(ticks) << 4
    frame = struct.pack("<BH" if rate > 0xFF else "<BB", flags, rate)
    frame += b"" if energy is None else struct.pack("<H", energy)
    frame += struct.pack(f"<{len(ticks)}H", *ticks)
    (sample,) = DECODERS["gatt.heart_rate"]().feed(frame)
    assert isinstance(sample, Sample)
    first, *others = sample.measurements
    assert first == Measurement(147842, rate, "/min")
    spent, intervals = (others[:1], others[1:]) if energy is not None else ([], others)
    assert spent == ([] if energy is None else [Measurement(8454263, energy, "kJ")])
    assert [Fraction(interval.value) for interval in intervals if isinstance(interval.value, Decimal)] == [
        Fraction(1000 * tick, 1024) for tick in ticks
    ]
