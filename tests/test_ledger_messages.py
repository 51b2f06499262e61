from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import cbor
from gateway.errors import VerificationError
from gateway.ledger import messages
from gateway.ledger.messages import Kind, Topic
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
]

DECODERS: list[Callable[[bytes], object]] = [
    messages.decode_proposal,
    messages.decode_certificate,
    messages.decode_tip,
    messages.decode_ask,
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
    assert messages.decode_ask(messages.encode_ask(height, nonce)) == (height, nonce)


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
    (messages.decode_ask, [1], "not an ask"),
    (messages.decode_ask, [-1, b""], "not an ask"),
    (messages.decode_ask, [True, b""], "not an ask"),
    (messages.decode_ask, ["1", b""], "not an ask"),
    (messages.decode_ask, [1, bytes(17)], "not an ask"),
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
