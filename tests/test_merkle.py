import base64
import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway import merkle
from gateway.errors import VerificationError
from gateway.merkle import Frontier

VECTORS = Path(__file__).parents[1] / "../shared/vectors/rfc6962_inclusion.json"
SIZES = [0, 1, 2, *sorted({2**n + delta for n in range(2, 11) for delta in (-1, 0, 1)})]
CONSISTENCY = json.loads((Path(__file__).parent / "vectors/rfc6962_consistency.json").read_text())
TILE_EDGES = [0, 1, 2, 255, 256, 257, 511, 512, 513, 65535, 65536, 65537]

LEAVES = [merkle.leaf_hash(number.to_bytes(4, "big")) for number in range(65537 + 300)]
hash_lists = st.lists(st.binary(min_size=32, max_size=32), max_size=70)
two_sizes = st.integers(0, 300).flatmap(lambda size: st.tuples(st.integers(0, size), st.just(size)))
small_trees = st.integers(1, 300).flatmap(lambda size: st.tuples(st.just(size), st.integers(0, size - 1)))


def defined_root(hashes: list[bytes]) -> bytes:
    """Give MTH(D[n]) by the definition of RFC 9162 2.1.1, word for word, over leaf hashes."""
    if not hashes:
        return hashlib.sha256().digest()
    if len(hashes) == 1:
        return hashes[0]
    half = 1
    while half * 2 < len(hashes):
        half *= 2
    return hashlib.sha256(b"\x01" + defined_root(hashes[:half]) + defined_root(hashes[half:])).digest()


def defined_path(hashes: list[bytes], index: int) -> list[bytes]:
    """Give PATH(m, D[n]) by the definition of RFC 9162 2.1.3.1 over leaf hashes."""
    if len(hashes) == 1:
        return []
    half = 1
    while half * 2 < len(hashes):
        half *= 2
    if index < half:
        return [*defined_path(hashes[:half], index), defined_root(hashes[half:])]
    return [*defined_path(hashes[half:], index - half), defined_root(hashes[:half])]


def defined_subproof(smaller: int, hashes: list[bytes], *, is_known: bool) -> list[bytes]:
    """Give SUBPROOF(m, D_n, b) by the definition of RFC 9162 2.1.4.1 over leaf hashes; PROOF is that with b true."""
    if smaller == len(hashes):
        return [] if is_known else [defined_root(hashes)]
    half = 1
    while half * 2 < len(hashes):
        half *= 2
    if smaller <= half:
        return [*defined_subproof(smaller, hashes[:half], is_known=is_known), defined_root(hashes[half:])]
    return [*defined_subproof(smaller - half, hashes[half:], is_known=False), defined_root(hashes[:half])]


class Tiles:
    """Tiles in memory, grown as a store grows them; a tile may only ever grow at its end."""

    def __init__(self) -> None:
        self.kept: dict[tuple[int, int], bytes] = {}
        self.size = 0
        self.reads = 0

    def read(self, level: int, number: int) -> bytes:
        """Give a tile, and count it."""
        self.reads += 1
        return self.kept[level, number]

    def grow(self, hashes: list[bytes]) -> None:
        """Add leaf hashes."""
        for place, tile in merkle.grown_tiles(self.read, self.size, hashes).items():
            assert tile.startswith(self.kept.get(place, b""))
            assert 0 < len(tile) <= 32 * 256
            self.kept[place] = tile
        self.size += len(hashes)


@pytest.fixture(scope="module")
def tall() -> Tiles:
    """Tiles of a tree that has just begun its third level."""
    tiles = Tiles()
    tiles.grow(LEAVES)
    return tiles


def foreign_cases() -> list[Any]:
    if not VECTORS.exists():
        return [
            pytest.param(None, marks=pytest.mark.skip(reason="../shared/vectors/rfc6962_inclusion.json is missing"))
        ]
    cases = json.loads(VECTORS.read_text())["cases"]
    return [pytest.param(case, id=name.removeprefix("testdata/inclusion/")) for name, case in cases.items()]


@pytest.mark.parametrize("case", foreign_cases())
def test_foreign_inclusion_proofs_are_judged_as_their_source_judges_them(case: dict[str, Any]) -> None:
    """Each proof of transparency-dev/merkle is accepted or refused as that project says."""
    path = [base64.b64decode(node) for node in case["proof"] or []]
    leaf, root = base64.b64decode(case["leafHash"]), base64.b64decode(case["root"])
    if case["wantErr"]:
        with pytest.raises(VerificationError):
            merkle.verify_inclusion(leaf, case["leafIdx"], case["treeSize"], path, root)
    else:
        merkle.verify_inclusion(leaf, case["leafIdx"], case["treeSize"], path, root)


# Accumulated over trees of up to 130 leaves, leaf i being the single byte i: draft-ietf-plants-merkle-tree-certs-05,
# appendix C. A subtree is valid if it starts at a multiple of the smallest power of two that is not below its width.
SUBTREES = [
    (start, end) for end in range(1, 131) for start in range(end) if not start % (1 << (end - start - 1).bit_length())
]
SUBTREE_HASHES = "94a95384a8c69acea9b50d035a58285b3a777cb7a724005faa5e1f1e1190007f"
SUBTREE_INCLUSION = "ac2a8f989e44d99e399db448050ff5f19757df53cfb716aa81015d3955d8163f"
SUBTREE_CONSISTENCY = "c586ebbb73a5621baf2140095d87dde934e3b6503a562a1a5215b8209edd083d"
BYTE_LEAVES = [merkle.leaf_hash(bytes((number,))) for number in range(130)]


def line(prefix: str, path: list[bytes]) -> bytes:
    return "".join((prefix, *(f" {node.hex()}" for node in path), "\n")).encode()


def test_every_root_and_path_up_to_130_leaves_is_that_of_a_published_draft() -> None:
    """The accumulated hashes over all subtrees, and over all inclusion proofs within them, are the draft's."""
    roots, paths = hashlib.sha256(), hashlib.sha256()
    for start, end in SUBTREES:
        hashes = BYTE_LEAVES[start:end]
        roots.update(line(f"[{start}, {end})", [merkle.root(hashes)]))
        for index in range(end - start):
            paths.update(line(f"{start + index} [{start}, {end})", merkle.inclusion_path(hashes, index)))
    assert roots.hexdigest() == SUBTREE_HASHES
    assert paths.hexdigest() == SUBTREE_INCLUSION


@cache
def subtree_consistency(start: int, end: int, first: int, last: int) -> list[bytes]:
    """Give the draft's proof of [start, end) in [first, last): a consistency path, and siblings if it starts later."""
    if start == first:
        return merkle.consistency_path(BYTE_LEAVES[first:last], end - first)
    middle = first + (1 << (last - first - 1).bit_length() - 1)
    if end <= middle:
        return [*subtree_consistency(start, end, first, middle), merkle.root(BYTE_LEAVES[middle:last])]
    return [*subtree_consistency(start, end, middle, last), merkle.root(BYTE_LEAVES[first:middle])]


def test_every_consistency_path_up_to_130_leaves_is_that_of_a_published_draft() -> None:
    """The accumulated hash over the consistency proofs of all subtrees, and so of all trees, is the draft's."""
    paths = hashlib.sha256()
    for size in range(131):
        for start, end in SUBTREES:
            if end <= size:
                paths.update(line(f"[{start}, {end}) {size}", subtree_consistency(start, end, 0, size)))
    assert paths.hexdigest() == SUBTREE_CONSISTENCY


@pytest.mark.parametrize("case", CONSISTENCY["proofs"], ids=lambda case: f"{case['size1']}-{case['size2']}")
def test_foreign_consistency_proofs_are_made_and_accepted(case: dict[str, Any]) -> None:
    """Each good proof of transparency-dev/merkle is what its leaves give, and holds between its roots."""
    hashes = [merkle.leaf_hash(bytes.fromhex(leaf)) for leaf in CONSISTENCY["leaves"]]
    roots = [bytes.fromhex(root) for root in CONSISTENCY["roots"]]
    smaller, size, path = case["size1"], case["size2"], [bytes.fromhex(node) for node in case["proof"]]
    assert roots == [merkle.root(hashes[:stop]) for stop in range(1, 9)]
    assert merkle.consistency_path(hashes[:size], smaller) == path
    merkle.verify_consistency(smaller, size, path, roots[smaller - 1], roots[size - 1])


@pytest.mark.parametrize("case", CONSISTENCY["proofs"][1:], ids=lambda case: f"{case['size1']}-{case['size2']}")
def test_foreign_consistency_proofs_are_refused_when_corrupted_as_their_source_does(case: dict[str, Any]) -> None:
    """With a size, a root or the proof changed in each of the ways of transparency-dev/merkle, none holds."""
    size1, size2, proof = case["size1"], case["size2"], [bytes.fromhex(node) for node in case["proof"]]
    root1, root2 = (bytes.fromhex(CONSISTENCY["roots"][size - 1]) for size in (size1, size2))
    refused = [
        *[(size, size2, proof, root1, root2) for size in (size1 - 1, size1 + 1, size1 ^ 2)],
        *[(size1, size, proof, root1, root2) for size in (size2 * 2, size2 // 2)],
        (size1, size2, proof, b"WrongRoot", root2),
        (size1, size2, proof, root1, b"WrongRoot"),
        (size1, size2, proof, root2, root1),
        *[(size1, size2, [*proof, node], root1, root2) for node in (b"", root1, root2)],
        *[(size1, size2, [node, *proof], root1, root2) for node in (b"", root1, root2, proof[0])],
        *[(size1, size2, changed, root1, root2) for changed in ([], proof[:-1])],
    ]
    for place, node in enumerate(proof):
        flipped = bytes((node[0] ^ 16,)) + node[1:]
        refused.append((size1, size2, [*proof[:place], flipped, *proof[place + 1 :]], root1, root2))
    for arguments in refused:
        with pytest.raises(VerificationError):
            merkle.verify_consistency(*arguments)


def test_fault_18_trees_of_0_1_2_and_around_powers_of_two() -> None:
    """Root and every path are the definition's for trees of 0, 1, 2 and 2^n - 1, 2^n, 2^n + 1 leaves."""
    for size in SIZES:
        hashes = LEAVES[:size]
        root = merkle.root(hashes)
        assert root == defined_root(hashes)
        for index in {0, 1, size // 2, size - 2, size - 1} & set(range(size)):
            path = merkle.inclusion_path(hashes, index)
            assert path == defined_path(hashes, index)
            merkle.verify_inclusion(hashes[index], index, size, path, root)


def test_fault_18_a_node_is_no_leaf_and_a_leaf_no_node() -> None:
    """The inner node of two leaves cannot be passed off as a leaf of a tree of one level less."""
    first, second, third, fourth = LEAVES[:4]
    left, right = merkle.node_hash(first, second), merkle.node_hash(third, fourth)
    root = merkle.root(LEAVES[:4])
    assert merkle.leaf_hash(first + second) != left
    assert merkle.root([merkle.leaf_hash(first + second), merkle.leaf_hash(third + fourth)]) != root
    with pytest.raises(VerificationError):
        merkle.verify_inclusion(merkle.leaf_hash(first + second), 0, 2, [right], root)
    with pytest.raises(VerificationError):
        merkle.verify_inclusion(left, 0, 4, [right], root)


def test_the_empty_tree_proves_nothing() -> None:
    """No leaf can be proved to stand in a tree of none."""
    assert merkle.root([]) == merkle.EMPTY_ROOT == Frontier().root()
    with pytest.raises(VerificationError):
        merkle.verify_inclusion(LEAVES[0], 0, 0, [], merkle.EMPTY_ROOT)
    with pytest.raises(IndexError):
        merkle.inclusion_path([], 0)


def test_fault_18_trees_around_powers_of_two_begin_with_each_other() -> None:
    """Between any two trees of 0, 1, 2 and 2^n - 1, 2^n, 2^n + 1 leaves, the consistency path is the definition's."""
    roots = {size: merkle.root(LEAVES[:size]) for size in SIZES}
    for size in SIZES:
        for smaller in (smaller for smaller in SIZES if smaller <= size):
            path = merkle.consistency_path(LEAVES[:size], smaller)
            assert path == (defined_subproof(smaller, LEAVES[:size], is_known=True) if smaller else [])
            merkle.verify_consistency(smaller, size, path, roots[smaller], roots[size])


@given(two_sizes)
def test_every_tree_begins_with_every_smaller_one(sizes: tuple[int, int]) -> None:
    """The consistency path is the definition's, holds between the two roots, and is no longer than the tree is high."""
    smaller, size = sizes
    path = merkle.consistency_path(LEAVES[:size], smaller)
    assert path == (defined_subproof(smaller, LEAVES[:size], is_known=True) if smaller else [])
    assert len(path) <= size.bit_length() + 1
    merkle.verify_consistency(smaller, size, path, merkle.root(LEAVES[:smaller]), merkle.root(LEAVES[:size]))


@given(two_sizes, st.data())
def test_a_consistency_path_holds_for_no_other_roots_or_nodes(sizes: tuple[int, int], data: st.DataObject) -> None:
    """With one root, or one node of the path, changed, cut, added, taken or shortened, it is refused."""
    smaller, size = sizes
    path = merkle.consistency_path(LEAVES[:size], smaller)
    before, after = merkle.root(LEAVES[:smaller]), merkle.root(LEAVES[:size])
    other = data.draw(st.sampled_from([LEAVES[-1], after[::-1], bytes(32)]))
    refused = [(path, other, after), ([*path, other], before, after), ([other, *path], before, after)]
    if smaller:
        refused.append((path, before, other))  # whatever follows the empty tree begins with it
    for place in range(len(path)):
        changes: list[list[bytes]] = [[], [other], [path[place][:-1]]]
        refused += [([*path[:place], *changed, *path[place + 1 :]], before, after) for changed in changes]
    for nodes, smaller_root, root in refused:
        with pytest.raises(VerificationError):
            merkle.verify_consistency(smaller, size, nodes, smaller_root, root)


@given(two_sizes.filter(lambda sizes: sizes[0] > 0), st.data())
def test_a_tree_that_was_rewritten_does_not_begin_with_what_it_was(sizes: tuple[int, int], data: st.DataObject) -> None:
    """Where one of the first leaves was changed, the new tree's own path leads to another root of the smaller one."""
    smaller, size = sizes
    changed = data.draw(st.integers(0, smaller - 1))
    rewritten = [*LEAVES[:changed], LEAVES[-1], *LEAVES[changed + 1 : size]]
    path = merkle.consistency_path(rewritten, smaller)
    with pytest.raises(VerificationError, match="does not lead to the roots of both"):
        merkle.verify_consistency(smaller, size, path, merkle.root(LEAVES[:smaller]), merkle.root(rewritten))


def test_the_empty_tree_begins_every_tree() -> None:
    """From 0 leaves, from as many leaves, and from 0 to 0, no path is needed, but the roots have to be right."""
    root = merkle.root(LEAVES[:5])
    merkle.verify_consistency(0, 0, [], merkle.EMPTY_ROOT, merkle.EMPTY_ROOT)
    merkle.verify_consistency(0, 5, [], merkle.EMPTY_ROOT, root)
    merkle.verify_consistency(5, 5, [], root, root)
    for smaller, size, before, after in [
        (0, 0, root, root),
        (0, 0, merkle.EMPTY_ROOT, root),
        (0, 5, root, root),
        (5, 5, merkle.EMPTY_ROOT, root),
    ]:
        with pytest.raises(VerificationError, match="does not lead to the roots of both"):
            merkle.verify_consistency(smaller, size, [], before, after)


@pytest.mark.parametrize(("smaller", "size"), [(-1, 5), (6, 5), (1, 0)])
def test_no_tree_begins_with_a_larger_one(tall: Tiles, smaller: int, size: int) -> None:
    """A smaller tree that is larger, or less than none, is an IndexError to ask for and refused when shown."""
    with pytest.raises(IndexError):
        merkle.consistency_path(LEAVES[:size], smaller)
    with pytest.raises(IndexError):
        merkle.tile_consistency(tall.read, smaller, size)
    with pytest.raises(VerificationError, match="cannot begin"):
        merkle.verify_consistency(smaller, size, [], LEAVES[0], LEAVES[0])


@pytest.mark.parametrize(
    ("smaller", "size", "count", "reason"),
    [
        (3, 5, 0, "too short"),
        (3, 5, 3, "too short"),
        (3, 5, 5, "too long"),
        (4, 5, 0, "too short"),
        (5, 5, 1, "too long"),
    ],
)
def test_a_consistency_path_of_the_wrong_length_is_named(smaller: int, size: int, count: int, reason: str) -> None:
    """How many nodes lead from one size to another is fixed; too many and too few are told apart."""
    with pytest.raises(VerificationError, match=f"from {smaller} to {size} leaves is {reason}"):
        merkle.verify_consistency(smaller, size, LEAVES[:count], LEAVES[0], LEAVES[0])


@given(hash_lists, hash_lists)
def test_a_frontier_grows_to_the_defined_root(first: list[bytes], then: list[bytes]) -> None:
    """However leaves arrive, the frontier's root is the definition's and its peaks are as many as bits in the size."""
    frontier = Frontier().extend(first).extend(then)
    assert frontier == Frontier().extend(first + then)
    assert frontier.root() == defined_root(first + then)
    assert len(frontier.peaks) == frontier.size.bit_count()


@given(small_trees)
def test_every_path_verifies_and_leads_to_the_root(tree: tuple[int, int]) -> None:
    """The path of each leaf is the definition's, verifies, and gives the root."""
    size, index = tree
    hashes = LEAVES[:size]
    path = merkle.inclusion_path(hashes, index)
    assert path == defined_path(hashes, index)
    assert merkle.inclusion_root(hashes[index], index, size, path) == merkle.root(hashes)
    merkle.verify_inclusion(hashes[index], index, size, path, merkle.root(hashes))


@given(small_trees, st.data())
def test_a_path_holds_for_no_other_index_size_leaf_or_root(tree: tuple[int, int], data: st.DataObject) -> None:
    """With the root of its tree, a path is refused for any other leaf, index or path, and for any other root."""
    size, index = tree
    hashes = LEAVES[:size]
    path, root = merkle.inclusion_path(hashes, index), merkle.root(hashes)
    other_index = data.draw(st.integers(-2, size + 2).filter(lambda other: other != index))
    other = data.draw(st.sampled_from([LEAVES[-1], root[::-1], bytes(32)]))
    refused = [
        (hashes[index], other_index, size, path, root),
        (other, index, size, path, root),
        (hashes[index], index, size, path, other),
        (hashes[index], index, size, [*path, other], root),
        (hashes[index], index, size, [other, *path], root),
    ]
    for place in range(len(path)):
        refused.append((hashes[index], index, size, path[:place] + path[place + 1 :], root))
        refused.append((hashes[index], index, size, [*path[:place], other, *path[place + 1 :]], root))
        refused.append((hashes[index], index, size, [*path[:place], path[place][:-1], *path[place + 1 :]], root))
    for arguments in refused:
        with pytest.raises(VerificationError):
            merkle.verify_inclusion(*arguments)


@given(small_trees, st.integers(0, 400))
def test_a_path_of_a_restated_size_never_gives_another_leaf(tree: tuple[int, int], other_size: int) -> None:
    """A size that RFC 9162's rule happens to accept with the same path and root proves the same leaf hash only."""
    size, index = tree
    hashes = LEAVES[:size]
    path, root = merkle.inclusion_path(hashes, index), merkle.root(hashes)
    with pytest.raises(VerificationError):
        merkle.verify_inclusion(LEAVES[index + 1], index, other_size, path, root)


def test_a_restated_size_can_pass_the_path_check_alone() -> None:
    """Why a size has to be signed: leaf 0 of 3 has the very path that leaf 0 of 4 has under the same root."""
    left, right = LEAVES[0], merkle.root(LEAVES[1:3])
    root = merkle.node_hash(merkle.node_hash(left, LEAVES[1]), right)
    path = [LEAVES[1], right]
    merkle.verify_inclusion(left, 0, 3, path, root)
    merkle.verify_inclusion(left, 0, 4, path, root)


@given(st.lists(st.sampled_from(TILE_EDGES) | st.integers(0, 3000), min_size=1, max_size=6), st.data())
def test_tiles_grown_in_any_steps_give_frontier_paths_and_hashes(stops: list[int], data: st.DataObject) -> None:
    """Frontier, path and leaf hashes read from tiles are those of the list of hashes, whatever the steps of growth."""
    tiles = Tiles()
    for stop in sorted({min(stop, 3000) for stop in stops}):
        tiles.grow(LEAVES[tiles.size : stop])
    size = data.draw(st.integers(0, tiles.size))
    assert merkle.tile_frontier(tiles.read, size) == Frontier().extend(LEAVES[:size])
    start = data.draw(st.integers(0, size))
    assert merkle.tile_hashes(tiles.read, start, size) == LEAVES[start:size]
    smaller = data.draw(st.integers(0, size))
    assert merkle.tile_consistency(tiles.read, smaller, size) == merkle.consistency_path(LEAVES[:size], smaller)
    if size:
        index = data.draw(st.integers(0, size - 1))
        assert merkle.tile_path(tiles.read, index, size) == merkle.inclusion_path(LEAVES[:size], index)


@pytest.mark.parametrize("size", TILE_EDGES)
def test_tiles_hold_at_their_edges(size: int) -> None:
    """A tree grown to just before, at and just after the end of a tile, then by one leaf more, keeps root and path."""
    tiles = Tiles()
    tiles.grow(LEAVES[:size])
    assert merkle.tile_frontier(tiles.read, size) == Frontier().extend(LEAVES[:size])
    tiles.grow(LEAVES[size : size + 1])
    root = merkle.tile_frontier(tiles.read, size + 1).root()
    for index in {0, size // 2, size}:
        merkle.verify_inclusion(LEAVES[index], index, size + 1, merkle.tile_path(tiles.read, index, size + 1), root)


@settings(max_examples=10)
@given(st.lists(st.sampled_from(TILE_EDGES) | st.integers(1, len(LEAVES)), max_size=5))
def test_how_a_tree_grew_does_not_show_in_its_tiles(tall: Tiles, stops: list[int]) -> None:
    """Grown in random steps over the edges of two levels, the tiles are the same as when grown at once."""
    in_steps = Tiles()
    for stop in sorted({*stops, len(LEAVES)}):
        in_steps.grow(LEAVES[in_steps.size : stop])
    assert in_steps.kept == tall.kept
    assert in_steps.kept.keys() == {*((0, number) for number in range(258)), (1, 0), (1, 1), (2, 0)}


@given(st.integers(1, 65_537), st.data())
def test_older_trees_are_read_from_the_tiles_of_a_newer_one(tall: Tiles, size: int, data: st.DataObject) -> None:
    """A path in any earlier tree comes from O(log n) tiles and leads to the root of that tree."""
    index = data.draw(st.integers(0, size - 1))
    root = merkle.tile_frontier(tall.read, size).root()
    tall.reads = 0
    path = merkle.tile_path(tall.read, index, size)
    assert tall.reads <= 2 * size.bit_length()
    merkle.verify_inclusion(LEAVES[index], index, size, path, root)


@given(st.integers(1, 65_537), st.data())
def test_consistency_is_read_from_few_tiles(tall: Tiles, size: int, data: st.DataObject) -> None:
    """The path between any two earlier trees comes from O(log n) tiles and holds between their roots."""
    smaller = data.draw(st.integers(0, size) | st.sampled_from([edge for edge in TILE_EDGES if edge <= size]))
    roots = [merkle.tile_frontier(tall.read, leaves).root() for leaves in (smaller, size)]
    tall.reads = 0
    path = merkle.tile_consistency(tall.read, smaller, size)
    assert tall.reads <= 2 * size.bit_length()
    merkle.verify_consistency(smaller, size, path, *roots)


def test_a_missing_or_short_tile_is_named(tall: Tiles) -> None:
    """What the tiles do not hold is a KeyError of level and number, never a wrong hash."""
    short = Tiles()
    short.grow(LEAVES[:300])
    for read in (
        lambda: merkle.tile_frontier(short.read, 512),
        lambda: merkle.tile_path(short.read, 0, 512),
        lambda: merkle.tile_consistency(short.read, 256, 512),
    ):
        with pytest.raises(KeyError, match=r"1, 0|0, 1"):
            read()
    with pytest.raises(KeyError, match="0, 1"):
        merkle.tile_hashes(short.read, 250, 301)
    with pytest.raises(KeyError, match="0, 300"):
        merkle.tile_hashes(tall.read, 256 * 300, 256 * 300 + 1)
    with pytest.raises(KeyError, match="0, 1"):
        merkle.tile_frontier(short.read, 302)


@pytest.mark.parametrize(("index", "size"), [(-1, 5), (5, 5), (0, 0)])
def test_no_path_for_a_leaf_that_is_not_there(tall: Tiles, index: int, size: int) -> None:
    """Asking for a leaf outside the tree is an IndexError, from hashes and from tiles."""
    with pytest.raises(IndexError):
        merkle.inclusion_path(LEAVES[:size], index)
    with pytest.raises(IndexError):
        merkle.tile_path(tall.read, index, size)
