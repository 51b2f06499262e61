"""A ledger in several epochs: everyone has both keys, an epoch may be post-quantum, a gateway may have a new key."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache

from gateway import merkle, signing
from gateway.ledger.receipt import make_receipts
from gateway.ledger.roster import ledger_name, sign_version
from gateway.ledger.rosters import Rosters, open_rosters
from gateway.ledger.voting import cast_vote
from gateway.model import Member, Roster
from tests.builders import CHAIN, GATEWAY, MASTER, VOTED_S, Chain, key_of, make_roster, member

PEERS = ("peer-0", "peer-1", "peer-2", "peer-3")
Change = Callable[[Roster], Roster]


@cache
def both_keys_of(name: str) -> signing.Keys:
    """Give the test keys of that name, with which blobs are signed in a post-quantum epoch."""
    return signing.Keys(key_of(name), signing.derive_second_key(MASTER, "test", name))


def full_member(name: str, chain: str | None = None) -> Member:
    """Give a member of the roster with both keys."""
    second = both_keys_of(name).second
    assert second is not None
    key = second.public_key if chain is None else hashlib.sha256(second.public_key).digest()
    return replace(member(name, chain), second_key=key)


def epochs(*changes: Change) -> Rosters:
    """Give a roster of epoch 1, plain, with four peers and one gateway, and behind it one more epoch by each change."""
    administrators = (full_member("admin"),)
    first = replace(
        make_roster(),
        ledger=ledger_name(administrators),
        administrators=administrators,
        peers=tuple(full_member(name) for name in PEERS),
        gateways=(full_member(GATEWAY, CHAIN),),
        signed=b"",
    )
    admin = {"admin": both_keys_of("admin")}
    rosters = open_rosters(Rosters((replace(first, signed=sign_version(first, admin)),)).encode())
    for change in changes:
        current = rosters.current
        after = change(replace(current, version=current.version + 1, epoch=current.epoch + 1, signed=b""))
        rosters = rosters.followed_by(sign_version(after, admin))
    return rosters


def post_quantum(roster: Roster) -> Roster:
    """Change a roster so that every vote carries a second signature."""
    return replace(roster, post_quantum=True)


def plain(roster: Roster) -> Roster:
    """Change a roster so that votes carry one signature."""
    return replace(roster, post_quantum=False)


def receipts_of(chain: Chain, index: int, peers: Sequence[str] = PEERS, *, epoch: int, second: bool) -> list[bytes]:
    """Give the receipts of a leaf by these peers in an epoch, with second signatures or without."""
    block = chain.block_of(index)
    path = merkle.inclusion_path(chain.hashes(0, block.size), index)
    receipts = []
    for name in peers:
        keys = both_keys_of(name) if second else signing.Keys(key_of(name))
        receipts += make_receipts(cast_vote(keys, name, epoch, block, VOTED_S), index, block.size, path)
    return receipts
