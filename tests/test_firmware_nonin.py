"""The frames are read here with the table's own arithmetic, frame by frame, and no decoder of the product."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_stubs.nonin import FRAMES_PER_PACKET, NoninDf2, NoninDf7, NoninDf8, Probe, Values, encode_floats
from firmware_stubs.people import RECORDINGS, Person
from firmware_stubs.physiology import Patient

PACKETS_PER_S = 3

# The packet that the pez-globo Pufferfish project's driver is tested with (Apache-2.0): 72 /min, 97 %, revision 48.
# That project leaves timer and STAT2 (frames 6 to 8) at 0.
PUFFERFISH_FLOATS = bytes.fromhex("00486130 00000000 616161 0000 0048 6161 0000 0048 0048 0000")


def packet_of(sensor: NoninDf2) -> list[bytes]:
    return [sensor.next_frame() for _ in range(FRAMES_PER_PACKET)]


def packets_later(sensor: NoninDf2, count: int) -> list[bytes]:
    for _ in range(count):
        packet = packet_of(sensor)
    return packet


def nine_bits(packet: list[bytes], frame: int) -> int:
    return (packet[frame - 1][3] & 0x03) << 7 | packet[frame][3] & 0x7F


def values_of(packet: list[bytes]) -> tuple[int, int, int]:
    return nine_bits(packet, 1), nine_bits(packet, 14), packet[3 - 1][3]


def displayed_values_of(packet: list[bytes]) -> tuple[int, int, int]:
    return nine_bits(packet, 20), nine_bits(packet, 22), packet[9 - 1][3]


@given(st.sampled_from(RECORDINGS), st.sampled_from(Probe), st.integers(1, 500))
def test_every_frame_is_sound(recording: str, probe: Probe, count: int) -> None:
    """Five bytes: 01, a status with bit 7, two more, and the sum of the four; SYNC in every 25th frame only."""
    sensor = NoninDf2(Person(recording))
    sensor.probe = probe
    for number in range(count):
        frame = sensor.next_frame()

        assert len(frame) == 5
        assert frame[0] == 1
        assert frame[1] & 0x80
        assert frame[1] & 0x01 == (number % 25 == 0)
        assert frame[4] == sum(frame[:4]) % 256


def test_the_floats_agree_with_another_projects_packet() -> None:
    """72 /min and 97 % at every place make the packet that a public driver is tested with."""
    values = Values(rate_per_min=72, long_rate_per_min=72, spo2_percent=97)

    floats = bytearray(encode_floats(values, values, timer=0))

    floats[8 - 1] = 0
    assert floats == PUFFERFISH_FLOATS


@given(st.integers(0, 511), st.integers(0, 511), st.integers(0, 100_000))
def test_a_rate_has_nine_bits_and_the_timer_fourteen(rate_per_min: int, displayed_per_min: int, timer: int) -> None:
    """High bits stand in the first byte from bit 0 on, the low seven in the second; bit 7 of both is 0."""
    values = Values(rate_per_min=rate_per_min, long_rate_per_min=rate_per_min)
    displayed = Values(rate_per_min=displayed_per_min, long_rate_per_min=displayed_per_min)

    floats = encode_floats(values, displayed, timer=timer)

    assert max(floats) < 0x80
    assert floats[0] * 128 + floats[1] == floats[13] * 128 + floats[14] == rate_per_min
    assert floats[19] * 128 + floats[20] == floats[21] * 128 + floats[22] == displayed_per_min
    assert floats[5] * 128 + floats[6] == timer % 16384


def test_the_values_are_the_wearers() -> None:
    """A packet carries the rates and the saturation of the person at its start."""
    wearer, sensor = Person("ppg_long"), NoninDf2(Person("ppg_long"))
    for packet_number in range(100):
        wearer.advance(packet_number * 1000 / PACKETS_PER_S)

        packet = packet_of(sensor)

        assert values_of(packet) == (wearer.rate_per_min(4), wearer.rate_per_min(8), wearer.spo2_percent)
        assert displayed_values_of(packet) == values_of(packet)
        assert {packet[frame - 1][3] for frame in (3, 9, 10, 11, 16, 17)} == {wearer.spo2_percent}
        assert packet[8 - 1][3] == 0x20


def test_the_timer_counts_packets() -> None:
    """Three packets a second: after ten seconds the timer is at 30."""
    sensor = NoninDf2(Person("ppg_2min"))
    packet = packets_later(sensor, 10 * PACKETS_PER_S + 1)

    assert packet[6 - 1][3] * 128 + packet[7 - 1][3] == 30


def test_each_beat_lights_the_pulse_bits_for_twelve_frames() -> None:
    """The runs of frames with a good pulse are 12 long and as many as there were beats."""
    sensor, wearer = NoninDf2(Person("ppg_2min")), Person("ppg_2min")
    beats = 1 + len(wearer.advance(749 * 1000 / 75))

    pulses = "".join("P" if sensor.next_frame()[1] & 0x06 == 0x02 else " " for _ in range(750)).split()

    assert len(pulses) == beats
    assert set(pulses[:-1]) == {"P" * 12}


@pytest.mark.parametrize(("probe", "status"), [(Probe.OFF_FINGER, 0x98), (Probe.UNPLUGGED, 0xD8)])
def test_without_a_finger_there_is_no_value(probe: Probe, status: int) -> None:
    """The status says why at once; from the next packet on, rates are 511 and saturations 127."""
    sensor = NoninDf2(Person("ppg_2min"))
    packet_of(sensor)

    sensor.probe = probe
    packet = packet_of(sensor)

    assert [frame[1] for frame in packet] == [status | 0x01] + [status] * 24
    assert values_of(packet) == (511, 511, 127)
    assert {packet[frame - 1][3] for frame in (3, 10, 11, 16)} == {127}
    assert packet[8 - 1][3] == 0
    assert {frame[2] for frame in packet} == {0}


def test_the_display_keeps_its_values_for_ten_seconds() -> None:
    """The D values outlast the finger by 30 packets and no more, and come back with it at once."""
    sensor = NoninDf2(Person("ppg_2min"))
    last = values_of(packet_of(sensor))

    sensor.probe = Probe.OFF_FINGER

    assert displayed_values_of(packets_later(sensor, 30)) == last
    assert displayed_values_of(packet_of(sensor)) == (511, 511, 127)
    sensor.probe = Probe.WORN
    packet = packet_of(sensor)
    assert displayed_values_of(packet) == values_of(packet) != (511, 511, 127)


def test_format_7_is_format_2_with_a_finer_pleth() -> None:
    """Status, values and checksum are the same; the pleth has 16 bits, of which the high ones are nearly the old."""
    narrow, wide = NoninDf2(Person("ppg_long")), NoninDf7(Person("ppg_long"))
    for _ in range(10 * FRAMES_PER_PACKET):
        start, status, pleth, value, _ = narrow.next_frame()
        frame = wide.next_frame()

        assert start == 1
        assert (frame[0], frame[3], frame[4]) == (status, value, sum(frame[:4]) % 256)
        assert abs((frame[1] << 8 | frame[2]) / 256 - pleth) <= 0.5


def test_format_8_is_a_frame_a_second_of_displayed_values() -> None:
    """Bit 7 marks the first byte alone; the rate has nine bits."""
    sensor, wearer = NoninDf8(Patient("exercise")), Patient("exercise")
    for second in range(200):
        wearer.advance(second * 1000)

        frame = sensor.next_frame()

        assert [byte >> 7 for byte in frame] == [1, 0, 0, 0]
        assert ((frame[0] & 3) << 7 | frame[1], frame[2]) == (wearer.rate_per_min(4), wearer.spo2_percent)
        assert (frame[0] & 0x7C, frame[3]) == (0, 0x20)


@pytest.mark.parametrize(("probe", "status"), [(Probe.OFF_FINGER, 0x20), (Probe.UNPLUGGED, 0x60)])
def test_format_8_keeps_its_values_for_ten_seconds(probe: Probe, status: int) -> None:
    """The status says at once that there is no finger, the values only when the display would."""
    sensor = NoninDf8(Patient("rest"))
    worn = sensor.next_frame()
    sensor.probe = probe

    held = [sensor.next_frame() for _ in range(10)]

    assert {frame[1:3] for frame in held} == {worn[1:3]}
    assert {frame[0] & 0x7C for frame in held} == {status}
    assert sensor.next_frame() == bytes((0x80 | status | 3, 0x7F, 127, 0x08))


@pytest.mark.parametrize(("number", "size", "period_ms"), [(2, 5, 1000 / 75), (7, 5, 1000 / 75), (8, 4, 1000)])
def test_a_format_can_be_selected(number: int, size: int, period_ms: float) -> None:
    """It is acknowledged, and the next frame begins a packet of it; the person has not gone back in time."""
    sensor = NoninDf2(Patient("rest"))
    for _ in range(30):
        sensor.next_frame()

    assert sensor.received(bytes((2, 0x70, 2, 2, number, 3))) == b"\x06"

    frame = sensor.next_frame()
    assert (len(frame), sensor.frame_period_ms) == (size, period_ms)
    assert frame[0] == 1 if number == 2 else frame[0] & 0x80
    assert len(sensor.next_frame()) == size


@pytest.mark.parametrize("command", ["027002020103", "027002020d03", "027002020804"])
def test_a_format_that_is_not_spoken_is_refused(command: str) -> None:
    """As is a selection without its end; the sensor goes on as before."""
    sensor = NoninDf2(Patient("rest"))

    assert sensor.received(bytes.fromhex(command)) == b"\x15"
    assert len(sensor.next_frame()) == 5


def test_a_selection_is_found_in_pieces_and_in_noise() -> None:
    """Only whole selections are answered, each once."""
    sensor = NoninDf2(Patient("rest"))
    stream = b"\x02\x70\xff" * 20 + bytes.fromhex("027002020803") + b"\x00" + bytes.fromhex("027002020703")

    answers = [sensor.received(bytes((byte,))) for byte in stream]

    assert b"".join(answers) == b"\x06\x06"
    assert answers[-1] == b"\x06"
    assert NoninDf2(Patient("rest")).received(stream) == b"\x06\x06"
