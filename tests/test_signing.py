import json
from collections.abc import Mapping
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given
from hypothesis import strategies as st

from gateway import canonical, cbor, signing
from gateway.errors import VerificationError
from tests.statements import Sensor, ed25519_sensor, es256_sensor, payload_of

ML_DSA_VECTOR = Path(__file__).parent / "vectors/cose_ml_dsa_44.json"
COSE_VECTOR = Path(__file__).parents[1] / "../shared/vectors/cose_eddsa_sig_01.json"

# RFC 8032 7.1, TEST 1, 2, 3 and SHA(abc): secret key, public key, message, signature.
RFC8032 = [
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        (
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"
            "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"
        ),
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        (
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
            "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
        ),
    ),
    (
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        (
            "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac"
            "18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a"
        ),
    ),
    (
        "833fe62409237b9d62ec77587520911e9a759cec1d19755b7da901b96dca3d42",
        "ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf",
        (
            "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a"
            "2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f"
        ),
        (
            "dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b589"
            "09351fc9ac90b3ecfdfbc7c66431e0303dca179c138ac17ad9bef1177331a704"
        ),
    ),
]

# RFC 5869 A.1 to A.3: input key material, salt, info, length, output key material.
RFC5869 = [
    (
        "0b" * 22,
        "000102030405060708090a0b0c",
        "f0f1f2f3f4f5f6f7f8f9",
        42,
        "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
    ),
    (
        bytes(range(0x50)).hex(),
        bytes(range(0x60, 0xB0)).hex(),
        bytes(range(0xB0, 0x100)).hex(),
        82,
        (
            "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41c65e590e09"
            "da3275600c2f09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87"
        ),
    ),
    (
        "0b" * 22,
        "",
        "",
        42,
        "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8",
    ),
]

# The eight points of small order, and two more encodings of one of them that are not canonical.
SMALL_ORDER = [
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "0000000000000000000000000000000000000000000000000000000000000080",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
]

KEY = signing.Key(bytes(range(32)))
PROTECTED = canonical.signer_header(canonical.READING_TYPE, KEY.kid, "strap-1", "ward-3")
MESSAGE = signing.sign(KEY, PROTECTED, b"payload")
DETACHED = signing.sign(KEY, PROTECTED, b"payload", detached=True)


def message_of(protected: object, unprotected: object, payload: object, signature: object, tag: int = 18) -> bytes:
    return cbor.encode(cbor2.CBORTag(tag, [protected, unprotected, payload, signature]))


def signed_with(header: dict[int, object]) -> bytes:
    return signing.sign(KEY, cbor.encode(header), b"payload")


def cose_case() -> dict[str, Any]:
    if not COSE_VECTOR.exists():
        pytest.skip("../shared/vectors/cose_eddsa_sig_01.json is missing")
    case: dict[str, Any] = json.loads(COSE_VECTOR.read_text())["case"]
    return case


@pytest.mark.parametrize(("secret", "public", "message", "signature"), RFC8032)
def test_signatures_are_those_of_rfc_8032(secret: str, public: str, message: str, signature: str) -> None:
    """Public key and signature are the RFC's for its own secrets and messages."""
    key = signing.Key(bytes.fromhex(secret))
    assert key.public_key.hex() == public
    assert key.sign(bytes.fromhex(message)).hex() == signature


def test_the_working_groups_message_verifies() -> None:
    """The COSE working group's example eddsa-sig-01 holds with its key, and its bytes come out again."""
    case = cose_case()
    key = case["input"]["sign0"]["key"]
    encoded = bytes.fromhex(case["output"]["cbor"])
    parsed = signing.verify(encoded, bytes.fromhex(key["x_hex"]))
    assert parsed.payload == case["input"]["plaintext"].encode()
    assert parsed.unprotected == {canonical.KID: key["kid"].encode()}
    assert message_of(parsed.protected, dict(parsed.unprotected), parsed.payload, parsed.signature) == encoded


def test_the_working_groups_message_is_signed_alike() -> None:
    """Signing its content with its key and header gives its signature, and so the structure that it signs."""
    case = cose_case()
    key = signing.Key(bytes.fromhex(case["input"]["sign0"]["key"]["d_hex"]))
    theirs = signing.parse(bytes.fromhex(case["output"]["cbor"]))
    ours = signing.parse(signing.sign(key, theirs.protected, case["input"]["plaintext"].encode()))
    assert ours.signature == theirs.signature == key.sign(bytes.fromhex(case["intermediates"]["ToBeSign_hex"]))
    assert (ours.protected, ours.payload, ours.unprotected) == (theirs.protected, theirs.payload, {})


@pytest.mark.parametrize(("material", "salt", "info", "length", "output"), RFC5869)
def test_the_hkdf_we_compare_with_is_rfc_5869s(material: str, salt: str, info: str, length: int, output: str) -> None:
    """The `cryptography` HKDF that the next test trusts gives the RFC's outputs."""
    hkdf = HKDF(algorithm=SHA256(), length=length, salt=bytes.fromhex(salt), info=bytes.fromhex(info))
    assert hkdf.derive(bytes.fromhex(material)).hex() == output


@given(st.binary(min_size=32, max_size=32), st.text(max_size=20), st.text(max_size=80), st.integers(1, 2**32))
def test_derived_keys_are_hkdf_sha256(master: bytes, purpose: str, name: str, generation: int) -> None:
    """A key is HKDF-SHA256 of the master secret with no salt, which is 32 zero bytes, and info [purpose, name, n]."""
    info = cbor2.dumps([f"iomt {purpose} key v1", name, generation])
    seed = HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(master)
    assert seed == HKDF(algorithm=SHA256(), length=32, salt=bytes(32), info=info).derive(master)
    derived = signing.derive_key(master, purpose, name, generation)
    assert derived.public_key == Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()


def test_another_name_purpose_or_generation_is_another_key() -> None:
    """No two of name, purpose and generation share a key, nor do texts that only join to the same."""
    master = bytes(32)
    keys = [
        signing.derive_key(master, "device", "a"),
        signing.derive_key(master, "device", "a", 2),
        signing.derive_key(master, "device", "ab"),
        signing.derive_key(master, "gateway", "a"),
        signing.derive_key(bytes(31) + b"\x01", "device", "a"),
    ]
    assert len({key.public_key for key in keys}) == len(keys)


def test_a_keys_text_shows_no_secret() -> None:
    """Printed, a key is its kid and nothing else."""
    assert repr(KEY) == str(KEY) == f"Key(kid={KEY.kid.hex()})"


@given(st.sampled_from([0, 1, 23, 24, 255, 256, 65535, 65536]), st.sampled_from([1, 23, 24, 255, 256, 65535, 65536]))
def test_messages_of_any_length_verify_here_and_elsewhere(payload_size: int, issuer_size: int) -> None:
    """Over every length of head, a message is what cbor2 makes of its parts and `cryptography` verifies it."""
    header = canonical.signer_header(canonical.EVENT_TYPE, KEY.kid, "i" * issuer_size, "chain")
    payload = bytes(payload_size)
    message = signing.sign(KEY, header, payload)
    assert signing.verify(message, KEY.public_key).payload == payload
    protected, unprotected, inner, signature = cbor2.loads(message).value
    assert (protected, unprotected, inner) == (header, {}, payload)
    structure = cbor2.dumps(["Signature1", protected, b"", payload])
    Ed25519PublicKey.from_public_bytes(KEY.public_key).verify(signature, structure)


def test_a_signer_gives_the_same_messages_as_sign() -> None:
    """Prefix and tail of a Signer make the very message that `sign` makes."""
    signer = signing.Signer(KEY, PROTECTED)
    assert signer.prefix + signer.sign_tail(b"payload") == MESSAGE


def test_both_names_of_the_algorithm_are_accepted() -> None:
    """-8 (EdDSA) and -19 (Ed25519) verify alike."""
    for algorithm in (canonical.EDDSA, canonical.ED25519):
        assert signing.verify(signed_with({1: algorithm}), KEY.public_key).header == {1: algorithm}


@pytest.mark.parametrize("algorithm", [-7, -35, -257, -48, 5, 0, "EdDSA", None, True])
def test_another_algorithm_is_refused(algorithm: object) -> None:
    """A header that names any other algorithm is refused, whatever its signature."""
    with pytest.raises(VerificationError, match="is not EdDSA"):
        signing.verify(signed_with({1: algorithm}), KEY.public_key)


def test_an_algorithm_that_only_equals_minus_8_is_refused() -> None:
    """The decimal fraction 4([0, -8]) equals -8 as a number but is another value."""
    with pytest.raises(VerificationError):
        signing.verify(signing.sign(KEY, bytes.fromhex("a101c4820027"), b"payload"), KEY.public_key)


def test_a_message_without_algorithm_is_refused() -> None:
    """Neither an empty protected header nor the unprotected one may stand for the algorithm."""
    for message in (signed_with({}), signing.sign(KEY, b"", b"payload"), message_of(b"", {1: -8}, b"p", bytes(64))):
        with pytest.raises(VerificationError, match="algorithm None"):
            signing.verify(message, KEY.public_key)


def test_detached_and_attached_are_not_confused() -> None:
    """A payload stands in the message or beside it: never in both, never in neither, never another."""
    assert signing.verify(DETACHED, KEY.public_key, detached=b"payload").payload is None
    assert signing.verify(MESSAGE, KEY.public_key).payload == b"payload"
    with pytest.raises(VerificationError, match="in one of the two"):
        signing.verify(MESSAGE, KEY.public_key, detached=b"payload")
    with pytest.raises(VerificationError, match="in one of the two"):
        signing.verify(DETACHED, KEY.public_key)
    with pytest.raises(VerificationError, match="does not hold"):
        signing.verify(DETACHED, KEY.public_key, detached=b"another")


@pytest.mark.parametrize("key", SMALL_ORDER)
def test_keys_of_small_order_are_refused(key: str) -> None:
    """A key under which one signature fits many messages verifies nothing."""
    for signature in (bytes(64), bytes.fromhex(key) + bytes(32), b"\x01" + bytes(63)):
        with pytest.raises(VerificationError, match="does not hold"):
            signing.verify(message_of(PROTECTED, {}, b"payload", signature), bytes.fromhex(key))


def test_a_signature_with_the_order_added_is_refused() -> None:
    """Adding the group's order to s gives another encoding of the same signature: refused (RFC 8032 5.1.7)."""
    order = 2**252 + 27742317777372353535851937790883648493
    parsed = signing.parse(MESSAGE)
    again = int.from_bytes(parsed.signature[32:], "little") + order
    restated = parsed.signature[:32] + again.to_bytes(32, "little")
    with pytest.raises(VerificationError, match="does not hold"):
        signing.verify(message_of(PROTECTED, {}, b"payload", restated), KEY.public_key)


@pytest.mark.parametrize("size", [0, 1, 63, 65, 128])
def test_a_signature_of_another_length_is_refused(size: int) -> None:
    """64 bytes and nothing else are a signature."""
    message = message_of(PROTECTED, {}, b"payload", (signing.parse(MESSAGE).signature * 2)[:size])
    with pytest.raises(VerificationError, match=f"a signature of {size} bytes"):
        signing.verify(message, KEY.public_key)


def test_a_foreign_key_is_refused() -> None:
    """Only the signer's own key verifies its message."""
    with pytest.raises(VerificationError, match="does not hold"):
        signing.verify(MESSAGE, signing.Key(bytes(32)).public_key)


@pytest.mark.parametrize("key", [b"", KEY.public_key[:31], KEY.public_key + b"\x00", KEY.public_key * 2])
def test_a_key_of_another_length_is_refused(key: bytes) -> None:
    """A key is 32 bytes: libsodium reads so many, whether or not they are there."""
    with pytest.raises(VerificationError, match=f"a key of {len(key)} bytes"):
        signing.verify(MESSAGE, key)


@pytest.mark.parametrize("message", [MESSAGE, DETACHED])
def test_every_flipped_bit_is_refused(message: bytes) -> None:
    """Whichever single bit of a message is flipped, it does not verify."""
    detached = b"payload" if message is DETACHED else None
    for place in range(len(message) * 8):
        flipped = bytearray(message)
        flipped[place // 8] ^= 1 << place % 8
        with pytest.raises(VerificationError):
            signing.verify(bytes(flipped), KEY.public_key, detached=detached)


def test_every_truncation_and_every_trailing_byte_is_refused() -> None:
    """A message ends where it ends."""
    for message in (*(MESSAGE[:size] for size in range(len(MESSAGE))), MESSAGE + b"\x00", MESSAGE + MESSAGE):
        with pytest.raises(VerificationError):
            signing.parse(message)


@pytest.mark.parametrize(
    "message",
    [
        MESSAGE.replace(b"\xd2\x84", b"\xd2\x9f", 1) + b"\xff",
        MESSAGE.replace(b"\xa0", b"\xbf\xff", 1),
        MESSAGE.replace(b"\x47payload", b"\x5f\x47payload\xff", 1),
        MESSAGE.replace(b"\x47payload", b"\x58\x07payload", 1),
        MESSAGE.replace(b"\xd2\x84", b"\xd8\x12\x84", 1),
        signing.sign(KEY, b"\xbf\x01\x27\xff", b"payload"),
        signing.sign(KEY, b"\xa1\x01\x38\x07", b"payload"),
        signing.sign(KEY, b"\xa2\x01\x27\x01\x27", b"payload"),
        signing.sign(KEY, PROTECTED + b"\x00", b"payload"),
    ],
    ids=["array", "map", "string", "length", "tag", "header", "number", "key-twice", "after-header"],
)
def test_only_deterministic_encodings_are_read(message: bytes) -> None:
    """Indefinite lengths, longer heads, doubled keys and trailing bytes are refused, in the header too."""
    with pytest.raises(VerificationError, match="CBOR"):
        signing.parse(message)


@pytest.mark.parametrize(
    "message",
    [
        MESSAGE[1:],
        message_of(PROTECTED, {}, b"p", bytes(64), tag=98),
        cbor.encode(cbor2.CBORTag(18, [PROTECTED, {}, b"p"])),
        cbor.encode(cbor2.CBORTag(18, {1: PROTECTED})),
        message_of({1: -8}, {}, b"p", bytes(64)),
        message_of(PROTECTED, [], b"p", bytes(64)),
        message_of(PROTECTED, {}, "p", bytes(64)),
        message_of(PROTECTED, {}, b"p", None),
        message_of(cbor.encode([1, -8]), {}, b"p", bytes(64)),
    ],
)
def test_what_is_no_cose_sign1_is_refused(message: bytes) -> None:
    """Untagged, tagged otherwise, of another number or type of parts: refused with a reason."""
    with pytest.raises(VerificationError, match=r"COSE_Sign1|is no map"):
        signing.parse(message)


def test_what_a_header_does_not_say_reads_as_nothing() -> None:
    """A kid that is no byte string is empty, a claim that is missing is None."""
    bare = signing.parse(signed_with({1: -8, canonical.KID: "text", canonical.CWT_CLAIMS: 5}))
    assert (bare.kid, bare.claim(1)) == (b"", None)
    full = signing.parse(MESSAGE)
    assert (full.kid, full.claim(1), full.claim(2), full.claim(6)) == (KEY.kid, "strap-1", "ward-3", None)


def test_a_fingerprint_is_16_hex_digits_of_sha_256() -> None:
    """The short name of bytes, however they are split."""
    assert signing.fingerprint(b"ab", b"c") == signing.fingerprint(b"abc") == "ba7816bf8f01cfea"


@given(st.binary(max_size=200))
def test_garbage_is_refused_with_one_kind_of_error(garbage: bytes) -> None:
    """Whatever bytes come, parsing gives a message or a VerificationError."""
    for data in (garbage, b"\xd2\x84" + garbage, MESSAGE[:-30] + garbage):
        try:
            signing.verify(data, KEY.public_key)
        except VerificationError:
            continue
        assert data == MESSAGE


# RFC 9052 C.2.1, and the public key of kid 11 in C.7.1.
ES256_MESSAGE = (
    "d28443a10126a10442313154546869732069732074686520636f6e74656e742e5840"
    "8eb33e4ca31d1c465ab05aac34cc6b23d58fef5c083106c4d25a91aef0b0117e"
    "2af9a291aa32e14ab834dc56ed2a223444547e01f11d3b0916e5a4c345cacb36"
)
ES256_X = "bac5b11cad8f99f9c72b05cf4b9e26d244dc189f745228255a219a86d6a09eff"
ES256_Y = "20138bf82dc1b6d562be0fa54ab7804a3a64b6d72ccfed6b6fb6ed28bbfc117e"


@pytest.mark.parametrize("key", ["04" + ES256_X + ES256_Y, "02" + ES256_X])
def test_the_rfcs_es256_message_verifies(key: str) -> None:
    """RFC 9052's single signer example holds under its key, whichever way the point is written."""
    parsed = signing.verify(bytes.fromhex(ES256_MESSAGE), bytes.fromhex(key))
    assert parsed.payload == b"This is the content."


@pytest.mark.parametrize("sensor", [es256_sensor(), es256_sensor(compressed=False, algorithm=-9)])
def test_every_flipped_bit_of_an_es256_message_is_refused(sensor: Sensor) -> None:
    """Whichever single bit of a message by P-256 is flipped, it does not verify."""
    message = sensor.state(payload_of())
    signing.verify(message, sensor.public_key)
    for place in range(len(message) * 8):
        flipped = bytearray(message)
        flipped[place // 8] ^= 1 << place % 8
        with pytest.raises(VerificationError):
            signing.verify(bytes(flipped), sensor.public_key)


@pytest.mark.parametrize("signature", [b"", bytes(64), b"\xff" * 64, bytes(32) + b"\x01" * 32, bytes(63), bytes(71)])
def test_an_es256_signature_out_of_its_form_is_refused(signature: bytes) -> None:
    """Other lengths, zeros and numbers over the group's order are no signature."""
    sensor = replace(es256_sensor(), sign=lambda _: signature)
    with pytest.raises(VerificationError, match=r"not ES256|does not hold"):
        signing.verify(sensor.state(payload_of()), sensor.public_key)


@pytest.mark.parametrize(
    "key",
    [
        b"\x02" + b"\xff" * 32,
        b"\x05" + bytes.fromhex(ES256_X),
        b"\x00" * 33,
        bytes.fromhex("04" + ES256_X + ES256_X),
        bytes.fromhex("06" + ES256_X + ES256_Y),
        b"\x04" * 65,
    ],
)
def test_what_is_no_point_of_p256_is_refused(key: bytes) -> None:
    """A key that is not on the curve, or not in a form of SEC 1 2.3.3, verifies nothing."""
    with pytest.raises(VerificationError, match="no point of P-256"):
        signing.verify(bytes.fromhex(ES256_MESSAGE), key)


def test_each_kind_of_key_verifies_its_own_algorithm_alone() -> None:
    """An Ed25519 key takes no ES256, P-256 takes no EdDSA, and no other length takes either."""
    es256, ed25519 = es256_sensor(), ed25519_sensor()
    by_es256, by_ed25519 = es256.state(payload_of()), ed25519.state(payload_of())
    with pytest.raises(VerificationError, match="is not EdDSA"):
        signing.verify(by_es256, ed25519.public_key)
    with pytest.raises(VerificationError, match="a key of 33 bytes is not Ed25519"):
        signing.verify(by_ed25519, es256.public_key)
    for size in (0, 32, 34, 64, 66):
        with pytest.raises(VerificationError, match="is not EdDSA"):
            signing.verify(by_es256, bytes(size))


# post-quantum-cryptography/KAT, kat_MLDSA_44_det_pure.rsp, counts 0 and 1: xi, SHA-256 of pk.
ML_DSA_44_KEYS = [
    (
        "f696484048ec21f96cf50a56d0759c448f3779752f0383d37449690694cf7a68",
        "18288249b90bcbd48d473d2a507cc3c1e95e040f639ac3333a8ed1891de14552",
    ),
    (
        "6de62e3465a55c9c78a07d265be8540b3e58b0801a124d07ff12b438d5202ea0",
        "8d91b9927e331d039df029d6960679e87f4f8411231ef874ec4ba85ec780d18e",
    ),
]

SECOND = signing.SecondKey(bytes(range(32, 64)))
PAIR = signing.Keys(KEY, SECOND)


def header_of(algorithm: int, kid: bytes, content_type: str = canonical.READING_TYPE) -> bytes:
    return canonical.signer_header(content_type, kid, "peer-1", "ward-3", algorithm)


BLOB = signing.sign_blob(PAIR, header_of, b"payload")
FIRST, SECOND_MESSAGE = signing.split_blob(BLOB)
DETACHED_BLOB = signing.sign_blob(PAIR, header_of, b"payload", detached=True)


def second_with(
    changes: Mapping[int, object] | None = None,
    payload: bytes = b"payload",
    unprotected: Mapping[int, int] | None = None,
) -> bytes:
    """Give a second message that holds by itself, of another header, payload or unprotected map than the first's."""
    header = {**cbor.decode(header_of(canonical.ML_DSA_44, SECOND.kid)), **(changes or {})}
    theirs = signing.parse(signing.sign(SECOND, cbor.encode(header), payload))
    return message_of(theirs.protected, dict(unprotected or {}), theirs.payload, theirs.signature)


@pytest.mark.parametrize(("seed", "public"), ML_DSA_44_KEYS)
def test_an_ml_dsa_44_key_is_the_known_one_of_its_seed(seed: str, public: str) -> None:
    """From the seeds of the known answers come their public keys, each time the same."""
    for key in (signing.SecondKey(bytes.fromhex(seed)), signing.SecondKey(bytes.fromhex(seed))):
        assert len(key.public_key) == signing.SECOND_KEY_SIZE
        assert sha256(key.public_key).hexdigest() == public
        assert key.kid == canonical.key_id(key.public_key)


def test_the_working_groups_ml_dsa_44_message_verifies() -> None:
    """The COSE working group's example holds under the key of its seed, which has its thumbprint (RFC 9679)."""
    case = json.loads(ML_DSA_VECTOR.read_text())
    public_key = signing.SecondKey(bytes.fromhex(case["seed"])).public_key
    assert sha256(cbor.encode({1: 7, 3: canonical.ML_DSA_44, -1: public_key})).hexdigest() == case["thumbprint"]
    parsed = signing.verify(bytes.fromhex(case["sign1"]), public_key)
    assert parsed.payload == case["payload"].encode()
    assert parsed.header == {1: canonical.ML_DSA_44, 4: bytes.fromhex(case["thumbprint"])}


@given(st.binary(min_size=32, max_size=32), st.text(max_size=20), st.text(max_size=80), st.integers(1, 2**32))
def test_derived_second_keys_are_hkdf_sha256(master: bytes, purpose: str, name: str, generation: int) -> None:
    """A second key's seed is HKDF-SHA256 as the first's, with a text of its own: neither gives the other away."""
    info = cbor2.dumps([f"iomt {purpose} ml-dsa-44 key v1", name, generation])
    seed = HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(master)
    derived = signing.derive_second_key(master, purpose, name, generation)
    assert derived.public_key == signing.SecondKey(seed).public_key
    assert signing.derive_key(master, purpose, name, generation).public_key != signing.Key(seed).public_key


def test_a_second_keys_text_shows_no_secret() -> None:
    """Printed, alone or in a pair, a key is its kid and nothing else."""
    assert repr(SECOND) == str(SECOND) == f"SecondKey(kid={SECOND.kid.hex()})"
    assert repr(PAIR) == f"Keys(first={KEY!r}, second={SECOND!r})"


def test_a_blob_by_one_key_is_one_message() -> None:
    """Without a second key a blob is the very message that `sign` makes, attached or detached."""
    for detached in (False, True):
        blob = signing.sign_blob(signing.Keys(KEY), header_of, b"payload", detached=detached)
        assert blob == signing.sign(KEY, header_of(canonical.EDDSA, KEY.kid), b"payload", detached=detached)
        assert (signing.has_second(blob), signing.split_blob(blob)) == (False, (blob,))
        assert signing.parse_blob(blob) == (signing.parse(blob), None)
        for second_key in (None, SECOND.public_key):
            signing.verify_blob(blob, KEY.public_key, second_key, detached=b"payload" if detached else None)


@pytest.mark.parametrize("size", [0, 1, 23, 24, 255, 256, 65535, 65536])
@pytest.mark.parametrize("detached", [False, True])
def test_a_blob_by_two_keys_is_two_messages_that_hold(size: int, *, detached: bool) -> None:
    """Over every length of head, both messages hold, here and elsewhere, and say the same."""
    payload = bytes(size)
    blob = signing.sign_blob(PAIR, header_of, payload, detached=detached)
    beside = payload if detached else None
    messages = signing.split_blob(blob)
    assert signing.has_second(blob)
    assert b"".join(messages) == blob
    pair = signing.parse_blob(blob)
    assert pair == tuple(map(signing.parse, messages))
    assert signing.verify_blob(blob, KEY.public_key, SECOND.public_key, detached=beside) == pair[0]
    assert signing.verify_blob(pair, KEY.public_key, SECOND.public_key, detached=beside) == pair[0]
    first, second = (cbor2.loads(message).value for message in messages)
    for key, (protected, unprotected, inner, _) in ((KEY, first), (SECOND, second)):
        assert (cbor2.loads(protected)[4], unprotected, inner) == (key.kid, {}, None if detached else payload)
    structures = [cbor2.dumps(["Signature1", protected, b"", payload]) for protected, *_ in (first, second)]
    Ed25519PublicKey.from_public_bytes(KEY.public_key).verify(first[3], structures[0])
    MLDSA44PublicKey.from_public_bytes(SECOND.public_key).verify(second[3], structures[1])


def test_a_first_message_verifies_without_its_second() -> None:
    """Each message of a blob is a whole COSE_Sign1: what knows Ed25519 alone reads the first and stops."""
    assert signing.verify(FIRST, KEY.public_key).payload == b"payload"
    assert signing.verify(SECOND_MESSAGE, SECOND.public_key).payload == b"payload"
    assert not signing.has_second(FIRST)


def test_a_second_signature_needs_its_key() -> None:
    """A second signature that nobody can check is refused, not passed over."""
    with pytest.raises(VerificationError, match="no key for it"):
        signing.verify_blob(BLOB, KEY.public_key, None)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (signing.Key(bytes(32)).public_key, SECOND.public_key),
        (KEY.public_key, signing.SecondKey(bytes(32)).public_key),
        (KEY.public_key, b"\xff" * 1312),
        (KEY.public_key, bytes(1312)),
        (KEY.public_key, KEY.public_key),
        (KEY.public_key, SECOND.public_key[:-1]),
        (KEY.public_key, b""),
        (SECOND.public_key, KEY.public_key),
        (SECOND.public_key, SECOND.public_key),
    ],
)
def test_a_blob_under_other_keys_is_refused(first: bytes, second: bytes) -> None:
    """Both keys have to be the signer's, each in its own place."""
    with pytest.raises(VerificationError):
        signing.verify_blob(BLOB, first, second)


def test_ml_dsa_44_verifies_under_its_own_kind_of_key_alone() -> None:
    """An Ed25519 or P-256 key takes no ML-DSA-44, and an ML-DSA-44 key takes neither EdDSA nor ES256."""
    es256 = es256_sensor()
    for key in (KEY.public_key, es256.public_key, SECOND.public_key[:-1], SECOND.public_key + b"\x00"):
        with pytest.raises(VerificationError, match="is not EdDSA"):
            signing.verify(SECOND_MESSAGE, key)
    with pytest.raises(VerificationError, match="a key of 1312 bytes is not Ed25519"):
        signing.verify(FIRST, SECOND.public_key)
    with pytest.raises(VerificationError, match="is not EdDSA"):
        signing.verify(es256.state(payload_of()), SECOND.public_key)


@pytest.mark.parametrize("size", [0, 1, 64, 2419, 2421, 4840])
def test_an_ml_dsa_44_signature_of_another_length_is_refused(size: int) -> None:
    """2420 bytes and nothing else are a signature."""
    theirs = signing.parse(SECOND_MESSAGE)
    message = message_of(theirs.protected, {}, theirs.payload, (theirs.signature * 2)[:size])
    with pytest.raises(VerificationError, match=f"a signature of {size} bytes is not ML-DSA-44"):
        signing.verify_blob(FIRST + message, KEY.public_key, SECOND.public_key)


@pytest.mark.parametrize(
    ("blob", "reason"),
    [
        (FIRST + FIRST, "algorithm -8 of the second signature is not ML-DSA-44"),
        (SECOND_MESSAGE + FIRST, "algorithm -8 of the second signature is not ML-DSA-44"),
        (SECOND_MESSAGE + SECOND_MESSAGE, "both signatures are ML-DSA-44"),
        (FIRST + second_with({1: None}), "algorithm None of the second"),
        (FIRST + second_with({1: -49}), "algorithm -49 of the second"),
        (FIRST + signing.sign(SECOND, b"", b"payload"), "algorithm None of the second"),
        (FIRST + signing.sign(SECOND, bytes.fromhex("a101c48200382f"), b"payload"), "of the second signature is not"),
        (FIRST + second_with(payload=b"another"), "over another payload"),
        (FIRST + second_with(payload=b""), "over another payload"),
        (FIRST + signing.split_blob(DETACHED_BLOB)[1], "over another payload"),
        (signing.split_blob(DETACHED_BLOB)[0] + SECOND_MESSAGE, "over another payload"),
        (FIRST + second_with(unprotected={4: 1}), "unprotected header"),
        (FIRST + second_with({3: canonical.EVENT_TYPE}), "differs in more"),
        (FIRST + second_with({15: {1: "peer-2", 2: "ward-3"}}), "differs in more"),
        (FIRST + second_with({16: 1}), "differs in more"),
        (FIRST + signing.sign(SECOND, cbor.encode({1: -48, 4: SECOND.kid}), b"payload"), "differs in more"),
        (BLOB + SECOND_MESSAGE, "bytes follow"),
        (BLOB + b"\x00", "bytes follow"),
        (FIRST + b"\x00", "not a tagged COSE_Sign1"),
        (message_of(signing.parse(FIRST).protected, {4: 1}, b"payload", bytes(64)) + SECOND_MESSAGE, "bytes follow"),
    ],
)
def test_messages_that_are_no_pair_are_refused(blob: bytes, reason: str) -> None:
    """Doubled, swapped, of another payload, header or algorithm, or more than two: refused with a reason."""
    with pytest.raises(VerificationError, match=reason):
        signing.parse_blob(blob)


def test_headers_that_only_compare_equal_are_no_pair() -> None:
    """1 and true are equal values and different bytes."""
    first, second = ({1: alg, 4: b"k", 16: value} for alg, value in ((-8, 1), (-48, True)))
    blob = signed_with(first) + signing.sign(SECOND, cbor.encode(second), b"payload")
    with pytest.raises(VerificationError, match="differs in more"):
        signing.parse_blob(blob)


def test_halves_of_two_blobs_are_no_pair() -> None:
    """A second signature of the same signer over something else proves nothing, whichever part of it is replaced."""
    other = signing.parse(second_with(payload=b"another"))
    ours = signing.parse(SECOND_MESSAGE)
    assert other.protected == ours.protected
    with pytest.raises(VerificationError, match="does not hold"):
        signing.verify_blob(
            FIRST + message_of(ours.protected, {}, b"payload", other.signature), KEY.public_key, SECOND.public_key
        )


def test_a_detached_payload_is_the_same_for_both() -> None:
    """The payload beside a blob is checked with both signatures."""
    parsed = signing.verify_blob(DETACHED_BLOB, KEY.public_key, SECOND.public_key, detached=b"payload")
    assert parsed.payload is None
    with pytest.raises(VerificationError, match="does not hold"):
        signing.verify_blob(DETACHED_BLOB, KEY.public_key, SECOND.public_key, detached=b"another")
    with pytest.raises(VerificationError, match="in one of the two"):
        signing.verify_blob(DETACHED_BLOB, KEY.public_key, SECOND.public_key)
    with pytest.raises(VerificationError, match="in one of the two"):
        signing.verify_blob(BLOB, KEY.public_key, SECOND.public_key, detached=b"payload")


def test_every_changed_byte_of_a_blob_is_refused() -> None:
    """Whichever byte of a blob is changed, it does not verify."""
    for place in range(len(BLOB)):
        changed = bytearray(BLOB)
        changed[place] ^= 1 << place % 8
        with pytest.raises(VerificationError):
            signing.verify_blob(bytes(changed), KEY.public_key, SECOND.public_key)


def test_a_truncated_blob_is_its_first_message_or_nothing() -> None:
    """Cut anywhere, a blob is refused, save between its messages; there it is one message, and says so."""
    for size in range(len(BLOB)):
        if size == len(FIRST):
            assert signing.parse_blob(BLOB[:size])[1] is None
            continue
        with pytest.raises(VerificationError):
            signing.parse_blob(BLOB[:size])


@given(
    st.binary(max_size=200),
    st.sampled_from([b"", b"\xd2\x84", b"\xd2\x84\x40\xa0", FIRST, FIRST[:-30], BLOB, BLOB[:-30]]),
)
def test_garbage_is_no_blob(garbage: bytes, start: bytes) -> None:
    """Whatever bytes come, a blob splits into parts that join to it, and parses or raises a VerificationError."""
    data = start + garbage
    parts = signing.split_blob(data)
    assert b"".join(parts) == data
    assert signing.has_second(data) == (len(parts) == 2)
    try:
        first, second = signing.parse_blob(data)
    except VerificationError:
        return
    assert (second is not None) == signing.has_second(data)
    assert message_of(first.protected, dict(first.unprotected), first.payload, first.signature) == parts[0]
