"""The files of the board, run by MicroPython itself, and held against the stubs and the gateway's decoders."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from random import Random
from types import ModuleType

import pytest

from firmware_stubs.behaviour import encode_battery
from firmware_stubs.heart_rate import Location, encode_heart_rate, encode_location
from firmware_stubs.ieee11073 import encode_sfloat
from firmware_stubs.oximeter import Quality, encode_plx_continuous
from gateway.decode import DECODERS
from gateway.decode.features import describe_feature
from gateway.model import Sample
from gateway.profile import load_profile
from tests.boards import STAND_INS, MicroPython

BOARD = Path(__file__).parents[1] / "firmware_stubs" / "micropython"
RANDOM = Random(0x2A5F)  # noqa: S311 - values to encode, the same in every run
SIMULATED_S = 100


@dataclass(frozen=True, kw_only=True)
class Vector:
    """A call of `encode` as text, the bytes of the stubs' encoder, and what the gateway is to read from them."""

    call: str
    stub: bytes
    decoder: str
    values: list[tuple[int, str]]
    flags: set[str] = field(default_factory=set)


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> MicroPython:
    """Give MicroPython with the board's files in /input."""
    return MicroPython(BOARD, tmp_path_factory.mktemp("board"))


@pytest.fixture(scope="module")
def encode() -> ModuleType:
    """Load the board's encode.py into this Python."""
    spec = spec_from_file_location("encode", BOARD / "encode.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def ask(board: MicroPython, calls: Sequence[str]) -> list[str]:
    """Give what each call returns on MicroPython, in hexadecimal, or why it was refused."""
    script = """
import json, sys
sys.path[:] = ["/input"]
import encode
for call in json.loads(%r):
    try:
        print(eval("encode." + call, {"encode": encode}).hex())
    except ValueError as error:
        print("refused:", error)
"""
    return board.run(script % json.dumps(calls)).splitlines()


def heart_rates() -> Iterator[Vector]:
    """Heart rates: every size of rate, with intervals, energy and contact, and without."""
    for number in range(200):
        rate = RANDOM.choice([0, 1, 72, 255, 256, 65535, RANDOM.randrange(300)])
        intervals = tuple(RANDOM.choice([0, 1, 63999, RANDOM.randrange(200, 3000)]) for _ in range(number % 10))
        energy = RANDOM.choice([None, 0, 65535, RANDOM.randrange(65536)])
        has_contact = RANDOM.random() < 0.5
        ticks = [round(Decimal(each) * 1024 / 1000) for each in intervals]
        yield Vector(
            call=f"heart_rate({rate}, {intervals}, has_contact={has_contact}, energy_kj={energy})",
            stub=encode_heart_rate(rate, intervals, has_contact=has_contact, energy_kj=energy),
            decoder="gatt.heart_rate",
            values=[
                (147842, str(rate)),
                *((8454263, str(each)) for each in (energy,) if each is not None),
                *((147240, str(Decimal(tick * 125) / 128)) for tick in ticks),
            ],
            flags=set() if has_contact else {"no-contact"},
        )


def oximetry() -> Iterator[Vector]:
    """Continuous measurements over the whole of SFLOAT, with an amplitude index and without."""
    for _ in range(200):
        pairs = [(RANDOM.randint(-2045, 2045), RANDOM.randint(-8, 7)) for _ in range(3)]
        spo2, pulse, index = (Decimal(mantissa).scaleb(exponent) for mantissa, exponent in pairs)
        status = RANDOM.choice([0x0120, 0x0520, RANDOM.randrange(0x10000)])
        has_index = RANDOM.random() < 0.5
        yield Vector(
            call=f"plx_continuous({pairs[0]}, {pairs[1]}, {status}{f', {pairs[2]}' if has_index else ''})",
            stub=encode_plx_continuous(
                spo2, pulse, quality=Quality(status=status, amplitude_index=index if has_index else None)
            ),
            decoder="gatt.plx_continuous",
            values=[(150456, str(spo2)), (149530, str(pulse)), *([(150448, str(index))] if has_index else [])],
            flags={"demo-data"} if status & 1 << 10 else set(),
        )


def batteries() -> Iterator[Vector]:
    """Every level."""
    for percent in range(101):
        yield Vector(
            call=f"battery({percent})",
            stub=encode_battery(percent),
            decoder="gatt.battery",
            values=[(67996, str(percent))],
        )


VECTORS = [*heart_rates(), *oximetry(), *batteries()]


def read(decoder: str, frame: bytes) -> Sample:
    (sample,) = DECODERS[decoder]().feed(frame)
    assert isinstance(sample, Sample)
    return sample


def test_micropython_encodes_what_the_stubs_do_and_the_gateway_reads(board: MicroPython) -> None:
    """Every frame that the board makes is the stub's to the byte, and its values come out with the digits they had."""
    said = ask(board, [vector.call for vector in VECTORS])
    assert said == [vector.stub.hex() for vector in VECTORS]
    for vector, frame in zip(VECTORS, said, strict=True):
        sample = read(vector.decoder, bytes.fromhex(frame))
        assert [(each.code, str(each.value)) for each in sample.measurements] == vector.values
        assert vector.flags <= set(sample.flags)


def test_this_python_encodes_the_same(encode: ModuleType) -> None:
    """The file runs on CPython as well, to the same bytes."""
    assert [eval(f"encode.{vector.call}", {"encode": encode}).hex() for vector in VECTORS] == [  # noqa: S307 - ours
        vector.stub.hex() for vector in VECTORS
    ]


def test_a_value_that_is_not_known_is_none(board: MicroPython) -> None:
    """No finger, no number: NaN goes out, and the gateway says which value is missing."""
    (said,) = ask(board, ["plx_continuous(None, None, 0x120)"])
    sample = read("gatt.plx_continuous", bytes.fromhex(said))
    assert sample.measurements == ()
    assert {"no-value:150456:NaN", "no-value:149530:NaN"} <= set(sample.flags)


@pytest.mark.parametrize(
    "call",
    [
        "heart_rate(65536)",
        "heart_rate(-1)",
        "heart_rate(72, (64000,))",
        "heart_rate(72, (), energy_kj=65536)",
        "battery(101)",
        "battery(-1)",
        "sfloat(2046)",
        "sfloat(-2046)",
        "sfloat(1, 8)",
        "sfloat(1, -9)",
        "plx_continuous((97, 0), (72, 0), 0x10000)",
        "plx_continuous((97, 0), (72, 0), 0, (2046, 0))",
    ],
)
def test_what_does_not_fit_is_refused(encode: ModuleType, call: str) -> None:
    """A number that a field cannot hold is never cut to one that it can."""
    with pytest.raises(ValueError, match=r"does not fit|is no"):
        eval(f"encode.{call}", {"encode": encode})  # noqa: S307 - our own text


def test_micropython_refuses_it_too(board: MicroPython) -> None:
    """Nor on the board, whose to_bytes used to cut."""
    said = ask(board, ["heart_rate(65536)", "heart_rate(72, (64000,))", "battery(101)", "sfloat(2046)"])
    assert [each.split(":")[0] for each in said] == ["refused"] * 4


def test_it_is_micropython(board: MicroPython) -> None:
    """What runs the board's files here is what runs them there."""
    assert board.run("import sys; print(sys.implementation.name)") == "micropython\n"


@pytest.fixture(scope="module")
def seen(board: MicroPython) -> dict[str, object]:
    """Give what main.py registers, advertises and sends in its first seconds, run by MicroPython."""
    seen: dict[str, object] = json.loads(board.run(STAND_INS.replace("SECONDS", str(SIMULATED_S))))
    return seen


def test_its_services_are_those_of_the_readme(seen: dict[str, object]) -> None:
    """Each characteristic stands in its service, is notified or read, and has its value if it never changes."""
    features = (1).to_bytes(2, "little") + (0x0520).to_bytes(2, "little")
    assert seen["services"] == {
        "180D": {"2A37": [False, True, ""], "2A38": [True, False, encode_location(Location.FINGER).hex()]},
        "1822": {"2A5F": [False, True, ""], "2A60": [True, False, features.hex()]},
        "180F": {"2A19": [True, True, ""]},
        "180A": {
            "2A29": [True, False, b"IoMT".hex()],
            "2A24": [True, False, b"iomt-finger linux".hex()],
            "2A25": [True, False, b"0001020304050607".hex()],
        },
    }
    assert describe_feature("2a60", features) == ("measurement-status",)


def test_it_is_found_again_after_every_connection(seen: dict[str, object]) -> None:
    """It advertises name and services, stays with who connects for as long as they like, and then advertises anew."""
    assert seen["advertised"] == [["iomt-finger", [0x180D, 0x1822], 0x0C40]] * 3
    assert seen["waited"] == [None] * 3


def test_the_gateway_reads_every_second_of_it(seen: dict[str, object]) -> None:
    """Once a second a rate with each beat told once, a made-up saturation that says so, the battery once a minute."""
    sent = seen["sent"]
    assert isinstance(sent, list)
    names = {0x2A37: "gatt.heart_rate", 0x2A5F: "gatt.plx_continuous", 0x2A19: "gatt.battery"}
    heard = [(at_ms, number, read(names[number], bytes.fromhex(frame))) for at_ms, number, frame in sent]
    seconds = [second * 1000 for second in range(SIMULATED_S + 1)]
    assert [at_ms for at_ms, number, _ in heard if number == 0x2A37] == seconds
    assert [at_ms for at_ms, number, _ in heard if number == 0x2A5F] == seconds
    assert [at_ms for at_ms, number, _ in heard if number == 0x2A19] == [0, 60_000]
    assert all("demo-data" in sample.flags for _, number, sample in heard if number == 0x2A5F)
    values = [(each.code, each.value) for _, _, sample in heard for each in sample.measurements]
    rates = [value for code, value in values if code in {147842, 149530}]
    beats_ms = [value for code, value in values if code == 147240]
    assert all(isinstance(rate, int | Decimal) and 55 < rate < 80 for rate in rates)
    assert all(isinstance(beat, Decimal) and 800 < beat < 1000 for beat in beats_ms)
    last_beat_ms = 1000 * SIMULATED_S - sum(beat for beat in beats_ms if isinstance(beat, Decimal))
    assert 0 <= round(last_beat_ms) < 1000
    assert encode_sfloat(974, -1).hex() in {frame[2:6] for _, number, frame in sent if number == 0x2A5F}


def test_its_profile_hears_all_of_it() -> None:
    """The profile beside the board's files is sound, finds it by name, and has whatever it notifies."""
    file = BOARD / "iomt-finger.toml"
    profile = load_profile(file.read_text(), file.name, frozenset(DECODERS))
    assert profile.name == file.stem
    assert profile.recognises_ble("iomt-finger", ())
    assert {(channel.uuid, channel.decoder) for channel in profile.channels} == {
        ("2a5f", "gatt.plx_continuous"),
        ("2a37", "gatt.heart_rate"),
        ("2a19", "gatt.battery"),
    }
