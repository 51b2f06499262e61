"""A serial byte stream cut into frames: what serial decoders share.

A frame is taken only where its whole format holds; otherwise the search goes on one byte later, so that no sound
frame is lost to noise before it. What lies between frames is given as damaged, in pieces of at most `DAMAGE_LIMIT`
bytes. What comes out depends on the bytes alone, never on how they were split into chunks.
"""

import re
from collections.abc import Callable
from re import Pattern

from gateway.decode.frame import FormatError
from gateway.model import Damaged, Sample

DAMAGE_LIMIT = 512
LINE_LIMIT = 256
_LINE_END = re.compile(rb"[\r\n]")


class Packets:
    """A decoder of frames of one size: `form` matches `size` bytes that look like one, `read` raises FormatError.

    Holds at most `DAMAGE_LIMIT` + `size` bytes between calls.
    """

    __slots__ = ("_buffer", "_fault", "_form", "_read", "_scan", "_size")

    def __init__(self, *, size: int, form: Pattern[bytes], read: Callable[[bytes], Sample]) -> None:
        self._size = size
        self._form = form
        self._read = read
        self._buffer = bytearray()
        self._scan = 0  # no frame begins before here
        self._fault: str | None = None  # of the bytes that begin the buffer

    def feed(self, chunk: bytes, /) -> list[Sample | Damaged]:
        """Give the samples and the damage that these bytes complete."""
        buffer = self._buffer
        buffer += chunk
        made: list[Sample | Damaged] = []
        begin, scan = 0, self._scan
        while len(buffer) - scan >= self._size:
            found = self._form.search(buffer, scan)
            scan = found.start() if found else len(buffer) - self._size + 1
            while scan - begin >= DAMAGE_LIMIT:
                made.append(self._damage(begin, begin + DAMAGE_LIMIT))
                begin += DAMAGE_LIMIT
            if not found:
                break
            try:
                sample = self._read(bytes(found[0]))
            except FormatError as fault:
                self._fault = str(fault) if scan == begin else self._fault
                scan += 1
                continue
            if scan > begin:
                made.append(self._damage(begin, scan))
            made.append(sample)
            begin = scan = found.end()
        del buffer[:begin]
        self._scan = scan - begin
        return made

    def _damage(self, begin: int, end: int) -> Damaged:
        reason = self._fault or "no frame begins here"
        self._fault = None
        return Damaged(frame=bytes(self._buffer[begin:end]), reason=reason)


class Lines:
    """A decoder of text lines ended by CR, LF or both: `start` is how a line begins, `read` raises FormatError.

    A line is at most `LINE_LIMIT` bytes. Noise before it on the same line is damage of its own; empty lines are none.
    Holds at most `DAMAGE_LIMIT` bytes between calls.
    """

    __slots__ = ("_buffer", "_read", "_scan", "_start")

    def __init__(self, *, start: Pattern[bytes], read: Callable[[bytes], Sample]) -> None:
        self._start = start
        self._read = read
        self._buffer = bytearray()
        self._scan = 0  # no line ends before here

    def feed(self, chunk: bytes, /) -> list[Sample | Damaged]:
        """Give the samples and the damage that these bytes complete; frames are lines without their ends."""
        buffer = self._buffer
        buffer += chunk
        made: list[Sample | Damaged] = []
        begin = 0
        for end in _LINE_END.finditer(buffer, self._scan):
            begin = self._shed(begin, end.start(), made)
            made += self._decode(bytes(buffer[begin : end.start()]))
            begin = end.end()
        begin = self._shed(begin, len(buffer), made)
        del buffer[:begin]
        self._scan = len(buffer)
        return made

    def _shed(self, begin: int, end: int, made: list[Sample | Damaged]) -> int:
        """Give up what is too far from a line's end to be part of a line; return where the rest begins."""
        while end - begin > DAMAGE_LIMIT:
            made.append(Damaged(frame=bytes(self._buffer[begin : begin + LINE_LIMIT]), reason="no line ends here"))
            begin += LINE_LIMIT
        return begin

    def _decode(self, line: bytes) -> list[Sample | Damaged]:
        found = self._start.search(line)
        at = found.start() if found else len(line)
        made: list[Sample | Damaged] = [Damaged(frame=line[:at], reason="no line begins here")] if at else []
        if at < len(line):
            try:
                made.append(self._read(line[at:]))
            except FormatError as fault:
                made.append(Damaged(frame=line[at:], reason=str(fault)))
        return made
