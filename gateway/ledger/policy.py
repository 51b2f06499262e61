"""Whose votes are enough: any k of some, where each is a peer or again any k of some.

    2 of (2 of st-anna-1, st-anna-2, st-anna-3), lab, regulator

The shape is that of the groups of c2sp.org/tlog-policy. By default an organisation counts once, however many peers it
runs: n organisations bear f = floor((n - 1) / 3) dishonest ones where floor(2n / 3) + 1 of them are needed, for any
two quorums share an honest one. One with several peers has spoken when more than half of them have. Any one of three
would be unsafe: an honest peer votes for one history, but two honest peers of a hospital that hear different histories
would let it speak for both, and two quorums that share that hospital alone would share no peer.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from itertools import combinations

from gateway.errors import VerificationError
from gateway.model import NOBODY, Member, Policy

SPREAD_LIMIT = 10
"""Organisations with peers in more than one group, of which each subset is gone through to count the faults."""

Sides = tuple[int, int]
"""How many votes two histories have, one beside the other."""


def is_met(policy: Policy, names: Iterable[str]) -> bool:
    """Say whether these voters are enough; whom the policy does not name counts for nothing."""
    return _is_met(policy, frozenset(names))


def require(policy: Policy, names: Iterable[str], done: str = "voted") -> None:
    """Check that these are enough; `done` says what they have done.

    Raises: VerificationError that says how many are missing, and in which groups.
    """
    voted = frozenset(names)
    if not _is_met(policy, voted):
        raise VerificationError("; ".join(_lacks(policy, voted, done)))


def default_policy(peers: Iterable[Member]) -> Policy:
    """Give two thirds and one of the organisations, each by its one peer or by more than half of its peers."""
    organisations: dict[str, list[str]] = {}
    for member in peers:
        organisations.setdefault(member.organisation, []).append(member.id)
    parts = tuple(
        names[0] if len(names) == 1 else Policy(threshold=len(names) // 2 + 1, of=tuple(names))
        for names in organisations.values()
    )
    return Policy(threshold=2 * len(parts) // 3 + 1, of=parts)


def smallest(policy: Policy) -> int:
    """Give the least number of peers that can meet it; 0 where there are none."""
    sizes = sorted(1 if isinstance(part, str) else smallest(part) for part in policy.of)
    return sum(sizes[: policy.threshold])


def describe(policy: Policy) -> str:
    """Give it as people read it."""
    if policy == NOBODY:
        return "no peers yet"
    parts = [part if isinstance(part, str) else f"({describe(part)})" for part in policy.of]
    return f"{policy.threshold} of {', '.join(parts)}"


def faults(policy: Policy, peers: Iterable[Member]) -> tuple[int, int]:
    """Give safety and liveness: how many dishonest organisations leave one history, how many silent ones let it go on.

    The peers of a dishonest organisation vote for both of two histories, an honest one's each for one of them, as
    chance has it. Safety is -1 where all are honest and two histories can be final all the same.

    Raises: VerificationError if more than `SPREAD_LIMIT` organisations have peers in more than one group.
    """
    if policy == NOBODY:
        return 0, 0
    organisations = {member.id: member.organisation for member in peers}
    forking = _fewest(policy, organisations, lambda count: [(votes, count - votes) for votes in range(count + 1)])
    halting = _fewest(_blocking(policy), organisations, lambda _: [(0, 0)])
    return forking - 1, halting - 1


def _is_met(policy: Policy, voted: AbstractSet[str]) -> bool:
    return _count(policy, voted) >= policy.threshold


def _count(policy: Policy, voted: AbstractSet[str]) -> int:
    return sum(part in voted if isinstance(part, str) else _is_met(part, voted) for part in policy.of)


def _lacks(policy: Policy, voted: AbstractSet[str], done: str, group: str = "") -> Iterator[str]:
    needed = f"{policy.threshold} {'is' if policy.threshold == 1 else 'are'} needed"
    yield f"{_count(policy, voted)} of {group or len(policy.of)} have {done}, {needed}"
    for part in policy.of:
        if not isinstance(part, str) and not _is_met(part, voted):
            names = [inner if isinstance(inner, str) else f"({describe(inner)})" for inner in part.of]
            yield from _lacks(part, voted, done, f"({', '.join(names)})")


# -- how many faults


def _blocking(policy: Policy) -> Policy:
    """Give the policy that those meet without whom this one cannot be met."""
    parts = tuple(part if isinstance(part, str) else _blocking(part) for part in policy.of)
    return Policy(threshold=len(parts) - policy.threshold + 1, of=parts)


def _fewest(policy: Policy, organisations: Mapping[str, str], honest: Callable[[int], Sequence[Sides]]) -> int:
    """Give the fewest organisations at fault with which both sides meet the policy.

    One at fault votes with all of its peers on both sides; `honest` gives how so many peers of another may vote. An
    organisation whose peers are all in one group is counted there; those that are spread are gone through.
    """
    groups = [organisation for group in _groups(policy, organisations) for organisation in group]
    spread = sorted({organisation for organisation in groups if groups.count(organisation) > 1})
    if len(spread) > SPREAD_LIMIT:
        raise VerificationError(f"the policy has {len(spread)} organisations in several groups, over {SPREAD_LIMIT}")

    def votes(organisation: str, count: int, faulty: AbstractSet[str]) -> dict[Sides, int]:
        if organisation in faulty:
            return {(count, count): 0}
        fair = dict.fromkeys(honest(count), 0)
        return fair if organisation in spread else {(count, count): 1, **fair}

    def reached(group: Policy, faulty: AbstractSet[str]) -> dict[Sides, int]:
        sides = {(0, 0): 0}
        for organisation, count in _direct(group, organisations).items():
            sides = _added(sides, votes(organisation, count, faulty), group.threshold)
        for part in group.of:
            if not isinstance(part, str):
                sides = _added(sides, reached(part, faulty), group.threshold)
        return _won(sides, group.threshold)

    subsets = [frozenset(some) for size in range(len(spread) + 1) for some in combinations(spread, size)]
    found = [reached(policy, faulty).get((1, 1)) for faulty in subsets]
    return min(len(faulty) + more for faulty, more in zip(subsets, found, strict=True) if more is not None)


def _direct(group: Policy, organisations: Mapping[str, str]) -> dict[str, int]:
    """Give how many peers of which organisations stand in the group itself."""
    counts: dict[str, int] = {}
    for part in group.of:
        if isinstance(part, str):
            counts[organisations[part]] = counts.get(organisations[part], 0) + 1
    return counts


def _groups(policy: Policy, organisations: Mapping[str, str]) -> Iterator[dict[str, int]]:
    yield _direct(policy, organisations)
    for part in policy.of:
        if not isinstance(part, str):
            yield from _groups(part, organisations)


def _added(sides: Mapping[Sides, int], more: Mapping[Sides, int], limit: int) -> dict[Sides, int]:
    """Give the sums of two lots of votes, none counted beyond the limit, each with the fewest faults that it takes."""
    sums: dict[Sides, int] = {}
    for (one, other), faulty in sides.items():
        for (one_more, other_more), faulty_more in more.items():
            place = min(one + one_more, limit), min(other + other_more, limit)
            sums[place] = min(faulty + faulty_more, sums.get(place, faulty + faulty_more))
    return sums


def _won(sides: Mapping[Sides, int], threshold: int) -> dict[Sides, int]:
    won: dict[Sides, int] = {}
    for (one, other), faulty in sides.items():
        place = int(one >= threshold), int(other >= threshold)
        won[place] = min(faulty, won.get(place, faulty))
    return won
