"""A small certificate authority for tests of mutual TLS."""

from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import NameOID

from gateway.io.mqtt import Tls

DAY = timedelta(days=1)


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _usage(*, is_ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not is_ca,
        key_cert_sign=is_ca,
        crl_sign=is_ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


class Authority:
    """A CA that keeps its certificates and keys in a folder, as PEM."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        self._folder = folder
        self._name = name
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._write(f"{name}.pem", self._certificate(name, self._key.public_key(), DAY, is_ca=True))

    def issue(self, common_name: str, *, valid_for: timedelta = DAY) -> Tls:
        """Make a key and a certificate for 127.0.0.1 with this common name; a negative time is an expired one."""
        key = ec.generate_private_key(ec.SECP256R1())
        stem = f"{self._name}-{common_name}"
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        self._write(f"{stem}.key", pem)
        self._write(f"{stem}.pem", self._certificate(common_name, key.public_key(), valid_for, is_ca=False))
        paths = [str(self._folder / name) for name in (f"{self._name}.pem", f"{stem}.pem", f"{stem}.key")]
        return Tls(ca=paths[0], certificate=paths[1], key=paths[2])

    def _write(self, name: str, pem: bytes) -> None:
        (self._folder / name).write_bytes(pem)

    def _certificate(
        self, common_name: str, key: ec.EllipticCurvePublicKey, valid_for: timedelta, *, is_ca: bool
    ) -> bytes:
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(_name(common_name))
            .issuer_name(_name(self._name))
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - 2 * DAY)
            .not_valid_after(now + valid_for)
            .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
            .add_extension(_usage(is_ca=is_ca), critical=True)
        )
        return builder.sign(self._key, SHA256()).public_bytes(serialization.Encoding.PEM)
