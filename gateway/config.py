"""What people write in TOML about a gateway and a peer.

Of a gateway, gateway.toml:

    id = "ward-3"
    chain = "ward-3.1f0a9c21"
    broker = "mqtts://broker.example:8883"
    roster = "roster.cose"            # beside this file, or an absolute path
    generation = 1                    # of its key: one more at each iomt rekey
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

Of a peer, peer.toml has id, broker, roster, generation and [tls] and, where workers share its copy over a database,

    store = "postgresql://peer@db.example/chains?sslmode=verify-full"
    worker = 2                        # each its own number, in a state folder of its own

Profiles of devices stand in `gateway.profile`.
"""

from dataclasses import dataclass

from gateway.block import SealPolicy
from gateway.toml import Table

STORES = ("postgresql://", "postgres://")
WORKERS = 64
GENERATIONS = 1000
"""Of a key, at the most."""


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
    generation: int = 1
    tls: TlsFiles | None = None
    seal: SealPolicy = SealPolicy()
    adapter: str | None = None
    slots: int = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerConfig:
    """peer.toml; without a store, the copy is a file in the state folder."""

    id: str
    broker: str
    roster: str
    store: str | None = None
    worker: int = 1
    generation: int = 1
    tls: TlsFiles | None = None


def load_gateway(text: str, source: str) -> GatewayConfig:
    """Read gateway.toml.

    Raises: ConfigError naming `source`, the key and what is allowed.
    """
    table = Table.parse(text, source)
    with_block, with_radio = table.table("block"), table.table("radio")
    default = SealPolicy()
    config = GatewayConfig(
        id=table.name("id"),
        chain=table.name("chain"),
        broker=table.take("broker", str),
        roster=table.take("roster", str),
        generation=table.integer("generation", 1, GENERATIONS, 1),
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
    table = Table.parse(text, source)
    store = table.take("store", str, None)
    if store is not None and not store.startswith(STORES):  # which is not shown: it may have a password
        raise table.error("store", "is no URL of a database", f"{STORES[0]}...")
    config = PeerConfig(
        id=table.name("id"),
        broker=table.take("broker", str),
        roster=table.take("roster", str),
        store=store,
        worker=table.integer("worker", 1, WORKERS, 1),
        generation=table.integer("generation", 1, GENERATIONS, 1),
        tls=_tls(table),
    )
    table.refuse_unknown()
    if config.worker > 1 and store is None:
        raise table.error("worker", f"is {config.worker}", "1 where there is no store for workers to share")
    return config


def _tls(table: Table) -> TlsFiles | None:
    if table.take("tls", dict, None) is None:
        return None
    tls = table.table("tls")
    return TlsFiles(ca=tls.take("ca", str), certificate=tls.take("certificate", str), key=tls.take("key", str))
