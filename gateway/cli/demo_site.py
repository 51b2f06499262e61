"""The site of the demonstration: broker, peers, sensors, gateway, set up by the very commands that a person types."""

import contextlib
import io
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.cli import main
from gateway.cli.demo_processes import Processes, free_port, wait_for_port
from gateway.errors import ConfigError, Unavailable
from gateway.io import control, folder
from gateway.io.mqtt import Broker
from gateway.io.store import chains, readings
from gateway.io.store.chains import ChainStore
from gateway.io.store.readings import ReadingStore

PEERS = ("hospital", "lab", "patients", "regulator")
GATEWAY = "ward-3"
PORT_NAME = "usb-Nonin_Medical_OEM_III_SIM001-if00"
BLOCKS = "\n[block]\nleaves = 64\nage_s = 1.0\n"


@dataclass(frozen=True, slots=True)
class Sensor:
    """A simulated sensor: its name, its profile, where it is reached, whose heart it hears."""

    name: str
    profile: str
    address: str
    stub: str


RADIO_SENSORS = (
    Sensor("strap-anna", "heart-rate-strap", "C0:FF:EE:00:00:01", "heart_rate:C0:FF:EE:00:00:01:ppg_2min"),
    Sensor("oximeter-ben", "pulse-oximeter-plx", "C0:FF:EE:00:00:02", "plx:C0:FF:EE:00:00:02:ppg_rest_25s"),
)
LINE_STUB = f"nonin_df2:{PORT_NAME}:ppg_long"


class Site:
    """Everything under one state folder; sockets that need short names are in a folder of their own."""

    def __init__(self, state: Path, broker: str | None) -> None:
        self.state = state
        self._sockets = tempfile.TemporaryDirectory(prefix="iomt-")
        logs = state / "logs"
        logs.mkdir(parents=True)
        self.processes = Processes(logs, dict(os.environ))
        self._broker = broker
        self.chain = ""

    @property
    def roster(self) -> Path:
        """The ledger's roster."""
        return self.state / "ledger" / "roster.cose"

    @property
    def gateway(self) -> Path:
        """The gateway's state folder."""
        return self.state / GATEWAY

    def start_broker(self) -> str:
        """Start the embedded broker, or take the one that was named; give its URL.

        Raises: Unavailable if it cannot be reached.
        """
        if self._broker is None:
            port = free_port()
            self.processes.start("broker", "iotcore", "--listen", "127.0.0.1", "--port", str(port))
            self._broker = f"mqtt://127.0.0.1:{port}"
        broker = Broker.parse(self._broker)
        wait_for_port(broker.host, broker.port)
        return self._broker

    def create_ledger(self) -> None:
        """Create the ledger, set up four peers and a gateway, and admit them."""
        joining = ["--broker", self._broker or "", "--roster", str(self.roster)]
        type_in("ledger", "create", "--state", str(self.state / "ledger"))
        for name in PEERS:
            type_in("peer", "init", "--state", str(self.state / name), "--id", name, *joining)
        type_in("init", "--state", str(self.gateway), "--id", GATEWAY, *joining)
        with (self.gateway / "gateway.toml").open("a") as config:
            config.write(BLOCKS)
        members = [str(self.state / name / f"{name}.card") for name in (*PEERS, GATEWAY)]
        type_in("ledger", "admit", "--state", str(self.state / "ledger"), *members)

    def start_sensors(self) -> str:
        """Start the radio and the serial line; give the folder of serial ports."""
        sensors = [argument for sensor in RADIO_SENSORS for argument in ("--sensor", sensor.stub)]
        found = self.processes.start(
            "radio", "firmware_stubs.radio", "--folder", f"{self._sockets.name}/radio", *sensors, ready=True
        )
        self.processes.environment["DBUS_SYSTEM_BUS_ADDRESS"] = found["bus"]
        os.environ["DBUS_SYSTEM_BUS_ADDRESS"] = found["bus"]
        ports = f"{self._sockets.name}/by-id"
        self.processes.start("line", "firmware_stubs.line", "--folder", ports, "--sensor", LINE_STUB, ready=True)
        return ports

    def onboard(self, ports: str) -> list[str]:
        """Onboard every sensor as a technician would, with a first reading of each; give what was shown."""
        serial = Sensor("nonin-carl", "nonin-oem-iii-df2", f"{ports}/{PORT_NAME}", LINE_STUB)
        return [
            f"{sensor.name}, {sensor.profile}: "
            + type_in(
                *("device", "add", "--state", str(self.gateway), "--yes", "--id", sensor.name),
                *("--address", sensor.address, "--profile", sensor.profile),
            )
            .splitlines()[0]
            .partition(": ")[2]
            for sensor in (*RADIO_SENSORS, serial)
        ]

    def start_peer(self, name: str) -> None:
        """Start a peer."""
        self.processes.start(name, "gateway", "peer", "run", "--state", str(self.state / name))

    def start_gateway(self) -> None:
        """Start the gateway."""
        self.processes.start(GATEWAY, "gateway", "run", "--state", str(self.gateway))

    def status(self) -> dict[str, Any] | None:
        """Ask the gateway how it stands, None while it does not answer yet."""
        try:
            return control.call(self.gateway / control.SOCKET, {"do": "status"})
        except Unavailable:
            return None

    def blocks_of(self, peer: str, chain: str) -> int:
        """Give how many blocks of a chain a peer has voted for."""
        store = ChainStore(str(self.state / peer / chains.FILE), read_only=True)
        try:
            last = store.last_block(chain, store.incarnation(chain))
            return 0 if last is None else last.height + 1
        finally:
            store.close()

    def lost(self, taken: dict[str, int]) -> int:
        """Count, once all is stopped, the readings that were taken and are not kept, each once and in order."""
        store = ReadingStore(str(self.gateway / readings.FILE), read_only=True)
        kept: dict[str, list[int]] = {}
        for leaf in store.leaves(0):
            if leaf.kind == "reading":
                kept.setdefault(leaf.issuer, []).append(leaf.sequence)
        store.close()
        doubled = sum(numbers != list(range(1, len(numbers) + 1)) for numbers in kept.values())
        return doubled + sum(max(count - len(kept.get(name, [])), 0) for name, count in taken.items())

    def close(self) -> list[str]:
        """Stop everything; give the names of what did not stop by itself."""
        failed = self.processes.stop()
        self._sockets.cleanup()
        return failed


def type_in(*arguments: str) -> str:
    """Run an iomt command in this process and give what it printed.

    Raises: Unavailable with its last words if it failed.
    """
    out, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
        code = main.run(arguments)
    if code != 0:
        raise Unavailable(f"iomt {' '.join(arguments[:2])} ended with {code}: {errors.getvalue().strip()}")
    return out.getvalue()


def make_state_folder(state: Path | None) -> Path:
    """Give the folder that was named, which must be new or empty, or a new temporary one.

    Raises: ConfigError if it is not empty.
    """
    if state is None:
        return Path(tempfile.mkdtemp(prefix="iomt-demo-"))
    folder.create(state)
    if any(state.iterdir()):
        raise ConfigError(f"{state}: not empty; allowed: a new or an empty folder")
    return state.absolute()


def write_out(path: Path, text: str) -> None:
    """Keep what a command printed."""
    folder.write(path, text.encode())
