"""How an epoch and an incarnation end: freezes make a closing certificate, an opening begins the next incarnation.

    shown   = [freeze, proposal]          ; the proposal of the block before `next height`; h'' where that is 0
    closing = [+ shown]                   ; of one chain, incarnation and epoch; their peers meet that epoch's policy

A freeze says: no vote of mine on this incarnation in this epoch is beyond this place. Any quorum that certified a block
shares an honest peer with any that froze, so what was or will ever be certified there stands at or below the highest
place in the closing. A closing whose freezes all say "epoch" ends the epoch: the next one goes on behind that place, in
the same tree. One whose freezes all say something else ends the incarnation, and chooses nothing.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from gateway import canonical, cbor, signing
from gateway.errors import VerificationError
from gateway.ledger.policy import require
from gateway.ledger.roster import gateway_of_chain, peer
from gateway.ledger.rosters import Rosters
from gateway.ledger.statements import (
    FREEZE_TYPE,
    OPENING_TYPE,
    RECOVERY_TYPE,
    decode_freeze,
    decode_opening,
    decode_recovery,
    encode_freeze,
    encode_opening,
    encode_recovery,
)
from gateway.ledger.voting import open_proposal
from gateway.merkle import EMPTY_ROOT
from gateway.model import Freeze, Opening, Roster, Why


@dataclass(frozen=True, slots=True)
class Shown:
    """A freeze with the proposal that bears its place out, neither checked yet."""

    signed: bytes
    proposal: bytes


@dataclass(frozen=True, slots=True)
class Place:
    """How far a chain must go at least: behind the block of a proposal."""

    next_height: int
    size: int
    root: bytes
    proposal: bytes


START = Place(0, 0, EMPTY_ROOT, b"")


@dataclass(frozen=True, slots=True, kw_only=True)
class Closing:
    """Freezes that are a quorum: what they end, and the highest place that one of them states."""

    chain: str
    incarnation: int
    epoch: int
    is_final: bool
    highest: Place
    shown: tuple[Shown, ...]

    @property
    def digest(self) -> bytes:
        """The SHA-256 of its freezes, as an opening and the genesis behind it name it."""
        return hashlib.sha256(cbor.encode([each.signed for each in self.shown])).digest()


def sign_freeze(keys: signing.Keys, freeze: Freeze) -> bytes:
    """Give a peer's freeze."""

    def header(algorithm: int, kid: bytes) -> bytes:
        return canonical.signer_header(FREEZE_TYPE, kid, freeze.peer, freeze.chain, algorithm)

    return signing.sign_blob(keys, header, encode_freeze(freeze))


def open_freeze(rosters: Rosters, shown: Shown) -> Freeze:
    """Check a freeze against the roster of the epoch that it names, and its place against the proposal beside it.

    Raises: VerificationError if it is not by a peer of that epoch, or states a place that the proposal does not show.
    """
    messages = signing.parse_blob(shown.signed)
    message = messages[0]
    if message.header.get(canonical.CONTENT_TYPE) != FREEZE_TYPE or message.unprotected:
        raise VerificationError("not a freeze")
    freeze = decode_freeze(message.payload or b"", str(message.claim(canonical.ISSUER)))
    roster = rosters.of_epoch(freeze.epoch)
    member = peer(roster, freeze.peer)
    signing.verify_blob(messages, member.public_key, member.second_key)
    if roster.post_quantum and messages[1] is None:
        raise VerificationError(f"the freeze of {freeze.peer} has no second signature (ML-DSA-44)")
    if message.claim(canonical.SUBJECT) != freeze.chain:
        raise VerificationError(f"the freeze of {freeze.peer} names two chains")
    _check_place(roster, freeze, shown.proposal)
    return freeze


def close(rosters: Rosters, shown: Sequence[Shown]) -> Closing:
    """Check that freezes are a closing certificate.

    Raises: VerificationError if one is bad, they are of different places or kinds, or do not meet the policy.
    """
    freezes = [open_freeze(rosters, each) for each in shown]
    ends = {(freeze.chain, freeze.incarnation, freeze.epoch, freeze.why is not Why.EPOCH) for freeze in freezes}
    names = [freeze.peer for freeze in freezes]
    if len(ends) != 1 or len(set(names)) != len(names):
        raise VerificationError("a closing certificate has one freeze of each peer, all of one epoch and kind")
    chain, incarnation, epoch, is_final = ends.pop()
    require(rosters.of_epoch(epoch).policy, names, "frozen")
    highest = max(zip(freezes, shown, strict=True), key=lambda pair: pair[0].next_height)
    return Closing(
        chain=chain,
        incarnation=incarnation,
        epoch=epoch,
        is_final=is_final,
        highest=place_of(*highest),
        shown=tuple(shown),
    )


def place_of(freeze: Freeze, shown: Shown) -> Place:
    """Give the place that a freeze states."""
    return Place(freeze.next_height, freeze.size, freeze.root, shown.proposal)


# -- the recovery key's words


def sign_recovery(key: signing.Key, gateway: str, chain: str, incarnation: int) -> bytes:
    """Give the recovery key's demand that an incarnation be closed."""
    header = canonical.signer_header(RECOVERY_TYPE, key.kid, gateway, chain)
    return signing.sign(key, header, encode_recovery(chain, incarnation))


def open_recovery(roster: Roster, signed: bytes) -> tuple[str, int]:
    """Check a recovery and give the chain and the incarnation that is to be closed.

    Raises: VerificationError if it is not by the chain's recovery key.
    """
    chain, incarnation = decode_recovery(_by_recovery_key(roster, signed, RECOVERY_TYPE))
    _require_chain(signed, chain)
    return chain, incarnation


def sign_opening(key: signing.Key, gateway: str, closing: Closing) -> bytes:
    """Give the recovery key's word by which the incarnation behind a closing begins."""
    opening = Opening(chain=closing.chain, incarnation=closing.incarnation + 1, closing_digest=closing.digest)
    header = canonical.signer_header(OPENING_TYPE, key.kid, gateway, closing.chain)
    return signing.sign(key, header, encode_opening(opening))


def open_opening(rosters: Rosters, signed: bytes, shown: Sequence[Shown]) -> Closing:
    """Check an opening and the closing certificate that it names; gives the closing.

    Raises: VerificationError if it is not by the chain's recovery key, or the incarnation before it was not closed.
    """
    opening = decode_opening(_by_recovery_key(rosters.current, signed, OPENING_TYPE))
    _require_chain(signed, opening.chain)
    closing = close(rosters, shown)
    if not closing.is_final:
        raise VerificationError(f"incarnation {closing.incarnation} of chain {closing.chain} was not closed for good")
    begins = (closing.chain, closing.incarnation + 1, closing.digest)
    if (opening.chain, opening.incarnation, opening.closing_digest) != begins:
        raise VerificationError(f"incarnation {opening.incarnation} of chain {opening.chain} names another closing")
    return closing


# -- pieces


def _check_place(roster: Roster, freeze: Freeze, proposal: bytes) -> None:
    stated = (freeze.chain, freeze.incarnation, freeze.next_height, freeze.size, freeze.root)
    if proposal:
        block = open_proposal(roster, proposal)
        shown = (block.chain, block.incarnation, block.height + 1, block.size, block.root)
    else:
        shown = (freeze.chain, freeze.incarnation, 0, 0, EMPTY_ROOT)
    if stated != shown:
        raise VerificationError(f"the freeze of {freeze.peer} does not state the place that it shows")


def _by_recovery_key(roster: Roster, signed: bytes, content_type: str) -> bytes:
    message = signing.parse(signed)
    if message.header.get(canonical.CONTENT_TYPE) != content_type or message.unprotected:
        raise VerificationError(f"not of type {content_type}")
    gateway = gateway_of_chain(roster, str(message.claim(canonical.SUBJECT)))
    if gateway.recovery_key is None:
        raise VerificationError(f"gateway {gateway.id} has no recovery key on the roster")
    signing.verify(message, gateway.recovery_key)
    return message.payload or b""


def _require_chain(signed: bytes, chain: str) -> None:
    if signing.parse(signed).claim(canonical.SUBJECT) != chain:
        raise VerificationError("a recovery key's word names two chains")
