import re
import tomllib
from pathlib import Path

import pytest

import device_profiles
from gateway.decode import DECODERS
from gateway.io.profiles import load_profiles
from gateway.profile import Profile, Transport, load_profile
from tests.commands import Typed, typed
from tests.tomls import refusal_of

__all__ = ["typed"]  # a fixture

FOLDER = Path(device_profiles.__file__).parent
FILES = sorted(FOLDER.glob("*.toml"))
README = (FOLDER / "README.md").read_text()
EXAMPLES = re.findall(r"```toml\n(.*?)```", README, re.DOTALL)
TABLE = re.compile(r"^\[{1,2}([a-z.]+)\]{1,2}", re.MULTILINE)
PROFILES = load_profiles(frozenset(DECODERS))
PARTITIONS = {1, 2, 1024}  # of IEEE 11073-10101: objects, metrics, private
CODES = {
    "gatt.battery": 67996,
    "gatt.cuff_pressure": 150300,
    "gatt.weight": 188736,
    "gatt.body_composition": 188748,
    "gatt.intermediate_temperature": 150364,
    "gatt.plx_continuous": 150456,
    "gatt.plx_spot_check": 150456,
}


def load(text: str, source: str) -> Profile:
    return load_profile(text, source, frozenset(DECODERS))


def find(name: str | None, services: tuple[str, ...] = ()) -> set[str]:
    return {profile.name for profile in PROFILES.values() if profile.recognises_ble(name, services)}


def check_digit(loinc: str) -> int:
    """Give the check digit of a LOINC code: mod 10, every second digit from the right doubled."""
    digits = loinc.partition("-")[0]
    doubled = "".join(str(int(digit) * (2 - place % 2)) for place, digit in enumerate(reversed(digits)))
    return -sum(map(int, doubled)) % 10


# -- the files


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_profile_is_sound(path: Path) -> None:
    """It is named as its file, says something to recognise or a line to open, and is quiet for no more than is due."""
    profile = load(path.read_text(), path.name)
    assert profile.name == path.stem
    assert profile.transport is Transport.SERIAL or profile.services or profile.names or profile.manufacturers
    assert (profile.line is not None) == (profile.transport is Transport.SERIAL)
    assert profile.quiet_s <= (120 if profile.intermittent else 3 * profile.period_s)
    assert all(any(character.isalnum() for character in pattern) for pattern in profile.names)


@pytest.mark.parametrize("profile", PROFILES.values(), ids=lambda profile: profile.name)
def test_a_profiles_codes_are_of_their_systems(profile: Profile) -> None:
    """A code has a partition and a term, a LOINC code its check digit, and a range holds more than one value."""
    for vital in profile.vitals:
        assert vital.code >> 16 in PARTITIONS
        assert vital.code & 0xFFFF
        assert vital.low < vital.high
        assert vital.loinc is None or check_digit(vital.loinc) == int(vital.loinc[-1])


@pytest.mark.parametrize("profile", PROFILES.values(), ids=lambda profile: profile.name)
def test_what_also_comes_has_its_range(profile: Profile) -> None:
    """The value that a channel is there for is flagged out of range as the main value is."""
    also = {CODES[channel.decoder] for channel in profile.channels if channel.decoder in CODES}
    assert also <= {vital.code for vital in profile.vitals}


def test_one_code_has_one_loinc_code() -> None:
    """Whichever kind of device reports it, in whichever unit."""
    said: dict[int, set[str]] = {}
    for vital in (vital for profile in PROFILES.values() for vital in profile.vitals):
        said.setdefault(vital.code, set()).update({vital.loinc} if vital.loinc else ())
    assert {code: codes for code, codes in said.items() if len(codes) > 1} == {}


def test_there_are_forty() -> None:
    """What a person can buy."""
    assert len(FILES) >= 40


@pytest.mark.parametrize(
    ("name", "services", "profiles"),
    [
        ("Polar H10 75340F2C", ("180d",), {"polar-h10", "heart-rate-strap"}),
        ("HRM-Pro:677868", (), {"garmin-hrm-pro"}),
        ("A&D_UA-651BLE_87DF1B", ("00001810-0000-1000-8000-00805f9b34fb",), {"and-ua-651ble", "blood-pressure-cuff"}),
        ("A&D_UT201BLE_468 6CA", (), {"and-ut-201ble"}),
        ("BLEsmart_00000116F0FE00A0", ("1810",), {"omron-blesmart", "blood-pressure-cuff"}),
        ("SBM69", (), {"silvercrest-sbm69"}),
        ("meter+06647277", ("1808",), {"accu-chek-guide", "glucose-meter"}),
        ("Contour7830H8131997", (), {"contour-next-one"}),
        ("BF720", ("181d",), {"beurer-bf720", "weight-scale"}),
        ("BF105", (), {"beurer-bf105"}),
        ("SBHT-003C", ("fcd2",), {"shelly-blu-ht", "bthome-thermometer"}),
        ("ATC_F02AED", ("0000fcd2-0000-1000-8000-00805f9b34fb",), {"xiaomi-lywsd03mmc", "bthome-thermometer"}),
        ("something else", ("180f",), set()),
        (None, (), set()),
    ],
)
def test_an_advertisement_finds_its_profiles(name: str | None, services: tuple[str, ...], profiles: set[str]) -> None:
    """Names as real devices were seen to advertise them."""
    assert find(name, services) == profiles


@pytest.mark.parametrize(
    ("name", "bonding"),
    [
        ("accu-chek-guide", "authenticated"),
        ("silvercrest-sbm69", "authenticated"),
        ("and-ua-651ble", "required"),
        ("and-ut-201ble", "required"),
        ("beurer-bf720", "required"),
        ("omron-blesmart", "required"),
        ("omron-x4-smart", "required"),
        ("contour-next-one", "wanted"),
        ("heart-rate-strap", "none"),
    ],
)
def test_devices_that_refuse_a_link_without_a_bond_are_bonded(name: str, bonding: str) -> None:
    """A device that shows a number while it bonds is not taken with a bond made without."""
    assert PROFILES[name].bonding == bonding


@pytest.mark.parametrize(
    ("name", "start", "keep_alive", "keep_alive_s"),
    [
        ("contec-cms50e", "7d81a1808080808080", "7d81af808080808080", 5.0),
        ("nonin-wristox2-df8", "0270040208219f03", "", 0.0),
        ("nonin-xpod-df7", "027002020703", "", 0.0),
        ("nonin-oem-iii-df2", "", "", 0.0),
    ],
)
def test_a_device_on_a_line_is_told_what_it_waits_for(
    name: str, start: str, keep_alive: str, keep_alive_s: float
) -> None:
    """Contec: protocol V7.0; a WristOx2 takes a longer message than an Onyx II does, with a checksum."""
    line = PROFILES[name].line
    assert line is not None
    assert (line.start.hex(), line.keep_alive.hex(), line.keep_alive_s) == (start, keep_alive, keep_alive_s)


def test_the_message_to_a_wristox2_adds_up() -> None:
    """Its checksum is the sum of what stands between its first byte and itself, modulo 256."""
    line = PROFILES["nonin-wristox2-df8"].line
    assert line is not None
    _, *summed, checksum, _ = line.start
    assert sum(summed) % 256 == checksum


# -- what iomt says of them


def test_every_profile_is_told_whole(typed: Typed, tmp_path: Path) -> None:
    """`iomt device profiles --json` gives each file's facts, defaults filled in."""
    told = {record["name"]: record for record in typed("device", "profiles", "--state", tmp_path, "--json").json}
    assert set(told) == {path.stem for path in FILES}
    for path in FILES:
        written, record = tomllib.loads(path.read_text()), told[path.stem]
        assert {key: record[key] for key in ("title", "transport", "decoder", "quiet_s")} == {
            key: written[key] for key in ("title", "transport", "decoder", "quiet_s")
        }
        empty: dict[str, list[object]] = {"services": [], "names": [], "manufacturers": [], "usb": []}
        assert record["recognise"] == {**empty, **written.get("recognise", {})}
        assert record["sampling"] == {"kind": "continuous", "period_s": 1.0, **written.get("sampling", {})}
        ble = {"bonding": "none", "clock": False, "records": "none", "context": [], **written.get("ble", {})}
        assert {key: record[key] for key in ("bonding", "clock", "records", "context")} == {
            key: ble[key] for key in ("bonding", "clock", "records", "context")
        }
        assert record["vitals"] == [{"loinc": None, **vital} for vital in written["vital"]]


# -- what README.md says of them


@pytest.mark.parametrize("text", EXAMPLES)
def test_an_example_of_the_readme_is_a_profile(text: str) -> None:
    """A person can start from it."""
    assert load(text, "README.md").name.startswith("example-")


def test_the_readme_has_an_example_of_each_transport() -> None:
    """By Bluetooth, on a line, and listened to."""
    assert {load(text, "README.md").transport for text in EXAMPLES} == set(Transport)


def test_the_readme_shows_every_key() -> None:
    """Each table is asked for its keys, by one that it does not know; each of them stands in an example."""
    for text in EXAMPLES:
        heads = ["", *(found.group() for found in TABLE.finditer(text))]
        for head in heads:
            asked = text.replace(head, f"{head}\ncolour = 1\n", 1) if head else f"colour = 1\n{text}"
            refusal = refusal_of(load, asked)
            assert refusal is not None
            assert "colour is unknown; allowed: " in refusal
            for key in refusal.partition("allowed: ")[2].split(", "):
                assert re.search(rf"^({key} = |\[+([a-z]+\.)?{key}\]+)", "\n".join(EXAMPLES), re.MULTILINE), key


def test_the_readme_has_every_decoder_once() -> None:
    """With what it reads."""
    rows = re.findall(r"^\| ([a-z]+\.[a-z0-9_]+) \| .+ \|", README, re.MULTILINE)
    assert sorted(rows) == sorted(DECODERS)


@pytest.mark.parametrize("value", ["none", "wanted", "required", "authenticated", "since", "all"])
def test_the_readme_explains_every_value_of_bonding_and_records(value: str) -> None:
    """Each has a row."""
    assert re.search(rf"^\| {value} \| .+ \|$", README, re.MULTILINE)
