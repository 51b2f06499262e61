"""What gateways and peers sign about a chain: the bytes of blocks, votes, tips, freezes, recoveries and openings.

    block    = {1: 1, 2: chain, 3: incarnation, 4: height, 5: start, 6: size, 7: root at size,
                8: root at start, 9: sealed ms}
    tip      = {1: 1, 2: chain, 3: incarnation, 4: next height, 5: size, 6: root at size, 7: nonce}
    freeze   = {1: 1, 2: chain, 3: incarnation, 4: next height, 5: size, 6: root at size, 7: roster epoch,
                8: "two-histories" / "recovery" / "epoch"}
    recovery = {1: 1, 2: chain, 3: incarnation to be closed}
    opening  = {1: 1, 2: chain, 3: incarnation, 4: SHA-256 of the closing certificate before it}

    headers  = what a COSE_Sign1 (RFC 9052) protects, by kind; alg is -8, or -48 in a second signature:
      proposal {1: alg, 3: content type, 4: kid, 15: {1: gateway, 2: chain}}
               and -70003: ML-DSA-44 public key, in a second signature
      vote     {1: alg, 4: kid, 15: {1: peer, 2: chain, 6: voted at, s}, 395: 1,
                -70001: [roster epoch, incarnation, height, start, size, sealed ms]}
      others   {1: alg, 3: content type, 4: kid, 15: {1: peer or gateway, 2: chain}}

A vote is a COSE receipt (RFC 9942) whose payload, the root, is detached. RFC 9942 leaves a proof's position unsigned,
and nothing in it is the time of sealing: -70001 binds both. Proposals, votes and freezes are blobs (`signing`).
"""

from collections.abc import Mapping
from typing import Any

from gateway.canonical import (
    ALG,
    CWT_CLAIMS,
    FORMAT,
    ISSUED_AT,
    ISSUER,
    KID,
    SUBJECT,
    checked,
    digest,
    fields_of,
    natural,
    typed,
)
from gateway.cbor import encode
from gateway.errors import VerificationError
from gateway.model import Block, Freeze, Opening, TipStatement, Why

BLOCK_TYPE = "application/iomt-block+cbor"
TIP_TYPE = "application/iomt-tip+cbor"
FREEZE_TYPE = "application/iomt-freeze+cbor"
RECOVERY_TYPE = "application/iomt-recovery+cbor"
OPENING_TYPE = "application/iomt-opening+cbor"

TREE_ALG, RFC9162_SHA256 = 395, 1
POSITION = -70001


def vote_header(algorithm: int, kid: bytes, peer: str, voted_s: int, epoch: int, block: Block) -> bytes:
    """Give the protected header of a vote: who, when, and on which place."""
    return encode(
        {
            ALG: algorithm,
            KID: kid,
            CWT_CLAIMS: {ISSUER: peer, SUBJECT: block.chain, ISSUED_AT: voted_s},
            TREE_ALG: RFC9162_SHA256,
            POSITION: [epoch, block.incarnation, block.height, block.start, block.size, block.sealed_ms],
        }
    )


def encode_block(block: Block) -> bytes:
    """Give a block's bytes."""
    return encode(
        {
            1: FORMAT,
            2: block.chain,
            3: block.incarnation,
            4: block.height,
            5: block.start,
            6: block.size,
            7: block.root,
            8: block.start_root,
            9: block.sealed_ms,
        }
    )


def decode_block(payload: bytes) -> Block:
    """Read a block's bytes back.

    Raises: VerificationError if they are not of this format, or its range is empty.
    """
    fields = fields_of(payload, required=set(range(1, 10)), what="block")
    block = checked(
        "block",
        lambda: Block(
            chain=typed(str, fields[2]),
            incarnation=natural(fields[3]),
            height=natural(fields[4]),
            start=natural(fields[5]),
            size=natural(fields[6]),
            root=digest(fields[7]),
            start_root=digest(fields[8]),
            sealed_ms=typed(int, fields[9]),
        ),
    )
    if block.size <= block.start:
        raise VerificationError(f"block {block.height} is empty: [{block.start}, {block.size})")
    return block


def encode_tip(tip: TipStatement) -> bytes:
    """Give the bytes of a peer's statement of how far it has voted."""
    return encode({**_place(tip), 7: tip.nonce})


def decode_tip(payload: bytes) -> TipStatement:
    """Read a tip's bytes back.

    Raises: VerificationError if they are not of this format.
    """
    fields = fields_of(payload, required=set(range(1, 8)), what="tip")
    return checked("tip", lambda: TipStatement(**_read_place(fields), nonce=typed(bytes, fields[7])))


def encode_freeze(freeze: Freeze) -> bytes:
    """Give the bytes of a freeze; the peer stands in the header."""
    return encode({**_place(freeze), 7: freeze.epoch, 8: freeze.why.value})


def decode_freeze(payload: bytes, peer: str) -> Freeze:
    """Read the bytes of a peer's freeze back.

    Raises: VerificationError if they are not of this format.
    """
    fields = fields_of(payload, required=set(range(1, 9)), what="freeze")
    return checked(
        "freeze",
        lambda: Freeze(**_read_place(fields), peer=peer, epoch=natural(fields[7]), why=Why(typed(str, fields[8]))),
    )


def encode_recovery(chain: str, incarnation: int) -> bytes:
    """Give the bytes by which a recovery key asks that an incarnation be closed."""
    return encode({1: FORMAT, 2: chain, 3: incarnation})


def decode_recovery(payload: bytes) -> tuple[str, int]:
    """Read a recovery's bytes back: chain and incarnation.

    Raises: VerificationError if they are not of this format.
    """
    fields = fields_of(payload, required={1, 2, 3}, what="recovery")
    return checked("recovery", lambda: (typed(str, fields[2]), natural(fields[3])))


def encode_opening(opening: Opening) -> bytes:
    """Give the bytes by which a recovery key begins an incarnation."""
    return encode({1: FORMAT, 2: opening.chain, 3: opening.incarnation, 4: opening.closing_digest})


def decode_opening(payload: bytes) -> Opening:
    """Read an opening's bytes back.

    Raises: VerificationError if they are not of this format.
    """
    fields = fields_of(payload, required={1, 2, 3, 4}, what="opening")
    return checked(
        "opening",
        lambda: Opening(chain=typed(str, fields[2]), incarnation=natural(fields[3]), closing_digest=digest(fields[4])),
    )


def _place(tip: TipStatement | Freeze) -> dict[int, object]:
    return {1: FORMAT, 2: tip.chain, 3: tip.incarnation, 4: tip.next_height, 5: tip.size, 6: tip.root}


def _read_place(fields: Mapping[int, Any]) -> dict[str, Any]:
    return {
        "chain": typed(str, fields[2]),
        "incarnation": natural(fields[3]),
        "next_height": natural(fields[4]),
        "size": natural(fields[5]),
        "root": digest(fields[6]),
    }
