"""A machine on the virtual network: it has power or not, and what it was about to do goes with its power."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from gateway.errors import StoreError
from gateway.ledger.messages import Topic
from tests.simulation.clock import WALL_MS, Clock, Trace
from tests.simulation.membership import Membership
from tests.simulation.network import Network
from tests.simulation.promises import Promises

RESTART_MS = (500, 20_000)


class PowerCut(Exception):  # noqa: N818 - weather
    """The power went, in the middle of what was being done."""


@dataclass(frozen=True, slots=True)
class Site:
    """What all machines of one run share."""

    clock: Clock
    trace: Trace
    network: Network
    chance: Random
    promises: Promises
    membership: Membership


class Machine:
    """One machine; what it is, its subclasses say."""

    def __init__(self, name: str, site: Site) -> None:
        self.name = name
        self.site = site
        self.running = False
        self.offset_ms = 0
        self._life = 0
        self._fuse: int | None = None
        self._held_until_ms = 0
        self._is_held = False

    @property
    def wall_ms(self) -> int:
        """Its wall clock, which may be years away from everyone else's."""
        return max(WALL_MS + self.site.clock.now_ms + self.offset_ms, 0)

    # -- what becomes of it

    def start(self) -> None:
        """Give it power and a connection, unless it has them."""
        if not (self.running or self._is_held or self.site.clock.now_ms < self._held_until_ms):
            self.running = True
            self.site.trace.tell(self.name, "starts")
            self._step(self._begin)
            self.connect()

    def stop(self, for_ms: int = 0, *, held: bool = False) -> None:
        """Take its power, for a while at least, or until it is released."""
        self.running = False
        self._life += 1
        self._fuse = None
        self._is_held |= held
        self._held_until_ms = max(self._held_until_ms, self.site.clock.now_ms + for_ms)

    def release(self) -> None:
        """Let it be started again."""
        self._is_held = False

    def light_fuse(self, moments: int) -> None:
        """Let its power go after so many more writes and messages."""
        self._fuse = moments

    def power(self) -> None:
        """Be at a moment at which the power can go.

        Raises: PowerCut if it does.
        """
        if self._fuse is not None:
            self._fuse -= 1
            if self._fuse < 0:
                raise PowerCut

    def connect(self) -> None:
        """Give it a new connection to the broker."""
        if self.running:
            self._step(self.connected)
            self.site.network.subscribe(self)

    def disconnect(self) -> None:
        """Let it notice that its connection is lost."""

    def calm(self) -> None:
        """Let no more power cut happen to it, and no more work come."""
        self._fuse = None

    # -- what it does

    def begin(self) -> None:
        """Read its disk and go on from there."""

    def connected(self) -> None:
        """Say what is to be said on a new connection."""

    def wants(self, topic: Topic) -> bool:
        """Say whether it has subscribed to the topic."""
        raise NotImplementedError

    def hear(self, topic: Topic, payload: bytes) -> None:
        """Take a message in."""
        raise NotImplementedError

    def check(self) -> None:
        """Check, after a step, what this machine promises."""

    def failed(self, error: StoreError) -> None:
        """Stop because the disk, which is sound, was not trusted."""
        raise error

    # -- pieces

    def receive(self, topic: Topic, payload: bytes) -> None:
        """Be given a message by the network; without power it is lost."""
        if self.running:
            self._step(lambda: self.hear(topic, payload))

    def after(self, delay_ms: int, call: Callable[[], None]) -> None:
        """Do something later, if the power lasts."""
        life = self._life
        self.site.clock.after(delay_ms, lambda: self._step(call) if life == self._life and self.running else None)

    def publish(self, topic: Topic, payload: bytes, *, retain: bool = False) -> None:
        """Say something."""
        self.power()
        self.site.network.publish(self.name, topic, payload, retain=retain)

    def _begin(self) -> None:
        self._fuse = None
        self.begin()

    def _step(self, call: Callable[[], None]) -> None:
        try:
            call()
        except PowerCut:
            self.site.trace.tell(self.name, "loses its power", count="power cuts")
            self._restart()
        except StoreError as error:
            self.failed(error)
            self.site.trace.tell(self.name, f"stops: {error}", count="stops")
            self._restart()
        self.check()

    def _restart(self) -> None:
        self.stop()
        self.site.clock.after(self.site.chance.randint(*RESTART_MS), self.start)
