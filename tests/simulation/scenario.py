"""What a seed decides before a run begins: who is there, who lies, which weather it is and what befalls whom."""

from dataclasses import dataclass
from random import Random

from gateway.block import SealPolicy
from tests.simulation.dishonest import Trait
from tests.simulation.network import LONGEST_DELAY_MS, Weather
from tests.simulation.promises import Kind

RESTORE_MS = LONGEST_DELAY_MS + 5_000
"""How long giving an old disk back takes: what the gateway had said before is no more under way by then."""

LENGTHS_MS = (30_000, 90_000)
LEAVES_MS = (1_000, 3_000, 5_000, 8_000)
WEATHERS = (
    Weather(loss=0.0, repeat=0.0, late=0.0, delay_ms=20),
    Weather(loss=0.02, repeat=0.05, late=0.01, delay_ms=40),
    Weather(loss=0.1, repeat=0.1, late=0.05, delay_ms=200),
    Weather(loss=0.3, repeat=0.2, late=0.1, delay_ms=500),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mishap:
    """Something that befalls machines, drawn by their place in the list of all of them."""

    at_ms: int
    lasts_ms: int
    whom: tuple[int, ...]
    moments: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One run, before it begins.

    The confidants are the only peers whom a gateway reaches for a while before its disk is lost, and where they are
    `parted` they are away when it starts again: what they alone know is easily signed twice.
    """

    peers: int
    liars: tuple[tuple[Trait, ...], ...]
    away: int
    gateways: tuple[Kind, ...]
    weather: Weather
    length_ms: int
    seal: SealPolicy
    leaf_ms: int
    cuts: tuple[Mishap, ...]
    partings: tuple[Mishap, ...]
    backup_ms: int
    restore_ms: int
    confidants: tuple[int, ...]
    confides_ms: int
    parted: bool


def draw_scenario(chance: Random) -> Scenario:
    """Draw one; at most so many peers lie or stay away as a ledger of that size bears."""
    peers = 7 if chance.random() < 0.2 else 4
    faults = (peers - 1) // 3
    liars = chance.randint(0, faults)
    gateways = tuple(_draw_kind(chance) for _ in range(chance.choice((1, 1, 1, 2, 2, 3)) if peers == 4 else 1))
    length_ms = chance.randint(*LENGTHS_MS)
    machines = peers - liars + len(gateways)
    restore_ms = chance.randint(length_ms // 2, length_ms)
    return Scenario(
        peers=peers,
        liars=tuple(_draw_traits(chance) for _ in range(liars)),
        away=chance.randint(0, faults - liars),
        gateways=gateways,
        weather=chance.choice(WEATHERS),
        length_ms=length_ms,
        seal=SealPolicy(leaves=chance.choice((1, 3, 8)), age_ms=chance.choice((2_000, 10_000))),
        leaf_ms=chance.choice(LEAVES_MS),
        cuts=_draw_mishaps(chance, chance.randint(0, 6), length_ms, machines, 1),
        partings=_draw_mishaps(chance, chance.randint(0, 3), length_ms, machines, machines // 2),
        backup_ms=chance.randint(0, restore_ms),
        restore_ms=restore_ms,
        confidants=tuple(chance.sample(range(peers), chance.randint(0, 2))),
        confides_ms=chance.randint(5_000, 20_000),
        parted=chance.random() < 0.5,
    )


def _draw_kind(chance: Random) -> Kind:
    return chance.choices(tuple(Kind), (4, 2, 1, 3))[0]


def _draw_traits(chance: Random) -> tuple[Trait, ...]:
    return tuple(chance.sample(tuple(Trait), chance.randint(1, 3)))


def _draw_mishaps(chance: Random, count: int, length_ms: int, machines: int, most: int) -> tuple[Mishap, ...]:
    return tuple(
        Mishap(
            at_ms=chance.randint(0, length_ms),
            lasts_ms=chance.randint(2_000, 60_000),
            whom=tuple(chance.sample(range(machines), chance.randint(1, most))),
            moments=chance.randint(0, 12),
        )
        for _ in range(count)
    )
