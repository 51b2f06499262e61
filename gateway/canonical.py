"""The only bytes that are hashed or signed: deterministic CBOR (RFC 8949 4.2.1), every format with its version.

A reading of a heart rate strap, in diagnostic notation:

    {1: 1, 2: 512, 3: 1764000000123, 4: [1, 86400042],
     5: [[147842, 72, "/min"], [147240, 4([-7, 8046875000]), "ms"]],
     6: h'10480338', 7: "gatt.heart_rate/1", 10: h'5a...16 bytes'}

    reading  = {1: 1, 2: sequence, 3: received ms, 4: [clock epoch, monotonic ms], 5: [* measurement],
                6: frame (its SHA-256 where it is over 512 bytes), 7: decoder/version, ? 8: device time ms,
                ? 9: [+ flag], 10: salt .size 16, ? 11: the device's own statement}
    measurement = [MDC code, int / 4([exponent, mantissa]) / {1: period ns, 2: scale, 3: [+ int]}, UCUM unit]
    event    = {1: 1, 2: sequence, 3: ms, 4: [clock epoch, monotonic ms], 5: kind, 6: {details}, 10: salt}
    block    = {1: 1, 2: chain, 3: incarnation, 4: height, 5: start, 6: size, 7: root at size,
                8: root at start, 9: sealed ms}
    roster   = {1: 1, 2: ledger, 3: version, 4: epoch, 5: policy / null, 6: [+ member], 7: [* member],
                8: [* member]}
    tip      = {1: 1, 2: chain, 3: incarnation, 4: next height, 5: size, 6: root at size, 7: nonce}
    member   = [id, organisation, Ed25519 public key .size 32, ? chain]   ; 6 administrators, 7 peers, 8 gateways
    policy   = [threshold, [+ (peer's id / policy)]]       ; 4 levels at the most, each peer once; null: no peers yet

    headers  = what a COSE_Sign1 (RFC 9052) protects, by kind:
      leaf     {1: -8, 3: content type, 4: kid, 15: {1: device or gateway, 2: chain}}
      proposal {1: -8, 3: content type, 4: kid, 15: {1: gateway, 2: chain}}
      vote     {1: -8, 4: kid, 15: {1: peer, 2: chain, 6: voted at, s}, 395: 1,
                -70001: [roster epoch, incarnation, height, start, size]}
      tip      {1: -8, 3: content type, 4: kid, 15: {1: peer, 2: chain}}
      roster   {1: -8, 3: content type, 4: kid, 15: {1: administrator, 2: ledger}}
"""

import hashlib
from collections.abc import Callable, Container, Mapping
from collections.abc import Set as AbstractSet
from decimal import Decimal
from typing import Any, TypeVar

import cbor2

from gateway.cbor import are_naturals, byte_string, decode, encode, fraction, head, integer, text_string
from gateway.errors import VerificationError
from gateway.model import (
    NOBODY,
    Block,
    Event,
    EventKind,
    Instant,
    Measurement,
    Member,
    Policy,
    Reading,
    Roster,
    TipStatement,
    Waveform,
)

READING_TYPE = "application/iomt-reading+cbor"
EVENT_TYPE = "application/iomt-event+cbor"
BLOCK_TYPE = "application/iomt-block+cbor"
ROSTER_TYPE = "application/iomt-roster+cbor"
TIP_TYPE = "application/iomt-tip+cbor"

ALG, CONTENT_TYPE, KID, CWT_CLAIMS = 1, 3, 4, 15
ISSUER, SUBJECT, ISSUED_AT = 1, 2, 6
RECEIPTS, TREE_ALG, TREE_PROOFS = 394, 395, 396
POSITION = -70001
EDDSA, ED25519 = -8, -19
ES256, ESP256 = -7, -9
RFC9162_SHA256 = 1

Value = TypeVar("Value")

FRAME_LIMIT = 512
POLICY_LEVELS = 4
SALT_SIZE = 16
DIGEST_SIZE = 32
FORMAT = 1


# -- readings and events


def encode_reading(reading: Reading) -> bytes:
    """Give a reading's bytes. Written out by hand: it runs for every reading, and is ten times as fast as `encode`."""
    frame, at = reading.frame, reading.at
    if len(frame) > FRAME_LIMIT:
        frame = hashlib.sha256(frame).digest()
    optional = (reading.device_time_ms is not None) + bool(reading.flags) + (reading.statement is not None)
    parts = [
        _READING_HEADS[optional] + head(0, reading.sequence),
        b"\x03" + integer(at.real_ms),
        b"\x04\x82" + head(0, at.epoch) + head(0, at.monotonic_ms),
        b"\x05" + encode_measurements(reading.measurements),
        b"\x06" + byte_string(frame) + b"\x07" + text_string(reading.decoder),
    ]
    if reading.device_time_ms is not None:
        parts.append(b"\x08" + integer(reading.device_time_ms))
    if reading.flags:
        parts += (b"\x09", head(4, len(reading.flags)), *map(text_string, reading.flags))
    parts.append(b"\x0a" + byte_string(reading.salt))
    if reading.statement is not None:
        parts.append(b"\x0b" + byte_string(reading.statement))
    return b"".join(parts)


def decode_reading(payload: bytes) -> Reading:
    """Read a reading's bytes back.

    Raises: VerificationError if they are not of this format.
    """
    fields = _map(payload, required={1, 2, 3, 4, 5, 6, 7, 10}, optional={8, 9, 11}, what="reading")
    return _checked(
        "reading",
        lambda: Reading(
            sequence=_natural(fields[2]),
            at=_instant(fields),
            measurements=tuple(decode_measurement(item) for item in _of(list, fields[5])),
            frame=_of_size(range(FRAME_LIMIT + 1), fields[6]),
            decoder=_of(str, fields[7]),
            device_time_ms=None if 8 not in fields else _of(int, fields[8]),
            flags=_flags(fields[9]) if 9 in fields else (),
            salt=_of_size([SALT_SIZE], fields[10]),
            statement=None if 11 not in fields else _of(bytes, fields[11]),
        ),
    )


def encode_measurements(measurements: tuple[Measurement, ...]) -> bytes:
    """Give the bytes of field 5: 72, 72.0 and 72.00 are equal as numbers and different bytes."""
    parts = [head(4, len(measurements))]
    for measurement in measurements:
        value = measurement.value
        parts.append(b"\x83" + head(0, measurement.code))
        parts.append(integer(value) if type(value) is int else _value(value))
        parts.append(text_string(measurement.unit))
    return b"".join(parts)


def decode_measurement(item: object) -> Measurement:
    """Read a measurement of a decoded reading, or of what a device signed.

    Raises: TypeError or ValueError if it is of another form.
    """
    code, value, unit = _of(list, item)
    if isinstance(value, Mapping):
        if value.keys() != {1, 2, 3}:
            raise ValueError("a waveform has the keys 1, 2 and 3")
        samples = tuple(_of(int, sample) for sample in _of(list, value[3]))
        value = Waveform(period_ns=_natural(value[1]), scale=_of(int, value[2]), samples=samples)
    elif not isinstance(value, Decimal):
        value = _of(int, value)
    return Measurement(_natural(code), value, _of(str, unit))


def encode_event(event: Event) -> bytes:
    """Give an event's bytes."""
    at = [event.at.epoch, event.at.monotonic_ms]
    return encode(
        {
            1: FORMAT,
            2: event.sequence,
            3: event.at.real_ms,
            4: at,
            5: event.kind.value,
            6: dict(event.details),
            10: event.salt,
        }
    )


def decode_event(payload: bytes) -> Event:
    """Read an event's bytes back.

    Raises: VerificationError if they are not of this format.
    """
    fields = _map(payload, required={1, 2, 3, 4, 5, 6, 10}, what="event")
    return _checked(
        "event",
        lambda: Event(
            sequence=_natural(fields[2]),
            at=_instant(fields),
            kind=EventKind(fields[5]),
            details={_of(str, key): _detail(value) for key, value in _of(dict, fields[6]).items()},
            salt=_of_size([SALT_SIZE], fields[10]),
        ),
    )


# -- the ledger


def encode_block(block: Block) -> bytes:
    """Give a block's bytes."""
    return encode(
        {
            1: FORMAT,
            2: block.chain,
            3: block.incarnation,
            4: block.height,
            5: block.start,
            6: block.size,
            7: block.root,
            8: block.start_root,
            9: block.sealed_ms,
        }
    )


def decode_block(payload: bytes) -> Block:
    """Read a block's bytes back.

    Raises: VerificationError if they are not of this format, or its range is empty.
    """
    fields = _map(payload, required=set(range(1, 10)), what="block")
    block = _checked(
        "block",
        lambda: Block(
            chain=_of(str, fields[2]),
            incarnation=_natural(fields[3]),
            height=_natural(fields[4]),
            start=_natural(fields[5]),
            size=_natural(fields[6]),
            root=_digest(fields[7]),
            start_root=_digest(fields[8]),
            sealed_ms=_of(int, fields[9]),
        ),
    )
    if block.size <= block.start:
        raise VerificationError(f"block {block.height} is empty: [{block.start}, {block.size})")
    return block


def encode_tip(tip: TipStatement) -> bytes:
    """Give the bytes of a peer's statement of how far it has voted."""
    place = {3: tip.incarnation, 4: tip.next_height, 5: tip.size, 6: tip.root}
    return encode({1: FORMAT, 2: tip.chain, **place, 7: tip.nonce})


def decode_tip(payload: bytes) -> TipStatement:
    """Read a tip's bytes back.

    Raises: VerificationError if they are not of this format.
    """
    fields = _map(payload, required=set(range(1, 8)), what="tip")
    return _checked(
        "tip",
        lambda: TipStatement(
            chain=_of(str, fields[2]),
            incarnation=_natural(fields[3]),
            next_height=_natural(fields[4]),
            size=_natural(fields[5]),
            root=_digest(fields[6]),
            nonce=_of(bytes, fields[7]),
        ),
    )


def encode_roster(roster: Roster) -> bytes:
    """Give a roster's bytes, without its signatures."""
    return encode(
        {
            1: FORMAT,
            2: roster.ledger,
            3: roster.version,
            4: roster.epoch,
            5: policy_items(roster.policy),
            6: [_member(member) for member in roster.administrators],
            7: [_member(member) for member in roster.peers],
            8: [_member(member) for member in roster.gateways],
        }
    )


def decode_roster(payload: bytes) -> Roster:
    """Read a roster's bytes back (its signatures are `ledger.roster`'s).

    Raises: VerificationError if they are not of this format.
    """
    fields = _map(payload, required=set(range(1, 9)), what="roster")
    return _checked(
        "roster",
        lambda: Roster(
            ledger=_of(str, fields[2]),
            version=_natural(fields[3]),
            epoch=_natural(fields[4]),
            policy=read_policy(fields[5]),
            administrators=_decoded_members(fields[6]),
            peers=_decoded_members(fields[7]),
            gateways=_decoded_members(fields[8]),
        ),
    )


def policy_items(policy: Policy) -> list[object] | None:
    """Give a policy as CBOR and JSON have it: [threshold, [peers and policies]], or null for one without peers."""
    if policy == NOBODY:
        return None
    return [policy.threshold, [part if isinstance(part, str) else policy_items(part) for part in policy.of]]


def read_policy(items: object) -> Policy:
    """Read a policy of a decoded roster, or of JSON.

    Raises: TypeError or ValueError if it is of another form, can never be met or always is, or names a peer twice.
    """
    policy = NOBODY if items is None else _policy(items, POLICY_LEVELS)
    if len(set(policy.peers)) != len(policy.peers):
        raise ValueError("a peer stands twice in the policy")
    return policy


# -- headers


def signer_header(content_type: str, kid: bytes, issuer: str, subject: str) -> bytes:
    """Give the protected header of a leaf, a proposal or a roster."""
    return encode({ALG: EDDSA, CONTENT_TYPE: content_type, KID: kid, CWT_CLAIMS: {ISSUER: issuer, SUBJECT: subject}})


def vote_header(kid: bytes, peer: str, voted_s: int, epoch: int, block: Block) -> bytes:
    """Give the protected header of a vote: who, when, and the position that RFC 9942 leaves unsigned."""
    return encode(
        {
            ALG: EDDSA,
            KID: kid,
            CWT_CLAIMS: {ISSUER: peer, SUBJECT: block.chain, ISSUED_AT: voted_s},
            TREE_ALG: RFC9162_SHA256,
            POSITION: [epoch, block.incarnation, block.height, block.start, block.size],
        }
    )


def key_id(public_key: bytes) -> bytes:
    """Give the kid of a raw public key: the first 8 bytes of its SHA-256."""
    return hashlib.sha256(public_key).digest()[:8]


# -- pieces


# The version and the key of the sequence number, behind the head of a map of 8 entries and 0 to 3 optional ones.
_READING_HEADS = tuple(bytes((0xA0 | (8 + extra), 0x01, FORMAT, 0x02)) for extra in range(4))


def _value(value: int | Decimal | Waveform) -> bytes:
    if isinstance(value, Waveform):
        return cbor2.dumps({1: value.period_ns, 2: value.scale, 3: value.samples})
    return fraction(str(value)) if isinstance(value, Decimal) else integer(value)


def _member(member: Member) -> list[object]:
    chain = [] if member.chain is None else [member.chain]
    return [member.id, member.organisation, member.public_key, *chain]


def _decoded_members(items: object) -> tuple[Member, ...]:
    return tuple(_decoded_member(_of(list, item)) for item in _of(list, items))


def _decoded_member(item: list[object]) -> Member:
    name, organisation, public_key, chain = item if len(item) == 4 else (*item, None)
    return Member(
        id=_of(str, name),
        organisation=_of(str, organisation),
        public_key=_digest(public_key),
        chain=None if len(item) == 3 else _of(str, chain),
    )


def _policy(items: object, levels: int) -> Policy:
    if not levels:
        raise ValueError(f"a policy has {POLICY_LEVELS} levels at the most")
    threshold, of = _of(list, items)
    parts = tuple(_policy(part, levels - 1) if isinstance(part, list) else _of(str, part) for part in _of(list, of))
    if not 1 <= _natural(threshold) <= len(parts):
        raise ValueError(f"{threshold} of {len(parts)} is no policy")
    return Policy(threshold=threshold, of=parts)


def _map(
    payload: bytes, *, required: AbstractSet[int], optional: AbstractSet[int] = frozenset(), what: str
) -> Mapping[int, Any]:
    fields = decode(payload)
    if not isinstance(fields, dict) or not required <= fields.keys() <= required | optional:
        raise VerificationError(f"not a {what}: wrong keys")
    if not are_naturals(fields[1]) or fields[1] != FORMAT:
        raise VerificationError(f"a {what} of format {fields[1]!r}: this version reads format {FORMAT}")
    return fields


def _checked(what: str, build: Callable[[], Value]) -> Value:
    try:
        return build()
    except (TypeError, ValueError, KeyError) as error:
        raise VerificationError(f"not a {what}: {error}") from error


def _instant(fields: Mapping[int, Any]) -> Instant:
    epoch, monotonic_ms = _of(list, fields[4])
    return Instant(real_ms=_of(int, fields[3]), epoch=_natural(epoch), monotonic_ms=_natural(monotonic_ms))


def _of(kind: type[Value], value: object) -> Value:
    if not isinstance(value, kind) or isinstance(value, bool):
        raise TypeError(f"{value!r} is no {kind.__name__}")
    return value


def _natural(value: object) -> int:
    if not are_naturals(value):
        raise ValueError(f"{value!r} is no unsigned integer")
    return _of(int, value)


def _digest(value: object) -> bytes:
    return _of_size([DIGEST_SIZE], value)


def _of_size(sizes: Container[int], value: object) -> bytes:
    data = _of(bytes, value)
    if len(data) not in sizes:
        raise ValueError(f"a byte string of {len(data)} bytes is of the wrong length")
    return data


def _flags(value: object) -> tuple[str, ...]:
    flags = tuple(_of(str, flag) for flag in _of(list, value))
    if not flags:
        raise ValueError("flags are left out where there are none")
    return flags


def _detail(value: object) -> int | str | bytes | bool:
    if not isinstance(value, int | str | bytes):
        raise TypeError(f"{value!r} is no detail")
    return value
