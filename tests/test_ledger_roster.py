from collections.abc import Callable
from dataclasses import replace
from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import canonical, cbor, signing
from gateway.errors import VerificationError
from gateway.ledger import roster as rosters
from gateway.ledger.statements import BLOCK_TYPE
from gateway.model import NOBODY, Member, Policy, Roster
from tests.builders import CHAIN, GATEWAY, MASTER, NATURALS, flat, key_of, keys_of, make_roster, member, signed_again

ROSTER = make_roster()


def unchecked(roster: Roster, *signers: str, content_type: str = rosters.ROSTER_TYPE) -> bytes:
    """Give a version without the checks that `sign_version` makes."""
    payload = rosters.encode_roster(roster)
    signatures = []
    for name in signers:
        key = key_of(name)
        header = canonical.signer_header(content_type, key.kid, name, roster.ledger)
        signatures.append(signing.sign(key, header, payload, detached=True))
    return cbor.encode([payload, signatures])


def with_administrators(*names: str) -> Roster:
    administrators = tuple(member(name) for name in names)
    return replace(ROSTER, administrators=administrators, ledger=rosters.ledger_name(administrators))


def test_a_signed_version_opens_as_it_was() -> None:
    """Members, epoch and policy survive, the version's bytes are kept with them."""
    assert rosters.open_version(ROSTER.signed) == ROSTER
    assert rosters.open_version(ROSTER.signed).signed == ROSTER.signed


def test_as_many_administrators_as_the_threshold_have_to_sign() -> None:
    """With two of three, one signature or the same one twice is not enough, any two in any order are."""
    roster = replace(with_administrators("alice", "bob", "carol"), threshold=2)
    enough: list[tuple[str, ...]] = [("bob", "alice"), ("alice", "carol"), ("carol", "bob", "alice")]
    for names in enough:
        assert rosters.open_version(unchecked(roster, *names)) == roster
    few: list[tuple[tuple[str, ...], int]] = [((), 2), (("alice",), 1), (("alice", "alice"), 1)]
    for names, count in few:
        with pytest.raises(VerificationError, match=f"lacks {count} of the 2 signatures .* not signed by "):
            rosters.open_version(unchecked(roster, *names))


def test_a_strangers_signature_counts_for_nothing() -> None:
    """Whoever else signs a version adds nothing to it."""
    with pytest.raises(VerificationError, match="lacks 1 of the 1 signatures"):
        rosters.open_version(unchecked(ROSTER, "mallory"))
    assert rosters.open_version(unchecked(ROSTER, "admin", "mallory")) == ROSTER


def test_signatures_are_collected_one_by_one() -> None:
    """A version that one has signed can be signed by the next; another version's signatures are not taken over."""
    roster = replace(with_administrators("alice", "bob"), threshold=2)
    first = rosters.sign_version(roster, {"alice": keys_of("alice")})
    assert rosters.lacking(rosters.read_version(first), roster) == (1, ("bob",))
    assert rosters.open_version(rosters.sign_version(roster, {"bob": keys_of("bob")}, first)) == roster
    with pytest.raises(VerificationError, match="for another version"):
        rosters.sign_version(replace(roster, version=2), {"bob": keys_of("bob")}, first)


def test_an_administrator_with_two_keys_signs_with_both() -> None:
    """An ML-DSA-44 key on the roster makes its signature necessary; cut off or false, there is none at all."""
    second = signing.derive_second_key(MASTER, "test", "admin")
    (admin,) = ROSTER.administrators
    administrators = (replace(admin, second_key=second.public_key),)
    roster = replace(ROSTER, administrators=administrators, ledger=rosters.ledger_name(administrators))
    both = rosters.sign_version(roster, {"admin": signing.Keys(key_of("admin"), second)})
    assert rosters.open_version(both) == roster
    assert rosters.signers(replace(ROSTER, signed=both), ROSTER.administrators) == {"admin"}
    with pytest.raises(VerificationError, match="signature of admin has no second one"):
        rosters.open_version(rosters.sign_version(roster, {"admin": keys_of("admin")}))
    other = signing.Keys(key_of("admin"), signing.derive_second_key(MASTER, "test", "mallory"))
    with pytest.raises(VerificationError, match="does not hold"):
        rosters.open_version(rosters.sign_version(roster, {"admin": other}))


def test_a_ledgers_name_is_of_both_keys() -> None:
    """Whoever could forge the administrators' Ed25519 keys makes no other ledger of the same name."""
    (admin,) = ROSTER.administrators
    names = {rosters.ledger_name([replace(admin, second_key=key)]) for key in (None, bytes(1312), bytes(1311) + b"x")}
    assert len(names) == 3


def test_a_fingerprint_is_of_all_that_a_card_says() -> None:
    """Name, owner, chain and each key change it; former keys, which no card has, do not."""
    (gateway,) = ROSTER.gateways
    changed = [
        replace(gateway, id="x"),
        replace(gateway, organisation="x"),
        replace(gateway, chain="x"),
        replace(gateway, public_key=bytes(32)),
        replace(gateway, second_key=bytes(1312)),
        replace(gateway, recovery_key=bytes(32)),
    ]
    members = [gateway, *changed]
    assert len({rosters.card_fingerprint(member) for member in members}) == len(members)
    assert rosters.card_fingerprint(replace(gateway, former_keys=(bytes(32),))) == rosters.card_fingerprint(gateway)


@pytest.mark.parametrize("content_type", [BLOCK_TYPE, canonical.EVENT_TYPE, ""])
def test_an_administrators_signature_over_something_else_is_refused(content_type: str) -> None:
    """A signature counts only if its header says that it is a roster's."""
    with pytest.raises(VerificationError, match="not a roster's signature"):
        rosters.open_version(unchecked(ROSTER, "admin", content_type=content_type))


def test_a_signature_carries_nothing_unsigned() -> None:
    """The unprotected header of a roster's signature is empty."""
    payload, (signature,) = cbor.decode(ROSTER.signed)
    protected, _, inner, value = cbor.decode(signature).value
    stuffed = cbor.encode(cbor2.CBORTag(18, [protected, {99: b"stuffing"}, inner, value]))
    with pytest.raises(VerificationError, match="not a roster's signature"):
        rosters.open_version(cbor.encode([payload, [stuffed]]))


def test_every_flipped_bit_and_every_truncation_is_refused() -> None:
    """Whatever single bit of a version changes, and wherever it ends early, it does not open."""
    data = ROSTER.signed
    for place in range(len(data) * 8):
        flipped = bytearray(data)
        flipped[place // 8] ^= 1 << place % 8
        with pytest.raises(VerificationError):
            rosters.open_version(bytes(flipped))
    for size in range(len(data)):
        with pytest.raises(VerificationError):
            rosters.open_version(data[:size])


@pytest.mark.parametrize("content", [b"", [], [b"roster"], [b"roster", b"signature"], {1: b"roster"}, [b"x", [1]]])
def test_what_is_no_version_is_refused(content: object) -> None:
    """Other CBOR than a roster with its signatures is refused."""
    with pytest.raises(VerificationError):
        rosters.open_version(cbor.encode(content))


def test_a_signature_that_is_no_message_is_refused() -> None:
    """Each signature is a COSE_Sign1."""
    payload = rosters.encode_roster(ROSTER)
    for signature in (1, b"", "text", [b"x"]):
        with pytest.raises(VerificationError, match=r"CBOR|not a version of a roster"):
            rosters.open_version(cbor.encode([payload, [signature]]))


def formerly(name: str) -> Member:
    """Give a gateway that had, before, the key that the other one has."""
    return replace(member(name, "c2"), former_keys=(key_of(GATEWAY).public_key,))


def twice_formerly() -> Member:
    """Give the gateway with a key that it had twice before."""
    return replace(member(GATEWAY, CHAIN), former_keys=(bytes(32), bytes(32)))


def hospital_by(threshold: int) -> Policy:
    """Give the policy by which a hospital speaks with so many of its three peers, and is needed with peer-3."""
    hospital = Policy(threshold=threshold, of=("peer-0", "peer-1", "peer-2"))
    return Policy(threshold=2, of=(hospital, "peer-3")) if threshold > 1 else Policy(threshold=1, of=(hospital,))


UNSOUND: list[tuple[str, Callable[[Roster], Roster]]] = [
    ("0 of the roster's 1 administrators", lambda roster: replace(roster, threshold=0)),
    ("2 of the roster's 1 administrators", lambda roster: replace(roster, threshold=2)),
    ("0 administrators cannot sign", lambda roster: replace(roster, administrators=())),
    ("a peer on it has no ML-DSA-44 key", lambda roster: replace(roster, post_quantum=True)),
    ("a gateway stands twice", lambda roster: replace(roster, gateways=(*roster.gateways, formerly("g2")))),
    ("a gateway stands twice", lambda roster: replace(roster, gateways=(twice_formerly(),))),
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
        rosters.open_version(unchecked(change(ROSTER), "admin"))


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


# -- bytes

DIGESTS = st.binary(min_size=32, max_size=32)
NAMES = st.text(max_size=20)


def members_with(*optional: str) -> st.SearchStrategy[tuple[Member, ...]]:
    """Give members with any of these fields."""
    fields: dict[str, st.SearchStrategy[Any]] = {
        "chain": st.none() | NAMES,
        "second_key": st.none() | (DIGESTS if "chain" in optional else DIGESTS.map(lambda seed: seed * 41)),
        "recovery_key": st.none() | DIGESTS,
        "former_keys": st.lists(DIGESTS, max_size=3).map(tuple),
    }
    used = {name: fields[name] for name in optional}
    members = st.builds(Member, id=NAMES, organisation=NAMES, public_key=DIGESTS, **used)
    return st.lists(members, max_size=3).map(tuple)


ROSTERS = st.builds(
    Roster,
    ledger=NAMES,
    version=NATURALS,
    epoch=NATURALS,
    policy=st.sampled_from([NOBODY, Policy(threshold=1, of=("a",)), hospital_by(2)]),
    administrators=members_with("second_key"),
    peers=members_with("second_key"),
    gateways=members_with("chain", "second_key", "recovery_key", "former_keys"),
    threshold=NATURALS,
    post_quantum=st.booleans(),
)


@given(ROSTERS)
def test_rosters_come_back_as_they_were(roster: Roster) -> None:
    """A roster survives its bytes, sound or not."""
    payload = rosters.encode_roster(roster)
    assert rosters.decode_roster(payload) == roster
    assert rosters.encode_roster(rosters.decode_roster(payload)) == payload


PAYLOAD = rosters.encode_roster(ROSTER)
MEMBER = {1: "m", 2: "o", 3: bytes(32)}
WRONG_FIELDS: list[tuple[int, object]] = [
    *[(5, wrong) for wrong in (True, [], [1, []], [0, ["a"]], [2, ["a"]], [True, ["a"]], [1, "a"], [1, ["a"], 1])],
    *[(5, wrong) for wrong in ([1, ["a", None]], [1, [b"a"]], [2, ["a", "a"]], [2, ["a", [1, ["b", "a"]]]])],
    *[(5, wrong) for wrong in ([1, ["a", [0, ["b"]]]], [1, [[1, [[1, [[1, [[1, ["a"]]]]]]]]]])],
    (6, {}),
    (6, "members"),
    (6, [{**MEMBER, 4: "chain"}]),
    (6, [{**MEMBER, 6: bytes(32)}]),
    (7, [[1, 2, 3]]),
    (7, [{1: "m", 2: "o"}]),
    (7, [{**MEMBER, 3: bytes(33)}]),
    (7, [{**MEMBER, 4: "chain"}]),
    (7, [{**MEMBER, 7: [bytes(32)]}]),
    (8, [{**MEMBER, 4: 1}]),
    (8, [{**MEMBER, 5: bytes(31)}]),
    (8, [{**MEMBER, 5: bytes(1312)}]),
    (8, [{**MEMBER, 6: bytes(31)}]),
    (8, [{**MEMBER, 7: []}]),
    (8, [{**MEMBER, 7: [bytes(31)]}]),
    (8, [{**MEMBER, 7: None}]),
    (8, [{**MEMBER, 8: "more"}]),
    (9, -1),
    (9, True),
    (10, 1),
    (10, None),
]


@pytest.mark.parametrize(("key", "value"), WRONG_FIELDS)
def test_a_field_that_is_not_of_the_format_is_refused(key: int, value: object) -> None:
    """Wrong types, ranges, lengths and shapes are refused as not of the format."""
    with pytest.raises(VerificationError, match="not a roster"):
        rosters.decode_roster(cbor.encode({**cbor.decode(PAYLOAD), key: value}))


@pytest.mark.parametrize("key", range(1, 11))
def test_missing_and_unknown_keys_are_refused(key: int) -> None:
    """A roster has its keys and no others."""
    fields = cbor.decode(PAYLOAD)
    with pytest.raises(VerificationError, match="not a roster: wrong keys"):
        rosters.decode_roster(cbor.encode({name: value for name, value in fields.items() if name != key}))
    with pytest.raises(VerificationError, match="not a roster: wrong keys"):
        rosters.decode_roster(cbor.encode({**fields, 99: 0}))
