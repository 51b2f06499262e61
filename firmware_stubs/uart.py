"""What a serial port makes of a signal that was sent at another speed than it listens at.

A byte on the line is a start bit 0, eight data bits with the lowest first, a stop bit 1; between bytes the line is 1.
A receiver waits for a 0, looks at the middle of each of the eight bits that follow by its own clock, and then waits
for a 1 and the next 0. So the same bytes at the same two speeds always come out as the same garbage.
"""

from typing import Final

_FRAME_BITS: Final = 10


def mishear(data: bytes, *, sent_baud: int, heard_baud: int) -> bytes:
    """Return what a receiver at one speed takes from bytes that were sent back to back at another."""
    levels = [level for byte in data for level in (0, *(byte >> place & 1 for place in range(8)), 1)]
    ratio = sent_baud / heard_baud  # bits of the sender in one of the receiver
    heard = bytearray()
    at = 0.0
    while int(at) < len(levels):
        if levels[int(at)]:
            at = float(int(at) + 1)
            continue
        bits = [_level(levels, at + (place + 1.5) * ratio) for place in range(8)]
        heard.append(sum(bit << place for place, bit in enumerate(bits)))
        at = _next_mark(levels, at + (_FRAME_BITS - 0.5) * ratio)
    return bytes(heard)


def _level(levels: list[int], at: float) -> int:
    return levels[int(at)] if int(at) < len(levels) else 1


def _next_mark(levels: list[int], at: float) -> float:
    while not _level(levels, at):
        at = float(int(at) + 1)
    return at
