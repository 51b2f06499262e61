from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_stubs.people import RECORDINGS, Person, intervals_ms, pleth_at
from firmware_stubs.scenarios import REST, body_at

recordings = st.sampled_from(RECORDINGS)


@pytest.mark.parametrize(
    ("recording", "count", "rate_per_min"),
    [("ppg_rest_25s", 23, 58.9), ("ppg_2min", 78, 62.4), ("ppg_long", 1030, 97.3)],
)
def test_each_recording_is_the_one_of_the_provenance(recording: str, count: int, rate_per_min: float) -> None:
    """Count and mean rate of each recording are those that its README states."""
    intervals = list(islice(intervals_ms(recording), count))

    assert round(60_000 * count / sum(intervals), 1) == rate_per_min


def test_a_recording_starts_again_after_its_last_interval() -> None:
    """The replay never ends: the second round equals the first."""
    replay = intervals_ms("ppg_rest_25s")

    first, second = list(islice(replay, 23)), list(islice(replay, 23))

    assert first[:3] == [1020, 990, 960]
    assert second == first


def test_an_unknown_recording_is_refused_with_the_known_ones() -> None:
    """A wrong name, a path among them, is refused in words that list what there is."""
    with pytest.raises(ValueError, match="ppg_rest_25s, ppg_2min, ppg_long"):
        intervals_ms("../people")


@given(recordings, st.lists(st.integers(0, 20_000), min_size=1, max_size=30))
def test_the_steps_of_time_do_not_matter(recording: str, steps_ms: list[int]) -> None:
    """One long step and many short ones bring the same beats and leave the same person."""
    stepper, jumper = Person(recording), Person(recording)
    now_ms, stepped = 0, []
    for step_ms in steps_ms:
        now_ms += step_ms
        stepped += stepper.advance(now_ms)

    jumped = jumper.advance(now_ms)

    assert stepped == jumped
    assert stepper.spo2_percent == jumper.spo2_percent
    assert stepper.pleth == jumper.pleth
    assert stepper.rate_per_min() == jumper.rate_per_min()


def test_a_beat_ends_exactly_when_its_interval_is_over() -> None:
    """The beats are those of the recording from the ninth on, since eight came before time 0."""
    person = Person("ppg_rest_25s")

    assert person.advance(899.9) == []
    assert person.advance(900) == [900]
    assert person.phase == 0
    assert person.advance(900 + 950 + 1080) == [950, 1080]


def test_the_rate_is_the_mean_over_the_last_whole_beats() -> None:
    """Before the first beat of the simulation ends, the rate is that of the eight beats before it."""
    person = Person("ppg_rest_25s")

    assert person.rate_per_min(8) == round(60_000 * 8 / (1020 + 990 + 960 + 1000 + 1050 + 1090 + 990 + 900))
    assert person.rate_per_min(4) == round(60_000 * 4 / (1050 + 1090 + 990 + 900))


@given(recordings, st.integers(1, 200))
def test_the_saturation_is_plausible_and_steady(recording: str, beats: int) -> None:
    """It stays between 96 and 99 % and no beat moves it by more than one."""
    person, now_ms = Person(recording), 0
    for interval_ms in islice(intervals_ms(recording), 8, 8 + beats):
        now_ms += interval_ms
        before = person.spo2_percent
        person.advance(now_ms)

        assert 96 <= person.spo2_percent <= 99
        assert abs(person.spo2_percent - before) <= 1


@pytest.mark.parametrize("recording", RECORDINGS)
def test_the_saturation_moves(recording: str) -> None:
    """Within the shortest recording's length, it has more than one value."""
    person = Person(recording)

    seen = set()
    for now_ms in range(0, 25_000, 1000):
        person.advance(now_ms)
        seen.add(person.spo2_percent)

    assert len(seen) > 1


@given(st.floats(0, 1))
def test_the_pleth_fits_a_byte(phase: float) -> None:
    """At every phase of a beat the pleth is 0 to 255."""
    assert 0 <= pleth_at(phase) <= 255


def test_the_pleth_is_a_pulse() -> None:
    """It starts and ends a beat at the foot, peaks early, and has a second, lower wave."""
    wave = [pleth_at(step / 100) for step in range(101)]
    peaks = [step for step in range(1, 100) if wave[step - 1] < wave[step] >= wave[step + 1]]

    assert wave[0] == wave[100] == min(wave)
    assert len(peaks) == 2
    assert wave[peaks[0]] > wave[peaks[1]]
    assert peaks[0] < 25


def test_time_does_not_run_back() -> None:
    """A moment that has passed is refused."""
    person = Person("ppg_2min")
    person.advance(1000)

    with pytest.raises(ValueError, match="past"):
        person.advance(999)


def test_a_recorded_person_has_a_body_at_rest() -> None:
    """Nothing but the beats was recorded: temperature, pressure and the like are those of the scenario."""
    person = Person("ppg_2min")
    person.advance(90_000)

    assert person.body == body_at(REST, 90_000)
    assert person.body != body_at(REST, 0)
