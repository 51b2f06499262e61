"""What a stub encodes, the gateway decodes to the same values: two implementations of each format, held together."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_stubs import blood_pressure, bthome, cgm, contec, glucose, heart_rate, masimo, nonin, oximeter, scale
from firmware_stubs import thermometer as thermometers
from firmware_stubs.behaviour import encode_battery
from firmware_stubs.ieee11073 import Number, Special, date_time
from firmware_stubs.people import pleth_of
from firmware_stubs.scenarios import REST, Body, body_at
from gateway.decode import DECODERS
from gateway.decode.bthome import Bthome
from gateway.model import Sample, Waveform

SPECIALS = {
    Special.NAN: "NaN",
    Special.NRES: "NRes",
    Special.POSITIVE_INFINITY: "+INF",
    Special.NEGATIVE_INFINITY: "-INF",
    Special.RESERVED: "reserved",
}
Draw = Callable[[st.SearchStrategy[Any]], Any]


@dataclass(kw_only=True)
class Trip:
    """A frame, and what has to come out of it: values by code (a number's digits and exponent as text), flags, time."""

    frame: bytes = b""
    values: list[tuple[int, str | Waveform, str]] = field(default_factory=list)
    flags: set[str] = field(default_factory=set)
    time_ms: int | None = None

    def tell(self, code: int, number: Number | None, unit: str) -> None:
        """Expect a number, or a flag where it is a special; None is not sent."""
        if isinstance(number, Special):
            self.flags.add(f"no-value:{code}:{SPECIALS[number]}")
        elif number is not None:
            self.values.append((code, str(number), unit))

    def tell_or_miss(self, code: int, number: int | None, unit: str, missing: tuple[int | None, ...]) -> None:
        """Expect a number, or that it is said to be missing."""
        if number in missing:
            self.flags.add(f"no-value:{code}:missing")
        else:
            self.tell(code, number, unit)

    def stamp(self, moment: datetime | None) -> bytes:
        """Expect a moment and return its date time; None is a clock that does not know."""
        self.flags.add("unknown-time" if moment is None else "device-clock")
        self.time_ms = None if moment is None else int(moment.timestamp()) * 1000
        return date_time(moment)


@dataclass
class Statue:
    """Somebody whose values are what they are."""

    rate: int
    spo2_percent: int
    height: float

    phase = 0.0

    def advance(self, to_ms: float) -> list[int]:
        """Stand."""
        assert to_ms >= 0
        return []

    def rate_per_min(self, beats: int = 4) -> int:
        """Give the rate."""
        assert 1 <= beats <= 8
        return self.rate

    @property
    def pleth(self) -> int:
        """Give what the height makes."""
        return pleth_of(self.height)

    @property
    def body(self) -> Body:
        """Give a body at rest."""
        return body_at(REST, 0)


def decimals(largest: int, exponents: tuple[int, int]) -> st.SearchStrategy[Number]:
    numbers = st.builds(
        lambda mantissa, exponent: Decimal(mantissa).scaleb(exponent),
        st.integers(-largest, largest),
        st.integers(*exponents),
    )
    return numbers | st.sampled_from(Special)


sfloats = decimals(2045, (-8, 7))
floats = decimals((1 << 23) - 3, (-20, 20))
maybe_sfloats = st.none() | sfloats
FIRST, LAST = datetime(1583, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC)
moments = st.none() | st.integers(0, int((LAST - FIRST).total_seconds())).map(lambda s: FIRST + timedelta(seconds=s))
bytes_ = st.integers(0, 0xFF)
words = st.integers(0, 0xFFFF)
statues = st.builds(Statue, st.integers(0, 511), st.integers(0, 127), st.floats(0, 1.15))


@st.composite
def heart_rates(draw: Draw) -> Trip:
    rate, ticks, energy = draw(words), draw(st.lists(words, max_size=9)), draw(st.none() | words)
    has_contact = draw(st.booleans())
    intervals = [Decimal(tick * 125) / 128 for tick in ticks]
    trip = Trip(frame=heart_rate.encode_heart_rate(rate, intervals, has_contact=has_contact, energy_kj=energy))
    trip.tell(147842, rate, "/min")
    trip.tell(8454263, energy, "kJ")
    for interval in intervals:
        trip.tell(147240, interval, "ms")
    trip.flags = set() if has_contact else {"no-contact"}
    return trip


@st.composite
def qualities(draw: Draw) -> oximeter.Quality:
    return oximeter.Quality(
        status=draw(st.none() | words),
        sensor_status=draw(st.none() | st.integers(0, 0xFFFFFF)),
        amplitude_index=draw(maybe_sfloats),
    )


def tell_quality(trip: Trip, quality: oximeter.Quality) -> None:
    trip.tell(150448, quality.amplitude_index, "%")
    trip.flags |= {"stored"} if (quality.status or 0) & 1 << 9 else set()
    trip.flags |= {"sensor-off"} if (quality.sensor_status or 0) & 1 << 11 else set()


@st.composite
def plx_continuous(draw: Draw) -> Trip:
    spo2, pulse, quality = draw(sfloats), draw(sfloats), draw(qualities())
    fast, slow = (draw(st.none() | st.tuples(sfloats, sfloats)) for _ in range(2))
    frame = oximeter.encode_plx_continuous(spo2, pulse, fast=fast, slow=slow, quality=quality)
    trip = Trip(frame=frame)
    trip.tell(150456, spo2, "%")
    trip.tell(149530, pulse, "/min")
    tell_quality(trip, quality)
    return trip


@st.composite
def plx_spot_checks(draw: Draw) -> Trip:
    spo2, pulse, quality, is_set = draw(sfloats), draw(sfloats), draw(qualities()), draw(st.booleans())
    trip = Trip()
    stamp = trip.stamp(draw(moments)) if draw(st.booleans()) else b""
    if stamp and not is_set:
        trip.time_ms, trip.flags = None, {"unknown-time"}
    trip.tell(150456, spo2, "%")
    trip.tell(149530, pulse, "/min")
    tell_quality(trip, quality)
    trip.frame = oximeter.encode_plx_spot_check(spo2, pulse, stamp=stamp, is_clock_set=is_set, quality=quality)
    return trip


@st.composite
def temperatures(draw: Draw) -> Trip:
    number, is_fahrenheit = draw(floats), draw(st.booleans())
    site = draw(st.none() | st.sampled_from(thermometers.Site))
    trip = Trip()
    stamp = trip.stamp(draw(moments)) if draw(st.booleans()) else b""
    trip.tell(150364, number, "[degF]" if is_fahrenheit else "Cel")
    trip.flags |= {f"site-{site.name.lower()}"} if site else set()
    trip.frame = thermometers.encode_temperature(number, is_fahrenheit=is_fahrenheit, stamp=stamp, site=site)
    return trip


@st.composite
def blood_pressures(draw: Draw) -> Trip:
    pressures, is_kpa = draw(st.tuples(sfloats, sfloats, sfloats)), draw(st.booleans())
    pulse, user, status = draw(maybe_sfloats), draw(st.none() | bytes_), draw(st.none() | words)
    trip = Trip()
    stamp = trip.stamp(draw(moments)) if draw(st.booleans()) else b""
    for code, number in zip((150021, 150022, 150023), pressures, strict=True):
        trip.tell(code, number, "kPa" if is_kpa else "mm[Hg]")
    trip.tell(149546, pulse, "/min")
    trip.flags |= {f"user-{user}"} if user not in {None, 0xFF} else set()
    trip.flags |= {"cuff-loose"} if (status or 0) & 1 << 1 else set()
    trip.frame = blood_pressure.encode_blood_pressure(
        pressures, is_kpa=is_kpa, stamp=stamp, pulse_per_min=pulse, user=user, status=status
    )
    return trip


@st.composite
def cuff_pressures(draw: Draw) -> Trip:
    pressure, is_kpa = draw(sfloats), draw(st.booleans())
    trip = Trip(frame=blood_pressure.encode_cuff_pressure(pressure, is_kpa=is_kpa))
    trip.tell(150300, pressure, "kPa" if is_kpa else "mm[Hg]")
    return trip


@st.composite
def glucoses(draw: Draw) -> Trip:
    codes = {1: 160184, 2: 160188, 9: 160212, 10: 160208}
    value, kind, is_molar = draw(maybe_sfloats), draw(st.sampled_from(sorted(codes))), draw(st.booleans())
    offset, status = draw(st.none() | st.integers(-0x7FFF, 0x7FFE)), draw(st.none() | words)
    trip = Trip()
    base = trip.stamp(draw(moments))
    trip.time_ms = None if trip.time_ms is None else trip.time_ms + (offset or 0) * 60_000
    trip.tell(codes[kind], value, "mol/L" if is_molar else "kg/L")
    trip.flags |= set() if value is None else {"site-finger"}
    trip.flags |= {"strip-wrong"} if (status or 0) & 1 << 4 else set()
    concentration = (
        None if value is None else glucose.Concentration(value=value, kind=kind, location=1, is_molar=is_molar)
    )
    trip.frame = glucose.encode_glucose(
        draw(words),
        base,
        offset_min=offset,
        concentration=concentration,
        status=status,
        has_context=draw(st.booleans()),
    )
    return trip


@st.composite
def glucose_contexts(draw: Draw) -> Trip:
    kinds = st.integers(1, 5)
    context = glucose.Context(
        carbohydrate=draw(st.none() | st.tuples(kinds, sfloats)),
        meal=draw(st.none() | st.just(3)),
        tester_health=draw(st.none() | st.just((2, 5))),
        exercise=draw(st.none() | st.tuples(words, st.integers(0, 100))),
        medication=draw(st.none() | st.tuples(kinds, sfloats)),
        is_medication_in_litres=draw(st.booleans()),
        hba1c_percent=draw(maybe_sfloats),
        extended_flags=draw(st.none() | bytes_),
    )
    trip = Trip(frame=glucose.encode_context(draw(words), context))
    if context.carbohydrate:
        trip.tell(8417764 + 4 * context.carbohydrate[0], context.carbohydrate[1], "kg")
    trip.tell(8417760, context.exercise and context.exercise[1], "%")
    if context.medication:
        unit = "L" if context.is_medication_in_litres else "kg"
        trip.tell(8417796 + 4 * context.medication[0], context.medication[1], unit)
    trip.tell(160220, context.hba1c_percent, "%")
    trip.flags |= {"fasting"} if context.meal else set()
    trip.flags |= {"tested-by-professional", "healthy"} if context.tester_health else set()
    return trip


@st.composite
def cgm_records(draw: Draw) -> Trip:
    number, octets = draw(sfloats), draw(st.tuples(*[st.none() | bytes_] * 3))
    trip = Trip()
    trip.frame = cgm.encode_cgm_record(
        number,
        draw(words),
        octets=octets,
        trend=draw(maybe_sfloats),
        quality=draw(maybe_sfloats),
        has_crc=draw(st.booleans()),
    )
    trip.tell(160020, number, "mg/dL")
    for octet, flag in zip(octets, ("session-stopped", "time-synchronisation-due", "below-patient-limit"), strict=True):
        trip.flags |= {flag} if (octet or 0) & 1 else set()
    return trip


def count(raw: int, step: str) -> Decimal:
    return raw * Decimal(step)


@st.composite
def weights(draw: Draw) -> Trip:
    raw, is_imperial = draw(words), draw(st.booleans())
    user, sizes = draw(st.none() | bytes_), draw(st.none() | st.tuples(words, words))
    trip = Trip()
    stamp = trip.stamp(draw(moments)) if draw(st.booleans()) else b""
    if raw == scale.UNSUCCESSFUL:
        trip.flags.add("no-value:188736:unsuccessful")
    else:
        trip.tell(188736, count(raw, "0.01" if is_imperial else "0.005"), "[lb_av]" if is_imperial else "kg")
    if sizes:
        trip.tell(188752, count(sizes[0], "0.1"), "kg/m2")
        trip.tell(188740, count(sizes[1], "0.1" if is_imperial else "0.001"), "[in_i]" if is_imperial else "m")
    trip.flags |= {f"user-{user}"} if user not in {None, 0xFF} else set()
    trip.frame = scale.encode_weight(raw, is_imperial=is_imperial, stamp=stamp, user=user, bmi_height=sizes)
    return trip


@st.composite
def body_compositions(draw: Draw) -> Trip:
    fat, is_imperial, user = draw(words), draw(st.booleans()), draw(st.none() | bytes_)
    parts = draw(st.dictionaries(st.sampled_from(scale.Part), st.integers(0, 0xFFFE)))
    codes = {
        scale.Part.FAT_FREE_MASS: 188756,
        scale.Part.SOFT_LEAN_MASS: 188760,
        scale.Part.BODY_WATER_MASS: 188764,
        scale.Part.WEIGHT: 188736,
    }
    trip = Trip()
    stamp = trip.stamp(draw(moments)) if draw(st.booleans()) else b""
    if fat == scale.UNSUCCESSFUL:
        trip.flags.add("no-value:188748:unsuccessful")
    else:
        trip.tell(188748, count(fat, "0.1"), "%")
    for part in sorted(parts.keys() & codes):
        step = "0.01" if is_imperial else "0.005"
        trip.tell(codes[part], count(parts[part], step), "[lb_av]" if is_imperial else "kg")
    goes_on = draw(st.booleans())
    trip.flags |= {"multi-packet"} if goes_on else set()
    trip.frame = scale.encode_body_composition(
        fat, parts, is_imperial=is_imperial, stamp=stamp, user=user, goes_on=goes_on
    )
    return trip


@st.composite
def batteries(draw: Draw) -> Trip:
    percent = draw(st.integers(0, 100))
    return Trip(frame=encode_battery(percent), values=[(67996, str(percent), "%")])


@st.composite
def nonin_packets(draw: Draw, data_format: nonin.Format) -> Trip:
    statue, probe = draw(statues), draw(st.sampled_from(nonin.Probe))
    sensor = nonin.Nonin(statue, data_format)
    sensor.probe = probe
    is_worn = probe is nonin.Probe.WORN
    trip = Trip(frame=b"".join(sensor.next_frame() for _ in range(1 if data_format is nonin.Format.DF8 else 25)))
    trip.tell_or_miss(149530, statue.rate if is_worn else None, "/min", (None, 511))
    trip.tell_or_miss(150456, statue.spo2_percent if is_worn else None, "%", (None, 127))
    if data_format is not nonin.Format.DF8:
        wide = data_format is nonin.Format.DF7
        pleth = nonin.wide_pleth_of(statue.height) if wide else statue.pleth
        samples = (pleth if is_worn else 0,) * 25
        trip.values.append((150452, Waveform(period_ns=13_333_333, scale=0, samples=samples), "1"))
    trip.flags |= {"sensor-disconnected"} if probe is nonin.Probe.UNPLUGGED else set()
    trip.flags |= set() if is_worn else {"sensor-alarm", "out-of-track"}
    return trip


@st.composite
def contec_seconds(draw: Draw, kind: type[contec.Cms50d | contec.Cms50e]) -> Trip:
    statue = draw(statues)
    statue.rate %= 256
    sensor = kind(statue)
    sensor.received(contec.START)
    sensor.has_finger = draw(st.booleans())
    trip = Trip(frame=b"".join(sensor.next_frame() for _ in range(60)))
    trip.tell_or_miss(149530, statue.rate if sensor.has_finger else None, "/min", (None, 0, 255))
    trip.tell_or_miss(150456, statue.spo2_percent if sensor.has_finger else None, "%", (None, 0, 127))
    samples = (statue.pleth // 2 if sensor.has_finger else 0,) * 60
    trip.values.append((150452, Waveform(period_ns=16_666_667, scale=0, samples=samples), "1"))
    trip.flags |= set() if sensor.has_finger else {"sensor-fault", "searching"}
    return trip


@st.composite
def contec_states(draw: Draw, encode: Callable[[contec.Moment], bytes]) -> Trip:
    state = {flag: draw(st.booleans()) for flag in ("pulse-not-found", "spo2-dropping", "sensor-fault", "searching")}
    moment = contec.Moment(
        pleth=draw(st.integers(0, 127)),
        rate_per_min=72,
        spo2_percent=97,
        signal=draw(st.integers(0, 15)),
        bar=draw(st.integers(0, 15)),
        is_beep=draw(st.booleans()),
        is_searching_long=state["pulse-not-found"],
        is_dropping=state["spo2-dropping"],
        is_probe_error=state["sensor-fault"],
        is_searching=state["searching"],
    )
    trip = Trip(frame=encode(moment) * 60)
    trip.tell(149530, 72, "/min")
    trip.tell(150456, 97, "%")
    trip.values.append((150452, Waveform(period_ns=16_666_667, scale=0, samples=(moment.pleth,) * 60), "1"))
    trip.flags |= {flag for flag, is_so in state.items() if is_so}
    return trip


@st.composite
def masimo_lines(draw: Draw) -> Trip:
    spo2, rate = draw(st.none() | st.integers(0, 100)), draw(st.none() | st.integers(0, 999))
    perfusion = draw(st.none() | st.integers(0, 9999).map(lambda raw: Decimal(raw).scaleb(-2)))
    exceptions = draw(st.integers(0, 0xFFF))
    moment = draw(moments.filter(bool)).replace(year=draw(st.integers(2000, 2099)), day=1)
    display = masimo.Display(spo2_percent=spo2, rate_per_min=rate, perfusion_percent=perfusion, exceptions=exceptions)
    trip = Trip(frame=masimo.encode_ascii1(moment, display))
    trip.stamp(moment)
    trip.tell_or_miss(150456, spo2, "%", (None,))
    trip.tell_or_miss(149530, rate, "/min", (None,))
    trip.tell(150448, perfusion, "%")
    trip.flags |= {"no-value:150448:missing"} if perfusion is None else set()
    trip.flags |= {"sensor-off"} if exceptions & masimo.OFF_PATIENT else set()
    return trip


ObjectTrip = tuple[list[tuple[bthome.Object, Decimal | int]], Trip]


@st.composite
def bthome_objects(draw: Draw) -> ObjectTrip:
    shorts, signed_bytes = st.integers(-0x8000, 0x7FFF), st.integers(-0x80, 0x7F)
    choices = {
        bthome.Object.PACKET: bytes_,
        bthome.Object.BATTERY_PERCENT: st.integers(0, 100),
        bthome.Object.TEMPERATURE_CENTI: shorts.map(lambda raw: count(raw, "0.01")),
        bthome.Object.HUMIDITY_CENTI: words.map(lambda raw: count(raw, "0.01")),
        bthome.Object.IS_BATTERY_LOW: st.integers(0, 1),
        bthome.Object.TEMPERATURE_DECI: shorts.map(lambda raw: count(raw, "0.1")),
        bthome.Object.TIME_STAMP_S: st.integers(0, 0xFFFFFFFF),
        bthome.Object.TEMPERATURE: signed_bytes.map(Decimal),
        bthome.Object.TEMPERATURE_35_CENTI: signed_bytes.map(lambda raw: count(raw, "0.35")),
    }
    objects = [(kind, draw(choices[kind])) for kind in sorted(draw(st.sets(st.sampled_from(sorted(choices)))))]
    trip = Trip()
    for kind, value in objects:
        if kind.name.startswith("TEMPERATURE"):
            trip.tell(188508, value, "Cel")
        elif kind is bthome.Object.BATTERY_PERCENT:
            trip.tell(67996, value, "%")
        elif kind is bthome.Object.TIME_STAMP_S:
            trip.time_ms = int(value) * 1000
        elif kind is bthome.Object.IS_BATTERY_LOW:
            trip.flags |= {"low-battery"} if value else set()
    return objects, trip


@st.composite
def bthome_frames(draw: Draw) -> Trip:
    objects, trip = draw(bthome_objects())
    trip.frame = bthome.encode_bthome(objects)
    return trip  # type: ignore[no-any-return] # what a Draw gives is not typed


TRIPS: dict[str, st.SearchStrategy[Trip]] = {
    "gatt.heart_rate": heart_rates(),
    "gatt.plx_continuous": plx_continuous(),
    "gatt.plx_spot_check": plx_spot_checks(),
    "gatt.temperature": temperatures(),
    "gatt.intermediate_temperature": temperatures(),
    "gatt.blood_pressure": blood_pressures(),
    "gatt.cuff_pressure": cuff_pressures(),
    "gatt.glucose": glucoses(),
    "gatt.glucose_context": glucose_contexts(),
    "gatt.cgm": cgm_records(),
    "gatt.weight": weights(),
    "gatt.body_composition": body_compositions(),
    "gatt.battery": batteries(),
    "serial.nonin_df2": nonin_packets(nonin.Format.DF2),
    "serial.nonin_df7": nonin_packets(nonin.Format.DF7),
    "serial.nonin_df8": nonin_packets(nonin.Format.DF8),
    "serial.cms50d": contec_seconds(contec.Cms50d) | contec_states(contec.encode_five),
    "serial.cms50e": contec_seconds(contec.Cms50e) | contec_states(contec.encode_nine),
    "serial.masimo_ascii1": masimo_lines(),
    "adv.bthome_v2": bthome_frames(),
}


def assert_told(sample: object, trip: Trip) -> None:
    """Hold a sample against what was sent; values of codes that the trip does not know of are not looked at."""
    assert isinstance(sample, Sample)
    codes = {code for code, _, _ in trip.values}
    told = [
        (each.code, each.value if isinstance(each.value, Waveform) else str(each.value), each.unit)
        for each in sample.measurements
        if each.code in codes
    ]
    assert sorted(told, key=lambda each: each[0]) == sorted(trip.values, key=lambda each: each[0])
    missing = {flag for flag in sample.flags if flag.startswith("no-value:")}
    assert missing == {flag for flag in trip.flags if flag.startswith("no-value:")}
    assert trip.flags <= set(sample.flags)
    assert sample.device_time_ms == trip.time_ms


@pytest.mark.parametrize("name", sorted(DECODERS.keys() - {"serial.iomt_frame"}))
@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_what_a_stub_sends_is_what_the_gateway_reads(name: str, data: st.DataObject) -> None:
    """The same values with the same digits and exponents, a special as that special, a stamp as that time."""
    trip = data.draw(TRIPS[name])

    (sample,) = DECODERS[name]().feed(trip.frame)

    assert_told(sample, trip)


@settings(deadline=None, max_examples=60)
@given(
    bthome_objects(), st.binary(min_size=16, max_size=16), st.binary(min_size=6, max_size=6), st.integers(0, 0xFFFFFFFF)
)
def test_what_a_stub_seals_the_gateway_opens(told: ObjectTrip, key: bytes, address: bytes, counter: int) -> None:
    """Encrypted advertisements come out as those in the clear do, for who has the key."""
    objects, trip = told

    (sample,) = Bthome(key, address).feed(bthome.seal_bthome(objects, key=key, address=address, counter=counter))

    assert_told(sample, trip)


@settings(deadline=None, max_examples=60)
@given(st.lists(cgm_records(), min_size=1, max_size=4))
def test_records_of_one_notification_come_out_one_by_one(trips: list[Trip]) -> None:
    """A notification of several CGM records is as many samples, in order."""
    samples = DECODERS["gatt.cgm"]().feed(b"".join(trip.frame for trip in trips))

    for sample, trip in zip(samples, trips, strict=True):
        assert_told(sample, trip)
