import json
import os
import subprocess
import sys

import pytest

from tests.simulation.__main__ import main
from tests.simulation.mutations import MUTATIONS, SEEDS, Mutation
from tests.simulation.world import run_seed

# In 3.12 and later a fork beside threads, which tests before these may have left, is warned of.
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")

BEFALLS = (
    "power cuts",
    "partings",
    "disks given back",
    "blocks taken back",
    "chains frozen",
    "incarnations begun",
    "epochs begun",
    "clock jumps",
    "messages refused",
)


def test_every_promise_is_kept_whatever_befalls(capsys: pytest.CaptureFixture[str]) -> None:
    """300 seeds, in which everything that can befall a ledger does, break no promise.

    A seed lasts half a minute to two of virtual time, and 30 to 200 blocks: 25 s of work on one slow core.
    """
    assert main(["--seeds", "300", "--processes", "2", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["seeds"], shown["broken"]) == (300, [])
    assert {name: shown["counts"].get(name, 0) > 10 for name in BEFALLS} == dict.fromkeys(BEFALLS, True)
    assert shown["counts"]["certified"] > 1000


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_wrong_rule_is_found_and_the_right_one_is_not(mutation: Mutation) -> None:
    """Each mutation breaks the promise that it is against, at a seed at which the product breaks none."""
    with pytest.MonkeyPatch.context() as patch:
        mutation.put_in(patch)
        found = next((seed for seed in SEEDS if mutation.broken in (run_seed(seed).broken or "")), None)
    assert found is not None
    assert [run_seed(seed).broken for seed in range(found + 1)] == [None] * (found + 1)


def test_a_seed_does_the_same_again_in_another_process(capsys: pytest.CaptureFixture[str]) -> None:
    """Every step and every byte of a run is decided by its seed, not by the process or its hashes."""
    assert main(["--seeds", "12", "--json"]) == 0
    command = [sys.executable, "-m", "tests.simulation", "--seeds", "12", "--json"]
    environment = {**os.environ, "PYTHONHASHSEED": "1"}
    again = subprocess.run(command, env=environment, capture_output=True, check=True, timeout=60).stdout
    here = json.loads(capsys.readouterr().out)
    assert json.loads(again)["fingerprints"] == here["fingerprints"]
    assert len(set(here["fingerprints"].values())) == 12


def test_a_broken_promise_is_told_with_its_seed_and_last_steps(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failing seed is told with the promise, the steps before and how to see it again; the exit code is 1."""
    MUTATIONS[1].put_in(monkeypatch)
    seed = next(seed for seed in SEEDS if run_seed(seed).broken)
    assert main(["--seeds", "2", "--from", str(seed)]) == 1
    told, *steps = capsys.readouterr().out.splitlines()
    assert told.startswith(f"seed {seed}: ")
    assert told.endswith("that is not on its disk")
    assert any(f"python -m tests.simulation --seed {seed} --verbose" in line for line in steps)
    assert any("loses its power" in line for line in steps)
    assert "promises broken" in steps[-1]


def test_one_seed_can_be_watched(capsys: pytest.CaptureFixture[str]) -> None:
    """--seed with --verbose shows each step with its virtual time, then what came of it."""
    assert main(["--seed", "4", "--verbose"]) == 0
    *steps, total = capsys.readouterr().out.splitlines()
    assert any(line.endswith("starts") for line in steps)
    assert all(" s  " in line for line in steps)
    assert total.startswith("1 seeds: ")


@pytest.mark.parametrize("arguments", [["--seeds", "many"], ["--sed", "1"]])
def test_a_wrong_argument_is_refused(arguments: list[str]) -> None:
    """What is no number and what is no option are exit code 2."""
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
