import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.decode.features import describe_feature

KNOWN = ("2a49", "2a51", "2a60", "2aa8", "2a9e", "2a9b", "2a21", "2a1d", "2a38")


@pytest.mark.parametrize(
    ("characteristic", "text", "names"),
    [
        ("2a49", "0000", ()),
        ("2a49", "1500", ("body-movement", "irregular-pulse", "position")),
        ("2a49", "2aff", ("cuff-fit", "pulse-rate-range", "multiple-bonds", "user-facing-time")),
        ("2a51", "2304", ("low-battery", "sensor-fault", "measurable-range", "multiple-bonds")),
        ("2a60", "4800", ("time-stamp", "pulse-amplitude-index")),
        (
            "2a60",
            "b7ff e0ff ffff00",
            (
                "measurement-status",
                "sensor-status",
                "stored-spot-checks",
                *("fast-values", "slow-values", "multiple-bonds"),
            ),
        ),
        ("2a9e", "3f000000", ("time-stamp", "multiple-users", "body-mass-index", "weight-step-0.005-kg")),
        ("2a9e", "98010000", ("weight-step-0.1-kg", "height-step-0.001-m")),
        ("2a9b", "00000000", ()),
        (
            "2a9b",
            "ff270100",
            (
                *("time-stamp", "multiple-users", "basal-metabolism", "muscle-percentage", "muscle-mass"),
                *("fat-free-mass", "soft-lean-mass", "body-water-mass", "impedance", "weight", "height"),
                *("mass-step-0.05-kg", "height-step-0.005-m"),
            ),
        ),
        ("2a21", "3c00", ("every-60-s",)),
        ("2a21", "0000", ("no-interval",)),
        ("2a1d", "03", ("site-ear",)),
        ("2a38", "01", ("site-chest",)),
        ("2a38", "00", ()),
    ],
)
def test_each_bit_has_its_name(characteristic: str, text: str, names: tuple[str, ...]) -> None:
    """Bits by the Supplement (oesmith/gatt-xml keeps its tables) and, 6 to 8 of 2A49, Blood Pressure Service 1.1."""
    assert describe_feature(characteristic, bytes.fromhex(text)) == names


def test_the_features_of_a_cgm() -> None:
    """Android-BLE-Common-Library's value, and what that test asserts of it; a wrong CRC says nothing."""
    assert describe_feature("2aa8", bytes.fromhex("6e9e01168ac1")) == (
        *("patient-limits", "hypo-alert", "hyper-alert", "device-alert", "sensor-fault", "low-battery", "sensor-type"),
        *("device-fault", "e2e-crc", "trend", "quality"),
    )
    assert describe_feature("2aa8", bytes.fromhex("6e9e0116afbe")) == ()


@pytest.mark.parametrize("characteristic", KNOWN)
def test_a_value_that_is_cut_off_says_nothing(characteristic: str) -> None:
    """No byte is guessed."""
    assert describe_feature(characteristic, b"") == ()


@settings(deadline=None)
@given(characteristic=st.sampled_from(KNOWN) | st.text(max_size=5), value=st.binary(max_size=12))
def test_no_value_raises(characteristic: str, value: bytes) -> None:
    """Whatever a device says becomes short names without a space, each but once."""
    names = describe_feature(characteristic, value)
    assert len(set(names)) == len(names)
    assert all(name == "".join(name.split()).lower() and len(name) < 32 for name in names)
