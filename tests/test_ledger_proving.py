from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import cbor, merkle
from gateway.errors import VerificationError
from gateway.ledger import proving
from gateway.ledger.proving import Question

KEPT = 700
HASHES = [merkle.leaf_hash(number.to_bytes(2, "big")) for number in range(KEPT)]

NUMBERS = st.integers(0, 2**64 - 1)
QUESTIONS = st.builds(Question, to=st.text(max_size=20), incarnation=NUMBERS, size=NUMBERS, index=NUMBERS) | st.builds(
    Question, to=st.text(max_size=20), incarnation=NUMBERS, size=NUMBERS, smaller=NUMBERS
)
PATHS = st.lists(st.binary(min_size=32, max_size=32), max_size=65)


def read(level: int, number: int) -> bytes:
    return TILES[level, number]


def read_nothing(level: int, number: int) -> bytes:
    raise KeyError((level, number))


TILES = merkle.grown_tiles(read_nothing, 0, HASHES)


def ask(size: int, *, index: int | None = None, smaller: int | None = None) -> Question:
    return Question(to="peer-0", incarnation=0, size=size, index=index, smaller=smaller)


def test_the_formats_are_those_of_the_docstring() -> None:
    """The two questions in the module's docstring, and the answer to the first, byte for byte."""
    assert proving.encode_question(ask(7, index=2)) == cbor.encode(["peer-0", 0, 7, 2, None])
    assert proving.encode_question(ask(7, smaller=4)) == cbor.encode(["peer-0", 0, 7, None, 4])
    path = merkle.inclusion_path(HASHES[:7], 2)
    assert proving.encode_proof(ask(7, index=2), path) == cbor.encode([0, 7, 2, None, path])


@given(QUESTIONS, PATHS)
def test_questions_and_proofs_come_back(question: Question, path: list[bytes]) -> None:
    """A question survives its message; a proof's gives the path and the question, but not who was asked."""
    assert proving.decode_question(proving.encode_question(question)) == question
    assert proving.decode_proof(proving.encode_proof(question, path)) == (replace(question, to=""), path)


@pytest.mark.parametrize(
    "place",
    [
        [0, 7, 2],
        [0, 7, 2, None, None],
        [0, 7, 2, 4],
        [0, 7, None, None],
        [0, 7, -1, None],
        [0, 7, None, -1],
        [0, 7, True, None],
        [0, 7, None, "4"],
        [0, -7, 2, None],
        [0, None, 2, None],
        [-1, 7, 2, None],
        [False, 7, 2, None],
    ],
)
def test_a_malformed_question_or_proof_is_refused(place: list[object]) -> None:
    """Both or neither of index and smaller size, other types, negative numbers, parts too few or too many."""
    with pytest.raises(VerificationError, match="question"):
        proving.decode_question(cbor.encode(["peer-0", *place]))
    with pytest.raises(VerificationError, match=r"question|not a proof"):
        proving.decode_proof(cbor.encode([*place, []]))


@pytest.mark.parametrize("content", [b"", {1: 0}, [], [0, 0, 7, 2, None], [b"peer-0", 0, 7, 2, None]])
def test_what_is_no_question_is_refused(content: object) -> None:
    """Another shape, or a name that is no text."""
    with pytest.raises(VerificationError, match="not a question"):
        proving.decode_question(cbor.encode(content))


@pytest.mark.parametrize("path", [None, b"", ["hash"], [b"short"], [bytes(33)], [None], [bytes(32), 1]])
def test_a_path_of_anything_but_hashes_is_refused(path: object) -> None:
    """Each node of a path is 32 bytes."""
    with pytest.raises(VerificationError, match="not a proof"):
        proving.decode_proof(cbor.encode([0, 7, 2, None, path]))


@pytest.mark.parametrize("decode", [proving.decode_question, proving.decode_proof])
@given(payload=st.binary(max_size=100))
def test_fault_36_garbage_is_refused_with_one_kind_of_error(decode: Callable[[bytes], object], payload: bytes) -> None:
    """Whatever stands on a topic, reading it gives a message or a VerificationError."""
    try:
        decode(payload)
    except VerificationError:
        return
    assert payload == cbor.encode(cbor.decode(payload))


@given(st.integers(1, KEPT), st.data())
def test_a_leaf_is_proved_to_stand_in_any_tree_that_was(size: int, data: st.DataObject) -> None:
    """A peer's answer from its tiles convinces whoever has the leaf and the root, and for no other leaf or root."""
    question = ask(size, index=data.draw(st.integers(0, size - 1)))
    _, path = proving.decode_proof(proving.encode_proof(question, proving.prove(read, KEPT, question)))
    leaf, root = HASHES[question.index or 0], merkle.root(HASHES[:size])
    proving.verify_proof(question, path, leaf, root)
    for known, claimed in ((leaf[::-1], root), (leaf, root[::-1])):
        with pytest.raises(VerificationError):
            proving.verify_proof(question, path, known, claimed)


@given(st.integers(0, KEPT), st.data())
def test_a_tree_is_proved_to_have_only_grown(size: int, data: st.DataObject) -> None:
    """A peer's answer convinces whoever has both roots that the larger tree begins with the smaller."""
    question = ask(size, smaller=data.draw(st.integers(0, size)))
    _, path = proving.decode_proof(proving.encode_proof(question, proving.prove(read, KEPT, question)))
    before, root = merkle.root(HASHES[: question.smaller]), merkle.root(HASHES[:size])
    proving.verify_proof(question, path, before, root)
    with pytest.raises(VerificationError):
        proving.verify_proof(question, path, before[::-1], root)


@pytest.mark.parametrize(
    ("question", "reason"),
    [
        (ask(KEPT + 1, index=0), f"a tree of {KEPT + 1} leaves was asked for, and {KEPT} are known"),
        (ask(KEPT + 1, smaller=0), f"and {KEPT} are known"),
        (ask(5, index=5), "no proof of leaf 5"),
        (ask(5, index=-1), "no proof of leaf -1"),
        (ask(0, index=0), "in a tree of 0 leaves"),
        (ask(5, smaller=6), "no proof of leaf None or size 6"),
        (ask(5, smaller=-1), "size -1"),
        (ask(5), "size None"),
        (ask(5, index=1, smaller=1), "leaf 1 or size 1"),
    ],
)
def test_what_cannot_be_proved_is_refused(question: Question, reason: str) -> None:
    """More leaves than are kept, an index or a smaller size outside, a question for neither or both."""
    with pytest.raises(VerificationError, match=reason):
        proving.prove(read, KEPT, question)


@pytest.mark.parametrize("question", [ask(5), ask(5, index=1, smaller=1)])
def test_nothing_answers_a_question_for_neither_or_both(question: Question) -> None:
    """A proof is checked for a leaf, or for a smaller tree."""
    with pytest.raises(VerificationError, match="either a leaf or a smaller tree"):
        proving.verify_proof(question, [], HASHES[0], HASHES[0])


def test_a_missing_tile_is_no_fault_of_the_asker() -> None:
    """Where a tile that must be there is missing, that is a KeyError, as everywhere that tiles are read."""
    with pytest.raises(KeyError):
        proving.prove(read_nothing, KEPT, ask(5, index=1))


@pytest.mark.parametrize("index", [0, 255, 256, 511, 512, KEPT - 1])
def test_a_leaf_is_found_by_its_hash(index: int) -> None:
    """A leaf stands where it was put, at the edges of tiles too."""
    assert proving.find_leaf(read, KEPT, HASHES[index]) == index


@pytest.mark.parametrize(
    ("kept", "leaf"), [(KEPT, bytes(32)), (KEPT, HASHES[0][1:]), (300, HASHES[300]), (0, HASHES[0])]
)
def test_a_leaf_that_is_not_among_those_kept_is_not_found(kept: int, leaf: bytes) -> None:
    """Neither is an unknown hash, a piece of one, nor a leaf that stands behind the last one kept."""
    assert proving.find_leaf(read, kept, leaf) is None
