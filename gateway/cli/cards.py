"""Cards: the JSON by which a peer, gateway or administrator asks to be on the roster; keys in hexadecimal digits.

    {"kind": "gateway", "id": "ward-3", "organisation": "St. Anna", "public_key": "9d61...", "chain": "ward-3.1f0a9c21",
     "second_key": "77c0...", "recovery_key": "0b2f..."}

`public_key` is Ed25519, `second_key` ML-DSA-44, of a gateway its SHA-256. A gateway's card alone has a chain, and may
have the public key (Ed25519) by which the chain is closed and begun anew.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from gateway import signing
from gateway.canonical import DIGEST_SIZE
from gateway.errors import ConfigError
from gateway.io import folder
from gateway.model import Member
from gateway.toml import is_name

KINDS = ("peer", "gateway", "administrator")


def checked_name(name: str) -> str:
    """Give a name that may stand in topics and files.

    Raises: ConfigError if it may not.
    """
    if not is_name(name):
        raise ConfigError(f"the name {name!r}; allowed: 1 to 64 of A-Z a-z 0-9 - _ . and no dot first")
    return name


def make_member(kind: str, master: bytes, name: str, organisation: str = "", generation: int = 1) -> Member:
    """Give a peer, gateway or administrator with both public keys that come of a master secret."""
    second_key = signing.derive_second_key(master, kind, name, generation).public_key
    return Member(
        id=checked_name(name),
        organisation=organisation or name,
        public_key=signing.derive_key(master, kind, name, generation).public_key,
        second_key=hashlib.sha256(second_key).digest() if kind == "gateway" else second_key,
    )


def member_record(member: Member) -> dict[str, Any]:
    """Give a member as JSON shows it."""
    optional = {
        "chain": member.chain,
        "second_key": None if member.second_key is None else member.second_key.hex(),
        "recovery_key": None if member.recovery_key is None else member.recovery_key.hex(),
        "former_keys": [key.hex() for key in member.former_keys] or None,
    }
    record = {"id": member.id, "organisation": member.organisation, "public_key": member.public_key.hex()}
    return {**record, **{key: value for key, value in optional.items() if value is not None}}


def write_card(path: Path, kind: str, member: Member) -> None:
    """Write a card."""
    folder.write(path, json.dumps({"kind": kind, **member_record(member)}, indent=2).encode() + b"\n")


def read_card(path: Path) -> tuple[str, Member]:
    """Read a card: one of `KINDS`, and the member.

    Raises: ConfigError naming the file and what is wrong.
    """
    try:
        card = json.loads(folder.read_text(path))
        kind = card["kind"]
        recovery = card.get("recovery_key")
        member = Member(
            id=checked_name(card["id"]),
            organisation=str(card["organisation"]),
            public_key=bytes.fromhex(card["public_key"]),
            chain=checked_name(card["chain"]) if kind == "gateway" else None,
            second_key=bytes.fromhex(card["second_key"]),
            recovery_key=None if recovery is None or kind != "gateway" else bytes.fromhex(recovery),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ConfigError(f"{path}: not a card: {error!r}") from error
    if kind not in KINDS:
        raise ConfigError(f"{path}: not a card: kind {kind!r}; allowed: {', '.join(KINDS)}")
    for name, key, size in (
        ("public_key", member.public_key, signing.PUBLIC_KEY_SIZE),
        ("second_key", member.second_key, DIGEST_SIZE if kind == "gateway" else signing.SECOND_KEY_SIZE),
        ("recovery_key", member.recovery_key, signing.PUBLIC_KEY_SIZE),
    ):
        if key is not None and len(key) != size:
            raise ConfigError(f"{path}: not a card: {name} has {len(key)} bytes; allowed: {size}")
    return kind, member


def read_cards(paths: tuple[Path, ...], *kinds: str) -> list[tuple[str, Member]]:
    """Read cards of these kinds.

    Raises: ConfigError naming the file and what is wrong.
    """
    cards = [read_card(path) for path in paths]
    for path, (kind, _) in zip(paths, cards, strict=True):
        if kind not in kinds:
            raise ConfigError(f"{path}: the card of a kind that has no place here: {kind}; allowed: {', '.join(kinds)}")
    return cards
