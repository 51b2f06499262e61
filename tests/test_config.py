import tomllib
from collections.abc import Callable
from decimal import Decimal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.config import GatewayConfig, PeerConfig, TlsFiles, load_gateway, load_peer
from gateway.errors import ConfigError
from gateway.profile import Line, Profile, Vital, load_profile
from gateway.toml import is_name

GATEWAY = """
id = "ward-3"
chain = "ward-3.1f0a9c21"
broker = "mqtts://broker.example:8883"
roster = "roster.cose"
[block]
leaves = 128
age_s = 2.5
[radio]
adapter = "hci1"
slots = 7
[tls]
ca = "ca.crt"
certificate = "ward-3.crt"
key = "ward-3.key"
"""
PEER = """
id = "peer-0"
broker = "mqtt://127.0.0.1:1883"
roster = "/etc/iomt/roster.cose"
"""
STRAP = """
name = "strap"
title = "A strap"
transport = "ble"
decoder = "gatt.heart_rate"
quiet_s = 10
[recognise]
services = ["180D"]
names = ["Polar H10 *"]
[ble]
characteristic = "2a37"
[[vital]]
code = 147842
unit = "/min"
loinc = "8867-4"
low = 0
high = 300
[[vital]]
code = 147240
unit = "ms"
low = 200.5
high = 3000
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
baudrate = 9600
[[vital]]
code = 150456
unit = "%"
low = 0
high = 100
"""
DECODERS = frozenset({"gatt.heart_rate", "serial.nonin_df2"})


def read_profile(text: str, source: str) -> Profile:
    return load_profile(text, source, DECODERS)


LOADERS: dict[str, tuple[Callable[[str, str], object], str]] = {
    "gateway": (load_gateway, GATEWAY),
    "peer": (load_peer, PEER),
    "strap": (read_profile, STRAP),
    "oximeter": (read_profile, OXIMETER),
}


# -- what is written is read


def test_a_gateway_is_read_whole() -> None:
    """Every key of gateway.toml, in the units of the program."""
    config = load_gateway(GATEWAY, "gateway.toml")
    assert (config.id, config.chain) == ("ward-3", "ward-3.1f0a9c21")
    assert (config.broker, config.roster) == ("mqtts://broker.example:8883", "roster.cose")
    assert (config.seal.leaves, config.seal.age_ms) == (128, 2500)
    assert (config.adapter, config.slots) == ("hci1", 7)
    assert config.tls == TlsFiles(ca="ca.crt", certificate="ward-3.crt", key="ward-3.key")


def test_a_gateway_needs_four_keys() -> None:
    """The rest has the defaults that the docstring shows."""
    config = load_gateway(GATEWAY[: GATEWAY.index("[block]")], "gateway.toml")
    assert config == GatewayConfig(id=config.id, chain=config.chain, broker=config.broker, roster=config.roster)
    assert (config.seal.leaves, config.seal.age_ms, config.adapter, config.slots) == (256, 10_000, None, 5)


def test_a_peer_is_read_whole() -> None:
    """Every key of peer.toml, with and without TLS."""
    assert load_peer(PEER, "peer.toml") == PeerConfig(
        id="peer-0", broker="mqtt://127.0.0.1:1883", roster="/etc/iomt/roster.cose"
    )
    tls = '[tls]\nca = "a"\ncertificate = "b"\nkey = "c"\n'
    assert load_peer(PEER + tls, "peer.toml").tls == TlsFiles(ca="a", certificate="b", key="c")


def test_profiles_are_read_whole() -> None:
    """A Bluetooth and a serial profile, each with what the other has not."""
    strap, oximeter = read_profile(STRAP, "strap.toml"), read_profile(OXIMETER, "oximeter.toml")
    assert (strap.channels[0].uuid, strap.line, strap.quiet_s) == ("2a37", None, 10.0)
    assert strap.vitals[0] == Vital(code=147842, unit="/min", loinc="8867-4", low=Decimal(0), high=Decimal(300))
    assert strap.ranges[147240, "ms"] == (Decimal("200.5"), Decimal(3000))
    assert (oximeter.channels[0].uuid, oximeter.usb) == ("", ("1234:abcd",))
    assert oximeter.line == Line(baudrate=9600, bytesize=8, parity="N", stopbits=1)


@pytest.mark.parametrize(
    ("name", "services", "known"),
    [
        (None, ("0000180d-0000-1000-8000-00805F9B34FB",), True),
        (None, ("180d",), True),
        ("Polar H10 1234", (), True),
        ("polar h10 1234", (), False),
        ("Polar H10", ("1822",), False),
        (None, (), False),
    ],
)
def test_an_advertisement_is_recognised_by_service_or_name(
    name: str | None, services: tuple[str, ...], *, known: bool
) -> None:
    """Short and long UUIDs in either case, or a name that matches a pattern; a serial profile never."""
    assert read_profile(STRAP, "strap").recognises_ble(name, services) is known
    assert not read_profile(OXIMETER, "oximeter").recognises_ble(name, services)


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
    """The name under /dev/serial/by-id or vendor and product; a Bluetooth profile never."""
    assert read_profile(OXIMETER, "oximeter").recognises_port(name, usb) is known
    assert not read_profile(STRAP, "strap").recognises_port("Polar H10 1", usb)


@pytest.mark.parametrize("text", ["a", "A-Z_0.9", "x" * 64, "-", "_"])
def test_what_is_a_name(text: str) -> None:
    """1 to 64 letters, digits, hyphens, underscores and dots."""
    assert is_name(text)


@pytest.mark.parametrize(
    "text", ["", "x" * 65, ".", "..", ".a", "a/b", "a b", "a\n", "+", "#", "é", "a\x00", "\x1b[31m"]
)
def test_fault_52_what_is_no_name(text: str) -> None:
    """Nothing that could leave a folder, a topic or a line."""
    assert not is_name(text)


# -- what is wrong is named


WRONG: list[tuple[str, str, str, str]] = [
    # which, what is replaced, by what, what the message says
    ("gateway", 'id = "ward-3"', "", r"f: id is missing; allowed: a text"),
    ("gateway", 'id = "ward-3"', "id = 3", r"f: id is 3; allowed: a text"),
    ("gateway", 'id = "ward-3"', "id = true", r"f: id is True; allowed: a text"),
    ("gateway", 'id = "ward-3"', 'id = "ward/3"', r"f: id is 'ward/3'; allowed: 1 to 64 of A-Z a-z 0-9 - _ \."),
    ("gateway", 'id = "ward-3"', 'id = "a"\nname = "b"', r"f: name is unknown; allowed: block, broker, chain, id, "),
    ("gateway", "leaves = 128", "leaf = 128", r"f: block\.leaf is unknown; allowed: age_s, leaves"),
    ("gateway", "leaves = 128", "leaves = 0", r"f: block\.leaves is 0; allowed: 1 to 4096"),
    ("gateway", "leaves = 128", "leaves = 4097", r"f: block\.leaves is 4097; allowed: 1 to 4096"),
    ("gateway", "leaves = 128", "leaves = 1.0", r"f: block\.leaves is 1\.0; allowed: a whole number"),
    ("gateway", "leaves = 128", "leaves = true", r"f: block\.leaves is True; allowed: a whole number"),
    ("gateway", "age_s = 2.5", "age_s = 0.01", r"f: block\.age_s is 0\.01; allowed: 0\.05 to 3600"),
    ("gateway", "age_s = 2.5", "age_s = nan", r"f: block\.age_s is nan; allowed: 0\.05 to 3600"),
    ("gateway", "age_s = 2.5", "age_s = inf", r"f: block\.age_s is inf; allowed: 0\.05 to 3600"),
    ("gateway", "age_s = 2.5", 'age_s = "2"', r"f: block\.age_s is '2'; allowed: a number"),
    ("gateway", "age_s = 2.5", "age_s = false", r"f: block\.age_s is False; allowed: a number"),
    ("gateway", "[radio]", "[[radio]]", r"f: radio is \[.*\]; allowed: a table"),
    ("gateway", "slots = 7", "slots = 65", r"f: radio\.slots is 65; allowed: 1 to 64"),
    ("gateway", 'key = "ward-3.key"', "", r"f: tls\.key is missing; allowed: a text"),
    ("gateway", 'key = "ward-3.key"', 'key = "k"\nkeys = 1', r"f: tls\.keys is unknown; allowed: ca, certificate, key"),
    ("gateway", "[tls]", "[tls", r"f: not TOML: .* \(at line 12, column 5\)"),
    ("gateway", 'id = "ward-3"', 'id = "a"\nid = "b"', r"f: not TOML: .*line 3"),
    ("gateway", 'id = "ward-3"', '"\\u001b[31m" = 1\nid = "a"', r"f: '\\x1b\[31m' is unknown"),
    ("peer", 'id = "peer-0"', 'id = "peer-0"\nchain = "c"', r"f: chain is unknown; allowed: broker, id, roster, tls"),
    ("peer", 'broker = "mqtt://127.0.0.1:1883"', "", r"f: broker is missing; allowed: a text"),
    (
        "strap",
        'transport = "ble"',
        'transport = "wifi"',
        r"f: transport is 'wifi'; allowed: one of ble, advertisement, serial",
    ),
    (
        "strap",
        'decoder = "gatt.heart_rate"',
        'decoder = "x"',
        r"f: decoder is 'x'; allowed: one of gatt\.heart_rate, s",
    ),
    ("strap", "quiet_s = 10", "", r"f: quiet_s is missing; allowed: a number"),
    (
        "strap",
        'services = ["180D"]',
        "services = [180]",
        r"f: recognise\.services is \[180\]; allowed: a list of texts",
    ),
    ("strap", 'services = ["180D"]', 'services = "180D"', r"f: recognise\.services is '180D'; allowed: a list"),
    ("strap", 'characteristic = "2a37"', "", r"f: ble\.characteristic is missing; allowed: a text"),
    ("strap", "[ble]", "[line]\nbaudrate = 9600\n[ble]", r"f: line is unknown; allowed: ble, decoder, name, "),
    ("strap", "high = 300\n", "", r"f: vital\[0\]\.high is missing; allowed: a number"),
    ("strap", "high = 3000", "high = 200", r"f: vital\[1\]\.high is 200; allowed: 200\.5 to 1e\+09"),
    ("strap", "code = 147842", "code = -1", r"f: vital\[0\]\.code is -1; allowed: 1 to 4294967295"),
    ("oximeter", "[line]\nbaudrate = 9600", "", r"f: line\.baudrate is missing; allowed: a whole number"),
    (
        "oximeter",
        "baudrate = 9600",
        'baudrate = 9600\nparity = "X"',
        r"f: line\.parity is 'X'; allowed: one of N, E, O",
    ),
    ("oximeter", "[[vital]]", "[vital]", r"f: vital is \{.*\}; allowed: a list"),
    ("oximeter", OXIMETER[OXIMETER.index("[[vital]]") :], "", r"f: vital is missing; allowed: a list"),
    ("oximeter", 'name = "oximeter"', 'name = "o"\nvital = []', r"f: not TOML"),
]


@pytest.mark.parametrize(("which", "old", "new", "message"), WRONG)
def test_what_is_wrong_is_named_with_what_is_allowed(which: str, old: str, new: str, message: str) -> None:
    """The source, the key with its table, what stands there and what may: in one line."""
    load, text = LOADERS[which]
    assert old in text
    with pytest.raises(ConfigError, match=f"^{message}") as caught:
        load(text.replace(old, new, 1), "f")
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("vitals", ["vital = []", "vital = [1]"])
def test_a_profile_has_vitals(vitals: str) -> None:
    """An empty list of vitals, or one of something else, is no profile."""
    text = vitals + STRAP[: STRAP.index("[[vital]]")]
    with pytest.raises(ConfigError, match=r"vital is \[1?\]; allowed: one or more \[\[vital\]\]"):
        read_profile(text, "f")


def test_a_long_value_is_shown_short() -> None:
    """A message stays readable whatever was pasted into the file."""
    with pytest.raises(ConfigError) as caught:
        load_peer(PEER.replace("peer-0", "x" * 10_000), "f")
    assert len(str(caught.value)) < 200


def test_a_number_too_long_to_show_is_named_as_such() -> None:
    """Python refuses to write out so many digits: the message does without."""
    text = GATEWAY.replace("leaves = 128", "leaves = 0x" + "f" * 5000)
    with pytest.raises(ConfigError, match=r"f: block\.leaves is a number of thousands of digits; allowed: 1 to 4096"):
        load_gateway(text, "f")


# -- whatever is written


VALUES = st.recursive(
    st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=8) | st.dates() | st.just("ble"),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=4,
)


def refusal_of(load: Callable[[str, str], object], text: str) -> str | None:
    try:
        load(text, "f")
    except ConfigError as error:
        return str(error)
    return None


def toml_of(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return '"' + "".join(f"\\U{ord(character):08x}" for character in value) + '"'
    return "[" + ", ".join(map(toml_of, value)) + "]" if isinstance(value, list) else str(value)


@pytest.mark.parametrize("which", LOADERS)
@given(data=st.data())
def test_fault_53_any_value_for_any_key_is_taken_or_named(which: str, data: st.DataObject) -> None:
    """Whatever value stands behind a key, the file loads or the error names that very key."""
    load, text = LOADERS[which]
    lines = text.splitlines()
    number = data.draw(st.sampled_from([number for number, line in enumerate(lines) if " = " in line]))
    key = lines[number].split(" = ")[0]
    lines[number] = f"{key} = {toml_of(data.draw(VALUES))}"
    changed = "\n".join(lines)
    tomllib.loads(changed)
    refusal = refusal_of(load, changed)
    assert refusal is None or "allowed: " in refusal
    assert refusal is None or key in refusal or key in {"transport", "low"}  # these two decide what others may say


@pytest.mark.parametrize("which", LOADERS)
@given(garbage=st.text(max_size=60), place=st.integers(0, 300), kept=st.integers(0, 300))
@example(garbage="a = " + "[" * 5000, place=0, kept=0)
@example(garbage="a = " + "9" * 5000, place=0, kept=0)
@example(garbage="id = 0x" + "f" * 5000 + "\n", place=0, kept=0)
@example(garbage="a = 2026-13-45", place=0, kept=0)
@example(garbage="\x00", place=0, kept=0)
def test_fault_53_garbage_is_a_config_error_and_nothing_else(which: str, garbage: str, place: int, kept: int) -> None:
    """Whatever text is written anywhere into a file, loading it gives a value or a ConfigError that names the file."""
    load, text = LOADERS[which]
    refusal = refusal_of(load, text[:place] + garbage + text[place + kept :])
    assert refusal is None or (refusal.startswith("f: ") and refusal.isprintable())
