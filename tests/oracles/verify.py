"""Asks two foreign implementations what they make of our bytes; runs in an environment of its own.

    stdin   [{"what": "statement" or "receipt", "message": hex, "key": hex, "leaf": hex}, ...]
    stdout  [{"cwt": why it is refused, or null, "scitt-cose": likewise}, ...]

A receipt's root is detached: for cwt, which knows nothing of trees, it is rebuilt with scitt-cose's tree from the
leaf and the proof in the receipt.
"""

import json
import sys
from typing import Any

import cbor2
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cwt import COSE, COSEKey  # type: ignore[import-not-found]  # installed in the oracles' environment alone
from scitt_cose import (  # type: ignore[import-not-found]  # likewise
    extract_receipts,
    parse_signed_statement,
    verify_receipt,
)
from scitt_cose.merkle import root_from_inclusion_proof  # type: ignore[import-not-found]  # likewise

KTY, KID, ALG, CRV, X = 1, 2, 3, -1, -2
OKP, EDDSA, ED25519 = 1, -8, 6


def cwt_says(case: dict[str, Any]) -> str | None:
    """Give why cwt refuses the message, None where it accepts it."""
    message, root = bytes.fromhex(case["message"]), None
    try:
        protected, unprotected, _, _ = cbor2.loads(message).value
        kid = cbor2.loads(protected)[4]
        key = COSEKey.new({KTY: OKP, CRV: ED25519, X: bytes.fromhex(case["key"]), ALG: EDDSA, KID: kid})
        if case["what"] == "receipt":
            size, index, path = cbor2.loads(unprotected[396][-1][0])
            root = root_from_inclusion_proof(case["leaf"], index, size, [node.hex() for node in path])
            if root is None:
                return "no root"
        payload = None if root is None else bytes.fromhex(root)
        COSE.new().decode_with_headers(message, key, detached_payload=payload)
    except Exception as error:  # noqa: BLE001 - cwt raises what cbor2, cryptography and itself raise
        return f"{type(error).__name__}: {error}"
    return None


def scitt_cose_says(case: dict[str, Any]) -> str | None:
    """Give why scitt-cose refuses the message, None where it accepts it."""
    message = bytes.fromhex(case["message"])
    raw = Ed25519PublicKey.from_public_bytes(bytes.fromhex(case["key"]))
    pem = raw.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    if case["what"] == "receipt":
        result = verify_receipt(message, leaf_entry_hex=case["leaf"], log_public_key_pem=pem)
        return None if result.ok else "; ".join(result.errors)
    if parse_signed_statement(message, public_key_pem=pem)["signature_verified"] is True:
        return None
    return "signature_verified is not True"


def unfold(case: dict[str, Any]) -> list[dict[str, Any]]:
    """Give the receipts that scitt-cose finds in a transparent statement, as cases; other cases as they are."""
    if case["what"] != "transparent":
        return [case]
    receipts = extract_receipts(bytes.fromhex(case["message"]))
    return [
        {"what": "receipt", "message": receipt.hex(), "key": key, "leaf": case["leaf"]}
        for receipt, key in zip(receipts, case["keys"], strict=True)
    ]


if __name__ == "__main__":
    cases = [part for case in json.load(sys.stdin) for part in unfold(case)]
    json.dump([{"cwt": cwt_says(case), "scitt-cose": scitt_cose_says(case)} for case in cases], sys.stdout)
