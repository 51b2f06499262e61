"""A run: the machines of a seed, what befalls them, and how it has to end."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from random import Random

import pytest

from gateway import anchoring, canonical, signing
from gateway.ledger import messages
from gateway.model import Roster
from tests.builders import key_of, make_roster, member
from tests.simulation.clock import Clock, Trace
from tests.simulation.dishonest import DishonestGateway, DishonestPeer
from tests.simulation.disks import GatewayDisk
from tests.simulation.ending import Ending
from tests.simulation.gateway import HonestGateway
from tests.simulation.machine import Machine, Site
from tests.simulation.network import CALM, Network
from tests.simulation.peer import HonestPeer
from tests.simulation.promises import Broken, Fate, Kind, Promises
from tests.simulation.scenario import RESTORE_MS, Mishap, Scenario, draw_scenario

HEALED_MS = 90_000
"""How long after all has healed an honest gateway's blocks may take to be final, and a peer to catch up."""

LOOK_MS = 500
AFTERWARDS_MS = 10_000
"""How long a gateway with an old disk has before all heals."""
REMEMBERED = 10_000
PURE = (
    (signing, "crypto_sign_open"),
    (signing, "parse"),
    (canonical, "decode_block"),
    (messages, "decode_proposal"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of a seed; `broken` is the promise that was, if one was, and `last` the last steps in words."""

    seed: int
    steps: int
    virtual_ms: int
    counts: dict[str, int]
    fingerprint: str
    broken: str | None
    last: tuple[str, ...]


def run_seed(seed: int, show: Callable[[str], None] | None = None) -> Outcome:
    """Do everything that a seed decides, and say what came of it."""
    chance = Random(seed)  # noqa: S311 - the seed has to decide it
    with _determined(chance):
        world = World(draw_scenario(chance), chance, show)
        broken = None
        try:
            world.run()
        except Broken as error:
            broken = str(error)
        except Exception as error:  # noqa: BLE001 - nothing may be raised by the rules beyond what machines take
            broken = f"raised {error!r}"
    return world.outcome(seed, broken)


class World:
    """The machines of one run."""

    def __init__(self, scenario: Scenario, chance: Random, show: Callable[[str], None] | None = None) -> None:
        self._scenario = scenario
        self._clock = clock = Clock()
        self._trace = trace = Trace(clock, show)
        roster = _name_gateways(make_roster(scenario.peers), len(scenario.gateways))
        self._fates = {
            gateway.chain or "": Fate(kind) for gateway, kind in zip(roster.gateways, scenario.gateways, strict=True)
        }
        self._site = Site(clock, trace, Network(clock, trace, chance), chance, Promises(roster, self._fates), roster)
        self._peers = self._make_peers(roster)
        self._gateways: list[HonestGateway] = []
        machines = [self._make_gateway(number, kind) for number, kind in enumerate(scenario.gateways)]
        self._machines: list[Machine] = [*self._peers, *machines]
        self._site.network.stations += [*self._machines, *self._make_liars(roster)]

    def run(self) -> None:
        """Let all happen that the scenario holds, then heal, and wait until whoever is honest has come to an end.

        Raises: Broken if a promise was.
        """
        for cut in self._scenario.cuts:
            self._clock.after(cut.at_ms, lambda cut=cut: self._light(cut))  # type: ignore[misc]  # a lambda with a default
        for parting in self._scenario.partings:
            self._clock.after(parting.at_ms, lambda parting=parting: self._part(parting))  # type: ignore[misc]  # likewise
        for gateway in self._gateways:
            self._plan_disks(gateway)
        self._site.network.weather = self._scenario.weather
        self._start()
        restoring_ms = RESTORE_MS + AFTERWARDS_MS if Kind.RESTORED in self._scenario.gateways else 0
        self._clock.run_to(self._scenario.length_ms + restoring_ms)
        ending = Ending(self._site.roster, self._fates, self._gateways, self._peers)
        away = [peer.name for peer in self._peers[: self._scenario.away]]
        self._heal(away)
        self._wait(lambda: ending.unfinished(away))
        self._heal([])
        self._wait(lambda: ending.unfinished([]))
        ending.require_kept()
        for gateway in self._gateways:
            end = ending.excuse(gateway, []) or "finished"
            self._trace.tell(gateway.name, f"is {end}", count=f"chains {end}")

    def outcome(self, seed: int, broken: str | None) -> Outcome:
        """Give what came of it."""
        fates = self._fates.values()
        counts = {
            "blocks signed": sum(len(blocks) for fate in fates for blocks in fate.published.values()),
            "certified": sum(len(fate.certified) for fate in fates),
            **self._trace.counts,
        }
        return Outcome(
            seed=seed,
            steps=self._clock.steps,
            virtual_ms=self._clock.now_ms,
            counts=counts,
            fingerprint=f"{self._trace.fingerprint:08x}",
            broken=broken,
            last=tuple(self._trace.last),
        )

    # -- who is there

    def _make_peers(self, roster: Roster) -> list[HonestPeer]:
        honest = roster.peers[len(self._scenario.liars) :]
        return [HonestPeer(peer.id, key_of(peer.id), self._site) for peer in honest]

    def _make_liars(self, roster: Roster) -> list[DishonestPeer]:
        pairs = zip(roster.peers, self._scenario.liars, strict=False)
        return [DishonestPeer(peer.id, key_of(peer.id), self._site, traits) for peer, traits in pairs]

    def _make_gateway(self, number: int, kind: Kind) -> Machine:
        known = self._site.roster.gateways[number]
        if kind is Kind.FORGED:
            return DishonestGateway(known.id, known, key_of(known.id), self._site, 2 * self._scenario.leaf_ms)
        self._gateways.append(self._make_honest_gateway(number, known.id))
        return self._gateways[-1]

    def _make_honest_gateway(self, number: int, name: str) -> HonestGateway:
        known, scenario = self._site.roster.gateways[number], self._scenario
        return HonestGateway(name, known, key_of(known.id), self._site, scenario.seal, scenario.leaf_ms)

    # -- what befalls them

    def _start(self) -> None:
        for station in self._site.network.stations:
            if isinstance(station, Machine):
                self._clock.after(self._site.chance.randint(0, 3_000), station.start)

    def _light(self, cut: Mishap) -> None:
        self._machines[cut.whom[0]].light_fuse(cut.moments)

    def _part(self, parting: Mishap) -> None:
        whom = [self._machines[place] for place in parting.whom]
        self._cut_off([machine.name for machine in whom])
        for machine in whom:
            if parting.moments % 2:  # some notice, some do not
                machine.disconnect()
        self._clock.after(parting.lasts_ms, self._join)

    def _cut_off(self, names: Sequence[str]) -> None:
        self._trace.tell("network", f"parts {', '.join(names) or 'no one'}", count="partings")
        self._site.network.cut_off(names)

    @property
    def _confidants(self) -> list[str]:
        return [self._site.roster.peers[place].id for place in self._scenario.confidants]

    def _join(self) -> None:
        if self._site.network.weather is CALM:  # healed, but for those who are to stay away
            return
        self._trace.tell("network", "is whole")
        self._site.network.cut_off([])
        for machine in self._machines:
            machine.connect()

    def _plan_disks(self, gateway: HonestGateway) -> None:
        """Plan a backup that is given back, or a second copy of the gateway."""
        kind, scenario = self._fates[gateway.chain].kind, self._scenario
        if kind in {Kind.RESTORED, Kind.CLONED}:
            self._clock.after(scenario.backup_ms, lambda: self._back_up(gateway, kind))
        if kind is Kind.RESTORED:
            self._fates[gateway.chain].kind = Kind.HONEST  # until it is
            confides_ms = max(scenario.restore_ms - scenario.confides_ms, 0)
            self._clock.after(confides_ms, lambda: self._cut_off([gateway.name, *self._confidants]))

    def _back_up(self, gateway: HonestGateway, kind: Kind) -> None:
        self._trace.tell(gateway.name, "is backed up")
        backup = gateway.disk.backup()
        if kind is Kind.RESTORED:
            self._clock.after(self._scenario.restore_ms - self._clock.now_ms, lambda: self._restore(gateway, backup))
            return
        number = [known.chain for known in self._site.roster.gateways].index(gateway.chain)
        clone = self._make_honest_gateway(number, f"{gateway.name}x")
        clone.disk, backup.power = backup, clone.power
        self._machines.append(clone)
        self._site.network.stations.append(clone)
        clone.start()

    def _restore(self, gateway: HonestGateway, backup: GatewayDisk) -> None:
        what = f"is given back a disk of {len(backup.blocks)} blocks"
        self._trace.tell(gateway.name, what, count="disks given back")
        gateway.stop(RESTORE_MS)
        gateway.disk = backup
        self._cut_off(self._confidants if self._scenario.parted else [])
        self._clock.after(RESTORE_MS, lambda: self._start_restored(gateway))

    def _start_restored(self, gateway: HonestGateway) -> None:
        self._fates[gateway.chain].restored()
        gateway.start()

    # -- how it ends

    def _heal(self, away: Sequence[str]) -> None:
        self._trace.tell("network", f"heals, without {', '.join(away) or 'exception'}")
        self._site.network.weather = CALM
        self._site.network.cut_off(away)
        for machine in self._machines:
            machine.calm()
            machine.start()
            machine.connect()

    def _wait(self, unfinished: Callable[[], str]) -> None:
        end_ms = self._clock.now_ms + HEALED_MS
        while why := unfinished():
            if self._clock.now_ms >= end_ms:
                raise Broken(f"{HEALED_MS // 1000} s after all has healed {why}")
            self._clock.run_to(self._clock.now_ms + LOOK_MS)


def _name_gateways(roster: Roster, count: int) -> Roster:
    return replace(roster, gateways=tuple(member(f"ward-{number}", f"chain-{number}") for number in range(count)))


@contextmanager
def _determined(chance: Random) -> Iterator[None]:
    """Let the seed draw the nonces, and remember what pure functions gave: many read and check the same bytes."""

    class Nonces:
        token_bytes = staticmethod(chance.randbytes)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(anchoring, "secrets", Nonces)
        patch.setattr(anchoring, "log", _Silence())
        for module, name in PURE:
            patch.setattr(module, name, lru_cache(REMEMBERED)(getattr(module, name)))
        yield


class _Silence:
    """A log that nobody reads."""

    def info(self, *_: object, **__: object) -> None:
        """Pass over it."""
