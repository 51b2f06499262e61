"""TOML for tests: any value as TOML, and what a loader says of a text."""

from collections.abc import Callable

from hypothesis import strategies as st

from gateway.errors import ConfigError

VALUES = st.recursive(
    st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=8) | st.dates() | st.just("ble"),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=4,
)


def refusal_of(load: Callable[[str, str], object], text: str) -> str | None:
    """Give the ConfigError's text with which a loader refuses a text as file "f"; None if it takes it."""
    try:
        load(text, "f")
    except ConfigError as error:
        return str(error)
    return None


def toml_of(value: object) -> str:
    """Give a value of VALUES as TOML writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return '"' + "".join(f"\\U{ord(character):08x}" for character in value) + '"'
    return "[" + ", ".join(map(toml_of, value)) + "]" if isinstance(value, list) else str(value)


def with_value(text: str, number: int, value: object) -> tuple[str, str]:
    """Give the key of the n-th line that has one, and the text with another value behind it."""
    lines = text.splitlines()
    places = [place for place, line in enumerate(lines) if " = " in line]
    place = places[number % len(places)]
    key = lines[place].split(" = ")[0]
    lines[place] = f"{key} = {toml_of(value)}"
    return key, "\n".join(lines)


def bonding_strap(bonding: str) -> str:
    """Give the profile of a strap, named "strap", that bonds in this way."""
    return f"""name = "strap"
title = "A strap that bonds"
transport = "ble"
decoder = "gatt.heart_rate"
quiet_s = 3
[ble]
characteristic = "2a37"
bonding = "{bonding}"
[[vital]]
code = 147842
unit = "/min"
low = 0
high = 300
"""
