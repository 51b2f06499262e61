"""A ledger of four peers and two gateways on a NATS cluster, each a real process, with sensors on simulated lines."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion

from gateway.cli.demo_processes import free_port
from gateway.ledger import messages
from gateway.ledger.voting import block_of
from gateway.model import Block, Certificate
from tests.certificates import Authority
from tests.nats import Balancer, Cluster, Node
from tests.processes import PROFILE, Process, Site, type_iomt, wait_for

READER = "patients"
MESSAGES = "$MQTT_msgs"
"""NATS's stream of all that is published with QoS 1."""

RECOVERY_LIMIT_S = 40.0
"""Up to 9 s for a new leader, in which a client has given up its tries and waits for the next."""


class Ward(Site):
    """One of several gateways of a site, with one oximeter."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self.state = folder / name
        self.name = name
        self.sensors = [f"nonin-{name}"]
        self.gateway = Process(folder / f"{name}.log", sys.executable, "-m", "gateway", "run", "--state", self.state)

    @property
    def chain(self) -> str:
        """The gateway's chain."""
        return next(member.chain or "" for member in self.roster.gateways if member.id == self.name)


class Listener:
    """Whoever reads the certificates of every gateway, at whichever node there is, for as long as a run lasts."""

    def __init__(self, port: int, authority: Authority) -> None:
        self.heard: list[Certificate] = []
        self._port = port
        self._client = paho.Client(CallbackAPIVersion.VERSION2, client_id=READER)
        self._client.tls_set_context(authority.issue(READER).context())
        self._client.reconnect_delay_set(1, 2)
        self._client.on_connect = lambda client, *_: client.subscribe("iomt/1/+/certificate", 1)
        self._client.on_message = lambda _client, _data, message: self.heard.append(
            messages.decode_certificate(bytes(message.payload))
        )

    def start(self) -> None:
        """Connect, and stay."""
        self._client.connect("127.0.0.1", self._port)
        self._client.loop_start()

    def end(self) -> None:
        """Leave."""
        self._client.disconnect()
        self._client.loop_stop()

    def has_heard(self, block: Block) -> bool:
        """Say whether a block's certificate was heard."""
        return block in self.blocks(block.chain)

    def blocks(self, chain: str) -> list[Block]:
        """Give the blocks of a chain whose certificates were heard."""
        blocks = [block_of(certificate.proposal) for certificate in self.heard]
        return [block for block in blocks if block.chain == chain]


class ClusterSite:
    """A ledger of four peers and two gateways on a cluster; one of either is beside the node that is to die."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.names = [f"peer-{number}" for number in range(4)]
        self.wards = [Ward(folder, name) for name in ("ward-3", "ward-4")]
        self.ports = {name: free_port() for name in (*self.names, "ward-3", "ward-4", READER)}
        self.authority = Authority(folder)
        self.balancers: list[Balancer] = []
        self._create()
        chains = {ward.name: ward.chain for ward in self.wards}
        self.cluster = Cluster(folder / "nats", self.authority, [*self.names, *chains.values(), READER])
        for name in (*self.names, *chains):
            self._certify(name, chains.get(name, name))
        self.listener = Listener(self.ports[READER], self.authority)
        self.peers = [self._peer(name) for name in self.names]
        sensors = [part for ward in self.wards for part in ("--sensor", f"nonin_df2:usb-{ward.sensors[0]}:ppg_long")]
        command = [sys.executable, "-m", "firmware_stubs.line", "--folder", folder / "ports", "--speed", 10]
        self.line = Process(folder / "line.log", *command, *sensors)

    def start(self, *, leads: bool) -> Node:
        """Start everything, and give the node that is to die: the one that leads the stream of messages, or another."""
        self.cluster.start()
        self._balance([READER], self.cluster.nodes)
        self.listener.start()
        leader = self.cluster.leader(MESSAGES)
        victim = next(node for node in self.cluster.nodes if (node is leader) == leads)
        others = [node for node in self.cluster.nodes if node is not victim]
        self._balance(["peer-0", "peer-1", "ward-3"], others)
        self._balance(["peer-2"], others[::-1])
        self._balance(["peer-3", "ward-4"], [victim, *others])
        for peer in self.peers:
            peer.start()
        self.line.start()
        self.line.first_line()
        for ward in self.wards:
            ward.start_gateway()
        return victim

    def await_more(self, more: int, wards: Sequence[Ward] = ()) -> None:
        """Wait until each of these gateways, or of all, has so many more certified blocks than now."""
        wanted = [(ward, ward.status()["certified_blocks"] + more) for ward in wards or self.wards]

        def look() -> bool:
            return all(ward.status().get("certified_blocks", 0) >= blocks for ward, blocks in wanted)

        wait_for(f"{more} more blocks certified of each", look, RECOVERY_LIMIT_S)

    def await_all(self) -> None:
        """Wait until all that was taken is certified."""

        def is_done(status: dict[str, Any]) -> bool:
            return bool(status) and status["unsealed"] == 0 and status["blocks"] == status["certified_blocks"]

        wait_for("all to be certified", lambda: all(is_done(ward.status()) for ward in self.wards), RECOVERY_LIMIT_S)

    def end(self) -> None:
        """End whatever runs."""
        for process in (*(ward.gateway for ward in self.wards), *self.peers, self.line):
            process.kill()
        self.listener.end()
        for balancer in self.balancers:
            balancer.end()
        self.cluster.kill()

    def _balance(self, names: Sequence[str], nodes: Sequence[Node]) -> None:
        for name in names:
            self.balancers.append(Balancer([node.mqtt for node in nodes], self.ports[name]).start())

    def _create(self) -> None:
        ledger = self.folder / "ledger"
        type_iomt("ledger", "create", "--state", ledger)
        for name in self.names:
            type_iomt("peer", "init", "--state", self.folder / name, "--id", name, *self._joining(name))
        for ward in self.wards:
            type_iomt("init", "--state", ward.state, "--id", ward.name, *self._joining(ward.name))
        type_iomt("ledger", "admit", "--state", ledger, *sorted(self.folder.glob("*/*.card")))
        for ward in self.wards:
            path = ward.state / "gateway.toml"
            path.write_text(path.read_text().replace("[tls]", "[block]\nleaves = 16\nage_s = 0.2\n[tls]"))
            port = self.folder / "ports" / f"usb-{ward.sensors[0]}"
            options = ["--state", ward.state, "--address", port, "--profile", PROFILE, "--id", ward.sensors[0]]
            type_iomt("device", "add", *options, "--yes", "--no-reading")

    def _joining(self, name: str) -> list[object]:
        certificate, key = self.folder / f"{name}.pem", self.folder / f"{name}.key.pem"
        tls = ["--ca", self.folder / "ca.pem", "--certificate", certificate, "--key", key]
        broker = f"mqtts://127.0.0.1:{self.ports[name]}"
        return ["--broker", broker, "--roster", self.folder / "ledger" / "roster.cose", *tls]

    def _certify(self, name: str, common_name: str) -> None:
        issued = self.authority.issue(common_name)
        Path(issued.certificate).rename(self.folder / f"{name}.pem")
        Path(issued.key).rename(self.folder / f"{name}.key.pem")

    def _peer(self, name: str) -> Process:
        command = [sys.executable, "-m", "gateway", "peer", "run", "--state", self.folder / name]
        return Process(self.folder / f"{name}.log", *command)
