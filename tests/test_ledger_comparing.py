from dataclasses import dataclass, field, replace

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import canonical, cbor, signing
from gateway.errors import VerificationError
from gateway.ledger import comparing
from gateway.ledger.comparing import Comparison, HeadOf, Own, Relation, State
from gateway.merkle import EMPTY_ROOT, leaf_hash
from gateway.model import Member, Policy, Roster

CHAIN, OTHER_CHAIN = "ward-3.1f0a9c21", "ward-4.2b11c0de"
LEDGER = "84c6c06b186fabfe"
SAID_MS = 1_764_000_060_000
MASTER = b"a master secret for tests only.."


def key_of(name: str) -> signing.Key:
    return signing.derive_key(MASTER, "test", name)


def member(name: str) -> Member:
    return Member(id=name, organisation=f"{name}.example", public_key=key_of(name).public_key)


ROSTER = Roster(
    ledger=LEDGER,
    version=1,
    epoch=1,
    policy=Policy(threshold=1, of=("peer-0", "peer-1")),
    administrators=(member("admin"),),
    peers=(member("peer-0"), member("peer-1")),
    gateways=(),
)


def root_of(height: int, history: str = "") -> bytes:
    """Give the root behind a height, in one of several histories."""
    return leaf_hash(f"{history}{height}".encode()) if height else EMPTY_ROOT


def head(next_height: int, chain: str = CHAIN, *, incarnation: int = 0, history: str = "") -> HeadOf:
    return HeadOf(chain, incarnation, next_height, root_of(next_height, history))


def signed_payload(payload: object, *, by: str = "peer-0", ledger: str = LEDGER, content_type: str = "") -> bytes:
    """Give a message with any payload, and with a header that may be wrong."""
    key = key_of(by)
    header = canonical.signer_header(content_type or comparing.HEADS_TYPE, key.kid, by, ledger)
    return signing.sign(key, header, cbor.encode(payload))


NUMBERS = st.integers(0, 2**64 - 1)
HEADS = st.lists(
    st.builds(
        HeadOf,
        st.text("abc.-", min_size=1, max_size=20),
        NUMBERS,
        NUMBERS,
        st.binary(min_size=32, max_size=32),
    ),
    min_size=1,
    max_size=20,
    unique_by=lambda each: each.chain,
)


def test_the_format_is_that_of_the_docstring() -> None:
    """Header and payload as the module's docstring has them, under the peer's Ed25519 signature."""
    (signed,) = comparing.sign_heads(key_of("peer-0"), "peer-0", LEDGER, SAID_MS, [head(12)])
    message = signing.verify(signed, key_of("peer-0").public_key)
    kid = canonical.key_id(key_of("peer-0").public_key)
    assert message.header == {1: -8, 3: "application/iomt-heads+cbor", 4: kid, 15: {1: "peer-0", 2: LEDGER}}
    assert cbor.decode(message.payload or b"") == {1: 1, 2: SAID_MS, 3: [[CHAIN, 0, 12, root_of(12)]]}


@given(NUMBERS, HEADS)
def test_heads_come_back(said_ms: int, heads: list[HeadOf]) -> None:
    """Who said them, when, and every head survive the message."""
    (signed,) = comparing.sign_heads(key_of("peer-1"), "peer-1", LEDGER, said_ms, heads)
    assert comparing.open_heads(ROSTER, signed) == ("peer-1", said_ms, tuple(heads))


def test_no_message_is_over_256_kib() -> None:
    """Heads of the longest names and largest numbers are split so that each message fits, and none is lost."""
    top = 2**64 - 1
    heads = [HeadOf(f"{number:064}", top, top, bytes(32)) for number in range(2 * comparing.HEADS_PER_MESSAGE + 1)]
    name = "p" * 64
    roster = replace(ROSTER, ledger="f" * 64, peers=(replace(member("peer-0"), id=name),))
    messages = comparing.sign_heads(key_of("peer-0"), name, roster.ledger, top, heads)
    opened = [comparing.open_heads(roster, message) for message in messages]
    assert max(map(len, messages)) <= 256 * 1024
    assert [len(found) for _, _, found in opened] == [2000, 2000, 1]
    assert [each for _, _, found in opened for each in found] == heads


def test_a_peer_without_chains_says_nothing() -> None:
    """No heads are no message."""
    assert comparing.sign_heads(key_of("peer-0"), "peer-0", LEDGER, SAID_MS, []) == []


def test_heads_are_taken_only_from_a_peer_on_the_roster() -> None:
    """A stranger's heads, those in another's name, of another ledger or kind, are refused."""
    payload = {1: 1, 2: SAID_MS, 3: [[CHAIN, 0, 12, root_of(12)]]}
    (forged,) = comparing.sign_heads(key_of("peer-1"), "peer-0", LEDGER, SAID_MS, [head(12)])
    for signed, reason in [
        (signed_payload(payload, by="mallory"), "peer 'mallory' is not on the roster"),
        (signed_payload(payload, by="admin"), "peer 'admin' is not on the roster"),
        (forged, "does not hold"),
        (signed_payload(payload, ledger="0123456789abcdef"), "of another ledger"),
        (signed_payload(payload, content_type="application/iomt-tip+cbor"), "not heads"),
        (b"", "not CBOR"),
    ]:
        with pytest.raises(VerificationError, match=reason):
            comparing.open_heads(ROSTER, signed)


def test_heads_carry_nothing_unsigned() -> None:
    """The unprotected header is empty, and the payload stands in the message."""
    (signed,) = comparing.sign_heads(key_of("peer-0"), "peer-0", LEDGER, SAID_MS, [head(12)])
    protected, _, payload, signature = cbor.decode(signed).value
    stuffed = cbor.encode(cbor2.CBORTag(18, [protected, {99: b"stuffing"}, payload, signature]))
    with pytest.raises(VerificationError, match="not heads"):
        comparing.open_heads(ROSTER, stuffed)
    detached = cbor.encode(cbor2.CBORTag(18, [protected, {}, None, signature]))
    with pytest.raises(VerificationError, match="payload"):
        comparing.open_heads(ROSTER, detached)


def test_every_flipped_bit_is_refused() -> None:
    """Whatever single bit of a message changes, it does not open."""
    (signed,) = comparing.sign_heads(key_of("peer-0"), "peer-0", LEDGER, SAID_MS, [head(12)])
    for place in range(len(signed) * 8):
        flipped = bytearray(signed)
        flipped[place // 8] ^= 1 << place % 8
        with pytest.raises(VerificationError):
            comparing.open_heads(ROSTER, bytes(flipped))


ROOT = root_of(12)


@pytest.mark.parametrize(
    "payload",
    [
        b"heads",
        [SAID_MS, []],
        {1: 1, 2: SAID_MS},
        {1: 2, 2: SAID_MS, 3: [[CHAIN, 0, 12, ROOT]]},
        {1: 1, 2: SAID_MS, 3: [[CHAIN, 0, 12, ROOT]], 4: 0},
        {1: 1, 2: -1, 3: [[CHAIN, 0, 12, ROOT]]},
        {1: 1, 2: True, 3: [[CHAIN, 0, 12, ROOT]]},
        {1: 1, 2: SAID_MS, 3: []},
        {1: 1, 2: SAID_MS, 3: {CHAIN: 12}},
        {1: 1, 2: SAID_MS, 3: [CHAIN]},
        {1: 1, 2: SAID_MS, 3: [[CHAIN, 0, 12]]},
        {1: 1, 2: SAID_MS, 3: [[CHAIN, 0, 12, ROOT, 0]]},
        {1: 1, 2: SAID_MS, 3: [[b"chain", 0, 12, ROOT]]},
        {1: 1, 2: SAID_MS, 3: [[CHAIN, -1, 12, ROOT]]},
        {1: 1, 2: SAID_MS, 3: [[CHAIN, 0, False, ROOT]]},
        {1: 1, 2: SAID_MS, 3: [[CHAIN, 0, 12, ROOT[1:]]]},
        {1: 1, 2: SAID_MS, 3: [[CHAIN, 0, 12, ROOT], [CHAIN, 0, 13, ROOT]]},
    ],
)
def test_malformed_heads_are_refused(payload: object) -> None:
    """Other keys, formats, types and lengths, no heads, and a chain that stands twice, though a peer signed them."""
    with pytest.raises(VerificationError, match="message of heads"):
        comparing.open_heads(ROSTER, signed_payload(payload))


# -- comparing


@dataclass
class Copy:
    """Our own copy, as far as comparing sees it: the next height of each chain."""

    next_heights: dict[str, int] = field(default_factory=lambda: {CHAIN: 10})
    incarnation: int = 0
    asked: list[int] = field(default_factory=list)

    def own(self, chain: str) -> Own | None:
        """Give the head of a chain."""
        if chain not in self.next_heights:
            return None

        def root_at(height: int) -> bytes:
            assert height <= self.next_heights[chain]
            self.asked.append(height)
            return root_of(height)

        return Own(self.incarnation, self.next_heights[chain], root_at)


def heard(*heads: HeadOf, copy: Copy | None = None) -> Comparison:
    """Give a comparison in which peer-1 has said these."""
    comparison = Comparison((copy or Copy()).own)
    comparison.hear("peer-1", SAID_MS, heads, SAID_MS + 5)
    return comparison


@pytest.mark.parametrize(
    ("said", "relation"),
    [
        (head(10), Relation(State.LEVEL)),
        (head(13), Relation(State.AHEAD, 3)),
        (head(13, history="other"), Relation(State.AHEAD, 3)),
        (head(8), Relation(State.BEHIND, 2)),
        (head(0), Relation(State.BEHIND, 10)),
        (head(10, history="other"), Relation(State.DIFFERS)),
        (head(8, history="other"), Relation(State.DIFFERS)),
        (HeadOf(CHAIN, 0, 0, bytes(32)), Relation(State.DIFFERS)),
        (head(2, incarnation=1), Relation(State.AHEAD, 2)),
        (head(0, incarnation=1), Relation(State.AHEAD, 0)),
    ],
)
def test_another_is_level_ahead_behind_or_differs(said: HeadOf, relation: Relation) -> None:
    """By height, then by the root at its height; one that is ahead cannot be told to differ yet."""
    assert heard(said).relation("peer-1", CHAIN) == relation


def test_another_in_an_earlier_incarnation_is_behind_by_all_of_ours() -> None:
    """Whatever its height there is, its root is not compared with one of another tree."""
    copy = Copy(incarnation=1)
    for said in (head(3), head(30), head(3, history="other")):
        assert heard(said, copy=copy).relation("peer-1", CHAIN) == Relation(State.BEHIND, 10)
    assert copy.asked == []


def test_nothing_is_known_of_whom_nobody_heard() -> None:
    """Neither of a peer that has said nothing, nor of a chain that it did not name."""
    comparison = heard(head(10))
    assert comparison.relation("peer-2", CHAIN) is None
    assert comparison.relation("peer-1", OTHER_CHAIN) is None
    assert comparison.ahead("peer-2") == []
    assert Comparison(Copy().own).summaries() == {}


def test_a_chain_that_is_none_of_ours_is_passed_over() -> None:
    """However many chains a peer invents, no memory is spent on them."""
    comparison = heard(*[head(5, f"invented-{number}") for number in range(100)], head(10))
    assert comparison.summaries()["peer-1"].level == 1
    assert comparison.relation("peer-1", "invented-1") is None
    assert len(comparison._others["peer-1"].heads) == 1


def test_what_was_said_before_is_passed_over() -> None:
    """Heads replayed from before the last ones change nothing, not even when the peer was heard."""
    comparison = heard(head(13))
    comparison.hear("peer-1", SAID_MS - 1, [head(8), head(8, OTHER_CHAIN)], SAID_MS + 60_000)
    assert comparison.relation("peer-1", CHAIN) == Relation(State.AHEAD, 3)
    assert comparison.summaries()["peer-1"].heard_ms == SAID_MS + 5


def test_all_messages_of_one_saying_are_taken() -> None:
    """Heads in several messages have one time, whatever their order, and the same one twice does no harm."""
    copy = Copy({CHAIN: 10, OTHER_CHAIN: 10})
    comparison = heard(head(10), copy=copy)
    for _ in range(2):
        comparison.hear("peer-1", SAID_MS, [head(10, OTHER_CHAIN)], SAID_MS + 6)
    assert (comparison.summaries()["peer-1"].level, comparison.summaries()["peer-1"].heard_ms) == (2, SAID_MS + 6)


def test_a_peer_is_not_held_back_by_another() -> None:
    """What one peer said later does not make another's heads old."""
    comparison = heard(head(13))
    comparison.hear("peer-2", SAID_MS - 1000, [head(10)], SAID_MS + 6)
    assert comparison.relation("peer-2", CHAIN) == Relation(State.LEVEL)
    assert list(comparison.summaries()) == ["peer-1", "peer-2"]


def test_fault_40_a_peer_whose_clock_was_years_ahead_is_heard_again() -> None:
    """What it said with the wrong clock does not hold back what it says with the right one."""
    comparison = heard()
    comparison.hear("peer-1", SAID_MS + 10 * 365 * 86_400_000, [head(8)], SAID_MS + 6)
    comparison.hear("peer-1", SAID_MS + 60_000, [head(10)], SAID_MS + 60_006)
    assert comparison.relation("peer-1", CHAIN) == Relation(State.LEVEL)
    comparison.hear("peer-1", SAID_MS, [head(8)], SAID_MS + 60_007)
    assert comparison.relation("peer-1", CHAIN) == Relation(State.LEVEL)


def test_another_that_was_level_stays_level_while_we_go_on() -> None:
    """Between two sayings our blocks do not make everybody late; who was behind then is behind by as much."""
    copy = Copy({CHAIN: 10, OTHER_CHAIN: 10})
    comparison = heard(head(10), head(9, OTHER_CHAIN), copy=copy)
    copy.next_heights = {CHAIN: 14, OTHER_CHAIN: 14}
    assert comparison.relation("peer-1", CHAIN) == Relation(State.LEVEL)
    assert comparison.relation("peer-1", OTHER_CHAIN) == Relation(State.BEHIND, 1)


def test_another_that_is_ahead_is_compared_once_we_are_so_far() -> None:
    """Its root is held against ours when our chain reaches its height: then it is level, or differs."""
    copy = Copy({CHAIN: 10, OTHER_CHAIN: 10})
    comparison = heard(head(13), head(13, OTHER_CHAIN, history="other"), copy=copy)
    assert [each.chain for each in comparison.ahead("peer-1")] == [CHAIN, OTHER_CHAIN]
    copy.next_heights = {CHAIN: 13, OTHER_CHAIN: 15}
    assert comparison.relation("peer-1", CHAIN) == Relation(State.LEVEL)
    assert comparison.relation("peer-1", OTHER_CHAIN) == Relation(State.DIFFERS)
    assert comparison.ahead("peer-1") == []


def test_another_in_the_incarnation_that_we_reach_later_is_compared_there() -> None:
    """Blocks of our earlier incarnation do not make it late in the later one."""
    copy = Copy()
    comparison = heard(head(2, incarnation=1), copy=copy)
    copy.incarnation, copy.next_heights = 1, {CHAIN: 5}
    assert comparison.relation("peer-1", CHAIN) == Relation(State.LEVEL)


def test_a_chain_that_is_ours_no_more_is_left_out() -> None:
    """Nothing is said of a chain whose copy is gone."""
    copy = Copy({CHAIN: 10, OTHER_CHAIN: 10})
    comparison = heard(head(10), head(10, OTHER_CHAIN), copy=copy)
    del copy.next_heights[OTHER_CHAIN]
    assert comparison.relation("peer-1", OTHER_CHAIN) is None
    assert comparison.summaries()["peer-1"].level == 1


def test_a_summary_counts_chains_and_names_those_that_differ() -> None:
    """One line per peer: how many chains are level, ahead, behind, which differ, and when it was heard."""
    names = [f"chain-{number}" for number in range(7)]
    copy = Copy(dict.fromkeys(names, 10))
    said = [*map(head, [10, 10, 10, 12, 12, 8], names), head(9, names[6], history="other")]
    comparison = heard(*reversed(said), copy=copy)
    assert comparison.summaries() == {
        "peer-1": comparing.Summary(heard_ms=SAID_MS + 5, level=3, ahead=2, behind=1, differing=("chain-6",))
    }
    assert comparison.ahead("peer-1") == said[3:5]


def test_a_chain_that_is_not_named_again_stays_as_it_was_said() -> None:
    """Later heads replace those of their own chains alone."""
    copy = Copy({CHAIN: 10, OTHER_CHAIN: 10})
    comparison = heard(head(10), head(12, OTHER_CHAIN), copy=copy)
    comparison.hear("peer-1", SAID_MS + 1, [head(9)], SAID_MS + 60_000)
    assert comparison.relation("peer-1", CHAIN) == Relation(State.BEHIND, 1)
    assert comparison.relation("peer-1", OTHER_CHAIN) == Relation(State.AHEAD, 2)
