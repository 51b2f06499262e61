"""Frames with the values that other projects' tests and captures give them.

Where their reading differs from the specification, the specification wins, and the test says so. A year, month or
day of 0 is unknown; fields that have no code (impedance, trend, ...) are left to the kept frame.
"""

import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from gateway.decode import DECODERS
from gateway.decode.cgm import compute_crc
from gateway.decode.number import read_date_time, read_sfloat
from gateway.decode.record_access import Counted, RecordAccess, Refused, Reported, Unexpected
from gateway.model import Damaged, Measurement, Sample, Special

VECTORS = Path(__file__).parents[1] / "../shared/vectors/devices.json"
pytestmark = pytest.mark.skipif(not VECTORS.exists(), reason="../shared/vectors/devices.json is missing")

Vector = dict[str, Any]


def load(protocol: str) -> list[Any]:
    if not VECTORS.exists():
        return []
    vectors = json.loads(VECTORS.read_text())
    return [
        pytest.param(vector, id=vector["name"])
        for vector in vectors
        if vector["characteristic_or_protocol"] == protocol
    ]


def feed(name: str, vector: Vector, *, times: int = 1, end: bytes = b"") -> list[Sample | Damaged]:
    return DECODERS[name]().feed(bytes.fromhex(vector["hex"]) * times + end)


def values(made: list[Sample | Damaged]) -> dict[int, object]:
    (sample,) = made
    assert isinstance(sample, Sample)
    return {measurement.code: measurement.value for measurement in sample.measurements}


def to_ms(time: list[int] | None) -> int | None:
    if time is None or 0 in time[:3]:
        return None
    year, month, day, hour, minute, second = time
    return int(datetime(year, month, day, hour, minute, second, tzinfo=UTC).timestamp()) * 1000


def number(value: float) -> Decimal:
    return Decimal(str(value))


@pytest.mark.parametrize("vector", load("SFLOAT"))
def test_sfloat(vector: Vector) -> None:
    """Numbers and specials as PureSwift and Nordic have them."""
    value = read_sfloat(int.from_bytes(bytes.fromhex(vector["hex"]), "little"))
    expected = vector["expected"]
    assert value == (Special(expected["special"]) if "special" in expected else number(expected["value"]))


@pytest.mark.parametrize("vector", [each for each in load("2A08") if "time" in each.values[0]["expected"]])
def test_date_time(vector: Vector) -> None:
    """A known date is read; one with an unknown year, month or day is none."""
    assert read_date_time(bytes.fromhex(vector["hex"])) == to_ms(vector["expected"]["time"])


@pytest.mark.parametrize("vector", load("CRC16/MCRF4XX"))
def test_crc(vector: Vector) -> None:
    """The check of a CGM record."""
    assert compute_crc(bytes.fromhex(vector["hex"])) == vector["expected"]["crc"]


@pytest.mark.parametrize("vector", load("2A37"))
def test_heart_rate(vector: Vector) -> None:
    """Rate, energy, contact and RR intervals."""
    (sample,) = feed("gatt.heart_rate", vector)
    expected = vector["expected"]
    assert isinstance(sample, Sample)
    assert sample.measurements == (
        Measurement(147842, expected["bpm"], "/min"),
        *(Measurement(8454263, energy, "kJ") for energy in [expected["energy_kj"]] if energy is not None),
        *(Measurement(147240, Decimal(ticks) * 1000 / 1024, "ms") for ticks in expected["rr_1024"]),
    )
    assert ("no-contact" in sample.flags) == (expected["contact"] is False)


@pytest.mark.parametrize("vector", load("2A35"))
def test_blood_pressure(vector: Vector) -> None:
    """Pressures, pulse, time, user and status; a frame of seven bytes with a time stamp's flag is cut off."""
    expected = vector["expected"]
    (made,) = feed("gatt.blood_pressure", vector)
    if "error" in expected:
        assert isinstance(made, Damaged)
        return
    assert isinstance(made, Sample)
    assert [(each.code, each.value) for each in made.measurements] == [
        (code, number(expected[name]))
        for code, name in ((150021, "sys"), (150022, "dia"), (150023, "map"), (149546, "pulse"))
        if expected[name] is not None
    ]
    assert made.device_time_ms == to_ms(expected["time"])
    assert ("user-1" in made.flags) == (expected["user"] == 1)


@pytest.mark.parametrize("vector", load("2A36"))
def test_cuff_pressure(vector: Vector) -> None:
    """The pressure in the cuff, and nothing of what is no result yet."""
    expected = vector["expected"]
    (sample,) = feed("gatt.cuff_pressure", vector)
    assert isinstance(sample, Sample)
    assert sample.measurements == (Measurement(150300, number(expected["cuff"]), "mm[Hg]"),)
    assert sample.device_time_ms == to_ms(expected["time"])
    assert "user-1" in sample.flags


@pytest.mark.parametrize("vector", load("2A1C"))
def test_temperature(vector: Vector) -> None:
    """Value or special, unit, time and type."""
    expected = vector["expected"]
    (sample,) = feed("gatt.temperature", vector)
    assert isinstance(sample, Sample)
    if "special" in expected:
        assert (sample.measurements, sample.flags) == ((), ("no-value:150364:NaN",))
    else:
        assert sample.measurements == (Measurement(150364, number(expected["value"]), "Cel"),)
    assert sample.device_time_ms == to_ms(expected["time"])
    assert ("site-finger" in sample.flags) == (expected["type"] == 4)


@pytest.mark.parametrize("vector", load("2A18"))
def test_glucose(vector: Vector) -> None:
    """Concentration under the code of its type, time with its offset in minutes."""
    expected = vector["expected"]
    (sample,) = feed("gatt.glucose", vector)
    assert isinstance(sample, Sample)
    base_ms = to_ms(expected["time"])
    assert base_ms is not None
    assert sample.device_time_ms == base_ms + (expected["offset_min"] or 0) * 60_000
    assert sample.record == expected["seq"]
    if expected["value"] is None:
        assert sample.measurements == ()
    else:
        assert sample.measurements == (Measurement(160188, number(expected["value"]), expected["unit"]),)


@pytest.mark.parametrize("vector", load("2A34"))
def test_glucose_context(vector: Vector) -> None:
    """A context may hold nothing but its sequence number."""
    (sample,) = made = feed("gatt.glucose_context", vector)
    assert values(made) == {}
    assert isinstance(sample, Sample)
    assert sample.record == vector["expected"]["seq"]


@pytest.mark.parametrize("vector", [each for each in load("2A52") if each.values[0]["expected"]["op"] in (5, 6)])
def test_record_access(vector: Vector) -> None:
    """A response to what was asked, or a count; a response to opcode 12, which nobody asks, is none."""
    expected = vector["expected"]
    asked = {1: RecordAccess.report_all, 2: RecordAccess.delete_all}
    request = expected.get("request")
    access = RecordAccess()
    asked.get(request, RecordAccess.count_all)(access, 0)
    indication = bytes.fromhex(vector["hex"])
    outcomes = {
        (1, 1): Reported(is_empty=False),
        (1, 6): Reported(is_empty=True),
        (2, 8): Refused(2, "procedure not completed"),
        (12, 2): Unexpected(indication),
    }
    outcome = Counted(expected["count"]) if request is None else outcomes[request, expected["code"]]
    assert access.receive(indication) == outcome


@pytest.mark.parametrize("vector", [each for each in load("2A52") if each.values[0]["expected"]["op"] == 1])
def test_record_request(vector: Vector) -> None:
    """What asks for every record."""
    assert RecordAccess().report_all(0) == bytes.fromhex(vector["hex"])


@pytest.mark.parametrize("vector", load("2AA7"))
def test_cgm(vector: Vector) -> None:
    """Each record is a sample, its check included."""
    expected = vector["expected"]
    made = feed("gatt.cgm", vector)
    if "error" in expected:
        assert [type(each) for each in made] == [Damaged]
        return
    assert [each.measurements for each in made if isinstance(each, Sample)] == [
        (Measurement(160020, number(record["glucose"]), "mg/dL"),) for record in expected["records"]
    ]


@pytest.mark.parametrize(
    ("vector", "name"),
    [(*each.values, "plx_continuous") for each in load("2A5F")]
    + [(*each.values, "plx_spot_check") for each in load("2A5E")],
)
def test_oximeter(vector: Vector, name: str) -> None:
    """SpO2, pulse rate and, where the frame has it, the pulse amplitude index."""
    expected = vector["expected"]
    assert values(feed(f"gatt.{name}", vector)) == {
        code: number(expected[key])
        for code, key in ((150456, "spo2"), (149530, "pr"), (150448, "pai"))
        if key in expected
    }


@pytest.mark.parametrize("vector", load("2A9D"))
def test_weight(vector: Vector) -> None:
    """Weight, BMI and height in the unit of the scale, time and user."""
    expected = vector["expected"]
    (sample,) = feed("gatt.weight", vector)
    assert isinstance(sample, Sample)
    unit = {"kg": "kg", "lb": "[lb_av]"}[expected["unit"]]
    assert [(each.code, each.value, each.unit) for each in sample.measurements] == [
        (code, number(expected[key]), in_unit)
        for code, key, in_unit in ((188736, "weight", unit), (188752, "bmi", "kg/m2"), (188740, "height", "m"))
        if expected[key] is not None
    ]
    assert sample.device_time_ms == to_ms(expected["time"])
    assert [flag for flag in sample.flags if flag.startswith("user-")] == (
        [] if expected["user"] is None else [f"user-{expected['user']}"]
    )


@pytest.mark.parametrize("vector", load("2A9C"))
def test_body_composition(vector: Vector) -> None:
    """What has a verified code is found between what has none."""
    codes = {
        "fat": 188748,
        "fat_free_mass": 188756,
        "soft_lean_mass": 188760,
        "water_mass": 188764,
        "weight": 188736,
        "height": 188740,
    }
    expected = vector["expected"]
    assert values(feed("gatt.body_composition", vector)) == {
        code: number(expected[key]) for key, code in codes.items() if key in expected
    }


@pytest.mark.parametrize("vector", load("2A19"))
def test_battery(vector: Vector) -> None:
    """The level in per cent."""
    assert values(feed("gatt.battery", vector)) == {67996: vector["expected"]["percent"]}


@pytest.mark.parametrize("vector", load("nonin-df2"))
def test_nonin(vector: Vector) -> None:
    """The displayed rate and saturation of a whole packet."""
    read = values(feed("serial.nonin_df2", vector))
    assert (read[149530], read[150456]) == (vector["expected"]["hr_d"], vector["expected"]["spo2_d"])


@pytest.mark.parametrize(
    ("vector", "name"),
    [(*each.values, "cms50d") for each in load("cms50-5")] + [(*each.values, "cms50e") for each in load("cms50-9")],
)
def test_contec(vector: Vector, name: str) -> None:
    """A second of one frame; where the source reads 0, the display shows dashes and there is no value."""
    expected = vector["expected"]
    made = feed(f"serial.{name}", vector, times=60)
    if "error" in expected:
        assert all(isinstance(each, Damaged) for each in made)
        return
    read = values(made)
    assert (read.get(149530, 0), read.get(150456, 0)) == (expected["pulse"], expected["spo2"])


@pytest.mark.parametrize("vector", load("masimo-ascii1"))
def test_masimo(vector: Vector) -> None:
    """SpO2, pulse rate and perfusion index of a captured line."""
    expected = vector["expected"]
    assert values(feed("serial.masimo_ascii1", vector, end=b"\r\n")) == {
        150456: expected["spo2"],
        149530: expected["bpm"],
        150448: number(expected["pi"]),
    }
