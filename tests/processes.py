"""A ledger, its peers, a gateway and its serial sensors as real processes in one folder, which end by their ids."""

import contextlib
import io
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from time import monotonic, sleep
from types import TracebackType
from typing import Any, Self, TypeVar

import pytest
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion

from gateway import signing
from gateway.cli.main import iomt
from gateway.errors import StoreError, Unavailable
from gateway.io import control, keyring
from gateway.io.store.chains import ChainStore
from gateway.io.store.readings import ReadingStore
from gateway.ledger.rosters import Rosters, open_rosters
from gateway.model import Roster
from tests.audit import Account, audit
from tests.brokers import Mosquitto

Result = TypeVar("Result")

ROOT = Path(__file__).parent.parent
PROFILE = "nonin-oem-iii-df2"
LIMIT_S = 20.0


def wait_for(what: str, look: Callable[[], Result], limit_s: float = LIMIT_S) -> Result:
    """Look until there is something to see, and give it; fail with `what` if there is nothing in time."""
    give_up_s = monotonic() + limit_s
    while not (seen := look()):
        if monotonic() > give_up_s:
            pytest.fail(f"waited {limit_s:g} s for {what}")
        sleep(0.01)
    return seen


def type_iomt(*arguments: object) -> str:
    """Run a command of iomt in this process, and give what it wrote to stdout."""
    with contextlib.redirect_stdout(io.StringIO()) as output:
        iomt.main([str(argument) for argument in arguments], prog_name="iomt", standalone_mode=False)
    return output.getvalue()


class Process:
    """A process whose stderr goes to a file; it is started and ended at will."""

    def __init__(self, log: Path, *arguments: object, environment: Mapping[str, str] | None = None) -> None:
        self.log = log
        self.arguments = [str(argument) for argument in arguments]
        self.environment = environment
        self._process: subprocess.Popen[str] | None = None

    @property
    def runs(self) -> bool:
        """Whether it has been started and has not ended."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Its id."""
        assert self._process is not None
        return self._process.pid

    def start(self, *prefix: object) -> None:
        """Start it, behind another command if one is given."""
        assert not self.runs
        with self.log.open("a") as log:
            self._process = subprocess.Popen(
                [*map(str, prefix), *self.arguments],
                cwd=ROOT,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )

    def first_line(self) -> str:
        """Give the first line of its stdout."""
        assert self._process is not None
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def end(self, number: signal.Signals = signal.SIGTERM, limit_s: float = 10.0) -> int:
        """Send it a signal, wait for its end and give its exit code."""
        self.send(number)
        return self.ended(limit_s)

    def ended(self, limit_s: float = 10.0) -> int:
        """Wait for its end and give its exit code."""
        assert self._process is not None
        try:
            code = self._process.wait(limit_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            pytest.fail(f"did not end in {limit_s:g} s: {self.arguments}\n{self.log.read_text()}")
        finally:
            if self._process.stdout is not None:
                self._process.stdout.close()
        return code

    def kill(self) -> None:
        """End it at once, if it was started."""
        if self._process is not None:
            self._process.kill()
            self.ended()

    def lines(self) -> list[dict[str, Any]]:
        """Give what it has logged; a line that is no JSON, such as a traceback's, has it under "text"."""
        text = self.log.read_text() if self.log.exists() else ""
        return [json.loads(line) if line.startswith("{") else {"text": line} for line in text.splitlines()]

    def logged(self, event: str, **values: object) -> list[dict[str, Any]]:
        """Give the lines that it has logged of an event with these values."""
        return [line for line in self.lines() if line.get("event") == event and values.items() <= line.items()]


class Site:
    """A ledger of some peers, a gateway with some Nonin oximeters, and the broker between them, not yet started."""

    def __init__(self, folder: Path, *, peers: int = 1, sensors: int = 1, leaves: int = 64, speed: float = 30) -> None:
        self.folder = folder
        self.state = folder / "gateway"
        self.broker = Mosquitto(folder)
        names = [f"peer-{number}" for number in range(peers)]
        self.sensors = [f"nonin-{number}" for number in range(1, sensors + 1)]
        self._create(names, leaves)
        self.gateway = Process(folder / "gateway.log", sys.executable, "-m", "gateway", "run", "--state", self.state)
        self.peers = {name: self._peer(name) for name in names}
        sensor_options = [part for name in self.sensors for part in ("--sensor", f"nonin_df2:usb-{name}:ppg_long")]
        command = [sys.executable, "-m", "firmware_stubs.line", "--folder", folder / "ports", "--speed", speed]
        self.line = Process(folder / "line.log", *command, *sensor_options)

    @property
    def rosters(self) -> Rosters:
        """Every version of the ledger's roster that its administrator has."""
        return open_rosters((self.folder / "ledger" / "roster.cose").read_bytes())

    @property
    def roster(self) -> Roster:
        """The ledger's roster."""
        return self.rosters.current

    @property
    def chain(self) -> str:
        """The gateway's chain."""
        return self.roster.gateways[0].chain or ""

    @property
    def key(self) -> signing.Key:
        """The gateway's key."""
        return signing.derive_key(keyring.load_master(self.state), "gateway", "ward-3")

    def start(self) -> None:
        """Start everything, and wait until the gateway is ready."""
        self.broker.start()
        for peer in self.peers.values():
            peer.start()
        self.start_line()
        self.start_gateway()

    def start_line(self) -> None:
        """Plug the sensors in."""
        self.line.start()
        self.line.first_line()

    def start_gateway(self) -> None:
        """Start the gateway, and wait until it is ready."""
        before = len(self.gateway.logged("ready"))
        self.gateway.start()
        self.await_log(self.gateway, "ready", count=before + 1)

    def await_log(self, process: Process, event: str, *, count: int = 1, **values: object) -> dict[str, Any]:
        """Wait until a process has logged an event so often, and give the last such line."""

        def look() -> list[dict[str, Any]]:
            lines = process.logged(event, **values)
            assert process.runs or len(lines) >= count, f"it ended:\n{process.log.read_text()}"
            return lines if len(lines) >= count else []

        return wait_for(f"{count} x {event!r} of {process.arguments[-1]}", look)[-1]

    def status(self) -> dict[str, Any]:
        """Give the gateway's status, empty while it cannot be asked."""
        try:
            return control.call(self.state / "control", {"do": "status"})
        except Unavailable:
            return {}

    def await_status(self, key: str, at_least: int) -> dict[str, Any]:
        """Wait until a figure of the gateway's status is reached."""

        def look() -> dict[str, Any]:
            status = self.status()
            assert self.gateway.runs, f"it ended:\n{self.gateway.log.read_text()}"
            return status if status.get(key, -1) >= at_least else {}

        return wait_for(f"{key} >= {at_least}", look)

    def await_certified(self, more: int = 1) -> dict[str, Any]:
        """Wait until so many more blocks are certified than now."""
        return self.await_status("certified_blocks", self.status().get("certified_blocks", 0) + more)

    @contextmanager
    def store(self) -> Iterator[ReadingStore]:
        """Open the gateway's store to read, whether or not it runs."""
        store = ReadingStore(str(self.state / "readings.db"), read_only=True)
        try:
            yield store
        finally:
            store.close()

    @contextmanager
    def peer_store(self, name: str) -> Iterator[ChainStore]:
        """Open a peer's store to read, whether or not it runs."""
        store = ChainStore(str(self.folder / name / "ledger.db"), read_only=True)
        try:
            yield store
        finally:
            store.close()

    def peer_leaves(self, name: str) -> int:
        """Give how many leaves of the gateway's chain a peer has voted for."""
        try:
            with self.peer_store(name) as store:
                return store.size(self.chain, 0)
        except StoreError:  # not made yet
            return 0

    def is_frozen(self, name: str) -> bool:
        """Say whether a peer has frozen the gateway's chain for good."""
        with self.peer_store(name) as store:
            return store.tip(self.chain).frozen

    def audit(self, *, bodies_lost: Sequence[int] = ()) -> Account:
        """Check the gateway's whole chain as it is kept."""
        with self.store() as store:
            return audit(store, self.rosters, bodies_lost=bodies_lost)

    def end(self) -> None:
        """End whatever still runs."""
        for process in (self.gateway, *self.peers.values(), self.line):
            process.kill()
        self.broker.kill()

    def _create(self, names: Sequence[str], leaves: int) -> None:
        ledger = self.folder / "ledger"
        member = ["--broker", self.broker.url, "--roster", ledger / "roster.cose"]
        type_iomt("ledger", "create", "--state", ledger)
        for name in names:
            type_iomt("peer", "init", "--state", self.folder / name, "--id", name, *member)
        type_iomt("init", "--state", self.state, "--id", "ward-3", *member)
        type_iomt("ledger", "admit", "--state", ledger, *sorted(self.folder.glob("*/*.card")))
        with (self.state / "gateway.toml").open("a") as config:
            config.write(f"[block]\nleaves = {leaves}\nage_s = 0.2\n")
        for name in self.sensors:
            port = self.folder / "ports" / f"usb-{name}"
            options = ["--state", self.state, "--address", port, "--profile", PROFILE, "--id", name]
            type_iomt("device", "add", *options, "--yes", "--no-reading")

    def _peer(self, name: str) -> Process:
        command = [sys.executable, "-m", "gateway", "peer", "run", "--state", self.folder / name]
        return Process(self.folder / f"{name}.log", *command)


class Ear:
    """Whatever is said under some topics, by a client of its own, while its `with` lasts."""

    def __init__(self, site: Site, *topics: str) -> None:
        topics = topics or ("nothing",)
        self.heard: list[tuple[str, bytes]] = []
        self._site = site
        self._subscribed = Event()
        self._client = paho.Client(CallbackAPIVersion.VERSION2)
        self._client.on_message = lambda _client, _data, message: self.heard.append(
            (message.topic, bytes(message.payload))
        )
        self._client.on_connect = lambda client, *_: client.subscribe([(topic, 1) for topic in topics])
        self._client.on_subscribe = lambda *_: self._subscribed.set()

    def __enter__(self) -> Self:
        self._client.connect("127.0.0.1", self._site.broker.port)
        self._client.loop_start()
        assert self._subscribed.wait(LIMIT_S)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def say(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Say something, and wait until the broker has it."""
        self._client.publish(topic, payload, qos=1, retain=retain).wait_for_publish(LIMIT_S)


MakeSite = Callable[..., Site]


@pytest.fixture
def make_site(tmp_path: Path) -> Iterator[MakeSite]:
    """Give a maker of sites, whose processes end with the test."""
    sites: list[Site] = []

    def make(**options: Any) -> Site:  # noqa: ANN401 - as Site's
        sites.append(Site(tmp_path, **options))
        return sites[-1]

    yield make
    for site in sites:
        site.end()
