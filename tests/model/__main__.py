"""`make model`: every state of the rule that a few peers, one of them a liar, can be in; and each mutant is caught.

    python -m tests.model [--json]

Exit codes: 0 the rule holds and no mutant does, 1 otherwise, 3 SPIN or a C compiler is missing.
"""

import json
import sys

from tests.model.spin import CASES, MUTANTS, Case, Checked, MissingToolError, check


def main(arguments: list[str]) -> int:
    """Check everything, telling of each check."""
    as_json = "--json" in arguments
    rows: list[dict[str, object]] = []
    for case in (*CASES, *MUTANTS):
        try:
            found = check(case)
        except MissingToolError as error:
            sys.stderr.write(f"{error}\n")
            return 3
        rows.append(_row(case, found))
        if not as_json:
            sys.stdout.write(_line(case, found) + "\n")
            sys.stdout.flush()
    if as_json:
        sys.stdout.write(json.dumps(rows) + "\n")
    return 0 if all(row["ok"] for row in rows) else 1


def _is_well(case: Case, found: Checked) -> bool:
    return found.violated if case.is_mutant else found.complete and not found.violated


def _row(case: Case, found: Checked) -> dict[str, object]:
    return {
        "name": case.name,
        "ok": _is_well(case, found),
        "states": found.states,
        "memory_mb": found.memory_mb,
        "seconds": found.seconds,
    }


def _line(case: Case, found: Checked) -> str:
    kind = "mutant" if case.is_mutant else "rule"
    says = "violated within" if found.violated else "holds in all" if found.complete else "not known after"
    figures = f"{found.states:,} states, {found.memory_mb:.0f} MB, {found.seconds:.0f} s"
    return f"{'ok ' if _is_well(case, found) else 'BAD'} {kind:6} {case.name}: {says} {figures}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
