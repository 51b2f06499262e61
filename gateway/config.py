"""What people write in TOML, read strictly: `gateway.toml`, `peer.toml` and the device profiles.

Each key is known, typed and in range, or the error says the file, the key and what is allowed. A gateway:

    id = "ward-3"
    chain = "ward-3.1f0a9c21"
    broker = "mqtts://broker.example:8883"
    roster = "roster.cose"            # beside this file, or an absolute path
    [block]                           # a block is sealed at so many leaves or at that age
    leaves = 256
    age_s = 10.0
    [radio]
    adapter = "hci0"                  # without it, the first that is powered
    slots = 5                         # Bluetooth connections at a time
    [tls]                             # with mqtts: PEM files
    ca = "ca.crt"
    certificate = "ward-3.crt"
    key = "ward-3.key"

A peer has id, broker, roster and [tls]. A profile is described in device_profiles/README.md.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from fnmatch import fnmatchcase
from typing import Any, TypeVar

from gateway.block import SealPolicy
from gateway.errors import ConfigError

Value = TypeVar("Value")

# (MDC code, UCUM unit) -> the lowest and the highest plausible value
Ranges = dict[tuple[int, str], tuple[Decimal, Decimal]]


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """The PEM files of mutual TLS, as written: relative paths are relative to the configuration."""

    ca: str
    certificate: str
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayConfig:
    """gateway.toml."""

    id: str
    chain: str
    broker: str
    roster: str
    tls: TlsFiles | None = None
    seal: SealPolicy = SealPolicy()
    adapter: str | None = None
    slots: int = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerConfig:
    """peer.toml."""

    id: str
    broker: str
    roster: str
    tls: TlsFiles | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Vital:
    """A value that a device reports: codes, unit, and the range outside which a reading is flagged."""

    code: int
    unit: str
    loinc: str | None
    low: Decimal
    high: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """How a serial line is set."""

    baudrate: int
    bytesize: int
    parity: str
    stopbits: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """A kind of device: how to recognise it, reach it and read it."""

    name: str
    title: str
    transport: str
    decoder: str
    quiet_s: float
    services: tuple[str, ...]
    names: tuple[str, ...]
    usb: tuple[str, ...]
    characteristic: str | None
    line: Line | None
    vitals: tuple[Vital, ...]

    @property
    def ranges(self) -> Ranges:
        """The plausible range of each code, in the unit that the profile says."""
        return {(vital.code, vital.unit): (vital.low, vital.high) for vital in self.vitals}

    def recognises_ble(self, name: str | None, service_uuids: tuple[str, ...]) -> bool:
        """Say whether an advertisement is by this kind of device."""
        advertised = {full_uuid(uuid) for uuid in service_uuids}
        return self.transport == "ble" and (
            any(full_uuid(service) in advertised for service in self.services) or self.knows_name(name)
        )

    def recognises_port(self, name: str, vendor_product: str | None) -> bool:
        """Say whether a serial port belongs to this kind of device."""
        return self.transport == "serial" and (
            self.knows_name(name) or (vendor_product is not None and vendor_product in self.usb)
        )

    def knows_name(self, name: str | None) -> bool:
        """Say whether a name matches one of this kind's patterns."""
        return name is not None and any(fnmatchcase(name, pattern) for pattern in self.names)


def full_uuid(uuid: str) -> str:
    """Give the 128-bit form of a Bluetooth UUID, in lower case."""
    return f"0000{uuid.lower()}-0000-1000-8000-00805f9b34fb" if len(uuid) == 4 else uuid.lower()


def load_gateway(text: str, source: str) -> GatewayConfig:
    """Read gateway.toml.

    Raises: ConfigError naming `source`, the key and what is allowed.
    """
    table = _Table.parse(text, source)
    with_block, with_radio = table.table("block"), table.table("radio")
    default = SealPolicy()
    config = GatewayConfig(
        id=table.name("id"),
        chain=table.name("chain"),
        broker=table.take("broker", str),
        roster=table.take("roster", str),
        tls=_tls(table),
        seal=SealPolicy(
            leaves=with_block.integer("leaves", 1, 4096, default.leaves),
            age_ms=round(1000 * with_block.number("age_s", 0.05, 3600, default.age_ms / 1000)),
        ),
        adapter=with_radio.take("adapter", str, None),
        slots=with_radio.integer("slots", 1, 64, 5),
    )
    table.refuse_unknown()
    return config


def load_peer(text: str, source: str) -> PeerConfig:
    """Read peer.toml.

    Raises: ConfigError naming `source`, the key and what is allowed.
    """
    table = _Table.parse(text, source)
    config = PeerConfig(
        id=table.name("id"), broker=table.take("broker", str), roster=table.take("roster", str), tls=_tls(table)
    )
    table.refuse_unknown()
    return config


def load_profile(text: str, source: str, decoders: frozenset[str]) -> Profile:
    """Read a device profile; `decoders` are the names it may choose from.

    Raises: ConfigError naming `source`, the key and what is allowed.
    """
    table = _Table.parse(text, source)
    transport = table.choice("transport", ("ble", "serial"))
    recognise = table.table("recognise")
    profile = Profile(
        name=table.name("name"),
        title=table.take("title", str),
        transport=transport,
        decoder=table.choice("decoder", tuple(sorted(decoders))),
        quiet_s=table.number("quiet_s", 0.1, 86400 * 7),
        services=recognise.strings("services"),
        names=recognise.strings("names"),
        usb=recognise.strings("usb"),
        characteristic=table.table("ble").take("characteristic", str) if transport == "ble" else None,
        line=_line(table.table("line")) if transport == "serial" else None,
        vitals=tuple(_vital(entry) for entry in table.tables("vital")),
    )
    table.refuse_unknown()
    return profile


def _tls(table: "_Table") -> TlsFiles | None:
    if table.take("tls", dict, None) is None:
        return None
    tls = table.table("tls")
    return TlsFiles(ca=tls.take("ca", str), certificate=tls.take("certificate", str), key=tls.take("key", str))


def _line(table: "_Table") -> Line:
    return Line(
        baudrate=table.integer("baudrate", 50, 4_000_000),
        bytesize=table.integer("bytesize", 5, 8, 8),
        parity=table.choice("parity", ("N", "E", "O"), "N"),
        stopbits=table.integer("stopbits", 1, 2, 1),
    )


def _vital(table: "_Table") -> Vital:
    low = table.number("low", -1e9, 1e9)
    return Vital(
        code=table.integer("code", 1, 0xFFFFFFFF),
        unit=table.take("unit", str),
        loinc=table.take("loinc", str, None),
        low=Decimal(str(low)),
        high=Decimal(str(table.number("high", low, 1e9))),
    )


_MISSING: Any = object()
_KINDS: dict[type, str] = {str: "a text", int: "a whole number", list: "a list", dict: "a table"}
_NAME_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")


def is_name(text: str) -> bool:
    """Say whether a text may name a device, gateway, peer or chain: 1 to 64 of A-Z a-z 0-9 - _ . and no dot first.

    Names stand in topics, file names and signed bytes.
    """
    return 0 < len(text) <= 64 and _NAME_CHARACTERS.issuperset(text) and not text.startswith(".")


class _Table:
    """A TOML table whose keys are taken one by one; what is left over is unknown."""

    def __init__(self, values: Mapping[str, Any], source: str, path: str = "") -> None:
        self.values = values
        self._source = source
        self._path = path
        self._known: set[str] = set()
        self._inner: list[_Table] = []

    @classmethod
    def parse(cls, text: str, source: str) -> "_Table":
        try:
            return cls(tomllib.loads(text), source)
        except (ValueError, RecursionError) as error:  # beside TOML's own: too many digits, too deep
            raise ConfigError(f"{source}: not TOML: {error}") from error

    def take(self, key: str, kind: type[Value], default: Any = _MISSING) -> Value:  # noqa: ANN401 - a default is any of ours
        self._known.add(key)
        value = self.values.get(key, default)
        if value is _MISSING:
            raise self._error(key, "is missing", _KINDS[kind])
        if value is not default and (not isinstance(value, kind) or isinstance(value, bool)):
            raise self._error(key, f"is {_shown(value)}", _KINDS[kind])
        return value  # type: ignore[no-any-return]  # checked above, or the caller's default

    def name(self, key: str) -> str:
        value = self.take(key, str)
        if not is_name(value):
            raise self._error(key, f"is {_shown(value)}", "1 to 64 of A-Z a-z 0-9 - _ . and no dot first")
        return value

    def choice(self, key: str, allowed: tuple[str, ...], default: Any = _MISSING) -> str:  # noqa: ANN401 - see take
        value = self.take(key, str, default)
        if value not in allowed:
            raise self._error(key, f"is {_shown(value)}", "one of " + ", ".join(allowed))
        return value

    def integer(self, key: str, low: int, high: int, default: Any = _MISSING) -> int:  # noqa: ANN401 - see take
        value = self.take(key, int, default)
        if not low <= value <= high:
            raise self._error(key, f"is {_shown(value)}", f"{low} to {high}")
        return value

    def number(self, key: str, low: float, high: float, default: Any = _MISSING) -> float:  # noqa: ANN401 - see take
        self._known.add(key)
        value = self.values.get(key, default)
        if value is _MISSING or isinstance(value, bool) or not isinstance(value, int | float):
            raise self._error(key, "is missing" if value is _MISSING else f"is {_shown(value)}", "a number")
        if not low <= value <= high:
            raise self._error(key, f"is {_shown(value)}", f"{low:g} to {high:g}")
        return float(value)

    def strings(self, key: str) -> tuple[str, ...]:
        value: list[object] = self.take(key, list, [])
        if not all(isinstance(item, str) for item in value):
            raise self._error(key, f"is {_shown(value)}", "a list of texts")
        return tuple(str(item) for item in value)

    def table(self, key: str) -> "_Table":
        values: dict[str, Any] = self.take(key, dict, {})
        return self._within(values, key)

    def tables(self, key: str) -> "list[_Table]":
        entries: list[Any] = self.take(key, list)
        if not entries or not all(isinstance(entry, dict) for entry in entries):
            raise self._error(key, f"is {_shown(entries)}", f"one or more [[{key}]]")
        return [self._within(entry, f"{key}[{number}]") for number, entry in enumerate(entries)]

    def refuse_unknown(self) -> None:
        unknown = sorted(self.values.keys() - self._known)
        if unknown:
            raise self._error(unknown[0], "is unknown", ", ".join(sorted(self._known)) or "no key here")
        for table in self._inner:
            table.refuse_unknown()

    def _within(self, values: Mapping[str, Any], key: str) -> "_Table":
        table = _Table(values, self._source, f"{self._path}{key}.")
        self._inner.append(table)
        return table

    def _error(self, key: str, what: str, allowed: str) -> ConfigError:
        name = self._path + (key if is_name(key) else _shown(key))
        return ConfigError(f"{self._source}: {name} {what}; allowed: {allowed}")


def _shown(value: object) -> str:
    """Give a value as an error shows it: printable, and cut where it is long."""
    try:
        text = repr(value)
    except ValueError:
        return "a number of thousands of digits"
    return text if len(text) <= 60 else text[:57] + "..."
