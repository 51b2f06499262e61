import json

import pytest

from tests.bench.__main__ import main
from tests.bench.bench import Bench

SMALL = Bench(runs=1, readings=512, with_processes=False)


def test_json_is_one_object_with_every_figure_beside_its_bound(capsys: pytest.CaptureFixture[str]) -> None:
    """Stdout is one JSON object: figures with values, bounds, ratios, aims that are met or not, and their runs."""
    assert main(["--json"], SMALL) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["seconds"] > 0
    rate, stored = shown["figures"]
    assert (rate["unit"], stored["unit"]) == ("/s", "B")
    assert rate["runs"] == [rate["value"]]
    assert rate["ratio"] == pytest.approx(rate["value"] / rate["bound"]["value"])
    assert rate["aims"] == [{"of": "ratio", "at_least": 0.5, "at_most": None, "met": rate["ratio"] >= 0.5}]
    assert stored["bound"] is stored["ratio"] is None
    assert stored["aims"] == [{"of": "value", "at_least": None, "at_most": 300, "met": stored["value"] <= 300}]


def test_table_has_a_line_for_every_figure(capsys: pytest.CaptureFixture[str]) -> None:
    """Without --json there is a table: a heading, then each figure with its median, its aim and its runs."""
    assert main([], SMALL) == 0
    shown = capsys.readouterr()
    heading, *lines = shown.out.splitlines()
    assert heading.split() == ["figure", "median", "bound", "ratio", "aim", "runs"]
    assert [line.partition("  ")[0] for line in lines] == [
        "readings signed, kept, sealed",
        "stored a heart rate, tree and indexes",
    ]
    assert "bench: throughput, run 1 of 1" in shown.err
