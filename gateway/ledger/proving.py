"""What anyone on the roster may ask a peer to prove of a chain: a leaf in it, or that it only grew.

    question = [of whom, incarnation, size, index / null, smaller size / null]
    proof    = [incarnation, size, index / null, smaller size / null, [* hash .size 32]]

    ["peer-0", 0, 7, 2, null]  -> [0, 7, 2, null, path]     leaf 2 stands in the tree of 7 leaves  (RFC 9162 2.1.3)
    ["peer-0", 0, 7, null, 4]  -> [0, 7, null, 4, path]     the tree of 7 begins with that of 4    (RFC 9162 2.1.4)

A question has an index or a smaller size, not both. Neither message is signed: a path holds by itself, between hashes
that the asker trusts already. Roots, and the sizes that belong to them, are trusted for the votes on their blocks.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from gateway import canonical, cbor, merkle
from gateway.errors import VerificationError
from gateway.merkle import TileReader


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Of the tree of `size` leaves: where is leaf `index`, or how did the tree of `smaller` become it; one is None."""

    to: str
    incarnation: int
    size: int
    index: int | None = None
    smaller: int | None = None


def encode_question(question: Question) -> bytes:
    """Give the message that asks a peer for a proof."""
    return cbor.encode([question.to, *_place(question)])


def decode_question(payload: bytes) -> Question:
    """Read a question.

    Raises: VerificationError if it is malformed.
    """
    match cbor.decode(payload):
        case [str(to), *place] if len(place) == 4:
            return _read_place(to, place)
    raise VerificationError("not a question for a proof")


def encode_proof(question: Question, path: Sequence[bytes]) -> bytes:
    """Give the message that answers a question."""
    return cbor.encode([*_place(question), list(path)])


def decode_proof(payload: bytes) -> tuple[Question, list[bytes]]:
    """Read an answer: the question that it says it answers, `to` left empty, and the path.

    Raises: VerificationError if it is malformed.
    """
    match cbor.decode(payload):
        case [*place, [*path]] if len(place) == 4:
            return _read_place("", place), canonical.checked("proof", lambda: [canonical.digest(node) for node in path])
    raise VerificationError("not a proof")


def prove(read: TileReader, kept: int, question: Question) -> list[bytes]:
    """Give the path that answers a question, from the tiles of its incarnation, of which `kept` leaves are known.

    Raises: VerificationError if that cannot be asked of so many leaves, KeyError if a tile is missing.
    """
    size = question.size
    if size > kept:
        raise VerificationError(f"a proof in a tree of {size} leaves was asked for, and {kept} are known")
    match question.index, question.smaller:
        case int(index), None if 0 <= index < size:
            return merkle.tile_path(read, index, size)
        case None, int(smaller) if 0 <= smaller <= size:
            return merkle.tile_consistency(read, smaller, size)
    raise VerificationError(f"no proof of leaf {question.index} or size {question.smaller} in a tree of {size} leaves")


def verify_proof(question: Question, path: Sequence[bytes], known: bytes, root: bytes) -> None:
    """Check the answer to a question; whether it answers that one is for the asker to compare.

    `known` is the hash of the leaf at `index`, or the root of the smaller tree; `root` that of the tree of `size`.
    Raises: VerificationError if the path does not lead from one to the other.
    """
    match question.index, question.smaller:
        case int(index), None:
            merkle.verify_inclusion(known, index, question.size, path, root)
        case None, int(smaller):
            merkle.verify_consistency(smaller, question.size, path, known, root)
        case _:
            raise _no_question()


def find_leaf(read: TileReader, kept: int, leaf: bytes) -> int | None:
    """Give where a leaf hash first stands among the `kept` ones, None if it does not; reads all of them up to there.

    Raises: KeyError if a tile is missing.
    """
    for start in range(0, kept, merkle.TILE_WIDTH):
        hashes = merkle.tile_hashes(read, start, min(start + merkle.TILE_WIDTH, kept))
        if leaf in hashes:
            return start + hashes.index(leaf)
    return None


def _place(question: Question) -> list[object]:
    return [question.incarnation, question.size, question.index, question.smaller]


def _read_place(to: str, place: Sequence[object]) -> Question:
    incarnation, size, index, smaller = place
    if (index is None) == (smaller is None):
        raise _no_question()
    return canonical.checked(
        "question for a proof",
        lambda: Question(
            to=to,
            incarnation=canonical.natural(incarnation),
            size=canonical.natural(size),
            index=None if index is None else canonical.natural(index),
            smaller=None if smaller is None else canonical.natural(smaller),
        ),
    )


def _no_question() -> VerificationError:
    return VerificationError("a question for a proof names either a leaf or a smaller tree")
