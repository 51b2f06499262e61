"""The clocks of this machine: wall clock, time since boot, boot id, and what the kernel says of synchronisation."""

import ctypes
import os
import time
from pathlib import Path

from gateway.clock import ClockReading

_TIME_ERROR = 5
_TIMESYNC = Path("/run/systemd/timesync/synchronized")
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class _Timex(ctypes.Structure):
    """struct timex of adjtimex(2), up to what is read here; the kernel writes `rest` too."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("rest", ctypes.c_byte * 512),
    )


_LIBC = ctypes.CDLL(None, use_errno=True)


def boot_id() -> str:
    """Give this boot's id: IOMT_BOOT_ID where the unit passes it (ProcSubset=pid hides the file), else the kernel's."""
    return os.environ.get("IOMT_BOOT_ID") or _BOOT_ID.read_text().strip()


class Clocks:
    """This machine's clocks, in the boot whose id is given."""

    def __init__(self, boot: str) -> None:
        self._boot = boot

    def times(self) -> tuple[int, int]:
        """Give wall clock and time since boot, suspended time included, in ms."""
        return time.time_ns() // 1_000_000, time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000

    def read(self) -> ClockReading:
        """Read the clocks, and what the kernel says of them, or timesyncd's file where adjtimex(2) is denied."""
        state = _Timex()
        answer = _LIBC.adjtimex(ctypes.byref(state))
        synchronised = answer < _TIME_ERROR if answer >= 0 else _TIMESYNC.exists()
        real_ms, boot_ms = self.times()
        return ClockReading(
            real_ms=real_ms,
            boot_ms=boot_ms,
            boot=self._boot,
            synchronised=synchronised,
            error_ms=state.maxerror // 1000 if synchronised and answer >= 0 else None,
        )
