"""`python -m tests.simulation`: a line now and then and one at the end, or one JSON object, on stdout."""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from multiprocessing import get_context
from time import perf_counter

from tests.simulation.world import Outcome, run_seed

SHOW_EVERY = 100
DAY_MS = 86_400_000


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one seed or many, show what came of them, and give the exit code."""
    options = _build_parser().parse_args(arguments)
    start_s = perf_counter()
    if options.seed is not None:
        outcomes = [run_seed(options.seed, _say if options.verbose else None)]
    else:
        outcomes = []
        for outcome in _run_seeds(range(options.start, options.start + options.seeds), options.processes):
            outcomes.append(outcome)
            if not options.json and (outcome.broken or len(outcomes) % SHOW_EVERY == 0):
                _say(_show_failure(outcome) if outcome.broken else _show_total(outcomes))
    if options.json:
        _say(json.dumps(_as_record(outcomes, perf_counter() - start_s)))
    else:
        if options.seed is not None and outcomes[0].broken:
            _say(_show_failure(outcomes[0]))
        _say(f"{_show_total(outcomes)} in {perf_counter() - start_s:.0f} s")
    return int(any(outcome.broken for outcome in outcomes))


def _build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description="A ledger decided by one number.")
    parser.add_argument("--seeds", type=int, default=300, help="how many seeds")
    parser.add_argument("--from", type=int, default=0, dest="start", metavar="N", help="the first of them")
    parser.add_argument("--processes", type=int, default=1, help="how many at a time")
    parser.add_argument("--seed", type=int, metavar="N", help="this one alone")
    parser.add_argument("--verbose", action="store_true", help="with --seed: every step as it happens")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of the lines")
    return parser


def _run_seeds(seeds: range, processes: int) -> Iterator[Outcome]:
    """Give what came of each seed, in their order."""
    if processes == 1:
        yield from map(run_seed, seeds)
        return
    with get_context("fork").Pool(processes) as pool:
        yield from pool.imap(run_seed, seeds, chunksize=4)


def _show_total(outcomes: Sequence[Outcome]) -> str:
    days = sum(outcome.virtual_ms for outcome in outcomes) / DAY_MS
    steps = sum(outcome.steps for outcome in outcomes)
    broken = sum(outcome.broken is not None for outcome in outcomes)
    counts = ", ".join(f"{count} {name}" for name, count in sorted(_sum_counts(outcomes).items()))
    return f"{len(outcomes)} seeds: {days:.2f} virtual days, {steps} steps, {broken} promises broken; {counts}"


def _sum_counts(outcomes: Sequence[Outcome]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for outcome in outcomes:
        counts.update(outcome.counts)
    return counts


def _show_failure(outcome: Outcome) -> str:
    again = f"python -m tests.simulation --seed {outcome.seed} --verbose"
    return "\n    ".join([f"seed {outcome.seed}: {outcome.broken}", *outcome.last, again])


def _as_record(outcomes: Sequence[Outcome], seconds: float) -> dict[str, object]:
    return {
        "seeds": len(outcomes),
        "seconds": round(seconds, 1),
        "virtual_ms": sum(outcome.virtual_ms for outcome in outcomes),
        "steps": sum(outcome.steps for outcome in outcomes),
        "counts": _sum_counts(outcomes),
        "fingerprints": {outcome.seed: outcome.fingerprint for outcome in outcomes},
        "broken": [asdict(outcome) for outcome in outcomes if outcome.broken],
    }


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - what a person or a script reads


if __name__ == "__main__":
    sys.exit(main())
