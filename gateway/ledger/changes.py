"""What administrators may change: each function gives the roster's next version, yet to be signed.

    admitted        peers and gateways join            a new epoch if a peer does
    retired         peers and gateways leave           a new epoch
    rekeyed         one has new keys                   a new epoch
    with_policy     whose votes make a block final     a new epoch
    post_quantum    two signatures on everything       a new epoch
    with_administrators                                the same epoch: nobody's votes are touched

Who joins or leaves changes the default policy; another policy stays as people wrote it until they write the next one.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from enum import StrEnum

from gateway.errors import ConfigError
from gateway.ledger.policy import default_policy, describe
from gateway.model import Member, Policy, Roster


class Kind(StrEnum):
    """What becomes of a member."""

    ADMITTED = "admitted"
    RETIRED = "retired"
    REKEYED = "re-keyed"
    CHANGED = "changed"


@dataclass(frozen=True, slots=True)
class Change:
    """What becomes of whom; of one who stays, each field that is another one: its name, as it was, as it will be."""

    kind: Kind
    role: str
    member: Member
    fields: tuple[tuple[str, object, object], ...] = ()


def changes(before: Roster, after: Roster) -> Iterator[Change]:
    """Give all that becomes of members between two versions: peers first, administrators last."""
    for role, old, new in (
        ("peer", before.peers, after.peers),
        ("gateway", before.gateways, after.gateways),
        ("admin", before.administrators, after.administrators),
    ):
        were, will_be = {member.id: member for member in old}, {member.id: member for member in new}
        yield from (Change(Kind.RETIRED, role, member) for member in old if member.id not in will_be)
        for member in new:
            if member.id not in were:
                yield Change(Kind.ADMITTED, role, member)
            elif differing := tuple(_differing(were[member.id], member)):
                is_rekeyed = any(name in {"public_key", "second_key"} for name, _, _ in differing)
                yield Change(Kind.REKEYED if is_rekeyed else Kind.CHANGED, role, member, differing)


def admitted(
    roster: Roster, peers: Sequence[Member], gateways: Sequence[Member], policy: Policy | None = None
) -> Roster:
    """Give the version with these members added; new peers begin a new epoch.

    Raises: ConfigError if a name, chain or key is taken already, or a policy has to be given.
    """
    known = [*roster.peers, *roster.gateways]
    for member in (*peers, *gateways):
        _require_new(roster, member, known)
        known.append(member)
    if not peers and policy is not None:
        raise ConfigError("a policy goes with new peers; iomt ledger policy sets it alone")
    everyone = (*roster.peers, *peers)
    after = replace(roster, peers=everyone, gateways=(*roster.gateways, *gateways))
    if not peers:
        return _next(after, epochs=0)
    return _next(replace(after, policy=_policy_of(roster, everyone, policy)))


def retired(roster: Roster, names: Iterable[str], policy: Policy | None = None) -> Roster:
    """Give the version without these peers and gateways.

    Raises: ConfigError if there is none of that name, or a policy has to be given.
    """
    leaving = set(names)
    unknown = leaving - {member.id for member in (*roster.peers, *roster.gateways)}
    if unknown:
        raise ConfigError(f"{', '.join(sorted(unknown))}: no peer and no gateway on the roster")
    peers = tuple(member for member in roster.peers if member.id not in leaving)
    gateways = tuple(member for member in roster.gateways if member.id not in leaving)
    if peers != roster.peers:
        policy = _policy_of(roster, peers, policy)
    elif policy is not None:
        raise ConfigError("a policy goes with peers that leave; iomt ledger policy sets it alone")
    return _next(replace(roster, peers=peers, gateways=gateways, policy=policy or roster.policy))


def rekeyed(roster: Roster, member: Member) -> Roster:
    """Give the version in which a peer or gateway of that name, and chain, has the new keys of its card.

    A gateway's key of before is kept among its former keys: what it signed in its chain stays its own.
    Raises: ConfigError if there is none of that name, or a key is taken already.
    """
    members = roster.peers if member.chain is None else roster.gateways
    what = "peer" if member.chain is None else "gateway"
    found = [known for known in members if known.id == member.id]
    if not found:
        raise ConfigError(f"{member.id}: no {what} on the roster has that name; iomt ledger admit takes new ones")
    (before,) = found
    if before.chain != member.chain:
        raise ConfigError(f"{member.id} writes chain {before.chain} on the roster, {member.chain} on the card")
    _require_new_keys(roster, member, [known for known in (*roster.peers, *roster.gateways) if known != before])
    if member.public_key in {before.public_key, *before.former_keys}:
        raise ConfigError(f"{member.id} has, or had, that very key on the roster; iomt rekey makes a new one")
    after = replace(
        before,
        public_key=member.public_key,
        second_key=member.second_key,
        recovery_key=member.recovery_key or before.recovery_key,
        former_keys=() if before.chain is None else (*before.former_keys, before.public_key),
    )
    peers = tuple(after if known is before else known for known in roster.peers)
    gateways = tuple(after if known is before else known for known in roster.gateways)
    return _next(replace(roster, peers=peers, gateways=gateways))


def with_policy(roster: Roster, policy: Policy) -> Roster:
    """Give the version with that policy.

    Raises: ConfigError if it is the one that there is.
    """
    if policy == roster.policy:
        raise ConfigError(f"the policy is {describe(policy)} already")
    return _next(replace(roster, policy=policy))


def with_administrators(roster: Roster, administrators: Sequence[Member], threshold: int) -> Roster:
    """Give the version whose next one so many of these sign; enough of those of before sign it, too.

    Raises: ConfigError if the threshold is none of theirs, one stands twice, or nothing changes.
    """
    if not 1 <= threshold <= len(administrators):
        raise ConfigError(f"{threshold} of {len(administrators)} administrators; allowed: 1 to {len(administrators)}")
    for values in ([each.id for each in administrators], [each.public_key for each in administrators]):
        if len(set(values)) != len(values):
            raise ConfigError("an administrator is named twice, or two have one key")
    after = replace(roster, administrators=tuple(administrators), threshold=threshold)
    if after == roster:
        raise ConfigError("they are the administrators already")
    return _next(after, epochs=0)


def post_quantum(roster: Roster) -> Roster:
    """Give the version from which on everything is signed with ML-DSA-44, too.

    Raises: ConfigError if that is so already, or a member has no such key.
    """
    if roster.post_quantum:
        raise ConfigError("the ledger is post-quantum already")
    members = (*roster.peers, *roster.gateways, *roster.administrators)
    without = [member.id for member in members if member.second_key is None]
    if without:
        raise ConfigError(f"{', '.join(without)}: no ML-DSA-44 key on the roster; iomt ledger rekey first")
    return _next(replace(roster, post_quantum=True))


def _differing(one: Member, other: Member) -> Iterator[tuple[str, object, object]]:
    for field in fields(Member):
        was, will_be = getattr(one, field.name), getattr(other, field.name)
        if was != will_be:
            yield field.name, was, will_be


def _next(roster: Roster, epochs: int = 1) -> Roster:
    return replace(roster, version=roster.version + 1, epoch=roster.epoch + epochs, signed=b"")


def _policy_of(roster: Roster, peers: Sequence[Member], policy: Policy | None) -> Policy:
    """Give the policy for other peers: the one given, or the default one where it has been that so far."""
    if policy is not None:
        return policy
    if roster.policy != default_policy(roster.peers):
        raise ConfigError(
            f"the policy is not the default one but {describe(roster.policy)}; give the next one with --policy"
        )
    return default_policy(peers)


def _require_new(roster: Roster, member: Member, known: Sequence[Member]) -> None:
    if member.id in {each.id for each in known}:
        raise ConfigError(f"{member.id} is on the roster already; iomt ledger rekey gives a member new keys")
    if member.chain is not None and member.chain in {each.chain for each in known}:
        raise ConfigError(f"{member.id}: another gateway writes chain {member.chain}")
    _require_new_keys(roster, member, known)


def _require_new_keys(roster: Roster, member: Member, known: Sequence[Member]) -> None:
    for other in (*known, *roster.administrators):
        keys = {other.public_key, other.second_key, other.recovery_key, *other.former_keys} - {None}
        if keys & {member.public_key, member.second_key, member.recovery_key}:
            raise ConfigError(f"{member.id}: a key on the card is {other.id}'s already")
