from decimal import Decimal

import pytest

from firmware_stubs.nonin import NoninDf2
from firmware_stubs.people import Person
from gateway.decode import DECODERS
from gateway.devices import Device
from gateway.hearing import OUT_OF_RANGE, UNAUTHENTICATED, Heard, Hearing
from gateway.io.profiles import load_profiles
from gateway.model import Damaged, Instant, Measurement, Reading, Sample, Waveform
from gateway.profile import load_profile
from tests.tomls import bonding_strap

PROFILES = load_profiles(frozenset(DECODERS))
PACKET = 125


def device(profile: str, *, bond: str = "") -> Device:
    return Device(
        id="device-1", profile=profile, address="C0:FF:EE:00:00:01", public_key=bytes(32), generation=1, bond=bond
    )


def hearing_of(profile: str) -> tuple[Hearing, str]:
    return Hearing(device(profile), PROFILES[profile]), PROFILES[profile].channels[0].uuid


def samples(made: list[Heard | Damaged]) -> list[Sample]:
    assert not [item for item in made if isinstance(item, Damaged)]
    return [item.sample for item in made if isinstance(item, Heard)]


def packets(count: int) -> list[bytes]:
    sensor = NoninDf2(Person("ppg_long"))
    return [b"".join(sensor.next_frame() for _ in range(25)) for _ in range(count)]


def reading(decoder: str, frame: bytes, sequence: int = 1) -> Reading:
    return Reading(
        sequence=sequence, at=Instant(real_ms=1, epoch=1, monotonic_ms=1), measurements=(), frame=frame,
        decoder=decoder, salt=bytes(16),
    )  # fmt: skip


# -- waveforms


def test_packets_become_one_second() -> None:
    """Three packets of a third of a second are one sample: all points in order, the last numbers, all bytes."""
    hearing, uuid = hearing_of("nonin-oem-iii-df2")
    first, second, third = packets(3)
    assert samples(hearing.hear(uuid, first + second, 0.0)) == []
    (whole,) = samples(hearing.hear(uuid, third, 0.7))
    (pleth,) = [each.value for each in whole.measurements if isinstance(each.value, Waveform)]
    assert pleth.samples == tuple((first + second + third)[2::5])
    assert whole.frame == first + second + third
    last = DECODERS["serial.nonin_df2"]().feed(third)[0]
    assert isinstance(last, Sample)
    assert whole.measurements[:2] == last.measurements[:2]


def test_damage_ends_a_second_early() -> None:
    """What was sound before noise is not put together with what comes after it."""
    hearing, uuid = hearing_of("nonin-oem-iii-df2")
    first, second, third, fourth, fifth = packets(5)
    made = hearing.hear(uuid, first + second + b"\x55" * 600 + third + fourth + fifth, 0.0)
    sound = [item.sample for item in made if isinstance(item, Heard)]
    assert [len(sample.frame) // PACKET for sample in sound] == [2, 3]
    assert any(isinstance(item, Damaged) for item in made)


def test_lost_link_gives_what_is_held_and_forgets_half_a_frame() -> None:
    """The end of a link is the end of its second; the next link's bytes begin anew."""
    hearing, uuid = hearing_of("nonin-oem-iii-df2")
    first, second, third, *_ = packets(4)
    assert samples(hearing.hear(uuid, first + second[:40], 0.0)) == []
    (rest,) = hearing.begin(bonded=False)
    assert rest.sample.frame == first
    assert hearing.end() == []
    (damage,) = hearing.hear(uuid, second[40:] + third, 0.1)
    assert isinstance(damage, Damaged)
    assert damage.frame == second[40:]
    assert [item.sample.frame for item in hearing.end()] == [third]


def test_flags_of_a_second_are_those_of_its_packets_and_missing_values_those_of_the_last() -> None:
    """A value that the last packet has again is not said to be missing."""
    hearing, uuid = hearing_of("nonin-oem-iii-df2")
    first, second, third = packets(3)
    missing = bytearray(second)
    missing[13] = 127  # frame 3: SpO2
    missing[14] = sum(missing[10:14]) % 256
    (whole,) = samples(hearing.hear(uuid, first + bytes(missing) + third, 0.0))
    assert not [flag for flag in whole.flags if flag.startswith("no-value")]
    assert 150456 in {each.code for each in whole.measurements}


# -- repeats


def test_fault_31_frame_that_comes_twice_is_taken_once() -> None:
    """A notification that Bluetooth delivers twice is one measurement; an equal one a second later is another."""
    hearing, uuid = hearing_of("heart-rate-strap")
    assert len(samples(hearing.hear(uuid, b"\x00\x48", 10.0))) == 1
    assert samples(hearing.hear(uuid, b"\x00\x48", 10.001)) == []
    assert len(samples(hearing.hear(uuid, b"\x00\x49", 10.002))) == 1
    assert len(samples(hearing.hear(uuid, b"\x00\x49", 11.0))) == 1
    assert hearing.repeated == 1


def test_equal_bytes_of_a_line_are_no_repeats() -> None:
    """A serial line doubles nothing: every byte counts."""
    hearing, uuid = hearing_of("nonin-wristox2-df8")
    frame = bytes.fromhex("80486100")
    assert len(samples(hearing.hear(uuid, frame, 1.0))) == len(samples(hearing.hear(uuid, frame, 1.0))) == 1


def test_stored_record_is_taken_once_whenever_it_comes() -> None:
    """A cuff that sends its memory again, the next day or after a restart of ours, adds nothing."""
    uuid = "2a35"
    frame = bytes.fromhex("1e8a0058007800e8070411 14293b3c00012700".replace(" ", ""))
    profile = PROFILES["blood-pressure-cuff"]
    hearing = Hearing(device("blood-pressure-cuff"), profile)
    assert len(samples(hearing.hear(uuid, frame, 1.0))) == 1
    assert samples(hearing.hear(uuid, frame, 90_000.0)) == []
    after = Hearing(device("blood-pressure-cuff"), profile, [reading("gatt.blood_pressure/1", frame)])
    assert samples(after.hear(uuid, frame, 5.0)) == []
    assert after.repeated == 1


def test_measurement_without_a_time_is_not_taken_for_a_stored_one() -> None:
    """Two equal pressures on two days by a cuff without a clock are two."""
    hearing = Hearing(device("blood-pressure-cuff"), PROFILES["blood-pressure-cuff"])
    frame = bytes.fromhex("008a0058007800")
    assert len(samples(hearing.hear("2a35", frame, 1.0))) == 1
    assert len(samples(hearing.hear("2a35", frame, 90_000.0))) == 1


def test_last_record_is_that_of_the_latest_reading_that_has_one() -> None:
    """The number from which a meter's store is asked on comes from the frames that were kept."""
    frames = [bytes.fromhex(f"1b{number:02x}00e307021b0b0a1efbff69d0110501") for number in (7, 5)]
    recent = [reading("gatt.glucose_context/1", b""), *(reading("gatt.glucose/1", frame) for frame in frames)]
    assert Hearing(device("glucose-meter"), PROFILES["glucose-meter"], recent).last_record == 7
    assert Hearing(device("glucose-meter"), PROFILES["glucose-meter"]).last_record is None


# -- flags


def test_implausible_value_is_flagged() -> None:
    """The value stays as it was."""
    hearing, uuid = hearing_of("heart-rate-strap")
    (sample,) = samples(hearing.hear(uuid, b"\x01\xe8\x03", 0.0))
    assert (sample.measurements, sample.flags) == ((Measurement(147842, 1000, "/min"),), (OUT_OF_RANGE,))


@pytest.mark.parametrize(
    ("bonding", "bond", "bonded", "flagged"),
    [
        ("none", "", False, False),
        ("wanted", "", False, True),
        ("wanted", "unauthenticated", True, False),
        ("required", "unauthenticated", True, False),
        ("required", "", False, True),
        ("authenticated", "unauthenticated", True, True),
        ("authenticated", "authenticated", True, False),
        ("authenticated", "authenticated", False, True),
    ],
)
def test_link_that_is_less_than_wanted_is_flagged(bonding: str, bond: str, bonded: bool, flagged: bool) -> None:  # noqa: FBT001 - a table
    """A reading says so where its link was not what its kind of device should have."""
    hearing = Hearing(
        device("strap", bond=bond), load_profile(bonding_strap(bonding), "strap.toml", frozenset(DECODERS))
    )
    hearing.begin(bonded=bonded)
    (sample,) = samples(hearing.hear("2a37", b"\x00\x48", 0.0))
    assert (UNAUTHENTICATED in sample.flags) == flagged


def test_context_is_told_to_the_decoder() -> None:
    """Where a strap says that it sits, its readings say; a connection later it is asked anew."""
    hearing, uuid = hearing_of("heart-rate-strap")
    hearing.learn("2a38", b"\x01")
    (sample,) = samples(hearing.hear(uuid, b"\x00\x48", 0.0))
    assert sample.flags == ("site-chest",)
    hearing.begin(bonded=False)
    (sample,) = samples(hearing.hear(uuid, b"\x00\x48", 5.0))
    assert sample.flags == ()


def test_values_are_never_altered() -> None:
    """Joining and flagging leave each number as the decoder gave it."""
    hearing = Hearing(device("thermometer"), PROFILES["thermometer"])
    (sample,) = samples(hearing.hear("2a1c", bytes.fromhex("00b00e00fe"), 0.0))
    assert sample.measurements == (Measurement(150364, Decimal("37.60"), "Cel"),)
