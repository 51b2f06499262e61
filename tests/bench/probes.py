"""What this machine does at best: the bounds that figures stand beside."""

import asyncio
import os
import re
from pathlib import Path
from time import perf_counter

from nacl.bindings import crypto_sign, crypto_sign_seed_keypair

from gateway.io.mqtt import Broker, Link

SIGNED_BYTES = 200
"""As many as a heart rate has with its header, when it is signed."""

WAL_FRAME_BYTES = 24 + 4096
"""SQLite's least write: the head of a frame and one page."""


def signatures_per_s(seconds: float = 0.3) -> float:
    """Sign on this core and do nothing else."""
    _, secret = crypto_sign_seed_keypair(bytes(32))
    message = bytes(SIGNED_BYTES)
    count, start_s = 0, perf_counter()
    while perf_counter() - start_s < seconds:
        for _ in range(100):
            crypto_sign(message, secret)
        count += 100
    return count / (perf_counter() - start_s)


def syncs_ms(folder: Path, count: int) -> list[float]:
    """Write one WAL frame behind the other and fsync each, as the leanest commit would; gives each one's time."""
    path = folder / "probe"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    times_ms = []
    try:
        for _ in range(count):
            start_s = perf_counter()
            os.write(descriptor, bytes(WAL_FRAME_BYTES))
            os.fsync(descriptor)
            times_ms.append((perf_counter() - start_s) * 1000)
    finally:
        os.close(descriptor)
        path.unlink()
    return times_ms


async def round_trips_ms(broker: Broker, size_bytes: int, count: int) -> list[float]:
    """Publish with QoS 1, one message at a time, and wait until it is back from the broker; gives each one's time."""
    connected = asyncio.Event()
    link = Link(broker, identity="probe", topics=["bench/probe"], on_connected=connected.set)
    running = asyncio.create_task(link.run())
    try:
        await connected.wait()
        return [await _round_trip_ms(link, size_bytes) for _ in range(count)]
    finally:
        running.cancel()
        await asyncio.wait((running,))


async def _round_trip_ms(link: Link, size_bytes: int) -> float:
    start_s = perf_counter()
    acknowledged = asyncio.create_task(link.publish("bench/probe", bytes(size_bytes)))
    await link.inbox.get()
    back_s = perf_counter()
    await acknowledged
    return (back_s - start_s) * 1000


def written_bytes() -> int:
    """Give how many bytes this process has had written to the disk so far: pages that it made dirty, each time."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(dict(line.split(": ") for line in lines)["write_bytes"])


def processor_s(pid: int) -> float:
    """Give how much of the processor a process has had so far, all of its threads (proc_pid_stat(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    user, system = fields[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def resident_mb(status: str) -> float:
    """Read how much memory a process holds from its /proc/PID/status."""
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    return int(found[1]) / 1024 if found else 0.0
