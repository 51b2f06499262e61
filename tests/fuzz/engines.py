"""Where inputs come from: atheris, guided by coverage, where it is installed; Hypothesis otherwise."""

import os
import sys
from contextlib import redirect_stderr
from importlib import import_module
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from time import monotonic
from typing import cast

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.database import DirectoryBasedExampleDatabase

from tests.fuzz.attempt import Engine, Track
from tests.fuzz.target import LIMIT, Target, change

_BATCH = 200


def name_engine() -> str:
    """Say which engine is used on this machine."""
    return "atheris" if find_spec("atheris") else "hypothesis"


def load_targets(engine: str) -> dict[str, Target]:
    """Give the table of targets, its modules watched by atheris where that is the engine."""
    if engine == "atheris":
        with redirect_stderr(StringIO()), import_module("atheris").instrument_imports(include=["gateway"]):
            import_module("tests.fuzz.targets")
    return cast("dict[str, Target]", import_module("tests.fuzz.targets").TARGETS)


def try_hypothesis(target: Target, seconds: float, folder: Path, track: Track) -> None:
    """Try the seeds, what failed before, and then inputs of Hypothesis, which makes a failing one small."""
    end_s = monotonic() + seconds

    @settings(
        max_examples=_BATCH,
        deadline=None,
        derandomize=False,
        database=DirectoryBasedExampleDatabase(folder),
        report_multiple_bugs=False,
        phases=(Phase.reuse, Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(_inputs(target.seeds))
    def attempt(data: bytes) -> None:
        track.run(target.check, data)

    for seed in target.seeds:
        track.run(target.check, seed)
    while monotonic() < end_s:
        attempt()


def try_atheris(target: Target, seconds: float, folder: Path, track: Track) -> None:
    """Try inputs of libFuzzer, which begins with the seeds, what covered more before, and what failed; never returns.

    The process ends with the time, or at the first failure.
    """
    atheris = import_module("atheris")
    corpus, seeds = folder / "corpus", folder / "seeds"
    for place in (corpus, seeds):
        place.mkdir(exist_ok=True)
    for number, seed in enumerate(target.seeds):
        (seeds / str(number)).write_bytes(seed)

    def attempt(data: bytes) -> None:
        try:
            track.run(target.check, data)
        except Exception:  # noqa: BLE001 - any of them is the finding
            (corpus / "failed").write_bytes(data)
            os._exit(0)

    limits = [f"-max_total_time={max(round(seconds), 1)}", f"-max_len={LIMIT}", "-timeout=0"]
    artifacts = f"-artifact_prefix={folder}/"
    atheris.Setup([sys.argv[0], *limits, artifacts, str(corpus), str(seeds)], attempt)
    atheris.Fuzz()


ENGINES: dict[str, Engine] = {"atheris": try_atheris, "hypothesis": try_hypothesis}


def _inputs(seeds: tuple[bytes, ...]) -> st.SearchStrategy[bytes]:
    """Pieces of chance and of seeds, changed at a few places or without their beginnings, one behind the other."""
    edits = st.lists(st.tuples(st.integers(0, LIMIT), st.binary(min_size=1, max_size=3)), max_size=3)
    seed = st.sampled_from(seeds)
    changed = st.builds(change, seed, edits)
    cut = st.builds(lambda data, at: data[at % (len(data) + 1) :], seed, st.integers(0, LIMIT))
    pieces = st.lists(st.binary(max_size=60) | changed | cut, max_size=4)
    return pieces.map(lambda several: b"".join(several)[:LIMIT])
