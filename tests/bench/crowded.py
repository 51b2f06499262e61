"""Real peers around a real broker, and one client that plays any number of gateways, with leaf hashes of chance."""

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from time import perf_counter

from gateway import signing
from gateway.block import Head, next_block
from gateway.errors import Unavailable, VerificationError
from gateway.io import folder as folders
from gateway.io import keyring
from gateway.io.mqtt import Broker, Link
from gateway.ledger import messages
from gateway.ledger.anchor import Anchor
from gateway.ledger.messages import Kind, Topic
from gateway.ledger.quorum import read_vote
from gateway.ledger.rosters import Rosters
from gateway.ledger.voting import sign_block
from gateway.merkle import HASH_SIZE, split_hashes
from gateway.model import Member
from tests.brokers import Mosquitto
from tests.ledgers import gateway_member, keys_of, make_rosters
from tests.processes import Process, wait_for

SEALED_MS = 1_764_000_000_000


class PeerCircle:
    """Peers as processes, each with its own store and key, and the gateways on their roster."""

    def __init__(self, folder: Path, peers: int, gateways: int = 1, *, post_quantum: bool = False) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self.broker = Mosquitto(folder)
        names = [f"peer-{number}" for number in range(peers)]
        self.gateways = [gateway_member(f"gateway-{number}", f"chain-{number}") for number in range(gateways)]
        members = tuple(self._create(name) for name in names)
        self.rosters = make_rosters(members, tuple(self.gateways), post_quantum=post_quantum)
        folders.write(folder / "roster.cose", self.rosters.encode())
        self.peers = [
            Process(folder / f"{name}.log", sys.executable, "-m", "gateway", "peer", "run", "--state", folder / name)
            for name in names
        ]

    def start(self) -> None:
        """Start the broker and every peer, and wait until all listen."""
        self.broker.start()
        for peer in self.peers:
            peer.start()
        for peer in self.peers:
            wait_for("a peer to be connected", lambda peer=peer: peer.logged("broker connected"))  # type: ignore[misc]  # a default in a lambda

    def end(self) -> None:
        """End whatever still runs."""
        for peer in self.peers:
            peer.kill()
        self.broker.kill()

    def _create(self, name: str) -> Member:
        state = self.folder / name
        folders.create(state)
        master = keyring.create_master(state)
        lines = (f'id = "{name}"', f'broker = "{self.broker.url}"', 'roster = "../roster.cose"', "")
        folders.write(state / "peer.toml", "\n".join(lines).encode())
        return Member(
            id=name,
            organisation=name,
            public_key=signing.derive_key(master, "peer", name).public_key,
            second_key=signing.derive_second_key(master, "peer", name).public_key,
        )


@contextmanager
def circle(folder: Path, peers: int, gateways: int = 1, *, post_quantum: bool = False) -> Iterator[PeerCircle]:
    """Run peers while the context lasts."""
    made = PeerCircle(folder, peers, gateways, post_quantum=post_quantum)
    try:
        made.start()
        yield made
    finally:
        made.end()


class Chain:
    """One gateway's chain: blocks go out, certificates come of the votes."""

    def __init__(self, rosters: Rosters, member: Member) -> None:
        self._keys = keys_of("gateway", member.id).require(rosters.current)
        self._member = member
        self._head = Head(chain=member.chain or "")
        self.anchor = Anchor(rosters.current)

    def seal(self, leaves: int) -> tuple[int, bytes]:
        """Sign the next block and put it in flight; gives its height and message."""
        hashes = split_hashes(os.urandom(leaves * HASH_SIZE))
        block, self._head = next_block(self._head, hashes, 0, SEALED_MS)
        signed = sign_block(self._keys, self._member.id, block)
        message = messages.encode_proposal(signed, hashes)
        self.anchor.propose(block, signed, message)
        return block.height, message


class Crowd:
    """Any number of gateways in one client; it notes how long each block took to be certified, in ms."""

    def __init__(self, around: PeerCircle) -> None:
        self._chains = {member.chain or "": Chain(around.rosters, member) for member in around.gateways}
        topics = [str(Topic("+", Kind.VOTE, "+"))]
        broker = Broker.parse(around.broker.url)
        self._link = Link(broker, identity="crowd", topics=topics)
        self._proposed_s: dict[tuple[str, int], float] = {}
        self._certified = asyncio.Event()
        self._under_way: set[asyncio.Task[None]] = set()
        self.took_ms: list[float] = []

    @property
    def chains(self) -> list[str]:
        """The chains that it plays."""
        return list(self._chains)

    def in_flight(self) -> int:
        """Give how many blocks wait for votes."""
        return len(self._proposed_s)

    def propose(self, chain: str, leaves: int) -> None:
        """Seal a block of so many leaves and publish it."""
        height, message = self._chains[chain].seal(leaves)
        self._proposed_s[chain, height] = perf_counter()
        self._publish(Topic(chain, Kind.PROPOSAL), message)

    async def certified(self) -> None:
        """Wait until one more block is certified."""
        self._certified.clear()
        await self._certified.wait()

    async def run(self) -> None:
        """Count votes, for ever."""
        running = asyncio.create_task(self._link.run())
        try:
            while True:
                message = await self._link.inbox.get()
                self._count(Topic.parse(message.topic), message.payload)
        finally:
            running.cancel()
            await asyncio.wait((running,))

    async def connected(self) -> None:
        """Wait until the broker is there."""
        await self._link.connected.wait()

    def _count(self, topic: Topic, payload: bytes) -> None:
        message, _ = signing.parse_blob(payload)
        height = read_vote(message, payload).height
        chain = self._chains[topic.chain]
        if not chain.anchor.in_flight(height):
            return
        try:
            certified = chain.anchor.count(height, payload)
        except VerificationError as error:
            raise AssertionError(f"an honest peer's vote is refused: {error}") from error
        if certified is not None:
            self.took_ms.append((perf_counter() - self._proposed_s.pop((topic.chain, height))) * 1000)
            self._publish(Topic(topic.chain, Kind.CERTIFICATE), messages.encode_certificate(certified.certificate))
            self._certified.set()

    async def _say(self, topic: str, payload: bytes) -> None:
        with contextlib.suppress(Unavailable):  # the end of the bench
            await self._link.publish(topic, payload)

    def _publish(self, topic: Topic, payload: bytes) -> None:
        task = asyncio.get_running_loop().create_task(self._say(str(topic), payload))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)


@asynccontextmanager
async def crowd(around: PeerCircle) -> AsyncIterator[Crowd]:
    """Play the gateways of a circle while the context lasts."""
    made = Crowd(around)
    running = asyncio.create_task(made.run())
    try:
        await made.connected()
        yield made
    finally:
        running.cancel()
        await asyncio.wait((running,))
