"""What waits to be published: in order, bounded, and dropped rather than waited for."""

import asyncio
from dataclasses import dataclass

import structlog

from gateway.errors import Unavailable
from gateway.io.mqtt.link import Link

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
        while True:
            outgoing = await self._waiting.get()
            try:
                await self._link.publish(outgoing.topic, outgoing.payload, retain=outgoing.retain)
            except Unavailable as error:
                _log.debug("not sent", topic=outgoing.topic, why=str(error))
