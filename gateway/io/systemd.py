"""What systemd is told of this process, by sd_notify(3): ready, stopping, a line of status, and that work goes on.

    READY=1                    once, when all is up: `systemctl start` returns
    STATUS=2 devices           for `systemctl status`
    WATCHDOG=1                 work goes on; if it stays away for WatchdogSec, systemd kills and restarts
    STOPPING=1                 on the way out

Each is one datagram to the socket in $NOTIFY_SOCKET. Outside systemd there is none, and nothing happens.
"""

import contextlib
import os
import socket


def notify(state: str) -> None:
    """Tell systemd, e.g. "READY=1"; several assignments stand on lines of their own.

    A socket that cannot be reached is no error of ours: systemd itself acts on silence.
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    if address.startswith("@"):  # the abstract namespace
        address = "\0" + address[1:]
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.sendto(state.encode(), address)


def watchdog_interval_s() -> float | None:
    """Give how long systemd bears silence, in s; None where it does not watch this process."""
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    interval_us = os.environ.get("WATCHDOG_USEC", "")
    return int(interval_us) / 1_000_000 if interval_us.isdecimal() and int(interval_us) else None


class Watchdog:
    """Feeds systemd's watchdog when every stage has made progress since it was last fed, and not otherwise.

    A timer would say that the event loop turns, while the stage that matters hangs. Here each stage says `progress`
    when it has come round, and one that stays away starves the watchdog, however lively the others are. A gateway
    without readings, or a peer without proposals, makes progress too: a beat, far more often than WatchdogSec, wakes
    each stage, and the stage goes its whole round with nothing to carry. So a stage's wait for work has a time limit
    or is ended by the beat; the beat never says `progress` in another stage's place.
    """

    def __init__(self, *stages: str) -> None:
        self._stages = frozenset(stages)
        self._awaited = set(stages)
        self._watched = watchdog_interval_s() is not None

    def progress(self, stage: str) -> None:
        """Note that a stage has come round; the last of them feeds the watchdog."""
        self._awaited.discard(stage)
        if self._watched and not self._awaited:
            self._awaited = set(self._stages)
            notify("WATCHDOG=1")
