"""COSE_Sign1 (RFC 9052) with Ed25519, and with ES256 where a sensor signs; keys derived from a master secret.

    18([<< protected >>, {unprotected}, payload, signature])
    blob = 18([<< {1: -8, 4: kid, ...} >>, {}, payload, signature])
         ? 18([<< {1: -48, 4: kid, ...} >>, {}, payload, signature])

Tagged, deterministic, alg -8 (EdDSA) when written, -8 and -19 (Ed25519) when read. What is hashed or signed again
has an empty unprotected map. A detached payload is null in the message and given beside it. Secure elements have
P-256: -7 (ES256, RFC 9053 2.1) and -9 (ESP256, RFC 9864) are read where the key is a point of it.

A blob is what gateways and peers sign: one message, or a CBOR sequence (RFC 8742) of two, the second with ML-DSA-44
(FIPS 204, alg -48 of RFC 9964) for the day that Ed25519 is broken. The two differ in alg, kid and signature alone.
Nothing in the first says that a second belongs to it: whoever needs both asks `has_second`.
"""

import hashlib
import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import cbor2
from nacl.bindings import crypto_sign, crypto_sign_open, crypto_sign_seed_keypair
from nacl.exceptions import BadSignatureError

from gateway import canonical, cbor
from gateway.errors import VerificationError

SECRET_SIZE = 32
PUBLIC_KEY_SIZE = 32
POINT_SIZES = (33, 65)  # P-256, compressed or not (SEC 1 2.3.3)
SIGNATURE_SIZE = 64
SECOND_KEY_SIZE = 1312  # ML-DSA-44 (FIPS 204, table 2)
SECOND_SIGNATURE_SIZE = 2420
_TAG = 18
_SIGNATURE1 = b"\x84\x6aSignature1"


class Key:
    """An Ed25519 private key; `public_key` is its raw public half, `kid` what names it in a header."""

    __slots__ = ("_secret", "kid", "public_key")

    def __init__(self, seed: bytes) -> None:
        self.public_key, self._secret = crypto_sign_seed_keypair(seed)
        self.kid = canonical.key_id(self.public_key)

    def __repr__(self) -> str:
        return f"Key(kid={self.kid.hex()})"

    def sign(self, message: bytes) -> bytes:
        """Give the 64 bytes of the signature (RFC 8032 5.1.6)."""
        return crypto_sign(message, self._secret)[:SIGNATURE_SIZE]


class SecondKey:
    """An ML-DSA-44 private key (FIPS 204) from a seed of 32 bytes; `public_key` and `kid` as those of a `Key`."""

    __slots__ = ("_secret", "kid", "public_key")

    def __init__(self, seed: bytes) -> None:
        from cryptography.hazmat.primitives.asymmetric import mldsa  # noqa: PLC0415 - slow to load, and few have one

        self._secret = mldsa.MLDSA44PrivateKey.from_seed_bytes(seed)
        self.public_key = self._secret.public_key().public_bytes_raw()
        self.kid = canonical.key_id(self.public_key)

    def __repr__(self) -> str:
        return f"SecondKey(kid={self.kid.hex()})"

    def sign(self, message: bytes) -> bytes:
        """Give the 2420 bytes of a signature with the empty context (RFC 9964 5); it is another one each time."""
        return self._secret.sign(message)


Header = Callable[[int, bytes], bytes]
"""An encoded protected header, made for an algorithm and a kid."""


@dataclass(frozen=True, slots=True)
class Keys:
    """What one gateway or peer signs its blobs with."""

    first: Key
    second: SecondKey | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A COSE_Sign1 taken apart, its signature not yet checked."""

    protected: bytes
    header: Mapping[int, Any]
    unprotected: Mapping[int, Any]
    payload: bytes | None
    signature: bytes

    @property
    def kid(self) -> bytes:
        """The key that the protected header names; empty if none."""
        kid = self.header.get(canonical.KID, b"")
        return kid if isinstance(kid, bytes) else b""

    def claim(self, number: int) -> object:
        """Give a CWT claim of the protected header, None where it is missing."""
        claims = self.header.get(canonical.CWT_CLAIMS)
        return claims.get(number) if isinstance(claims, Mapping) else None


def derive_key(master: bytes, purpose: str, name: str, generation: int = 1) -> Key:
    """Derive a key from the master secret: HKDF-SHA256 (RFC 5869), info = CBOR [purpose, name, generation]."""
    return Key(_derive(master, f"iomt {purpose} key v1", name, generation))


def derive_second_key(master: bytes, purpose: str, name: str, generation: int = 1) -> SecondKey:
    """Derive the ML-DSA-44 key that stands beside `derive_key`'s."""
    return SecondKey(_derive(master, f"iomt {purpose} ml-dsa-44 key v1", name, generation))


def sign(key: Key | SecondKey, protected: bytes, payload: bytes, *, detached: bool = False) -> bytes:
    """Give the COSE_Sign1 by this key over an encoded protected header and a payload."""
    signature = key.sign(_to_be_signed(protected, payload))
    body = b"\xf6" if detached else _bstr(payload)
    return b"\xd2\x84" + _bstr(protected) + b"\xa0" + body + _bstr(signature)


def sign_blob(keys: Keys, header: Header, payload: bytes, *, detached: bool = False) -> bytes:
    """Give the blob by these keys over a payload. With a second key it is another one each time: store, do not redo."""
    blob = sign(keys.first, header(canonical.EDDSA, keys.first.kid), payload, detached=detached)
    if keys.second is not None:
        blob += sign(keys.second, header(canonical.ML_DSA_44, keys.second.kid), payload, detached=detached)
    return blob


class Signer:
    """A key with one protected header, for many messages: message = `prefix` + `sign_tail(payload)`."""

    __slots__ = ("_key", "_to_be_signed", "prefix")

    def __init__(self, key: Key, protected: bytes) -> None:
        self._key = key
        self._to_be_signed = _SIGNATURE1 + _bstr(protected) + b"\x40"
        self.prefix = b"\xd2\x84" + _bstr(protected) + b"\xa0"

    def sign_tail(self, payload: bytes) -> bytes:
        """Give what follows the prefix: the payload and the signature, as in a COSE_Sign1."""
        body = _bstr(payload)
        return body + b"\x58\x40" + self._key.sign(self._to_be_signed + body)


def parse(message: bytes) -> Message:
    """Take a COSE_Sign1 apart without checking its signature.

    Raises: VerificationError if the bytes are no deterministic tagged COSE_Sign1.
    """
    item = cbor.decode(message)
    if not isinstance(item, cbor2.CBORTag) or item.tag != _TAG:
        raise VerificationError("not a tagged COSE_Sign1")
    match item.value:
        case [bytes(protected), Mapping() as unprotected, (bytes() | None) as payload, bytes(signature)]:
            header = cbor.decode(protected) if protected else {}
        case _:
            raise VerificationError("not a COSE_Sign1 of four parts")
    if not isinstance(header, Mapping):
        raise VerificationError("the protected header is no map")
    return Message(protected=protected, header=header, unprotected=unprotected, payload=payload, signature=signature)


def verify(message: bytes | Message, public_key: bytes, *, detached: bytes | None = None) -> Message:
    """Check a COSE_Sign1 against a raw public key, with the detached payload where it has none of its own.

    A key of 32 bytes is Ed25519; one of 33 or 65 bytes is a point of P-256 (SEC 1 2.3.3) and verifies ES256 alone;
    one of 1312 bytes verifies ML-DSA-44 alone.

    Raises: VerificationError if it does not hold.
    """
    parsed = parse(message) if isinstance(message, bytes) else message
    if (parsed.payload is None) == (detached is None):
        raise VerificationError("the payload must stand in the message or beside it, in one of the two")
    payload = parsed.payload if detached is None else detached
    signed = _to_be_signed(parsed.protected, payload or b"")
    algorithm = parsed.header.get(canonical.ALG)
    number, size = algorithm if type(algorithm) is int else None, len(public_key)
    if size in POINT_SIZES and number in {canonical.ES256, canonical.ESP256}:
        _check_es256(parsed.signature, signed, public_key)
    elif size == SECOND_KEY_SIZE and number == canonical.ML_DSA_44:
        _check_ml_dsa_44(parsed.signature, signed, public_key)
    else:
        _check_ed25519(algorithm, parsed.signature, signed, public_key)
    return parsed


def prefix_of(message: bytes) -> bytes:
    """Give what a COSE_Sign1 begins with that has an empty unprotected map: a `Signer`'s prefix.

    Raises: VerificationError if the bytes are no such message.
    """
    parsed = parse(message)
    if parsed.unprotected:
        raise VerificationError("the message has an unprotected map")
    return b"\xd2\x84" + _bstr(parsed.protected) + b"\xa0"


def has_second(blob: bytes) -> bool:
    """Say whether anything follows a blob's first message. Neither is checked: `verify_blob` does that."""
    return _end_of_first(blob) < len(blob)


def split_blob(blob: bytes) -> tuple[bytes, ...]:
    """Give a blob's one or two messages, joined again the very same bytes. They are not checked."""
    end = _end_of_first(blob)
    return (blob[:end], blob[end:]) if end < len(blob) else (blob,)


def parse_blob(blob: bytes) -> tuple[Message, Message | None]:
    """Take a blob apart without checking its signatures.

    Raises: VerificationError if it is neither one message nor two that say the same.
    """
    first, *others = map(parse, split_blob(blob))
    if not others:
        return first, None
    _check_pair(first, others[0])
    return first, others[0]


def verify_blob(
    blob: bytes | tuple[Message, Message | None],
    public_key: bytes,
    second_key: bytes | None,
    *,
    detached: bytes | None = None,
) -> Message:
    """Check a blob, or what `parse_blob` made of it, against its signer's raw public keys; give its first message.

    A second signature must hold where there is one. Whether one has to be there is not asked here.

    Raises: VerificationError if it does not hold.
    """
    first, second = parse_blob(blob) if isinstance(blob, bytes) else blob
    verify(first, public_key, detached=detached)
    if second is not None:
        if second_key is None:
            raise VerificationError("carries a second signature, but the roster has no key for it")
        verify(second, second_key, detached=detached)
    return first


def fingerprint(*parts: bytes) -> str:
    """Give a short name for bytes that people compare: 16 hex digits of their SHA-256."""
    return hashlib.sha256(b"".join(parts)).hexdigest()[:16]


def _check_ed25519(algorithm: object, signature: bytes, signed: bytes, public_key: bytes) -> None:
    if not isinstance(algorithm, int) or algorithm not in {canonical.EDDSA, canonical.ED25519}:
        raise VerificationError(f"algorithm {algorithm!r} is not EdDSA")
    if len(signature) != SIGNATURE_SIZE:
        raise VerificationError(f"a signature of {len(signature)} bytes is not Ed25519")
    if len(public_key) != PUBLIC_KEY_SIZE:  # the binding does not check, and reads past the end
        raise VerificationError(f"a key of {len(public_key)} bytes is not Ed25519")
    try:
        crypto_sign_open(signature + signed, public_key)
    except (BadSignatureError, ValueError) as error:
        raise _not_holding(public_key) from error


def _check_es256(signature: bytes, signed: bytes, public_key: bytes) -> None:
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 - slow to load, and few sensors have P-256
    from cryptography.hazmat.primitives.asymmetric import ec, utils  # noqa: PLC0415 - likewise
    from cryptography.hazmat.primitives.hashes import SHA256  # noqa: PLC0415 - likewise

    if len(signature) != SIGNATURE_SIZE:
        raise VerificationError(f"a signature of {len(signature)} bytes is not ES256")
    try:
        key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), public_key)
    except ValueError as error:
        raise VerificationError("the key is no point of P-256") from error
    r, s = (int.from_bytes(half, "big") for half in (signature[:32], signature[32:]))
    try:
        key.verify(utils.encode_dss_signature(r, s), signed, ec.ECDSA(SHA256()))
    except InvalidSignature as error:
        raise _not_holding(public_key) from error


def _check_ml_dsa_44(signature: bytes, signed: bytes, public_key: bytes) -> None:
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 - slow to load, and few rosters ask for it
    from cryptography.hazmat.primitives.asymmetric import mldsa  # noqa: PLC0415 - likewise

    if len(signature) != SECOND_SIGNATURE_SIZE:
        raise VerificationError(f"a signature of {len(signature)} bytes is not ML-DSA-44")
    try:
        mldsa.MLDSA44PublicKey.from_public_bytes(public_key).verify(signature, signed)
    except InvalidSignature as error:
        raise _not_holding(public_key) from error


def _check_pair(first: Message, second: Message) -> None:
    algorithm = second.header.get(canonical.ALG)
    if type(algorithm) is not int or algorithm != canonical.ML_DSA_44:
        raise VerificationError(f"algorithm {algorithm!r} of the second signature is not ML-DSA-44")
    if first.header.get(canonical.ALG) == canonical.ML_DSA_44:
        raise VerificationError("both signatures are ML-DSA-44")
    if second.unprotected:  # the first's is empty, or nothing would stand behind it
        raise VerificationError("the second signature's unprotected header is not empty")
    if first.payload != second.payload:
        raise VerificationError("the second signature is over another payload")
    if _without_signer(first.header) != _without_signer(second.header):
        raise VerificationError("the second signature's header differs in more than algorithm and key")


def _without_signer(header: Mapping[int, Any]) -> bytes:
    """Give a protected header's bytes without what names the signer; bytes, since 1 and true are equal values."""
    left_out = {canonical.ALG, canonical.KID, canonical.SECOND_KEY}
    return cbor.encode({key: header[key] for key in header if key not in left_out})


def _not_holding(public_key: bytes) -> VerificationError:
    return VerificationError(f"the signature by key {canonical.key_id(public_key).hex()} does not hold")


def _derive(master: bytes, text: str, name: str, generation: int) -> bytes:
    extracted = hmac.digest(bytes(32), master, "sha256")
    return hmac.digest(extracted, cbor.encode([text, name, generation]) + b"\x01", "sha256")


def _to_be_signed(protected: bytes, payload: bytes) -> bytes:
    """Give the Sig_structure of RFC 9052 4.4: ["Signature1", protected, external_aad, payload]."""
    return _SIGNATURE1 + _bstr(protected) + b"\x40" + _bstr(payload)


def _bstr(data: bytes) -> bytes:
    size = len(data)
    if size < 24:
        return bytes((0x40 | size,)) + data
    if size < 0x100:
        return bytes((0x58, size)) + data
    if size < 0x10000:
        return b"\x59" + size.to_bytes(2, "big") + data
    return b"\x5a" + size.to_bytes(4, "big") + data


def _end_of_first(blob: bytes) -> int:
    """Find the end of the first message by its heads alone; the blob's end if none with an empty map begins it."""
    middle = _end_of_bstr(blob, 2)
    if blob[:2] != b"\xd2\x84" or blob[middle : middle + 1] != b"\xa0":
        return len(blob)
    detached = blob[middle + 1 : middle + 2] == b"\xf6"
    return _end_of_bstr(blob, middle + 2 if detached else _end_of_bstr(blob, middle + 1))


def _end_of_bstr(data: bytes, start: int) -> int:
    """Find the end of the byte string that starts here; the end of the data, or a place behind it, if none does."""
    size = int.from_bytes(data[start : start + 1], "big") - 0x40
    if 0 <= size < 24:
        return start + 1 + size
    if 24 <= size < 28:
        end = start + 1 + (1 << size - 24)
        return end + int.from_bytes(data[start + 1 : end], "big")
    return len(data)
