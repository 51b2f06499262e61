"""How commands show what they have: one JSON object on stdout with --json, tables and plain lines for people."""

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])

# What people call the values of these IEEE 11073-10101 codes.
NAMES = {
    147842: "heart rate",
    147240: "RR interval",
    149530: "pulse rate",
    149546: "pulse rate",
    150456: "SpO2",
    150452: "pleth",
    150364: "temperature",
    150020: "blood pressure",
    150021: "systolic",
    150022: "diastolic",
    150023: "mean pressure",
    150300: "cuff pressure",
    150448: "perfusion index",
    160020: "glucose",
    **dict.fromkeys((*range(160184, 160213, 4), 160364, 160368), "glucose"),
    160208: "control solution",
    160220: "HbA1c",
    188736: "weight",
    188740: "height",
    188748: "body fat",
    188752: "BMI",
    188756: "fat free mass",
    188760: "soft lean mass",
    188764: "body water",
    188508: "ambient temperature",
    67108865: "humidity",
    151562: "respiration",
    8454263: "energy",
    67996: "battery",
}

as_json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout, nothing else.")


def state_option(default: str) -> Callable[[Command], Command]:
    """Give the option --state, with its default and the variable IOMT_STATE."""
    return click.option(
        "--state",
        type=click.Path(file_okay=False, path_type=Path),
        default=os.environ.get("IOMT_STATE", default),
        show_default=True,
        help="The state folder.",
    )


gateway_state_option = state_option("/var/lib/iomt/gateway")


def show_json(value: object) -> None:
    """Print a value as one line of JSON, in ASCII: no terminal finds anything to obey in it."""
    click.echo(json.dumps(value))


def show_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print rows in aligned columns, numbers to the right, control characters shown; cut to a terminal's width."""
    texts = [[printable(str(cell)) for cell in row] for row in rows]
    widths = [max([len(name), *(len(row[at]) for row in texts)]) for at, name in enumerate(columns)]
    right = [all(row[at].lstrip("-").isdigit() for row in texts) and bool(texts) for at in range(len(columns))]
    limit = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    for row in [list(columns), *texts]:
        cells = [
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(row, widths, right, strict=True)
        ]
        click.echo("  ".join(cells).rstrip()[:limit])


def show_facts(facts: Iterable[tuple[str, object]]) -> None:
    """Print names and values, one a line, control characters shown."""
    shown = list(facts)
    width = max([11, *(len(name) for name, _ in shown)])
    for name, value in shown:
        click.echo(f"{name:<{width}} {printable(str(value))}")


def printable(text: str) -> str:
    """Give a text from outside with every control character shown and none obeyed."""
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)


def moment(ms: int) -> str:
    """Give a time as people read it, in UTC; one outside the calendar as its number."""
    try:
        return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S.") + f"{ms % 1000:03d} UTC"
    except (ValueError, OverflowError, OSError):
        return f"{ms} ms"


def values(measurements: Iterable[dict[str, Any]]) -> str:
    """Give measurements (as `records` has them) as people read them, waveforms by their length."""
    return ", ".join(_value(measurement) for measurement in measurements)


def _value(measurement: dict[str, Any]) -> str:
    name = NAMES.get(measurement["code"], str(measurement["code"]))
    value = measurement["value"]
    if isinstance(value, dict):
        return f"{name} ({len(value['samples'])} samples)"
    number = str(value)
    if "." in number or "E" in number:  # exact ones are in --json
        number = f"{float(number):.4g}"
    return f"{name} {number} {measurement['unit']}"
