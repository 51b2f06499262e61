from collections.abc import Callable
from dataclasses import replace

import pytest

from gateway.errors import ConfigError
from gateway.ledger.changes import (
    Change,
    Kind,
    admitted,
    changes,
    post_quantum,
    rekeyed,
    retired,
    with_administrators,
    with_policy,
)
from gateway.model import NOBODY, Member, Policy, Roster
from tests.builders import CHAIN, GATEWAY, flat, key_of, make_roster, member, signed_again

ROSTER = make_roster()
WITH_RECOVERY = replace(ROSTER, gateways=(replace(member(GATEWAY, CHAIN), recovery_key=b"r" * 32),))


def again(name: str, chain: str | None = None) -> Member:
    """Give a member with a key of the second generation."""
    return replace(
        member(name, chain),
        public_key=key_of(name, 2).public_key,
        second_key=name[:1].encode() * (32 if chain else 1312),
    )


def with_second_keys(members: tuple[Member, ...]) -> tuple[Member, ...]:
    return tuple(
        replace(each, second_key=bytes([number]) * (32 if each.chain else 1312)) for number, each in enumerate(members)
    )


# -- who joins and leaves


def test_new_peers_begin_an_epoch_and_set_the_policy() -> None:
    """Votes of before are of an older epoch, and the policy is that of all peers together."""
    newcomers = [member("peer-4"), member("peer-5"), member("peer-6")]
    after = signed_again(admitted(ROSTER, newcomers, []))
    assert (after.version, after.epoch, after.policy) == (2, 2, flat(5, after.peers))
    assert after.peers == (*ROSTER.peers, *newcomers)


def test_new_gateways_leave_epoch_and_policy() -> None:
    """A gateway that joins changes nothing for the others' votes."""
    newcomer = member("ward-4", "ward-4.00000000")
    after = signed_again(admitted(ROSTER, [], [newcomer]))
    assert (after.version, after.epoch, after.policy) == (2, ROSTER.epoch, ROSTER.policy)
    assert after.gateways == (*ROSTER.gateways, newcomer)


def test_those_who_leave_begin_an_epoch() -> None:
    """The default policy becomes that of the peers who stay; without any left there is none."""
    after = signed_again(retired(ROSTER, ["peer-1", GATEWAY]))
    assert (after.version, after.epoch, after.gateways) == (2, 2, ())
    assert after.policy == flat(3, after.peers)
    assert [each.id for each in after.peers] == ["peer-0", "peer-2", "peer-3"]
    assert retired(ROSTER, [each.id for each in ROSTER.peers]).policy == NOBODY


def test_retired_gateway_leaves_the_policy() -> None:
    """It begins an epoch, too: its chain ends there."""
    custom = replace(ROSTER, policy=flat(4, ROSTER.peers))
    after = signed_again(retired(custom, [GATEWAY]))
    assert (after.epoch, after.policy, after.gateways) == (2, custom.policy, ())


def test_policy_that_people_wrote_is_not_replaced_unasked() -> None:
    """Whoever joins or leaves under another policy than the default one needs the next one said."""
    custom = replace(ROSTER, policy=flat(4, ROSTER.peers))
    given = flat(2, ROSTER.peers[1:])
    with pytest.raises(ConfigError, match=r"not the default one but 4 of peer-0, .*--policy"):
        admitted(custom, [member("lab")], [])
    with pytest.raises(ConfigError, match=r"not the default one but 4 of peer-0, .*--policy"):
        retired(custom, ["peer-0"])
    assert admitted(custom, [member("lab")], [], given).policy == given
    assert retired(custom, ["peer-0"], given).policy == given


# -- keys


def test_rekeyed_peer_has_new_keys_alone() -> None:
    """Its name and owner stay as they are on the roster, and its place, too."""
    after = signed_again(rekeyed(ROSTER, replace(again("peer-1"), organisation="mallory")))
    assert (after.version, after.epoch, after.policy) == (2, 2, ROSTER.policy)
    assert after.peers == (
        ROSTER.peers[0],
        replace(again("peer-1"), organisation="peer-1.example"),
        *ROSTER.peers[2:],
    )


def test_rekeyed_gateway_keeps_its_former_keys() -> None:
    """What it signed in its chain stays its own; its recovery key stays unless the card has another one."""
    after = signed_again(rekeyed(WITH_RECOVERY, again(GATEWAY, CHAIN)))
    (gateway,) = after.gateways
    assert (gateway.former_keys, gateway.recovery_key) == ((key_of(GATEWAY).public_key,), b"r" * 32)
    third = replace(again(GATEWAY, CHAIN), public_key=key_of(GATEWAY, 3).public_key, recovery_key=b"s" * 32)
    (gateway,) = signed_again(rekeyed(after, third)).gateways
    assert gateway.former_keys == (key_of(GATEWAY).public_key, key_of(GATEWAY, 2).public_key)
    assert gateway.recovery_key == b"s" * 32


# -- policy, administrators, post-quantum


def test_policy_begins_an_epoch() -> None:
    """Whose votes are needed changes for the blocks of a new epoch alone."""
    after = signed_again(with_policy(ROSTER, flat(4, ROSTER.peers)))
    assert (after.version, after.epoch, after.policy) == (2, 2, flat(4, ROSTER.peers))


def test_administrators_change_within_an_epoch() -> None:
    """Who signs rosters touches nobody's votes; the ledger keeps its name."""
    administrators = (*ROSTER.administrators, member("bob"))
    after = with_administrators(ROSTER, administrators, 2)
    assert (after.version, after.epoch, after.ledger) == (2, ROSTER.epoch, ROSTER.ledger)
    assert (after.administrators, after.threshold) == (administrators, 2)


def test_post_quantum_begins_an_epoch() -> None:
    """Once everyone has an ML-DSA-44 key, all that is said from then on needs it."""
    ready = replace(
        ROSTER,
        peers=with_second_keys(ROSTER.peers),
        gateways=with_second_keys(ROSTER.gateways),
        administrators=with_second_keys(ROSTER.administrators),
    )
    after = post_quantum(ready)
    assert (after.version, after.epoch, after.post_quantum) == (2, 2, True)
    with pytest.raises(ConfigError, match="post-quantum already"):
        post_quantum(after)


# -- refusals

REFUSED: list[tuple[str, Callable[[], Roster]]] = [
    ("peer-0 is on the roster already", lambda: admitted(ROSTER, [again("peer-0")], [])),
    ("ward-3 is on the roster already", lambda: admitted(ROSTER, [member(GATEWAY)], [])),
    ("lab is on the roster already", lambda: admitted(ROSTER, [member("lab"), again("lab")], [])),
    ("another gateway writes chain", lambda: admitted(ROSTER, [], [member("ward-4", CHAIN)])),
    ("key on the card is peer-0's", lambda: admitted(ROSTER, [replace(member("peer-0"), id="x")], [])),
    ("key on the card is admin's", lambda: admitted(ROSTER, [replace(member("admin"), id="x")], [])),
    ("goes with new peers", lambda: admitted(ROSTER, [], [member("w", "w.0")], flat(4, ROSTER.peers))),
    (
        "key on the card is ward-3's",
        lambda: admitted(WITH_RECOVERY, [], [replace(member("w", "w.0"), recovery_key=b"r" * 32)]),
    ),
    (
        "key on the card is ward-3's",
        lambda: admitted(rekeyed(ROSTER, again(GATEWAY, CHAIN)), [replace(member(GATEWAY), id="x")], []),
    ),
    ("lab, x: no peer and no gateway", lambda: retired(ROSTER, ["x", "peer-0", "lab"])),
    ("goes with peers that leave", lambda: retired(ROSTER, [GATEWAY], flat(4, ROSTER.peers))),
    ("lab: no peer on the roster", lambda: rekeyed(ROSTER, again("lab"))),
    ("ward-4: no gateway on the roster", lambda: rekeyed(ROSTER, again("ward-4", CHAIN))),
    ("ward-3: no peer on the roster", lambda: rekeyed(ROSTER, again(GATEWAY))),
    ("writes chain ward-3.1f0a9c21 on the roster, other", lambda: rekeyed(ROSTER, again(GATEWAY, "other"))),
    ("has, or had, that very key", lambda: rekeyed(ROSTER, member("peer-0"))),
    (
        "has, or had, that very key",
        lambda: rekeyed(rekeyed(ROSTER, again(GATEWAY, CHAIN)), member(GATEWAY, CHAIN)),
    ),
    ("key on the card is peer-1's", lambda: rekeyed(ROSTER, replace(member("peer-1"), id="peer-0"))),
    ("the policy is 3 of peer-0, .* already", lambda: with_policy(ROSTER, ROSTER.policy)),
    ("0 of 1 administrators; allowed: 1 to 1", lambda: with_administrators(ROSTER, ROSTER.administrators, 0)),
    ("2 of 1 administrators", lambda: with_administrators(ROSTER, ROSTER.administrators, 2)),
    ("the administrators already", lambda: with_administrators(ROSTER, ROSTER.administrators, 1)),
    ("named twice", lambda: with_administrators(ROSTER, ROSTER.administrators * 2, 1)),
    ("two have one key", lambda: with_administrators(ROSTER, [member("a"), replace(member("a"), id="b")], 1)),
    ("peer-0, .*admin: no ML-DSA-44 key", lambda: post_quantum(ROSTER)),
]


@pytest.mark.parametrize(("reason", "change"), REFUSED)
def test_change_that_cannot_be_is_refused(reason: str, change: Callable[[], Roster]) -> None:
    """Names that are unknown or taken, keys that are used already, changes of nothing: the error says which."""
    with pytest.raises(ConfigError, match=reason):
        change()


# -- what becomes of whom


def test_changes_between_versions_are_named() -> None:
    """Who joins, leaves, has new keys, or anything else that is another one: of one who stays, each field."""
    before = WITH_RECOVERY
    after = replace(
        rekeyed(before, again(GATEWAY, CHAIN)),
        peers=(replace(before.peers[0], organisation="x"), *before.peers[1:3], member("lab")),
        administrators=(again("admin"), member("bob")),
    )
    found = list(changes(before, after))
    assert [(each.kind, each.role, each.member.id) for each in found] == [
        (Kind.RETIRED, "peer", "peer-3"),
        (Kind.CHANGED, "peer", "peer-0"),
        (Kind.ADMITTED, "peer", "lab"),
        (Kind.REKEYED, "gateway", GATEWAY),
        (Kind.REKEYED, "admin", "admin"),
        (Kind.ADMITTED, "admin", "bob"),
    ]
    assert found[1].fields == (("organisation", "peer-0.example", "x"),)
    assert [name for name, _, _ in found[3].fields] == ["public_key", "second_key", "former_keys"]
    assert found[2] == Change(Kind.ADMITTED, "peer", member("lab"))
    assert list(changes(before, before)) == []


def test_policy_of_groups_counts_as_given() -> None:
    """A policy with groups is one that people wrote, though it may name the same peers."""
    groups = Policy(threshold=2, of=(Policy(threshold=2, of=("peer-0", "peer-1")), "peer-2", "peer-3"))
    with pytest.raises(ConfigError, match="--policy"):
        retired(replace(ROSTER, policy=groups), ["peer-3"])
