"""Onboarding against the simulated radio and line, as `iomt device add` does it."""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from gateway.decode import DECODERS
from gateway.devices import NOTHING_KNOWN
from gateway.errors import Unavailable
from gateway.io.profiles import load_profiles
from gateway.onboarding import find, first_reading

PROFILES = load_profiles(frozenset(DECODERS))
STRAP, OXIMETER = "C0:FF:EE:00:00:01", "C0:FF:EE:00:00:02"
NONIN = "usb-Nonin_Medical_OEM_III_SIM001-if00"


@dataclass(frozen=True)
class Near:
    """The sensors that are near: where the serial ones are listed."""

    ports: Path


def first_line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline()


@pytest.fixture
def near(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Near]:
    """Simulate a strap and an oximeter on the radio, and an oximeter on a line."""
    radio = ["--sensor", f"heart_rate:{STRAP}:ppg_2min", "--sensor", f"plx:{OXIMETER}:ppg_rest_25s"]
    line = ["--sensor", f"nonin_df2:{NONIN}:ppg_long"]
    commands = [
        [sys.executable, "-m", "firmware_stubs.radio", "--folder", str(tmp_path / "radio"), *radio],
        [sys.executable, "-m", "firmware_stubs.line", "--folder", str(tmp_path / "by-id"), *line],
    ]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for command in commands]
    try:
        monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", json.loads(first_line(processes[0]))["bus"])
        first_line(processes[1])
        yield Near(tmp_path / "by-id")
    finally:
        for process in processes:
            process.terminate()
            process.communicate(timeout=10)


async def test_what_is_near_is_found_with_the_profile_that_fits(near: Near) -> None:
    """The serial oximeter by its port's name, the strap and the oximeter by the services that they advertise."""
    found = await find(PROFILES.values(), 2.0, None, str(near.ports))
    likeliest = {candidate.address: candidate.profiles[0] for candidate in found}
    assert likeliest == {
        str(near.ports / NONIN): "nonin-oem-iii-df2",
        STRAP: "heart-rate-strap",
        OXIMETER: "pulse-oximeter-plx",
    }


@pytest.mark.parametrize(("profile", "code"), [("heart-rate-strap", 147842), ("nonin-oem-iii-df2", 149530)])
async def test_the_first_reading_comes_from_the_sensor_itself(near: Near, profile: str, code: int) -> None:
    """One sample with a value, over the real bleak and the real pyserial."""
    address = STRAP if profile == "heart-rate-strap" else str(near.ports / NONIN)
    first = await first_reading(PROFILES[profile], address, 20.0, None, NOTHING_KNOWN)
    assert code in {measurement.code for measurement in first.sample.measurements}


async def test_a_sensor_that_is_away_is_unavailable_in_one_line(near: Near) -> None:
    """The error says which, how long was waited, and how far the link got."""
    with pytest.raises(Unavailable, match=r"no reading from C0:FF:EE:00:00:09 in 1 s; the link was last searching$"):
        await first_reading(PROFILES["heart-rate-strap"], "C0:FF:EE:00:00:09", 1.0, None, NOTHING_KNOWN)
    assert near.ports.exists()


async def test_what_a_sensor_says_of_itself_is_learnt(near: Near) -> None:
    """Maker, model and serial number come with the first reading, for the enrolment."""
    first = await first_reading(PROFILES["heart-rate-strap"], STRAP, 20.0, None, NOTHING_KNOWN)
    said = dict(first.information)
    assert (said["manufacturer"], said["serial"]) == ("Simulated", STRAP)
    assert near.ports.exists()
