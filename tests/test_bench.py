import contextlib
import io
import json
from collections.abc import Callable
from typing import Any

import pytest

from gateway.decode import DECODERS
from tests.bench import soak
from tests.bench.__main__ import main
from tests.bench.bench import Bench
from tests.bench.figures import Run
from tests.bench.numbered import finger_frame, strap_frame

SMALL = Bench(
    runs=1,
    readings=512,
    notifications=512,
    decode_s=0.0,
    with_processes=False,
    soak_s=0.0,
    straps=3,
    oximeters=1,
    leaves=8192,
)


@pytest.fixture(scope="module")
def shown() -> Any:  # noqa: ANN401 - JSON
    """Run it with --json and a soak of five seconds, and give what it shows."""
    with contextlib.redirect_stdout(io.StringIO()) as output:
        assert main(["--json", "--soak-s", "5"], SMALL) == 0
    return json.loads(output.getvalue())


def test_json_is_one_object_with_every_figure_beside_its_bound(shown: Any) -> None:  # noqa: ANN401 - JSON
    """Stdout is one JSON object: figures with values, bounds, ratios, aims that are met or not, and their runs."""
    assert shown["seconds"] > 0
    rate, stored = shown["figures"][:2]
    assert (rate["unit"], stored["unit"]) == ("/s", "B")
    assert rate["runs"] == [rate["value"]]
    assert rate["ratio"] == pytest.approx(rate["value"] / rate["bound"]["value"])
    assert rate["aims"] == [{"of": "ratio", "at_least": 0.5, "at_most": None, "met": rate["ratio"] >= 0.5}]
    assert stored["bound"] is stored["ratio"] is None
    assert stored["aims"] == [{"of": "value", "at_least": None, "at_most": 300, "met": stored["value"] <= 300}]


def test_soak_finds_every_frame_that_was_said(shown: Any) -> None:  # noqa: ANN401 - JSON
    """Of what straps and an oximeter say in five seconds to a real gateway everything is kept, once."""
    notifications, frames, *others = [each for each in shown["figures"] if each["name"].startswith("soak 5 s: ")]
    assert notifications["value"] == notifications["bound"]["value"] >= 3 * 4
    assert frames["value"] == frames["bound"]["value"] >= 60 * 3
    assert [figure["aims"][0]["met"] for figure in (notifications, frames)] == [True, True]
    assert [figure["unit"] for figure in others] == ["ms", "ms", "%", "MB", "MB", "s"]


def test_table_has_a_line_for_every_figure(capsys: pytest.CaptureFixture[str]) -> None:
    """Without --json there is a table: a heading, then each figure, each decoder's too, with median, aim and runs."""
    assert main([], SMALL) == 0
    shown = capsys.readouterr()
    heading, *lines = shown.out.splitlines()
    assert heading.split() == ["figure", "median", "bound", "ratio", "aim", "runs"]
    assert [line.partition("  ")[0] for line in lines] == [
        "readings signed, kept, sealed",
        "stored a heart rate, tree and indexes",
        *[f"decode {name}" for name in DECODERS],
        "notifications through bleak, kept",
        "processor a notification, kept",
        "catching up, 256 leaves a block",
        "catching up, with certificates",
    ]
    assert "bench: throughput, run 1 of 1" in shown.err


def test_soak_counts_neither_what_is_lost_nor_what_is_kept_twice() -> None:
    """Of four frames one is lost and one is there twice: two are kept; a delay is at most a ms more than is seen."""
    said = {"strap": [("01", 1000.0), ("02", 1000.5), ("03", 1001.0), ("04", 1002.0)], "other": []}
    kept = {"strap": {"01": [1000], "03": [1001, 1001], "04": [1005]}}
    account = soak.account(["strap", "other"], said, kept)
    assert (account.run.value, account.run.bound) == (2, 4)
    assert account.delays_ms == [1, 4]
    assert soak.account(["strap"], said, kept, last=2).run == Run(1, 2)


@pytest.mark.parametrize("seconds", ["-1", "1.5", "inf", "nan", "long"])
def test_soak_of_no_length_is_refused(seconds: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A soak has 2 s or more, or is left out with 0; anything else is wrong usage."""
    with pytest.raises(SystemExit) as ended:
        main(["--soak-s", seconds], SMALL)
    assert ended.value.code == 2
    assert "--soak-s" in capsys.readouterr().err


@pytest.mark.parametrize(("frame", "count"), [(strap_frame, 30_000), (finger_frame, 40_000)])
def test_no_frame_of_a_soak_is_like_another(frame: Callable[[int], bytes], count: int) -> None:
    """A strap's frames differ for eight hours; an oximeter's do where its small counters begin again."""
    assert len({frame(number) for number in range(count)}) == count
