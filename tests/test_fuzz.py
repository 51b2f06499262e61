import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from gateway.decode import DECODERS
from tests.fuzz import attempt
from tests.fuzz.__main__ import main, run_campaign
from tests.fuzz.target import Target, draw_input
from tests.fuzz.targets import TARGETS

# In 3.12 and later a fork beside threads, which tests before these may have left, is warned of.
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


def planted(check: Callable[[bytes], object]) -> dict[str, Target]:
    return {"planted": Target(name="planted", check=check, seeds=(b"abc", b"\x00" * 9))}


def raise_at_7f(data: bytes) -> None:
    if 0x7F in data:
        raise IndexError("a bug")


def die_at_7f(data: bytes) -> None:
    if 0x7F in data:
        os.kill(os.getpid(), signal.SIGKILL)


def hang_at_abc(data: bytes) -> None:
    while data == b"abc":
        signal.pause()


def test_every_decoder_is_a_target() -> None:
    """A decoder that is added is fuzzed."""
    assert set(DECODERS) <= set(TARGETS)


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_a_target_holds_for_its_seeds_and_some_bytes_of_chance(name: str) -> None:
    """Nothing is found in little time."""
    target, random = TARGETS[name], Random(name)  # noqa: S311 - inputs, no secret
    for data in (*target.seeds, *(draw_input(target.seeds, random) for _ in range(50))):
        target.check(data)


def test_a_bug_is_found_made_small_and_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A reader that raises at one byte is found out: the bytes in hex, the error, how to try again, exit code 1."""
    assert main(["--seconds", "10", "--target", "planted"], planted(raise_at_7f), tmp_path, "hypothesis") == 1
    line, error, octets, replay, summary = capsys.readouterr().out.splitlines()
    assert line.startswith("planted")
    assert line.endswith("1 findings")
    assert error.strip() == "IndexError: a bug"
    assert octets.strip() == "7f"
    assert replay.strip() == "python -m tests.fuzz --replay planted '7f'"
    assert summary.endswith("1 findings")


def test_a_crash_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where the process dies, the input that it died of is told."""
    assert main(["--seconds", "10", "--json"], planted(die_at_7f), tmp_path, "hypothesis") == 1
    (target,) = json.loads(capsys.readouterr().out)["targets"]
    (finding,) = target["findings"]
    assert finding["error"] == "the process died of SIGKILL"
    assert 0x7F in bytes.fromhex(finding["bytes"])


def test_an_engine_that_breaks_off_is_no_finding(tmp_path: Path) -> None:
    """Where the process dies at an input that the target bears without the engine, that is told, and as what it is."""

    def break_off(target: Target, _seconds: float, _folder: Path, track: attempt.Track) -> None:
        track.run(target.check, b"abc")
        os._exit(77)

    (report,) = run_campaign([*planted(raise_at_7f).values()], 1.0, tmp_path, break_off)
    assert (report.runs, report.finding) == (1, None)
    assert report.fault == "the process ended with 77, and the input 616263 holds without the engine"


def test_an_input_that_never_ends_is_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that goes on beyond its time is ended, and the input that it was at is told."""
    monkeypatch.setattr(attempt, "GRACE_S", 0.1)
    assert main(["--seconds", "0.3", "--json"], planted(hang_at_abc), tmp_path, "hypothesis") == 1
    (target,) = json.loads(capsys.readouterr().out)["targets"]
    (finding,) = target["findings"]
    assert (finding["error"], bytes.fromhex(finding["bytes"])) == ("it does not end", b"abc")


def test_what_holds_is_told_as_one_json_object(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing found is exit code 0, and the runs are counted."""
    assert main(["--seconds", "0.2", "--json"], planted(bytes), tmp_path, "hypothesis") == 0
    shown = json.loads(capsys.readouterr().out)
    (target,) = shown["targets"]
    assert (shown["engine"], target["target"], target["findings"]) == ("hypothesis", "planted", [])
    assert target["runs"] >= 2


@pytest.mark.parametrize(("octets", "code", "told"), [("617f", 1, "IndexError: a bug"), ("61", 0, "holds for these 1")])
def test_replay_tries_one_input(octets: str, code: int, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A finding's bytes show the error again, until it is mended."""
    assert main(["--replay", "planted", octets], planted(raise_at_7f)) == code
    assert told in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [("planted", "7"), ("unknown", "7f")])
def test_what_cannot_be_replayed_is_a_wrong_argument(arguments: tuple[str, str]) -> None:
    """Half a byte and a name that is none are exit code 2."""
    with pytest.raises(SystemExit, match="2"):
        main(["--replay", *arguments], planted(raise_at_7f))
