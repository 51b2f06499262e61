import tomllib
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.config import GatewayConfig, PeerConfig, TlsFiles, load_gateway, load_peer
from gateway.errors import ConfigError
from tests.tomls import VALUES, refusal_of, with_value

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

LOADERS: dict[str, tuple[Callable[[str, str], object], str]] = {
    "gateway": (load_gateway, GATEWAY),
    "peer": (load_peer, PEER),
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
    shared = load_peer(f'store = "postgresql://peer@db/chains"\nworker = 2\n{PEER}', "peer.toml")
    assert (shared.store, shared.worker) == ("postgresql://peer@db/chains", 2)


def test_a_store_that_is_refused_is_not_shown() -> None:
    """A URL of something else is refused without a word of it: a password may stand in it."""
    with pytest.raises(ConfigError, match="f: store is no URL of a database; allowed: postgresql://") as caught:
        load_peer(f'store = "mysql://peer:secret@db/chains"\n{PEER}', "f")
    assert "secret" not in str(caught.value)


# -- what is wrong is named


WRONG: list[tuple[str, str, str, str]] = [
    # which, what is replaced, by what, what the message says
    ("gateway", 'id = "ward-3"', "", r"f: id is missing; allowed: a text"),
    ("gateway", 'id = "ward-3"', "id = 3", r"f: id is 3; allowed: a text"),
    ("gateway", 'id = "ward-3"', "id = true", r"f: id is True; allowed: a text"),
    ("gateway", 'id = "ward-3"', 'id = "ward/3"', r"f: id is 'ward/3'; allowed: 1 to 64 of A-Z a-z 0-9 - _ \."),
    (
        "gateway",
        'id = "ward-3"',
        'id = "a"\nname = "b"',
        r"f: name is unknown; allowed: block, broker, chain, generation, id, ",
    ),
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
    (
        "peer",
        'id = "peer-0"',
        'id = "peer-0"\nchain = "c"',
        r"f: chain is unknown; allowed: broker, generation, id, roster, store, tls, worker",
    ),
    ("peer", 'id = "peer-0"', 'id = "peer-0"\nworker = 2', "f: worker is 2; allowed: 1 where there is no store"),
    ("peer", 'id = "peer-0"', 'id = "peer-0"\nworker = 0', "f: worker is 0; allowed: 1 to 64"),
    ("peer", 'id = "peer-0"', 'id = "peer-0"\nstore = 5', "f: store is 5; allowed: a text"),
    ("peer", 'broker = "mqtt://127.0.0.1:1883"', "", r"f: broker is missing; allowed: a text"),
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


# -- whatever is written


@pytest.mark.parametrize("which", LOADERS)
@given(number=st.integers(0, 30), value=VALUES)
def test_fault_53_any_value_for_any_key_is_taken_or_named(which: str, number: int, value: object) -> None:
    """Whatever value stands behind a key, the file loads or the error names that very key."""
    load, text = LOADERS[which]
    key, changed = with_value(text, number, value)
    tomllib.loads(changed)
    refusal = refusal_of(load, changed)
    assert refusal is None or ("allowed: " in refusal and key in refusal)


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
