import os
import re
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from serial import Serial

from gateway.decode import DECODERS
from gateway.decode.statement import FRAME_LIMIT, STATEMENT_LIMIT, StatementCheck, read_statement
from gateway.errors import VerificationError
from gateway.model import Sample
from tests.statements import SEED, ed25519_sensor, payload_of, stuff

SOURCE = Path(__file__).parent.parent / "firmware_stubs" / "c"
TIME_LIMIT_S = 60
SENSOR = ed25519_sensor()

README_SCRIPT = """
at 41000
integer 149530 72 /min
decimal 150456 -1 975 %
time 1764000000123
send
"""


@dataclass(frozen=True, kw_only=True)
class Built:
    """The programs that `make` built, and what it said."""

    sensor: Path
    checked_sensor: Path
    statements: Path
    said: str

    def state(self, *lines: str, name: str = "oximeter-7", boot: int = 3, mtu: int = 2000) -> list[str]:
        """Give what `statements` prints for a script: notifications in hexadecimal, and how each sending went."""
        command = [str(self.statements), SEED.hex(), name, str(boot), str(mtu)]
        script = "".join(f"{line}\n" for line in lines)
        done = subprocess.run(command, input=script, capture_output=True, text=True, timeout=TIME_LIMIT_S, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout.splitlines()


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Build the sensor, plain and with every access checked."""
    if not all(map(shutil.which, ("cc", "make"))) or not Path("/usr/include/sodium.h").exists():
        pytest.fail("a C compiler or libsodium is missing: ./systemd/debian-packages cc libsodium")
    folder = tmp_path_factory.mktemp("c")
    command = ["make", "--no-print-directory", "-C", str(SOURCE), f"BUILD={folder}", "all", "sanitized"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIME_LIMIT_S, check=False)
    assert done.returncode == 0, done.stderr
    checked = folder / "sanitized"
    return Built(
        sensor=folder / "sensor",
        checked_sensor=checked / "sensor",
        statements=checked / "statements",
        said=done.stderr,
    )


@pytest.fixture
def key(tmp_path: Path) -> Path:
    """Give the path of a key that is not there yet."""
    return tmp_path / "oximeter.key"


def run(sensor: Path, *options: object) -> subprocess.CompletedProcess[bytes]:
    command = [str(sensor), *map(str, options)]
    return subprocess.run(command, capture_output=True, timeout=TIME_LIMIT_S, check=False)


def public_key(sensor: Path, key: Path) -> bytes:
    done = run(sensor, "--key", key, "--public-key")
    assert done.returncode == 0, done.stderr
    return bytes.fromhex(done.stdout.decode())


def read_rest(far: int) -> bytes:
    """Read what a terminal still holds, once nobody has its near side open."""
    heard = b""
    while True:
        try:
            chunk = os.read(far, 65536)
        except OSError:  # EIO: all was read
            return heard
        heard += chunk


def hear(sensor: Path, key: Path, count: int, *options: str) -> bytes:
    """Run the sensor on a pseudo terminal and give the bytes that its other side got."""
    far, near = os.openpty()
    try:
        port = os.ttyname(near)
        told = ("--id", "oximeter-7", "--key", key, "--count", count, "--period-ms", 1, *options)
        done = run(sensor, *told, "--port", port)
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    finally:
        os.close(near)
    try:
        return read_rest(far)
    finally:
        os.close(far)


def decode(heard: bytes) -> list[Sample]:
    """Decode a line on which nothing is damaged."""
    samples = []
    for piece in DECODERS["serial.iomt_frame"]().feed(heard):
        assert isinstance(piece, Sample), piece
        samples.append(piece)
    return samples


def statements(heard: bytes) -> list[bytes]:
    return [sample.statement or b"" for sample in decode(heard)]


def test_it_compiles_without_a_warning(built: Built) -> None:
    """C99 with -Wall -Wextra -Wconversion -pedantic has nothing to say."""
    assert built.said == ""


def test_what_it_says_on_a_terminal_is_decoded_and_holds(built: Built, key: Path) -> None:
    """Each statement has both values, its time and its flag, is signed by the key that it shows, and comes in order."""
    before_ms = time.time_ns() // 1_000_000
    samples = decode(hear(built.sensor, key, 5))
    check = StatementCheck(public_key(built.sensor, key))
    assert len(samples) == 5
    for number, sample in enumerate(samples, 1):
        assert [(each.code, each.unit) for each in sample.measurements] == [(149530, "/min"), (150456, "%")]
        assert sample.flags == ("demo-data",)
        assert sample.device_time_ms is not None
        assert before_ms <= sample.device_time_ms <= time.time_ns() // 1_000_000
        check.check(sample.statement or b"")
        assert check.last == (1, number)


def test_a_gateways_serial_port_hears_it_without_end(built: Built, key: Path) -> None:
    """Read with pyserial at 115200 baud, it goes on until it is killed; the uptime never goes back."""
    far, near = os.openpty()
    command = [str(built.sensor), "--id", "x", "--key", str(key), "--period-ms", "5", "--port", "-"]
    decoder, samples = DECODERS["serial.iomt_frame"](), list[Sample]()
    with Serial(os.ttyname(near), 115200, timeout=TIME_LIMIT_S) as port:
        os.close(near)
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=far)
        os.close(far)
        try:
            while len(samples) < 6:
                heard = port.read(max(1, port.in_waiting))
                assert heard, "the sensor fell silent"
                samples += [piece for piece in decoder.feed(heard) if isinstance(piece, Sample)]
        finally:
            process.kill()
            process.wait()
    said = [read_statement(sample.statement or b"") for sample in samples]
    assert [each.sequence for each in said][:6] == [1, 2, 3, 4, 5, 6]
    assert [each.uptime_ms for each in said] == sorted(each.uptime_ms for each in said)
    assert {each.sensor for each in said} == {"x"}


def test_a_flipped_bit_of_a_statement_is_refused(built: Built, key: Path) -> None:
    """Whichever bit of what it signed is flipped, the check refuses it."""
    (statement,) = statements(hear(built.sensor, key, 1))
    check = StatementCheck(public_key(built.sensor, key))
    for place in range(len(statement) * 8):
        flipped = bytearray(statement)
        flipped[place // 8] ^= 1 << place % 8
        with pytest.raises(VerificationError):
            check.check(bytes(flipped))
    check.check(statement)


def test_a_replay_after_a_restart_is_refused(built: Built, key: Path) -> None:
    """Each start is a new boot; what was heard in the last one is not accepted again, by a restarted check neither."""
    first = statements(hear(built.sensor, key, 3))
    second = statements(hear(built.sensor, key, 2))
    check = StatementCheck(public_key(built.sensor, key))
    for statement in first + second:
        check.check(statement)
    assert check.last == (2, 2)
    for again in (check, StatementCheck(public_key(built.sensor, key), check.last)):
        for statement in first + second:
            with pytest.raises(VerificationError, match="replay"):
                again.check(statement)


def test_a_key_is_made_for_its_owner_alone(built: Built, key: Path) -> None:
    """A seed of 32 bytes with mode 0600, another each time, and the public key is the one of that seed."""
    shown = public_key(built.sensor, key)
    assert (key.stat().st_mode & 0o777, key.stat().st_size) == (0o600, 32)
    assert shown == ed25519_sensor(key.read_bytes()).public_key == public_key(built.sensor, key)
    assert public_key(built.sensor, key.with_name("other.key")) != shown


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda key: key.chmod(0o640), "chmod 600"),
        (lambda key: key.write_bytes(bytes(31)), "32 bytes"),
        (lambda key: key.write_bytes(bytes(33)), "32 bytes"),
        (lambda key: key.with_name("oximeter.key.boot").unlink(), "count"),
        (lambda key: key.with_name("oximeter.key.boot").write_text("4"), "count"),
        (lambda key: key.with_name("oximeter.key.boot").write_text("-4\n"), "count"),
        (lambda key: key.with_name("oximeter.key.boot").write_text("9" * 19 + "\n"), "count"),
    ],
    ids=["mode", "short", "long", "no-count", "cut-count", "negative", "too-many"],
)
def test_a_key_that_cannot_be_trusted_says_nothing(built: Built, key: Path, spoil: Any, reason: str) -> None:  # noqa: ANN401 - a lambda each
    """Open to others, of a wrong size or without its count of boots: refused with a reason, and nothing is signed."""
    public_key(built.sensor, key)
    spoil(key)
    done = run(built.sensor, "--id", "x", "--key", key, "--port", "-", "--count", 1)
    assert (done.returncode, done.stdout) == (1, b"")
    assert reason in done.stderr.decode()


def test_two_sensors_never_share_a_key(built: Built, key: Path) -> None:
    """While one runs, a second with its key is refused, and counts no boot."""
    command = [str(built.sensor), "--id", "x", "--key", str(key), "--port", "-", "--period-ms", "3600000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as first:
        assert first.stdout is not None
        assert first.stdout.read(1) == b"\x00"
        second = run(built.sensor, "--id", "x", "--key", key, "--port", "-", "--count", 1)
        first.kill()
    assert (second.returncode, second.stdout) == (1, b"")
    assert b"another sensor runs with this key" in second.stderr
    assert key.with_name("oximeter.key.boot").read_text() == "1\n"


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ([], 2),
        (["--help"], 2),
        (["--id", "x", "--key", "KEY"], 2),
        (["--id", "x", "--port", "-"], 2),
        (["--id", "x", "--key", "KEY", "--port", "-", "--count", "-1"], 2),
        (["--id", "x", "--key", "KEY", "--port", "-", "--count", "1x"], 2),
        (["--id", "x", "--key", "KEY", "--port", "-", "--count"], 2),
        (["--id", "x", "--key", "KEY", "--port", "/dev/no-such-port"], 3),
        (["--id", "x", "--key", "KEY", "--port", "/dev/null"], 3),
        (["--id", "", "--key", "KEY", "--port", "-"], 1),
        (["--id", "x y", "--key", "KEY", "--port", "-"], 1),
        (["--id", "x" * 65, "--key", "KEY", "--port", "-"], 1),
        (["--id", "x" * 3000, "--key", "KEY", "--port", "-"], 1),
        (["--key", "/no/such/folder/key", "--public-key"], 1),
        (["--key", "k" * 5000, "--public-key"], 1),
    ],
)
def test_wrong_usage_is_told_apart_from_what_is_refused(built: Built, key: Path, options: list[str], code: int) -> None:
    """2 is wrong usage, 3 a line that is not there, 1 a value or key; each says why, and no access goes astray."""
    done = run(built.checked_sensor, *[str(key) if option == "KEY" else option for option in options])
    assert (done.returncode, done.stdout) == (code, b"")
    assert done.stderr
    assert b"Sanitizer" not in done.stderr


def test_the_checked_sensor_says_the_same(built: Built, key: Path) -> None:
    """With every access checked, it runs through with the longest id."""
    heard = run(built.checked_sensor, "--id", "x" * 64, "--key", key, "--port", "-", "--count", 20, "--period-ms", 0)
    assert (heard.returncode, heard.stderr) == (0, b"")
    assert [read_statement(each).sensor for each in statements(heard.stdout)] == ["x" * 64] * 20


# -- its encoding, by script

NUMBERS = st.integers(-(2**63), 2**63 - 1) | st.sampled_from(
    [sign * (2**bits) + near for bits in (8, 16, 32) for sign in (1, -1) for near in (-1, 0, 1)] + [23, 24, -24, -25]
)
UNITS = st.text("".join(map(chr, range(0x21, 0x7F))), min_size=1, max_size=64)
CODES = st.integers(0, 2**32 - 1)
MEASUREMENTS = st.one_of(
    st.tuples(CODES, NUMBERS, UNITS).map(list),
    st.tuples(CODES, st.builds(lambda e, n: cbor2.CBORTag(4, [e, n]), st.integers(-128, 127), NUMBERS), UNITS).map(
        list
    ),
    st.tuples(
        CODES,
        st.builds(
            lambda period, scale, samples: {1: period, 2: scale, 3: samples},
            st.integers(0, 2**63 - 1),
            st.integers(-128, 127),
            st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1, max_size=30),
        ),
        UNITS,
    ).map(list),
)
COUNTS = st.integers(0, 2**63 - 1) | st.sampled_from([0, 23, 24, 255, 256, 65535, 65536, 2**32 - 1, 2**32])


def script_of(code: int, value: Any, unit: str) -> str:  # noqa: ANN401 - a measurement as cbor2 takes it
    match value:
        case cbor2.CBORTag():
            return f"decimal {code} {value.value[0]} {value.value[1]} {unit}"
        case {1: period, 2: scale, 3: samples}:
            return f"waveform {code} {period} {scale} {unit} {' '.join(map(str, samples))}"
        case _:
            return f"integer {code} {value} {unit}"


REPORTS = st.fixed_dictionaries(
    {3: st.tuples(COUNTS, COUNTS).map(list), 5: st.lists(MEASUREMENTS, min_size=1, max_size=4)},
    optional={8: COUNTS, 9: st.lists(UNITS, min_size=1, max_size=3)},
)


@settings(max_examples=60)
@given(REPORTS, UNITS)
def test_its_bytes_are_the_ones_that_cbor2_makes_canonical(built: Built, report: dict[int, Any], name: str) -> None:
    """Header, payload and signature are, to the byte, what cbor2 and `cryptography` make of the same values."""
    boot, now_ms = report[3]
    lines = [
        f"at {now_ms}",
        *(script_of(*value) for value in report[5]),
        *(f"flag {flag}" for flag in report.get(9, [])),
    ]
    said = built.state(*lines, *([f"time {report[8]}"] if 8 in report else []), "send", name=name, boot=boot)
    header = cbor2.dumps(SENSOR.header | {15: {1: name}}, canonical=True)
    payload = cbor2.dumps({1: 1, 2: 1, **report}, canonical=True)
    signature = SENSOR.sign(cbor2.dumps(["Signature1", header, b"", payload]))
    statement = cbor2.dumps(cbor2.CBORTag(18, [header, {}, payload, signature]))
    if len(statement) > STATEMENT_LIMIT:
        assert said == ["the statement does not fit into a frame of 1024 bytes"]
    else:
        assert said[1:] == ["done"]
        assert statements(bytes.fromhex(said[0])) == [statement]


def test_the_frame_of_the_readme_is_what_it_makes(built: Built) -> None:
    """The example of the format, from the RFC's key, is said by the C sensor, and the document has its very bytes."""
    (said, done) = built.state(*README_SCRIPT.split("\n")[1:-1])
    shown = re.search(r"```hex\n([0-9a-f\s]+)```", (SOURCE / "README.md").read_text())
    assert shown is not None
    assert "".join(shown[1].split()) == said
    assert done == "done"
    assert bytes.fromhex(said) == b"\x00" + stuff(SENSOR.state(payload_of(f8=1764000000123))) + b"\x00"


@pytest.mark.parametrize("mtu", [23, 24, 185, 247, 517, 65535])
def test_notifications_are_the_line_in_pieces_of_the_mtu(built: Built, mtu: int) -> None:
    """No piece is over MTU - 3 bytes, all but the last have as many, and the decoder takes them one by one."""
    *pieces, done = built.state(
        "integer 149530 72 /min", "waveform 150452 13333333 0 1 " + "1 2 3 " * 60, "send", mtu=mtu
    )
    assert done == "done"
    parts = [bytes.fromhex(piece) for piece in pieces]
    assert {len(part) for part in parts[:-1]} <= {mtu - 3}
    assert 0 < len(parts[-1]) <= mtu - 3
    decoder = DECODERS["serial.iomt_frame"]()
    assert [piece for part in parts for piece in decoder.feed(part)] == decode(b"".join(parts))


def test_a_link_that_carries_nothing_is_not_written(built: Built) -> None:
    """An MTU of 3 or less leaves no room, which is said and not tried for ever."""
    for mtu in (0, 3):
        assert built.state("integer 1 72 1", "send", mtu=mtu) == ["the line did not take it"]


@pytest.mark.parametrize(
    "line",
    [
        "integer 149530 {0} x",
        "decimal 149530 -1 {0} x",
        "waveform 1 1 1 x" + " 1" * 8,
        "flag word",
        "integer 1 {0} " + "u" * 64,
    ],
)
def test_more_than_fits_is_refused_at_the_byte(built: Built, line: str) -> None:
    """One more of the same until it is too much: what fits is sound, what does not is not sent."""
    counts = [*range(1, 60), 100, 200, 1000]
    lines: list[str] = []
    for count in counts:
        lines += ["integer 149530 72 /min", *[line.format(count * 1000)] * count, "send"]
    said = built.state(*lines)
    refused = said.count("the statement does not fit into a frame of 1024 bytes")
    sent = [bytes.fromhex(each) for each in said if re.fullmatch("[0-9a-f]+", each)]
    assert refused + len(sent) == len(counts)
    assert refused >= 2
    assert all(len(frame) <= FRAME_LIMIT + 2 for frame in sent)
    check = StatementCheck(SENSOR.public_key)
    for statement in statements(b"".join(sent)):
        check.check(statement)
    assert check.last == (3, len(sent))


def test_a_frame_may_be_filled_to_its_last_byte(built: Built) -> None:
    """Samples of one byte each, one more at a time: the largest frame has 1024 bytes, the next is refused."""
    lines = []
    for samples in range(700, 900):
        lines += ["waveform 150452 13333333 0 1" + " 5" * samples, "send"]
    said = built.state(*lines)
    frames = [bytes.fromhex(each) for each in said if re.fullmatch("[0-9a-f]+", each)]
    assert max(len(frame) for frame in frames) in {FRAME_LIMIT + 2, FRAME_LIMIT + 1}
    assert len(max(statements(b"".join(frames)), key=len)) == STATEMENT_LIMIT
    assert said[-1] == "the statement does not fit into a frame of 1024 bytes"


def test_a_number_is_used_up_whatever_comes_of_it(built: Built) -> None:
    """A statement that did not fit leaves a gap in the sequence, and no number is said twice."""
    said = built.state("integer 1 72 1", "send", *["integer 1 72 1"] * 500, "send", "integer 1 72 1", "send")
    frames = [bytes.fromhex(each) for each in said if re.fullmatch("[0-9a-f]+", each)]
    assert [read_statement(each).sequence for each in statements(b"".join(frames))] == [1, 3]


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ([], "no measurement"),
        (["flag x"], "no measurement"),
        (["waveform 150452 1 0 1"], "no measurement, or a value"),
        (["waveform 150452 -1 0 1 5"], "no measurement, or a value"),
        (["integer 149530 72 /min", "time -1"], "no measurement, or a value"),
        (["integer 149530 72"], "printable ASCII"),
        (["integer 149530 72 \u00b5V"], "printable ASCII"),
        (["integer 149530 72 a\tb"], "printable ASCII"),
        (["integer 149530 72 " + "u" * 65], "printable ASCII"),
        (["integer 149530 72 /min", "flag " + "f" * 65], "printable ASCII"),
        (["integer 149530 72 /min", "flag"], "printable ASCII"),
    ],
)
def test_what_the_format_has_not_is_not_said(built: Built, lines: list[str], reason: str) -> None:
    """Nothing measured, texts and numbers out of range: refused with a reason, and nothing is sent."""
    (said,) = built.state(*lines, "send")
    assert reason in said


@pytest.mark.parametrize(("name", "boot"), [("", 3), ("x" * 65, 3), ("x" * 5000, 3), ("\u00fc", 3), ("x", 2**63)])
def test_a_sensor_that_did_not_start_says_nothing(built: Built, name: str, boot: int) -> None:
    """An id or boot number that no statement may carry is refused at the start, and at each sending after it."""
    said = built.state("integer 149530 72 /min", "send", name=name, boot=boot)
    assert len(said) == 2
    assert not {"done"} & set(said)
