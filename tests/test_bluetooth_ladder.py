import pytest

from gateway.io.bluetooth.ladder import EXIT_S, RESET_S, RESTART_S, Ladder, Step


def climbed(ladder: Ladder, from_s: float, to_s: float, *, expected: bool = True) -> list[tuple[float, Step]]:
    """Look at the ladder every second; give each step with its second."""
    steps = [(second, ladder.climb(second, expected=expected)) for second in range(int(from_s), int(to_s))]
    return [(second, step) for second, step in steps if step is not None]


def test_silence_climbs_rung_by_rung() -> None:
    """The scanner first, then the adapter, then the process, each once."""
    ladder = Ladder(0.0)
    ladder.heard(0.0)
    assert climbed(ladder, 0, 2 * EXIT_S) == [
        (RESTART_S, Step.RESTART_SCANNER),
        (RESET_S, Step.RESET_ADAPTER),
        (EXIT_S, Step.EXIT),
    ]


def test_anything_heard_starts_it_again_from_below() -> None:
    """One advertisement of whatever device shows that the radio works."""
    ladder = Ladder(0.0)
    ladder.heard(0.0)
    assert [step for _, step in climbed(ladder, 0, RESET_S + 5)] == [Step.RESTART_SCANNER, Step.RESET_ADAPTER]
    ladder.heard(RESET_S + 5)
    assert climbed(ladder, RESET_S + 5, 2 * RESET_S - 5) == [(RESET_S + 5 + RESTART_S, Step.RESTART_SCANNER)]


def test_process_that_heard_nothing_does_not_end() -> None:
    """A ward without a single device in reach resets its adapter once and waits."""
    steps = [step for _, step in climbed(Ladder(0.0), 0, 5 * EXIT_S)]
    assert steps == [Step.RESTART_SCANNER, Step.RESET_ADAPTER]


def test_nothing_is_done_where_nothing_is_expected() -> None:
    """Devices that speak only now and then may be silent for days; what is expected later counts from then on."""
    ladder = Ladder(0.0)
    ladder.heard(0.0)
    assert climbed(ladder, 0, 3 * EXIT_S, expected=False) == []
    assert ladder.climb(3 * EXIT_S, expected=True) is None
    assert ladder.silence_s(3 * EXIT_S) == pytest.approx(1, abs=1)


def test_late_look_takes_the_highest_rung() -> None:
    """A process that was itself held up does what is due now, not what was due before."""
    ladder = Ladder(0.0)
    ladder.heard(0.0)
    assert ladder.climb(EXIT_S + 1, expected=True) is Step.EXIT
    assert ladder.climb(EXIT_S + 2, expected=True) is None
