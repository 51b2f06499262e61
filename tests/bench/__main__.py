"""`python -m tests.bench [--json] [--soak-s S]`: one table, or one JSON object, on stdout."""

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from time import perf_counter

from gateway.cli.output import show_table
from tests.bench.bench import Bench
from tests.bench.figures import COLUMNS, as_record, as_rows


def main(arguments: Sequence[str] | None = None, bench: Bench | None = None) -> int:
    """Measure, show, and give the exit code; a figure that misses its aim is no failure."""
    bench = bench or Bench()
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="How fast the gateway is.")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of the table")
    length = "how long the soak is, in s, 2 or more; 0 leaves it out (default: %(default)g)"
    parser.add_argument("--soak-s", type=_parse_soak, default=bench.soak_s, metavar="S", help=length)
    options = parser.parse_args(arguments)
    start_s = perf_counter()
    try:
        figures = replace(bench, soak_s=options.soak_s).measure()
    except (KeyboardInterrupt, asyncio.CancelledError):
        return 130
    seconds = perf_counter() - start_s
    if options.json:
        print(json.dumps({"seconds": round(seconds, 1), "figures": [as_record(figure) for figure in figures]}))  # noqa: T201
    else:
        show_table(COLUMNS, as_rows(figures))
    return 0


def _parse_soak(text: str) -> float:
    seconds = float(text)
    if seconds and not 2 <= seconds < float("inf"):
        raise ValueError
    return seconds


if __name__ == "__main__":
    sys.exit(main())
