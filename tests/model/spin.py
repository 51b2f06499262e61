"""SPIN run on the models of this folder, each time in a folder of its own.

CASES   what is checked in full      (model, sizes): no promise is broken in any state
MUTANTS the rule broken in one place (model, sizes with MUTANT): some promise is broken, and SPIN finds where
"""

import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

MODELS = Path(__file__).parent
MEMORY_MB = 8000
DEPTH = 100_000


class MissingToolError(Exception):
    """A program is missing; the text says which package has it."""


@dataclass(frozen=True, slots=True)
class Case:
    """A model at some sizes; one with MUTANT among them is to fail."""

    name: str
    model: str
    sizes: Mapping[str, int]

    @property
    def is_mutant(self) -> bool:
        """Whether the rule is broken."""
        return "MUTANT" in self.sizes


@dataclass(frozen=True, slots=True)
class Checked:
    """What a check came to."""

    violated: bool
    complete: bool
    states: int
    memory_mb: float
    seconds: float


CASES = (
    Case("votes: 4 heights, 1 incarnation", "ledger.pml", {"HEIGHTS": 4}),
    Case("votes: 1 height, 2 incarnations", "ledger.pml", {"HEIGHTS": 1, "INCARNATIONS": 2}),
    Case("epochs: 2 of them, 3 heights", "epochs.pml", {"HEIGHTS": 3}),
    Case("epochs: 3 of them, 1 height", "epochs.pml", {"HEIGHTS": 1, "EPOCHS": 3}),
)
MUTANTS = (
    Case("votes: a quorum of two", "ledger.pml", {"MUTANT": 1}),
    Case("votes: said before stored", "ledger.pml", {"MUTANT": 2}),
    Case("votes: any start is accepted", "ledger.pml", {"MUTANT": 3}),
    Case("votes: no freeze on two histories", "ledger.pml", {"MUTANT": 4}),
    Case("votes: a frozen peer goes on", "ledger.pml", {"MUTANT": 5}),
    Case("epochs: a new peer votes before it holds the blocks", "epochs.pml", {"MUTANT": 1}),
    Case("epochs: one opens without a closing", "epochs.pml", {"MUTANT": 2}),
    Case("epochs: a frozen peer goes on voting", "epochs.pml", {"MUTANT": 3}),
    Case("epochs: the lowest tip of a closing is enough", "epochs.pml", {"MUTANT": 4}),
    Case("epochs: the highest tip of a closing is enough", "epochs.pml", {"MUTANT": 5, "HEIGHTS": 3}),
    Case("epochs: a second freeze, for another reason", "epochs.pml", {"MUTANT": 6}),
    Case("epochs: frozen without holding the blocks", "epochs.pml", {"MUTANT": 7, "HEIGHTS": 1, "EPOCHS": 3}),
    Case("epochs: nothing goes with the closing of an incarnation", "epochs.pml", {"MUTANT": 8}),
)


def check(case: Case) -> Checked:
    """Look at every state that can be reached, or at those before the first violation.

    Raises: MissingToolError without spin or a C compiler.
    """
    for program, package in (("spin", "spin"), ("cc", "gcc")):
        if shutil.which(program) is None:
            raise MissingToolError(f"{program} is missing: ./systemd/debian-packages {package}")
    sizes = [f"-D{name}={value}" for name, value in case.sizes.items()]
    began_s = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        _run(["spin", *sizes, "-a", str(MODELS / case.model)], folder)
        _run(["cc", "-O1", "-DSAFETY", f"-DMEMLIM={MEMORY_MB}", "-o", "pan", "pan.c"], folder)
        told = _run(["./pan", f"-m{DEPTH}"], folder)
    if "invalid array index" in told:
        raise ValueError(f"{case.model} is wrong:\n{told}")
    return Checked(
        violated="assertion violated" in told,
        complete="Search not completed" not in told and "max search depth too small" not in told,
        states=int(_figure(r"(\d+) states, stored", told)),
        memory_mb=float(_figure(r"([\d.]+)\s+total actual memory", told)),
        seconds=time.monotonic() - began_s,
    )


def _figure(pattern: str, told: str) -> str:
    found = re.search(pattern, told)
    if found is None:
        raise ValueError(f"SPIN ended early:\n{told}")
    return found[1]


def _run(command: list[str], folder: str) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL)
    return done.stdout
