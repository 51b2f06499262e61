from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from firmware_stubs.nonin import NoninDf2
from firmware_stubs.people import Person
from gateway import canonical
from gateway.decode import DECODERS
from gateway.decode.current_time import encode_current_time
from gateway.errors import ConfigError
from gateway.hearing import OUT_OF_RANGE
from gateway.io.profiles import load_profiles
from gateway.io.store.readings import payload_of
from gateway.model import EventKind, Reading
from gateway.presence import NOT_RUNNING
from gateway.sources import DAMAGED_WAITING, Source, Sources
from tests.recorders import Ward, ward

__all__ = ["ward"]  # a fixture

PROFILES = load_profiles(frozenset(DECODERS))
RATE, RACP = "2a37", "2a52"


async def source_of(ward: Ward, profile: str) -> tuple[Sources, Source]:
    """Give the sources of a gateway with one device of a profile."""
    recorder = await ward.start()
    sources = Sources(recorder, PROFILES, None, 5)
    return sources, await sources.add(recorder.enrol("device-1", profile, "C0:FF:EE:00:00:01"))


async def restarted(ward: Ward) -> Source:
    """Give the same device's source in a gateway that was started anew."""
    recorder = await ward.start()
    return await Sources(recorder, PROFILES, None, 5).add(recorder.devices["device-1"])


async def readings_of(ward: Ward, source: Source) -> list[Reading]:
    await source._recorder.commit()
    return [canonical.decode_reading(payload_of(leaf.data)) for leaf in ward.store.leaves(0) if leaf.kind == "reading"]


async def gaps_of(ward: Ward, source: Source) -> list[dict[str, object]]:
    await source._recorder.commit()
    return [dict(event.details) for _, event in ward.store.events() if event.kind is EventKind.GAP]


async def test_frame_becomes_a_reading(ward: Ward) -> None:
    """What a link delivers is decoded and recorded as it was heard, with the decoder's name and version."""
    _, source = await source_of(ward, "heart-rate-strap")
    source.hear(RATE, b"\x00\x48")
    source.hear(RATE, b"\x00\x49")
    first, second = await readings_of(ward, source)
    assert (first.frame, first.measurements[0].value, first.flags) == (b"\x00\x48", 72, ())
    assert (second.sequence, second.decoder) == (2, "gatt.heart_rate/1")


async def test_fault_25_implausible_value_is_flagged_and_not_altered(ward: Ward) -> None:
    """A value outside its profile's range is kept as it was, with a flag that says so."""
    _, source = await source_of(ward, "heart-rate-strap")
    source.hear(RATE, b"\x01\xe8\x03")
    (reading,) = await readings_of(ward, source)
    assert (reading.measurements[0].value, reading.flags) == (1000, (OUT_OF_RANGE,))


async def test_fault_25_stuck_future_and_1970_stamps_are_kept_as_they_are(ward: Ward) -> None:
    """A value that never changes is recorded each time; the device's own time is signed whenever it says that is."""
    _, source = await source_of(ward, "thermometer")
    years = (2026, 1970, 2063)
    for year in years:
        source.hear("2a1c", b"\x02\xb0\x0e\x00\xfe" + year.to_bytes(2, "little") + bytes((1, 1, 0, 0, 0)))
    readings = await readings_of(ward, source)
    assert [reading.measurements for reading in readings] == [readings[0].measurements] * 3
    assert [reading.device_time_ms for reading in readings] == [
        int(datetime(year, 1, 1, tzinfo=UTC).timestamp()) * 1000 for year in years
    ]


async def test_damaged_frames_are_counted_and_kept(ward: Ward) -> None:
    """A frame that cannot be trusted is no reading and no crash: it is counted and handed over to be kept, once."""
    sources, source = await source_of(ward, "heart-rate-strap")
    source.hear(RATE, b"\x01\x48")
    source.hear(RATE, b"")
    (short, empty), again = sources.take_damaged(), sources.take_damaged()
    assert (short.device, short.data, short.received_ms) == ("device-1", b"\x01\x48", ward.clocks.real_ms)
    assert (empty.data, again, source.damaged) == (b"", [], 2)
    assert await readings_of(ward, source) == []


async def test_flood_of_damaged_frames_is_bounded(ward: Ward) -> None:
    """Of a flood the latest are kept, all are counted."""
    sources, source = await source_of(ward, "heart-rate-strap")
    for number in range(DAMAGED_WAITING + 50):
        source.hear(RATE, bytes((1, number % 2)))
    assert len(sources.take_damaged()) == DAMAGED_WAITING
    assert source.damaged == DAMAGED_WAITING + 50


async def test_frame_without_a_value_is_counted(ward: Ward) -> None:
    """A sensor that says that it has no value, as a finger clip without a finger, makes no reading."""
    _, source = await source_of(ward, "pulse-oximeter-plx")
    source.hear("2a5f", b"\x00\xff\x07\xff\x07")  # SpO2 and pulse are NaN
    assert (source.empty, source.damaged) == (1, 0)
    assert await readings_of(ward, source) == []


async def test_half_a_frame_is_not_continued_after_a_loss(ward: Ward) -> None:
    """What a line said before it was lost is not put together with what it says afterwards."""
    _, source = await source_of(ward, "nonin-oem-iii-df2")
    sensor = NoninDf2(Person("ppg_long"))
    packets = b"".join(sensor.next_frame() for _ in range(3 * 25))
    source.hear("", packets[:-3])
    source.change("lost", "it was unplugged")
    assert (source.state, source.reason) == ("lost", "it was unplugged")
    source.change("connected", "it is there again")
    source.hear("", packets)
    held, whole = await readings_of(ward, source)
    assert source.damaged == 0
    assert (held.frame, whole.frame) == (packets[: 2 * 125], packets)


async def test_profile_that_is_not_here_is_named(ward: Ward) -> None:
    """A device whose profile is missing cannot be read; the error lists what there is."""
    recorder = await ward.start()
    sources = Sources(recorder, {"a": PROFILES["heart-rate-strap"]}, None, 5)
    with pytest.raises(ConfigError, match="profile 'b' is not here; allowed: a"):
        await sources.add(recorder.enrol("device-1", "b", "somewhere"))
    assert sources.by_device == {}


# -- gaps


async def test_every_loss_and_return_is_an_event(ward: Ward) -> None:
    """From the last reading on, with the reason; and until the next frame, when that comes."""
    _, source = await source_of(ward, "heart-rate-strap")
    source.hear(RATE, b"\x00\x48")
    heard_ms = ward.clocks.real_ms
    ward.clocks.pass_by(3000)
    source.change("quiet", "no frame for 3 s")
    source.change("lost", "no frame for 3 s")
    source.change("backoff", "next try in 1 s")
    gap = {"device": "device-1", "from": heard_ms, "why": "no frame for 3 s"}
    assert await gaps_of(ward, source) == [gap]
    ward.clocks.pass_by(7000)
    source.hear(RATE, b"\x00\x49")
    assert await gaps_of(ward, source) == [gap, {**gap, "to": heard_ms + 10_000}]


async def test_gap_goes_on_while_the_gateway_is_restarted(ward: Ward) -> None:
    """A device that was away before and is away after a start has one gap, which ends when it is heard."""
    _, source = await source_of(ward, "heart-rate-strap")
    source.hear(RATE, b"\x00\x48")
    heard_ms = ward.clocks.real_ms
    source.change("lost", "the link was lost")
    await gaps_of(ward, source)
    again = await restarted(ward)
    again.change("lost", "once more")
    ward.clocks.pass_by(5000)
    again.hear(RATE, b"\x00\x49")
    gap = {"device": "device-1", "from": heard_ms, "why": "the link was lost"}
    assert await gaps_of(ward, again) == [gap, {**gap, "to": heard_ms + 5000}]


async def test_device_that_does_not_come_back_after_a_start_is_missed(ward: Ward) -> None:
    """Its quiet time after the start, the chain says since when it was not heard, and why."""
    _, source = await source_of(ward, "heart-rate-strap")
    source.hear(RATE, b"\x00\x48")
    heard_ms = ward.clocks.real_ms
    await gaps_of(ward, source)
    again = await restarted(ward)
    again.look()
    assert await gaps_of(ward, again) == []
    again._began_s -= again.profile.quiet_s + 1
    again.look()
    again.look()
    assert await gaps_of(ward, again) == [{"device": "device-1", "from": heard_ms, "why": NOT_RUNNING}]


async def test_quick_restart_is_no_gap(ward: Ward) -> None:
    """A device that goes on within its quiet time was not missed."""
    _, source = await source_of(ward, "heart-rate-strap")
    source.hear(RATE, b"\x00\x48")
    await gaps_of(ward, source)
    again = await restarted(ward)
    again.hear(RATE, b"\x00\x49")
    assert await gaps_of(ward, again) == []


async def test_intermittent_device_is_not_missed(ward: Ward) -> None:
    """A cuff that goes after its measurement is no gap, nor is one that is away at a start."""
    _, source = await source_of(ward, "blood-pressure-cuff")
    source.hear("2a35", bytes.fromhex("008a0058007800"))
    source.change("lost", "the link was lost")
    await gaps_of(ward, source)
    again = await restarted(ward)
    again._began_s -= 1000
    again.look()
    assert await gaps_of(ward, again) == []


# -- what is said to a device


async def test_clock_is_told_only_where_we_know_the_time(ward: Ward) -> None:
    """A device that wants its clock set is given ours, if ours is synchronised."""
    name = next(profile.name for profile in PROFILES.values() if profile.clock)
    ward.clocks.synchronised = False
    _, source = await source_of(ward, name)
    assert source.opened(bonded=True) == ()
    ward.clocks.synchronised = True
    source._recorder.check_clock()
    assert source.opened(bonded=True) == (("2a2b", encode_current_time(ward.clocks.real_ms)),)
    assert (await source_of_other(ward, "heart-rate-strap")).opened(bonded=True) == ()


async def source_of_other(ward: Ward, profile: str) -> Source:
    recorder = await ward.start()
    return await Sources(recorder, PROFILES, None, 5).add(recorder.enrol("device-2", profile, "C0:FF:EE:00:00:02"))


def glucose(number: int) -> bytes:
    return bytes.fromhex(f"1b{number % 256:02x}{number >> 8:02x}e307021b0b0a1efbff69d0110501")


async def test_stored_records_are_asked_for_from_the_next_on(ward: Ward) -> None:
    """At first all; after a restart, of ours, those behind the last that was kept; what comes twice is kept once."""
    _, source = await source_of(ward, "glucose-meter")
    assert source.subscribed() == ((RACP, b"\x01\x01"),)
    for number in (1, 2, 3):
        source.hear("2a18", glucose(number))
    assert source.hear(RACP, b"\x06\x00\x01\x01") == ()
    source.opened(bonded=True)
    assert source.subscribed() == ((RACP, b"\x01\x03\x01\x04\x00"),)
    assert len(await readings_of(ward, source)) == 3
    again = await restarted(ward)
    assert again.subscribed() == ((RACP, b"\x01\x03\x01\x04\x00"),)
    again.hear("2a18", glucose(3))
    assert (len(await readings_of(ward, again)), again.repeated) == (3, 1)


@pytest.mark.parametrize("reset", [lambda number: number, lambda number: (65535 + number) % 65536])
async def test_fault_28_meter_that_counts_from_the_start_again(ward: Ward, reset: Callable[[int], int]) -> None:
    """A meter that was reset, or whose counter rolled over, has its whole store asked for; old records add nothing."""
    _, source = await source_of(ward, "glucose-meter")
    source.subscribed()
    source.hear("2a18", glucose(reset(400)))
    source.hear(RACP, b"\x06\x00\x01\x01")
    source.opened(bonded=True)
    source.subscribed()
    assert source.hear(RACP, b"\x06\x00\x01\x06") == ((RACP, b"\x01\x06"),)  # nothing newer: then your last one
    source.hear("2a18", glucose(2))
    assert source.hear(RACP, b"\x06\x00\x01\x01") == ((RACP, b"\x01\x01"),)  # it counts anew: then all
    for number in (1, 2):
        source.hear("2a18", glucose(number))
    assert source.hear(RACP, b"\x06\x00\x01\x01") == ()
    assert len(await readings_of(ward, source)) == 3


async def test_first_measurement_of_onboarding_is_kept(ward: Ward) -> None:
    """What a cuff said while it was onboarded, which it says only once, becomes a reading."""
    _, source = await source_of(ward, "blood-pressure-cuff")
    source.take_first([("2a35", bytes.fromhex("008a0058007800"))])
    (reading,) = await readings_of(ward, source)
    assert reading.measurements[0].value == 138
