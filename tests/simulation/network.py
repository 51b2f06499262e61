"""A virtual network that loses, repeats, delays and reorders what is said, and falls apart for a while."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from random import Random
from typing import Protocol

from gateway.ledger.messages import Kind, Topic
from tests.simulation.clock import Clock, Trace

LONGEST_DELAY_MS = 15_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Weather:
    """How likely a message is lost, repeated, or late by seconds; and its usual delay, which none falls below half."""

    loss: float
    repeat: float
    late: float
    delay_ms: int


CALM = Weather(loss=0.0, repeat=0.0, late=0.0, delay_ms=10)


class Station(Protocol):
    """What the network carries messages to."""

    name: str

    def wants(self, topic: Topic) -> bool:
        """Say whether it has subscribed to the topic."""

    def receive(self, topic: Topic, payload: bytes) -> None:
        """Take a message in."""


class Network:
    """Every station's messages; stations of different parts do not reach each other."""

    def __init__(self, clock: Clock, trace: Trace, chance: Random) -> None:
        self.weather = CALM
        self.withheld: frozenset[Kind] = frozenset()
        """What the broker keeps back: nobody trusts it."""
        self.stations: list[Station] = []
        self._clock = clock
        self._trace = trace
        self._chance = chance
        self.everywhere: set[str] = set()
        """Who is in every part: those that lie may have the broker on their side."""
        self._cut_off: set[str] = set()
        self._kept: dict[Topic, bytes] = {}

    def publish(
        self, by: str, topic: Topic, payload: bytes, *, retain: bool = False, to: Collection[str] | None = None
    ) -> None:
        """Carry a message to all who want it, or to those of them that are named: a broker can lie as well."""
        self._trace.tell(by, f"says {topic}", payload)
        if retain:
            self._kept[topic] = payload
        for station in self.stations:
            if (to is None or station.name in to) and station.wants(topic):
                self._carry(by, station, topic, payload)

    def subscribe(self, station: Station) -> None:
        """Give a station that has connected what the broker kept for it."""
        for topic, payload in self._kept.items():
            if station.wants(topic):
                self._carry(station.name, station, topic, payload)

    def cut_off(self, names: Collection[str]) -> None:
        """Part these from the others, and join whoever was parted before."""
        self._cut_off = set(names)

    def reaches(self, one: str, other: str) -> bool:
        """Say whether two stations are in one part."""
        is_parted = (one in self._cut_off) != (other in self._cut_off)
        return not is_parted or bool({one, other} & self.everywhere)

    def _carry(self, by: str, station: Station, topic: Topic, payload: bytes) -> None:
        weather, chance = self.weather, self._chance
        if topic.kind in self.withheld or not self.reaches(by, station.name) or chance.random() < weather.loss:
            return
        for _ in range(2 if chance.random() < weather.repeat else 1):
            self._clock.after(self._delay_ms(weather), self._arrival(by, station, topic, payload))

    def _delay_ms(self, weather: Weather) -> int:
        if weather is CALM:  # one after the other, as on a connection that holds
            return weather.delay_ms
        if self._chance.random() < weather.late:
            return self._chance.randint(1_000, LONGEST_DELAY_MS)
        return weather.delay_ms // 2 + int(self._chance.random() * weather.delay_ms)

    def _arrival(self, by: str, station: Station, topic: Topic, payload: bytes) -> Callable[[], None]:
        def arrive() -> None:
            if self.reaches(by, station.name):
                station.receive(topic, payload)

        return arrive
