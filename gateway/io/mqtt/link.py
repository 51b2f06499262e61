"""An identity's link to the broker: kept up for ever, with an inbox that holds the broker back."""

import asyncio
import random
from collections import deque
from collections.abc import Callable, Sequence
from typing import Never

import structlog

from gateway.errors import ConfigError, Unavailable
from gateway.io.mqtt.broker import Broker
from gateway.io.mqtt.connection import MESSAGE_LIMIT_BYTES, Connection, Message

FIRST_RETRY_S = 0.25
LAST_RETRY_S = 15.0

log = structlog.get_logger("iomt.mqtt")


class Inbox(asyncio.Queue[Message]):
    """Messages in the order they came; taking one out acknowledges it to the broker, and calls `on_taken`."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.on_taken: Callable[[], None] = lambda: None
        self._acknowledgements: deque[Callable[[], object]] = deque()

    def accept(self, message: Message, acknowledge: Callable[[], object]) -> None:
        """Put a message in; `acknowledge` is called when it is taken. Raises asyncio.QueueFull."""
        self.put_nowait(message)
        self._acknowledgements.append(acknowledge)

    def _get(self) -> Message:
        self._acknowledgements.popleft()()
        message = super()._get()
        self.on_taken()
        return message


class Link:
    """One identity's connection to the broker, for ever; `run` keeps it up, the rest uses it."""

    def __init__(
        self,
        broker: Broker,
        *,
        identity: str,
        topics: Sequence[str],
        inbox_size: int = 1000,
        on_connected: Callable[[], None] = lambda: None,
    ) -> None:
        """Check the configuration; nothing is connected before `run`.

        `identity`, with a colon for a dot, is the MQTT client id. `topics` are subscribed on every connection; then
        `on_connected` is called, in the event loop. While `inbox_size` messages wait, no more are read; where that is
        at least the broker's window of unacknowledged messages, acknowledgements of our own come in all the same.

        Raises: ConfigError if a file of mutual TLS is missing or does not fit.
        """
        if broker.tls is not None:
            broker.tls.context()
        self.inbox = Inbox(inbox_size)
        self.connected = asyncio.Event()
        self.on_connected = on_connected
        self._broker = broker
        self._identity = identity
        self._topics = tuple(topics)
        self._connection: Connection | None = None
        self._noted: tuple[str, str] | None = None

    async def run(self) -> Never:
        """Connect, subscribe, stay; after a loss wait, at first briefly, and again. Ends by cancellation alone."""
        clock = asyncio.get_running_loop().time
        delay_s = FIRST_RETRY_S
        while True:
            began_s = clock()
            self._note("broker away", await self._stay())
            # A connection that held starts the ladder anew; one that is lost at once, as when a second client has
            # our identity, climbs it.
            delay_s = FIRST_RETRY_S if clock() - began_s > LAST_RETRY_S else min(2 * delay_s, LAST_RETRY_S)
            await asyncio.sleep(random.uniform(delay_s / 2, delay_s))  # noqa: S311 - jitter, no secret

    async def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Hand a message to the broker, QoS 1, and wait until it says that it has it. Calls may overlap freely.

        Raises: Unavailable if the broker is away, was lost meanwhile or did not answer in time; the message may have
        been delivered all the same. ValueError if the payload is over MESSAGE_LIMIT_BYTES or the topic is none.
        """
        await self._connected_for(topic, payload).publish_confirmed(topic, payload, retain=retain)

    def begin(self, topic: str, payload: bytes, *, retain: bool = False) -> asyncio.Future[None]:
        """Hand a message to the broker, QoS 1, behind those handed over before; gives what is done when it has it.

        Raises: as `publish`; what is given fails with Unavailable when the broker is lost.
        """
        return self._connected_for(topic, payload).publish_begun(topic, payload, retain=retain)

    def _connected_for(self, topic: str, payload: bytes) -> Connection:
        if len(payload) > MESSAGE_LIMIT_BYTES:
            raise ValueError(f"{len(payload)} bytes for {topic} are over the {MESSAGE_LIMIT_BYTES} that anyone takes")
        if self._connection is None:
            raise Unavailable(f"{self._broker} is away")
        return self._connection

    async def _stay(self) -> str:
        """Hold one connection for as long as it lasts; returns why it ended."""
        try:
            async with Connection(self._broker, self._identity, self.inbox.accept) as connection:
                self.inbox.on_taken = connection.resume
                await connection.subscribe_to(self._topics)
                self._connection = connection
                self._note("broker connected")
                self.connected.set()
                self.on_connected()
                return await connection.loss()
        except (Unavailable, ConfigError) as error:
            return str(error)
        finally:
            self._connection = None
            self.connected.clear()

    def _note(self, state: str, why: str = "") -> None:
        """Log a change of state, once."""
        if (state, why) != self._noted:
            self._noted = (state, why)
            log.info(state, broker=str(self._broker), why=why or None)
