"""What people and strangers do to the command line: hostile names, open secrets, Ctrl-C, and no terminal at all."""

import os
import pty
import re
import select
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.devices import Device, enrolment_details
from gateway.io import keyring
from gateway.ledger.receipt import make_transparent
from gateway.ledger.voting import cast_vote
from gateway.model import EventKind, Measurement
from tests.builders import (
    VOTED_S,
    Chain,
    event_leaf,
    genesis_leaf,
    key_of,
    keys_of,
    make_event,
    make_reading,
    reading_leaf,
    ward_chain,
)
from tests.commands import Typed, state, typed
from tests.processes import PROFILE, ROOT, type_iomt
from tests.states import PEERS, make_state

__all__ = ["state", "typed"]  # fixtures

HOSTILE = "\x1b[2J\x9b31m\r\n\x00\x07\u202e../..\ud7ff\ufeff"


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """Give a gateway's folder as `iomt init` and one enrolment leave it."""
    folder = tmp_path / "kept"
    roster = tmp_path / "ledger" / "roster.cose"
    type_iomt("ledger", "create", "--state", roster.parent)
    type_iomt("init", "--state", folder, "--id", "ward-3", "--broker", "mqtt://127.0.0.1:1", "--roster", roster)
    options = ("--state", folder, "--address", "/dev/first", "--profile", PROFILE, "--no-reading", "--yes")
    type_iomt("device", "add", *options)
    return folder


def is_harmless(text: str) -> bool:
    """Say whether a terminal shows a text and obeys none of it."""
    return all(line.isprintable() for line in text.split("\n"))


def hostile_chain() -> Chain:
    """Give a chain whose device, kind, address, unit and flags are what an attacker would like a terminal to obey."""
    chain = Chain()
    device = Device(id=HOSTILE, profile=HOSTILE, address=HOSTILE, public_key=key_of(HOSTILE).public_key, generation=1)
    chain.seal(genesis_leaf(), event_leaf(make_event(EventKind.DEVICE_ENROLLED, enrolment_details(device), 2)))
    reading = replace(make_reading(1), measurements=(Measurement(1, 5, HOSTILE),), flags=(HOSTILE,), decoder=HOSTILE)
    chain.seal(reading_leaf(reading, HOSTILE))
    return chain


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """Give a gateway's folder with a hostile chain."""
    return make_state(tmp_path / "gw", hostile_chain())


@pytest.mark.parametrize("json_option", [(), ("--json",)])
def test_fault_52_hostile_names_never_reach_the_terminal(
    typed: Typed, hostile: Path, tmp_path: Path, json_option: tuple[str, ...]
) -> None:
    """Whatever a device, a chain or a person calls a thing, it is shown and not obeyed, in text and in JSON."""
    file = tmp_path / "reading.cose"
    commands = [
        ("readings",),
        ("device", "list"),
        ("device", "show", HOSTILE.replace("\0", "")),
        ("export", "--device", HOSTILE.replace("\0", ""), "-o", file),
    ]
    for command in commands:
        result = typed(*command, "--state", hostile, *json_option)
        assert result.out + result.err
        assert is_harmless(result.out + result.err), result
    for data in (hostile_chain().transparent_reading(2, 1, PEERS), hostile_chain().transparent_event(1, PEERS)):
        file.write_bytes(data)
        result = typed("verify", file, "--roster", hostile / "roster.cose", *json_option)
        assert result.code == 0
        assert is_harmless(result.out + result.err), result


def test_fault_52_hostile_refusals_are_one_harmless_line(typed: Typed, state: Path, tmp_path: Path) -> None:
    """What a forged file says of itself stands in the refusal, on one line that no terminal obeys."""
    chain, file = ward_chain(), tmp_path / "reading.cose"
    enrolment = chain.transparent_event(1, PEERS)
    voter = cast_vote(keys_of("x"), HOSTILE, 1, chain.block_of(4), VOTED_S)
    forged = [
        chain.transparent_reading(4, 1, (HOSTILE, *PEERS)),
        hostile_chain().transparent_reading(2, 1, PEERS[:2]),
        make_transparent(chain.leaves[4], [voter], enrolment),
        make_transparent(
            reading_leaf(make_reading(), HOSTILE), chain.receipts(4, PEERS), chain.transparent_event(1, PEERS)
        ),
    ]
    for data in forged:
        file.write_bytes(data)
        for option in ((), ("--json",)):
            result = typed("verify", file, "--roster", state / "roster.cose", *option)
            assert result.code == 1
            assert (result.out + result.err).count("\n") == 1
            assert is_harmless(result.out + result.err), result
    result = typed("verify", tmp_path / HOSTILE.replace("\0", "").replace("/", ""), "--roster", state / "roster.cose")
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert is_harmless(result.err), result


@pytest.mark.parametrize("name", ["", "a/b", "../x", "x\ny", "\x1b[2J", ".x", "x" * 65])
def test_fault_52_name_is_checked_before_anything_is_done(typed: Typed, state: Path, name: str) -> None:
    """A name that cannot stand in topics and files is refused when it is typed, before a sensor is waited for."""
    options = ("--address", "/dev/none", "--profile", PROFILE, "--no-reading", "--yes")
    result = typed("device", "add", "--state", state, "--id", name, *options)
    assert (result.code, result.out, result.err.count("\n")) == (2, "", 1)
    assert "allowed: 1 to 64 of A-Z a-z 0-9 - _ . and no dot first" in result.err
    assert is_harmless(result.err)


# -- secrets


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660])
@pytest.mark.parametrize("command", ["run", "add", "peer", "admit"])
def test_fault_53_secret_that_others_can_read_is_refused(typed: Typed, tmp_path: Path, command: str, mode: int) -> None:
    """A master secret that group or world can read is not used: code 2, and the command that mends it."""
    member = ("--id", "x", "--broker", "mqtt://127.0.0.1:1", "--roster", tmp_path / "ledger" / "roster.cose")
    typed("ledger", "create", "--state", tmp_path / "ledger")
    typed("peer", "init", "--state", tmp_path / "peer", *member)
    typed("init", "--state", tmp_path / "run", *member)
    typed("init", "--state", tmp_path / "add", *member)
    typed("ledger", "admit", "--state", tmp_path / "ledger", tmp_path / "peer" / "x.card", tmp_path / "run" / "x.card")
    folder, arguments = {
        "run": ("run", ("run",)),
        "add": ("add", ("device", "add", "--address", "x", "--profile", PROFILE, "--no-reading", "--yes")),
        "peer": ("peer", ("peer", "run")),
        "admit": ("ledger", ("ledger", "admit", tmp_path / "add" / "x.card")),
    }[command]
    secret = tmp_path / folder / "master.key"
    secret.chmod(mode)
    result = typed(*arguments, "--state", tmp_path / folder)
    assert (result.code, result.out) == (2, "")
    assert result.err == f"iomt: {secret}: others can read this secret; allowed: chmod 600 {secret}\n"
    assert not (tmp_path / folder / "readings.db").exists()


@pytest.mark.parametrize(("secret", "reason"), [(b"", "0 bytes; allowed: 32"), (bytes(33), "33 bytes; allowed: 32")])
def test_fault_53_secret_of_another_size_is_refused(typed: Typed, state: Path, secret: bytes, reason: str) -> None:
    """A secret that was cut short, or is none, makes no keys."""
    (state / "master.key").write_bytes(secret)
    result = typed("run", "--state", state)
    assert (result.code, result.err) == (2, f"iomt: {state / 'master.key'}: {reason}\n")


def test_secret_comes_from_systemd_where_it_gives_one(
    state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A credential of systemd's, which nobody else can reach, is preferred to a file in the folder."""
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(credentials))
    assert keyring.load_master(state) == (state / "master.key").read_bytes()
    (credentials / "master.key").write_bytes(bytes(32))
    (credentials / "master.key").chmod(0o440)
    assert keyring.load_master(state) == bytes(32)


# -- a person at a terminal


class Terminal:
    """A Python program on a terminal of its own, where a person reads and types."""

    def __init__(self, *arguments: object) -> None:
        self._descriptor, far = pty.openpty()
        # A test run that a script started in the background has Ctrl-C ignored, and would hand that down.
        command = ["env", "--default-signal=INT", "setsid", "--ctty", sys.executable, *map(str, arguments)]
        self._process = subprocess.Popen(command, cwd=ROOT, stdin=far, stdout=far, stderr=far)
        os.close(far)
        self.text = ""

    def read_until(self, wanted: str) -> None:
        """Read what appears until it holds a text."""
        while wanted not in self.text:
            more = self._read()
            assert more, f"ended before {wanted!r}: {self.text}"
            self.text += more

    def type(self, text: str) -> None:
        """Type."""
        os.write(self._descriptor, text.encode())

    def ended(self, again: str = "") -> int:
        """Read to the end, and give the exit code; while nothing comes, type `again`, as a person does.

        Python loses a Ctrl-C that comes between its prompt and its waiting for a key.
        """
        while True:
            if again and not select.select([self._descriptor], [], [], 2.0)[0]:
                self.type(again)
                continue
            if not (more := self._read()):
                break
            self.text += more
        os.close(self._descriptor)
        return self._process.wait(10)

    def _read(self) -> str:
        try:
            return os.read(self._descriptor, 4096).decode()
        except OSError:  # the far side is closed
            return ""


def add_on_terminal(state: Path) -> Terminal:
    """Give `iomt device add` on a terminal, as it asks for the name."""
    options = ("--state", state, "--address", "/dev/none", "--profile", PROFILE, "--no-reading")
    terminal = Terminal("-m", "gateway", "device", "add", *options)
    terminal.read_until("]: ")
    return terminal


@pytest.mark.parametrize("typing", ["\x03", "\x04", "n-1\n\x03", "n-1\nn\n", "n-1\n\x04"])
def test_person_who_stops_has_changed_nothing(typed: Typed, kept: Path, typing: str) -> None:
    """Ctrl-C, Ctrl-D or "no" at any question ends the command quietly, and nothing is enrolled."""
    terminal = add_on_terminal(kept)
    answer, _, rest = typing.partition("\n")
    terminal.type(answer + "\n" if rest else answer)
    if rest:
        terminal.read_until("[Y/n]: ")
        terminal.type(rest)
    assert terminal.ended(again="\x03" if "\x03" in typing else "") == 130
    assert terminal.text.endswith("iomt: stopped; what was asked is not done\r\n")
    assert "Traceback" not in terminal.text
    assert typed("device", "list", "--state", kept, "--json").out.count("\n") == 1


def test_person_who_agrees_has_enrolled(typed: Typed, kept: Path) -> None:
    """A name that is typed, and Enter, enrol the sensor; the name that was made up is taken with Enter alone."""
    terminal = add_on_terminal(kept)
    terminal.type("n-1\n")
    terminal.read_until("[Y/n]: ")
    terminal.type("\n")
    assert terminal.ended() == 0
    assert typed("device", "show", "--state", kept, "n-1", "--json").json["profile"] == PROFILE


def test_question_without_a_person_ends_with_a_line(kept: Path) -> None:
    """Where nobody can answer, as in a script, the command says that it did not go on."""
    command = [sys.executable, "-m", "gateway", "device", "add", "--state", str(kept), "--address", "/dev/none"]
    command += ["--profile", PROFILE, "--no-reading"]
    result = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (130, "")
    assert result.stderr.endswith("iomt: stopped; what was asked is not done\n")


def test_fault_52_log_on_a_terminal_is_harmless() -> None:
    """What strangers say to the gateway stands in its log; on a terminal too it is shown and not obeyed."""
    program = f"""
import structlog
from gateway.io import logs
logs.configure("info")
structlog.get_logger("iomt").warning("message refused", topic={HOSTILE!r}, why={HOSTILE + " "!r})
"""
    terminal = Terminal("-c", program)
    assert terminal.ended() == 0
    shown = re.sub(r"\x1b\[[0-9;]*m", "", terminal.text)  # its own colours
    assert "message refused" in shown
    assert is_harmless(shown.replace("\r\n", "\n")), repr(shown)
