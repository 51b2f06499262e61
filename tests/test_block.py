import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import merkle
from gateway.block import Head, SealPolicy, next_block

TIMES = st.integers(-(2**40), 2**50)
BATCHES = st.lists(
    st.tuples(st.lists(st.binary(min_size=32, max_size=32), min_size=1, max_size=9), TIMES, TIMES), max_size=8
)


@pytest.mark.parametrize(
    ("pending", "age_ms", "wait_ms"),
    [
        (0, 0, None),
        (0, 10**9, None),
        (1, 0, 10_000),
        (1, 9_999, 1),
        (1, 10_000, 0),
        (1, 10_001, 0),
        (255, 0, 10_000),
        (256, 0, 0),
        (1000, 10**9, 0),
    ],
)
def test_a_block_is_sealed_by_count_or_by_age(pending: int, age_ms: int, wait_ms: int | None) -> None:
    """At 256 leaves or when the oldest is 10 s old, whichever comes first; never without a leaf."""
    assert SealPolicy().wait_ms(pending, age_ms) == wait_ms


@given(st.integers(1, 4096), st.integers(50, 3_600_000), st.integers(0, 10_000), st.integers(0, 10**9))
def test_the_wait_is_never_negative_nor_longer_than_the_age(leaves: int, age: int, pending: int, oldest: int) -> None:
    """Who waits as long as told finds the block due."""
    policy = SealPolicy(leaves=leaves, age_ms=age)
    wait_ms = policy.wait_ms(pending, oldest)
    if wait_ms is None:
        assert pending == 0
    else:
        assert 0 <= wait_ms <= age
        assert policy.wait_ms(pending, oldest + wait_ms) == 0


@given(BATCHES)
def test_blocks_follow_one_another_without_gap(batches: list[tuple[list[bytes], int, int]]) -> None:
    """Heights, ranges and roots join; each root is the tree's over every leaf so far."""
    head, hashes = Head(chain="c", incarnation=3), list[bytes]()
    for height, (batch, latest_ms, now_ms) in enumerate(batches):
        start_root = merkle.root(hashes)
        block, head = next_block(head, batch, latest_ms, now_ms)
        assert (block.chain, block.incarnation, block.height) == ("c", 3, height)
        assert (block.start, block.start_root) == (len(hashes), start_root)
        hashes += batch
        assert (block.size, block.root) == (len(hashes), merkle.root(hashes))
        assert (head.next_height, head.frontier.size, head.chain) == (height + 1, len(hashes), "c")


@given(BATCHES)
def test_fault_40_no_jump_of_the_clock_seals_a_block_before_its_leaves_or_the_last_one(
    batches: list[tuple[list[bytes], int, int]],
) -> None:
    """Sealed at or after the clock's now, the latest leaf and the block before, wherever the clock has gone."""
    head, before_ms = Head(chain="c"), 0
    for batch, latest_ms, now_ms in batches:
        block, head = next_block(head, batch, latest_ms, now_ms)
        assert block.sealed_ms == max(now_ms, latest_ms, before_ms)
        before_ms = block.sealed_ms
