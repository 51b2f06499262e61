import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import ConfigError, VerificationError
from gateway.ledger.policy import (
    SPREAD_LIMIT,
    default_policy,
    describe,
    faults,
    is_met,
    parse_policy,
    require,
    smallest,
)
from gateway.model import NOBODY, Member, Policy
from tests.builders import flat, member

HOSPITAL = Policy(threshold=2, of=("st-anna-1", "st-anna-2", "st-anna-3"))
POLICY = Policy(threshold=3, of=(HOSPITAL, "lab", "patients", "regulator"))


def members(**organisations: int) -> list[Member]:
    """Give peers: so many of each organisation, numbered where there are several."""
    return [
        replace(member(name if count == 1 else f"{name}-{number}"), organisation=name)
        for name, count in organisations.items()
        for number in range(1, count + 1)
    ]


PEERS = members(**{"st-anna": 3, "lab": 1, "patients": 1, "regulator": 1})


@st.composite
def ledgers(draw: st.DrawFn) -> tuple[Policy, list[Member]]:
    """Give up to seven peers of up to four organisations, and any policy over them."""
    owners = draw(st.lists(st.sampled_from("abcd"), min_size=1, max_size=7))
    peers = [replace(member(f"{owner}-{at}"), organisation=owner) for at, owner in enumerate(owners)]

    def policy_over(names: Sequence[str], levels: int) -> Policy:
        parts: list[str | Policy] = []
        rest = list(names)
        while rest:
            size = draw(st.integers(1, len(rest)))
            some, rest = rest[:size], rest[size:]
            parts += [policy_over(some, levels - 1)] if levels and draw(st.booleans()) else some
        return Policy(threshold=draw(st.integers(1, len(parts))), of=tuple(parts))

    names = draw(st.permutations([peer.id for peer in peers]))
    return policy_over(names, draw(st.integers(0, 2))), peers


def subsets(items: Sequence[str]) -> list[frozenset[str]]:
    return [frozenset(some) for size in range(len(items) + 1) for some in combinations(items, size)]


def fewest_that_fork(policy: Policy, peers: Sequence[Member]) -> int:
    """Go through all pairs of quorums: how few organisations hold every peer that the two share."""
    quorums = [voters for voters in subsets([peer.id for peer in peers]) if is_met(policy, voters)]
    owners = {peer.id: peer.organisation for peer in peers}
    return min(len({owners[name] for name in one & other}) for one in quorums for other in quorums)


def fewest_that_halt(policy: Policy, peers: Sequence[Member]) -> int:
    """Go through all sets of organisations: how few leave no quorum when they are silent."""
    return min(
        len(silent)
        for silent in subsets(sorted({peer.organisation for peer in peers}))
        if not is_met(policy, [peer.id for peer in peers if peer.organisation not in silent])
    )


@given(ledgers())
@settings(max_examples=150, deadline=None)
def test_faults_are_what_going_through_all_votes_finds(ledger: tuple[Policy, list[Member]]) -> None:
    """Whatever the groups, and wherever an organisation's peers stand, safety and liveness are exact."""
    policy, peers = ledger
    assert faults(policy, peers) == (fewest_that_fork(policy, peers) - 1, fewest_that_halt(policy, peers) - 1)


@given(ledgers())
@settings(max_examples=150, deadline=None)
def test_no_fewer_peers_than_the_smallest_meet_it(ledger: tuple[Policy, list[Member]]) -> None:
    """So many peers can meet it, one fewer never do."""
    policy, peers = ledger
    assert smallest(policy) == min(len(some) for some in subsets([peer.id for peer in peers]) if is_met(policy, some))


@given(st.lists(st.integers(1, 3), min_size=1, max_size=12))
@settings(deadline=None)
def test_by_default_a_third_less_one_of_the_organisations_may_fail_in_either_way(sizes: list[int]) -> None:
    """Dishonest or silent, f = floor((n - 1) / 3) organisations are borne, however many peers each of them runs."""
    peers = members(**{f"organisation{at}": size for at, size in enumerate(sizes)})
    needed, count = 2 * len(sizes) // 3 + 1, len(sizes)
    assert default_policy(peers).threshold == needed
    assert faults(default_policy(peers), peers) == (2 * needed - count - 1, count - needed)
    assert min(faults(default_policy(peers), peers)) >= (count - 1) // 3


@pytest.mark.parametrize(("count", "needed"), [(1, 1), (2, 2), (3, 3), (4, 3), (5, 4), (6, 5), (7, 5), (10, 7)])
def test_by_default_two_thirds_and_one_are_needed(count: int, needed: int) -> None:
    """floor(2n / 3) + 1 of n organisations with a peer each."""
    peers = [member(f"peer-{number}") for number in range(count)]
    assert default_policy(peers) == flat(needed, peers)


def test_by_default_an_organisation_counts_once() -> None:
    """A hospital with three peers is one of four, by two of its three."""
    assert default_policy(PEERS) == POLICY
    assert default_policy([]) == NOBODY
    assert is_met(POLICY, ["st-anna-1", "st-anna-3", "lab", "patients"])
    assert not is_met(POLICY, ["st-anna-1", "st-anna-2", "st-anna-3", "lab"])
    assert not is_met(POLICY, ["st-anna-1", "lab", "patients"])


def test_any_one_of_an_organisations_peers_is_too_few() -> None:
    """Two honest peers of a hospital that hear different histories would let it speak for both."""
    lax = Policy(threshold=3, of=(Policy(threshold=1, of=HOSPITAL.of), "lab", "patients", "regulator"))
    assert faults(POLICY, PEERS) == (1, 1)
    assert faults(lax, PEERS) == (0, 1)
    assert faults(Policy(threshold=1, of=lax.of[:1]), PEERS) == (-1, 0)


def test_peers_of_one_organisation_are_one_fault() -> None:
    """Any five of the six peers share four, more than the hospital has; any four share two, which may both be its."""
    assert faults(flat(5, PEERS), PEERS) == (1, 0)
    assert faults(flat(4, PEERS), PEERS) == (0, 0)


def test_half_of_the_peers_bear_nothing() -> None:
    """Where two quorums need not share a peer, not even honest ones leave one history."""
    peers = [member(f"peer-{number}") for number in range(4)]
    assert faults(flat(2, peers), peers) == (-1, 2)
    assert faults(NOBODY, []) == (0, 0)


def test_faults_of_many_organisations_in_many_groups_are_not_guessed() -> None:
    """Past the limit a policy is refused, and says so."""
    names = [f"o{number}" for number in range(SPREAD_LIMIT + 1)]
    peers = members(**dict.fromkeys(names, 2))
    sides = [Policy(threshold=8, of=tuple(f"{name}-{side}" for name in names)) for side in (1, 2)]
    with pytest.raises(VerificationError, match="has 11 organisations in several groups, over 10"):
        faults(Policy(threshold=2, of=tuple(sides)), peers)


@pytest.mark.parametrize(
    ("voted", "reason"),
    [
        ([], "0 of 4 have voted, 3 are needed; 0 of (st-anna-1, st-anna-2, st-anna-3) have voted, 2 are needed"),
        (["st-anna-1", "st-anna-2", "lab"], "2 of 4 have voted, 3 are needed"),
        (
            ["st-anna-1", "lab", "regulator", "mallory"],
            "2 of 4 have voted, 3 are needed; 1 of (st-anna-1, st-anna-2, st-anna-3) have voted, 2 are needed",
        ),
    ],
)
def test_what_is_missing_is_said(voted: list[str], reason: str) -> None:
    """How many there are and are needed, and which groups lack what; strangers count for nothing."""
    with pytest.raises(VerificationError, match=f"^{re.escape(reason)}$"):
        require(POLICY, voted)


def test_what_is_missing_is_said_of_groups_in_groups() -> None:
    """Every group that lacks something is named by its members."""
    policy = Policy(threshold=1, of=(Policy(threshold=2, of=(HOSPITAL, "clinic")),))
    reason = (
        "0 of 1 have cosigned, 1 is needed; 1 of ((2 of st-anna-1, st-anna-2, st-anna-3), clinic) have cosigned, "
        "2 are needed; 0 of (st-anna-1, st-anna-2, st-anna-3) have cosigned, 2 are needed"
    )
    with pytest.raises(VerificationError, match=f"^{re.escape(reason)}$"):
        require(policy, ["clinic"], "cosigned")


def test_enough_is_enough() -> None:
    """Enough in any order, and more than enough, with strangers among them."""
    require(POLICY, iter(["regulator", "mallory", "patients", "lab"]))
    require(POLICY, [peer.id for peer in PEERS])


def test_a_policy_is_read_as_people_say_it() -> None:
    """Groups stand in parentheses; a ledger without peers has none."""
    assert describe(POLICY) == "3 of (2 of st-anna-1, st-anna-2, st-anna-3), lab, patients, regulator"
    assert describe(flat(1, PEERS[3:])) == "1 of lab, patients, regulator"
    assert describe(NOBODY) == "no peers yet"
    assert (smallest(POLICY), smallest(NOBODY)) == (3, 0)


# -- as people write it


@settings(deadline=None)
@given(ledgers())
def test_policy_is_read_as_it_is_described(ledger: tuple[Policy, list[Member]]) -> None:
    """What is shown of a policy can be typed, spaces or none."""
    policy, _ = ledger
    text = describe(policy)
    assert parse_policy(text) == policy
    assert parse_policy(text.replace(", ", " ,\n").replace("(", " ( ").replace(")", " ) ")) == policy


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "the end in the place of a number"),
        ("lab", "'lab' in the place of a number"),
        ("-1 of a", "'-1' in the place of a number"),
        ("\u0662 of a, b", "in the place of a number"),
        ("2", "the end in the place of 'of'"),
        ("2 von a, b", "'von' in the place of 'of'"),
        ("1 of", "the end in the place of a peer's name"),
        ("1 of a,", "the end in the place of a peer's name"),
        ("1 of a,, b", "',' in the place of a peer's name"),
        ("1 of a/b", "'a/b' in the place of a peer's name"),
        ("1 of a b", "'b' in the place of a comma"),
        ("1 of a)", r"'\)' in the place of a comma"),
        ("1 of (1 of a", r"the end in the place of '\)'"),
        ("1 of (a, b)", "'a' in the place of a number"),
        ("0 of a", "0 of 1 is no policy"),
        ("3 of a, b", "3 of 2 is no policy"),
        ("2 of a, a", "stands twice in the policy"),
        ("1 of (1 of (1 of (1 of (1 of a))))", "4 levels at the most"),
        ("1 of (" * 5000, "4 levels at the most"),
        ("9" * 5000 + " of a", "the policy"),
    ],
)
def test_text_that_is_no_policy_is_explained(text: str, reason: str) -> None:
    """What stands where something else should, is said, with an example of what is allowed."""
    with pytest.raises(ConfigError, match=reason) as caught:
        parse_policy(text)
    assert "; allowed: such as '2 of lab, (2 of a-1, a-2, a-3)'" in str(caught.value)
    assert len(str(caught.value)) < 500
