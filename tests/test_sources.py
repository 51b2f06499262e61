import pytest

from firmware_stubs.nonin import NoninDf2
from firmware_stubs.people import Person
from gateway import canonical
from gateway.decode import DECODERS
from gateway.errors import ConfigError
from gateway.io.profiles import load_profiles
from gateway.io.store.readings import payload_of
from gateway.model import Reading
from gateway.sources import DAMAGED_WAITING, OUT_OF_RANGE, Source, Sources
from tests.recorders import Ward, ward

__all__ = ["ward"]  # a fixture

PROFILES = load_profiles(frozenset(DECODERS))


async def source_of(ward: Ward, profile: str) -> tuple[Sources, Source]:
    """Give the sources of a gateway with one device of a profile."""
    recorder = await ward.start()
    sources = Sources(recorder, PROFILES, None, 5)
    return sources, sources.add(recorder.enrol("device-1", profile, "somewhere"))


async def readings_of(ward: Ward, source: Source) -> list[Reading]:
    await source._recorder.commit()
    return [canonical.decode_reading(payload_of(leaf.data)) for leaf in ward.store.leaves(0) if leaf.kind == "reading"]


async def test_frame_becomes_a_reading(ward: Ward) -> None:
    """What a link delivers is decoded and recorded as it was heard, with the decoder's name and version."""
    _, source = await source_of(ward, "heart-rate-strap")
    source.hear(b"\x00\x48")
    source.hear(b"\x00\x49")
    first, second = await readings_of(ward, source)
    assert (first.frame, first.measurements[0].value, first.flags) == (b"\x00\x48", 72, ())
    assert (second.sequence, second.decoder) == (2, "gatt.heart_rate/1")


async def test_fault_25_implausible_value_is_flagged_and_not_altered(ward: Ward) -> None:
    """A value outside its profile's range is kept as it was, with a flag that says so."""
    _, source = await source_of(ward, "heart-rate-strap")
    source.hear(b"\x01\xe8\x03")
    (reading,) = await readings_of(ward, source)
    assert (reading.measurements[0].value, reading.flags) == (1000, (OUT_OF_RANGE,))


async def test_damaged_frames_are_counted_and_kept(ward: Ward) -> None:
    """A frame that cannot be trusted is no reading and no crash: it is counted and handed over to be kept, once."""
    sources, source = await source_of(ward, "heart-rate-strap")
    source.hear(b"\x01\x48")
    source.hear(b"")
    (short, empty), again = sources.take_damaged(), sources.take_damaged()
    assert (short.device, short.data, short.received_ms) == ("device-1", b"\x01\x48", ward.clocks.real_ms)
    assert (empty.data, again, source.damaged) == (b"", [], 2)
    assert await readings_of(ward, source) == []


async def test_flood_of_damaged_frames_is_bounded(ward: Ward) -> None:
    """Of a flood the latest are kept, all are counted."""
    sources, source = await source_of(ward, "heart-rate-strap")
    for _ in range(DAMAGED_WAITING + 50):
        source.hear(b"")
    assert len(sources.take_damaged()) == DAMAGED_WAITING
    assert source.damaged == DAMAGED_WAITING + 50


async def test_frame_without_a_value_is_counted(ward: Ward) -> None:
    """A sensor that says that it has no value, as a finger clip without a finger, makes no reading."""
    _, source = await source_of(ward, "pulse-oximeter-plx")
    source.hear(b"\x00\xff\x07\xff\x07")  # SpO2 and pulse are NaN
    assert (source.empty, source.damaged) == (1, 0)
    assert await readings_of(ward, source) == []


async def test_half_a_frame_is_not_continued_after_a_loss(ward: Ward) -> None:
    """What a line said before it was lost is not put together with what it says afterwards."""
    _, source = await source_of(ward, "nonin-oem-iii-df2")
    sensor = NoninDf2(Person("ppg_long"))
    packets = b"".join(sensor.next_frame() for _ in range(40))
    source.hear(packets[:-3])
    before = len(await readings_of(ward, source))
    source.change("lost", "it was unplugged")
    assert (source.state, source.reason) == ("lost", "it was unplugged")
    source.change("connected", "it is there again")
    source.hear(packets)
    after = await readings_of(ward, source)
    assert source.damaged == 0
    assert len(after) in {2 * before, 2 * before + 1}


async def test_profile_that_is_not_here_is_named(ward: Ward) -> None:
    """A device whose profile is missing cannot be read; the error lists what there is."""
    recorder = await ward.start()
    sources = Sources(recorder, {"a": PROFILES["heart-rate-strap"]}, None, 5)
    with pytest.raises(ConfigError, match="profile 'b' is not here; allowed: a"):
        sources.add(recorder.enrol("device-1", "b", "somewhere"))
    assert sources.by_device == {}
