from itertools import pairwise
from statistics import fmean, pstdev

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_stubs.people import RECORDINGS, Person
from firmware_stubs.physiology import WEARERS, Patient, wearer
from firmware_stubs.scenarios import SCENARIOS, value_at

HALF_HOUR_MS = 1_800_000
names = st.sampled_from(sorted(SCENARIOS))


def state_of(patient: Patient) -> tuple[object, ...]:
    return (
        patient.rate_per_min(),
        patient.rate_per_min(8),
        patient.spo2_percent,
        patient.phase,
        patient.pleth,
        patient.body,
    )


@settings(deadline=None)
@given(names, st.integers(0, 9), st.lists(st.integers(0, 20_000), min_size=1, max_size=20))
def test_the_steps_of_time_do_not_matter(name: str, seed: int, steps_ms: list[int]) -> None:
    """One long step and many short ones bring the same beats and leave the same patient, in every run."""
    stepper, jumper = Patient(name, seed), Patient(name, seed)
    now_ms, stepped = 0, []
    for step_ms in steps_ms:
        now_ms += step_ms
        stepped += stepper.advance(now_ms)

    assert stepped == jumper.advance(now_ms)
    assert state_of(stepper) == state_of(jumper)


@given(names)
def test_another_seed_is_another_patient(name: str) -> None:
    """Their beats differ from the first minute on."""
    assert Patient(name, 1).advance(60_000) != Patient(name, 2).advance(60_000)


@settings(deadline=None)
@given(st.sampled_from(WEARERS), st.floats(0, HALF_HOUR_MS))
def test_every_wearer_can_be_measured_at_any_time(name: str, now_ms: float) -> None:
    """Recorded or not, what a sensor asks for is within what a living adult has and what the formats hold."""
    person = wearer(name)
    beats_ms = person.advance(now_ms)
    body = person.body

    assert all(250 <= beat_ms <= 2500 for beat_ms in beats_ms)
    assert 24 <= person.rate_per_min() <= 240
    assert 75 <= person.spo2_percent <= 100
    assert 0 <= person.phase < 1
    assert 0 <= person.pleth <= 255
    assert 35 <= body.temperature_cel <= 41
    assert body.temperature_cel.as_tuple().exponent == -2
    assert 50 <= body.diastolic_mmhg < body.mean_mmhg < body.systolic_mmhg <= 200
    assert 60 <= body.glucose_mg_dl <= 200
    assert body.weight_kg * 200 % 1 == 0
    assert 2 <= body.respiration_per_min <= 40
    assert 0 < body.perfusion_percent < 20


@pytest.mark.parametrize(
    ("name", "low", "high"), [("rest", 55, 72), ("exercise", 60, 165), ("fever", 76, 122), ("af", 70, 160)]
)
def test_the_heart_follows_the_scenario(name: str, low: int, high: int) -> None:
    """Over half an hour, rates over eight beats stay in the scenario's range, and use most of it."""
    patient = Patient(name)
    rates = []
    for now_ms in range(0, HALF_HOUR_MS, 5000):
        patient.advance(now_ms)
        rates.append(patient.rate_per_min(8))

    assert low <= min(rates)
    assert max(rates) <= high
    assert max(rates) - min(rates) > (high - low) / 4


def test_fibrillation_is_irregular_and_sinus_rhythm_is_not() -> None:
    """Successive intervals in "af" vary by more than a tenth, each as if there were no other; at rest they do not."""
    steps = {}
    for name in ("af", "rest"):
        beats_ms = Patient(name).advance(HALF_HOUR_MS)
        usual = [beat - fmean(beats_ms) for beat in beats_ms]
        steps[name] = (
            pstdev(beats_ms) / fmean(beats_ms),
            fmean(a * b for a, b in pairwise(usual)) / pstdev(beats_ms) ** 2,
        )

    assert steps["af"][0] > 0.15
    assert steps["af"][1] < 0.3
    assert steps["rest"][0] < 0.06
    assert steps["rest"][1] > 0.3


def test_breathing_shows_in_the_beats() -> None:
    """At rest, intervals rise and fall some fourteen times a minute, which is how often the patient breathes."""
    beats_ms = Patient("rest").advance(10 * 60_000)
    long = [beat > fmean(beats_ms[max(0, i - 8) : i + 8]) for i, beat in enumerate(beats_ms)]
    rises = sum(now and not before for before, now in pairwise(long))

    assert 100 < rises < 200


def test_a_desaturation_comes_and_goes() -> None:
    """Within three minutes the saturation falls below 82 %, the heart speeds up, and both recover."""
    patient = Patient("desaturation")
    spo2, rates = [], []
    for now_ms in range(0, 180_001, 1000):
        patient.advance(now_ms)
        spo2.append(patient.spo2_percent)
        rates.append(patient.rate_per_min())

    assert min(spo2) < 82
    assert min(spo2[0], spo2[-1]) >= 96
    assert rates[110] > rates[20] + 15
    assert all(abs(after - before) <= 2 for before, after in pairwise(spo2))


def test_a_fever_rises_with_the_heart() -> None:
    """Twenty minutes on, the patient is more than two degrees warmer, and the heart and the breath are faster."""
    well, ill = Patient("fever"), Patient("fever")
    ill.advance(1_200_000)

    assert ill.body.temperature_cel - well.body.temperature_cel > 2
    assert ill.rate_per_min(8) - well.rate_per_min(8) > 15
    assert ill.body.respiration_per_min > well.body.respiration_per_min


@given(names, st.floats(0, 1e9))
def test_a_curve_begins_again(name: str, now_ms: float) -> None:
    """A curve's value is never outside of its points, and the last of these is the first."""
    curve = SCENARIOS[name].rate

    assert min(value for _, value in curve) <= value_at(curve, now_ms) <= max(value for _, value in curve)
    assert curve[0][1] == curve[-1][1]
    assert value_at(curve, curve[-1][0] * 1000) == curve[0][1]


def test_a_wearer_is_a_recording_or_a_scenario() -> None:
    """Every name of both gives one; another name is refused with all of them."""
    assert all(isinstance(wearer(name), Person) for name in RECORDINGS)
    assert all(isinstance(wearer(name), Patient) for name in SCENARIOS)
    with pytest.raises(ValueError, match="there are ppg_rest_25s, ppg_2min, ppg_long, rest, exercise, fever"):
        wearer("nobody")
    with pytest.raises(ValueError, match="there are rest, exercise"):
        Patient("ppg_long")


def test_time_does_not_run_back() -> None:
    """A moment that has passed is refused."""
    patient = Patient("rest")
    patient.advance(1000)

    with pytest.raises(ValueError, match="past"):
        patient.advance(999)
