"""A target: something that reads bytes, and what it promises of any of them."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

LIMIT = 4096
"""The most bytes that an input has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """`check` returns for every input, or raises for one that is a finding; `seeds` are inputs of every shape."""

    name: str
    check: Callable[[bytes], object]
    seeds: tuple[bytes, ...]


def change(seed: bytes, edits: list[tuple[int, bytes]]) -> bytes:
    """Overwrite a seed at some places, which count on at its beginning where they are beyond its end."""
    data = bytearray(seed)
    for place, octets in edits:
        at = place % (len(data) + 1)
        data[at : at + len(octets)] = octets
    return bytes(data[:LIMIT])


def draw_input(seeds: tuple[bytes, ...], random: Random) -> bytes:
    """Give bytes of chance, some of them pieces of seeds, changed at a few places."""
    pieces = [random.randbytes(random.randrange(60)) for _ in range(random.randrange(3))]
    for seed in random.sample(seeds, min(len(seeds), random.randrange(3))):
        edits = [
            (random.randrange(LIMIT), random.randbytes(random.randrange(1, 4))) for _ in range(random.randrange(3))
        ]
        pieces.append(change(seed, edits)[random.choice((0, 0, 1, 7)) :])
    random.shuffle(pieces)
    return b"".join(pieces)[:LIMIT]
