import re
import tomllib
from decimal import Decimal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.errors import ConfigError
from gateway.profile import Bonding, Channel, Line, Profile, Records, Transport, Vital, load_profile
from tests.tomls import VALUES, refusal_of, with_value

METER = """
name = "meter"
title = "A meter with everything that a profile for Bluetooth can say"
transport = "ble"
decoder = "gatt.glucose"
quiet_s = 30
[sampling]
kind = "intermittent"
period_s = 2.5
[recognise]
services = ["1808", "0000FCD2-0000-1000-8000-00805F9B34FB"]
names = ["Meter *"]
manufacturers = [0, 65535]
[ble]
characteristic = "2A18"
bonding = "wanted"
clock = true
records = "since"
context = ["2a51", "00002A38-0000-1000-8000-00805F9B34FB"]
[[ble.also]]
characteristic = "00002a34-0000-1000-8000-00805f9b34fb"
decoder = "gatt.glucose_context"
[[ble.also]]
characteristic = "8CA10002-f81e-4eb5-ba55-3256ab0bf1b5"
decoder = "serial.nonin_df2"
[[vital]]
code = 160184
unit = "kg/L"
loinc = "41653-7"
low = 0.0001
high = 0.01
[[vital]]
code = 160184
unit = "mol/L"
low = 0
high = 300
"""
OXIMETER = """
name = "oximeter"
title = "An oximeter"
transport = "serial"
decoder = "serial.nonin_df2"
quiet_s = 3.0
[recognise]
names = ["usb-Nonin_*"]
usb = ["1234:abcd"]
[line]
baudrate = 19200
bytesize = 7
parity = "O"
stopbits = 2
start = "7d81A1"
keep_alive = "7d 81 af"
keep_alive_s = 5
[[vital]]
code = 150456
unit = "%"
low = 0
high = 100
"""
ROOM = """
name = "room"
title = "A thermometer that is listened to"
transport = "advertisement"
decoder = "adv.bthome_v2"
quiet_s = 180
[sampling]
period_s = 60
[recognise]
services = ["fcd2"]
[advertisement]
service = "FCD2"
[[vital]]
code = 188508
unit = "Cel"
low = -90
high = 60
"""
DECODERS = frozenset({"gatt.glucose", "gatt.glucose_context", "serial.nonin_df2", "adv.bthome_v2"})
TEXTS = {"meter": METER, "oximeter": OXIMETER, "room": ROOM}


def read(text: str, source: str = "f") -> Profile:
    return load_profile(text, source, DECODERS)


# -- what is written is read


def test_a_device_by_bluetooth_is_read_whole() -> None:
    """Every key of it, with UUIDs in their shortest form."""
    meter = read(METER)
    assert (meter.name, meter.title[:7], meter.transport, meter.decoder) == (
        "meter", "A meter", Transport.BLE, "gatt.glucose",
    )  # fmt: skip
    assert (meter.quiet_s, meter.intermittent, meter.period_s) == (30.0, True, 2.5)
    assert (meter.services, meter.names) == (("1808", "fcd2"), ("Meter *",))
    assert (meter.manufacturers, meter.usb) == ((0, 65535), ())
    assert meter.channels == (
        Channel(uuid="2a18", decoder="gatt.glucose"),
        Channel(uuid="2a34", decoder="gatt.glucose_context"),
        Channel(uuid="8ca10002-f81e-4eb5-ba55-3256ab0bf1b5", decoder="serial.nonin_df2"),
    )
    assert (meter.bonding, meter.clock, meter.records) == (Bonding.WANTED, True, Records.SINCE)
    assert (meter.context, meter.line, meter.signs) == (("2a51", "2a38"), None, False)
    assert meter.vitals[0] == Vital(
        code=160184, unit="kg/L", loinc="41653-7", low=Decimal("0.0001"), high=Decimal("0.01")
    )
    assert meter.ranges[160184, "mol/L"] == (Decimal(0), Decimal(300))


def test_a_device_on_a_line_is_read_whole() -> None:
    """How the line is set, and what is written to it."""
    oximeter = read(OXIMETER)
    assert oximeter.channels == (Channel(uuid="", decoder="serial.nonin_df2"),)
    assert (oximeter.usb, oximeter.intermittent, oximeter.period_s) == (("1234:abcd",), False, 1.0)
    assert oximeter.line == Line(
        baudrate=19200, bytesize=7, parity="O", stopbits=2,
        start=b"\x7d\x81\xa1", keep_alive=b"\x7d\x81\xaf", keep_alive_s=5.0,
    )  # fmt: skip


def test_a_device_that_is_listened_to_is_read_whole() -> None:
    """Its service data, and nothing of a connection."""
    room = read(ROOM)
    assert (room.transport, room.channels) == (
        Transport.ADVERTISEMENT, (Channel(uuid="fcd2", decoder="adv.bthome_v2"),),
    )  # fmt: skip
    assert (room.bonding, room.clock, room.records, room.context) == (Bonding.NONE, False, Records.NONE, ())


def test_a_profile_needs_little() -> None:
    """What may be left out of a device by Bluetooth and of a line has its default."""
    few = 'decoder = "gatt.glucose"\ntransport = "ble"\nname = "n"\ntitle = "t"\nquiet_s = 1\n[[vital]]\ncode = 1\n'
    few += 'unit = "1"\nlow = 0\nhigh = 1\n'
    meter = read(few + '[ble]\ncharacteristic = "2a18"\n')
    assert (meter.bonding, meter.clock, meter.records, meter.context) == (Bonding.NONE, False, Records.NONE, ())
    assert (meter.intermittent, meter.period_s, meter.vitals[0].loinc, len(meter.channels)) == (False, 1.0, None, 1)
    assert not meter.recognises_ble("n", ("1808",), (1,))
    line = read(few.replace("gatt.glucose", "serial.nonin_df2").replace("ble", "serial") + "[line]\nbaudrate = 9600\n")
    assert line.line == Line(baudrate=9600, bytesize=8, parity="N", stopbits=1)


@pytest.mark.parametrize("bonding", ["none", "wanted", "required", "authenticated"])
@pytest.mark.parametrize("records", ["none", "since", "all"])
def test_bonding_and_records_have_their_values(bonding: str, records: str) -> None:
    """Each of them is read as it is written."""
    text = METER.replace('"wanted"', f'"{bonding}"').replace('"since"', f'"{records}"')
    assert (read(text).bonding, read(text).records) == (bonding, records)


def test_a_sensor_that_signs_is_known_by_its_decoder() -> None:
    """Over Bluetooth as on a line."""
    signs = load_profile(METER.replace('"gatt.glucose"', '"serial.iomt_frame"'), "f", DECODERS | {"serial.iomt_frame"})
    assert signs.signs


# -- who is recognised


@pytest.mark.parametrize(
    ("name", "services", "manufacturers", "known"),
    [
        (None, ("00001808-0000-1000-8000-00805F9B34FB",), (), True),
        (None, ("180f", "fcd2"), (), True),
        (None, (), (65535,), True),
        (None, (), (7, 0), True),
        ("Meter 1234", (), (), True),
        ("meter 1234", (), (), False),
        ("Meter", ("1809",), (1,), False),
        (None, (), (), False),
    ],
)
def test_an_advertisement_is_recognised_by_any_one_match(
    name: str | None, services: tuple[str, ...], manufacturers: tuple[int, ...], *, known: bool
) -> None:
    """A service with or without data, a company number or a name's pattern; the profile of a line never."""
    assert read(METER).recognises_ble(name, services, manufacturers) is known
    assert not read(OXIMETER).recognises_ble("usb-Nonin_1", services, manufacturers)
    assert read(METER).knows_name(name) is (name == "Meter 1234")


def test_who_is_listened_to_is_recognised_by_its_service_data() -> None:
    """In the long form in which it is heard."""
    assert read(ROOM).recognises_ble(None, ("0000fcd2-0000-1000-8000-00805f9b34fb",))
    assert not read(ROOM).recognises_ble("room", ("0000fcd3-0000-1000-8000-00805f9b34fb",))


@pytest.mark.parametrize(
    ("name", "usb", "known"),
    [
        ("usb-Nonin_Medical-if00", None, True),
        ("ttyUSB0", "1234:abcd", True),
        ("ttyUSB0", "1234:abce", False),
        ("ttyUSB0", None, False),
    ],
)
def test_a_port_is_recognised_by_name_or_usb_number(name: str, usb: str | None, *, known: bool) -> None:
    """The name under /dev/serial/by-id or vendor and product; a profile of the radio never."""
    assert read(OXIMETER).recognises_port(name, usb) is known
    assert not read(METER).recognises_port("Meter 1", usb)


# -- what is wrong is named


WRONG: list[tuple[str, str, str, str]] = [
    # which, what is replaced, by what, what the message says
    ("meter", 'name = "meter"', 'name = "a/b"', "name is 'a/b'; allowed: 1 to 64 of A-Z a-z 0-9 - _ . and no dot fir"),
    ("meter", '"ble"', '"wifi"', "transport is 'wifi'; allowed: one of ble, advertisement, serial"),
    ("meter", '"gatt.glucose"', '"x"', "decoder is 'x'; allowed: one of gatt.glucose, gatt.glucose_context, serial.n"),
    ("meter", '"gatt.glucose"', '"adv.bthome_v2"', "decoder is 'adv.bthome_v2'; allowed: one of gatt.glucose, gatt.gl"),
    ("oximeter", '"serial.nonin_df2"', '"gatt.glucose"', "decoder is 'gatt.glucose'; allowed: one of serial.nonin_df2"),
    ("room", '"adv.bthome_v2"', '"gatt.glucose"', "decoder is 'gatt.glucose'; allowed: one of adv.bthome_v2"),
    ("meter", "quiet_s = 30", "", "quiet_s is missing; allowed: a number"),
    ("meter", "quiet_s = 30", "quiet_s = 0", "quiet_s is 0; allowed: 0.1 to 604800"),
    ("room", "quiet_s = 180", "quiet_s = 59.9", "quiet_s is 59.9; allowed: 60 to 604800"),
    ("meter", '"intermittent"', '"rarely"', "sampling.kind is 'rarely'; allowed: one of continuous, intermittent"),
    ("meter", "period_s = 2.5", "period_s = 0", "sampling.period_s is 0; allowed: 0.001 to 86400"),
    ("meter", '["1808", ', "[1808, ", "recognise.services is [1808, '0000FCD2"),
    ("meter", '["1808", ', '["180", ', "recognise.services is ['180', '0000FCD2"),
    ("room", '["fcd2"]', '"fcd2"', "recognise.services is 'fcd2'; allowed: a list"),
    ("meter", "[0, 65535]", "[65536]", "recognise.manufacturers is [65536]; allowed: a list of whole numbers, 0 to 6"),
    ("oximeter", '"1234:abcd"', '"1234:ABCD"', "recognise.usb is ['1234:ABCD']; allowed: a list of texts, each vendor"),
    ("meter", 'characteristic = "2A18"', "", "ble.characteristic is missing; allowed: a text"),
    ("meter", '"2A18"', '"2A1G"', "ble.characteristic is '2A1G'; allowed: a Bluetooth UUID, as 180d or 0000180d-"),
    ("meter", '"2A18"', '"2A18\\n"', "ble.characteristic is '2A18\\n'; allowed: a Bluetooth UUID, as 180d or 0000180"),
    ("meter", '["2a51", ', '["", ', "ble.context is ['', '00002A38"),
    ("meter", '"wanted"', '"maybe"', "ble.bonding is 'maybe'; allowed: one of none, wanted, required, authenticated"),
    ("meter", '"since"', "false", "ble.records is False; allowed: a text"),
    ("meter", "clock = true", "clock = 1", "ble.clock is 1; allowed: true or false"),
    ("meter", 'decoder = "gatt.glucose_context"', "", "ble.also[0].decoder is missing; allowed: a text"),
    ("meter", '"00002a34', '"00002a18', "ble.also[0].characteristic is 2a18 again; allowed: each characteristic once"),
    ("meter", "[[ble.also]]", "[ble.also]", "not TOML"),
    ("room", 'service = "FCD2"', "", "advertisement.service is missing; allowed: a text"),
    ("room", '"FCD2"', '"Battery"', "advertisement.service is 'Battery'; allowed: a Bluetooth UUID, as 180d or 00001"),
    ("oximeter", "baudrate = 19200", "", "line.baudrate is missing; allowed: a whole number"),
    ("oximeter", 'parity = "O"', 'parity = "X"', "line.parity is 'X'; allowed: one of N, E, O"),
    ("oximeter", '"7d81A1"', '"7d81A"', "line.start is '7d81A'; allowed: bytes in hexadecimal, two digits each"),
    ("oximeter", '"7d 81 af"', '"stay"', "line.keep_alive is 'stay'; allowed: bytes in hexadecimal, two digits each"),
    ("oximeter", "keep_alive_s = 5", "", "line.keep_alive_s is missing; allowed: a number"),
    ("oximeter", "keep_alive_s = 5", "keep_alive_s = 0", "line.keep_alive_s is 0; allowed: 0.1 to 3600"),
    ("oximeter", 'keep_alive = "7d 81 af"', "", "line.keep_alive_s is unknown; allowed: baudrate, bytesize, keep_ali"),
    ("meter", "code = 160184", "code = -1", "vital[0].code is -1; allowed: 1 to 4294967295"),
    ("meter", '"mol/L"', '"kg/L"', "vital[1].code is 160184 in 'kg/L' again; allowed: each code and unit once"),
    ("meter", '"mol/L"', '"mmol per L"', "vital[1].unit is 'mmol per L'; allowed: a unit of UCUM"),
    ("meter", '"41653-7"', '"41653"', "vital[0].loinc is '41653'; allowed: a LOINC code, as 8867-4"),
    ("meter", "high = 300\n", "", "vital[1].high is missing; allowed: a number"),
    ("room", "high = 60", "high = -91", "vital[0].high is -91; allowed: -90 to 1e+09"),
    ("room", "[[vital]]", "[vital]", "vital is {"),
    ("room", ROOM[ROOM.index("[[vital]]") :], "", "vital is missing; allowed: a list"),
    ("room", 'name = "room"', 'name = "r"\nvital = []', "not TOML"),
    ("room", "[advertisement]", '[ble]\ncharacteristic = "2a18"\n[advertisement]', "ble is unknown; allowed: adverti"),
    ("meter", "[ble]", "[line]\nbaudrate = 9600\n[ble]", "line is unknown; allowed: ble, decoder, name, quiet_s, rec"),
    ("oximeter", "[line]", '[advertisement]\nservice = "fcd2"\n[line]', "advertisement is unknown; allowed: decoder"),
]  # fmt: skip


@pytest.mark.parametrize(("which", "old", "new", "message"), WRONG)
def test_what_is_wrong_is_named_with_what_is_allowed(which: str, old: str, new: str, message: str) -> None:
    """The file, the key with its table, what stands there and what may: in one line."""
    assert old in TEXTS[which]
    refusal = refusal_of(read, TEXTS[which].replace(old, new, 1))
    assert refusal is not None
    assert refusal.startswith(f"f: {message}")
    assert refusal.isprintable()


@pytest.mark.parametrize("vitals", ["vital = []", "vital = [1]"])
def test_a_profile_has_vitals(vitals: str) -> None:
    """An empty list of vitals, or one of something else, is no profile."""
    text = vitals + ROOM[: ROOM.index("[[vital]]")]
    with pytest.raises(ConfigError, match=r"^f: vital is \[1?\]; allowed: one or more \[\[vital\]\]$"):
        read(text)


UNKNOWN = [
    # which, after which line, where the message says that it is
    ("meter", "quiet_s = 30", ""),
    ("meter", "[sampling]", "sampling."),
    ("meter", "[recognise]", "recognise."),
    ("meter", "[ble]", "ble."),
    ("meter", "[[ble.also]]", "ble.also[0]."),
    ("meter", "[[vital]]", "vital[0]."),
    ("oximeter", "[line]", "line."),
    ("room", "[advertisement]", "advertisement."),
]


@pytest.mark.parametrize(("which", "after", "place"), UNKNOWN)
def test_an_unknown_key_is_refused_in_every_table(which: str, after: str, place: str) -> None:
    """The message names the file and the key, and lists those that there are."""
    text = TEXTS[which].replace(after, f"{after}\ncolour = 1", 1)
    with pytest.raises(ConfigError, match=rf"^own\.toml: {re.escape(place)}colour is unknown; allowed: [a-z_]+"):
        read(text, "own.toml")


# -- whatever is written


@pytest.mark.parametrize("which", TEXTS)
@given(number=st.integers(0, 40), value=VALUES)
def test_fault_53_any_value_for_any_key_is_taken_or_named(which: str, number: int, value: object) -> None:
    """Whatever value stands behind a key, the file loads or the error names that very key."""
    key, changed = with_value(TEXTS[which], number, value)
    tomllib.loads(changed)
    refusal = refusal_of(read, changed)
    decides = key in {"transport", "kind", "period_s", "keep_alive", "low", "unit"}  # what others may say
    assert refusal is None or ("allowed: " in refusal and (key in refusal or decides))


@pytest.mark.parametrize("which", TEXTS)
@given(garbage=st.text(max_size=60), place=st.integers(0, 900), kept=st.integers(0, 300))
@example(garbage="a = " + "[" * 5000, place=0, kept=0)
@example(garbage="quiet_s = 0x" + "f" * 5000 + "\n", place=0, kept=0)
@example(garbage="a = 2026-13-45", place=0, kept=0)
@example(garbage="\x00", place=0, kept=0)
def test_fault_53_garbage_is_a_config_error_and_nothing_else(which: str, garbage: str, place: int, kept: int) -> None:
    """Whatever text is written anywhere into a file, it is a profile or a ConfigError that names the file."""
    refusal = refusal_of(read, TEXTS[which][:place] + garbage + TEXTS[which][place + kept :])
    assert refusal is None or (refusal.startswith("f: ") and refusal.isprintable())
