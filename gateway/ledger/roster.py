"""One version of who belongs to a ledger, and the administrators' signatures on it.

    version = [ << roster >>, [ + signature ] ]   ; each an administrator's blob over the roster, payload detached
    roster  = {1: 1, 2: ledger, 3: version, 4: epoch, 5: policy / null, 6: [+ administrator], 7: [* peer],
               8: [* gateway], 9: threshold of administrators, 10: post-quantum}
    member  = {1: id, 2: organisation, 3: Ed25519 key .size 32, ? 4: chain, ? 5: ML-DSA-44 key .size 1312,
               ? 6: recovery key .size 32, ? 7: [+ former Ed25519 key]}
                                                         ; 4, 6 and 7 are gateways', whose 5 is a SHA-256

A version is sound by itself if `threshold` of its administrators have signed it; whether it may follow another is for
`ledger.rosters` to say. An administrator who has two keys on the roster signs with both, always: a signature whose
second half was taken away counts for nothing. Its policy says whose votes make a block final (`ledger.policy`).
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from typing import Any

from gateway import canonical, cbor, signing
from gateway.canonical import DIGEST_SIZE, FORMAT, checked, digest, fields_of, natural, of_size, typed
from gateway.errors import VerificationError
from gateway.ledger.policy import describe, faults, policy_items, read_policy
from gateway.model import NOBODY, Member, Roster
from gateway.toml import is_name

ROSTER_TYPE = "application/iomt-roster+cbor"


def ledger_name(administrators: Iterable[Member]) -> str:
    """Give the ledger's name: the fingerprint of its first administrators' public keys."""
    return signing.fingerprint(*[member.public_key + (member.second_key or b"") for member in administrators])


def card_fingerprint(member: Member) -> str:
    """Give 32 hex digits by which people compare a card with its owner: all that it says, each of its keys, too."""
    return hashlib.sha256(cbor.encode(_member(replace(member, former_keys=())))).hexdigest()[:32]


def sign_version(roster: Roster, keys: Mapping[str, signing.Keys], version: bytes = b"") -> bytes:
    """Give a version with the signatures of these people by name added to those that `version` has already.

    Raises: VerificationError if the roster is not sound or `version` is another one.
    """
    _check_members(roster)
    require_policy(roster)
    payload = encode_roster(roster)
    signatures: list[bytes] = []
    if version:
        known, signatures = _parts(version)
        if known != payload:
            raise VerificationError("the signatures are for another version of the roster")
    for name, pair in keys.items():
        signatures.append(signing.sign_blob(pair, _header(name, roster.ledger), payload, detached=True))
    return cbor.encode([payload, signatures])


def read_version(data: bytes) -> Roster:
    """Read a version; who signed it, and whether its policy is sound, is not asked here.

    Raises: VerificationError if it is damaged, or its members do not fit together.
    """
    payload, _ = _parts(data)
    roster = decode_roster(payload)
    _check_members(roster)
    return replace(roster, signed=data)


def require_policy(roster: Roster) -> None:
    """Check that the policy is about the peers, and that two histories cannot meet it while all are honest.

    That takes time for a policy of many groups: ask it of what administrators have signed.
    Raises: VerificationError if it does not hold.
    """
    unknown = set(roster.policy.peers) - {member.id for member in roster.peers}
    if unknown:
        raise VerificationError(f"the policy names {', '.join(sorted(unknown))}: no peer on the roster")
    if roster.peers and roster.policy == NOBODY:
        raise VerificationError("the roster has peers and no policy")
    if roster.peers and faults(roster.policy, roster.peers)[0] < 0:
        raise VerificationError(f"two quorums of the policy {describe(roster.policy)} need not share a peer")


def open_version(data: bytes) -> Roster:
    """Read a version and check that its own administrators have signed it, and that it is sound.

    Raises: VerificationError if it is damaged, unsound, or lacks signatures.
    """
    roster = read_version(data)
    require_signed(roster, roster)
    require_policy(roster)
    return roster


def signers(roster: Roster, administrators: Sequence[Member]) -> set[str]:
    """Give which of these administrators have signed a version.

    Raises: VerificationError if a signature in one of their names does not hold.
    """
    payload, signatures = _parts(roster.signed)
    names = set()
    for signature in signatures:
        message, second = signing.parse_blob(signature)
        if message.header.get(canonical.CONTENT_TYPE) != ROSTER_TYPE or message.unprotected:
            raise VerificationError("not a roster's signature")
        for member in administrators:
            if canonical.key_id(member.public_key) == message.kid:
                _check_signature(member, message, second, payload)
                names.add(member.id)
    return names


def lacking(roster: Roster, before: Roster) -> tuple[int, tuple[str, ...]]:
    """Give how many signatures of the administrators of `before` a version lacks, and who has not signed.

    Raises: VerificationError if a signature in one of their names does not hold.
    """
    signed = signers(roster, before.administrators)
    others = tuple(member.id for member in before.administrators if member.id not in signed)
    return max(0, before.threshold - len(signed)), others


def require_signed(roster: Roster, before: Roster) -> None:
    """Check that enough administrators of a version, the one before it or itself, have signed a version.

    Raises: VerificationError that says how many are missing.
    """
    count, others = lacking(roster, before)
    if count:
        raise VerificationError(
            f"version {roster.version} of the roster lacks {count} of the {before.threshold} signatures that the"
            f" administrators of version {before.version} must give: not signed by {', '.join(others)}"
        )


def peer(roster: Roster, name: str) -> Member:
    """Give the peer of that name.

    Raises: VerificationError if it is not on the roster.
    """
    for member in roster.peers:
        if member.id == name:
            return member
    raise VerificationError(f"peer {name!r} is not on the roster")


def gateway_of_chain(roster: Roster, chain: str) -> Member:
    """Give the gateway that writes the chain.

    Raises: VerificationError if none on the roster does.
    """
    for member in roster.gateways:
        if member.chain == chain:
            return member
    raise VerificationError(f"no gateway on the roster writes chain {chain!r}")


# -- bytes


def encode_roster(roster: Roster) -> bytes:
    """Give a roster's bytes, without its signatures."""
    return cbor.encode(
        {
            1: FORMAT,
            2: roster.ledger,
            3: roster.version,
            4: roster.epoch,
            5: policy_items(roster.policy),
            6: [_member(member) for member in roster.administrators],
            7: [_member(member) for member in roster.peers],
            8: [_member(member) for member in roster.gateways],
            9: roster.threshold,
            10: roster.post_quantum,
        }
    )


def decode_roster(payload: bytes) -> Roster:
    """Read a roster's bytes back.

    Raises: VerificationError if they are not of this format.
    """
    fields = fields_of(payload, required=set(range(1, 11)), what="roster")
    return checked(
        "roster",
        lambda: Roster(
            ledger=typed(str, fields[2]),
            version=natural(fields[3]),
            epoch=natural(fields[4]),
            policy=read_policy(fields[5]),
            administrators=_members(fields[6], frozenset({5})),
            peers=_members(fields[7], frozenset({5})),
            gateways=_members(fields[8], frozenset({4, 5, 6, 7})),
            threshold=natural(fields[9]),
            post_quantum=_bool(fields[10]),
        ),
    )


def _member(member: Member) -> dict[int, object]:
    optional = {4: member.chain, 5: member.second_key, 6: member.recovery_key, 7: list(member.former_keys) or None}
    fields = {1: member.id, 2: member.organisation, 3: member.public_key, **optional}
    return {key: value for key, value in fields.items() if value is not None}


def _members(items: object, optional: AbstractSet[int]) -> tuple[Member, ...]:
    return tuple(_decoded_member(typed(dict, item), optional) for item in typed(list, items))


def _decoded_member(fields: Mapping[int, Any], optional: AbstractSet[int]) -> Member:
    if not {1, 2, 3} <= fields.keys() <= {1, 2, 3} | optional:
        raise ValueError("a member of the roster has other keys")
    former = tuple(digest(key) for key in typed(list, fields.get(7, [])))
    second_size = DIGEST_SIZE if 4 in optional else signing.SECOND_KEY_SIZE
    if 7 in fields and not former:
        raise ValueError("former keys are left out where there are none")
    return Member(
        id=typed(str, fields[1]),
        organisation=typed(str, fields[2]),
        public_key=digest(fields[3]),
        chain=typed(str, fields[4]) if 4 in fields else None,
        second_key=of_size([second_size], fields[5]) if 5 in fields else None,
        recovery_key=digest(fields[6]) if 6 in fields else None,
        former_keys=former,
    )


def _bool(value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{value!r} is no bool")
    return value


def _parts(data: bytes) -> tuple[bytes, list[bytes]]:
    match cbor.decode(data):
        case [bytes(payload), [*signatures]] if all(isinstance(signature, bytes) for signature in signatures):
            return payload, signatures
    raise VerificationError("not a version of a roster")


def _check_signature(member: Member, message: signing.Message, second: signing.Message | None, payload: bytes) -> None:
    """Check an administrator's signature by as many keys as the roster has of them."""
    if member.second_key is not None and second is None:
        raise VerificationError(f"the roster's signature of {member.id} has no second one (ML-DSA-44)")
    pair = message, second if member.second_key is not None else None
    signing.verify_blob(pair, member.public_key, member.second_key, detached=payload)


def _header(name: str, ledger: str) -> signing.Header:
    def header(algorithm: int, kid: bytes) -> bytes:
        return canonical.signer_header(ROSTER_TYPE, kid, name, ledger, algorithm)

    return header


# -- soundness


def _check_members(roster: Roster) -> None:
    if not 1 <= roster.threshold <= len(roster.administrators):
        raise VerificationError(
            f"{roster.threshold} of the roster's {len(roster.administrators)} administrators cannot sign"
        )
    for members, what in ((roster.peers, "peer"), (roster.gateways, "gateway"), (roster.administrators, "admin")):
        _check_unique(members, what)
        if roster.post_quantum and any(member.second_key is None for member in members):
            raise VerificationError(f"the roster is post-quantum, and a {what} on it has no ML-DSA-44 key")
    chains = [member.chain or "" for member in roster.gateways]
    if "" in chains or len(set(chains)) != len(chains):
        raise VerificationError("every gateway on the roster has a chain of its own")
    for name in (*chains, *[member.id for member in (*roster.peers, *roster.gateways, *roster.administrators)]):
        if not is_name(name):
            raise VerificationError(f"{name!r} on the roster cannot be a name")


def _check_unique(members: Sequence[Member], what: str) -> None:
    second_keys = [member.second_key for member in members if member.second_key is not None]
    keys = [key for member in members for key in (member.public_key, *member.former_keys)]
    for values in ([member.id for member in members], keys, second_keys):
        if len(set(values)) != len(values):
            raise VerificationError(f"a {what} stands twice on the roster")
