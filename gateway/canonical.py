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

    leaf header = {1: -8, 3: content type, 4: kid, 15: {1: device or gateway, 2: chain}}

What gateways, peers and administrators say to each other about the ledger is in `ledger.statements`.
"""

import hashlib
from collections.abc import Callable, Container, Mapping
from collections.abc import Set as AbstractSet
from decimal import Decimal
from types import MappingProxyType
from typing import Any, TypeVar

import cbor2

from gateway.cbor import are_naturals, byte_string, decode, encode, fraction, head, integer, text_string
from gateway.errors import VerificationError
from gateway.model import Event, EventKind, Instant, Measurement, Reading, Waveform

READING_TYPE = "application/iomt-reading+cbor"
EVENT_TYPE = "application/iomt-event+cbor"

ALG, CONTENT_TYPE, KID, CWT_CLAIMS = 1, 3, 4, 15
ISSUER, SUBJECT, ISSUED_AT = 1, 2, 6
RECEIPTS, TREE_PROOFS = 394, 396
SECOND_KEY = -70003
"""The key itself, where the roster has it by its SHA-256 alone: a thousand of 1312 bytes would fit no message."""
EDDSA, ED25519 = -8, -19
ML_DSA_44 = -48  # RFC 9964
ES256, ESP256 = -7, -9

Value = TypeVar("Value")

FRAME_LIMIT = 512
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
    fields = fields_of(payload, required={1, 2, 3, 4, 5, 6, 7, 10}, optional={8, 9, 11}, what="reading")
    return checked(
        "reading",
        lambda: Reading(
            sequence=natural(fields[2]),
            at=_instant(fields),
            measurements=tuple(decode_measurement(item) for item in typed(list, fields[5])),
            frame=of_size(range(FRAME_LIMIT + 1), fields[6]),
            decoder=typed(str, fields[7]),
            device_time_ms=None if 8 not in fields else typed(int, fields[8]),
            flags=_flags(fields[9]) if 9 in fields else (),
            salt=of_size([SALT_SIZE], fields[10]),
            statement=None if 11 not in fields else typed(bytes, fields[11]),
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
    code, value, unit = typed(list, item)
    if isinstance(value, Mapping):
        if value.keys() != {1, 2, 3}:
            raise ValueError("a waveform has the keys 1, 2 and 3")
        samples = tuple(typed(int, sample) for sample in typed(list, value[3]))
        value = Waveform(period_ns=natural(value[1]), scale=typed(int, value[2]), samples=samples)
    elif not isinstance(value, Decimal):
        value = typed(int, value)
    return Measurement(natural(code), value, typed(str, unit))


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
    fields = fields_of(payload, required={1, 2, 3, 4, 5, 6, 10}, what="event")
    return checked(
        "event",
        lambda: Event(
            sequence=natural(fields[2]),
            at=_instant(fields),
            kind=EventKind(fields[5]),
            details={typed(str, key): _detail(value) for key, value in typed(dict, fields[6]).items()},
            salt=of_size([SALT_SIZE], fields[10]),
        ),
    )


# -- headers


def signer_header(
    content_type: str,
    kid: bytes,
    issuer: str,
    subject: str,
    algorithm: int = EDDSA,
    more: Mapping[int, object] = MappingProxyType({}),
) -> bytes:
    """Give the protected header of what is signed: by whom, about which chain or ledger, and whatever more."""
    claims = {ISSUER: issuer, SUBJECT: subject}
    return encode({ALG: algorithm, CONTENT_TYPE: content_type, KID: kid, CWT_CLAIMS: claims, **more})


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


def fields_of(
    payload: bytes, *, required: AbstractSet[int], optional: AbstractSet[int] = frozenset(), what: str
) -> Mapping[int, Any]:
    """Decode a map that has these keys and, under 1, our format.

    Raises: VerificationError if it is something else.
    """
    fields = decode(payload)
    if not isinstance(fields, dict) or not required <= fields.keys() <= required | optional:
        raise VerificationError(f"not a {what}: wrong keys")
    if not are_naturals(fields[1]) or fields[1] != FORMAT:
        raise VerificationError(f"a {what} of format {fields[1]!r}: this version reads format {FORMAT}")
    return fields


def checked(what: str, build: Callable[[], Value]) -> Value:
    """Give what `build` makes of decoded fields.

    Raises: VerificationError where it finds a field of another form.
    """
    try:
        return build()
    except (TypeError, ValueError, KeyError) as error:
        raise VerificationError(f"not a {what}: {error}") from error


def _instant(fields: Mapping[int, Any]) -> Instant:
    epoch, monotonic_ms = typed(list, fields[4])
    return Instant(real_ms=typed(int, fields[3]), epoch=natural(epoch), monotonic_ms=natural(monotonic_ms))


def typed(kind: type[Value], value: object) -> Value:
    """Give a decoded value of that type; True and False are no integers.

    Raises: TypeError if it is of another type.
    """
    if not isinstance(value, kind) or isinstance(value, bool):
        raise TypeError(f"{value!r} is no {kind.__name__}")
    return value


def natural(value: object) -> int:
    """Give a decoded unsigned integer.

    Raises: ValueError if it is something else.
    """
    if not are_naturals(value):
        raise ValueError(f"{value!r} is no unsigned integer")
    return typed(int, value)


def digest(value: object) -> bytes:
    """Give a decoded SHA-256, or a key of its size.

    Raises: TypeError or ValueError if it is something else.
    """
    return of_size([DIGEST_SIZE], value)


def of_size(sizes: Container[int], value: object) -> bytes:
    """Give a decoded byte string of one of these lengths.

    Raises: TypeError or ValueError if it is something else.
    """
    data = typed(bytes, value)
    if len(data) not in sizes:
        raise ValueError(f"a byte string of {len(data)} bytes is of the wrong length")
    return data


def _flags(value: object) -> tuple[str, ...]:
    flags = tuple(typed(str, flag) for flag in typed(list, value))
    if not flags:
        raise ValueError("flags are left out where there are none")
    return flags


def _detail(value: object) -> int | str | bytes | bool:
    if not isinstance(value, int | str | bytes):
        raise TypeError(f"{value!r} is no detail")
    return value
