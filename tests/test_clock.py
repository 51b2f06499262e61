from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import canonical, clock
from gateway.clock import STEP_MS, ClockReading, Epoch
from gateway.errors import VerificationError
from gateway.model import Event, EventKind
from tests.builders import SALT, make_event

YEAR_MS = 365 * 86_400_000
NOW = ClockReading(real_ms=1_764_000_000_000, boot_ms=5_000, boot="boot-a", synchronised=True, error_ms=12)


def later(now: ClockReading, boot_ms: int, jump_ms: int = 0) -> ClockReading:
    """Give the clocks that much later, with the wall clock moved beside it."""
    return replace(now, boot_ms=now.boot_ms + boot_ms, real_ms=now.real_ms + boot_ms + jump_ms)


def event_of(epoch: Epoch, now: ClockReading, why: str) -> Event:
    """Give the clock event as it stands in the chain: written, read back."""
    event = Event(
        sequence=3,
        at=clock.instant(epoch, now.real_ms, now.boot_ms),
        kind=EventKind.CLOCK,
        details=clock.clock_details(epoch, now, why),
        salt=SALT,
    )
    return canonical.decode_event(canonical.encode_event(event))


def test_the_first_epoch_begins_with_the_boot() -> None:
    """Without an epoch there is one from now on, number 1."""
    epoch, why = clock.next_epoch(None, NOW)
    assert why == "boot"
    assert epoch == Epoch(
        number=1, boot="boot-a", start_boot_ms=5_000, offset_ms=NOW.real_ms - 5_000, synchronised=True
    )


def test_while_the_clock_runs_true_the_epoch_goes_on() -> None:
    """An hour later nothing has changed."""
    epoch, _ = clock.next_epoch(None, NOW)
    assert clock.next_epoch(epoch, later(NOW, 3_600_000)) == (epoch, None)


@pytest.mark.parametrize("jump_ms", [10 * YEAR_MS, -10 * YEAR_MS, STEP_MS + 1, -STEP_MS - 1])
def test_fault_40_a_jump_of_the_wall_clock_begins_an_epoch(jump_ms: int) -> None:
    """Ten years ahead or back, and anything over half a second, is a step; monotonic time in the new epoch is true."""
    epoch, _ = clock.next_epoch(None, NOW)
    jumped = later(NOW, 1_000, jump_ms)
    after, why = clock.next_epoch(epoch, jumped)
    assert (why, after.number, after.start_boot_ms) == ("step", 2, jumped.boot_ms)
    assert clock.next_epoch(after, later(jumped, 1_000)) == (after, None)
    at = clock.instant(after, jumped.real_ms + 700, jumped.boot_ms + 700)
    assert (at.epoch, at.real_ms, at.monotonic_ms) == (2, jumped.real_ms + 700, 700)


@pytest.mark.parametrize("jump_ms", [STEP_MS, -STEP_MS])
def test_half_a_second_is_no_step(jump_ms: int) -> None:
    """Up to 500 ms between two looks the clock is followed."""
    epoch, _ = clock.next_epoch(None, NOW)
    moved = later(NOW, 1_000, jump_ms)
    assert clock.next_epoch(epoch, moved) == (replace(epoch, offset_ms=moved.real_ms - moved.boot_ms), None)


def test_fault_41_a_boot_at_1970_then_synchronised_begins_an_epoch() -> None:
    """A box without a battery clock starts at 1970 and says so; its first synchronisation begins an epoch."""
    cold = ClockReading(real_ms=1_000, boot_ms=1_000, boot="boot-a", synchronised=False)
    epoch, why = clock.next_epoch(None, cold)
    assert (why, epoch.synchronised) == ("boot", False)
    assert "error-ms" not in clock.clock_details(epoch, cold, "boot")
    warm = ClockReading(real_ms=NOW.real_ms, boot_ms=31_000, boot="boot-a", synchronised=True, error_ms=40)
    after, why = clock.next_epoch(epoch, warm)
    assert (why, after.number, after.synchronised) == ("step", 2, True)
    assert clock.clock_details(after, warm, "step")["error-ms"] == 40
    assert clock.next_epoch(after, later(warm, 1_000)) == (after, None)


def test_fault_41_a_synchronisation_without_a_step_begins_an_epoch_too() -> None:
    """From when on the time can be trusted shows in the chain even where the clock was right all along."""
    epoch, _ = clock.next_epoch(None, replace(NOW, synchronised=False))
    after, why = clock.next_epoch(epoch, later(NOW, 1_000))
    assert (why, after.number, after.synchronised) == ("synchronised", 2, True)


def test_a_synchronisation_that_is_lost_and_found_begins_none() -> None:
    """It is the first one that counts."""
    epoch, _ = clock.next_epoch(None, NOW)
    lost, why = clock.next_epoch(epoch, replace(later(NOW, 1_000), synchronised=False))
    assert why is None
    assert clock.next_epoch(lost, later(NOW, 2_000)) == (epoch, None)


def test_fault_42_a_new_boot_id_begins_an_epoch_whatever_the_monotonic_clock_says() -> None:
    """After a reboot the monotonic clock counts from 0 again: the same offset or another, it is a new epoch."""
    epoch, _ = clock.next_epoch(None, NOW)
    for now in (replace(NOW, boot="boot-b"), replace(later(NOW, 60_000), boot="boot-b", boot_ms=900)):
        after, why = clock.next_epoch(epoch, now)
        assert (why, after.number, after.boot, after.start_boot_ms) == ("boot", 2, "boot-b", now.boot_ms)
        assert clock.instant(after, now.real_ms, now.boot_ms).monotonic_ms == 0


@given(st.lists(st.integers(-STEP_MS, STEP_MS), max_size=50))
def test_fault_43_a_slow_drag_is_followed_within_the_epoch(drags: list[int]) -> None:
    """However far the wall clock is slewed in small parts, the epoch goes on and its monotonic time is untouched."""
    epoch, _ = clock.next_epoch(None, NOW)
    now = NOW
    for drag_ms in drags:
        now = later(now, 1_000, drag_ms)
        epoch, why = clock.next_epoch(epoch, now)
        assert why is None
        assert epoch.offset_ms == now.real_ms - now.boot_ms
    assert clock.instant(epoch, now.real_ms, now.boot_ms).monotonic_ms == 1_000 * len(drags)


def test_monotonic_time_never_goes_below_the_epochs_beginning() -> None:
    """A moment that was taken just before the epoch began is at its beginning."""
    epoch, _ = clock.next_epoch(None, NOW)
    assert clock.instant(epoch, NOW.real_ms, NOW.boot_ms - 1).monotonic_ms == 0


@given(
    number=st.integers(1, 2**32),
    passed_ms=st.integers(0, 2**40),
    real_ms=st.integers(-(2**40), 2**42),
    synchronised=st.booleans(),
    error_ms=st.none() | st.integers(0, 10_000),
)
def test_an_epoch_comes_back_from_its_event(
    number: int, passed_ms: int, real_ms: int, error_ms: int | None, *, synchronised: bool
) -> None:
    """What the chain says of the last epoch is the epoch, so that a restart in the same boot goes on in it."""
    now = ClockReading(real_ms=real_ms, boot_ms=passed_ms, boot="boot-a", synchronised=synchronised, error_ms=error_ms)
    epoch = clock.begin(number, now)
    events = [
        event_of(clock.begin(1, NOW), NOW, "boot"),
        event_of(epoch, now, "step"),
        make_event(EventKind.GENESIS, {"ledger": "l"}),
    ]
    assert clock.last_epoch(events) == epoch
    assert clock.next_epoch(clock.last_epoch(events), later(now, 60_000)) == (epoch, None)


def test_a_chain_without_a_clock_event_has_no_epoch() -> None:
    """Nothing, or only other events."""
    assert clock.last_epoch([]) is None
    assert clock.last_epoch([make_event(EventKind.GENESIS, {"epoch": 1})]) is None


@pytest.mark.parametrize("missing", ["epoch", "boot", "boot-ms", "synchronised"])
def test_an_incomplete_clock_event_is_refused(missing: str) -> None:
    """A detail that is missing or of another type is named by the event's number."""
    details = clock.clock_details(clock.begin(1, NOW), NOW, "boot")
    for broken in ({key: value for key, value in details.items() if key != missing}, {**details, missing: b"?"}):
        with pytest.raises(VerificationError, match="clock event 7 is incomplete"):
            clock.last_epoch([make_event(EventKind.CLOCK, broken, sequence=7)])
