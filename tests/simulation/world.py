"""A run: the machines of a seed, what befalls them, and how it has to end."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random

import pytest

from gateway import anchoring
from gateway.ledger.messages import Kind as Said
from gateway.ledger.roster import gateway_of_chain
from gateway.ledger.rosters import Rosters
from tests.simulation.clock import WALL_MS, Clock, Trace
from tests.simulation.dishonest_gateway import DishonestGateway
from tests.simulation.dishonest_peer import DishonestPeer
from tests.simulation.disks import GatewayDisk
from tests.simulation.ending import Ending
from tests.simulation.gateway import HonestGateway
from tests.simulation.machine import Machine, Site
from tests.simulation.membership import Membership, RosterFile, chain_name, gateway_name, peer_names
from tests.simulation.memory import remember
from tests.simulation.network import CALM, Network
from tests.simulation.owner import Owner
from tests.simulation.peer import HonestPeer
from tests.simulation.promises import Fate, Promises
from tests.simulation.scenario import RESTORE_MS, TEN_YEARS_MS, Mishap, Scenario, Version, draw_scenario
from tests.simulation.traits import Kind
from tests.simulation.turns import Broken

HEALED_MS = 90_000
"""How long after all has healed an honest gateway's blocks may take to be final, and a peer to catch up."""

LOOK_MS = 500
AFTERWARDS_MS = 10_000
"""How long a gateway with an old disk has before all heals."""


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
        membership = Membership(scenario.sizes, scenario.versions)
        self._fates = {chain_name(number): Fate(kind) for number, kind in enumerate(scenario.gateways)}
        promises = Promises(membership, self._fates)
        self._site = Site(clock, trace, Network(clock, trace, chance), chance, promises, membership)
        self._peers: list[HonestPeer] = []
        self._liars: list[DishonestPeer] = []
        self._gateways: list[HonestGateway] = []
        self._owners: list[Owner] = []
        self._machines: list[Machine] = []
        self._admit()

    def run(self) -> None:
        """Let all happen that the scenario holds, then heal, and wait until whoever is honest has come to an end.

        Raises: Broken if a promise was.
        """
        scenario = self._scenario
        for mishaps, befall in (
            (scenario.cuts, self._light),
            (scenario.partings, self._part),
            (scenario.jumps, self._jump),
        ):
            for mishap in mishaps:
                self._at(mishap.at_ms, lambda befall=befall, mishap=mishap: befall(mishap))  # type: ignore[misc]  # a lambda with defaults
        for version in scenario.versions[1:]:
            self._at(version.at_ms, lambda version=version: self._sign_version(version))  # type: ignore[misc]  # likewise
        self._site.network.weather = scenario.weather
        self._site.network.withheld = frozenset() if scenario.gossips else frozenset({Said.ROSTER})
        restoring_ms = RESTORE_MS + AFTERWARDS_MS if Kind.RESTORED in scenario.gateways else 0
        self._clock.run_to(scenario.length_ms + restoring_ms)
        ending = Ending(self._site.promises, self._gateways, self._owners, self._peers)
        away = [name for number in scenario.away for name in peer_names(number, scenario.sizes[number])]
        self._heal(away)
        self._wait(ending, away)
        self._heal([])
        self._wait(ending, [])
        for gateway in self._gateways:
            gateway.measure()
        self._wait(ending, [])
        ending.require_kept()

    def outcome(self, seed: int, broken: str | None) -> Outcome:
        """Give what came of it."""
        fates = self._fates.values()
        counts = {
            "blocks signed": sum(len(blocks) for fate in fates for blocks in fate.published.values()),
            "certified": sum(len(blocks) for blocks in self._site.promises.certified.values()),
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

    def _admit(self) -> None:
        """Give whoever is on the roster and was never before a machine with a file of it, and start it."""
        scenario, current = self._scenario, self._site.membership.rosters.current
        known = {machine.name for machine in (*self._machines, *self._liars)}
        for number, size in enumerate(scenario.sizes):
            for name in peer_names(number, size):
                if name not in known and any(member.id == name for member in current.peers):
                    self._add_peer(name, number)
        for number, kind in enumerate(scenario.gateways):
            name = gateway_name(number)
            if name not in known and any(member.id == name for member in current.gateways):
                self._add_gateway(number, name, kind)

    def _add_peer(self, name: str, organisation: int) -> None:
        if organisation in self._scenario.liars:
            liar = DishonestPeer(name, self._site, self._scenario.liars[organisation])
            self._liars.append(liar)
            self._site.network.everywhere.add(name)
            self._add(liar)
        else:
            alert = self._site.chance.random() < 0.8
            self._peers.append(HonestPeer(name, self._site, self._site.membership.rosters, alert=alert))
            self._machines.append(self._peers[-1])
            self._add(self._peers[-1])

    def _add_gateway(self, number: int, name: str, kind: Kind) -> None:
        if kind is Kind.FORGED:
            member = gateway_of_chain(self._site.membership.rosters.current, chain_name(number))
            parts = self._site.chance.random() < 0.5
            liars = [liar.name for liar in self._liars]
            forger = DishonestGateway(name, member, self._site, 2 * self._scenario.leaf_ms, liars, parts=parts)
            self._machines.append(forger)
            self._site.network.everywhere.add(name)
            self._add(forger)
            return
        gateway = self._make_gateway(number, name)
        owner = Owner(gateway, self._site)
        self._gateways.append(gateway)
        self._owners.append(owner)
        for machine in (gateway, owner):
            self._machines.append(machine)
            self._add(machine)
        self._plan_disks(gateway, owner)
        if number in self._scenario.demands:
            self._at(self._scenario.demands[number], owner.mean_to_close)

    def _make_gateway(self, number: int, name: str) -> HonestGateway:
        scenario, known = self._scenario, self._site.membership.rosters
        member = gateway_of_chain(known.current, chain_name(number))
        return HonestGateway(name, member, self._site, known, scenario.seal, scenario.leaf_ms)

    def _add(self, machine: Machine) -> None:
        self._site.network.stations.append(machine)
        self._clock.after(self._site.chance.randint(0, 3_000), machine.start)

    # -- what befalls them

    def _at(self, at_ms: int, call: Callable[[], None]) -> None:
        self._clock.after(max(at_ms - self._clock.now_ms, 0), call)

    def _sign_version(self, version: Version) -> None:
        """Sign the next version of the roster, and have its file brought to everyone, sooner or later."""
        membership = self._site.membership
        before = membership.rosters.current
        membership.sign_next()
        current = membership.rosters.current
        what = f"version {current.version}, epoch {current.epoch}: {' '.join(member.id for member in current.peers)}"
        self._trace.tell("roster", what, count="epochs begun" if current.epoch > before.epoch else "gateways admitted")
        for machine in self._machines:
            if isinstance(machine, HonestPeer | HonestGateway):
                file = machine.roster
                self._clock.after(self._site.chance.randint(0, version.spread_ms), lambda file=file: self._give(file))  # type: ignore[misc]  # a lambda with a default
        known = {peer.name for peer in self._peers}
        self._admit()
        if version.parted_ms:
            self._cut_off([peer.name for peer in self._peers if peer.name not in known])
            self._clock.after(version.parted_ms, self._join)

    def _give(self, file: RosterFile) -> None:
        file.given = self._site.membership.rosters

    def _some(self, mishap: Mishap) -> list[Machine]:
        return [self._machines[number % len(self._machines)] for number in dict.fromkeys(mishap.whom)]

    def _light(self, cut: Mishap) -> None:
        self._some(cut)[0].light_fuse(cut.moments)

    def _part(self, parting: Mishap) -> None:
        whom = self._some(parting)
        self._cut_off([machine.name for machine in whom])
        for machine in whom:
            if parting.moments % 2:  # some notice, some do not
                machine.disconnect()
        self._clock.after(parting.lasts_ms, self._join)

    def _jump(self, jump: Mishap) -> None:
        """Put clocks off by ten years, to 1970, or right again."""
        for machine in self._some(jump):
            offset_ms = (TEN_YEARS_MS, -TEN_YEARS_MS, -WALL_MS, 0)[jump.moments % 4]
            machine.offset_ms = offset_ms
            self._trace.tell(machine.name, f"has its clock off by {offset_ms} ms", count="clock jumps")

    def _cut_off(self, names: Sequence[str]) -> None:
        self._trace.tell("network", f"parts {', '.join(names) or 'no one'}", count="partings")
        self._site.network.cut_off(names)

    @property
    def _confidants(self) -> list[str]:
        sizes = self._scenario.sizes
        return [name for number in self._scenario.confidants for name in peer_names(number, sizes[number])]

    def _join(self) -> None:
        if self._site.network.weather is CALM:  # healed, but for those who are to stay away
            return
        self._trace.tell("network", "is whole")
        self._site.network.cut_off([])
        for machine in self._machines:
            machine.connect()

    def _plan_disks(self, gateway: HonestGateway, owner: Owner) -> None:
        """Plan a backup that is given back, or a second copy of the gateway."""
        kind, scenario = self._fates[gateway.chain].kind, self._scenario
        if kind in {Kind.RESTORED, Kind.CLONED}:
            self._at(scenario.backup_ms, lambda: self._back_up(gateway, owner, kind))
        if kind is Kind.RESTORED:
            self._fates[gateway.chain].kind = Kind.HONEST  # until it is
            confides_ms = max(scenario.restore_ms - scenario.confides_ms, 0)
            self._at(confides_ms, lambda: self._cut_off([gateway.name, *self._confidants]))

    def _back_up(self, gateway: HonestGateway, owner: Owner, kind: Kind) -> None:
        self._trace.tell(gateway.name, "is backed up")
        backup, known = gateway.disk.backup(), gateway.roster.rosters
        if kind is Kind.RESTORED:
            self._at(self._scenario.restore_ms, lambda: self._restore(gateway, backup, known))
            return
        number = int(gateway.id.removeprefix("ward-"))
        clone = self._make_gateway(number, f"{gateway.name}x")
        clone.disk, backup.power = backup, clone.power
        clone.roster.restore(known)
        owner.clones.append(clone)
        self._machines.append(clone)
        self._site.network.stations.append(clone)
        clone.start()

    def _restore(self, gateway: HonestGateway, backup: GatewayDisk, known: Rosters) -> None:
        what = f"is given back a disk of {len(backup.blocks)} blocks"
        self._trace.tell(gateway.name, what, count="disks given back")
        gateway.stop(RESTORE_MS)
        gateway.disk = backup
        gateway.roster.restore(known)
        self._cut_off(self._confidants if self._scenario.parted else [])
        self._clock.after(RESTORE_MS, lambda: self._start_restored(gateway))

    def _start_restored(self, gateway: HonestGateway) -> None:
        self._site.promises.restored(gateway.chain)
        gateway.start()

    # -- how it ends

    def _heal(self, away: Sequence[str]) -> None:
        self._trace.tell("network", f"heals, without {', '.join(away) or 'exception'}")
        self._site.network.weather, self._site.network.withheld = CALM, frozenset()
        self._site.network.cut_off(away)
        for machine in self._machines:
            machine.calm()
            machine.start()
            machine.connect()

    def _wait(self, ending: Ending, away: Sequence[str]) -> None:
        end_ms = self._clock.now_ms + HEALED_MS
        while why := ending.unfinished(away):
            if self._clock.now_ms >= end_ms:
                raise Broken(f"{HEALED_MS // 1000} s after all has healed {why}")
            ending.help(away, self._clock.now_ms + HEALED_MS - end_ms)
            self._clock.run_to(self._clock.now_ms + LOOK_MS)


@contextmanager
def _determined(chance: Random) -> Iterator[None]:
    """Let the seed draw the nonces, and remember what pure functions gave: many read and check the same bytes."""

    class Nonces:
        token_bytes = staticmethod(chance.randbytes)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(anchoring, "secrets", Nonces)
        patch.setattr(anchoring, "log", _Silence())
        remember(patch)
        yield


class _Silence:
    """A log that nobody reads."""

    def info(self, *_: object, **__: object) -> None:
        """Pass over it."""

    error = warning = info
