from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import cbor
from gateway.errors import VerificationError
from gateway.ledger import messages
from gateway.ledger.closing import Shown
from gateway.ledger.messages import Ask, Kind, Topic
from gateway.model import Certificate
from gateway.toml import is_name

NAMES = st.from_regex(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,20}", fullmatch=True)
HASHES = st.lists(st.binary(min_size=32, max_size=32), max_size=20)

TOPICS = [
    ("iomt/1/ward-3.0/proposal", Topic("ward-3.0", Kind.PROPOSAL)),
    ("iomt/1/ward-3.0/vote/peer-0", Topic("ward-3.0", Kind.VOTE, "peer-0")),
    ("iomt/1/ward-3.0/certificate", Topic("ward-3.0", Kind.CERTIFICATE)),
    ("iomt/1/ward-3.0/tip/peer-0", Topic("ward-3.0", Kind.TIP, "peer-0")),
    ("iomt/1/ward-3.0/ask/peer-0", Topic("ward-3.0", Kind.ASK, "peer-0")),
    ("iomt/1/ward-3.0/answer/peer-0/ward-3", Topic("ward-3.0", Kind.ANSWER, "peer-0", "ward-3")),
    ("iomt/1/ward-3.0/freeze/peer-0", Topic("ward-3.0", Kind.FREEZE, "peer-0")),
    ("iomt/1/ward-3.0/recovery", Topic("ward-3.0", Kind.RECOVERY)),
    ("iomt/1/ward-3.0/opening/ward-3.0", Topic("ward-3.0", Kind.OPENING, "ward-3.0")),
    ("iomt/1/ward-3.0/prove/peer-0", Topic("ward-3.0", Kind.PROVE, "peer-0")),
    ("iomt/1/ward-3.0/proof/peer-0/peer-1", Topic("ward-3.0", Kind.PROOF, "peer-0", "peer-1")),
    ("iomt/1/84c6c06b186fabfe/heads/peer-0", Topic("84c6c06b186fabfe", Kind.HEADS, "peer-0")),
    ("iomt/1/84c6c06b186fabfe/roster/peer-0", Topic("84c6c06b186fabfe", Kind.ROSTER, "peer-0")),
]

DECODERS: list[Callable[[bytes], object]] = [
    messages.decode_proposal,
    messages.decode_certificate,
    messages.decode_tip,
    messages.decode_ask,
    messages.decode_answer,
    messages.decode_freezes,
    messages.decode_opening,
]


@pytest.mark.parametrize(("text", "topic"), TOPICS)
def test_every_topic_of_the_protocol_is_read_and_written(text: str, topic: Topic) -> None:
    """The table of topics in the module's docstring, in both directions."""
    assert Topic.parse(text) == topic
    assert str(topic) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "iomt",
        "iomt/1",
        "iomt/1/c",
        "iomt/2/c/proposal",
        "other/1/c/proposal",
        "/iomt/1/c/proposal",
        "iomt/1/c/proposal/",
        "iomt/1/c/proposal/peer-0",
        "iomt/1/c/vote",
        "iomt/1/c/vote/",
        "iomt/1/c/vote/peer-0/peer-1",
        "iomt/1/c/answer/peer-0",
        "iomt/1/c/answer/a/b/c",
        "iomt/1//proposal",
        "iomt/1/+/proposal",
        "iomt/1/c/vote/#",
        "iomt/1/../proposal",
        "iomt/1/c\x00/proposal",
        "iomt/1/c/live",
        "iomt/1/c/PROPOSAL",
    ],
)
def test_a_topic_that_is_none_of_ours_is_refused(text: str) -> None:
    """Another protocol, version or word, a part too many or too few, wildcards, names that cannot be."""
    with pytest.raises(VerificationError, match="unknown topic"):
        Topic.parse(text)


@given(st.text(max_size=60) | st.lists(st.sampled_from(["iomt", "1", "vote", "a", "", "+"])).map("/".join))
def test_whatever_topic_comes_reads_back_or_is_refused(text: str) -> None:
    """A topic that parses is written as it was and holds nothing but names."""
    try:
        topic = Topic.parse(text)
    except VerificationError:
        return
    assert str(topic) == text
    assert all(is_name(part) for part in (topic.chain, topic.who or "-", topic.by or "-"))


@given(NAMES, st.sampled_from([(Kind.VOTE, 1), (Kind.PROPOSAL, 0), (Kind.ANSWER, 2)]), NAMES, NAMES)
def test_topics_of_any_names_come_back(chain: str, form: tuple[Kind, int], who: str, by: str) -> None:
    """What is written for names that configuration allows is read again."""
    kind, words = form
    topic = Topic(chain, kind, *(who, by)[:words])
    assert Topic.parse(str(topic)) == topic


@given(st.binary(max_size=100), HASHES)
def test_proposals_come_back(signed: bytes, hashes: list[bytes]) -> None:
    """A signed proposal and its leaf hashes survive the message, from a list or a tuple."""
    payload = messages.encode_proposal(signed, hashes)
    assert messages.decode_proposal(payload) == (signed, tuple(hashes))
    assert messages.encode_proposal(signed, tuple(hashes)) == payload


@given(st.binary(max_size=100), st.lists(st.binary(max_size=100), max_size=7))
def test_certificates_come_back(proposal: bytes, votes: list[bytes]) -> None:
    """A proposal and its votes survive the message."""
    certificate = Certificate(proposal=proposal, votes=tuple(votes))
    assert messages.decode_certificate(messages.encode_certificate(certificate)) == certificate


@given(st.binary(max_size=100), st.binary(max_size=100), st.integers(0, 2**64 - 1), st.binary(max_size=16))
def test_tips_and_asks_come_back(statement: bytes, proposal: bytes, height: int, nonce: bytes) -> None:
    """A statement with its proposal, and a question with its nonce, survive the message."""
    assert messages.decode_tip(messages.encode_tip(statement, proposal)) == (statement, proposal)
    ask = Ask(incarnation=height, next_height=height, nonce=nonce, to="peer-0")
    assert messages.decode_ask(messages.encode_ask(ask)) == ask


@given(signed=st.binary(max_size=40), others=st.lists(st.binary(max_size=40), max_size=2))
def test_answers_freezes_and_openings_come_back(signed: bytes, others: list[bytes]) -> None:
    """A block with its votes, freezes with their cause, and an opening with its closing survive the message."""
    hashes = (bytes(32), b"\x01" * 32)
    assert messages.decode_answer(messages.encode_answer(signed, hashes, others)) == (signed, hashes, tuple(others))
    shown = tuple(Shown(signed, other) for other in others)
    assert messages.decode_freezes(messages.encode_freezes(shown, others)) == (shown, tuple(others))
    assert messages.decode_opening(messages.encode_opening(signed, shown)) == (signed, shown)


MALFORMED: list[tuple[Callable[[bytes], object], object, str]] = [
    (messages.decode_proposal, [b"signed"], "not a proposal"),
    (messages.decode_proposal, [b"signed", bytes(31)], "not a proposal"),
    (messages.decode_proposal, [b"signed", bytes(32), b""], "not a proposal"),
    (messages.decode_proposal, ["signed", bytes(32)], "not a proposal"),
    (messages.decode_proposal, {1: b"signed"}, "not a proposal"),
    (messages.decode_certificate, [b"proposal"], "not a certificate"),
    (messages.decode_certificate, [b"proposal", [1]], "not a certificate"),
    (messages.decode_certificate, [b"proposal", b"vote"], "not a certificate"),
    (messages.decode_certificate, ["proposal", []], "not a certificate"),
    (messages.decode_tip, [b"statement"], "not a tip"),
    (messages.decode_tip, [b"statement", "proposal"], "not a tip"),
    (messages.decode_tip, b"statement", "not a tip"),
    (messages.decode_ask, [0, 1, b""], "not an ask"),
    (messages.decode_ask, [0, -1, b"", ""], "not an ask"),
    (messages.decode_ask, [0, True, b"", ""], "not an ask"),
    (messages.decode_ask, ["0", 1, b"", ""], "not an ask"),
    (messages.decode_ask, [0, 1, bytes(17), ""], "not an ask"),
    (messages.decode_ask, [0, 1, b"", b"peer-0"], "not an ask"),
    (messages.decode_answer, [b"signed", bytes(32)], "not an answer"),
    (messages.decode_answer, [b"signed", bytes(31), []], "not an answer"),
    (messages.decode_answer, [b"signed", bytes(32), [1]], "not an answer"),
    (messages.decode_freezes, [[], [b"1", b"2", b"3"]], "not freezes"),
    (messages.decode_freezes, [[], [1]], "not freezes"),
    (messages.decode_freezes, [[[b"freeze"]], []], "not a freeze with the proposal"),
    (messages.decode_freezes, [[b"freeze"], []], "not a freeze with the proposal"),
    (messages.decode_opening, [b"opening"], "not an opening"),
    (messages.decode_opening, [b"opening", [[b"freeze", 1]]], "not a freeze with the proposal"),
]


@pytest.mark.parametrize(("decode", "content", "reason"), MALFORMED)
def test_a_malformed_message_is_refused(decode: Callable[[bytes], object], content: object, reason: str) -> None:
    """Other shapes, types, lengths and ranges than the table's are refused by the message's name."""
    with pytest.raises(VerificationError, match=reason):
        decode(cbor.encode(content))


@pytest.mark.parametrize("decode", DECODERS)
@given(payload=st.binary(max_size=100))
def test_fault_36_garbage_on_a_topic_is_refused_with_one_kind_of_error(
    decode: Callable[[bytes], object], payload: bytes
) -> None:
    """Whatever stands retained on a topic, reading it gives a message or a VerificationError."""
    try:
        decode(payload)
    except VerificationError:
        return
    assert payload == cbor.encode(cbor.decode(payload))
