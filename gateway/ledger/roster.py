"""Who belongs to a ledger, as a file that its administrators signed.

    [ << roster >>, [ + COSE_Sign1 of an administrator over the roster, payload detached ] ]

Every administrator on the roster signs it. The ledger's name is the fingerprint of its administrators' keys, so a
roster of the same name is theirs. Its policy says whose votes make a block final (`ledger.policy`).
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from gateway import canonical, cbor, signing
from gateway.errors import VerificationError
from gateway.ledger.policy import default_policy, describe, faults
from gateway.model import NOBODY, Member, Roster
from gateway.toml import is_name


def ledger_name(administrators: Iterable[Member]) -> str:
    """Give the ledger's name: the fingerprint of the administrators' public keys."""
    return signing.fingerprint(*[member.public_key for member in administrators])


def sign_roster(roster: Roster, keys: Sequence[signing.Key]) -> bytes:
    """Give the roster's file, signed with these administrators' keys.

    Raises: VerificationError if the roster is not sound or a key is not an administrator's.
    """
    _check_members(roster)  # here, too: a member that stands twice also does so in the policy, and the cause is named
    payload = canonical.encode_roster(roster)
    signatures = []
    for key in keys:
        administrator = _by_kid(roster.administrators, key.kid)
        header = canonical.signer_header(canonical.ROSTER_TYPE, key.kid, administrator.id, roster.ledger)
        signatures.append(signing.sign(key, header, payload, detached=True))
    signed = cbor.encode([payload, signatures])
    open_roster(signed)
    return signed


def open_roster(data: bytes) -> Roster:
    """Check a roster's file and give the roster.

    Raises: VerificationError if it is damaged, unsound, or not signed by each of its administrators.
    """
    match cbor.decode(data):
        case [bytes(payload), [*signatures]]:
            roster = canonical.decode_roster(payload)
        case _:
            raise VerificationError("not a roster file")
    missing = {administrator.id for administrator in roster.administrators}
    for signature in signatures:
        message = signing.parse(signature)
        if message.header.get(canonical.CONTENT_TYPE) != canonical.ROSTER_TYPE or message.unprotected:
            raise VerificationError("not a roster's signature")
        administrator = _by_kid(roster.administrators, message.kid)
        signing.verify(message, administrator.public_key, detached=payload)
        missing.discard(administrator.id)
    if missing:
        raise VerificationError(f"the roster lacks the signature of {', '.join(sorted(missing))}")
    _check_members(roster)
    _check_policy(roster)
    return replace(roster, signed=data)


def peer(roster: Roster, name: str) -> Member:
    """Give the peer of that name.

    Raises: VerificationError if it is not on the roster.
    """
    return _named(roster.peers, name, "peer")


def gateway_of_chain(roster: Roster, chain: str) -> Member:
    """Give the gateway that writes the chain.

    Raises: VerificationError if none on the roster does.
    """
    for member in roster.gateways:
        if member.chain == chain:
            return member
    raise VerificationError(f"no gateway on the roster writes chain {chain!r}")


def admitted(roster: Roster, peers: Sequence[Member], gateways: Sequence[Member]) -> Roster:
    """Give the next version of the roster with these members added; new peers begin a new epoch and set the policy."""
    epoch = roster.epoch + bool(peers)
    everyone = (*roster.peers, *peers)
    return replace(
        roster,
        version=roster.version + 1,
        epoch=epoch,
        policy=default_policy(everyone) if peers else roster.policy,
        peers=everyone,
        gateways=(*roster.gateways, *gateways),
    )


def _check_members(roster: Roster) -> None:
    if not roster.administrators:
        raise VerificationError("the roster has no administrator")
    if roster.ledger != ledger_name(roster.administrators):
        raise VerificationError("the ledger's name is not the fingerprint of its administrators' keys")
    for members, what in ((roster.peers, "peer"), (roster.gateways, "gateway"), (roster.administrators, "admin")):
        for values in ([member.id for member in members], [member.public_key for member in members]):
            if len(set(values)) != len(values):
                raise VerificationError(f"a {what} stands twice on the roster")
    chains = [member.chain or "" for member in roster.gateways]
    if "" in chains or len(set(chains)) != len(chains):
        raise VerificationError("every gateway on the roster has a chain of its own")
    for name in (*chains, *[member.id for member in (*roster.peers, *roster.gateways, *roster.administrators)]):
        if not is_name(name):
            raise VerificationError(f"{name!r} on the roster cannot be a name")


def _check_policy(roster: Roster) -> None:
    unknown = set(roster.policy.peers) - {member.id for member in roster.peers}
    if unknown:
        raise VerificationError(f"the policy names {', '.join(sorted(unknown))}: no peer on the roster")
    if roster.peers and roster.policy == NOBODY:
        raise VerificationError("the roster has peers and no policy")
    if roster.peers and faults(roster.policy, roster.peers)[0] < 0:
        raise VerificationError(f"two quorums of the policy {describe(roster.policy)} need not share a peer")


def _named(members: Sequence[Member], name: str, what: str) -> Member:
    for member in members:
        if member.id == name:
            return member
    raise VerificationError(f"{what} {name!r} is not on the roster")


def _by_kid(members: Sequence[Member], kid: bytes) -> Member:
    for member in members:
        if canonical.key_id(member.public_key) == kid:
            return member
    raise VerificationError(f"key {kid.hex()} is no administrator's")
