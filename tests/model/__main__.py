"""`make model`: every state of the rule that four peers, one of them a liar, can be in; and each mutant is caught.

    python -m tests.model [--json]

Exit codes: 0 the rule holds and no mutant does, 1 otherwise, 3 SPIN or a C compiler is missing.
"""

import json
import sys

from tests.model.spin import MUTANTS, RULES, Checked, MissingToolError, check


def main(arguments: list[str]) -> int:
    """Check everything, telling of each check."""
    as_json = "--json" in arguments
    runs: list[tuple[str, int, int, int]] = [
        *[
            (f"rule, {heights} heights, {incarnations} incarnations", 0, heights, incarnations)
            for heights, incarnations in RULES
        ],
        *[(f"mutant: {name}", number, 2, 1) for number, name in MUTANTS.items()],
    ]
    results: list[tuple[str, bool, Checked]] = []
    for name, mutant, heights, incarnations in runs:
        try:
            found = check(mutant=mutant, heights=heights, incarnations=incarnations)
        except MissingToolError as error:
            sys.stderr.write(f"{error}\n")
            return 3
        well = found.violated == bool(mutant) and (found.complete or bool(mutant))
        results.append((name, well, found))
        if not as_json:
            says = "violated" if found.violated else "holds in all"
            sys.stdout.write(
                f"{'ok ' if well else 'BAD'} {name}: {says} {found.states:,} states, {found.seconds:.0f} s\n"
            )
            sys.stdout.flush()
    if as_json:
        rows = [
            {"name": name, "ok": well, "states": found.states, "seconds": found.seconds}
            for name, well, found in results
        ]
        sys.stdout.write(json.dumps(rows) + "\n")
    return 0 if all(well for _, well, _ in results) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
