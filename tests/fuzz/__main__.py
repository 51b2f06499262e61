"""`python -m tests.fuzz`: a line for each target as it ends, or one JSON object, on stdout."""

import argparse
import json
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing.connection import wait
from pathlib import Path

from tests.fuzz.attempt import Attempt, Engine, Report
from tests.fuzz.engines import ENGINES, load_targets, name_engine
from tests.fuzz.target import Target

FOLDER = Path(__file__).parents[2] / ".hypothesis" / "fuzz"
PROCESSES = 2


def main(
    arguments: Sequence[str] | None = None,
    targets: Mapping[str, Target] | None = None,
    folder: Path = FOLDER,
    engine: str | None = None,
) -> int:
    """Replay one input, or try inputs on all targets or those that are named, and give the exit code."""
    engine = engine or name_engine()
    known = load_targets(engine) if targets is None else targets
    parser = _build_parser(known)
    options = parser.parse_args(arguments)
    if options.replay:
        return _replay(parser, known, *options.replay)
    chosen = [known[name] for name in options.target or known]
    reports: list[Report] = []
    for report in run_campaign(chosen, options.seconds, folder / engine, ENGINES[engine]):
        reports.append(report)
        if not options.json:
            _say(_show(report))
    if options.json:
        _say(json.dumps({"engine": engine, "targets": [_as_record(report) for report in reports]}))
    else:
        runs, findings = sum(report.runs for report in reports), sum(bool(report.finding) for report in reports)
        _say(f"{len(reports)} targets by {engine}: {runs} runs, {findings} findings")
    return int(any(report.finding for report in reports))


def run_campaign(targets: Sequence[Target], seconds: float, folder: Path, engine: Engine) -> Iterator[Report]:
    """Give each target's report as it ends; all have as long as each other, and some are tried at a time."""
    share_s = seconds * min(PROCESSES, len(targets)) / len(targets)
    waiting = list(reversed(targets))
    running: list[Attempt] = []
    while waiting or running:
        while waiting and len(running) < PROCESSES:
            target = waiting.pop()
            running.append(Attempt(target, share_s, folder / target.name, engine))
        wait([attempt.sentinel for attempt in running], min(attempt.left_s for attempt in running))
        for attempt in list(running):
            report = attempt.finish()
            if report is not None:
                running.remove(attempt)
                yield report


def _build_parser(targets: Mapping[str, Target]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Any bytes against what reads them.")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long all targets have together")
    parser.add_argument("--target", action="append", choices=sorted(targets), metavar="NAME", help="this one alone")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of the lines")
    parser.add_argument("--replay", nargs=2, metavar=("NAME", "HEX"), help="try these bytes on this target")
    return parser


def _replay(parser: argparse.ArgumentParser, targets: Mapping[str, Target], name: str, text: str) -> int:
    if name not in targets:
        parser.error(f"no target {name!r}: one of {', '.join(sorted(targets))}")
    try:
        data = bytes.fromhex(text)
    except ValueError:
        parser.error("the bytes are not in hex")
    try:
        targets[name].check(data)
    except Exception:  # noqa: BLE001 - any of them is the finding
        _say(traceback.format_exc().rstrip())
        return 1
    _say(f"{name} holds for these {len(data)} bytes")
    return 0


def _show(report: Report) -> str:
    rate = report.runs / max(report.seconds, 0.001)
    line = f"{report.target:30} {report.runs:9} runs {rate:8.0f} /s  {int(report.finding is not None)} findings"
    if report.finding is None:
        return f"{line}\n    {report.fault}" if report.fault else line
    return f"{line}\n    {report.finding.error}\n    {report.finding.data.hex()}\n    {_how_to_replay(report)}"


def _how_to_replay(report: Report) -> str:
    octets = report.finding.data.hex() if report.finding else ""
    return f"python -m tests.fuzz --replay {report.target} '{octets}'"


def _as_record(report: Report) -> dict[str, object]:
    found = report.finding
    finding = found and {"error": found.error, "bytes": found.data.hex(), "replay": _how_to_replay(report)}
    return {
        "target": report.target,
        "runs": report.runs,
        "seconds": round(report.seconds, 1),
        "findings": [finding] if finding else [],
        "fault": report.fault,
    }


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - what a person or a script reads


if __name__ == "__main__":
    sys.exit(main())
