"""`iomt simulate` as a person uses it: simulated sensors, a gateway that hears them, Ctrl-C."""

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.cli import main
from tests.processes import Process, Site, type_iomt, wait_for


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path, sensors=0)
    site.broker.start()
    yield site
    site.end()


def simulated(folder: Path, *options: object) -> tuple[Process, dict[str, object]]:
    """Start it, and give what it says first."""
    command = [sys.executable, "-m", "gateway", "simulate", "--json", "--folder", folder / "sim", *options]
    process = Process(folder / "simulate.log", *command)
    process.start()
    line = process.first_line()
    assert line, process.log.read_text()
    return process, json.loads(line)


def test_a_ward_is_simulated_onboarded_and_heard(site: Site) -> None:
    """Two straps and an oximeter on a line, onboarded by one command, are heard by a gateway as real ones would be."""
    kinds = ("--devices", 2, "--profile", "heart-rate-strap", "--profile", "nonin-oem-iii-df2")
    process, said = simulated(site.folder, *kinds, "--speed", 5, "--state", site.state)
    try:
        site.gateway.environment = {**os.environ, "DBUS_SYSTEM_BUS_ADDRESS": str(said["bus"])}
        site.start_gateway()
        wait_for("readings of each", lambda: [each["readings"] > 1 for each in site.status()["devices"]] == [True] * 4)
    finally:
        assert process.end(signal.SIGINT) == 0
    devices = [json.loads(line) for line in type_iomt("device", "list", "--state", site.state, "--json").splitlines()]
    sensors = said["sensors"]
    assert isinstance(sensors, list)
    assert [device["address"] for device in devices] == [sensor["address"] for sensor in sensors]


def test_what_is_onboarded_already_stays(site: Site) -> None:
    """A second run with the same folder enrols nothing twice."""
    for _ in range(2):
        process, _ = simulated(site.folder, "--profile", "masimo-rad-8", "--state", site.state)
        assert process.end(signal.SIGTERM) == 0
    assert len(type_iomt("device", "list", "--state", site.state, "--json").splitlines()) == 1


def test_kind_without_a_stub_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """The error names what there is."""
    assert main.run(["simulate", "--profile", "none-such"]) == 2
    assert "profile 'none-such' is not known; allowed: " in capsys.readouterr().err
