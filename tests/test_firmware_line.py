import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path

import pytest
from serial import Serial, SerialException

from firmware_stubs.contec import START, STOP, Cms50e
from firmware_stubs.line import SENSORS, Line, Sensor, main, play
from firmware_stubs.nonin import NoninDf2, NoninDf8
from firmware_stubs.people import Person
from firmware_stubs.physiology import Patient
from firmware_stubs.uart import mishear

NAME = "usb-Nonin_Medical_OEM_III_SIM001-if00"
TIME_LIMIT_S = 20


class TappedLine(Line):
    """A line that also keeps what was sent, send by send, and says when it was enough."""

    def __init__(self, folder: Path, enough_bytes: int) -> None:
        super().__init__(folder, NAME)
        self.sent: list[bytes] = []
        self.is_enough = asyncio.Event()
        self._enough_bytes = enough_bytes

    def send(self, data: bytes) -> int:
        """Note the data and send it."""
        self.sent.append(data)
        if sum(map(len, self.sent)) >= self._enough_bytes:
            self.is_enough.set()
        return super().send(data)


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Line]:
    with Line(tmp_path, NAME) as plugged_in:
        yield plugged_in


def open_port(path: Path, baudrate: int = 9600) -> Serial:
    return Serial(str(path), baudrate, timeout=TIME_LIMIT_S, exclusive=True)


@asynccontextmanager
async def playing(sensor: Sensor, line: Line, *, speed: float = 1.0) -> AsyncIterator[None]:
    async with asyncio.timeout(TIME_LIMIT_S), asyncio.TaskGroup() as group:
        task = group.create_task(play(sensor, line, speed=speed))
        yield
        task.cancel()


def names_in(folder: Path) -> list[str]:
    return [entry.name for entry in folder.iterdir()]


def frames(recording: str, count: int) -> bytes:
    sensor = NoninDf2(Person(recording))
    return b"".join(sensor.next_frame() for _ in range(count))


async def play_until_enough(line: TappedLine) -> None:
    async with playing(NoninDf2(Person("ppg_2min")), line, speed=50):
        await line.is_enough.wait()


def test_bytes_arrive_unchanged(line: Line) -> None:
    """All 256 values pass as they are: no echo, no line editing, no flow control."""
    with open_port(line.path) as port:
        line.send(bytes(range(256)))

        assert port.read(256) == bytes(range(256))


def test_nobody_reading_blocks_nothing(line: Line) -> None:
    """What does not fit while nobody reads is lost, and the sender is told so by the count."""
    taken = [line.send(bytes(100)) for _ in range(10_000)]

    assert taken[0] == 100
    assert taken[-1] == 0


def test_an_unplugged_port_is_gone(line: Line) -> None:
    """The link vanishes, an open port fails, sending goes nowhere; unplugging again changes nothing."""
    with open_port(line.path) as port:
        line.unplug()

        with pytest.raises(SerialException):
            port.read(1)
    assert not line.path.is_symlink()
    assert line.send(b"x") == 0
    line.unplug()


def test_a_replugged_port_is_another_terminal_under_another_name(line: Line, tmp_path: Path) -> None:
    """Only the new name stands, and what is sent arrives there."""
    line.plug_in("usb-renamed-if00")

    assert names_in(tmp_path) == ["usb-renamed-if00"]
    with open_port(tmp_path / "usb-renamed-if00") as port:
        line.send(b"here")
        assert port.read(4) == b"here"


def test_unplugging_leaves_a_link_that_is_anothers(line: Line, tmp_path: Path) -> None:
    """Where another line has taken over the name, its link stays."""
    with Line(tmp_path, NAME) as other:
        line.unplug()

        assert str(other.path.readlink()) == other.device


def test_noise_goes_before_what_is_sent_and_repeats_from_run_to_run(tmp_path: Path) -> None:
    """Two lines of one name make the same noise, the data whole behind it."""
    heard = []
    for _ in range(2):
        with Line(tmp_path, NAME) as noisy, open_port(noisy.path) as port:
            noisy.noise_bytes = 7
            noisy.send(b"data")
            heard.append(port.read(11))

    assert heard[0] == heard[1]
    assert heard[0][7:] == b"data"


async def test_a_sensor_is_played_frame_by_frame(tmp_path: Path) -> None:
    """Each send is one frame, in the sensor's order."""
    with TappedLine(tmp_path, enough_bytes=500) as line:
        await play_until_enough(line)

    assert {len(sent) for sent in line.sent} == {5}
    assert b"".join(line.sent[:100]) == frames("ppg_2min", 100)


async def test_a_dribbling_line_sends_byte_by_byte(tmp_path: Path) -> None:
    """The same bytes, one at a time."""
    with TappedLine(tmp_path, enough_bytes=50) as line:
        line.is_dribbling = True
        await play_until_enough(line)

    assert {len(sent) for sent in line.sent} == {1}
    assert b"".join(line.sent[:50]) == frames("ppg_2min", 10)


def test_at_another_speed_the_same_garbage_arrives(tmp_path: Path) -> None:
    """What a port hears that is set to 19200 while the sensor talks at 9600, and the sensor of the port, likewise."""
    with Line(tmp_path, NAME) as line, open_port(line.path, 19_200) as port:
        line.baudrate = 9600
        garbage = mishear(b"\x01\x83\x4b\x00\xcf", sent_baud=9600, heard_baud=19_200)
        for _ in range(2):
            line.send(b"\x01\x83\x4b\x00\xcf")
            assert port.read(len(garbage)) == garbage
        port.write(START)
        port.flush()
        assert line.receive() == mishear(START, sent_baud=19_200, heard_baud=9600)

        port.baudrate = 9600
        line.send(b"sound")
        port.write(b"sound")

        assert port.read(5) == b"sound"
        assert line.receive() == b"sound"


def test_nothing_is_heard_from_a_port_that_writes_nothing(line: Line) -> None:
    """Nor from one that is unplugged."""
    assert line.receive() == b""
    line.unplug()
    assert line.receive() == b""


@pytest.mark.parametrize("kind", sorted(SENSORS))
async def test_every_kind_of_sensor_can_be_played(tmp_path: Path, kind: str) -> None:
    """At its own speed its bytes arrive as it makes them, once it has been told to start."""
    twin, sensor = (SENSORS[kind](Patient("exercise")) for _ in range(2))
    frames: list[bytes] = []
    for each in (twin, sensor):
        each.received(START)
    while len(b"".join(frames)) < 200:
        frames.append(twin.next_frame())
    with Line(tmp_path, NAME) as line, open_port(line.path, sensor.baudrate) as port:
        async with playing(sensor, line, speed=100):
            heard = await asyncio.to_thread(port.read, 200)

    assert heard == b"".join(frames)[:200]


async def test_a_command_is_answered_before_the_next_frame_is_due(tmp_path: Path) -> None:
    """A sensor of one frame a second answers at once, and the frame that was due comes in the new format."""
    with Line(tmp_path, NAME) as line, open_port(line.path) as port:
        async with playing(NoninDf8(Patient("rest")), line):
            first = await asyncio.to_thread(port.read, 4)
            port.write(bytes.fromhex("027002020203"))
            second = await asyncio.to_thread(port.read, 6)

    assert first[0] & 0x80
    assert second[:2] == b"\x06\x01"


async def test_a_sensor_can_be_started_and_stopped(tmp_path: Path) -> None:
    """A CMS50E is silent, talks when told to, and says that it has stopped."""
    with Line(tmp_path, NAME) as line, open_port(line.path, 115_200) as port:
        async with playing(Cms50e(Patient("rest")), line):
            port.write(STOP)
            silence = await asyncio.to_thread(port.read, 2)
            port.write(START)
            frame = await asyncio.to_thread(port.read, 9)

    assert silence == b"\x0c\x80"
    assert (frame[0], frame[-2:]) == (1, b"\xff\xff")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_the_command_plays_sensors_until_it_is_told_to_end(tmp_path: Path, number: signal.Signals) -> None:
    """One line of JSON names the ports, each gives sound frames, the end is code 0 and leaves no link."""
    worn = {"usb-one-if00": "ppg_long", "usb-two:a-if00": "fever"}
    sensors = [f"--sensor=nonin_df2:{name}:{wearer}" for name, wearer in worn.items()]
    command = (sys.executable, "-m", "firmware_stubs.line", "--folder", str(tmp_path / "by-id"), "--speed", "20")
    process = await asyncio.create_subprocess_exec(*command, *sensors, stdout=asyncio.subprocess.PIPE)
    assert process.stdout
    try:
        async with asyncio.timeout(TIME_LIMIT_S):
            ports = json.loads(await process.stdout.readline())["ports"]
            heard = [await asyncio.to_thread(read_from, path) for path in ports.values()]
            process.send_signal(number)
            rest = await process.stdout.read()
            code = await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()

    assert ports == {name: str(tmp_path / "by-id" / name) for name in ("usb-one-if00", "usb-two:a-if00")}
    assert all(holds_sound_frames(chunk) for chunk in heard)
    assert (code, rest, names_in(tmp_path / "by-id")) == (0, b"", [])


def read_from(path: str) -> bytes:
    with open_port(Path(path)) as port:
        return port.read(255)


def holds_sound_frames(chunk: bytes) -> bool:
    offset = next(i for i in range(5) if chunk[i] == 1 and chunk[i + 4] == sum(chunk[i : i + 4]) % 256)
    bounds = range(offset, len(chunk) - 5, 5)
    return all(sum(chunk[a : b - 1]) % 256 == chunk[b - 1] for a, b in pairwise(bounds))


@pytest.mark.parametrize(
    ("sensor", "speed", "complaint"),
    [
        ("cms50:usb-x:ppg_long", "1", "there are nonin_df2, nonin_df7, nonin_df8, cms50d, cms50e, masimo"),
        ("nonin_df2::ppg_long", "1", "no name of a port"),
        ("nonin_df2:../x:ppg_long", "1", "no name of a port"),
        ("nonin_df2:usb-x:nobody", "1", "there are ppg_rest_25s, ppg_2min, ppg_long, rest, exercise"),
        ("nonin_df2:usb-x:ppg_long", "0", "over 0"),
    ],
)
def test_wrong_usage_says_what_is_allowed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], sensor: str, speed: str, complaint: str
) -> None:
    """Code 2, one line on what was wrong, and nothing plugged in."""
    with pytest.raises(SystemExit) as end:
        main(["--folder", str(tmp_path), "--sensor", sensor, "--speed", speed])

    assert end.value.code == 2
    assert complaint in capsys.readouterr().err
    assert names_in(tmp_path) == []
