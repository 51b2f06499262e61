"""The frames are read here with the table's own arithmetic, frame by frame, and no decoder of the product."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_stubs.nonin import FRAMES_PER_PACKET, NoninDf2, Probe, Values, encode_floats
from firmware_stubs.people import RECORDINGS, Person

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
