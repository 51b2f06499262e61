"""A TOML table read strictly: keys are taken one by one, and what is left over is unknown.

Each key is known, typed and in range, or the error says the file, the key and what is allowed.
"""

import re
import tomllib
from collections.abc import Mapping
from typing import Any, TypeVar

from gateway.errors import ConfigError

Value = TypeVar("Value")

_MISSING: Any = object()
_ANY_TEXT = re.compile(r".*", re.DOTALL)
_KINDS: dict[type, str] = {str: "a text", int: "a whole number", list: "a list", dict: "a table"}
_NAME_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")


def is_name(text: str) -> bool:
    """Say whether a text may name a device, gateway, peer or chain: 1 to 64 of A-Z a-z 0-9 - _ . and no dot first.

    Names stand in topics, file names and signed bytes.
    """
    return 0 < len(text) <= 64 and _NAME_CHARACTERS.issuperset(text) and not text.startswith(".")


class Table:
    """A TOML table whose keys are taken one by one; what is left over is unknown."""

    def __init__(self, values: Mapping[str, Any], source: str, path: str = "") -> None:
        self.values = values
        self._source = source
        self._path = path
        self._known: set[str] = set()
        self._inner: list[Table] = []

    @classmethod
    def parse(cls, text: str, source: str) -> "Table":
        """Read TOML; raises ConfigError if it is none."""
        try:
            return cls(tomllib.loads(text), source)
        except (ValueError, RecursionError) as error:  # beside TOML's own: too many digits, too deep
            raise ConfigError(f"{source}: not TOML: {error}") from error

    def take(self, key: str, kind: type[Value], default: Any = _MISSING) -> Value:  # noqa: ANN401 - a default is any of ours
        """Take a value of a type; raises ConfigError if it is missing without a default, or of another type."""
        self._known.add(key)
        value = self.values.get(key, default)
        if value is _MISSING:
            raise self.error(key, "is missing", _KINDS[kind])
        if value is not default and (not isinstance(value, kind) or isinstance(value, bool)):
            raise self.error(key, f"is {_shown(value)}", _KINDS[kind])
        return value  # type: ignore[no-any-return]  # checked above, or the caller's default

    def text(self, key: str, form: re.Pattern[str], allowed: str, default: Any = _MISSING) -> str:  # noqa: ANN401 - see take
        """Take a text that is, all of it, of a form; `allowed` says the form in words."""
        value = self.take(key, str, default)
        if value is not default and form.fullmatch(value) is None:
            raise self.error(key, f"is {_shown(value)}", allowed)
        return value

    def name(self, key: str) -> str:
        """Take a name as `is_name` wants it."""
        value = self.take(key, str)
        if not is_name(value):
            raise self.error(key, f"is {_shown(value)}", "1 to 64 of A-Z a-z 0-9 - _ . and no dot first")
        return value

    def choice(self, key: str, allowed: tuple[str, ...], default: Any = _MISSING) -> str:  # noqa: ANN401 - see take
        """Take one of the texts that are allowed."""
        value = self.take(key, str, default)
        if value not in allowed:
            raise self.error(key, f"is {_shown(value)}", "one of " + ", ".join(allowed))
        return value

    def integer(self, key: str, low: int, high: int, default: Any = _MISSING) -> int:  # noqa: ANN401 - see take
        """Take a whole number from low to high."""
        value = self.take(key, int, default)
        if not low <= value <= high:
            raise self.error(key, f"is {_shown(value)}", f"{low} to {high}")
        return value

    def number(self, key: str, low: float, high: float, default: Any = _MISSING) -> float:  # noqa: ANN401 - see take
        """Take a number from low to high."""
        self._known.add(key)
        value = self.values.get(key, default)
        if value is _MISSING or isinstance(value, bool) or not isinstance(value, int | float):
            raise self.error(key, "is missing" if value is _MISSING else f"is {_shown(value)}", "a number")
        if not low <= value <= high:
            raise self.error(key, f"is {_shown(value)}", f"{low:g} to {high:g}")
        return float(value)

    def strings(self, key: str, form: re.Pattern[str] = _ANY_TEXT, allowed: str = "texts") -> tuple[str, ...]:
        """Take a list of texts, each of a form; none where it is missing."""
        value: list[object] = self.take(key, list, [])
        if not all(isinstance(item, str) and form.fullmatch(item) for item in value):
            raise self.error(key, f"is {_shown(value)}", f"a list of {allowed}")
        return tuple(str(item) for item in value)

    def integers(self, key: str, low: int, high: int) -> tuple[int, ...]:
        """Take a list of whole numbers from low to high; none where it is missing."""
        value: list[object] = self.take(key, list, [])
        if not all(isinstance(item, int) and not isinstance(item, bool) and low <= item <= high for item in value):
            raise self.error(key, f"is {_shown(value)}", f"a list of whole numbers, {low} to {high}")
        return tuple(int(str(item)) for item in value)

    def flag(self, key: str) -> bool:
        """Take true or false; false where it is missing."""
        self._known.add(key)
        value = self.values.get(key, False)
        if not isinstance(value, bool):
            raise self.error(key, f"is {_shown(value)}", "true or false")
        return value

    def octets(self, key: str) -> bytes:
        """Take bytes written in hexadecimal digits; none where it is missing."""
        value = self.take(key, str, "")
        try:
            return bytes.fromhex(value)
        except ValueError as error:
            raise self.error(key, f"is {_shown(value)}", "bytes in hexadecimal, two digits each") from error

    def table(self, key: str) -> "Table":
        """Take a table; an empty one where it is missing."""
        values: dict[str, Any] = self.take(key, dict, {})
        return self._within(values, key)

    def tables(self, key: str, *, least: int = 1) -> "list[Table]":
        """Take `least` tables or more."""
        entries: list[Any] = self.take(key, list, _MISSING if least else [])
        if len(entries) < least or not all(isinstance(entry, dict) for entry in entries):
            raise self.error(key, f"is {_shown(entries)}", f"one or more [[{self._path}{key}]]")
        return [self._within(entry, f"{key}[{number}]") for number, entry in enumerate(entries)]

    def refuse_unknown(self) -> None:
        """Refuse, once everything was taken, what nobody asked for."""
        unknown = sorted(self.values.keys() - self._known)
        if unknown:
            raise self.error(unknown[0], "is unknown", ", ".join(sorted(self._known)) or "no key here")
        for table in self._inner:
            table.refuse_unknown()

    def error(self, key: str, what: str, allowed: str) -> ConfigError:
        """Give the error that names the file, the key with its table, what is wrong with it and what is allowed."""
        name = self._path + (key if is_name(key) else _shown(key))
        return ConfigError(f"{self._source}: {name} {what}; allowed: {allowed}")

    def _within(self, values: Mapping[str, Any], key: str) -> "Table":
        table = Table(values, self._source, f"{self._path}{key}.")
        self._inner.append(table)
        return table


def _shown(value: object) -> str:
    """Give a value as an error shows it: printable, and cut where it is long."""
    try:
        text = repr(value)
    except ValueError:
        return "a number of thousands of digits"
    return text if len(text) <= 60 else text[:57] + "..."
