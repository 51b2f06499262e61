"""One connection to the broker: aiomqtt's client, and what a daemon that runs for years needs beyond it."""

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

import aiomqtt
import structlog
from aiomqtt.exceptions import MqttConnectError
from paho.mqtt import client as paho
from paho.mqtt.reasoncodes import ReasonCode

from gateway.errors import Unavailable
from gateway.io.mqtt.broker import Broker

MESSAGE_LIMIT_BYTES = 1 << 20
"""Payloads over this are neither published nor taken."""

PACKET_LIMIT_BYTES = 4 * MESSAGE_LIMIT_BYTES
ANSWER_LIMIT_S = 5.0
"""How long the broker may take to accept a connection or a message."""

SUBSCRIPTION_LIMIT_S = 30.0
"""How long it may take to accept our subscriptions: a cluster that has just lost a node takes up to 9 s for each."""

KEEP_ALIVE_S = 20

# Nagle's algorithm against the other side's delayed acknowledgement costs 80 ms a certificate.
_SOCKET_OPTIONS = ((socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),)

log = structlog.get_logger("iomt.mqtt")
_paho_log = logging.getLogger("paho")  # says nothing that the reason of a loss does not say
_paho_log.addHandler(logging.NullHandler())
_paho_log.propagate = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What came in; `retained` says that the broker had kept it before we subscribed."""

    topic: str
    payload: bytes
    retained: bool


Accept = Callable[[Message, Callable[[], object]], None]


class Connection(aiomqtt.Client):
    """A connection as a context; messages go to `accept` with what acknowledges them.

    Where that raises QueueFull, nothing more is read before `resume` is called and the message is accepted.

    Beyond aiomqtt: messages are acknowledged by hand; a publish that waits fails with the connection and not by its
    time-out; packets are bounded before they are read; leaving closes the socket, also of an attempt that is given up
    half-way. Entering and subscribing raise Unavailable.
    """

    def __init__(self, broker: Broker, identity: str, accept: Accept) -> None:
        super().__init__(
            broker.host,
            broker.port,
            identifier=identity.replace(".", ":"),  # NATS refuses a dot, and no name has a colon
            clean_session=True,
            timeout=ANSWER_LIMIT_S,
            keepalive=KEEP_ALIVE_S,
            max_inflight_messages=0,  # no limit: callers bound what they have under way
            tls_context=broker.tls.context() if broker.tls else None,
            socket_options=_SOCKET_OPTIONS,
            logger=_paho_log,
        )
        self._accept = accept
        self._held: tuple[Message, Callable[[], object]] | None = None
        self._refused: set[str] = set()
        self._unconfirmed: dict[int, asyncio.Future[None]] = {}
        self._lost: asyncio.Future[None] = self._loop.create_future()
        self._cause = ""
        self._adopted = False  # the loop has aiomqtt's reader
        self._closed = False
        self._open_socket = self._client.on_socket_open
        self._read_socket = self._client._sock_recv  # noqa: SLF001 - paho asks nobody else before it reads a packet
        self._client._sock_recv = self._read_bounded  # type: ignore[method-assign]  # noqa: SLF001 - likewise
        self._client.manual_ack_set(on=True)
        self._client.on_message = self._on_incoming
        self._client.on_publish = self._on_confirmed
        self._client.on_disconnect = self._on_ended
        self._client.on_socket_open = self._on_opened
        self._client.on_socket_register_write = self._on_wants_to_write

    async def __aenter__(self) -> Self:
        with contextlib.ExitStack() as undo:
            undo.callback(self._close)
            try:
                await super().__aenter__()
            except MqttConnectError as error:  # what the broker said counts, not that it then hung up
                raise Unavailable(str(error)) from error
            except aiomqtt.MqttError as error:
                raise Unavailable(self._cause or str(error)) from error
            undo.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._close()

    async def subscribe_to(self, topics: Sequence[str]) -> None:
        """Subscribe with QoS 1. Raises: Unavailable if the broker grants less."""
        if not topics:
            return
        try:
            granted = await self.subscribe([(topic, 1) for topic in topics], timeout=SUBSCRIPTION_LIMIT_S)
        except aiomqtt.MqttError as error:
            raise Unavailable(self._cause or str(error)) from error
        for topic, code in zip(topics, granted, strict=False):
            if getattr(code, "value", code) != 1:
                raise Unavailable(f"the broker does not grant QoS 1 on {topic}: {code}")

    async def publish_confirmed(self, topic: str, payload: bytes, *, retain: bool) -> None:
        """Publish with QoS 1 and wait for the PUBACK. Raises: Unavailable if it does not come."""
        try:
            async with asyncio.timeout(ANSWER_LIMIT_S):
                await self.publish_begun(topic, payload, retain=retain)
        except TimeoutError:
            raise Unavailable(f"the broker did not acknowledge {topic} in {ANSWER_LIMIT_S:g} s") from None

    def publish_begun(self, topic: str, payload: bytes, *, retain: bool) -> asyncio.Future[None]:
        """Publish with QoS 1; gives what is done with the PUBACK, or fails with Unavailable when the connection ends.

        Raises: Unavailable if it has ended.
        """
        info = self._client.publish(topic, payload, qos=1, retain=retain)
        if info.rc != paho.MQTT_ERR_SUCCESS:
            raise Unavailable(f"the broker cannot be reached: {paho.error_string(info.rc)}")
        confirmed = self._unconfirmed[info.mid] = self._loop.create_future()
        confirmed.add_done_callback(lambda _: self._unconfirmed.pop(info.mid, None))
        return confirmed

    def resume(self) -> None:
        """Read on, if reading has stopped and there is room again; in the event loop."""
        if self._held is None or self._closed:
            return
        with contextlib.suppress(asyncio.QueueFull):
            self._accept(*self._held)
            self._held = None
            self._loop.call_soon(self._watch_for_packets)

    async def loss(self) -> str:
        """Wait until the connection ends; returns why."""
        await asyncio.wait((self._lost, self._disconnected), return_when=asyncio.FIRST_COMPLETED)
        return self._cause

    def _close(self) -> None:
        self._closed = True
        self._fail()
        if self._adopted:  # else the connecting thread still works on it, and _adopt closes
            self._shut()
        if self._disconnected.done():
            self._disconnected.exception()  # seen: asyncio would log it

    def _shut(self) -> None:
        self._client.disconnect()
        self._client.loop_write()  # the farewell, if the socket takes it at once
        self._client._sock_close()  # noqa: SLF001 - paho and aiomqtt leave it open where the broker does not answer

    def _end(self, why: str) -> None:
        self._cause = self._cause or why
        if not self._lost.done():
            self._lost.set_result(None)
        if not self._connected.done() and not self._closed:
            self._connected.set_exception(aiomqtt.MqttError(self._cause))
        self._fail()

    def _fail(self) -> None:
        for confirmed in list(self._unconfirmed.values()):
            if not confirmed.done():
                confirmed.set_exception(Unavailable(f"the broker was lost: {self._cause or 'we left'}"))
        for granted in self._pending_subscribes.values():
            if not granted.done():
                granted.set_exception(aiomqtt.MqttError(self._cause))

    def _watch_for_packets(self) -> None:
        opened = self._client.socket()
        if opened is not None:
            self._loop.add_reader(opened.fileno(), self._read)
            self._read()  # TLS may have taken them out of the socket

    def _read(self) -> None:
        """Read what has come, in place of aiomqtt's reader, which would go round for ever where a message is held."""
        try:
            while self._held is None:
                self._client.loop_read()
                opened = self._client.socket()
                if not isinstance(opened, ssl.SSLSocket) or not opened.pending():
                    break
        except Exception as error:  # noqa: BLE001 - whatever a malformed packet leads paho to
            self._end(f"the broker does not speak MQTT: {error!r}")
        opened = self._client.socket()
        if self._held is not None and opened is not None:
            self._loop.remove_reader(opened.fileno())

    def _read_bounded(self, bufsize: int) -> bytes:
        if self._held is not None:
            raise BlockingIOError  # paho takes it that nothing more has come
        if bufsize > PACKET_LIMIT_BYTES:
            self._cause = f"the broker announced a packet of {bufsize} bytes"
            raise ConnectionAbortedError(self._cause)
        try:
            return self._read_socket(bufsize)
        except BlockingIOError:
            raise
        except OSError as error:
            self._cause = str(error)
            raise

    def _on_incoming(self, client: paho.Client, _userdata: object, incoming: paho.MQTTMessage) -> None:
        topic = incoming._topic.decode(errors="backslashreplace")  # noqa: SLF001 - .topic raises where it is no UTF-8
        message = Message(topic=topic, payload=bytes(incoming.payload), retained=incoming.retain)
        if incoming.qos == 0:
            self._refuse("QoS 0", message)
        elif len(message.payload) > MESSAGE_LIMIT_BYTES:
            client.ack(incoming.mid, incoming.qos)  # else it stays in the broker's window
            self._refuse("too large", message)
        else:
            arrived = (message, lambda: client.ack(incoming.mid, incoming.qos))
            try:
                self._accept(*arrived)
            except asyncio.QueueFull:
                self._held = arrived

    def _refuse(self, why: str, message: Message) -> None:
        if why not in self._refused:  # once a connection: a flood of messages is no flood of lines
            self._refused.add(why)
            log.warning("message refused", why=why, topic=message.topic, size_bytes=len(message.payload))

    def _on_confirmed(self, _client: object, _userdata: object, mid: int, *_: object) -> None:
        confirmed = self._unconfirmed.get(mid)
        if confirmed is not None and not confirmed.done():
            confirmed.set_result(None)

    def _on_ended(self, _client: object, _userdata: object, _flags: object, reason: ReasonCode, *_: object) -> None:
        end_of_file = reason.getName() == "Unspecified error"
        why = "the broker closed the connection" if end_of_file else reason.getName()
        self._loop.call_soon_threadsafe(self._end, why)

    def _on_opened(self, client: paho.Client, userdata: object, opened: "paho.SocketLike") -> None:
        """In the connecting thread: aiomqtt queues its reader for the loop; behind it stands _adopt, with ours."""
        if self._open_socket is not None:
            self._open_socket(client, userdata, opened)
        self._loop.call_soon_threadsafe(self._adopt)

    def _adopt(self) -> None:
        self._adopted = True
        if self._closed:
            self._shut()
        else:
            self._watch_for_packets()

    def _on_wants_to_write(self, _client: object, _userdata: object, opened: "paho.SocketLike") -> None:
        """In either thread: queue a writer, which aiomqtt would register even if the number is another's by then."""
        self._loop.call_soon_threadsafe(self._watch, opened)

    def _watch(self, opened: "paho.SocketLike") -> None:
        if self._client.socket() is opened:
            self._loop.add_writer(opened.fileno(), self._client.loop_write)
