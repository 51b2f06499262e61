"""Statements as a sensor would sign them, written with cbor2 and `cryptography`, and wrong wherever a test wants it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256

import cbor2
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

STATEMENT_TYPE = "application/iomt-statement+cbor"
SEED = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")  # RFC 8032 7.1, TEST 1
VALUES: list[object] = [[149530, 72, "/min"], [150456, cbor2.CBORTag(4, [-1, 975]), "%"]]


@dataclass(frozen=True, kw_only=True)
class Sensor:
    """A sensor's key, and what it puts into a header."""

    public_key: bytes
    algorithm: int
    sign: Callable[[bytes], bytes]
    id: str = "oximeter-7"
    extra: Mapping[int, object] = field(default_factory=dict)

    @property
    def header(self) -> dict[int, object]:
        """The protected header; `extra` adds to it or replaces."""
        kid = sha256(self.public_key).digest()[:8]
        return {1: self.algorithm, 3: STATEMENT_TYPE, 4: kid, 15: {1: self.id}, **self.extra}

    def state(self, payload: object, unprotected: Mapping[int, object] | None = None) -> bytes:
        """Give the COSE_Sign1 over a payload, which is encoded unless it is bytes."""
        encoded = payload if isinstance(payload, bytes) else cbor2.dumps(payload)
        protected = cbor2.dumps(self.header)
        signature = self.sign(cbor2.dumps(["Signature1", protected, b"", encoded]))
        return cbor2.dumps(cbor2.CBORTag(18, [protected, unprotected or {}, encoded, signature]))


def ed25519_sensor(seed: bytes = SEED, algorithm: int = -8) -> Sensor:
    """Give a sensor with an Ed25519 key."""
    key = Ed25519PrivateKey.from_private_bytes(seed)
    return Sensor(public_key=key.public_key().public_bytes_raw(), algorithm=algorithm, sign=key.sign)


def es256_sensor(*, compressed: bool = True, algorithm: int = -7) -> Sensor:
    """Give a sensor with a key on P-256, which is always the same."""
    key = ec.derive_private_key(int.from_bytes(SEED, "big"), ec.SECP256R1())
    form = PublicFormat.CompressedPoint if compressed else PublicFormat.UncompressedPoint
    point = key.public_key().public_bytes(Encoding.X962, form)

    def sign(message: bytes) -> bytes:
        r, s = utils.decode_dss_signature(key.sign(message, ec.ECDSA(SHA256())))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")

    return Sensor(public_key=point, algorithm=algorithm, sign=sign)


def payload_of(sequence: int = 1, boot: int = 3, values: object = VALUES, **more: object) -> dict[int, object]:
    """Give a payload; `more` are fields by name, f8=..., in the order of their keys."""
    fields: dict[int, object] = {1: 1, 2: sequence, 3: [boot, 41000], 5: values}
    fields.update({int(name[1:]): value for name, value in more.items()})
    return dict(sorted(fields.items()))


def stuff(data: bytes) -> bytes:
    """Give the COBS of data, block by block as its authors have it: 254 bytes at the end are followed by 01."""
    stuffed = b""
    for piece in data.split(b"\x00"):
        whole = len(piece) // 254 * 254
        stuffed += b"".join(b"\xff" + piece[at : at + 254] for at in range(0, whole, 254))
        stuffed += bytes((len(piece) - whole + 1,)) + piece[whole:]
    return stuffed
