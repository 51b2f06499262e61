"""What each kind of Bluetooth sensor does, without a radio; the bytes themselves are held in test_stub_round_trips."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from firmware_stubs.behaviour import BATTERY_LEVEL, CURRENT_TIME, RECORD_ACCESS, AttError, Behaviour, Sent
from firmware_stubs.blood_pressure import (
    BLOOD_PRESSURE_MEASUREMENT,
    INTERMEDIATE_CUFF_PRESSURE,
    BloodPressureCuff,
    InflatingCuff,
)
from firmware_stubs.bthome import BTHOME, BthomeLogger, bthome_logger
from firmware_stubs.cgm import encode_cgm_feature, encode_session_start, is_sound, with_crc
from firmware_stubs.cgm_sensor import (
    CGM_CONTROL,
    CGM_FEATURE,
    CGM_MEASUREMENT,
    CGM_SESSION_START,
    CGM_STATUS,
    CgmSensor,
    cgm_sensor,
)
from firmware_stubs.glucose import GLUCOSE_CONTEXT, GLUCOSE_MEASUREMENT, HISTORY_RECORDS, GlucoseMeter
from firmware_stubs.heart_rate import Location, encode_location
from firmware_stubs.ieee11073 import current_time, date_time
from firmware_stubs.oximeter import PLX_SPOT_CHECK_MEASUREMENT, SpotCheckOximeter
from firmware_stubs.physiology import Patient
from firmware_stubs.scale import BODY_COMPOSITION_MEASUREMENT, WEIGHT_MEASUREMENT, WeightScale
from firmware_stubs.sensors import SENSORS
from firmware_stubs.thermometer import INTERMEDIATE_TEMPERATURE, TEMPERATURE_MEASUREMENT, Thermometer

NOON = datetime(2026, 5, 17, 12, tzinfo=UTC)
REPORT_ALL, DONE = bytes.fromhex("0101"), (RECORD_ACCESS, bytes.fromhex("06000101"))
UNKNOWN = bytes(7)


def live(behaviour: Behaviour, first_s: int, last_s: int) -> list[Sent]:
    return [each for second in range(first_s, last_s + 1) for each in behaviour.tick(second * 1000)]


def values_of(sent: Iterable[Sent], uuid: str) -> list[bytes]:
    return [value for each, value in sent if each == uuid]


def set_clock(behaviour: Behaviour) -> None:
    assert behaviour.written(CURRENT_TIME, current_time(NOON)) == []


@pytest.mark.parametrize("kind", sorted(SENSORS))
def test_every_kind_lives(kind: str) -> None:
    """Ten minutes long it sends what its device has characteristics for, and in a second run the same."""
    sensor = SENSORS[kind]
    runs = [live(sensor.behaviour(Patient("exercise")), 1, 600) for _ in range(2)]
    known = {
        each.uuid for service in sensor.peripheral("C0:FF:EE:00:00:01").services for each in service.characteristics
    }

    assert runs[0] == runs[1]
    assert {uuid for uuid, _ in runs[0]} <= known
    assert BATTERY_LEVEL in known or kind == "bthome"


@pytest.mark.parametrize("kind", sorted(SENSORS.keys() - {"bthome"}))
def test_every_connectable_kind_tells_its_battery(kind: str) -> None:
    """To who subscribes to it, at once."""
    assert (BATTERY_LEVEL, b"\x5a") in SENSORS[kind].behaviour(Patient("rest")).subscribed(BATTERY_LEVEL)


def test_a_thermometer_nears_the_temperature_and_has_it() -> None:
    """Each second an intermediate value, each ten seconds the measurement, which is the person's; no clock, no date."""
    patient = Patient("fever")
    patient.advance(20_000)
    sent = live(Thermometer(Patient("fever")), 1, 20)
    degrees = [int.from_bytes(value[1:4], "little") for _, value in sent]

    assert [uuid for uuid, _ in sent] == ([INTERMEDIATE_TEMPERATURE] * 9 + [TEMPERATURE_MEASUREMENT]) * 2
    assert degrees[:10] == sorted(degrees[:10])
    assert degrees[-1] == patient.body.temperature_cel * 100
    assert {value[5:] for _, value in sent} == {UNKNOWN + b"\x01"}


def test_a_clock_goes_on_from_where_it_was_set() -> None:
    """A minute after noon was written, the stamp is a minute past noon; what is no time changes nothing."""
    sensor = Thermometer(Patient("rest"))
    live(sensor, 1, 30)
    set_clock(sensor)
    sensor.written(CURRENT_TIME, bytes(10))
    sensor.written(TEMPERATURE_MEASUREMENT, current_time(NOON))

    (*_, (_, value)) = live(sensor, 31, 90)

    assert value[5:12] == date_time(NOON + timedelta(minutes=1))
    assert sensor.values[CURRENT_TIME] == current_time(NOON + timedelta(minutes=1))


def test_a_clock_that_is_not_set_reads_as_nothing() -> None:
    """All of current time is 0."""
    assert Thermometer(Patient("rest")).values[CURRENT_TIME] == bytes(10)


def test_spot_checks_are_stored_while_nobody_listens() -> None:
    """They carry "from storage" and "clock not set"; asked for, all come, and once deleted none does."""
    sensor = SpotCheckOximeter(Patient("rest"))
    assert live(sensor, 1, 90) == []

    reported = sensor.written(RECORD_ACCESS, REPORT_ALL)

    checks = values_of(reported, PLX_SPOT_CHECK_MEASUREMENT)
    assert (len(checks), reported[-1]) == (3, DONE)
    assert all(check[0] == 0x13 and check[-2:] == b"\x00\x03" for check in checks)
    assert [check[5:12].hex() for check in checks] == ["d007010100001e", "d0070101000100", "d007010100011e"]
    assert sensor.written(RECORD_ACCESS, bytes.fromhex("0201")) == [(RECORD_ACCESS, bytes.fromhex("06000201"))]
    assert sensor.written(RECORD_ACCESS, REPORT_ALL) == [(RECORD_ACCESS, bytes.fromhex("06000106"))]


def test_spot_checks_are_indicated_to_who_listens() -> None:
    """Then they are not stored, until the client has gone; the clock that it has set stamps them."""
    sensor = SpotCheckOximeter(Patient("rest"))
    sensor.subscribed(PLX_SPOT_CHECK_MEASUREMENT)
    set_clock(sensor)

    ((uuid, check),) = live(sensor, 1, 30)

    assert uuid == PLX_SPOT_CHECK_MEASUREMENT
    assert (check[0], check[5:12], check[-2:]) == (0x03, date_time(NOON + timedelta(seconds=30)), b"\x00\x01")
    sensor.left()
    assert live(sensor, 31, 60) == []
    assert len(sensor.written(RECORD_ACCESS, REPORT_ALL)) == 2


def test_a_cuff_wakes_for_half_a_minute() -> None:
    """It can be connected to after a measurement only, and what nobody fetched is kept for the next time."""
    cuff = BloodPressureCuff(Patient("rest"))
    awake = []
    for second in range(1, 100):
        assert cuff.tick(second * 1000) == []
        awake.append(cuff.reachable)

    assert "".join("#" if each else "." for each in awake) == "." * 4 + "#" * 30 + "." * 30 + "#" * 30 + "." * 5
    live(cuff, 100, 125)
    assert len(cuff.subscribed(BLOOD_PRESSURE_MEASUREMENT)) == 3


def test_a_cuff_drops_the_link_when_it_has_told_everything() -> None:
    """It sleeps two seconds later; a client that comes back hears nothing twice."""
    cuff = BloodPressureCuff(Patient("rest"))
    live(cuff, 1, 6)

    ((uuid, value),) = cuff.subscribed(BLOOD_PRESSURE_MEASUREMENT)

    assert (uuid, value[0], value[7:14]) == (BLOOD_PRESSURE_MEASUREMENT, 0x16, UNKNOWN)
    assert [cuff.tick(now_ms) or cuff.reachable for now_ms in (7000, 8000)] == [True, False]
    cuff.left()
    assert cuff.subscribed(BLOOD_PRESSURE_MEASUREMENT) == []


def test_a_measurement_while_the_client_listens_is_told_at_once() -> None:
    """A cuff that is held awake by nobody else tells the next one to the client that has stayed."""
    cuff = BloodPressureCuff(Patient("rest"))
    cuff.subscribed(BLOOD_PRESSURE_MEASUREMENT)
    set_clock(cuff)

    ((_, value),) = live(cuff, 1, 6)

    assert value[7:14] == date_time(NOON + timedelta(seconds=5))


def test_an_inflating_cuff_can_be_connected_to_while_it_measures() -> None:
    """From ten seconds before the measurement to half a minute after it; what nobody hears of its way is not kept."""
    cuff = InflatingCuff(Patient("rest"))
    awake = []
    for second in range(1, 100):
        assert cuff.tick(second * 1000) == []
        awake.append(cuff.reachable)

    assert "".join("#" if each else "." for each in awake) == "." * 4 + "#" * 40 + "." * 20 + "#" * 35
    assert cuff.subscribed(INTERMEDIATE_CUFF_PRESSURE) == []
    assert len(cuff.subscribed(BLOOD_PRESSURE_MEASUREMENT)) == 2


def test_an_inflating_cuff_tells_its_pressure() -> None:
    """It rises second by second to over the systolic pressure; then comes the measurement, and the link is dropped."""
    cuff = InflatingCuff(Patient("rest"))
    live(cuff, 1, 8)
    cuff.subscribed(INTERMEDIATE_CUFF_PRESSURE)
    cuff.subscribed(BLOOD_PRESSURE_MEASUREMENT)

    sent = live(cuff, 9, 15)

    assert [uuid for uuid, _ in sent] == [INTERMEDIATE_CUFF_PRESSURE] * 6 + [BLOOD_PRESSURE_MEASUREMENT]
    pressures = [int.from_bytes(value[1:3], "little") for _, value in sent]
    assert pressures[:6] == sorted(set(pressures[:6]))
    assert pressures[5] > pressures[6]
    assert {(value[0], value[3:]) for _, value in sent[:-1]} == {(0, b"\xff\x07\xff\x07")}
    assert [cuff.tick(now_ms) or cuff.reachable for now_ms in (16_000, 17_000)] == [True, False]


def test_a_meter_reports_what_it_has_stored() -> None:
    """Measurements from a sequence number on, each with its context behind it where it has one, newest last."""
    meter = GlucoseMeter(Patient("rest"))
    assert live(meter, 1, 60) == []
    last = HISTORY_RECORDS + 1

    reported = meter.written(RECORD_ACCESS, bytes((1, 3, 1)) + (last - 3).to_bytes(2, "little"))

    numbers = [(uuid, int.from_bytes(value[1:3], "little")) for uuid, value in reported[:-1]]
    assert [number for uuid, number in numbers if uuid == GLUCOSE_MEASUREMENT] == list(range(last - 3, last + 1))
    assert [number for uuid, number in numbers if uuid == GLUCOSE_CONTEXT] == [last - 3, last - 1, last]
    for (_, number), (uuid, following) in pairwise(numbers):
        assert uuid == GLUCOSE_MEASUREMENT or number == following
    assert reported[-1] == DONE


def test_a_meters_stamps_are_its_own() -> None:
    """History has the times of a clock that was never set again; what is measured after it was set has the new time."""
    meter = GlucoseMeter(Patient("rest"))
    set_clock(meter)
    live(meter, 1, 60)

    values = [
        value
        for uuid, value in meter.written(RECORD_ACCESS, bytes((1, 6))) + meter.written(RECORD_ACCESS, bytes((1, 5)))
        if uuid == GLUCOSE_MEASUREMENT
    ]

    assert [value[3:10] for value in values] == [
        date_time(NOON + timedelta(minutes=1)),
        date_time(datetime(2026, 2, 23, 8, tzinfo=UTC)),
    ]


def test_a_glucose_sensor_notifies_once_a_minute() -> None:
    """Each record has its time offset and a sound CRC, all but the first a trend, and all can be asked for again."""
    sensor = CgmSensor(Patient("rest"))

    records = values_of(live(sensor, 0, 300), CGM_MEASUREMENT)

    assert [int.from_bytes(record[4:6], "little") for record in records] == list(range(6))
    assert [record[1] for record in records] == [0] + [1] * 5
    assert all(is_sound(record) and record[0] == len(record) for record in records)
    assert sensor.written(RECORD_ACCESS, bytes.fromhex("0103010400")) == [
        *((CGM_MEASUREMENT, record) for record in records[4:]),
        DONE,
    ]


@pytest.mark.parametrize(
    ("asked", "answer"),
    [
        ("02", "0301"),
        ("0105", "1c0101"),
        ("01", "1c0103"),
        ("1b", "1c1b01"),
        ("1a", "1c1a04"),
        ("04", "1c0402"),
    ],
)
def test_a_glucose_sensors_control_point_answers(asked: str, answer: str) -> None:
    """Interval, stop, a start while a session runs, what it does not know; always with a CRC."""
    sensor = CgmSensor(Patient("rest"))

    ((uuid, value),) = sensor.written(CGM_CONTROL, with_crc(bytes.fromhex(asked)))

    assert (uuid, value) == (CGM_CONTROL, with_crc(bytes.fromhex(answer)))


@pytest.mark.parametrize(
    ("uuid", "value", "code"),
    [
        (CGM_CONTROL, "1b", 0x80),
        (CGM_CONTROL, "", 0x80),
        (CGM_CONTROL, "1b0000", 0x81),
        (CGM_SESSION_START, "ea0705110c000080ff", 0x80),
        (CGM_SESSION_START, "ea0705110c000080ff0000", 0x81),
        (CGM_SESSION_START, with_crc(bytes(9)).hex(), 0xFF),
        (CGM_SESSION_START, with_crc(bytes.fromhex("ea0705110c0000")).hex(), 0xFF),
    ],
)
def test_a_glucose_sensor_refuses_what_is_not_sound(uuid: str, value: str, code: int) -> None:
    """A CRC that is missing or wrong, a start that is no time: an error of ATT says it, and the session goes on."""
    sensor = CgmSensor(Patient("rest"))
    before = sensor.values

    with pytest.raises(AttError) as refusal:
        sensor.written(uuid, bytes.fromhex(value))

    assert refusal.value.code == code
    assert sensor.values == before


def test_a_glucose_sensor_counts_back_to_its_start() -> None:
    """From the time that a client writes the session's minutes are taken off, with the zone that it wrote."""
    sensor = CgmSensor(Patient("rest"))
    live(sensor, 1, 150)
    assert sensor.values[CGM_STATUS] == with_crc(bytes.fromhex("0200000000"))

    assert sensor.written(CGM_SESSION_START, with_crc(date_time(NOON) + b"\x04\x04")) == []

    start = with_crc(date_time(NOON - timedelta(seconds=150)) + b"\x04\x04")
    assert sensor.values[CGM_SESSION_START] == start
    assert sensor.values[CURRENT_TIME] == current_time(NOON)
    live(sensor, 151, 180)
    assert sensor.values[CGM_SESSION_START] == start
    assert sensor.values[CURRENT_TIME] == current_time(NOON + timedelta(seconds=30))
    assert sensor.values[CGM_STATUS] == with_crc(bytes.fromhex("0300000000"))


def test_a_stopped_session_says_so() -> None:
    """The status keeps the minute of the stop and says that there was one, until the next session begins."""
    sensor = CgmSensor(Patient("rest"))
    live(sensor, 1, 120)
    sensor.written(CGM_CONTROL, with_crc(b"\x1b"))
    live(sensor, 121, 300)

    assert sensor.values[CGM_STATUS] == with_crc(bytes.fromhex("0200010000"))
    sensor.written(CGM_CONTROL, with_crc(b"\x1b"))
    assert sensor.values[CGM_STATUS] == with_crc(bytes.fromhex("0200010000"))
    sensor.written(CGM_CONTROL, with_crc(b"\x1a"))
    assert sensor.values[CGM_STATUS] == with_crc(bytes(5))
    assert sensor.values[CGM_SESSION_START] == with_crc(bytes.fromhex("ea0703010805 0080ff"))


def test_an_interval_of_minutes_or_none_at_all() -> None:
    """Every fifth record is notified, or none, or each; all are stored."""
    sensor = CgmSensor(Patient("rest"))
    heard = []
    for number, first_s in (("05", 0), ("00", 601), ("ff", 1201)):
        sensor.written(CGM_CONTROL, with_crc(bytes.fromhex("01" + number)))
        heard.append(len(live(sensor, first_s, first_s + 599)))

    assert heard == [2, 0, 10]
    assert sensor.written(RECORD_ACCESS, bytes.fromhex("0401"))[0][1][2] > 25


def test_a_new_session_begins_at_0() -> None:
    """Between the two nothing is measured, and the records of the first are gone."""
    sensor = CgmSensor(Patient("rest"))
    live(sensor, 0, 180)
    sensor.written(CGM_CONTROL, with_crc(b"\x1b"))
    assert live(sensor, 181, 600) == []

    assert sensor.written(CGM_CONTROL, with_crc(b"\x1a")) == [(CGM_CONTROL, with_crc(b"\x1c\x1a\x01"))]

    records = values_of(live(sensor, 601, 661), CGM_MEASUREMENT)
    assert [int.from_bytes(record[4:6], "little") for record in records] == [0, 1]
    assert len(sensor.written(RECORD_ACCESS, REPORT_ALL)) == 3


def test_a_glucose_sensor_says_what_it_is_and_since_when() -> None:
    """Features with CRC, interstitial fluid of subcutaneous tissue, and the session's start, zone unknown."""
    (service, *_) = cgm_sensor("C0:FF:EE:00:00:01").services
    values = {each.uuid: each.value for each in service.characteristics}

    assert values[CGM_FEATURE] == with_crc(bytes.fromhex("00d00059"))
    assert values[CGM_SESSION_START] == with_crc(bytes.fromhex("ea0703010800 00 80ff"))
    assert encode_session_start(None) == with_crc(bytes(7) + b"\x80\xff")
    assert encode_cgm_feature(0, 9, 5).hex() == "00000059ffff"


def test_a_scale_tells_its_history_first() -> None:
    """Three mornings with their own stamps, then who stands on it, whose composition is a stub of zeros."""
    scale = WeightScale(Patient("rest"))
    set_clock(scale)
    live(scale, 1, 6)

    weights = [value for _, value in scale.subscribed(WEIGHT_MEASUREMENT)]
    compositions = [value for _, value in scale.subscribed(BODY_COMPOSITION_MEASUREMENT)]

    history = [date_time(datetime(2026, 2, day, 8, tzinfo=UTC)) for day in (26, 27, 28)]
    assert [value[3:10] for value in weights] == [*history, date_time(NOON + timedelta(seconds=5))]
    assert [value[4:11] for value in compositions] == [value[3:10] for value in weights]
    assert [value[2:4] != b"\0\0" for value in compositions] == [True, True, True, False]
    assert compositions[-1][-2:] == b"\0\0"


def test_a_scale_stays_awake_until_both_services_were_heard() -> None:
    """Two seconds after the second, not after the first; the next time there is a composition."""
    scale = WeightScale(Patient("rest"))
    live(scale, 1, 6)
    scale.subscribed(WEIGHT_MEASUREMENT)
    live(scale, 7, 20)
    assert scale.reachable
    scale.subscribed(BODY_COMPOSITION_MEASUREMENT)
    live(scale, 21, 22)
    assert not scale.reachable
    scale.left()

    live(scale, 23, 66)

    ((_, value),) = scale.subscribed(BODY_COMPOSITION_MEASUREMENT)
    assert value[2:4] != b"\0\0"
    assert value[-2:] != b"\0\0"


def test_a_logger_advertises_another_packet_every_five_seconds() -> None:
    """It sends nothing, and its number counts on; the temperature is a refrigerator's."""
    logger = BthomeLogger(Patient("rest"))
    heard = [bthome_logger("C0:FF:EE:00:00:01").service_data[BTHOME], logger.service_data[BTHOME]]
    for second in range(1, 601):
        assert logger.tick(second * 1000) == []
        heard.append(logger.service_data[BTHOME])

    packets = list(dict.fromkeys(heard))
    assert [packet[2] for packet in packets] == list(range(121))
    assert all(2 <= int.from_bytes(packet[6:8], "little", signed=True) / 100 <= 8 for packet in packets)


def test_where_a_strap_is_worn() -> None:
    """The byte that Heart Rate Service 1.0 gives the place."""
    assert [encode_location(place)[0] for place in Location] == list(range(7))
