"""Deterministic CBOR (RFC 8949 4.2.1): one value, one encoding, nothing else accepted.

    {1: 1, 2: h'00ff', -1: 4([-1, 365])}  <->  a3 01 01 02 42 00ff 20 c4 82 20 19016d

Keys stand in the order of their bytes, every head is as short as can be, lengths are definite; integers of 64 bits,
byte and text strings, finite decimal fractions, arrays, maps, tags, true, false and null are all there is. Decoding
accepts nothing but these very bytes: what does not encode to itself again (trailing bytes, longer heads, another
order, duplicate keys, indefinite lengths, binary floats) is refused.
"""

from collections.abc import Mapping
from decimal import Decimal
from functools import lru_cache
from typing import Any

import cbor2

from gateway.errors import VerificationError


def encode(value: object) -> bytes:
    """Give the deterministic encoding of a value made of int, bytes, str, bool, None, Decimal, list, dict and tags.

    Raises: TypeError for anything else, integers beyond 64 bits, and keys that are neither int nor str.
    """
    return cbor2.dumps(_ordered(value))


def decode(data: bytes) -> Any:  # noqa: ANN401 - CBOR is untyped until a format has checked it
    """Decode deterministic CBOR.

    Raises: VerificationError for whatever is not exactly one item in the deterministic encoding.
    """
    try:
        value = cbor2.loads(data, allow_duplicate_keys=False, allow_indefinite=False, max_depth=16)
        again = encode(value)
    except (cbor2.CBORError, ValueError, TypeError, ArithmeticError, RecursionError) as error:
        raise VerificationError(f"not CBOR: {error}") from error
    if again != data:
        raise VerificationError("not deterministic CBOR (RFC 8949 4.2.1), or bytes follow it")
    return value


def _ordered(value: object) -> object:
    """Give the value with its keys in order, once it is known to hold nothing that the formats do not."""
    if type(value) in {bytes, str}:  # most values are: the rest of this is twenty times as slow
        return value
    if isinstance(value, Mapping):
        if not all(type(key) in {int, str} for key in value):
            raise TypeError("a key that is neither integer nor text has no place in signed bytes")
        return {key: _ordered(value[key]) for key in sorted(value, key=_encoded_key)}
    if isinstance(value, list | tuple):
        return [_ordered(item) for item in value]
    if isinstance(value, cbor2.CBORTag):
        return cbor2.CBORTag(value.tag, _ordered(value.value))
    if (isinstance(value, int) and -(2**64) <= value < 2**64) or (isinstance(value, Decimal) and value.is_finite()):
        return value
    if value is None or isinstance(value, bytes | str):
        return value
    raise TypeError(f"a {type(value).__name__} such as this has no place in signed bytes")


@lru_cache(256)
def _encoded_key(key: int | str) -> bytes:
    return cbor2.dumps(key)


def are_naturals(*values: object) -> bool:
    """Say whether all are unsigned integers; true and false, which Python counts as 1 and 0, are not."""
    return all(type(value) is int and value >= 0 for value in values)


_SINGLES = [bytes((number,)) for number in range(0x100)]


def head(major: int, number: int) -> bytes:
    """Give the head of an item: its major type and its number in the fewest bytes (RFC 8949 3)."""
    major <<= 5
    if number < 24:
        return _SINGLES[major | number]
    if number < 0x100:
        return bytes((major | 24, number))
    if number < 0x10000:
        return (((major | 25) << 16) | number).to_bytes(3, "big")
    if number < 0x100000000:
        return (((major | 26) << 32) | number).to_bytes(5, "big")
    return (((major | 27) << 64) | number).to_bytes(9, "big")


def integer(number: int) -> bytes:
    """Give an integer's bytes."""
    return head(0, number) if number >= 0 else head(1, -1 - number)


def byte_string(data: bytes) -> bytes:
    """Give a byte string's bytes."""
    return head(2, len(data)) + data


@lru_cache(1024)
def text_string(text: str) -> bytes:
    """Give a text's bytes; units, decoders and flags are few and come again."""
    data = text.encode()
    return head(3, len(data)) + data


@lru_cache(4096)
def fraction(text: str) -> bytes:
    """Give a decimal fraction's bytes, by its text: 72.0 and 72.00 are equal as numbers and different bytes."""
    return encode(Decimal(text))
