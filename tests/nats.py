"""A real NATS cluster for tests: three nodes with the shipped configuration on 127.0.0.1, ended by their ids."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, Self

import pytest

from gateway.cli.demo_processes import free_port
from gateway.io.mqtt import Broker
from tests.certificates import Authority
from tests.processes import Process, wait_for

SYSTEMD = Path(__file__).parent.parent / "systemd"
NATS = shutil.which("nats-server", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}")
NODES = 3
RELOADED = "Reloaded server configuration"
CLIENTS = "broker.example"
"""The name of the nodes' certificate, by which they know each other."""


def write_users(path: Path, names: Sequence[str]) -> None:
    """Write the users' rights with the shipped script and the shipped list of rights."""
    done = subprocess.run(
        [SYSTEMD / "nats" / "users", SYSTEMD / "mosquitto.acl", *names], capture_output=True, text=True, check=True
    )
    path.write_text(done.stdout)


class Node:
    """One node: MQTT with TLS on `mqtt`, what it says of itself on `http`."""

    def __init__(self, folder: Path, number: int) -> None:
        self.name = f"nats-{number + 1}"
        self.mqtt, self.http, self.route, self.own = (free_port() for _ in range(4))
        self.config = folder / f"{self.name}.conf"
        self.store = folder / self.name
        environment = {**os.environ, "IOMT_NODE": self.name}
        self.process = Process(
            folder / f"{self.name}.log", NATS or "nats-server", "-c", self.config, environment=environment
        )

    def ask(self, path: str) -> dict[str, Any]:
        """Give what it answers over HTTP; empty where it does not, or is not well."""
        connection = HTTPConnection("127.0.0.1", self.http, timeout=2)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            body = answer.read()
            found: dict[str, Any] = json.loads(body) if answer.status == 200 else {}
        except (OSError, HTTPException):
            return {}
        else:
            return found
        finally:
            connection.close()

    def reload(self) -> None:
        """Have it read its configuration again, and wait until it has."""
        before = self.process.log.read_text().count(RELOADED)
        self.process.send(signal.SIGHUP)
        wait_for(f"{self.name} to reload", lambda: self.process.log.read_text().count(RELOADED) > before)

    def is_well(self) -> bool:
        """Say whether it is one of a quorum of nodes, as a balancer would ask it."""
        assert self.process.runs, f"{self.name} ended:\n{self.process.log.read_text()}"
        return bool(self.ask("/healthz?js-meta-only=true"))


class Cluster:
    """Three nodes that can be killed and started again, for the identities in `names`, certified by `authority`."""

    def __init__(self, folder: Path, authority: Authority, names: Sequence[str]) -> None:
        if NATS is None:
            pytest.fail("nats-server is missing: pip install -e '.[dev]'")
        folder.mkdir()
        self.authority = authority
        self.nodes = [Node(folder, number) for number in range(NODES)]
        self.users = folder / "users.conf"
        write_users(self.users, names)
        shipped = (SYSTEMD / "nats" / "nats.conf").read_text()
        own = authority.issue(CLIENTS)
        for node in self.nodes:
            node.config.write_text(self._rewritten(shipped, node, own.ca, own.certificate, own.key))

    def start(self) -> Self:
        """Start every node and wait until they are one cluster."""
        for node in self.nodes:
            node.process.start()
        for node in self.nodes:
            wait_for(f"{node.name} to be well", node.is_well)
        return self

    def kill(self) -> None:
        """End every node at once."""
        for node in self.nodes:
            node.process.kill()

    def leader(self, stream: str) -> Node:
        """Give the node that leads a stream; there is one once a client has connected."""

        def look() -> Node | None:
            asked = next(node for node in self.nodes if node.process.runs)
            for account in asked.ask("/jsz?streams=true").get("account_details", []):
                for detail in account.get("stream_detail", []):
                    if detail["name"] == stream:
                        name = detail["cluster"].get("leader")
                        return next((node for node in self.nodes if node.name == name), None)
            return None

        found = wait_for(f"a leader of {stream}", look)
        assert found is not None
        return found

    def broker(self, name: str, number: int) -> Broker:
        """Give one node as an identity's broker."""
        return Broker(host="127.0.0.1", port=self.nodes[number].mqtt, tls=self.authority.issue(name))

    def _rewritten(self, shipped: str, node: Node, ca: str, certificate: str, key: str) -> str:
        """Give the shipped configuration for this machine: ports and paths are other ones, and nothing else is."""
        values = {
            "listen: 127.0.0.1:4222": f"listen: 127.0.0.1:{node.own}",
            "http: 127.0.0.1:8222": f"http: 127.0.0.1:{node.http}",
            "listen: 0.0.0.0:6222": f"listen: 127.0.0.1:{node.route}",
            "listen: 0.0.0.0:8883": f"listen: 127.0.0.1:{node.mqtt}",
            "store_dir: /var/lib/iomt-nats": f"store_dir: {node.store}",
            "ca_file: /etc/nats/certs/ca.crt": f"ca_file: {ca}",
            "cert_file: /etc/nats/certs/broker.crt": f"cert_file: {certificate}",
            "key_file: /etc/nats/certs/broker.key": f"key_file: {key}",
            **{f"nats://{other.name}.example:6222": f"nats://127.0.0.1:{other.route}" for other in self.nodes},
        }
        for text, value in values.items():
            assert text in shipped, text
            shipped = shipped.replace(text, value)
        return shipped


class Balancer:
    """A TCP balancer as a site may have: each connection is carried to the first of some ports that takes it."""

    def __init__(self, ports: Sequence[int], port: int) -> None:
        self._ports = tuple(ports)
        self._port = port
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),))

    def start(self) -> Self:
        """Start it, and wait until it listens."""
        self._thread.start()
        self._ready.wait()
        return self

    def end(self) -> None:
        """End it and what it carries."""
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self._loop.close()

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        carried: set[asyncio.Task[None]] = set()

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.create_task(self._carry(reader, writer))
            carried.add(task)
            task.add_done_callback(carried.discard)

        async with await asyncio.start_server(accept, "127.0.0.1", self._port):
            self._ready.set()
            await self._stop.wait()
            for task in carried:
                task.cancel()
            await asyncio.gather(*carried, return_exceptions=True)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with contextlib.AsyncExitStack() as ends:
            ends.push_async_callback(_close, writer)
            for port in self._ports:
                with contextlib.suppress(OSError):
                    there, back = await asyncio.open_connection("127.0.0.1", port)
                    ends.push_async_callback(_close, back)
                    pumps = [asyncio.create_task(_pump(reader, back)), asyncio.create_task(_pump(there, writer))]
                    try:
                        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
                    finally:
                        for pump in pumps:
                            pump.cancel()
                        await asyncio.gather(*pumps, return_exceptions=True)
                    return


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while chunk := await reader.read(65536):
            writer.write(chunk)
            await writer.drain()


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
