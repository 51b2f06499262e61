"""Sensors of every kind heard by a real gateway, from the simulated radio and line to readings that verify."""

import json
import os
import signal
import subprocess
import sys
import tty
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from gateway import canonical
from gateway.cli import main
from gateway.io.store.readings import payload_of
from gateway.model import EventKind, Reading
from tests.processes import ROOT, Process, Site, type_iomt, wait_for

PROFILES = (
    "heart-rate-strap",
    "pulse-oximeter-plx",
    "pulse-oximeter-plx-spot",
    "thermometer",
    "blood-pressure-cuff",
    "glucose-meter",
    "cgm-sensor",
    "weight-scale",
    "bthome-thermometer",
    "nonin-oem-iii-df2",
    "nonin-xpod-df7",
    "nonin-wristox2-df8",
    "contec-cms50d-plus",
    "contec-cms50e",
    "masimo-rad-8",
)
SENSOR = ROOT / "firmware_stubs" / "c" / "build" / "sensor"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path, sensors=0)
    site.broker.start()
    for peer in site.peers.values():
        peer.start()
    yield site
    site.end()


def readings_of(site: Site, device: str | None = None) -> list[Reading]:
    with site.store() as store:
        leaves = store.latest("reading", device, 100_000)
        return [canonical.decode_reading(payload_of(leaf.data)) for leaf in reversed(leaves)]


def gaps_of(site: Site) -> list[dict[str, object]]:
    with site.store() as store:
        return [dict(event.details) for _, event in store.events() if event.kind is EventKind.GAP]


def test_every_kind_of_sensor_is_heard(site: Site) -> None:
    """Fifteen kinds, onboarded and followed at once: each gives readings with its own code, none a damaged frame."""
    kinds = [part for name in PROFILES for part in ("--profile", name)]
    options = ("--json", "--folder", site.folder / "sim", "--state", site.state, "--speed", 5, *kinds)
    with (site.state / "gateway.toml").open("a") as config:
        config.write("[radio]\nslots = 20\n")
    simulated = Process(site.folder / "sim.log", sys.executable, "-m", "gateway", "simulate", *options)
    simulated.start()
    try:
        said = json.loads(simulated.first_line())
        site.gateway.environment = {**os.environ, "DBUS_SYSTEM_BUS_ADDRESS": said["bus"]}
        site.start_gateway()

        def silent() -> list[str]:
            return [device["profile"] for device in site.status()["devices"] if not device["readings"]]

        wait_for("readings of each", lambda: not silent(), 60)
        devices = {device["profile"]: device for device in site.status()["devices"]}
    finally:
        assert simulated.end(signal.SIGINT) == 0
    radio = {name: devices[name]["damaged"] for name in PROFILES[:9]}
    assert radio == dict.fromkeys(PROFILES[:9], 0)
    assert all(devices[name]["damaged"] <= 1 for name in PROFILES[9:])  # a line is joined in the middle of a frame
    assert site.gateway.end() == 0
    assert set(site.audit().readings) == {device["id"] for device in devices.values()}


def test_loss_and_return_of_a_sensor_stand_in_the_chain(site: Site) -> None:
    """A strap whose radio goes and comes again leaves two gap events, for as long as it was away."""
    radio = [sys.executable, "-m", "firmware_stubs.radio", "--folder", site.folder / "radio", "--speed", 5]
    strap = ("--sensor", "heart_rate:C0:FF:EE:00:00:01:ppg_2min")
    device = ("--address", "C0:FF:EE:00:00:01", "--profile", "heart-rate-strap", "--id", "strap-1")
    type_iomt("device", "add", "--state", site.state, *device, "--yes", "--no-reading")
    bus = f"unix:path={site.folder}/radio/bus"
    site.gateway.environment = {**os.environ, "DBUS_SYSTEM_BUS_ADDRESS": bus}
    first = Process(site.folder / "radio.log", *radio, *strap)
    first.start()
    first.first_line()
    site.start_gateway()
    site.await_status("readings", 2)
    first.end(signal.SIGKILL)
    (lost,) = wait_for("the loss", lambda: gaps_of(site))
    before = site.status()["readings"]
    second = Process(site.folder / "radio.log", *radio, *strap)
    second.start()
    second.first_line()
    site.await_status("readings", before + 1)
    _, back = wait_for("the return", lambda: gaps if len(gaps := gaps_of(site)) > 1 else [])
    second.end()
    assert lost["why"] == back["why"] != ""
    assert "to" not in lost
    last = [reading.at.real_ms for reading in readings_of(site, "strap-1")]
    assert back["from"] == lost["from"]
    assert back["from"] in last
    assert [at for at in last if int(str(back["from"])) < at < int(str(back["to"]))] == []


# -- sensors that sign themselves


@dataclass
class Firmware:
    """The C sensor, at the far side of a pseudo terminal whose near side is `port`."""

    command: list[str]
    public_key: str
    port: Path
    far: int
    process: "subprocess.Popen[bytes] | None" = None

    def start(self) -> None:
        """Switch it on."""
        command = [*self.command, "--port", "-", "--period-ms", "100"]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self.far)


@pytest.fixture
def firmware(tmp_path: Path) -> Iterator[Firmware]:
    subprocess.run(["make", "--silent", "-C", str(SENSOR.parent.parent)], check=True, stdin=subprocess.DEVNULL)
    command = [str(SENSOR), "--id", "oximeter-7", "--key", str(tmp_path / "sensor.key")]
    said = subprocess.run([*command, "--public-key"], check=True, capture_output=True, text=True)
    far, near = os.openpty()
    tty.setraw(near)
    port = tmp_path / "usb-sensor"
    port.symlink_to(os.ttyname(near))
    sensor = Firmware(command, said.stdout.strip(), port, far)
    yield sensor
    if sensor.process is not None:
        sensor.process.kill()
        sensor.process.wait()
    os.close(far)
    os.close(near)


def test_statements_of_a_sensor_are_kept_and_verified(site: Site, firmware: Firmware) -> None:
    """The C firmware signs, the gateway checks each statement, and whoever has the reading checks it again."""
    public_key = firmware.public_key
    firmware.start()
    device = ("--address", firmware.port, "--profile", "iomt-sensor-serial", "--id", "oximeter-7")
    type_iomt("device", "add", "--state", site.state, *device, "--sensor-key", public_key, "--yes")
    site.start_gateway()
    site.await_status("readings", 3)
    site.await_certified()
    shown = json.loads(type_iomt("device", "show", "--state", site.state, "oximeter-7", "--json"))
    assert shown["sensor_key"] == public_key
    out = site.folder / "reading.cose"

    def exported() -> bool:
        return main.run(["export", "--state", str(site.state), "--device", "oximeter-7", "-o", str(out)]) == 0

    wait_for("a certified reading", exported)
    roster = site.folder / "ledger" / "roster.cose"
    said = json.loads(type_iomt("verify", out, "--roster", roster, "--json"))
    assert said["entry"]["signed_by_sensor"]
    assert all(reading.statement is not None for reading in readings_of(site, "oximeter-7"))


def test_sensor_with_another_key_is_refused(site: Site, firmware: Firmware) -> None:
    """A sensor in the place of the one that was onboarded makes no reading; its frames are kept as damaged."""
    public_key = firmware.public_key
    other = ("0" if public_key[0] != "0" else "1") + public_key[1:]
    device = ("--address", firmware.port, "--profile", "iomt-sensor-serial", "--id", "oximeter-7")
    type_iomt("device", "add", "--state", site.state, *device, "--sensor-key", other, "--yes", "--no-reading")
    firmware.start()
    site.start_gateway()
    wait_for("damage", lambda: site.status()["devices"][0]["damaged"] > 2)
    assert site.status()["devices"][0]["readings"] == 0

    def kept() -> list[str]:
        shown = type_iomt("readings", "--state", site.state, "--damaged", "--json")
        return [json.loads(line)["reason"] for line in shown.splitlines()]

    reasons = wait_for("kept frames", kept)
    assert any("the sensor's is" in reason for reason in reasons)


def test_signing_sensor_needs_its_key(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody is asked with --yes, so the option is wanted."""
    device = ["--address", "/dev/ttyUSB7", "--profile", "iomt-sensor-serial", "--yes"]
    assert main.run(["device", "add", "--state", str(site.state), *device]) == 2
    assert "allowed: --sensor-key" in capsys.readouterr().err
