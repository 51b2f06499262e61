import json
import stat
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import click
import pytest

from gateway import signing
from gateway.cli import main
from gateway.io.store.readings import DamagedFrame, ReadingStore
from gateway.model import Member
from tests.builders import CHAIN, DEVICE, GATEWAY, MASTER, alone, make_roster, signed_again
from tests.commands import Typed, state, typed
from tests.processes import PROFILE, ROOT
from tests.states import CONFIG, PEERS

__all__ = ["state", "typed"]  # fixtures


def commands(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Give every command with the names that lead to it."""
    yield path
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from commands(inner, (*path, name))


# -- help and usage


@pytest.mark.parametrize("path", list(commands(main.iomt)), ids=" ".join)
def test_every_command_explains_itself(typed: Typed, path: Sequence[str]) -> None:
    """--help of every command says what it does, on stdout, within 80 columns, and ends with 0."""
    result = typed(*path, "--help")
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith(f"Usage: {' '.join(('iomt', *path))} ")
    assert "--help" in result.out
    assert max(map(len, result.out.splitlines())) <= 80


@pytest.mark.parametrize(
    "arguments",
    [("dance",), ("init",), ("readings", "--last", "0"), ("readings", "--last", "many"), ("export", "--device", "x")],
)
def test_wrong_usage_ends_with_2(typed: Typed, arguments: Sequence[str]) -> None:
    """What cannot be understood is refused with code 2, on stderr, with how it is meant."""
    result = typed(*arguments)
    assert (result.code, result.out) == (2, "")
    assert "Usage: iomt" in result.err
    assert "Error: " in result.err


# -- JSON


def test_json_is_all_there_is_on_stdout(typed: Typed, tmp_path: Path) -> None:
    """With --json each command gives one JSON value on stdout and nothing else, from the ledger to the device."""
    ledger, peer, gateway = (tmp_path / name for name in ("ledger", "peer", "gateway"))
    member = ("--broker", "mqtt://127.0.0.1:1", "--roster", ledger / "roster.cose", "--json")
    created = typed("ledger", "create", "--state", ledger, "--json").json
    assert (created["version"], created["policy"], created["quorum"], created["peers"]) == (1, None, 0, [])
    card = typed("peer", "init", "--state", peer, "--id", "lab", "--organisation", "Labor Süd", *member).json
    assert (card["id"], card["organisation"], len(card["public_key"])) == ("lab", "Labor Süd", 64)
    ward = typed("init", "--state", gateway, "--id", "ward-3", *member).json
    assert ward["chain"].startswith("ward-3.")
    roster = typed("ledger", "admit", "--state", ledger, card["card"], ward["card"], "--json").json
    assert [found["id"] for found in roster["peers"] + roster["gateways"]] == ["lab", "ward-3"]
    assert typed("ledger", "show", "--roster", ledger / "roster.cose", "--json").json == roster
    added = typed("device", "add", "--state", gateway, "--address", "/dev/x", "--profile", PROFILE, "--id", "n-1",
                  "--no-reading", "--json").json  # fmt: skip
    assert (added["id"], added["profile"], added["address"]) == ("n-1", PROFILE, "/dev/x")
    assert typed("device", "list", "--state", gateway, "--json").json == added
    assert typed("device", "show", "--state", gateway, "n-1", "--json").json == added
    profiles = typed("device", "profiles", "--state", gateway, "--json").json
    assert PROFILE in {profile["name"] for profile in profiles}


def test_readings_are_one_object_a_line(typed: Typed, state: Path) -> None:
    """Readings come oldest first, one JSON object a line, with exact values and whether they are certified."""
    result = typed("readings", "--state", state, "--last", 3, "--json")
    records = [json.loads(line) for line in result.out.splitlines()]
    assert (result.code, result.err) == (0, "")
    assert [record["sequence"] for record in records] == [3, 4, 5]
    assert records[0] == {
        "device": DEVICE,
        "sequence": 3,
        "received_ms": 1763999999003,
        "clock": [1, 3],
        "device_time_ms": None,
        "measurements": [{"code": 147842, "value": 63, "unit": "/min"}],
        "flags": [],
        "decoder": "gatt.heart_rate/1",
        "signed_by_sensor": False,
        "frame": "0048",
        "position": 4,
        "block": 1,
        "certified": True,
    }
    assert typed("readings", "--state", state, "--device", "nobody", "--json").out == ""


def test_exported_reading_verifies(typed: Typed, state: Path, tmp_path: Path) -> None:
    """What is exported is verified offline with the roster alone; JSON and people are told the same."""
    file, roster = tmp_path / "reading.cose", state / "roster.cose"
    exported = typed("export", "--state", state, "--device", DEVICE, "-o", file, "--json").json
    assert exported == {"device": DEVICE, "sequence": 5, "file": str(file), "bytes": file.stat().st_size}
    verified = typed("verify", file, "--roster", roster, "--json").json
    assert (verified["verified"], verified["chain"], verified["index"]) == (True, CHAIN, 6)
    assert verified["block"] == {"height": 1, "start": 2, "size": 7}
    assert {vote["peer"] for vote in verified["votes"]} == set(PEERS)
    assert verified["entry"]["measurements"] == [{"code": 147842, "value": 65, "unit": "/min"}]
    told = typed("verify", file, "--roster", roster)
    assert (told.code, told.err) == (0, "")
    assert told.out.startswith("verified    reading 5\ndevice      strap-1, heart-rate-strap, key ")
    assert "quorum      3 of 4 peers, epoch 1\nneeded      3 of peer-0, peer-1, peer-2, peer-3\n" in told.out
    typed("export", "--state", state, "--device", DEVICE, "--number", 2, "-o", file)
    assert typed("verify", file, "--roster", roster, "--json").json["entry"]["sequence"] == 2


# -- exit codes


def test_nothing_kept_yet_is_said(typed: Typed, state: Path) -> None:
    """Before a gateway has kept anything there is nothing to show: code 2, with what to do."""
    (state / "readings.db").unlink()
    result = typed("readings", "--state", state)
    assert (result.code, result.out) == (2, "")
    assert result.err == f"iomt: {state / 'readings.db'}: nothing was kept here yet; iomt run starts it\n"


def test_gateway_that_does_not_run_is_unavailable(typed: Typed, state: Path) -> None:
    """The status of a gateway that is not running ends with 3: trying again later is right."""
    result = typed("status", "--state", state, "--json")
    assert (result.code, result.out) == (3, "")
    assert result.err.startswith(f"iomt: the gateway of {state} is not running")


def test_reading_that_is_not_certified_is_unavailable(typed: Typed, state: Path, tmp_path: Path) -> None:
    """A proof that cannot be made yet ends with 3, one of a reading that never was with 2; no file is written."""
    for arguments, code in ((("--device", "nobody"), 3), (("--device", DEVICE, "--number", 99), 2)):
        result = typed("export", "--state", state, *arguments, "-o", tmp_path / "file")
        assert (result.code, result.out, result.err.count("\n")) == (code, "", 1)
    assert not (tmp_path / "file").exists()


def test_damaged_frames_can_be_looked_at(typed: Typed, state: Path) -> None:
    """What could not be decoded is shown as it was heard, with the reason, of all devices or of one."""
    store = ReadingStore(str(state / "readings.db"))
    frame = DamagedFrame(DEVICE, 1763999999003, "the heart rate is cut short", b"\x10")
    store.keep_damaged([DamagedFrame("other-1", 1763999999002, "checksum is wrong", bytes(40)), frame])
    store.close()
    shown = typed("readings", "--state", state, "--damaged").out.splitlines()
    assert [line.split()[0] for line in shown] == ["device", "other-1", DEVICE]
    assert "the heart rate is cut short  10" in shown[2]
    assert typed("readings", "--state", state, "--damaged", "--device", DEVICE, "--json").json == {
        "device": DEVICE,
        "received_ms": 1763999999003,
        "reason": "the heart rate is cut short",
        "frame": "10",
    }


def test_damaged_store_ends_with_1(typed: Typed, state: Path) -> None:
    """A database that is none is named, in one line."""
    (state / "readings.db").write_bytes(b"no database" * 500)
    for command in (("readings",), ("device", "list"), ("export", "--device", DEVICE, "-o", "x")):
        result = typed(*command, "--state", state)
        assert (result.code, result.out) == (1, "")
        assert result.err == f"iomt: {state / 'readings.db'}: file is not a database\n"


def test_unknown_device_and_profile_are_named(typed: Typed, state: Path) -> None:
    """What is not enrolled or not known is said with how to find out what is."""
    result = typed("device", "show", "--state", state, "nobody")
    assert (result.code, result.err) == (
        2,
        "iomt: device nobody is not enrolled here; iomt device list shows which are\n",
    )
    result = typed("device", "add", "--state", state, "--address", "x", "--profile", "none-such", "--yes")
    assert result.code == 2
    assert result.err.startswith("iomt: profile 'none-such' is not known; allowed: accu-chek-guide, ")


# -- configuration

CONFIGS: dict[str, tuple[str | bytes, str]] = {
    "unknown key": (
        CONFIG + "colour = 1\n",
        "colour is unknown; allowed: block, broker, ",
    ),
    "unknown inner key": (CONFIG + "[block]\nage = 1\n", "block.age is unknown; allowed: age_s, leaves"),
    "wrong type": (CONFIG + "[block]\nleaves = 'ten'\n", "block.leaves is 'ten'; allowed: a whole number"),
    "boolean number": (CONFIG + "[block]\nage_s = true\n", "block.age_s is True; allowed: a number"),
    "out of range": (CONFIG + "[block]\nage_s = 0.01\n", "block.age_s is 0.01; allowed: 0.05 to 3600"),
    "no table": ("block = 1\n" + CONFIG, "block is 1; allowed: a table"),
    "missing key": (CONFIG.replace("id =", "# id ="), "id is missing; allowed: a text"),
    "no name": (CONFIG.replace('"ward-3"', '"../ward"'), "id is '../ward'; allowed: 1 to 64 of A-Z"),
    "no TOML": (CONFIG + "[[[", "not TOML: "),
    "incomplete TLS": (CONFIG + "[tls]\nca = 'x'\n", "tls.certificate is missing; allowed: a text"),
    "no text": (b"\xff\xfe", "not UTF-8 text"),
    "empty": ("", "is missing; allowed: a text"),
}


@pytest.mark.parametrize("what", CONFIGS)
@pytest.mark.parametrize("command", ["run", "status", "readings"])
def test_fault_53_configuration_that_is_wrong_is_explained(typed: Typed, state: Path, what: str, command: str) -> None:
    """A configuration that cannot be right ends with 2 and a line with file, key and what is allowed."""
    text, reason = CONFIGS[what]
    (state / "gateway.toml").write_bytes(text if isinstance(text, bytes) else text.encode())
    result = typed(command, "--state", state)
    assert (result.code, result.out, result.err.count("\n")) == (2, "", 1)
    assert result.err.startswith(f"iomt: {state / 'gateway.toml'}: ")
    assert reason in result.err


WRONG = {
    "no broker": ("mqtt://127.0.0.1:1", "http://127.0.0.1:1", "a broker is mqtt://host:port or mqtts://host:port"),
    "TLS missing": ("mqtt://127.0.0.1:1", "mqtts://127.0.0.1:1", "mqtts needs a CA, a certificate and a key"),
    "roster missing": ("roster.cose", "nowhere.cose", "there is no roster here"),
    "roster no name": ("roster.cose", "a\\u0000b", "there is no roster here"),
    "roster a folder": ("roster.cose", ".", "Is a directory"),
    "TLS file no name": (
        'broker = "mqtt:',
        'tls = {ca = "a\\u0000b", certificate = "c", key = "k"}\nbroker = "mqtts:',
        "mutual TLS with ",
    ),
    "another gateway": (
        '"ward-3.1f0a9c21"',
        '"ward-4.1f0a9c21"',
        "gateway ward-3 with chain ward-4.1f0a9c21 is not on the roster",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_fault_53_gateway_is_not_started_on_what_cannot_be_right(typed: Typed, state: Path, what: str) -> None:
    """A broker, roster or chain that does not fit ends the start with 2 and one line, before anything is written."""
    right, wrong, reason = WRONG[what]
    (state / "gateway.toml").write_text(CONFIG.replace(right, wrong))
    key = signing.derive_key(MASTER, "gateway", GATEWAY).public_key
    gateway = Member(id=GATEWAY, organisation="", public_key=key, chain=CHAIN)
    (state / "roster.cose").write_bytes(alone(signed_again(replace(make_roster(), gateways=(gateway,)))).encode())
    before = (state / "readings.db").read_bytes()
    result = typed("run", "--state", state)
    assert (result.code, result.out, result.err.count("\n")) == (2, "", 1)
    assert reason in result.err
    assert (state / "readings.db").read_bytes() == before


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("name = 'own'\n", "transport is missing; allowed: a text"),
        ("transport = 'smoke'\n", "transport is 'smoke'; allowed: one of ble, advertisement, serial"),
        (b"\xff", "not UTF-8 text"),
    ],
)
def test_fault_53_profile_that_is_wrong_is_explained(typed: Typed, state: Path, text: str | bytes, reason: str) -> None:
    """A person's own device profile is read as strictly as everything else."""
    (state / "profiles").mkdir()
    (state / "profiles" / "own.toml").write_bytes(text if isinstance(text, bytes) else text.encode())
    result = typed("device", "profiles", "--state", state)
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith(f"iomt: {state / 'profiles' / 'own.toml'}: ")
    assert reason in result.err


def test_folder_that_is_no_gateways_is_named(typed: Typed, tmp_path: Path) -> None:
    """A folder without a configuration, or no folder at all, ends every command with 2 and the file it wants."""
    for folder in (tmp_path, tmp_path / "none"):
        for command in (("run",), ("status",), ("readings",), ("device", "list"), ("device", "show", "x")):
            result = typed(*command, "--state", folder)
            assert (result.code, result.out) == (2, "")
            assert result.err == f"iomt: {folder / 'gateway.toml'}: No such file or directory\n"
        assert typed("peer", "run", "--state", folder).code == 2
        assert typed("ledger", "show", "--state", folder).code == 2


# -- setting up


def test_set_up_is_done_once(typed: Typed, tmp_path: Path) -> None:
    """A folder that was initialised is not initialised again: secrets and configuration stay as they are."""
    options = ("--id", "x", "--broker", "mqtt://h:1", "--roster", tmp_path / "roster.cose")
    for command in (("init", *options), ("peer", "init", *options), ("ledger", "create")):
        folder = tmp_path / command[0]
        assert typed(*command, "--state", folder).code == 0
        before = {path: path.read_bytes() for path in folder.iterdir()}
        result = typed(*command, "--state", folder)
        assert (result.code, result.out, result.err.count("\n")) == (2, "", 1)
        assert "exists already" in result.err
        assert {path: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize(
    ("option", "value", "reason"),
    [
        ("--id", "../ward", "the name '../ward'; allowed: 1 to 64 of"),
        ("--id", "", "the name ''; allowed: 1 to 64 of"),
        ("--broker", "tcp://x", "a broker is mqtt://host:port"),
        ("--ca", "ca.pem", "--ca, --certificate and --key go together"),
    ],
)
@pytest.mark.parametrize("command", [("init",), ("peer", "init")], ids=" ".join)
def test_set_up_that_is_refused_leaves_nothing(
    typed: Typed, tmp_path: Path, command: Sequence[str], option: str, value: str, reason: str
) -> None:
    """What cannot be right is refused before a secret is drawn or a folder made."""
    options = {"--id": "x", "--broker": "mqtt://h:1", "--roster": tmp_path / "roster.cose", option: value}
    result = typed(*command, "--state", tmp_path / "new", *[part for pair in options.items() for part in pair])
    assert (result.code, result.out) == (2, "")
    assert reason in result.err
    assert not (tmp_path / "new").exists()


def test_secrets_are_for_their_owner_alone(typed: Typed, tmp_path: Path) -> None:
    """Secrets are 0600 in a folder of 0750, and stand in nothing that is printed or written beside them."""
    options = ("--id", "x", "--broker", "mqtt://h:1", "--roster", tmp_path / "roster.cose", "--state", tmp_path / "new")
    result = typed("init", *options)
    files = [tmp_path / "new" / name for name in ("master.key", "recovery.key")]
    assert [stat.S_IMODE(path.stat().st_mode) for path in files] == [0o600, 0o600]
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o750
    secrets = [path.read_bytes() for path in files]
    assert [len(secret) for secret in secrets] == [32, 32]
    others = [path.read_text() for path in (tmp_path / "new").iterdir() if path not in files]
    assert not any(secret.hex() in text for text in (result.out, result.err, *others) for secret in secrets)


# -- on a terminal


def test_tables_fit_80_columns(typed: Typed, state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a person reads of a gateway, its devices and its ledger fits a terminal of 80 columns."""
    monkeypatch.chdir(state)
    typed("export", "--state", ".", "--device", DEVICE, "-o", "reading.cose")
    verify = ("verify", "reading.cose", "--roster", "roster.cose")
    ledger = ("ledger", "show", "--roster", "roster.cose", "--state", ".")
    lists = [(*command, "--state", ".") for command in (("readings",), ("device", "list"), ("device", "show", DEVICE))]
    for command in (*lists, ledger, verify):
        result = typed(*command)
        assert result.code == 0
        assert max(map(len, result.out.splitlines())) <= 80, result.out


def test_closed_pipe_is_no_error(state: Path) -> None:
    """A reader that has seen enough, such as head, ends a listing quietly."""
    command = f"{sys.executable} -m gateway readings --state {state} --last 1000 --json"
    script = f"set -o pipefail; {command} | head -1"
    result = subprocess.run(["bash", "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.stderr == ""
    assert result.stdout.count("\n") == 1
    assert result.returncode == 0
