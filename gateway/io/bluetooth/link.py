"""One connection to a device: what is wanted of it, who is told, and what was heard until it ended."""

import asyncio
import random
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Final, Protocol

FIRST_DELAY_S: Final = 1.0
LONGEST_DELAY_S: Final = 30.0


Ear = Callable[[object, bytearray], None]
Write = tuple[str, bytes]  # the characteristic, and what is written to it


class LinkState(StrEnum):
    """Where one device's connection stands; an intermittent device is awaited, an advertising one listened to."""

    SEARCHING = "searching"
    AWAITED = "awaited"
    CONNECTING = "connecting"
    SUBSCRIBED = "subscribed"
    LISTENING = "listening"
    QUIET = "quiet"
    LOST = "lost"
    BACKOFF = "backoff"


@dataclass(frozen=True, slots=True, kw_only=True)
class Contact:
    """What is wanted of a device.

    Of `channels`, UUIDs of characteristics as text of 16 or 128 bits, the first must be there; `context` is read where
    it is there. A link without a frame for `quiet_s` is given up. An intermittent device is not missed between its
    connections. With `bond_required` a link without a bond is refused.
    """

    address: str
    channels: tuple[str, ...]
    context: tuple[str, ...] = ()
    quiet_s: float
    intermittent: bool = False
    bond_required: bool = False


class Listener(Protocol):
    """Who is told of a device; nothing of it may raise."""

    def change(self, state: LinkState, reason: str) -> None:
        """Hear of a change of state with its reason, "" where there is none."""

    def opened(self, *, bonded: bool) -> Sequence[Write]:
        """Give what is written to a new connection before it is subscribed to, where the device has it."""

    def learn(self, uuid: str, value: bytes) -> None:
        """Take what a characteristic of `context` holds."""

    def subscribed(self) -> Sequence[Write]:
        """Give what is written once all is subscribed to."""

    def hear(self, uuid: str, frame: bytes) -> Sequence[Write]:
        """Take a notification, indication or advertised data; give what is written in answer."""


class Link:
    """One connection: what it heard and when, what is to be written, why it ended. After its end nothing counts."""

    def __init__(self, listener: Listener, on_heard: Callable[[float], None]) -> None:
        self._listener = listener
        self._on_heard = on_heard
        self._turn = asyncio.Event()
        self._over = False
        self._heard_s = 0.0
        self._writes: deque[Write] = deque()
        self.first = asyncio.Event()  # set once something was heard
        self.reason = ""

    def ear(self, uuid: str) -> Ear:
        """Give what bleak calls with each notification of a characteristic."""
        return partial(self._hear, uuid)

    def _hear(self, uuid: str, _characteristic: object, value: bytes | bytearray) -> None:
        if self._over:
            return
        self.first.set()
        self._heard_s = asyncio.get_running_loop().time()
        self._on_heard(self._heard_s)
        self.write(self._listener.hear(uuid, bytes(value)))

    def write(self, writes: Sequence[Write]) -> None:
        """Have something written."""
        if writes:
            self._writes += writes
            self._turn.set()

    def end(self, reason: str) -> None:
        """End it, for the first reason that was given."""
        if not self._over:
            self.reason = reason
            self._over = True
            self._turn.set()

    async def next_write(self, quiet_s: float) -> Write | None:
        """Wait for something to write; None is the end, at the latest when nothing was heard for `quiet_s`."""
        loop = asyncio.get_running_loop()
        self._heard_s = max(self._heard_s, loop.time() if not self._heard_s else 0.0)
        while not self._over:
            if self._writes:
                return self._writes.popleft()
            if loop.time() >= self._heard_s + quiet_s:
                return None
            self._turn.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout_at(self._heard_s + quiet_s):
                    await self._turn.wait()
        return None

    @property
    def is_over(self) -> bool:
        """Say whether it has ended."""
        return self._over


class Delays:
    """Seconds to wait before the next try: twice as many each time, less up to a half by chance."""

    def __init__(self) -> None:
        self._next_s = FIRST_DELAY_S

    def next_s(self) -> float:
        """Give the next delay."""
        delay_s = self._next_s * random.uniform(0.5, 1)  # noqa: S311 - only spreads the tries
        self._next_s = min(2 * self._next_s, LONGEST_DELAY_S)
        return delay_s

    def reset(self) -> None:
        """Begin with the shortest again."""
        self._next_s = FIRST_DELAY_S
