"""When a batch becomes a block, and what the block says; time is an argument."""

from dataclasses import dataclass

from gateway.merkle import Frontier
from gateway.model import Block


@dataclass(frozen=True, slots=True, kw_only=True)
class SealPolicy:
    """A block is sealed at `leaves` leaves, or when its oldest leaf is `age_ms` old, whichever comes first."""

    leaves: int = 256
    age_ms: int = 10_000

    def wait_ms(self, pending: int, oldest_age_ms: int) -> int | None:
        """Give how long to wait before sealing: 0 is now, None is until there is a leaf."""
        if pending == 0:
            return None
        return 0 if pending >= self.leaves else max(self.age_ms - oldest_age_ms, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """Where a gateway's own chain has been sealed up to."""

    chain: str
    incarnation: int = 0
    next_height: int = 0
    frontier: Frontier = Frontier()
    sealed_ms: int = 0


def next_block(head: Head, hashes: list[bytes], latest_ms: int, now_ms: int) -> tuple[Block, Head]:
    """Give the block of these leaf hashes behind the head, and the head after it.

    `latest_ms` is the latest time of a leaf in it: the block is never sealed before it, nor before the last block,
    whatever the clock says now.
    """
    frontier = head.frontier.extend(hashes)
    block = Block(
        chain=head.chain,
        incarnation=head.incarnation,
        height=head.next_height,
        start=head.frontier.size,
        size=frontier.size,
        root=frontier.root(),
        start_root=head.frontier.root(),
        sealed_ms=max(now_ms, latest_ms, head.sealed_ms),
    )
    after = Head(
        chain=head.chain,
        incarnation=head.incarnation,
        next_height=head.next_height + 1,
        frontier=frontier,
        sealed_ms=block.sealed_ms,
    )
    return block, after
