"""Cards: the JSON by which a peer or gateway asks to be admitted: kind, id, organisation, public key, chain.

{"kind": "peer", "id": "hospital", "organisation": "St. Anna", "public_key": "9d61..."}
"""

import json
from pathlib import Path

from gateway.errors import ConfigError
from gateway.io import folder
from gateway.model import Member
from gateway.toml import is_name


def checked_name(name: str) -> str:
    """Give a name that may stand in topics and files.

    Raises: ConfigError if it may not.
    """
    if not is_name(name):
        raise ConfigError(f"the name {name!r}; allowed: 1 to 64 of A-Z a-z 0-9 - _ . and no dot first")
    return name


def member_record(member: Member) -> dict[str, str]:
    """Give a member as JSON shows it."""
    record = {"id": member.id, "organisation": member.organisation, "public_key": member.public_key.hex()}
    return record if member.chain is None else {**record, "chain": member.chain}


def write_card(path: Path, kind: str, member: Member) -> None:
    """Write a card."""
    folder.write(path, json.dumps({"kind": kind, **member_record(member)}, indent=2).encode() + b"\n")


def read_card(path: Path) -> tuple[str, Member]:
    """Read a card: "peer" or "gateway", and the member.

    Raises: ConfigError naming the file and what is wrong.
    """
    try:
        card = json.loads(folder.read_text(path))
        kind = card["kind"]
        member = Member(
            id=checked_name(card["id"]),
            organisation=str(card["organisation"]),
            public_key=bytes.fromhex(card["public_key"]),
            chain=checked_name(card["chain"]) if kind == "gateway" else None,
        )
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path}: not a card: {error!r}") from error
    if kind not in {"peer", "gateway"} or len(member.public_key) != 32:
        raise ConfigError(f"{path}: not a card: kind {kind!r}; allowed: peer, gateway, each with a key of 32 bytes")
    return kind, member
