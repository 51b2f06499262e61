"""The device profiles: what is known of each kind of device, as data; device_profiles/README.md goes key by key."""

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from fnmatch import fnmatchcase

from gateway.toml import Table

# (MDC code, UCUM unit) -> the lowest and the highest plausible value
Ranges = dict[tuple[int, str], tuple[Decimal, Decimal]]

_DAY_S = 86400


class Transport(StrEnum):
    """How a device is reached: connected by Bluetooth LE, heard in its advertisements, by a serial line."""

    BLE = "ble"
    ADVERTISEMENT = "advertisement"
    SERIAL = "serial"


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
    return f"0000{uuid.lower()}-0000-1000-8000-00805f9b34fb" if len(uuid) == 4 else uuid.lower()


def load_profile(text: str, source: str, decoders: frozenset[str]) -> Profile:
    """Read a device profile; `decoders` are the names it may choose from.

    Raises: ConfigError naming `source`, the key and what is allowed.
    """
    table = Table.parse(text, source)
    transport = Transport(table.choice("transport", tuple(Transport)))
    recognise, sampling, ble = table.table("recognise"), table.table("sampling"), table.table("ble")
    allowed = tuple(sorted(decoders))
    first = Channel(uuid=_uuid(table, ble, transport), decoder=table.choice("decoder", allowed))
    connects = transport is Transport.BLE
    profile = Profile(
        name=table.name("name"),
        title=table.take("title", str),
        transport=transport,
        quiet_s=table.number("quiet_s", 0.1, _DAY_S * 7),
        intermittent=sampling.choice("kind", ("continuous", "intermittent"), "continuous") == "intermittent",
        period_s=sampling.number("period_s", 0.001, _DAY_S, 1.0),
        services=recognise.strings("services"),
        names=recognise.strings("names"),
        manufacturers=recognise.integers("manufacturers", 0, 0xFFFF),
        usb=recognise.strings("usb"),
        channels=(first, *(_channel(entry, allowed) for entry in (ble.tables("also", least=0) if connects else ()))),
        vitals=tuple(_vital(entry) for entry in table.tables("vital")),
        context=ble.strings("context") if connects else (),
        bonding=Bonding(ble.choice("bonding", tuple(Bonding), "none")) if connects else Bonding.NONE,
        clock=ble.flag("clock") if connects else False,
        records=Records(ble.choice("records", tuple(Records), "none")) if connects else Records.NONE,
        line=_line(table.table("line")) if transport is Transport.SERIAL else None,
    )
    table.refuse_unknown()
    return profile


def _uuid(table: Table, ble: Table, transport: Transport) -> str:
    """Give the UUID of what is heard first: a characteristic, or service data; a line has none."""
    if transport is Transport.BLE:
        return ble.take("characteristic", str)
    return table.table("advertisement").take("service", str) if transport is Transport.ADVERTISEMENT else ""


def _channel(table: Table, decoders: tuple[str, ...]) -> Channel:
    return Channel(uuid=table.take("characteristic", str), decoder=table.choice("decoder", decoders))


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


def _vital(table: Table) -> Vital:
    low = table.number("low", -1e9, 1e9)
    return Vital(
        code=table.integer("code", 1, 0xFFFFFFFF),
        unit=table.take("unit", str),
        loinc=table.take("loinc", str, None),
        low=Decimal(str(low)),
        high=Decimal(str(table.number("high", low, 1e9))),
    )
