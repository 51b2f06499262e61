"""A sensor that is exact to the clock: a process that writes a frame a datagram, each behind the time of its writing.

    python -m tests.bench.feeder DESCRIPTOR FRAMES_PER_S COUNT

The time is time.perf_counter_ns(), CLOCK_MONOTONIC, which is the same in every process; 8 bytes, little-endian.
"""

import socket
import sys
from time import perf_counter, perf_counter_ns, sleep

from tests.bench.numbered import strap_frame


def feed(line: socket.socket, rate_per_s: float, count: int) -> None:
    """Write the frames when they are due, whether or not the ones before were taken."""
    start_s = perf_counter() + 0.05
    for number in range(count):
        wait_s = start_s + number / rate_per_s - perf_counter()
        if wait_s > 0:
            sleep(wait_s)
        frame = strap_frame(number)
        line.send(perf_counter_ns().to_bytes(8, "little") + frame)


if __name__ == "__main__":
    descriptor, rate_per_s, count = sys.argv[1:]
    with socket.socket(fileno=int(descriptor)) as line:
        feed(line, float(rate_per_s), int(count))
