"""What the ledger costs: blocks certified by 1 to 10 peers, 1 to 1,000 gateways, catching up, memory."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter

from gateway.block import Head, next_block
from gateway.io.store.chains import ChainStore
from gateway.ledger import messages
from gateway.ledger.messages import Kind, Topic
from gateway.ledger.peering import PeerRule
from gateway.ledger.voting import cast_vote, sign_block
from gateway.merkle import HASH_SIZE, split_hashes
from gateway.model import Block
from tests.bench.crowded import Crowd, PeerCircle, circle, crowd
from tests.bench.figures import Aim, Figure, Run, quantile
from tests.bench.probes import processor_s, resident_mb
from tests.ledgers import CHAIN, GATEWAY, VOTED_S, first_roster, keys_of
from tests.processes import ROOT

LEAVES = 256
WINDOW = 32
PERIOD_S = 10.0
SMALL_BLOCK = 10
"""Leaves of a gateway that seals every ten seconds what a strap says."""

NAMES = ("peer-0", "peer-1", "peer-2", "peer-3")
ROSTERS = first_roster(NAMES)
KEYS = {name: keys_of("peer", name).require(ROSTERS.current) for name in NAMES}
SEALED_MS = 1_764_000_000_000

Report = Callable[[str], None]


def measure_circles(
    folder: Path, *, circles: Sequence[int], gateways: Sequence[int], seconds: float, report: Report
) -> list[Figure]:
    """Measure blocks certified by so many peers, and what so many gateways cost each of four."""
    figures = []
    for peers in circles:
        report(f"certified by {peers} peers")
        figures += asyncio.run(_flow(folder / f"flow-{peers}", peers, seconds))
    report("certified by 4 post-quantum peers")
    figures += asyncio.run(_flow(folder / "flow-pq", 4, seconds, post_quantum=True))
    for count in gateways:
        report(f"{count} gateways, a block each in {PERIOD_S:g} s")
        figures.append(asyncio.run(_pace(folder / f"pace-{count}", count)))
    return figures


def measure_copy(folder: Path, *, leaves: int, runs: int, report: Report) -> list[Figure]:
    """Measure how fast one peer takes in a chain that it missed."""
    rates, with_votes = [], []
    for number in range(runs):
        report(f"catching up, run {number + 1} of {runs}")
        rates.append(Run(_take(folder / f"bare-{number}.db", leaves, voters=0)))
        with_votes.append(Run(_take(folder / f"votes-{number}.db", leaves, voters=3)))
    return [
        Figure(name="catching up, 256 leaves a block", unit="leaves/s", runs=rates, aims=(Aim(at_least=200_000),)),
        Figure(name="catching up, with certificates", unit="leaves/s", runs=with_votes),
    ]


def measure_memory(folder: Path, *, leaves: int, report: Report) -> list[Figure]:
    """Measure what a process holds that has taken in so many leaves, and what one holds that has taken in few."""
    report(f"a peer's memory over {leaves:,} leaves")
    found = [
        _resident_mb(folder / f"hoard-{number}.db", number) for number in (leaves, LEAVES * messages.ANSWER_BLOCKS)
    ]
    return [
        Figure(
            name=f"a peer's rule and store over {leaves:,} leaves: resident",
            unit="MB",
            runs=[Run(*found)],
            bound="over 4,096",
        )
    ]


def _resident_mb(path: Path, leaves: int) -> float:
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.peers", path, str(leaves)], cwd=ROOT, capture_output=True, check=True
    )
    return float(done.stdout)


# -- real peers, real broker


async def _flow(folder: Path, peers: int, seconds: float, *, post_quantum: bool = False) -> list[Figure]:
    """Certify blocks one by one, then with a full window in flight."""
    with circle(folder, peers, post_quantum=post_quantum) as around:
        async with crowd(around) as gateway:
            chain = gateway.chains[0]
            await _one(gateway, chain)
            idle = [await _one(gateway, chain) for _ in range(20)]
            gateway.took_ms.clear()
            start_s = perf_counter()
            while perf_counter() - start_s < seconds:
                while gateway.in_flight() < WINDOW:
                    gateway.propose(chain, LEAVES)
                await gateway.certified()
            took_s = perf_counter() - start_s
            loaded = list(gateway.took_ms)
    who = f"{peers} {'post-quantum ' if post_quantum else ''}peer{'s' if peers > 1 else ''}"
    rate = len(loaded) / took_s
    return [
        Figure(name=f"{who}: certificates", unit="/s", runs=[Run(rate)]),
        Figure(name=f"{who}: readings certified", unit="/s", runs=[Run(rate * LEAVES)]),
        Figure(name=f"{who}: proposed to certified, idle, p50", unit="ms", runs=[Run(quantile(idle, 0.5))]),
        Figure(
            name=f"{who}: proposed to certified, {WINDOW} in flight, p50", unit="ms", runs=[Run(quantile(loaded, 0.5))]
        ),
        Figure(
            name=f"{who}: proposed to certified, {WINDOW} in flight, p99", unit="ms", runs=[Run(quantile(loaded, 0.99))]
        ),
    ]


async def _one(gateway: Crowd, chain: str) -> float:
    gateway.propose(chain, LEAVES)
    while gateway.in_flight():
        await gateway.certified()
    return gateway.took_ms[-1]


async def _pace(folder: Path, count: int) -> Figure:
    """Let each of so many gateways seal a block in a period, evenly, and see what share of a core a peer takes."""
    with circle(folder, 4, count) as around:
        async with crowd(around) as gateways:
            await asyncio.sleep(1.0)  # what peers do at a start is none of the period's business
            before = _busy_s(around)
            loop = asyncio.get_running_loop()
            start_s = loop.time()
            for number, chain in enumerate(gateways.chains):
                await asyncio.sleep(start_s + number * PERIOD_S / count - loop.time())
                gateways.propose(chain, SMALL_BLOCK)
            while gateways.in_flight():
                await gateways.certified()
            await asyncio.sleep(max(start_s + PERIOD_S - loop.time(), 0))
            took_s = loop.time() - start_s
            shares = [(after - then) / took_s * 100 for after, then in zip(_busy_s(around), before, strict=True)]
    aims = (Aim(at_most=50),) if count == 1000 else ()
    what = f"{count} gateway{'s' if count > 1 else ''}, a block each in {PERIOD_S:g} s: a peer's share of a core"
    return Figure(name=what, unit="%", runs=[Run(share) for share in shares], aims=aims)


def _busy_s(around: PeerCircle) -> list[float]:
    return [processor_s(peer.pid) for peer in around.peers]


# -- one peer's rule over its store on a disk


def _take(path: Path, leaves: int, voters: int) -> float:
    """Give how many leaves a second a peer takes in from answers, each block with the votes of so many others."""
    store = ChainStore(str(path))
    rule = PeerRule("peer-0", keys_of("peer", "peer-0").of, ROSTERS, store)
    topic, head, took_s = Topic(CHAIN, Kind.ANSWER, "peer-0", "peer-1"), Head(chain=CHAIN), 0.0
    keys = keys_of("gateway", GATEWAY).require(ROSTERS.current)
    try:
        for _ in range(leaves // LEAVES // messages.ANSWER_BLOCKS):
            answers = []
            for _ in range(messages.ANSWER_BLOCKS):
                hashes = split_hashes(os.urandom(LEAVES * HASH_SIZE))
                block, head = next_block(head, hashes, 0, SEALED_MS)
                answers.append(messages.encode_answer(sign_block(keys, GATEWAY, block), hashes, _votes(block, voters)))
            start_s = perf_counter()
            for answer in answers:
                rule.hear(topic, answer, 0, VOTED_S)
            rule.settle()
            took_s += perf_counter() - start_s
    finally:
        store.close()
    return head.frontier.size / took_s


def _votes(block: Block, voters: int) -> list[bytes]:
    return [cast_vote(KEYS[name], name, 1, block, VOTED_S) for name in NAMES[1 : 1 + voters]]


if __name__ == "__main__":
    _take(Path(sys.argv[1]), int(sys.argv[2]), voters=0)
    sys.stdout.write(str(resident_mb(Path("/proc/self/status").read_text())))
