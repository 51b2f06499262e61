"""The invariants of what else reads bytes from outside.

CBOR, readings, messages: VerificationError, or a value that encodes to the very bytes. A COSE_Sign1, a statement and a
transparent reading: VerificationError or a value. A profile: ConfigError or a value. Stored records, whatever a device
indicates: nothing is raised, three requests at most, and never one after the end.

Input of stored records: 00, or 01 and what is held in two bytes, then steps: a byte whose upper two bits say what
happens and the lower six its size. 0, 1: so many bytes are indicated. 2: a record comes, its number in two bytes.
3: so many seconds pass.
"""

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import TypeVar

from gateway import canonical, cbor, signing
from gateway.decode import DECODERS
from gateway.decode.record_access import StoredRecords
from gateway.decode.statement import read_statement
from gateway.errors import ConfigError, IomtError, VerificationError
from gateway.ledger import messages, proving
from gateway.ledger.closing import Shown
from gateway.ledger.receipt import verify_transparent
from gateway.model import Waveform
from gateway.profile import load_profile
from tests.builders import CHAIN, alone, make_reading, make_roster, ward_chain
from tests.fuzz.seeds import STATEMENTS
from tests.fuzz.target import Target

Value = TypeVar("Value")

_PROFILES = Path(__file__).parents[2] / "device_profiles"
_REQUESTS = 3
_PEERS = ("peer-0", "peer-1", "peer-2")
_CHAIN = ward_chain(3)
_ROSTERS = alone(make_roster())
_READINGS = (
    canonical.encode_reading(make_reading()),
    canonical.encode_reading(replace(make_reading(value=Decimal("98.60")), device_time_ms=-5, flags=("poor-signal",))),
    canonical.encode_reading(
        replace(make_reading(value=Waveform(period_ns=8, scale=-2, samples=(1, -70_000))), statement=STATEMENTS[0])
    ),
)
_VOTES = _CHAIN.receipts(2, _PEERS)
_TRANSPARENT = (_CHAIN.transparent_reading(2, 1, _PEERS), _CHAIN.transparent_event(0, _PEERS))
_NAMES = frozenset(DECODERS)


def comes_back(read: Callable[[bytes], Value], encode: Callable[[Value], bytes]) -> Callable[[bytes], None]:
    """Make the check of a reader whose values have one encoding."""

    def check(data: bytes) -> None:
        try:
            value = read(data)
        except VerificationError as error:
            check_text(error)
            return
        assert encode(value) == data, "it encodes to other bytes"

    return check


def is_refused_by(kind: type[IomtError], read: Callable[[bytes], object]) -> Callable[[bytes], None]:
    """Make the check of a reader that gives a value, or raises this error with a text."""

    def check(data: bytes) -> None:
        try:
            value = read(data)
        except kind as error:
            check_text(error)
        else:
            assert value is not None, "it reads as nothing"

    return check


def check_stored_records(data: bytes) -> None:
    """Let a device do anything while its records are asked for."""
    held = int.from_bytes(data[1:3], "little") if data[:1] == b"\x01" else None
    steps = data[3:] if held is not None else data[1:]
    store = StoredRecords(held)
    asked = [store.begin(0)]
    now_ms = 0
    while steps:
        verb, size = divmod(steps[0], 64)
        taken = 2 if verb == 2 else size if verb < 2 else 0
        octets, steps = steps[1 : 1 + taken], steps[1 + taken :]
        now_ms += 1000 * size if verb == 3 else 0
        was_finished = store.finished
        request = _take_step(store, verb, octets, now_ms)
        assert not (was_finished and request), "a request after the end"
        asked += [request] if request else []
        assert len(asked) <= _REQUESTS, f"{len(asked)} requests"
        assert store.finished == (store.due_ms is None) == bool(store.reason), "finished and not, or for no reason"
        assert store.finished or store.last == held, "what is held moved before the end"


def _take_step(store: StoredRecords, verb: int, octets: bytes, now_ms: int) -> bytes | None:
    if verb == 2:
        store.heard_record(int.from_bytes(octets, "little"))
    elif verb == 3:
        store.expire(now_ms)
    else:
        return store.receive(octets, now_ms)
    return None


def check_text(error: IomtError) -> None:
    assert str(error), "refused for no reason"


def _read_profile(data: bytes) -> object:
    return load_profile(data.decode("utf-8", "replace"), "profile.toml", _NAMES)


def _read_topic(data: bytes) -> object:
    text = data.decode("utf-8", "replace")
    topic = messages.Topic.parse(text)
    assert str(topic) == text, "it is written as another topic"
    return topic


def _read_transparent(data: bytes) -> object:
    return verify_transparent(data, _ROSTERS)


_TOPICS = (
    messages.Topic(CHAIN, messages.Kind.PROPOSAL),
    messages.Topic(CHAIN, messages.Kind.VOTE, "peer-0"),
    messages.Topic(CHAIN, messages.Kind.ANSWER, "peer-0", "peer-1"),
)
_PROPOSAL = _CHAIN.proposals[1]
_CERTIFICATE = cbor.encode([_PROPOSAL.signed, _VOTES])

_TARGETS = (
    Target(name="cbor", check=comes_back(cbor.decode, cbor.encode), seeds=(*_READINGS, *STATEMENTS)),
    Target(
        name="reading",
        check=comes_back(canonical.decode_reading, canonical.encode_reading),
        seeds=_READINGS,
    ),
    Target(
        name="cose_sign1",
        check=is_refused_by(VerificationError, signing.parse),
        seeds=(*STATEMENTS, _CHAIN.leaves[2], _VOTES[0]),
    ),
    Target(name="statement", check=is_refused_by(VerificationError, read_statement), seeds=STATEMENTS),
    Target(
        name="stored_records",
        check=check_stored_records,
        seeds=tuple(
            bytes.fromhex(text)
            for text in (
                "01 2a00 802b00 04 06000101",
                "01 2a00 04 06000106 802a00 04 06000101",
                "01 ffff 800000 04 06000101 800000 04 06000101",
                "00 04 06000102",
                "01 2a00 04 06000103 04 06000105",
                "00 c1 800700 de fe",
            )
        ),
    ),
    Target(
        name="profile",
        check=is_refused_by(ConfigError, _read_profile),
        seeds=tuple(path.read_bytes() for path in sorted(_PROFILES.glob("*.toml"))),
    ),
    Target(name="transparent", check=is_refused_by(VerificationError, _read_transparent), seeds=_TRANSPARENT),
    Target(
        name="message.topic",
        check=is_refused_by(VerificationError, _read_topic),
        seeds=tuple(str(topic).encode() for topic in _TOPICS),
    ),
    Target(
        name="message.proposal",
        check=comes_back(messages.decode_proposal, lambda parts: messages.encode_proposal(*parts)),
        seeds=(messages.encode_proposal(_PROPOSAL.signed, _PROPOSAL.hashes),),
    ),
    Target(
        name="message.certificate",
        check=comes_back(messages.decode_certificate, messages.encode_certificate),
        seeds=(_CERTIFICATE,),
    ),
    Target(
        name="message.tip",
        check=comes_back(messages.decode_tip, lambda parts: messages.encode_tip(*parts)),
        seeds=(messages.encode_tip(_VOTES[0], _PROPOSAL.signed),),
    ),
    Target(
        name="message.ask",
        check=comes_back(messages.decode_ask, messages.encode_ask),
        seeds=(messages.encode_ask(messages.Ask(incarnation=1, next_height=7, nonce=bytes(16), to="peer-0")),),
    ),
    Target(
        name="message.answer",
        check=comes_back(messages.decode_answer, lambda parts: messages.encode_answer(*parts)),
        seeds=(messages.encode_answer(_PROPOSAL.signed, _PROPOSAL.hashes, _VOTES),),
    ),
    Target(
        name="message.freeze",
        check=comes_back(messages.decode_freezes, lambda parts: messages.encode_freezes(*parts)),
        seeds=(messages.encode_freezes([Shown(_VOTES[0], _PROPOSAL.signed)], [_PROPOSAL.signed]),),
    ),
    Target(
        name="message.opening",
        check=comes_back(messages.decode_opening, lambda parts: messages.encode_opening(*parts)),
        seeds=(messages.encode_opening(_VOTES[0], [Shown(_VOTES[0], _PROPOSAL.signed)]),),
    ),
    Target(
        name="message.question",
        check=comes_back(proving.decode_question, proving.encode_question),
        seeds=(proving.encode_question(proving.Question(to="peer-0", incarnation=0, size=7, index=2)),),
    ),
    Target(
        name="message.proof",
        check=comes_back(proving.decode_proof, lambda parts: proving.encode_proof(*parts)),
        seeds=(proving.encode_proof(proving.Question(to="", incarnation=0, size=7, smaller=2), [bytes(32)]),),
    ),
)
READER_TARGETS = {target.name: target for target in _TARGETS}
