"""SPIN run on ledger.pml, in a folder of its own."""

import re
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

MODEL = Path(__file__).parent / "ledger.pml"
MEMORY_MB = 8000
DEPTH = 1_000_000

# heights and incarnations that are checked in full
RULES = ((2, 1), (1, 2))
MUTANTS = {
    1: "a quorum of two",
    2: "a vote is said before it is stored",
    3: "any start is accepted",
    4: "no freeze on two histories",
    5: "a frozen peer goes on voting",
}


class MissingToolError(Exception):
    """A program is missing; the text says which package has it."""


@dataclass(frozen=True, slots=True)
class Checked:
    """What a check came to."""

    violated: bool
    complete: bool
    states: int
    seconds: float


def check(*, mutant: int, heights: int, incarnations: int) -> Checked:
    """Look at every state that can be reached, or at those before the first violation.

    Raises: MissingToolError without spin or a C compiler.
    """
    for program, package in (("spin", "spin"), ("cc", "gcc")):
        if shutil.which(program) is None:
            raise MissingToolError(f"{program} is missing: ./systemd/debian-packages {package}")
    sizes = [f"-DMUTANT={mutant}", f"-DHEIGHTS={heights}", f"-DINCARNATIONS={incarnations}"]
    began_s = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        _run(["spin", *sizes, "-a", str(MODEL)], folder)
        _run(["cc", "-O2", "-DSAFETY", "-DCOLLAPSE", f"-DMEMLIM={MEMORY_MB}", "-o", "pan", "pan.c"], folder)
        told = _run(["./pan", f"-m{DEPTH}"], folder)
    errors, states = re.search(r"errors: (\d+)", told), re.search(r"(\d+) states, stored", told)
    if errors is None or states is None:
        raise ValueError(f"SPIN ended early:\n{told}")
    return Checked(
        violated=errors[1] != "0",
        complete="Search not completed" not in told and "max search depth too small" not in told,
        states=int(states[1]),
        seconds=time.monotonic() - began_s,
    )


def _run(command: list[str], folder: str) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL)
    return done.stdout
