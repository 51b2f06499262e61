"""The RFC 9162 2.1 Merkle tree over SHA-256: roots, inclusion and consistency paths, frontiers and tiles.

    leaf = SHA-256(00 || data)        node = SHA-256(01 || left || right)

A frontier is what a tree of n leaves needs to grow and to give its root: the roots of its complete subtrees,
largest first, one for each bit that is set in n. A tile (level L, number N) is up to 256 consecutive hashes
of height 8L, from number 256N on: the tree is kept as tiles, and any node, path or frontier is read from O(log n)
of them. Tiles grow at their end and are never changed otherwise.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gateway.errors import VerificationError

EMPTY_ROOT = hashlib.sha256(b"").digest()
TILE_HEIGHT = 8
TILE_WIDTH = 1 << TILE_HEIGHT
HASH_SIZE = 32

# (level, number) -> the tile's hashes, one behind the other; raises KeyError where there is none.
TileReader = Callable[[int, int], bytes]


def leaf_hash(data: bytes) -> bytes:
    """Hash a leaf's bytes (RFC 9162 2.1.1)."""
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash two neighbouring nodes (RFC 9162 2.1.1)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def root(hashes: Sequence[bytes]) -> bytes:
    """Give the root of a tree with these leaf hashes; the empty tree's is SHA-256 of nothing."""
    return Frontier().extend(hashes).root()


def inclusion_path(hashes: Sequence[bytes], index: int) -> list[bytes]:
    """Give the inclusion path of leaf `index`, from the leaf upwards (RFC 9162 2.1.3.1).

    Raises: IndexError if there is no such leaf.
    """
    if not 0 <= index < len(hashes):
        raise IndexError(f"leaf {index} of {len(hashes)}")
    return [_subtree_root(hashes, *span) for span in _sibling_spans(index, len(hashes))]


def verify_inclusion(leaf: bytes, index: int, size: int, path: Sequence[bytes], root: bytes) -> None:
    """Check that the leaf hash stands at `index` in the tree of `size` leaves with this root (RFC 9162 2.1.3.2).

    Raises: VerificationError if it does not.
    """
    if inclusion_root(leaf, index, size, path) != root:
        raise VerificationError(f"the path of leaf {index} does not lead to the root of the tree of {size}")


def inclusion_root(leaf: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes:
    """Give the root that a leaf hash and its path lead to (RFC 9162 2.1.3.2).

    Raises: VerificationError if a path of that length cannot belong to that index and size.
    """
    if not 0 <= index < size:
        raise VerificationError(f"leaf {index} cannot be in a tree of {size}")
    if any(len(node) != HASH_SIZE for node in (leaf, *path)):
        raise VerificationError(f"a hash on the path of leaf {index} is not {HASH_SIZE} bytes long")
    node = leaf
    sides = _left_sides(index, size - 1, len(path), f"the path of leaf {index} in a tree of {size}")
    for sibling, is_left in zip(path, sides, strict=True):
        node = node_hash(sibling, node) if is_left else node_hash(node, sibling)
    return node


def consistency_path(hashes: Sequence[bytes], smaller: int) -> list[bytes]:
    """Give what proves that the first `smaller` of these leaves are how the tree began (RFC 9162 2.1.4.1).

    For trees of equal size, and for the empty one, that is nothing.
    Raises: IndexError if there are fewer leaves.
    """
    if not 0 <= smaller <= len(hashes):
        raise IndexError(f"{smaller} leaves of {len(hashes)}")
    return [_subtree_root(hashes, *span) for span in _consistency_spans(smaller, len(hashes))]


def verify_consistency(smaller: int, size: int, path: Sequence[bytes], smaller_root: bytes, root: bytes) -> None:
    """Check that the tree of `size` leaves with this root begins with that of `smaller` leaves (RFC 9162 2.1.4.2).

    Every tree begins with the empty one, whose root is `EMPTY_ROOT`, and with itself; neither needs a path.
    Raises: VerificationError if it does not.
    """
    what = f"the consistency path from {smaller} to {size} leaves"
    if not 0 <= smaller <= size:
        raise VerificationError(f"a tree of {size} leaves cannot begin with one of {smaller}")
    if any(len(node) != HASH_SIZE for node in (smaller_root, root, *path)):
        raise VerificationError(f"a hash of {what} is not {HASH_SIZE} bytes long")
    if smaller in {0, size}:
        if path:
            raise VerificationError(f"{what} is too long")
        found = (root if smaller else EMPTY_ROOT, root if size else EMPTY_ROOT)
    else:
        found = _consistent_roots(smaller, size, path, smaller_root, what)
    if found != (smaller_root, root):
        raise VerificationError(f"{what} does not lead to the roots of both")


@dataclass(frozen=True, slots=True)
class Frontier:
    """The complete subtrees of a tree of `size` leaves, largest first."""

    size: int = 0
    peaks: tuple[bytes, ...] = ()

    def extend(self, hashes: Sequence[bytes]) -> "Frontier":
        """Give the frontier of the tree with these leaf hashes added."""
        peaks, kept, nodes, rest = list(self.peaks), [], list(hashes), self.size
        while nodes or rest:  # level by level: the peak of this height joins in, who has no sibling is a peak
            if rest & 1:
                nodes.insert(0, peaks.pop())
            if len(nodes) & 1:
                kept.append(nodes[-1])
            nodes = [node_hash(left, right) for left, right in zip(nodes[::2], nodes[1::2], strict=False)]
            rest >>= 1
        return Frontier(self.size + len(hashes), tuple(reversed(kept)))

    def root(self) -> bytes:
        """Give the root of the tree."""
        if not self.peaks:
            return EMPTY_ROOT
        node = self.peaks[-1]
        for peak in reversed(self.peaks[:-1]):
            node = node_hash(peak, node)
        return node


def grown_tiles(read: TileReader, size: int, hashes: Sequence[bytes]) -> dict[tuple[int, int], bytes]:
    """Give the tiles that change when these leaf hashes are added to a tree of `size` leaves that `read` knows."""
    grown: dict[tuple[int, int], bytes] = {}
    level = 0
    while hashes:
        complete: list[bytes] = []
        while hashes:
            number, filled = divmod(size, TILE_WIDTH)
            taken, hashes = hashes[: TILE_WIDTH - filled], hashes[TILE_WIDTH - filled :]
            tile = (read(level, number) if filled else b"") + b"".join(taken)
            grown[level, number] = tile
            size += len(taken)
            if size % TILE_WIDTH == 0:
                complete.append(root(split_hashes(tile)))
        hashes, size, level = complete, (size >> TILE_HEIGHT) - len(complete), level + 1
    return grown


def tile_path(read: TileReader, index: int, size: int) -> list[bytes]:
    """Give the inclusion path of leaf `index` in the tree of `size` leaves, which may be smaller than what is kept.

    Raises: IndexError if there is no such leaf, KeyError if a tile is missing.
    """
    if not 0 <= index < size:
        raise IndexError(f"leaf {index} of {size}")
    return [_tile_span_root(read, *span) for span in _sibling_spans(index, size)]


def tile_consistency(read: TileReader, smaller: int, size: int) -> list[bytes]:
    """Give the consistency path between two trees, the larger of which may be smaller than what is kept.

    Raises: IndexError if `smaller` is not within [0, size], KeyError if a tile is missing.
    """
    if not 0 <= smaller <= size:
        raise IndexError(f"{smaller} leaves of {size}")
    return [_tile_span_root(read, *span) for span in _consistency_spans(smaller, size)]


def tile_frontier(read: TileReader, size: int) -> Frontier:
    """Give the frontier of the first `size` leaves.

    Raises: KeyError if a tile is missing.
    """
    peaks, start = [], 0
    for height in reversed(range(size.bit_length())):
        if size >> height & 1:
            peaks.append(_tile_node(read, height, start >> height))
            start += 1 << height
    return Frontier(size, tuple(peaks))


def tile_hashes(read: TileReader, start: int, stop: int) -> list[bytes]:
    """Give the leaf hashes of [start, stop).

    Raises: KeyError if a tile is missing or does not reach that far.
    """
    hashes: list[bytes] = []
    for number in range(start >> TILE_HEIGHT, (stop - 1 >> TILE_HEIGHT) + 1):
        hashes += split_hashes(read(0, number))[max(start - number * TILE_WIDTH, 0) : stop - number * TILE_WIDTH]
    if len(hashes) != stop - start:
        raise KeyError((0, stop >> TILE_HEIGHT))
    return hashes


def _left_sides(at: int, last: int, count: int, what: str) -> list[bool]:
    """Say of each node of a path whether it is hashed from the left (RFC 9162 2.1.3.2, 2.1.4.2).

    `at` is the place of the node that the path begins beside, `last` that of the last node of the same height.
    Raises: VerificationError if so many nodes do not lead to the root.
    """
    sides: list[bool] = []
    for _ in range(count):
        if last == 0:
            raise VerificationError(f"{what} is too long")
        sides.append(at & 1 == 1 or at == last)
        if at == last:
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        at, last = at >> 1, last >> 1
    if last:
        raise VerificationError(f"{what} is too short")
    return sides


def _consistent_roots(
    smaller: int, size: int, path: Sequence[bytes], smaller_root: bytes, what: str
) -> tuple[bytes, bytes]:
    """Give the roots of both trees that a path leads to, where 0 < smaller < size."""
    height = (smaller & -smaller).bit_length() - 1  # of the last complete subtree of the smaller tree
    nodes = [smaller_root, *path] if smaller == 1 << height else path
    if not nodes:
        raise VerificationError(f"{what} is too short")
    before = after = nodes[0]
    sides = _left_sides(smaller - 1 >> height, size - 1 >> height, len(nodes) - 1, what)
    for sibling, is_left in zip(nodes[1:], sides, strict=True):
        before = node_hash(sibling, before) if is_left else before
        after = node_hash(sibling, after) if is_left else node_hash(after, sibling)
    return before, after


def _sibling_spans(index: int, size: int) -> list[tuple[int, int]]:
    """Give the leaf ranges [start, stop) whose roots make up the path of a leaf, from the leaf upwards."""
    spans: list[tuple[int, int]] = []
    start, stop = 0, size
    while stop - start > 1:
        middle = _middle(start, stop)
        if index < middle:
            spans.append((middle, stop))
            stop = middle
        else:
            spans.append((start, middle))
            start = middle
    return spans[::-1]


def _consistency_spans(smaller: int, size: int) -> list[tuple[int, int]]:
    """Give the leaf ranges whose roots make up a consistency path: those beside the end of the smaller tree."""
    spans: list[tuple[int, int]] = []
    start, stop = 0, size if smaller else 0
    while stop != smaller:
        middle = _middle(start, stop)
        if smaller <= middle:
            spans.append((middle, stop))
            stop = middle
        else:
            spans.append((start, middle))
            start = middle
    if start:  # else the smaller tree is a subtree, and whoever checks has its root
        spans.append((start, stop))
    return spans[::-1]


def _middle(start: int, stop: int) -> int:
    """Give where the tree over [start, stop) parts in two: behind the largest power of two within (RFC 9162 2.1.1)."""
    return start + (1 << (stop - start - 1).bit_length() - 1)


def _subtree_root(hashes: Sequence[bytes], start: int, stop: int) -> bytes:
    return root(hashes[start:stop])


def _tile_span_root(read: TileReader, start: int, stop: int) -> bytes:
    """Give the root over leaves [start, stop), where start is a multiple of the largest power of two within."""
    peaks, size, at = [], stop - start, start
    for height in reversed(range(size.bit_length())):
        if size >> height & 1:
            peaks.append(_tile_node(read, height, at >> height))
            at += 1 << height
    return Frontier(size, tuple(peaks)).root()


def _tile_node(read: TileReader, height: int, number: int) -> bytes:
    """Give the root of the complete subtree of 2**height leaves with that number."""
    level, within = divmod(height, TILE_HEIGHT)
    first = number << within
    tile = read(level, first >> TILE_HEIGHT)
    offset = first % TILE_WIDTH * HASH_SIZE
    piece = tile[offset : offset + (HASH_SIZE << within)]
    if len(piece) != HASH_SIZE << within:
        raise KeyError((level, first >> TILE_HEIGHT))
    return root(split_hashes(piece))


def split_hashes(joined: bytes) -> list[bytes]:
    """Give the hashes that stand one behind the other."""
    return [joined[at : at + HASH_SIZE] for at in range(0, len(joined), HASH_SIZE)]
