"""COSE_Sign1 (RFC 9052) with Ed25519, and with ES256 where a sensor signs; keys derived from a master secret.

    18([<< protected >>, {unprotected}, payload, signature])

Tagged, deterministic, alg -8 (EdDSA) when written, -8 and -19 (Ed25519) when read. What is hashed or signed again
has an empty unprotected map. A detached payload is null in the message and given beside it. Secure elements have
P-256: -7 (ES256, RFC 9053 2.1) and -9 (ESP256, RFC 9864) are read where the key is a point of it.
"""

import hashlib
import hmac
from collections.abc import Mapping
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
    extracted = hmac.digest(bytes(32), master, "sha256")
    info = cbor.encode([f"iomt {purpose} key v1", name, generation])
    return Key(hmac.digest(extracted, info + b"\x01", "sha256"))


def sign(key: Key, protected: bytes, payload: bytes, *, detached: bool = False) -> bytes:
    """Give the COSE_Sign1 by this key over an encoded protected header and a payload."""
    signer = Signer(key, protected)
    tail = signer.sign_tail(payload)
    return signer.prefix + (b"\xf6" + tail[-SIGNATURE_SIZE - 2 :] if detached else tail)


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

    A key of 32 bytes is Ed25519; one of 33 or 65 bytes is a point of P-256 (SEC 1 2.3.3) and verifies ES256 alone.

    Raises: VerificationError if it does not hold.
    """
    parsed = parse(message) if isinstance(message, bytes) else message
    if (parsed.payload is None) == (detached is None):
        raise VerificationError("the payload must stand in the message or beside it, in one of the two")
    payload = parsed.payload if detached is None else detached
    signed = _to_be_signed(parsed.protected, payload or b"")
    algorithm = parsed.header.get(canonical.ALG)
    if len(public_key) in POINT_SIZES and type(algorithm) is int and algorithm in {canonical.ES256, canonical.ESP256}:
        _check_es256(parsed.signature, signed, public_key)
    else:
        _check_ed25519(algorithm, parsed.signature, signed, public_key)
    return parsed


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


def _not_holding(public_key: bytes) -> VerificationError:
    return VerificationError(f"the signature by key {canonical.key_id(public_key).hex()} does not hold")


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
