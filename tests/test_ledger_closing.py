from collections.abc import Callable
from dataclasses import replace

import pytest

from gateway import canonical, merkle, signing
from gateway.errors import VerificationError
from gateway.ledger.closing import (
    Shown,
    close,
    open_freeze,
    open_opening,
    open_recovery,
    sign_freeze,
    sign_opening,
    sign_recovery,
)
from gateway.ledger.rosters import Rosters
from gateway.ledger.statements import FREEZE_TYPE, OPENING_TYPE, RECOVERY_TYPE, encode_opening, encode_recovery
from gateway.ledger.voting import sign_block
from gateway.model import Freeze, Opening, Why
from tests.ledgers import (
    CHAIN,
    GATEWAY,
    Writer,
    first_roster,
    keys_of,
    next_roster,
    recovery_key,
    with_peers,
)

ROSTERS = first_roster(("a", "b", "c", "d"))
FIVE = next_roster(ROSTERS, with_peers("a", "b", "c", "d", "e"))
WRITER = Writer()
FIRST = WRITER.seal(ROSTERS.current, b"leaf 0", b"leaf 1")
SECOND = WRITER.seal(ROSTERS.current, b"leaf 2")


def freeze_of(
    peer: str,
    why: Why = Why.RECOVERY,
    proposal: bytes | None = FIRST.signed,
    rosters: Rosters = ROSTERS,
    **change: object,
) -> Shown:
    """Give a peer's freeze behind the first block, changed, with the proposal that it shows."""
    block = FIRST.block
    freeze = Freeze(
        peer=peer,
        chain=CHAIN,
        incarnation=0,
        next_height=block.height + 1,
        size=block.size,
        root=block.root,
        epoch=1,
        why=why,
    )
    keys = keys_of("peer", peer).of(rosters.current)
    assert keys is not None
    return Shown(sign_freeze(keys, replace(freeze, **change)), proposal or b"")  # type: ignore[arg-type]  # a test's field


def test_freezes_of_a_quorum_are_a_closing() -> None:
    """Freezes that meet the epoch's policy close it; the highest place is the one that a block after it must know."""
    second = SECOND.block
    higher = freeze_of("c", proposal=SECOND.signed, next_height=2, size=second.size, root=second.root)
    closing = close(ROSTERS, [freeze_of("a"), freeze_of("b", Why.TWO_HISTORIES), higher])
    assert (closing.chain, closing.incarnation, closing.epoch, closing.is_final) == (CHAIN, 0, 1, True)
    assert (closing.highest.next_height, closing.highest.proposal) == (2, SECOND.signed)
    assert not close(ROSTERS, [freeze_of(name, Why.EPOCH) for name in "abc"]).is_final


def test_peer_that_never_voted_shows_no_proposal() -> None:
    """A freeze at height 0 shows nothing, and has the empty tree's root."""
    shown = freeze_of("a", proposal=None, next_height=0, size=0, root=merkle.EMPTY_ROOT)
    assert open_freeze(ROSTERS, shown).next_height == 0


@pytest.mark.parametrize(
    ("shown", "why"),
    [
        (lambda: [freeze_of("a"), freeze_of("b")], "2 of 4 have frozen, 3 are needed"),
        (lambda: [freeze_of("a"), freeze_of("b"), freeze_of("b")], "one freeze of each peer"),
        (lambda: [freeze_of("a"), freeze_of("b"), freeze_of("c", Why.EPOCH)], "one freeze of each peer"),
        (lambda: [freeze_of("a"), freeze_of("b"), freeze_of("e", rosters=FIVE)], "peer 'e' is not on the roster"),
        (lambda: [freeze_of("a", epoch=2)], "roster epoch 2 is not known"),
        (lambda: [freeze_of("a", next_height=2)], "does not state the place that it shows"),
        (lambda: [freeze_of("a", proposal=None)], "does not state the place that it shows"),
        (lambda: [freeze_of("a", incarnation=1)], "does not state the place that it shows"),
        (lambda: [Shown(FIRST.signed, FIRST.signed)], "not a freeze"),
        (list, "one freeze of each peer"),
    ],
)
def test_anything_else_closes_nothing(shown: Callable[[], list[Shown]], why: str) -> None:
    """Too few, twice the same, mixed kinds, strangers, unknown epochs and unproven places are refused."""
    with pytest.raises(VerificationError, match=why):
        close(ROSTERS, shown())


def test_freeze_of_another_chain_in_its_header_is_refused() -> None:
    """A freeze whose header names another chain than its payload is refused."""
    keys = keys_of("peer", "a").of(ROSTERS.current)
    assert keys is not None
    payload = signing.parse(freeze_of("a").signed).payload or b""
    header = canonical.signer_header(FREEZE_TYPE, keys.first.kid, "a", "other")
    with pytest.raises(VerificationError, match="names two chains"):
        open_freeze(ROSTERS, Shown(signing.sign(keys.first, header, payload), FIRST.signed))


def test_post_quantum_freeze_has_two_signatures() -> None:
    """In a post-quantum epoch a freeze without its second signature is refused."""
    rosters = first_roster(("a", "b", "c", "d"), post_quantum=True)
    keys = keys_of("gateway", GATEWAY).of(rosters.current)
    assert keys is not None
    proposal = sign_block(keys, GATEWAY, FIRST.block)
    whole = freeze_of("a", proposal=proposal, rosters=rosters)
    assert open_freeze(rosters, whole).peer == "a"
    with pytest.raises(VerificationError, match="no second signature"):
        open_freeze(rosters, Shown(signing.split_blob(whole.signed)[0], proposal))


def test_recovery_is_the_recovery_keys_alone() -> None:
    """A demand by the recovery key names chain and incarnation; one by the gateway's own key is refused."""
    assert open_recovery(ROSTERS.current, sign_recovery(recovery_key(), GATEWAY, CHAIN, 3)) == (CHAIN, 3)
    other = signing.derive_key(b"another secret for tests only....", "gateway", GATEWAY)
    with pytest.raises(VerificationError, match="does not hold"):
        open_recovery(ROSTERS.current, sign_recovery(other, GATEWAY, CHAIN, 3))
    gateways = (replace(ROSTERS.current.gateways[0], recovery_key=None),)
    with pytest.raises(VerificationError, match="has no recovery key"):
        open_recovery(replace(ROSTERS.current, gateways=gateways), sign_recovery(recovery_key(), GATEWAY, CHAIN, 0))
    with pytest.raises(VerificationError, match="not of type"):
        open_recovery(ROSTERS.current, FIRST.signed)


def test_recovery_keys_words_name_one_chain() -> None:
    """A demand or opening whose header names another chain than its payload is refused."""
    key = recovery_key()
    header = canonical.signer_header(RECOVERY_TYPE, key.kid, GATEWAY, CHAIN)
    with pytest.raises(VerificationError, match="names two chains"):
        open_recovery(ROSTERS.current, signing.sign(key, header, encode_recovery("other", 0)))
    opening = Opening(chain="other", incarnation=1, closing_digest=bytes(32))
    header = canonical.signer_header(OPENING_TYPE, key.kid, GATEWAY, CHAIN)
    with pytest.raises(VerificationError, match="names two chains"):
        open_opening(ROSTERS, signing.sign(key, header, encode_opening(opening)), [])


def test_opening_begins_behind_its_very_closing() -> None:
    """An opening holds with the closing that it names: not with another one, or one that only ended an epoch."""
    shown = [freeze_of(name) for name in "abc"]
    closing = close(ROSTERS, shown)
    opening = sign_opening(recovery_key(), GATEWAY, closing)
    assert open_opening(ROSTERS, opening, shown) == closing
    with pytest.raises(VerificationError, match="names another closing"):
        open_opening(ROSTERS, opening, [freeze_of(name) for name in "abd"])
    ended = [freeze_of(name, Why.EPOCH) for name in "abc"]
    with pytest.raises(VerificationError, match="was not closed for good"):
        open_opening(ROSTERS, sign_opening(recovery_key(), GATEWAY, close(ROSTERS, ended)), ended)
