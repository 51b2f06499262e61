from collections.abc import Callable
from dataclasses import replace

import cbor2
import pytest

from gateway import canonical, cbor, signing
from gateway.errors import VerificationError
from gateway.ledger import roster as rosters
from gateway.model import NOBODY, Member, Policy, Roster
from tests.builders import CHAIN, GATEWAY, flat, key_of, make_roster, member, signed_again

ROSTER = make_roster()


def unchecked(roster: Roster, *signers: str, content_type: str = canonical.ROSTER_TYPE) -> bytes:
    """Give a roster's file without the checks that `sign_roster` makes."""
    payload = canonical.encode_roster(roster)
    signatures = []
    for name in signers:
        key = key_of(name)
        header = canonical.signer_header(content_type, key.kid, name, roster.ledger)
        signatures.append(signing.sign(key, header, payload, detached=True))
    return cbor.encode([payload, signatures])


def with_administrators(*names: str) -> Roster:
    administrators = tuple(member(name) for name in names)
    return replace(ROSTER, administrators=administrators, ledger=rosters.ledger_name(administrators))


def test_a_signed_roster_opens_as_it_was() -> None:
    """Members, epoch and policy survive, the file's bytes are kept with them."""
    assert rosters.open_roster(ROSTER.signed) == ROSTER
    assert rosters.open_roster(ROSTER.signed).signed == ROSTER.signed


def test_every_administrator_has_to_sign() -> None:
    """With two administrators, one signature or the same one twice is not enough, both in any order are."""
    roster = with_administrators("alice", "bob")
    assert rosters.open_roster(unchecked(roster, "bob", "alice")) == roster
    for signers in ((), ("alice",), ("alice", "alice")):
        with pytest.raises(VerificationError, match="lacks the signature of"):
            rosters.open_roster(unchecked(roster, *signers))
    with pytest.raises(VerificationError, match="lacks the signature of bob"):
        rosters.sign_roster(roster, [key_of("alice")])


def test_a_key_that_is_no_administrators_signs_nothing() -> None:
    """Neither making nor opening a roster takes a stranger's signature."""
    with pytest.raises(VerificationError, match="no administrator's"):
        rosters.sign_roster(ROSTER, [key_of("mallory")])
    with pytest.raises(VerificationError, match="no administrator's"):
        rosters.open_roster(unchecked(ROSTER, "admin", "mallory"))


def test_a_roster_that_nobody_signed_is_none() -> None:
    """Without administrators there would be nothing to check: refused."""
    with pytest.raises(VerificationError, match="administrator"):
        rosters.open_roster(unchecked(with_administrators()))


@pytest.mark.parametrize("content_type", [canonical.BLOCK_TYPE, canonical.EVENT_TYPE, ""])
def test_an_administrators_signature_over_something_else_is_refused(content_type: str) -> None:
    """A signature counts only if its header says that it is a roster's."""
    with pytest.raises(VerificationError, match="not a roster's signature"):
        rosters.open_roster(unchecked(ROSTER, "admin", content_type=content_type))


def test_a_signature_carries_nothing_unsigned() -> None:
    """The unprotected header of a roster's signature is empty."""
    payload, (signature,) = cbor.decode(ROSTER.signed)
    protected, _, inner, value = cbor.decode(signature).value
    stuffed = cbor.encode(cbor2.CBORTag(18, [protected, {99: b"stuffing"}, inner, value]))
    with pytest.raises(VerificationError, match="not a roster's signature"):
        rosters.open_roster(cbor.encode([payload, [stuffed]]))


def test_every_flipped_bit_and_every_truncation_is_refused() -> None:
    """Whatever single bit of the file changes, and wherever it ends early, it does not open."""
    data = ROSTER.signed
    for place in range(len(data) * 8):
        flipped = bytearray(data)
        flipped[place // 8] ^= 1 << place % 8
        with pytest.raises(VerificationError):
            rosters.open_roster(bytes(flipped))
    for size in range(len(data)):
        with pytest.raises(VerificationError):
            rosters.open_roster(data[:size])


@pytest.mark.parametrize("content", [b"", [], [b"roster"], [b"roster", b"signature"], {1: b"roster"}, [b"x", [1]]])
def test_what_is_no_roster_file_is_refused(content: object) -> None:
    """Other CBOR than a roster with its signatures is refused."""
    with pytest.raises(VerificationError):
        rosters.open_roster(cbor.encode(content))


def test_a_signature_that_is_no_message_is_refused() -> None:
    """Each signature is a COSE_Sign1."""
    payload = canonical.encode_roster(ROSTER)
    for signature in (1, b"", "text", [b"x"]):
        with pytest.raises(VerificationError, match="CBOR"):
            rosters.open_roster(cbor.encode([payload, [signature]]))


def renamed(roster: Roster) -> Roster:
    return replace(roster, ledger="0123456789abcdef")


def hospital_by(threshold: int) -> Policy:
    """Give the policy by which a hospital speaks with so many of its three peers, and is needed with peer-3."""
    hospital = Policy(threshold=threshold, of=("peer-0", "peer-1", "peer-2"))
    return Policy(threshold=2, of=(hospital, "peer-3")) if threshold > 1 else Policy(threshold=1, of=(hospital,))


UNSOUND: list[tuple[str, Callable[[Roster], Roster]]] = [
    ("fingerprint", renamed),
    ("fingerprint", lambda roster: replace(renamed(roster), version=2)),
    ("a peer stands twice", lambda roster: replace(roster, peers=roster.peers[:3] + roster.peers[:1])),
    (
        "a peer stands twice",
        lambda roster: replace(roster, peers=(*roster.peers[:3], replace(roster.peers[0], id="alias"))),
    ),
    ("a gateway stands twice", lambda roster: replace(roster, gateways=(*roster.gateways, member(GATEWAY, "c2")))),
    ("a chain of its own", lambda roster: replace(roster, gateways=(*roster.gateways, member("g2", CHAIN)))),
    ("a chain of its own", lambda roster: replace(roster, gateways=(member("g2"),))),
    ("two quorums of the policy 2 of peer-0, ", lambda roster: replace(roster, policy=flat(2, roster.peers))),
    ("need not share a peer", lambda roster: replace(roster, policy=hospital_by(1))),
    ("0 of 4 is no policy", lambda roster: replace(roster, policy=flat(0, roster.peers))),
    ("5 of 4 is no policy", lambda roster: replace(roster, policy=flat(5, roster.peers))),
    ("stands twice in the policy", lambda roster: replace(roster, policy=flat(3, roster.peers + roster.peers[:1]))),
    ("names lab: no peer", lambda roster: replace(roster, policy=flat(4, (*roster.peers, member("lab"))))),
    ("names peer-3: no peer", lambda roster: replace(roster, peers=roster.peers[:3])),
    ("peers and no policy", lambda roster: replace(roster, policy=NOBODY)),
    ("cannot be a name", lambda roster: replace(roster, peers=(*roster.peers[:3], member("a/b")))),
    ("cannot be a name", lambda roster: replace(roster, gateways=(member("g2", "+"),))),
    ("cannot be a name", lambda roster: replace(roster, gateways=(member("\x1b[31m", "c2"),))),
]


@pytest.mark.parametrize(("reason", "change"), UNSOUND)
def test_an_unsound_roster_is_refused_though_signed(reason: str, change: Callable[[Roster], Roster]) -> None:
    """Members that stand twice, chains that are shared, quorums that need not meet, names that break topics."""
    with pytest.raises(VerificationError, match=reason):
        rosters.open_roster(unchecked(change(ROSTER), "admin"))


@pytest.mark.parametrize("quorum", [3, 4])
def test_any_quorum_that_has_to_meet_is_allowed(quorum: int) -> None:
    """More than half of the peers and no more than all."""
    policy = flat(quorum, ROSTER.peers)
    assert signed_again(replace(ROSTER, policy=policy)).policy == policy


def test_groups_in_a_policy_survive() -> None:
    """What the administrators signed is what is read, groups and all."""
    policy = hospital_by(2)
    assert signed_again(replace(ROSTER, policy=policy)).policy == policy


def test_a_ledger_begins_without_members() -> None:
    """A new ledger has its administrators and nobody else yet."""
    assert signed_again(replace(ROSTER, policy=NOBODY, peers=(), gateways=())).peers == ()


def test_members_are_found_by_name_and_chain() -> None:
    """Peers by name, gateways by the chain they write; whoever is not there is named."""
    assert rosters.peer(ROSTER, "peer-2") == member("peer-2")
    assert rosters.gateway_of_chain(ROSTER, CHAIN) == member(GATEWAY, CHAIN)
    with pytest.raises(VerificationError, match="peer 'peer-9' is not on the roster"):
        rosters.peer(ROSTER, "peer-9")
    with pytest.raises(VerificationError, match="writes chain 'other'"):
        rosters.gateway_of_chain(ROSTER, "other")


def test_new_peers_begin_an_epoch_and_set_the_policy() -> None:
    """Votes of before are of an older epoch, and the policy is that of all peers together."""
    newcomers: list[Member] = [member("peer-4"), member("peer-5"), member("peer-6")]
    after = signed_again(rosters.admitted(ROSTER, newcomers, []))
    assert (after.version, after.epoch, after.policy) == (2, 2, flat(5, after.peers))
    assert after.peers == (*ROSTER.peers, *newcomers)


def test_new_gateways_leave_epoch_and_policy() -> None:
    """A gateway that joins changes nothing for the others' votes."""
    newcomer = member("ward-4", "ward-4.00000000")
    after = signed_again(rosters.admitted(ROSTER, [], [newcomer]))
    assert (after.version, after.epoch, after.policy) == (2, ROSTER.epoch, ROSTER.policy)
    assert after.gateways == (*ROSTER.gateways, newcomer)
