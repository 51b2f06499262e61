import struct
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.decode import DECODERS
from gateway.model import Damaged, Measurement, Sample


def decode(name: str, text: str) -> Sample | Damaged:
    (made,) = DECODERS[f"gatt.plx_{name}"]().feed(bytes.fromhex(text))
    return made


def test_continuous_gives_the_normal_pair_and_the_index() -> None:
    """Fast and slow pairs are flags; the amplitude index is the perfusion index in per cent."""
    assert decode("continuous", "1f 6100 4800 6000 4900 5f00 4700 2000 000000 66e3") == Sample(
        measurements=(
            Measurement(150456, Decimal(97), "%"),
            Measurement(149530, Decimal(72), "/min"),
            Measurement(150448, Decimal("8.70"), "%"),
        ),
        frame=bytes.fromhex("1f61004800600049005f004700200000000066e3"),
        flags=("fast:150456:96", "fast:149530:73", "slow:150456:95", "slow:149530:71"),
    )


@pytest.mark.parametrize(("raw", "text"), [("cff3", "97.5"), ("5af2", "60.2"), ("ff07", "NaN"), ("2420", "3600")])
def test_a_fast_value_is_written_with_its_digits(raw: str, text: str) -> None:
    """No exponent is written, and a special is named."""
    sample = decode("continuous", f"01 6100 4800 {raw} 4900")
    assert isinstance(sample, Sample)
    assert sample.flags == (f"fast:150456:{text}", "fast:149530:73")


def test_specials_are_flags() -> None:
    """NaN for both vitals leaves no measurement and says which had none, and why."""
    sample = decode("continuous", "00 ff07 0008")
    assert isinstance(sample, Sample)
    assert sample.measurements == ()
    assert sample.flags == ("no-value:150456:NaN", "no-value:149530:NRes")


def test_status_bits_become_flags() -> None:
    """Bits that say that all is well (ongoing, validated, fully qualified) and reserved ones give none."""
    sample = decode("continuous", "0c 6100 4800 bf85 2108ff")
    assert isinstance(sample, Sample)
    assert sample.flags == ("demo-data", "invalid", "extended-update", "low-perfusion", "sensor-off")


def test_every_status_bit_that_matters_has_its_flag() -> None:
    """The names of Measurement Status 6 and 9 to 15, and of Device and Sensor Status 0 to 15, in their order."""
    sample = decode("spot_check", "06 6100 4800 ffff ffffff")
    assert isinstance(sample, Sample)
    assert sample.flags == (
        *("early-estimate", "stored", "demo-data", "test-data", "calibrating", "unavailable", "questionable"),
        *("invalid", "extended-update", "malfunction", "irregular-signal", "inadequate-signal", "poor-signal"),
        *("low-perfusion", "erratic-signal", "non-pulsatile", "questionable-pulse", "analysing", "interference"),
        *("sensor-off", "unknown-sensor", "sensor-displaced", "sensor-fault", "sensor-disconnected"),
    )


@pytest.mark.parametrize(
    ("text", "time_ms", "flags"),
    [
        ("01 6100 4800 e8070b1d170839", 1732921737000, ("device-clock",)),
        ("11 6100 4800 e8070b1d170839", None, ("unknown-time",)),
        ("01 6100 4800 e8070d1d170839", None, ("unknown-time",)),
        ("00 6100 4800", None, ()),
    ],
)
def test_a_spot_check_says_when_by_its_own_clock(text: str, time_ms: int | None, flags: tuple[str, ...]) -> None:
    """2024-11-29 23:08:57; a clock that was never set and a month 13 are no time."""
    sample = decode("spot_check", text)
    assert isinstance(sample, Sample)
    assert (sample.device_time_ms, sample.flags) == (time_ms, flags)


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("continuous", "00610048", "flags, SpO2 or pulse rate is cut off: 4 of 5 bytes"),
        ("continuous", "01610048006100", "fast pulse rate is cut off: 0 of 2 bytes"),
        ("continuous", "0261004800", "slow SpO2 is cut off: 0 of 2 bytes"),
        ("continuous", "046100480020", "measurement status is cut off: 1 of 2 bytes"),
        ("continuous", "08610048000000", "device and sensor status is cut off: 2 of 3 bytes"),
        ("continuous", "1061004800ff", "pulse amplitude index is cut off: 1 of 2 bytes"),
        ("continuous", "0061004800ff", "1 bytes after the last field"),
        ("spot_check", "", "flags, SpO2 or pulse rate is cut off: 0 of 5 bytes"),
        ("spot_check", "0161004800e8070b1d1708", "time stamp is cut off: 6 of 7 bytes"),
        ("spot_check", "0061004800ff", "1 bytes after the last field"),
    ],
)
def test_a_frame_that_breaks_the_format_is_damaged(name: str, text: str, reason: str) -> None:
    """The reason names the field, and the bytes are kept."""
    assert decode(name, text) == Damaged(frame=bytes.fromhex(text), reason=reason)


def test_reserved_flags_may_announce_more() -> None:
    """A field of a later version of the service is left to the kept frame."""
    sample = decode("continuous", "20 6100 4800 ff")
    assert isinstance(sample, Sample)
    assert len(sample.measurements) == 2


@settings(deadline=None)
@given(
    spo2=st.integers(0, 2000),
    rate=st.integers(0, 2000),
    exponent=st.integers(-8, 7),
    flags=st.integers(0, 0x1F),
)
def test_what_an_oximeter_packs_comes_back(spo2: int, rate: int, exponent: int, flags: int) -> None:
    """The normal pair is found whatever optional fields follow it."""
    words = [(exponent & 0xF) << 12 | mantissa for mantissa in (spo2, rate)]
    sizes = {0x01: 4, 0x02: 4, 0x04: 2, 0x08: 3, 0x10: 2}
    frame = struct.pack("<BHH", flags, *words) + bytes(sum(size for bit, size in sizes.items() if flags & bit))
    (sample,) = DECODERS["gatt.plx_continuous"]().feed(frame)
    assert isinstance(sample, Sample)
    assert sample.measurements[:2] == (
        Measurement(150456, Decimal(spo2).scaleb(exponent), "%"),
        Measurement(149530, Decimal(rate).scaleb(exponent), "/min"),
    )
