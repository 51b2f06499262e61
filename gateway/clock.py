"""Clock epochs: what a reading's time is worth, as events in the chain; no reading is ever re-stamped.

    clock {"epoch": n, "boot": boot id, "boot-ms": monotonic clock at its start, "synchronised": bool,
           "error-ms": bound on the error, where known, "why": "boot" / "step" / "synchronised"}

A new epoch begins at every boot, at every step of the wall clock and when the clock is first synchronised. Within
an epoch the monotonic clock, which also counts suspended time, orders and spaces what was read.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from gateway.errors import VerificationError
from gateway.model import Event, EventKind, Instant

STEP_MS = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockReading:
    """The clocks at one moment: wall clock, monotonic since boot, and how far the wall clock can be trusted."""

    real_ms: int
    boot_ms: int
    boot: str
    synchronised: bool
    error_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """A clock epoch: `offset_ms` is the wall clock minus the monotonic clock, as last seen."""

    number: int
    boot: str
    start_boot_ms: int
    offset_ms: int
    synchronised: bool


def next_epoch(epoch: Epoch | None, now: ClockReading) -> tuple[Epoch, str | None]:
    """Give the epoch that holds now, and why it is a new one, or None where it goes on.

    A slow drag of the wall clock (NTP's slew) is followed; a jump of more than 500 ms between two looks is a step.
    """
    offset_ms = now.real_ms - now.boot_ms
    why = _reason(epoch, now, offset_ms)
    if epoch is not None and why is None:
        return replace(epoch, offset_ms=offset_ms), None
    return begin(1 if epoch is None else epoch.number + 1, now), why


def begin(number: int, now: ClockReading) -> Epoch:
    """Give the epoch of that number that begins now."""
    return Epoch(
        number=number,
        boot=now.boot,
        start_boot_ms=now.boot_ms,
        offset_ms=now.real_ms - now.boot_ms,
        synchronised=now.synchronised,
    )


def instant(epoch: Epoch, real_ms: int, boot_ms: int) -> Instant:
    """Give a moment as a reading carries it; the monotonic part never goes below the epoch's beginning."""
    return Instant(real_ms=real_ms, epoch=epoch.number, monotonic_ms=max(boot_ms - epoch.start_boot_ms, 0))


def clock_details(epoch: Epoch, now: ClockReading, why: str) -> dict[str, int | str | bytes | bool]:
    """Give the details of the event that begins an epoch."""
    details: dict[str, int | str | bytes | bool] = {
        "epoch": epoch.number,
        "boot": epoch.boot,
        "boot-ms": epoch.start_boot_ms,
        "synchronised": epoch.synchronised,
        "why": why,
    }
    if now.error_ms is not None:
        details["error-ms"] = now.error_ms
    return details


def last_epoch(events: Iterable[Event]) -> Epoch | None:
    """Give the epoch of the highest number that was begun in these events; of equal ones, the last.

    Raises: VerificationError if an event is incomplete.
    """
    epochs = [_epoch(event) for event in events if event.kind is EventKind.CLOCK]
    return max(reversed(epochs), key=lambda epoch: epoch.number, default=None)


def _epoch(event: Event) -> Epoch:
    match dict(event.details):
        case {"epoch": int(number), "boot": str(boot), "boot-ms": int(start), "synchronised": bool(synchronised)}:
            return Epoch(
                number=number,
                boot=boot,
                start_boot_ms=start,
                offset_ms=event.at.real_ms - event.at.monotonic_ms - start,
                synchronised=synchronised,
            )
        case _:
            raise VerificationError(f"clock event {event.sequence} is incomplete")


def _reason(epoch: Epoch | None, now: ClockReading, offset_ms: int) -> str | None:
    if epoch is None or epoch.boot != now.boot:
        return "boot"
    if abs(offset_ms - epoch.offset_ms) > STEP_MS:
        return "step"
    return "synchronised" if now.synchronised and not epoch.synchronised else None
