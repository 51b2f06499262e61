import asyncio
import contextlib
import gc
import re
import socket
import ssl
import struct
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Never

import aiomqtt
import pytest
from iotcore import Broker as Rumqttd
from structlog.testing import capture_logs

from gateway.cli.demo_processes import free_port
from gateway.errors import ConfigError, Unavailable
from gateway.io.mqtt import MESSAGE_LIMIT_BYTES, Broker, Link, Message, Outbox, Outgoing, Tls
from gateway.io.mqtt.outbox import WINDOW
from tests.brokers import Mosquitto, mosquitto
from tests.certificates import DAY, Authority

__all__ = ["mosquitto"]  # a fixture

LIMIT_S = 20.0
CONNACK = b"\x20\x02\x00\x00"
MUTUAL_TLS = """
listener {port} 127.0.0.1
cafile {ca}
certfile {certificate}
keyfile {key}
require_certificate true
use_identity_as_username true
"""

Connections = asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]]


@asynccontextmanager
async def running(*links: Link) -> AsyncIterator[None]:
    """Run links as a daemon would, until the block ends."""
    tasks = [asyncio.create_task(link.run()) for link in links]
    try:
        async with asyncio.timeout(LIMIT_S):
            yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def impostor() -> AsyncIterator[tuple[Broker, Connections]]:
    """Listen where a broker should; the test itself speaks for it on each connection."""
    connections: Connections = asyncio.Queue()
    writers: list[asyncio.StreamWriter] = []

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        connections.put_nowait((reader, writer))

    async with await asyncio.start_server(accept, "127.0.0.1", 0) as server:
        yield Broker(host="127.0.0.1", port=server.sockets[0].getsockname()[1]), connections
        for writer in writers:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


def open_descriptors() -> set[Path]:
    gc.collect()
    return {descriptor.readlink() for descriptor in Path("/proc/self/fd").iterdir() if descriptor.is_symlink()}


@pytest.fixture(params=["mosquitto", "rumqttd"])
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Broker]:
    if request.param == "mosquitto":
        process = Mosquitto(tmp_path).start()
        yield Broker.parse(process.url)
        process.kill()
    else:
        with Rumqttd(port=free_port(), listen="127.0.0.1", max_payload_size=2 * MESSAGE_LIMIT_BYTES) as embedded:
            yield Broker(host="127.0.0.1", port=embedded.port)


def link_to(broker: Broker | Mosquitto, *topics: str, identity: str = "gateway", inbox_size: int = 1000) -> Link:
    where = Broker.parse(broker.url) if isinstance(broker, Mosquitto) else broker
    return Link(where, identity=identity, topics=topics, inbox_size=inbox_size)


async def publish_for_ever(link: Link) -> Never:
    while True:
        await link.publish("t", b"into the void")


# -- Where the broker is


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("mqtt://127.0.0.1:1883", "127.0.0.1", 1883),
        ("mqtt://[::1]:1", "::1", 1),
        ("mqtt://pi.local:65535", "pi.local", 65535),
    ],
)
def test_broker_url_is_read(url: str, host: str, port: int) -> None:
    """A host and a port are read from a URL, and make it again."""
    broker = Broker.parse(url)
    assert (broker.host, broker.port, str(broker)) == (host, port, url)


@pytest.mark.parametrize(
    "url",
    [
        *("", "pi.local", "pi.local:1883", "mqtt://", "mqtt://pi.local", "mqtt://:1883", "mqtt://pi.local:0"),
        *(
            "mqtt://pi.local:65536",
            "mqtt://pi.local:x",
            "http://pi.local:1883",
            "mqtt://pi.local:1883/",
            "mqtt://[::1:1",
        ),
        *("mqtt://u:p@pi.local:1883", "mqtt://pi.local:1883?x", "mqtt://pi.local:1883#x", "mqtts://pi.local:8883"),
    ],
)
def test_other_urls_are_refused(url: str) -> None:
    """What is no broker's URL, or asks for TLS without files for it, is an error that quotes it."""
    with pytest.raises(ConfigError) as refusal:
        Broker.parse(url)
    assert repr(url) in str(refusal.value)


def test_missing_certificate_is_refused(tmp_path: Path) -> None:
    """Files of mutual TLS are read before anything is connected, and the error names them."""
    tls = Tls(ca=str(tmp_path / "ca.pem"), certificate="c.pem", key="k.pem")
    with pytest.raises(ConfigError, match=r"ca\.pem"):
        Link(Broker.parse("mqtts://127.0.0.1:1", tls), identity="x", topics=())


# -- Messages


async def test_message_arrives_as_sent(broker: Broker) -> None:
    """What one identity publishes another receives, byte for byte, once, from either broker."""
    sender, receiver = link_to(broker, identity="peer-1"), link_to(broker, "iomt/1/+/vote/+")
    async with running(sender, receiver):
        await sender.connected.wait()
        await receiver.connected.wait()
        payload = bytes(range(256)) * 400
        await sender.publish("iomt/1/ward/vote/peer-1", payload)
        message = await receiver.inbox.get()
        assert message == Message(topic="iomt/1/ward/vote/peer-1", payload=payload, retained=False)
        assert receiver.inbox.empty()


async def test_retained_message_says_so(broker: Broker) -> None:
    """A message published with retain awaits whoever subscribes later, marked as retained."""
    sender, receiver = link_to(broker, identity="peer-1"), link_to(broker, "iomt/1/+/tip/+")
    async with running(sender):
        await sender.connected.wait()
        await sender.publish("iomt/1/ward/tip/peer-1", b"tip", retain=True)
        async with running(receiver):
            assert await receiver.inbox.get() == Message(topic="iomt/1/ward/tip/peer-1", payload=b"tip", retained=True)


async def test_slow_consumer_loses_nothing(mosquitto: Mosquitto) -> None:
    """While nobody takes messages the broker holds them back, our own go out, and all come in order in the end."""
    link = link_to(mosquitto, "t", inbox_size=100)
    async with running(link):
        await link.connected.wait()
        for number in range(1000):
            await link.publish("t", b"%d" % number)
        assert [int((await link.inbox.get()).payload) for _ in range(1000)] == list(range(1000))


async def test_refused_messages_leave_the_link_up(mosquitto: Mosquitto) -> None:
    """QoS 0 and more than 1 MiB, retained or not, are refused with one line each; what comes after is taken."""
    link = link_to(mosquitto, "t/+")
    async with aiomqtt.Client("127.0.0.1", mosquitto.port) as stranger:
        await stranger.publish("t/large", bytes(MESSAGE_LIMIT_BYTES + 1), qos=1, retain=True)
        with capture_logs() as lines:
            async with running(link):
                await link.connected.wait()
                for _ in range(200):
                    await stranger.publish("t/quick", b"x", qos=0)
                    await stranger.publish("t/large", bytes(MESSAGE_LIMIT_BYTES + 1), qos=1)
                await stranger.publish("t/good", bytes(MESSAGE_LIMIT_BYTES), qos=1)
                assert (await link.inbox.get()).topic == "t/good"
    refused = [(line["why"], line["topic"]) for line in lines if line["event"] == "message refused"]
    assert sorted(refused) == [("QoS 0", "t/quick"), ("too large", "t/large")]


async def test_large_message_is_not_published(mosquitto: Mosquitto) -> None:
    """What nobody would take is refused before it leaves; the broker would end the connection for it."""
    link = link_to(mosquitto)
    async with running(link):
        await link.connected.wait()
        with pytest.raises(ValueError, match="1048577"):
            await link.publish("t", bytes(MESSAGE_LIMIT_BYTES + 1))


async def test_many_publishes_overlap(mosquitto: Mosquitto) -> None:
    """Publishes under way at once are all confirmed, and arrive in the order in which they were begun."""
    link = link_to(mosquitto, "t")
    async with running(link):
        await link.connected.wait()
        async with asyncio.TaskGroup() as publishes:
            for number in range(500):
                publishes.create_task(link.publish("t", b"%d" % number))
        assert [int((await link.inbox.get()).payload) for _ in range(500)] == list(range(500))


async def test_socket_does_not_wait_to_fill_packets(mosquitto: Mosquitto) -> None:
    """TCP_NODELAY is on."""
    link = link_to(mosquitto)
    async with running(link):
        await link.connected.wait()
        assert link._connection is not None
        opened = link._connection._client.socket()
        assert isinstance(opened, socket.socket)
        assert opened.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


# -- Losses


async def test_fault_33_link_returns_after_the_broker_was_killed(mosquitto: Mosquitto) -> None:
    """A broker killed and started again on its port is found, subscribed to, announced, and used."""
    link = link_to(mosquitto, "t")
    arrivals: asyncio.Queue[None] = asyncio.Queue()
    link.on_connected = lambda: arrivals.put_nowait(None)
    async with running(link):
        await arrivals.get()
        mosquitto.kill()
        lost = asyncio.create_task(publish_for_ever(link))
        with pytest.raises(Unavailable):
            await lost
        mosquitto.start()
        await arrivals.get()
        assert link.connected.is_set()
        await link.publish("t", b"back")
        assert (await link.inbox.get()).payload == b"back"


async def test_publish_while_away_is_unavailable() -> None:
    """Without a broker a publish fails at once, with the broker's address."""
    link = link_to(Broker(host="127.0.0.1", port=free_port()))
    with pytest.raises(Unavailable, match=r"mqtt://127\.0\.0\.1:\d+ is away"):
        await link.publish("t", b"x")


async def test_publish_fails_with_the_connection() -> None:
    """A publish that waits for its acknowledgement ends when the connection does, and says so."""
    async with impostor() as (broker, connections):
        link = link_to(broker)
        async with running(link):
            reader, writer = await connections.get()
            writer.write(CONNACK)
            await link.connected.wait()
            publish = asyncio.create_task(link.publish("t", b"unanswered"))
            await reader.readuntil(b"unanswered")
            writer.close()
            with pytest.raises(Unavailable, match="closed the connection"):
                await publish


async def test_unanswered_publish_times_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker that stays connected but never acknowledges is unavailable for that message."""
    monkeypatch.setattr("gateway.io.mqtt.connection.ANSWER_LIMIT_S", 0.2)
    async with impostor() as (broker, connections):
        link = link_to(broker)
        async with running(link):
            _, writer = await connections.get()
            writer.write(CONNACK)
            await link.connected.wait()
            with pytest.raises(Unavailable, match="did not acknowledge t"):
                await link.publish("t", b"unanswered")
            writer.close()


async def test_states_are_logged_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One line when the broker is away, with the reason, however often it is tried; one when it is there."""
    monkeypatch.setattr("gateway.io.mqtt.link.LAST_RETRY_S", 0.01)
    broker = Mosquitto(tmp_path)
    link = link_to(broker)
    tries: asyncio.Queue[None] = asyncio.Queue()
    stay = link._stay

    async def counted() -> str:
        tries.put_nowait(None)
        return await stay()

    monkeypatch.setattr(link, "_stay", counted)
    with capture_logs() as lines:
        async with running(link):
            for _ in range(5):
                await tries.get()
            broker.start()
            await link.connected.wait()
    broker.kill()
    assert [line["event"] for line in lines] == ["broker away", "broker connected"]
    assert "refused" in lines[0]["why"]


@pytest.mark.parametrize(
    "answer",
    [
        *(b"", b"SSH-2.0-OpenSSH_9.2\r\n", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\xff" * 64, b"\x20\x02\x00\x05"),
        *(b"\x20\x00", CONNACK + b"\x90\x03\x00\x01\x80", CONNACK + b"\x00\x00", CONNACK + b"\x30\x02\x00\x09"),
    ],
)
async def test_fault_35_garbage_is_a_loss(answer: bytes) -> None:
    """Whatever answers instead of a broker is a connection lost: the link tries again and finds the broker."""
    async with impostor() as (broker, connections):
        link = link_to(broker, "t")
        async with running(link):
            _, writer = await connections.get()
            writer.write(answer)
            writer.close()
            reader, writer = await connections.get()
            writer.write(CONNACK)
            subscribe = await reader.readuntil(b"\x00\x01t\x01")
            writer.write(b"\x90\x03" + subscribe[-6:-4] + b"\x01")
            await link.connected.wait()
            writer.close()


async def test_fault_35_garbage_from_others_matters_not(mosquitto: Mosquitto) -> None:
    """A stranger that sends garbage to the broker disturbs nobody's link."""
    link = link_to(mosquitto, "t")
    async with running(link):
        await link.connected.wait()
        for garbage in (b"\xff" * 64, b"GET / HTTP/1.1\r\n\r\n", b"\x10\xff\xff\xff\x7f", b"\x30\x02\x00\x09"):
            reader, writer = await asyncio.open_connection("127.0.0.1", mosquitto.port)
            writer.write(garbage)
            with contextlib.suppress(OSError):  # reset is as good an end
                writer.write_eof()
                await reader.read()
            writer.close()
        await link.publish("t", b"undisturbed")
        assert (await link.inbox.get()).payload == b"undisturbed"


async def test_fault_34_an_announced_giant_is_not_read() -> None:
    """A packet of 200 MB ends the connection when it is announced, before any of it is kept."""
    async with impostor() as (broker, connections):
        link = link_to(broker)
        async with running(link):
            reader, writer = await connections.get()
            writer.write(CONNACK)
            await link.connected.wait()
            with capture_logs() as lines:
                writer.write(b"\x32\x80\x84\xaf\x5f")  # PUBLISH, QoS 1, 200,000,000 bytes to come
                assert await reader.read() is not None
                await connections.get()
            writer.close()
    assert "200000000 bytes" in lines[0]["why"]


async def test_fault_32_slow_link_does_not_hold_messages_up() -> None:
    """Many messages are under way at once, in order: how long a PUBACK takes does not say how many go out a second."""
    async with impostor() as (broker, connections):
        link = link_to(broker)
        outbox = Outbox(link, 100)
        async with running(link):
            sending = asyncio.create_task(outbox.send())
            reader, writer = await connections.get()
            writer.write(CONNACK)
            await link.connected.wait()
            texts = [b"<%02d>" % number for number in range(WINDOW + 1)]
            for text in texts:
                outbox.put(Outgoing("t", text))
            said = b""
            while texts[WINDOW - 1] not in said:  # none of them is acknowledged
                said += await reader.read(4096)
            assert re.findall(rb"<..>", said) == texts[:WINDOW]
            first = said.index(b"\x00\x01t") + 3
            writer.write(b"\x40\x02" + said[first : first + 2])
            while texts[WINDOW] not in said:
                said += await reader.read(4096)
            sending.cancel()
            await asyncio.wait((sending,))


async def test_a_broker_that_floods_is_not_read() -> None:
    """What a broker sends in spite of the window waits in the line while the inbox is full, and comes in its order."""
    async with impostor() as (broker, connections):
        link = link_to(broker, inbox_size=10)
        async with running(link):
            _, writer = await connections.get()
            writer.write(CONNACK)
            await link.connected.wait()
            for number in range(1, 101):
                writer.write(b"\x32\x06\x00\x01t" + struct.pack(">HB", number, number))
            heard: list[Message] = []
            while len(heard) < 100:
                heard.append(await link.inbox.get())
                assert link.inbox.qsize() <= 10
            assert link.connected.is_set()
            writer.close()
        assert [message.payload[0] for message in heard] == list(range(1, 101))


# -- Nothing is left behind


async def test_nothing_leaks(mosquitto: Mosquitto, monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections made, refused, unanswered, lost and left leave no descriptor and no task."""
    monkeypatch.setattr("gateway.io.mqtt.connection.ANSWER_LIMIT_S", 0.1)
    monkeypatch.setattr("gateway.io.mqtt.link.LAST_RETRY_S", 0.01)
    await asyncio.get_running_loop().run_in_executor(None, open_descriptors)  # the loop's own thread is there
    before = open_descriptors()
    async with impostor() as (broker, connections):
        silent, nobody, good = link_to(broker), link_to(Broker(host="127.0.0.1", port=free_port())), link_to(mosquitto)
        async with running(silent, nobody, good):
            await good.connected.wait()
            for _ in range(5):
                reader, writer = await connections.get()
                assert await reader.read()
                writer.close()
            mosquitto.kill()
            mosquitto.start()
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert open_descriptors() <= before


async def test_attempt_given_up_half_way_is_closed(tmp_path: Path) -> None:
    """A link that is stopped while its thread is still in the TLS handshake closes the socket when that returns."""
    authority = Authority(tmp_path)
    served = authority.issue("broker")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(served.certificate, served.key)
    stopped, ended = threading.Event(), asyncio.get_running_loop().create_future()
    loop = asyncio.get_running_loop()

    def serve(listener: socket.socket) -> None:
        raw, _ = listener.accept()
        loop.call_soon_threadsafe(accepted.set)
        stopped.wait(LIMIT_S)
        raw.settimeout(LIMIT_S)
        with context.wrap_socket(raw, server_side=True) as shaken:
            shaken_hands = shaken.version()
            while shaken.recv(4096):  # CONNECT, a farewell or both: the thread and the loop race for it
                pass
        loop.call_soon_threadsafe(ended.set_result, shaken_hands)

    accepted = asyncio.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = threading.Thread(target=serve, args=(listener,))
        server.start()
        broker = Broker(host="127.0.0.1", port=listener.getsockname()[1], tls=authority.issue("gateway"))
        async with running(link_to(broker)):
            await accepted.wait()
        stopped.set()
        async with asyncio.timeout(LIMIT_S):
            assert await ended == "TLSv1.3"
        server.join()


# -- Mutual TLS


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def tls_broker(tmp_path: Path, authority: Authority) -> Iterator[Mosquitto]:
    files = authority.issue("broker")
    paths = {"{ca}": files.ca, "{certificate}": files.certificate, "{key}": files.key}
    config = MUTUAL_TLS
    for field, path in paths.items():
        config = config.replace(field, path)
    broker = Mosquitto(tmp_path, config).start()
    yield broker
    broker.kill()


async def test_mutual_tls(tls_broker: Mosquitto, authority: Authority) -> None:
    """With certificates of one CA at both ends, messages pass as without TLS."""
    link = link_to(Broker(host="127.0.0.1", port=tls_broker.port, tls=authority.issue("gateway")), "t")
    async with running(link):
        await link.connected.wait()
        payload = bytes(range(256)) * 1000
        await link.publish("t", payload)
        assert (await link.inbox.get()).payload == payload


@pytest.mark.filterwarnings("ignore:unclosed <ssl.SSLSocket:ResourceWarning")  # paho's, where the handshake fails
@pytest.mark.parametrize(
    ("case", "why"),
    [("foreign CA", "unknown ca"), ("foreign broker", "verify failed"), ("expired", "expired")],
)
async def test_fault_38_wrong_certificates_stay_out(
    tls_broker: Mosquitto, authority: Authority, tmp_path: Path, case: str, why: str
) -> None:
    """A certificate of another CA, a broker of another CA, an expired certificate: away, and the log says why."""
    ours, theirs = (
        authority.issue("gateway", valid_for=-DAY if case == "expired" else DAY),
        Authority(tmp_path, "other"),
    )
    stranger = theirs.issue("gateway")
    tls = {
        "foreign CA": Tls(ca=ours.ca, certificate=stranger.certificate, key=stranger.key),
        "foreign broker": Tls(ca=stranger.ca, certificate=ours.certificate, key=ours.key),
        "expired": ours,
    }[case]
    link = link_to(Broker(host="127.0.0.1", port=tls_broker.port, tls=tls))
    async with asyncio.timeout(LIMIT_S):
        assert why in await link._stay()
