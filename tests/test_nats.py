"""A NATS cluster in mosquitto's place: the same clients, the same rights, and a node that dies costs nothing."""

import asyncio
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import aiomqtt
import pytest

from gateway.io.mqtt import Link
from gateway.ledger.voting import block_of
from tests.certificates import Authority
from tests.nats import SYSTEMD, Cluster, write_users
from tests.nats_site import MESSAGES, READER, RECOVERY_LIMIT_S, ClusterSite
from tests.processes import wait_for
from tests.test_mqtt import CONNACK, impostor
from tests.test_units import CHAIN, OTHER_CHAIN, OTHER_PEER, PEER, topics

LIMIT_S = 20.0


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Run three nodes for two gateways and three peers."""
    folder = tmp_path_factory.mktemp("nats")
    running = Cluster(folder / "cluster", Authority(folder), [CHAIN, OTHER_CHAIN, PEER, OTHER_PEER, READER])
    try:
        yield running.start()
    finally:
        running.kill()


@asynccontextmanager
async def running(*links: Link) -> AsyncIterator[None]:
    """Run links, connected, until the block ends."""
    tasks: list[asyncio.Task[None]] = []
    try:
        async with asyncio.timeout(LIMIT_S):
            for link in links:  # one by one: on a new cluster the first client has the streams made
                tasks.append(asyncio.create_task(link.run()))
                await link.connected.wait()
            yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def link_to(cluster: Cluster, node: int, name: str, *topics: str, inbox_size: int = 1000) -> Link:
    return Link(cluster.broker(name, node), identity=name, topics=topics, inbox_size=inbox_size)


# -- Our client on this broker


async def test_a_message_goes_from_node_to_node(cluster: Cluster) -> None:
    """What a gateway says at one node a peer hears at another: 1 MiB, its chain's dots and all."""
    gateway, peer = link_to(cluster, 0, CHAIN), link_to(cluster, 1, PEER, "iomt/1/+/proposal")
    async with running(gateway, peer):
        payload = bytes(range(256)) * 4096
        await gateway.publish(f"iomt/1/{CHAIN}/proposal", payload)
        message = await peer.inbox.get()
    assert (message.topic, message.payload, message.retained) == (f"iomt/1/{CHAIN}/proposal", payload, False)


async def test_a_refusal_says_why(cluster: Cluster) -> None:
    """Who is on no list of users is told so, and not that the connection was closed."""
    async with asyncio.timeout(LIMIT_S):
        assert "Not authorized" in await link_to(cluster, 0, "stranger")._stay()


async def test_more_is_kept_than_an_inbox_holds(cluster: Cluster) -> None:
    """Retained messages, which this broker sends without waiting for acknowledgements, wait in the line instead."""
    sender, late = link_to(cluster, 0, PEER), link_to(cluster, 2, OTHER_PEER, "iomt/1/+/tip/+", inbox_size=10)
    kept = {f"iomt/1/chain-{number}/tip/{PEER}" for number in range(100)}
    async with running(sender, late):
        assert late.inbox.empty()
    async with running(sender):
        async with asyncio.TaskGroup() as publishes:
            for topic in kept:
                publishes.create_task(sender.publish(topic, b"x" * 1000, retain=True))
        async with running(late):
            heard = {(await late.inbox.get()).topic for _ in kept}
            assert late.connected.is_set()
            await sender.publish(f"iomt/1/{CHAIN}/tip/{PEER}", b"live")
            assert (await late.inbox.get()).payload == b"live"
        for topic in (*kept, f"iomt/1/{CHAIN}/tip/{PEER}"):
            await sender.publish(topic, b"", retain=True)
    assert heard == kept


async def test_a_subscription_may_take_longer_than_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    """A SUBACK is awaited when a message's acknowledgement would long be given up: NATS elects a leader for each."""
    monkeypatch.setattr("gateway.io.mqtt.connection.ANSWER_LIMIT_S", 0.1)
    async with impostor() as (broker, connections):
        link = Link(broker, identity="x", topics=["t"])
        task = asyncio.create_task(link.run())
        async with asyncio.timeout(LIMIT_S):
            reader, writer = await connections.get()
            writer.write(CONNACK)
            subscribe = await reader.readuntil(b"\x00\x01t\x01")
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(1):
                    await reader.read(1)
            writer.write(b"\x90\x03" + subscribe[-6:-4] + b"\x01")
            await link.connected.wait()
        assert connections.empty()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        writer.close()


# -- Rights


@asynccontextmanager
async def client(cluster: Cluster, node: int, name: str, username: str | None = None) -> AsyncIterator[aiomqtt.Client]:
    """Connect as any program could, by a certificate."""
    tls = cluster.authority.issue(name).context()
    port = cluster.nodes[node].mqtt
    async with aiomqtt.Client(
        "127.0.0.1", port, identifier=f"test-{node}", username=username, tls_context=tls
    ) as connected:
        yield connected


async def heard(client: aiomqtt.Client, last: str) -> set[str]:
    """Give the topics of all that is heard before the last."""
    arrived: set[str] = set()
    async with asyncio.timeout(LIMIT_S):
        async for message in client.messages:
            if str(message.topic) == last:
                return arrived
            arrived.add(str(message.topic))
    raise AssertionError("unreachable")


@pytest.mark.parametrize("name", [CHAIN, PEER])
async def test_fault_37_each_identity_writes_its_own_topics_and_no_other(cluster: Cluster, name: str) -> None:
    """The whole matrix: what arrives, and what is kept, is what its writer may write, whatever it calls itself."""
    own = {**topics(CHAIN, PEER), **topics(OTHER_CHAIN, OTHER_PEER)}
    last = f"iomt/1/x/ask/{name}"
    everything = [*sorted(set().union(*own.values())), "iomt/1/end", "elsewhere", "$MQTT/msgs/iomt/1/end"]
    async with client(cluster, 1, READER) as reader, client(cluster, 0, name, f"CN={OTHER_PEER}") as writer:
        await reader.subscribe("iomt/1/#", qos=1)
        for topic in [*everything, last]:
            await writer.publish(topic, name, qos=1, retain=True)
        assert await heard(reader, last) == own[name]
        await writer.publish(last, b"", qos=1, retain=True)
    async with client(cluster, 2, READER) as late, client(cluster, 0, name) as writer:
        await late.subscribe("iomt/1/#", qos=1)
        await writer.publish(last, name, qos=1)
        assert await heard(late, last) >= own[name]
        for topic in own[name]:
            await writer.publish(topic, b"", qos=1, retain=True)


@pytest.mark.parametrize("topic", ["elsewhere/#", "#", "$SYS/#", "$MQTT/sub/#", "$MQTT/msgs/#", "$JS/#"])
async def test_nobody_reads_what_is_not_of_the_ledger(cluster: Cluster, topic: str) -> None:
    """A subscription outside iomt/1 is refused: also one to what NATS keeps for itself."""
    async with client(cluster, 0, READER) as reader:
        granted = await reader.subscribe(topic, qos=1)
    assert [getattr(code, "value", code) for code in granted] == [0x80]


def test_users_have_the_rights_of_the_list(tmp_path: Path) -> None:
    """Each name has the list's rights in NATS's words, where a slash is a dot, and a dot is two slashes."""
    acl = tmp_path / "acl"
    acl.write_text("# rights\npattern read a/#\n\npattern write a/%u/b\npattern write a/+/c.d/%u\n")
    done = subprocess.run([SYSTEMD / "nats" / "users", acl, "x.1"], capture_output=True, text=True, check=True)
    assert 'user: "CN=x.1", allowed_connection_types: ["MQTT"]' in done.stdout
    assert 'publish: ["a.x//1.b", "a.*.c//d.x//1"]' in done.stdout
    assert 'subscribe: ["a", "a.>", "$MQTT.sub.>"]' in done.stdout


@pytest.mark.parametrize(
    ("acl", "names"),
    [
        *(("pattern read a\npattern write b\n", ()), ("pattern read a\npattern write b\n", ("a b",))),
        *(("pattern read a\npattern write b\n", ('x"}',)), ("topic read a\npattern write b\n", ("x",)), ("", ("x",))),
    ],
)
def test_users_that_are_not_understood_are_refused(tmp_path: Path, acl: str, names: tuple[str, ...]) -> None:
    """No names, names that are none, lists that say something else: exit 2 and a line."""
    (tmp_path / "acl").write_text(acl)
    done = subprocess.run(
        [SYSTEMD / "nats" / "users", tmp_path / "acl", *names], input="", capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)


async def test_a_member_that_joins_needs_no_restart(cluster: Cluster) -> None:
    """A longer list of users and a SIGHUP let a new identity in, and whoever is connected stays so."""
    newcomer, old = "ward-9.09", link_to(cluster, 0, PEER, f"iomt/1/{'ward-9.09'}/proposal")
    async with running(old):
        names = [CHAIN, OTHER_CHAIN, PEER, OTHER_PEER, READER, newcomer]
        write_users(cluster.users, names)
        for node in cluster.nodes:
            node.reload()
        async with running(link := link_to(cluster, 1, newcomer)):
            await link.publish(f"iomt/1/{newcomer}/proposal", b"new")
            assert (await old.inbox.get()).payload == b"new"


def test_the_unit_is_what_systemd_takes_and_locks_down(tmp_path: Path) -> None:
    """`systemd-analyze` has nothing to say, exposes at most 1.5 of 10, and the unit's user is made."""
    text = (SYSTEMD / "nats" / "iomt-nats.service").read_text()
    unit = tmp_path / "iomt-nats.service"
    unit.write_text(re.sub(r"(?m)^ExecStart=\S+", f"ExecStart={shutil.which('true')}", text))
    done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False)
    assert [line for line in done.stderr.splitlines() if "iomt" in line] == []
    subprocess.run(["systemd-analyze", "security", "--offline=true", "--threshold=15", unit], check=True)
    (tmp_path / "etc").mkdir()
    subprocess.run(["systemd-sysusers", f"--root={tmp_path}", SYSTEMD / "nats" / "iomt-nats.sysusers"], check=True)
    assert (tmp_path / "etc/passwd").read_text().startswith("iomt-nats:")
    assert "User=iomt-nats\n" in text


# -- A ledger on it


@pytest.fixture
def site(tmp_path: Path) -> Iterator[ClusterSite]:
    """Give a site whose processes end with the test."""
    made = ClusterSite(tmp_path)
    yield made
    made.end()


def check(site: ClusterSite) -> None:
    """Check that all that was recorded is certified, once, and that every copy and every listener has the same."""
    site.line.end()
    site.await_all()
    for ward in site.wards:
        account = ward.audit()
        assert account.certified == len(account.blocks)
        assert account.blocks[-1].size == account.leaves > account.readings[ward.sensors[0]] > 0
        listener = site.listener
        wait_for("the last to be heard", partial(listener.has_heard, account.blocks[-1]), RECOVERY_LIMIT_S)
        assert all(block == account.blocks[block.height] for block in listener.blocks(ward.chain))
        for name in site.names:
            with ward.peer_store(name) as store:
                blocks = [block_of(block.proposal) for block in store.blocks(ward.chain, 0, 0, 1 << 40)]
            assert blocks == list(account.blocks[: len(blocks)])


def test_fault_33_a_node_dies_and_the_others_go_on(site: ClusterSite) -> None:
    """While a node is dead, who is beside the others certifies as before; it comes back, and nothing is missing."""
    victim = site.start(leads=False)
    site.await_more(3)
    victim.process.kill()
    site.await_more(3, site.wards[:1])
    victim.process.start()
    wait_for("the node to be well", victim.is_well)
    site.await_more(1)
    check(site)


def test_fault_33_the_node_that_leads_dies(site: ClusterSite) -> None:
    """Another node leads in its place, who was cut off comes back, and nothing is missing."""
    victim = site.start(leads=True)
    site.await_more(3)
    victim.process.kill()
    wait_for("another leader", lambda: site.cluster.leader(MESSAGES) is not victim)
    victim.process.start()
    wait_for("the node to be well", victim.is_well)
    site.await_more(1)
    check(site)
