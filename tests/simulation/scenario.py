"""What a seed decides before a run begins: who is there, who lies, which weather it is and what befalls whom."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random

from gateway.block import SealPolicy
from tests.simulation.network import LONGEST_DELAY_MS, Weather
from tests.simulation.traits import Kind, Trait

RESTORE_MS = LONGEST_DELAY_MS + 5_000
"""How long giving an old disk back takes: what the gateway had said before is no more under way by then."""

GENERATIONS = 3
RESERVE = 4
"""Organisations that are not there from the beginning."""

LENGTHS_MS = (30_000, 90_000)
LEAVES_MS = (1_000, 3_000, 5_000, 8_000)
TEN_YEARS_MS = 10 * 365 * 86_400_000
WEATHERS = (
    Weather(loss=0.0, repeat=0.0, late=0.0, delay_ms=20),
    Weather(loss=0.02, repeat=0.05, late=0.01, delay_ms=40),
    Weather(loss=0.1, repeat=0.1, late=0.05, delay_ms=200),
    Weather(loss=0.3, repeat=0.2, late=0.1, delay_ms=500),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mishap:
    """Something that befalls machines, drawn by numbers that go round in the list of all of them."""

    at_ms: int
    lasts_ms: int
    whom: tuple[int, ...]
    moments: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """One version of the roster: organisations and gateways, each by number and generation of its keys.

    `stricter` votes more are needed than by default. It is signed at `at_ms`, and everyone has a file of it within
    `spread_ms`. Newcomers are `parted` from the others for so long.
    """

    organisations: tuple[tuple[int, int], ...]
    gateways: tuple[tuple[int, int], ...]
    stricter: int = 0
    at_ms: int = 0
    spread_ms: int = 0
    parted_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One run, before it begins.

    The confidants are the only peers whom a gateway reaches for a while before its disk is lost, and where they are
    `parted` they are away when it starts again: what they alone know is easily signed twice. `sizes` is how many peers
    each organisation runs. Where nobody `gossips`, the roster goes by file alone until all heals.
    """

    sizes: tuple[int, ...]
    liars: dict[int, tuple[Trait, ...]]
    away: tuple[int, ...]
    gateways: tuple[Kind, ...]
    versions: tuple[Version, ...]
    gossips: bool
    weather: Weather
    length_ms: int
    seal: SealPolicy
    leaf_ms: int
    cuts: tuple[Mishap, ...]
    partings: tuple[Mishap, ...]
    jumps: tuple[Mishap, ...]
    backup_ms: int
    restore_ms: int
    confidants: tuple[int, ...]
    confides_ms: int
    parted: bool
    demands: dict[int, int]


def draw_scenario(chance: Random) -> Scenario:
    """Draw one; at most so many organisations lie or stay away as the ledger bears in each of its epochs."""
    founders = 7 if chance.random() < 0.1 else 4
    sizes = _draw_sizes(chance, founders)
    liars = _draw_liars(chance, founders)
    kinds = tuple(_draw_kind(chance) for _ in range(chance.choice((1, 1, 1, 2, 2, 3)) if founders == 4 else 1))
    length_ms = chance.randint(*LENGTHS_MS)
    restore_ms = chance.randint(length_ms // 2, length_ms)
    versions = _draw_versions(chance, founders, len(sizes), set(liars), len(kinds), length_ms)
    return Scenario(
        sizes=sizes,
        liars=liars,
        away=_draw_away(chance, versions, set(liars), len(sizes)),
        gateways=kinds,
        versions=versions,
        gossips=chance.random() < 0.6,
        weather=chance.choice(WEATHERS),
        length_ms=length_ms,
        seal=SealPolicy(leaves=chance.choice((1, 3, 8)), age_ms=chance.choice((2_000, 10_000))),
        leaf_ms=chance.choice(LEAVES_MS),
        cuts=_draw_mishaps(chance, chance.randint(0, 6), length_ms, 1),
        partings=_draw_mishaps(chance, chance.randint(0, 3), length_ms, 5),
        jumps=_draw_mishaps(chance, chance.choice((0, 0, 1, 2)), length_ms, 3),
        backup_ms=chance.randint(0, restore_ms),
        restore_ms=restore_ms,
        confidants=tuple(chance.sample(range(founders), chance.randint(0, 2))),
        confides_ms=chance.randint(5_000, 20_000),
        parted=chance.random() < 0.5,
        demands=_draw_demands(chance, kinds, length_ms),
    )


def bears(version: Version, faulty: set[int]) -> bool:
    """Say whether a version is safe with these organisations lying, and goes on with them silent."""
    present = [organisation for organisation, _ in version.organisations]
    needed = 2 * len(present) // 3 + 1 + version.stricter
    faults = len(faulty & set(present))
    return faults <= 2 * needed - len(present) - 1 and faults <= len(present) - needed


# -- pieces


def _draw_sizes(chance: Random, founders: int) -> tuple[int, ...]:
    count = founders + RESERVE
    if founders > 4 or chance.random() < 0.7:
        return (1,) * count
    return tuple(chance.choice((1, 1, 2, 3)) for _ in range(count))


def _draw_liars(chance: Random, founders: int) -> dict[int, tuple[Trait, ...]]:
    names = chance.sample(range(founders), chance.randint(0, (founders - 1) // 3))
    if chance.random() < 0.3:
        names.append(founders + chance.randrange(RESERVE))
    return {name: tuple(chance.sample(tuple(Trait), chance.randint(1, 3))) for name in names}


def _draw_kind(chance: Random) -> Kind:
    return chance.choices(tuple(Kind), (4, 2, 2, 3))[0]


def _draw_versions(
    chance: Random, founders: int, organisations: int, liars: set[int], gateways: int, length_ms: int
) -> tuple[Version, ...]:
    late = {number for number in range(1, gateways) if chance.random() < 0.2}
    first = Version(
        organisations=tuple((number, 1) for number in range(founders)),
        gateways=tuple((number, 1) for number in range(gateways) if number not in late),
    )
    versions = [first]
    at_ms = 0
    for _ in range(chance.choices((0, 1, 2, 3), (3, 4, 3, 1))[0]):
        is_soon = at_ms and chance.random() < 0.4
        at_ms = min(at_ms + chance.randint(0, 6_000), length_ms) if is_soon else chance.randint(at_ms, length_ms)
        changed = _draw_change(chance, versions[-1], organisations)
        if bears(changed, liars):
            spread_ms = chance.choice((500, 5_000, 30_000))
            parted_ms = chance.choice((0, 0, 0, 10_000, 40_000))
            versions.append(replace(changed, at_ms=at_ms, spread_ms=spread_ms, parted_ms=parted_ms))
    if late:
        known = dict(versions[-1].gateways)
        everyone = tuple((number, known.get(number, 1)) for number in range(gateways))
        at_ms = chance.randint(at_ms, length_ms)
        versions.append(replace(versions[-1], gateways=everyone, at_ms=at_ms, spread_ms=5_000))
    return tuple(versions)


def _draw_change(chance: Random, before: Version, organisations: int) -> Version:
    present = dict(before.organisations)
    absent = [number for number in range(organisations) if number not in present]
    retired = chance.sample(sorted(present), chance.choice((0, 1, 1, 2, len(present))))
    admitted = chance.sample(absent, min(len(absent), max(len(retired), chance.randint(0, 2))))
    match chance.randrange(8):
        case 0:
            return replace(before, stricter=1 - before.stricter)
        case 1:
            rekeyed = chance.choice(sorted(present))
            present[rekeyed] = min(present[rekeyed] + 1, GENERATIONS)
        case 2:
            gateways = tuple((number, min(generation + 1, GENERATIONS)) for number, generation in before.gateways)
            return replace(before, gateways=gateways)
        case 3:
            admitted, retired = admitted or absent[:1], []
        case 4 if len(present) > 4:
            admitted = []
    for number in retired:
        del present[number]
    present |= dict.fromkeys(admitted, 1)
    return replace(before, organisations=tuple(sorted(present.items())), stricter=0)


def _draw_away(chance: Random, versions: Sequence[Version], liars: set[int], organisations: int) -> tuple[int, ...]:
    away: set[int] = set()
    for number in chance.sample(range(organisations), 2):
        if all(bears(version, liars | away | {number}) for version in versions):
            away.add(number)
    return tuple(sorted(away - liars))


def _draw_mishaps(chance: Random, count: int, length_ms: int, most: int) -> tuple[Mishap, ...]:
    return tuple(
        Mishap(
            at_ms=chance.randint(0, length_ms),
            lasts_ms=chance.randint(2_000, 60_000),
            whom=tuple(chance.randrange(60) for _ in range(chance.randint(1, most))),
            moments=chance.randint(0, 12),
        )
        for _ in range(count)
    )


def _draw_demands(chance: Random, kinds: Sequence[Kind], length_ms: int) -> dict[int, int]:
    """Draw whose recovery key demands that its chain be closed, and when, though nothing is wrong with it."""
    return {
        number: chance.randint(0, length_ms)
        for number, kind in enumerate(kinds)
        if kind is Kind.HONEST and chance.random() < 0.25
    }
