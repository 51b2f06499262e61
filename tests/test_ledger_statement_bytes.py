"""The bytes of what gateways and peers sign about a chain: `ledger.statements`."""

from collections.abc import Callable
from dataclasses import replace

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import cbor
from gateway.errors import VerificationError
from gateway.ledger import statements
from gateway.model import Block, Freeze, Opening, TipStatement, Why
from tests.builders import INTEGERS, NATURALS, TEXTS

DIGESTS = st.binary(min_size=32, max_size=32)
BLOCKS = st.builds(
    lambda start, more, **rest: Block(start=start, size=start + more, **rest),
    start=st.integers(0, 2**63),
    more=st.integers(1, 2**62),
    chain=TEXTS,
    incarnation=NATURALS,
    height=NATURALS,
    root=DIGESTS,
    start_root=DIGESTS,
    sealed_ms=INTEGERS,
)
PLACES = {"chain": TEXTS, "incarnation": NATURALS, "next_height": NATURALS, "size": NATURALS, "root": DIGESTS}
TIPS = st.builds(TipStatement, nonce=st.binary(max_size=16), **PLACES)
FREEZES = st.builds(Freeze, peer=TEXTS, epoch=NATURALS, why=st.sampled_from(Why), **PLACES)
OPENINGS = st.builds(Opening, chain=TEXTS, incarnation=NATURALS, closing_digest=DIGESTS)

BLOCK = Block(chain="c", incarnation=0, height=1, start=2, size=5, root=bytes(32), start_root=b"\x01" * 32, sealed_ms=7)
TIP = TipStatement(chain="c", incarnation=0, next_height=2, size=5, root=bytes(32), nonce=b"n")
FREEZE = Freeze(
    peer="p", chain="c", incarnation=0, next_height=2, size=5, root=bytes(32), epoch=3, why=Why.TWO_HISTORIES
)
OPENING = Opening(chain="c", incarnation=1, closing_digest=bytes(32))


def again(what: str, payload: bytes) -> bytes:
    """Read bytes of a format, and give those that are made of what was read."""
    return READ_AND_WRITTEN[what](payload)


READ_AND_WRITTEN: dict[str, Callable[[bytes], bytes]] = {
    "block": lambda data: statements.encode_block(statements.decode_block(data)),
    "tip": lambda data: statements.encode_tip(statements.decode_tip(data)),
    "freeze": lambda data: statements.encode_freeze(statements.decode_freeze(data, "p")),
    "recovery": lambda data: statements.encode_recovery(*statements.decode_recovery(data)),
    "opening": lambda data: statements.encode_opening(statements.decode_opening(data)),
}
PAYLOADS = {
    "block": statements.encode_block(BLOCK),
    "tip": statements.encode_tip(TIP),
    "freeze": statements.encode_freeze(FREEZE),
    "recovery": statements.encode_recovery("c", 0),
    "opening": statements.encode_opening(OPENING),
}


@given(BLOCKS, TIPS, FREEZES, OPENINGS)
def test_statements_come_back_as_they_were(block: Block, tip: TipStatement, freeze: Freeze, opening: Opening) -> None:
    """What is said of a chain survives its bytes; a freeze's peer stands in the header."""
    assert statements.decode_block(statements.encode_block(block)) == block
    assert statements.decode_tip(statements.encode_tip(tip)) == tip
    assert statements.decode_freeze(statements.encode_freeze(freeze), freeze.peer) == freeze
    assert statements.decode_opening(statements.encode_opening(opening)) == opening
    recovery = statements.encode_recovery(block.chain, block.incarnation)
    assert statements.decode_recovery(recovery) == (block.chain, block.incarnation)


@pytest.mark.parametrize(
    ("what", "described"),
    [
        ("block", {1: 1, 2: "c", 3: 0, 4: 1, 5: 2, 6: 5, 7: bytes(32), 8: b"\x01" * 32, 9: 7}),
        ("tip", {1: 1, 2: "c", 3: 0, 4: 2, 5: 5, 6: bytes(32), 7: b"n"}),
        ("freeze", {1: 1, 2: "c", 3: 0, 4: 2, 5: 5, 6: bytes(32), 7: 3, 8: "two-histories"}),
        ("recovery", {1: 1, 2: "c", 3: 0}),
        ("opening", {1: 1, 2: "c", 3: 1, 4: bytes(32)}),
    ],
)
def test_bytes_are_what_the_docstring_says(what: str, described: dict[int, object]) -> None:
    """Each format is the map that its description has."""
    assert cbor.decode(PAYLOADS[what]) == described


@pytest.mark.parametrize("what", PAYLOADS)
@given(garbage=st.binary(max_size=120), cut=st.integers(0, 120))
def test_garbage_is_refused_with_one_kind_of_error(what: str, garbage: bytes, cut: int) -> None:
    """Whatever bytes come, a decoder reads a value of its format faithfully, or raises VerificationError."""
    payload = PAYLOADS[what]
    for data in (garbage, payload[:cut] + garbage, payload[:cut] + garbage + payload[cut + len(garbage) :]):
        try:
            assert again(what, data) == data
        except VerificationError:
            continue


@pytest.mark.parametrize("what", PAYLOADS)
@given(data=st.data())
def test_a_field_of_any_other_type_is_refused_or_read_faithfully(what: str, data: st.DataObject) -> None:
    """Any CBOR value in the place of any field is refused, or read into a value with those very bytes."""
    fields = dict(cbor2.loads(PAYLOADS[what]))
    values = st.recursive(
        INTEGERS | st.booleans() | st.none() | TEXTS | st.binary(max_size=40) | DIGESTS,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(INTEGERS | TEXTS, inner, max_size=4),
        max_leaves=8,
    )
    fields[data.draw(st.sampled_from(sorted(fields)))] = data.draw(values)
    changed = cbor.encode(fields)
    try:
        assert again(what, changed) == changed
    except VerificationError:
        return


@pytest.mark.parametrize("what", PAYLOADS)
def test_missing_unknown_and_odd_keys_are_refused(what: str) -> None:
    """A format has its keys and no others, and one version."""
    fields = dict(cbor2.loads(PAYLOADS[what]))
    for key in fields:
        with pytest.raises(VerificationError, match=f"not an? {what}: wrong keys"):
            again(what, cbor.encode({name: value for name, value in fields.items() if name != key}))
    with pytest.raises(VerificationError, match="wrong keys"):
        again(what, cbor.encode({**fields, 99: 0}))
    with pytest.raises(VerificationError, match="wrong keys"):
        again(what, cbor.encode(list(fields.values())))
    for version in (0, 2, True, "1", None):
        with pytest.raises(VerificationError, match="this version reads format 1"):
            again(what, cbor.encode({**fields, 1: version}))


@pytest.mark.parametrize(
    ("what", "key", "value"),
    [
        ("block", 3, -1),
        ("block", 7, bytes(31)),
        ("block", 8, "root"),
        ("block", 9, None),
        ("tip", 4, -1),
        ("tip", 7, "nonce"),
        ("freeze", 6, bytes(33)),
        ("freeze", 7, True),
        ("freeze", 8, "boredom"),
        ("freeze", 8, 1),
        ("recovery", 2, b"c"),
        ("recovery", 3, -1),
        ("opening", 3, "1"),
        ("opening", 4, bytes(31)),
    ],
)
def test_a_field_that_is_not_of_the_format_is_refused(what: str, key: int, value: object) -> None:
    """Wrong types, ranges, lengths and words are refused as not of the format."""
    with pytest.raises(VerificationError, match=f"not an? {what}"):
        again(what, cbor.encode({**cbor2.loads(PAYLOADS[what]), key: value}))


@pytest.mark.parametrize("size", [0, 1, 2])
def test_an_empty_block_is_refused(size: int) -> None:
    """A block has leaves: its size is beyond its start."""
    with pytest.raises(VerificationError, match=r"block 1 is empty: \[2, "):
        statements.decode_block(statements.encode_block(replace(BLOCK, size=size)))


@pytest.mark.parametrize("algorithm", [-8, -48])
def test_a_votes_header_is_what_the_docstring_says(algorithm: int) -> None:
    """It binds the place, and the time of sealing, which nothing else in a receipt does."""
    assert cbor.decode(statements.vote_header(algorithm, b"kid", "peer-0", 99, 3, BLOCK)) == {
        1: algorithm,
        4: b"kid",
        15: {1: "peer-0", 2: "c", 6: 99},
        395: 1,
        -70001: [3, 0, 1, 2, 5, 7],
    }
