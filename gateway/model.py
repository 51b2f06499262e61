"""The values, in the order of the flow: frame, sample, reading, leaf, block, vote, certificate, receipt.

Every value is frozen. Times are integers in milliseconds and say so in their names; `_ms` alone is
since 1970-01-01T00:00:00Z. Numbers that a device reported are `int` or `Decimal`, never binary floats.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum


class Special(StrEnum):
    """The values of IEEE 11073-20601 SFLOAT and FLOAT that are no number."""

    NAN = "NaN"
    NRES = "NRes"
    POSITIVE_INFINITY = "+INF"
    NEGATIVE_INFINITY = "-INF"
    RESERVED = "reserved"


@dataclass(frozen=True, slots=True, kw_only=True)
class Waveform:
    """Equidistant samples: sample i was taken i * period_ns after the first and is samples[i] * 10**scale."""

    period_ns: int
    scale: int
    samples: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Measurement:
    """One value: IEEE 11073-10101 code, the number exactly as the device reported it, UCUM unit."""

    code: int
    value: int | Decimal | Waveform
    unit: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What a decoder makes of one sound frame.

    A value that is one of the specials is no measurement; a flag `f"no-value:{code}:{special}"` says which it was.
    `record` is the number under which the device stores it, `statement` the COSE_Sign1 of a device that signs itself,
    not yet checked.
    """

    measurements: tuple[Measurement, ...]
    frame: bytes
    device_time_ms: int | None = None
    flags: tuple[str, ...] = ()
    record: int | None = None
    statement: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Damaged:
    """A frame that cannot be trusted: the bytes as heard, and why."""

    frame: bytes
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Instant:
    """When, by the gateway: wall clock, and the monotonic clock within a clock epoch."""

    real_ms: int
    epoch: int
    monotonic_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A sample of one device, numbered and timed; canonical.encode_reading makes its bytes."""

    sequence: int
    at: Instant
    measurements: tuple[Measurement, ...]
    frame: bytes
    decoder: str
    salt: bytes
    device_time_ms: int | None = None
    flags: tuple[str, ...] = ()
    statement: bytes | None = None


class EventKind(StrEnum):
    """The audit trail's entries."""

    GENESIS = "genesis"
    CLOCK = "clock"
    DEVICE_ENROLLED = "device-enrolled"
    GAP = "gap"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """An entry of the audit trail, signed by the gateway itself."""

    sequence: int
    at: Instant
    kind: EventKind
    details: Mapping[str, int | str | bytes | bool]
    salt: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A sealed range [start, size) of a chain's tree; the roots are RFC 9162 2.1.1 tree heads."""

    chain: str
    incarnation: int
    height: int
    start: int
    size: int
    root: bytes
    start_root: bytes
    sealed_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A block that its gateway signed: `signed` is the COSE_Sign1, `hashes` are the leaf hashes of [start, size)."""

    block: Block
    signed: bytes
    hashes: tuple[bytes, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Vote:
    """A peer's signature over a root at a position; `signed` is what it signed, with the root detached."""

    peer: str
    chain: str
    voted_ms: int
    epoch: int
    incarnation: int
    height: int
    start: int
    size: int
    sealed_ms: int
    signed: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """A block's proposal with the votes that make it final."""

    proposal: bytes
    votes: tuple[bytes, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TipStatement:
    """How far a peer has voted on a chain, said in answer to a nonce."""

    chain: str
    incarnation: int
    next_height: int
    size: int
    root: bytes
    nonce: bytes


class Why(StrEnum):
    """Why a peer votes no more on an incarnation, or in an epoch."""

    TWO_HISTORIES = "two-histories"
    RECOVERY = "recovery"
    EPOCH = "epoch"


@dataclass(frozen=True, slots=True, kw_only=True)
class Freeze:
    """A peer's word that it votes no more on this incarnation in this epoch, and how far it had voted."""

    peer: str
    chain: str
    incarnation: int
    next_height: int
    size: int
    root: bytes
    epoch: int
    why: Why


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """The word of a chain's recovery key that an incarnation begins, behind the one that this closing ended."""

    chain: str
    incarnation: int
    closing_digest: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A peer, gateway or administrator on the roster: name, organisation, raw Ed25519 public key.

    `second_key` is its raw ML-DSA-44 public key, of a gateway its SHA-256; a gateway has a chain, and may have a
    recovery key (Ed25519) and former keys, which signed what is in its chain already.
    """

    id: str
    organisation: str
    public_key: bytes
    chain: str | None = None
    second_key: bytes | None = None
    recovery_key: bytes | None = None
    former_keys: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Whose votes make a block final: any `threshold` of these, each a peer's name or a policy of its own."""

    threshold: int
    of: "tuple[str | Policy, ...]"

    @property
    def peers(self) -> tuple[str, ...]:
        """The peers that it names, those of inner policies too."""
        return tuple(name for part in self.of for name in ((part,) if isinstance(part, str) else part.peers))


NOBODY = Policy(threshold=1, of=())
"""The policy of a ledger without peers yet: no votes meet it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Roster:
    """Who belongs: version n of the signed membership of one ledger, and the policy that makes a block final.

    `threshold` administrators must sign the next version; `post_quantum` says that every proposal and vote of this
    epoch carries a second signature.
    """

    ledger: str
    version: int
    epoch: int
    policy: Policy
    administrators: tuple[Member, ...]
    peers: tuple[Member, ...]
    gateways: tuple[Member, ...]
    threshold: int = 1
    post_quantum: bool = False
    signed: bytes = field(default=b"", compare=False, repr=False)
