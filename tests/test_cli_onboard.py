"""`iomt device add` with sensors on a simulated radio that lives in a thread of its own."""

import asyncio
import dataclasses
import json
import stat
import threading
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import TypeVar

import pytest
from click.testing import CliRunner

from firmware_stubs.blood_pressure import blood_pressure_cuff
from firmware_stubs.bluez import Bluez
from firmware_stubs.bthome import Object, bthome_logger, seal_bthome
from firmware_stubs.bus import PrivateBus
from firmware_stubs.device import Device
from firmware_stubs.line import Line
from firmware_stubs.peripheral import Peripheral, uuid_of
from firmware_stubs.physiology import wearer
from firmware_stubs.sensors import SENSORS, heart_rate_monitor, wear
from gateway.cli.main import iomt
from gateway.errors import Unavailable, VerificationError
from gateway.io import keyring
from tests.processes import type_iomt
from tests.states import init_gateway
from tests.tomls import bonding_strap

ADDRESS = "C0:FF:EE:00:00:01"
BTHOME = uuid_of(0xFCD2)
BIND_KEY = bytes(range(16))
LIMIT_S = 20.0
Result = TypeVar("Result")


class Thread:
    """A radio in a thread of its own, since a command has an event loop of its own."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._loop = asyncio.new_event_loop()
        self._bluez: Bluez | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._thread = threading.Thread(target=self._loop.run_forever)

    def start(self) -> None:
        """Be there."""
        self._thread.start()
        self._wait(self._enter())

    def stop(self) -> None:
        """Be gone."""
        self._wait(self._leave())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(LIMIT_S)
        self._loop.close()

    def add(self, peripheral: Peripheral, kind: str | None = None) -> Device:
        """Bring a device within reach, worn by a person where a kind is given."""
        return self.do(lambda bluez: self._add(bluez, peripheral, kind))

    def do(self, call: Callable[[Bluez], Result]) -> Result:
        """Do something in the radio's thread, and wait for it."""

        async def run() -> Result:
            assert self._bluez is not None
            return call(self._bluez)

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(LIMIT_S)

    def _add(self, bluez: Bluez, peripheral: Peripheral, kind: str | None) -> Device:
        device = bluez.add(peripheral)
        if kind is not None:
            work = wear(device, SENSORS[kind], wearer("rest"), speed=5.0)
            self._tasks.append(self._loop.create_task(work))
        return device

    def _wait(self, work: "asyncio.coroutines.Coroutine[object, object, None]") -> None:  # type: ignore[name-defined]
        asyncio.run_coroutine_threadsafe(work, self._loop).result(LIMIT_S)

    async def _enter(self) -> None:
        self._bluez = await Bluez(self._address).__aenter__()

    async def _leave(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        assert self._bluez is not None
        await self._bluez.__aexit__(None, None, None)


@pytest.fixture
def radio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Thread]:
    with PrivateBus(tmp_path / "bus") as bus:
        monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", bus.address)
        thread = Thread(bus.address)
        thread.start()
        yield thread
        thread.stop()


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return init_gateway(tmp_path / "gw")


def add(state: Path, profile: str, *options: object, answers: str | None = None) -> str:
    """Type `iomt device add` and the answers; give what was shown, both streams together."""
    arguments = ["device", "add", "--state", state, "--address", ADDRESS, "--profile", profile, *options]
    asked = [] if answers else ["--yes"]
    done = CliRunner().invoke(
        iomt, [str(argument) for argument in (*arguments, *asked)], input=answers, prog_name="iomt"
    )
    if done.exception is not None:
        raise done.exception
    return done.output


def shown(state: Path, name: str) -> dict[str, object]:
    record: dict[str, object] = json.loads(type_iomt("device", "show", "--state", state, name, "--json"))
    return record


def own_profile(state: Path, bonding: str) -> None:
    """Write a profile of a strap that bonds, as a person would."""
    (state / "profiles").mkdir()
    (state / "profiles" / "strap.toml").write_text(bonding_strap(bonding))


def test_number_that_is_equal_bonds(radio: Thread, state: Path) -> None:
    """The number is shown, the person says yes, and the enrolment says how the bond was made."""
    own_profile(state, "authenticated")
    radio.add(dataclasses.replace(heart_rate_monitor(ADDRESS), pairing="numeric", passkey=123456), "heart_rate")
    told = add(state, "strap", answers="y\nstrap-1\ny\n")
    assert "does the device show 123456?" in told
    assert "first reading of C0:FF:EE:00:00:01: heart rate" in told
    enrolled = shown(state, "strap-1")
    assert enrolled["bond"] == "authenticated"
    information = enrolled["information"]
    assert isinstance(information, dict)
    assert information["manufacturer"] == "Simulated"


def test_number_that_differs_bonds_with_nobody(radio: Thread, state: Path) -> None:
    """A person who says no enrols nothing."""
    own_profile(state, "authenticated")
    radio.add(dataclasses.replace(heart_rate_monitor(ADDRESS), pairing="numeric", passkey=123456), "heart_rate")
    with pytest.raises(VerificationError, match="the numbers differ"):
        add(state, "strap", answers="n\n")
    assert not (state / "readings.db").exists()


def test_number_that_the_device_shows_is_asked_for(radio: Thread, state: Path) -> None:
    """A device with a display: what it shows is typed here."""
    own_profile(state, "required")
    radio.add(dataclasses.replace(heart_rate_monitor(ADDRESS), pairing="passkey-display", passkey=4711), "heart_rate")
    told = add(state, "strap", answers="004711\nstrap-1\ny\n")
    assert "the number that the device shows" in told
    assert shown(state, "strap-1")["bond"] == "authenticated"


def test_fault_27_pairing_downgrade_enrols_nothing(radio: Thread, state: Path) -> None:
    """A device that suddenly offers no number, where its kind has one, is refused and its bond removed."""
    own_profile(state, "authenticated")
    device = radio.add(dataclasses.replace(heart_rate_monitor(ADDRESS), pairing="numeric"), "heart_rate")
    device.faults.downgraded = True
    with pytest.raises(VerificationError, match="a pairing downgrade"):
        add(state, "strap")
    assert not radio.do(lambda _: device.bonded)
    assert not (state / "readings.db").exists()


def test_device_that_would_better_bond_is_taken_with_a_warning(radio: Thread, state: Path) -> None:
    """Where a bond is wanted and the device has none to give, it is enrolled, and the person is told what follows."""
    own_profile(state, "wanted")
    radio.add(heart_rate_monitor(ADDRESS), "heart_rate")
    assert "its readings will carry the flag unauthenticated-link" in add(state, "strap", "--id", "strap-1")
    assert shown(state, "strap-1")["bond"] == ""


def test_measurement_of_onboarding_is_kept(radio: Thread, state: Path) -> None:
    """A cuff sends a measurement once: that which shows that it works becomes its first reading."""
    radio.add(blood_pressure_cuff(ADDRESS), "blood_pressure")
    told = add(state, "blood-pressure-cuff", "--id", "cuff-1")
    assert "take a measurement with it now" in told
    readings = type_iomt("readings", "--state", state, "--device", "cuff-1", "--json").splitlines()
    values = json.loads(readings[0])["measurements"]
    assert {value["code"] for value in values} >= {150021, 150022}


def test_encrypted_advertisements_are_opened_with_their_key(radio: Thread, state: Path, tmp_path: Path) -> None:
    """The key is taken from a file, kept where only its owner reads it, and stands in no event."""
    file = tmp_path / "key"
    file.write_text(BIND_KEY.hex() + "\n")
    data = seal_bthome(
        [(Object.TEMPERATURE_CENTI, Decimal("4.52"))], key=BIND_KEY, address=bytes.fromhex("C0FFEE000001"), counter=7
    )
    radio.add(dataclasses.replace(bthome_logger(ADDRESS), service_data={BTHOME: data}))
    told = add(state, "bthome-thermometer", "--id", "fridge-1", "--bind-key-file", file)
    assert "first reading of C0:FF:EE:00:00:01: ambient temperature 4.52 Cel" in told, told
    kept = state / keyring.BIND_KEYS / "fridge-1.key"
    assert (kept.read_bytes(), stat.S_IMODE(kept.stat().st_mode)) == (BIND_KEY, 0o600)
    assert BIND_KEY not in (state / "readings.db").read_bytes()


def test_what_is_enrolled_is_not_offered_again(radio: Thread, state: Path) -> None:
    """Looking around finds what is new; a second sensor of the kind is then the only one."""
    radio.add(heart_rate_monitor(ADDRESS), "heart_rate")
    options = ("--state", str(state), "--seconds", "1", "--yes", "--json", "--profile", "heart-rate-strap")
    first = json.loads(type_iomt("device", "add", *options).splitlines()[-1])  # behind what the radio logs
    assert first["address"] == ADDRESS
    with pytest.raises(Unavailable, match=r"a new sensor of a known kind was not found in 1 s"):
        type_iomt("device", "add", *options)
    other = ADDRESS.replace("01", "02")
    radio.add(heart_rate_monitor(other), "heart_rate")
    assert json.loads(type_iomt("device", "add", *options).splitlines()[-1])["address"] == other


def test_port_that_is_found_is_enrolled_by_its_whole_path(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The gateway runs in another folder than the person who named the ports from theirs."""
    monkeypatch.chdir(state.parent)
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/none")
    (state.parent / "ports").mkdir()
    with Line(state.parent / "ports", "usb-Nonin-if00") as line:
        options = ("--ports", "ports", "--seconds", "1", "--yes", "--json", "--no-reading")
        enrolled = json.loads(type_iomt("device", "add", "--state", str(state), *options))
        assert enrolled["address"] == str(line.path.absolute())
