from pathlib import Path

import pytest

import device_profiles
from gateway.decode import DECODERS
from gateway.profile import Profile, load_profile

FILES = sorted(Path(device_profiles.__file__).parent.glob("*.toml"))


def load(path: Path) -> Profile:
    return load_profile(path.read_text(), path.name, frozenset(DECODERS))


def find(name: str | None, services: tuple[str, ...] = ()) -> set[str]:
    return {path.stem for path in FILES if load(path).recognises_ble(name, services)}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_profile_is_sound(path: Path) -> None:
    """It is named as its file, says something to recognise or a line to open, and has ranges that hold a value."""
    profile = load(path)
    assert profile.name == path.stem
    kinds = {"ble": ("gatt.", "serial.iomt_frame"), "advertisement": ("adv.",), "serial": ("serial.",)}
    assert profile.decoder.startswith(kinds[profile.transport])
    assert profile.transport == "serial" or profile.services or profile.names or profile.manufacturers
    assert profile.quiet_s <= (120 if profile.intermittent else 3 * profile.period_s)
    assert all(vital.low < vital.high for vital in profile.vitals)
    assert len(profile.ranges) == len(profile.vitals)


def test_there_are_at_least_twenty() -> None:
    """What a person can buy."""
    assert len(FILES) >= 20


@pytest.mark.parametrize(
    ("name", "services", "profiles"),
    [
        ("Polar H10 75340F2C", ("180d",), {"polar-h10", "heart-rate-strap"}),
        ("HRM-Pro:677868", (), {"garmin-hrm-pro"}),
        ("A&D_UA-651BLE_87DF1B", ("00001810-0000-1000-8000-00805f9b34fb",), {"and-ua-651ble", "blood-pressure-cuff"}),
        ("meter+06647277", ("1808",), {"accu-chek-guide", "glucose-meter"}),
        ("Contour7830H8131997", (), {"contour-next-one"}),
        ("something else", ("180f",), set()),
        (None, (), set()),
    ],
)
def test_an_advertisement_finds_its_profiles(name: str | None, services: tuple[str, ...], profiles: set[str]) -> None:
    """Names as real devices were seen to advertise them."""
    assert find(name, services) == profiles
