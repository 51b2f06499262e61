"""Whose votes are enough: any k of some, where each is a peer or again any k of some.

    2 of (2 of st-anna-1, st-anna-2, st-anna-3), lab, regulator        ; as people write and read it

    policy = [threshold, [+ (peer's id / policy)]]       ; 4 levels at the most, each peer once; null: no peers yet

The shape is that of the groups of c2sp.org/tlog-policy. By default an organisation counts once, however many peers it
runs: n organisations bear f = floor((n - 1) / 3) dishonest ones where floor(2n / 3) + 1 of them are needed, for any
two quorums share an honest one. One with several peers has spoken when more than half of them have. Any one of three
would be unsafe: an honest peer votes for one history, but two honest peers of a hospital that hear different histories
would let it speak for both, and two quorums that share that hospital alone would share no peer.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from itertools import combinations

from gateway.canonical import natural, typed
from gateway.errors import ConfigError, VerificationError
from gateway.model import NOBODY, Member, Policy
from gateway.toml import is_name

LEVELS = 4
SPREAD_LIMIT = 10
"""Organisations with peers in more than one group, of which each subset is gone through to count the faults."""

Sides = tuple[int, int]
"""How many votes two histories have, one beside the other."""


def policy_items(policy: Policy) -> list[object] | None:
    """Give a policy as CBOR and JSON have it: [threshold, [peers and policies]], or null for one without peers."""
    if policy == NOBODY:
        return None
    return [policy.threshold, [part if isinstance(part, str) else policy_items(part) for part in policy.of]]


def read_policy(items: object) -> Policy:
    """Read a policy of a decoded roster, or of JSON.

    Raises: TypeError or ValueError if it is of another form, can never be met or always is, or names a peer twice.
    """
    policy = NOBODY if items is None else _policy(items, LEVELS)
    if len(set(policy.peers)) != len(policy.peers):
        raise ValueError("a peer stands twice in the policy")
    return policy


def parse_policy(text: str) -> Policy:
    """Read a policy as `describe` gives it.

    Raises: ConfigError that says where it is not of that form.
    """
    words = _Words(text)
    try:
        items = words.policy(LEVELS)
        words.end()
        return read_policy(items)
    except ValueError as error:
        example = "2 of lab, (2 of a-1, a-2, a-3)"
        raise ConfigError(f"the policy {text[:80]!r}: {error}; allowed: such as {example!r}") from error


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


def _policy(items: object, levels: int) -> Policy:
    if not levels:
        raise ValueError(f"a policy has {LEVELS} levels at the most")
    threshold, of = typed(list, items)
    parts = tuple(_policy(part, levels - 1) if isinstance(part, list) else typed(str, part) for part in typed(list, of))
    if not 1 <= natural(threshold) <= len(parts):
        raise ValueError(f"{threshold} of {len(parts)} is no policy")
    return Policy(threshold=threshold, of=parts)


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


class _Words:
    """The words of a policy's text, taken one by one."""

    def __init__(self, text: str) -> None:
        self._words = [*re.findall(r"[(),]|[^(),\s]+", text), ""]

    def policy(self, levels: int) -> list[object]:
        if not levels:
            raise ValueError(f"a policy has {LEVELS} levels at the most")
        threshold = self._words.pop(0)
        if not (threshold.isascii() and threshold.isdigit() and len(threshold) < 5):
            raise ValueError(f"{_found(threshold)} in the place of a number")
        self._take("of")
        parts = [self._part(levels)]
        while self._words[0] == ",":
            self._words.pop(0)
            parts.append(self._part(levels))
        return [int(threshold), parts]

    def end(self) -> None:
        if self._words[0]:
            raise ValueError(f"{_found(self._words[0])} in the place of a comma")

    def _part(self, levels: int) -> object:
        word = self._words.pop(0)
        if word == "(":
            inner = self.policy(levels - 1)
            self._take(")")
            return inner
        if not is_name(word):
            raise ValueError(f"{_found(word)} in the place of a peer's name")
        return word

    def _take(self, wanted: str) -> None:
        word = self._words.pop(0)
        if word != wanted:
            raise ValueError(f"{_found(word)} in the place of {wanted!r}")


def _found(word: str) -> str:
    return repr(word[:80]) if word else "the end"


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
