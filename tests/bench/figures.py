"""Figures: medians of several runs beside their bounds and aims, as a table and as JSON.

    figure                 median       bound                           ratio   aim        runs
    readings kept       18,900 /s      43,000 /s Ed25519 signatures      0.44   >= 0.5 x !  5: 17,800 to 19,300

The bound is what the machine does at best, measured in the same run; the ratio is the median of the runs' ratios.
An aim is met by the figure or, with an x, by its ratio; an exclamation mark says that it was missed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from statistics import median
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Aim:
    """What the median, or the ratio to its bound, is meant to be."""

    at_least: float | None = None
    at_most: float | None = None
    of_ratio: bool = False

    def is_met(self, value: float) -> bool:
        """Say whether a value is within."""
        low = -float("inf") if self.at_least is None else self.at_least
        high = float("inf") if self.at_most is None else self.at_most
        return low <= value <= high

    def __str__(self) -> str:
        limit = f">= {self.at_least:g}" if self.at_least is not None else f"< {self.at_most:g}"
        return f"{limit} x" if self.of_ratio else limit


@dataclass(frozen=True, slots=True)
class Run:
    """What one run came to, and what its bound was in that run."""

    value: float
    bound: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One line of the table; bound and figure have the same unit."""

    name: str
    unit: str
    runs: Sequence[Run]
    bound: str = ""
    aims: tuple[Aim, ...] = ()

    @property
    def value(self) -> float:
        """The median of the runs."""
        return median(run.value for run in self.runs)

    @property
    def bound_value(self) -> float | None:
        """The median of the bounds."""
        bounds = [run.bound for run in self.runs if run.bound is not None]
        return median(bounds) if bounds else None

    @property
    def ratio(self) -> float | None:
        """The median of the runs' ratios to their bounds."""
        ratios = [run.value / run.bound for run in self.runs if run.bound]
        return median(ratios) if ratios else None

    def is_met(self, aim: Aim) -> bool:
        """Say whether the figure meets an aim."""
        return aim.is_met((self.ratio or 0.0) if aim.of_ratio else self.value)


def quantile(values: Sequence[float], part: float) -> float:
    """Give the least value that no more than the rest of them is above (the nearest rank)."""
    return sorted(values)[max(ceil(len(values) * part) - 1, 0)]


def as_record(figure: Figure) -> dict[str, Any]:
    """Give a figure as JSON shows it."""
    return {
        "name": figure.name,
        "unit": figure.unit,
        "value": figure.value,
        "bound": {"name": figure.bound, "value": figure.bound_value} if figure.bound else None,
        "ratio": figure.ratio,
        "aims": [
            {
                "of": "ratio" if aim.of_ratio else "value",
                "at_least": aim.at_least,
                "at_most": aim.at_most,
                "met": figure.is_met(aim),
            }
            for aim in figure.aims
        ],
        "runs": [run.value for run in figure.runs],
    }


def as_rows(figures: Sequence[Figure]) -> list[tuple[str, ...]]:
    """Give the cells of the table, column by column as `COLUMNS` names them."""
    return [_row(figure) for figure in figures]


COLUMNS = ("figure", "median", "bound", "ratio", "aim", "runs")


def _row(figure: Figure) -> tuple[str, ...]:
    bound = "" if figure.bound_value is None else f"{_shown(figure.bound_value)} {figure.unit} {figure.bound}"
    ratio = "" if figure.ratio is None else f"{figure.ratio:.2f}"
    aims = ", ".join(f"{aim}{'' if figure.is_met(aim) else ' !'}" for aim in figure.aims)
    values = sorted(run.value for run in figure.runs)
    runs = f"{len(values)}: {_shown(values[0])} to {_shown(values[-1])}"
    return (figure.name, f"{_shown(figure.value)} {figure.unit}", bound, ratio, aims, runs)


def _shown(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
