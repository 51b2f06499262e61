"""The device profiles: what is known of each kind of device, as data; device_profiles/README.md goes key by key."""

import re
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from fnmatch import fnmatchcase

from gateway.toml import Table

# (MDC code, UCUM unit) -> the lowest and the highest plausible value
Ranges = dict[tuple[int, str], tuple[Decimal, Decimal]]

_DAY_S = 86400
_BASE = "-0000-1000-8000-00805f9b34fb"
_UUID = re.compile(r"[0-9A-Fa-f]{4}|[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
_UUID_FORM = "a Bluetooth UUID, as 180d or 0000180d-0000-1000-8000-00805f9b34fb"
_USB = re.compile(r"[0-9a-f]{4}:[0-9a-f]{4}")
_USB_FORM = "vendor and product, as 0403:6001"
_LOINC = re.compile(r"[0-9]{1,7}-[0-9]")
_UNIT = re.compile(r"[!-~]+")  # UCUM: printable ASCII without spaces


class Transport(StrEnum):
    """How a device is reached: connected by Bluetooth LE, heard in its advertisements, by a serial line."""

    BLE = "ble"
    ADVERTISEMENT = "advertisement"
    SERIAL = "serial"


# The decoders that can read what comes that way; frames of a line may come over Bluetooth, too
_KINDS: dict[Transport, tuple[str, ...]] = {
    Transport.BLE: ("gatt.", "serial."),
    Transport.ADVERTISEMENT: ("adv.",),
    Transport.SERIAL: ("serial.",),
}


class Bonding(StrEnum):
    """What a Bluetooth link must be before its readings are taken.

    none: as it is. wanted: readings over a link without a bond are flagged "unauthenticated-link". required: such a
    link is refused. authenticated: refused, too, unless the bond was made with a passkey or by comparing numbers.
    """

    NONE = "none"
    WANTED = "wanted"
    REQUIRED = "required"
    AUTHENTICATED = "authenticated"


class Records(StrEnum):
    """How a device's stored records are asked for (Record Access Control Point): not at all, those since one, all."""

    NONE = "none"
    SINCE = "since"
    ALL = "all"


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
    """How a serial line is set, what the device wants to hear first, and what it wants to hear again and again."""

    baudrate: int
    bytesize: int
    parity: str
    stopbits: int
    start: bytes = b""
    keep_alive: bytes = b""
    keep_alive_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """A characteristic that is subscribed to, or service data that is advertised, and who reads its bytes."""

    uuid: str
    decoder: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """A kind of device: how to recognise it, reach it and read it.

    `channels` are what is heard: the first must be there, the others may. A serial line has one, without a UUID.
    `context` are characteristics that are read once a connection, for what they say of the measurements.
    """

    name: str
    title: str
    transport: Transport
    quiet_s: float
    intermittent: bool
    period_s: float
    services: tuple[str, ...]
    names: tuple[str, ...]
    manufacturers: tuple[int, ...]
    usb: tuple[str, ...]
    channels: tuple[Channel, ...]
    vitals: tuple[Vital, ...]
    context: tuple[str, ...] = ()
    bonding: Bonding = Bonding.NONE
    clock: bool = False
    records: Records = Records.NONE
    line: Line | None = None

    @property
    def decoder(self) -> str:
        """Who reads the measurements that the device is there for."""
        return self.channels[0].decoder

    @property
    def signs(self) -> bool:
        """Say whether devices of this kind sign their own statements."""
        return self.decoder == "serial.iomt_frame"

    @property
    def ranges(self) -> Ranges:
        """The plausible range of each code, in the unit that the profile says."""
        return {(vital.code, vital.unit): (vital.low, vital.high) for vital in self.vitals}

    def recognises_ble(
        self, name: str | None, service_uuids: tuple[str, ...], manufacturer_ids: tuple[int, ...] = ()
    ) -> bool:
        """Say whether an advertisement is by this kind of device; `service_uuids` are those of its data, too."""
        advertised = {full_uuid(uuid) for uuid in service_uuids}
        return self.transport is not Transport.SERIAL and (
            any(full_uuid(service) in advertised for service in self.services)
            or not set(self.manufacturers).isdisjoint(manufacturer_ids)
            or self.knows_name(name)
        )

    def recognises_port(self, name: str, vendor_product: str | None) -> bool:
        """Say whether a serial port belongs to this kind of device."""
        return self.transport is Transport.SERIAL and (
            self.knows_name(name) or (vendor_product is not None and vendor_product in self.usb)
        )

    def knows_name(self, name: str | None) -> bool:
        """Say whether a name matches one of this kind's patterns."""
        return name is not None and any(fnmatchcase(name, pattern) for pattern in self.names)


def full_uuid(uuid: str) -> str:
    """Give the 128-bit form of a Bluetooth UUID, in lower case."""
    return f"0000{uuid.lower()}{_BASE}" if len(uuid) == 4 else uuid.lower()


def short_uuid(uuid: str) -> str:
    """Give the shortest form of a Bluetooth UUID, in lower case: the one by which the program names it."""
    full = full_uuid(uuid)
    return full[4:8] if full.startswith("0000") and full.endswith(_BASE) else full


def load_profile(text: str, source: str, decoders: frozenset[str]) -> Profile:
    """Read a device profile; `decoders` are the names it may choose from, as far as they fit how it is reached.

    Raises: ConfigError naming `source`, the key and what is allowed.
    """
    table = Table.parse(text, source)
    transport = Transport(table.choice("transport", tuple(Transport)))
    allowed = tuple(sorted(name for name in decoders if name.startswith(_KINDS[transport])))
    recognise, sampling = table.table("recognise"), table.table("sampling")
    ble = table.table("ble") if transport is Transport.BLE else Table({}, source)
    intermittent = sampling.choice("kind", ("continuous", "intermittent"), "continuous") == "intermittent"
    period_s = sampling.number("period_s", 0.001, _DAY_S, 1.0)
    profile = Profile(
        name=table.name("name"),
        title=table.take("title", str),
        transport=transport,
        quiet_s=table.number("quiet_s", 0.1 if intermittent else max(0.1, period_s), _DAY_S * 7),
        intermittent=intermittent,
        period_s=period_s,
        services=tuple(short_uuid(uuid) for uuid in recognise.strings("services", _UUID, f"texts, each {_UUID_FORM}")),
        names=recognise.strings("names"),
        manufacturers=recognise.integers("manufacturers", 0, 0xFFFF),
        usb=recognise.strings("usb", _USB, f"texts, each {_USB_FORM}"),
        channels=_channels(table, ble, transport, allowed),
        vitals=_vitals(table.tables("vital")),
        context=tuple(short_uuid(uuid) for uuid in ble.strings("context", _UUID, f"texts, each {_UUID_FORM}")),
        bonding=Bonding(ble.choice("bonding", tuple(Bonding), "none")),
        clock=ble.flag("clock"),
        records=Records(ble.choice("records", tuple(Records), "none")),
        line=_line(table.table("line")) if transport is Transport.SERIAL else None,
    )
    table.refuse_unknown()
    return profile


def _channels(table: Table, ble: Table, transport: Transport, decoders: tuple[str, ...]) -> tuple[Channel, ...]:
    """Give what is heard: characteristics, each once; or the service data; or the line, which has no UUID."""
    decoder = table.choice("decoder", decoders)
    if transport is Transport.SERIAL:
        return (Channel(uuid="", decoder=decoder),)
    if transport is Transport.ADVERTISEMENT:
        return (Channel(uuid=_uuid(table.table("advertisement"), "service"), decoder=decoder),)
    channels = [Channel(uuid=_uuid(ble, "characteristic"), decoder=decoder)]
    for entry in ble.tables("also", least=0):
        uuid = _uuid(entry, "characteristic")
        if uuid in {channel.uuid for channel in channels}:
            raise entry.error("characteristic", f"is {uuid} again", "each characteristic once")
        channels.append(Channel(uuid=uuid, decoder=entry.choice("decoder", decoders)))
    return tuple(channels)


def _uuid(table: Table, key: str) -> str:
    return short_uuid(table.text(key, _UUID, _UUID_FORM))


def _line(table: Table) -> Line:
    keep_alive = table.octets("keep_alive")
    return Line(
        baudrate=table.integer("baudrate", 50, 4_000_000),
        bytesize=table.integer("bytesize", 5, 8, 8),
        parity=table.choice("parity", ("N", "E", "O"), "N"),
        stopbits=table.integer("stopbits", 1, 2, 1),
        start=table.octets("start"),
        keep_alive=keep_alive,
        keep_alive_s=table.number("keep_alive_s", 0.1, 3600) if keep_alive else 0.0,
    )


def _vitals(tables: list[Table]) -> tuple[Vital, ...]:
    vitals: dict[tuple[int, str], Vital] = {}
    for table in tables:
        vital = _vital(table)
        if (vital.code, vital.unit) in vitals:
            raise table.error("code", f"is {vital.code} in {vital.unit!r} again", "each code and unit once")
        vitals[vital.code, vital.unit] = vital
    return tuple(vitals.values())


def _vital(table: Table) -> Vital:
    low = table.number("low", -1e9, 1e9)
    return Vital(
        code=table.integer("code", 1, 0xFFFFFFFF),
        unit=table.text("unit", _UNIT, "a unit of UCUM"),
        loinc=table.text("loinc", _LOINC, "a LOINC code, as 8867-4", None),
        low=Decimal(str(low)),
        high=Decimal(str(table.number("high", low, 1e9))),
    )
