"""A ward for a while: `iomt run` with its broker and a peer, straps on the radio and oximeters on lines, none lost.

Every frame carries a number, so each that was said is looked for among those that were kept. Kept is what is there
once; of a line the last second, which was not over, does not count.
"""

import json
import os
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from signal import Signals
from time import monotonic, sleep
from typing import Any

from gateway import canonical
from gateway.io.store.readings import payload_of
from tests.bench.figures import Aim, Figure, Run, quantile
from tests.bench.notifications import BUS
from tests.bench.probes import processor_s, resident_mb
from tests.processes import Process, Site, type_iomt

STRAP = "heart-rate-strap"
OXIMETER = "contec-cms50d-plus"
FRAME_BYTES = 5  # an oximeter's
FRAMES_A_SECOND = 60
SLOTS = 64
SETTLE_S = 1.0
"""How long the last frame may be under way."""

Said = Mapping[str, Sequence[tuple[str, float]]]
"""Frames in hex and when they were said, in ms, by address."""

Kept = Mapping[str, Mapping[str, Sequence[int]]]
"""When a frame was received, in ms, each time that it is kept; by address and the frame in hex."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Course:
    """What was seen of the gateway, and what the sensors said meanwhile."""

    heard_s: float
    processor_percent: float
    resident_mb: tuple[float, float]
    said: Said


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """What became of what was said: how many frames that was, and how long each that is kept was under way."""

    said: int
    delays_ms: Sequence[float]

    @property
    def run(self) -> Run:
        """What was kept beside what was said."""
        return Run(len(self.delays_ms), self.said)


def measure(
    folder: Path, *, seconds: float, straps: int, oximeters: int, report: Callable[[str], None]
) -> list[Figure]:
    """Measure once, for `seconds` from when every sensor was heard."""
    report(f"soak, {straps} straps and {oximeters} oximeters for {seconds:g} s")
    site = Site(folder, peers=1, sensors=0)
    try:
        with _crowd(folder, straps, oximeters) as crowd:
            there = json.loads(crowd.first_line())
            devices = _enrol(site, there)
            course = _run(site, crowd, there["bus"], seconds)
        site.audit()
        kept = _kept(site, devices)
    finally:
        site.end()
    radio = account(there["straps"], course.said, kept)
    serial = account(there["ports"], course.said, kept, last=FRAMES_A_SECOND)
    return _figures(f"soak {seconds:g} s", course, radio, serial)


def _figures(what: str, course: _Course, radio: Account, serial: Account) -> list[Figure]:
    sides = (("notifications", radio), ("serial frames", serial))
    before_mb, after_mb = course.resident_mb
    others = (
        ("notified to heard, p50", "ms", quantile(radio.delays_ms, 0.5)),
        ("notified to heard, p99", "ms", quantile(radio.delays_ms, 0.99)),
        ("processor, of one core", "%", course.processor_percent),
        ("resident at its end", "MB", after_mb),
        ("resident, more than at its begin", "MB", after_mb - before_mb),
        ("ready to every sensor heard", "s", course.heard_s),
    )
    everything = (Aim(at_least=1, of_ratio=True),)
    return [
        *[
            Figure(name=f"{what}: {kind} kept", unit="", runs=[side.run], bound="sent", aims=everything)
            for kind, side in sides
        ],
        *[Figure(name=f"{what}: {name}", unit=unit, runs=[Run(value)]) for name, unit, value in others],
    ]


@contextmanager
def _crowd(folder: Path, straps: int, oximeters: int) -> Iterator[Process]:
    command = [sys.executable, "-m", "tests.bench.crowd", "--folder", folder / "crowd"]
    crowd = Process(folder / "crowd.log", *command, "--straps", straps, "--oximeters", oximeters)
    crowd.start()
    try:
        yield crowd
    finally:
        crowd.end()


def _enrol(site: Site, there: Mapping[str, Any]) -> dict[str, str]:
    """Configure the gateway, enrol every sensor, and give their addresses by name."""
    config = site.state / "gateway.toml"
    config.write_text(config.read_text().partition("[block]")[0] + f"[radio]\nslots = {SLOTS}\n")
    kinds = {"strap": (STRAP, there["straps"]), "oximeter": (OXIMETER, there["ports"])}
    devices: dict[str, str] = {}
    for kind, (profile, addresses) in kinds.items():
        for number, address in enumerate(addresses):
            devices[f"{kind}-{number}"] = address
            options = ("--profile", profile, "--address", address, "--id", f"{kind}-{number}")
            type_iomt("device", "add", "--state", site.state, *options, "--yes", "--no-reading")
    return devices


def _run(site: Site, crowd: Process, bus: str, seconds: float) -> _Course:
    """Run the gateway from its start to its end."""
    site.gateway.environment = {**os.environ, BUS: bus}
    site.broker.start()
    for peer in site.peers.values():
        peer.start()
    site.start_gateway()
    start_s = monotonic()
    _await_everyone(site)
    heard_s = monotonic() - start_s
    pid = site.gateway.pid
    crowd.send(Signals.SIGUSR1)
    before_mb, before_s, start_s = _resident_mb(pid), processor_s(pid), monotonic()
    sleep(seconds)
    after_mb, busy_s, taken_s = _resident_mb(pid), processor_s(pid) - before_s, monotonic() - start_s
    crowd.send(Signals.SIGUSR2)
    said = json.loads(crowd.first_line())
    sleep(SETTLE_S)
    assert site.gateway.end() == 0, site.gateway.log.read_text()
    return _Course(
        heard_s=heard_s, processor_percent=busy_s / taken_s * 100, resident_mb=(before_mb, after_mb), said=said
    )


def _await_everyone(site: Site, limit_s: float = 120.0) -> None:
    """Wait until every sensor was heard, and ask seldom: what the gateway answers is its work, too."""
    give_up_s = monotonic() + limit_s
    while not all(device["readings"] for device in site.status()["devices"]):
        assert site.gateway.runs, site.gateway.log.read_text()
        assert monotonic() < give_up_s, f"not every sensor was heard in {limit_s:g} s"
        sleep(0.1)


def _resident_mb(pid: int) -> float:
    return resident_mb(Path(f"/proc/{pid}/status").read_text())


def _kept(site: Site, devices: Mapping[str, str]) -> Kept:
    """Give what the gateway holds of each sensor; a second of an oximeter's is the frames that it was joined of."""
    kept: dict[str, dict[str, list[int]]] = {address: defaultdict(list) for address in devices.values()}
    with site.store() as store:
        for leaf in store.leaves(0):
            if leaf.kind == "reading":
                reading = canonical.decode_reading(payload_of(leaf.data))
                joined = FRAME_BYTES if leaf.issuer.startswith("oximeter") else len(reading.frame)
                for at in range(0, len(reading.frame), joined):
                    kept[devices[leaf.issuer]][reading.frame[at : at + joined].hex()].append(reading.at.real_ms)
    return kept


def account(addresses: Sequence[str], said: Said, kept: Kept, last: int = 0) -> Account:
    """Hold what some sensors said, without the `last` frames of each, against what is kept."""
    count, delays_ms = 0, []
    for address in addresses:
        for frame, said_ms in said[address][: len(said[address]) - last]:
            count += 1
            received_ms = kept[address].get(frame, ())
            if len(received_ms) == 1:
                delays_ms.append(received_ms[0] + 1 - said_ms)
    return Account(said=count, delays_ms=delays_ms)
