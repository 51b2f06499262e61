"""What waits to be published: in order, bounded, many under way at once, and dropped rather than waited for."""

import asyncio
from collections import deque
from dataclasses import dataclass

import structlog

from gateway.errors import Unavailable
from gateway.io.mqtt.connection import ANSWER_LIMIT_S
from gateway.io.mqtt.link import Link

WINDOW = 32
"""Messages without their PUBACK at a time: with one, a link of 300 ms each way would take two a second."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message on its way to the broker; what does not get there is due again, or asked for."""

    topic: str
    payload: bytes
    retain: bool = False


class Outbox:
    """The messages of one link that wait, `size` at most."""

    def __init__(self, link: Link, size: int) -> None:
        self._link = link
        self._waiting: asyncio.Queue[Outgoing] = asyncio.Queue(size)

    def put(self, outgoing: Outgoing) -> None:
        """Let a message wait; where the outbox is full it is dropped."""
        if not self._waiting.full():
            self._waiting.put_nowait(outgoing)

    async def send(self) -> None:
        """Publish what waits, for ever; what the broker does not take is dropped."""
        under_way: deque[asyncio.Future[None]] = deque()
        while True:
            outgoing = await self._waiting.get()
            if len(under_way) >= WINDOW:
                await asyncio.wait((under_way.popleft(),), timeout=ANSWER_LIMIT_S)
            try:
                confirmed = self._link.begin(outgoing.topic, outgoing.payload, retain=outgoing.retain)
            except Unavailable as error:
                _log.debug("not sent", topic=outgoing.topic, why=str(error))
                continue
            confirmed.add_done_callback(_end)
            under_way.append(confirmed)


def _end(confirmed: asyncio.Future[None]) -> None:
    if not confirmed.cancelled() and (error := confirmed.exception()) is not None:
        _log.debug("not sent", why=str(error))
