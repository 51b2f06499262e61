"""The signers of a chain's leaves, and the leaves on their way to the disk."""

from typing import NamedTuple

from gateway import canonical, signing
from gateway.io.store.readings import Signer


class Voice:
    """One signer of leaves: a device, or the gateway itself for events."""

    __slots__ = ("next_sequence", "row", "signer")

    def __init__(self, key: signing.Key, kind: str, issuer: str, chain: str, next_sequence: int) -> None:
        content_type = canonical.READING_TYPE if kind == "reading" else canonical.EVENT_TYPE
        self.signer = signing.Signer(key, canonical.signer_header(content_type, key.kid, issuer, chain))
        self.row = Signer(kind, issuer, self.signer.prefix)
        self.next_sequence = next_sequence


class Entry(NamedTuple):
    """What becomes a leaf: whose it is, its number, its bytes behind the signer's prefix, and when, on both clocks."""

    voice: Voice
    sequence: int
    tail: bytes
    real_ms: int
    boot_ms: int
