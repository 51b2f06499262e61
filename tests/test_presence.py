from hypothesis import given
from hypothesis import strategies as st

from gateway.model import Event, EventKind, Instant
from gateway.presence import NOT_RUNNING, Gap, Presence, lasting_gaps

DEVICE = "strap-1"


def event(gap: Gap) -> Event:
    at = Instant(real_ms=1, epoch=1, monotonic_ms=1)
    return Event(sequence=1, at=at, kind=EventKind.GAP, details=gap.details(), salt=bytes(16))


def test_loss_and_return_are_a_gap_each() -> None:
    """A loss is said at once, a return with when it came back; both say since when and why."""
    presence = Presence(DEVICE)
    assert presence.lost(1000, "the link was lost") == Gap(device=DEVICE, from_ms=1000, why="the link was lost")
    assert presence.is_away
    assert presence.lost(1000, "no frame for 3 s") is None
    assert presence.returned(5000) == Gap(device=DEVICE, from_ms=1000, why="the link was lost", to_ms=5000)
    assert not presence.is_away


def test_device_that_was_never_heard_is_not_lost() -> None:
    """Without a first reading nothing is missing."""
    presence = Presence(DEVICE)
    assert presence.lost(None, "the link was lost") is None
    assert presence.returned(5000) is None


def test_quick_restart_of_the_gateway_is_no_gap() -> None:
    """A device that is heard within its quiet time after a start was not away."""
    presence = Presence(DEVICE, last_ms=1000)
    assert presence.is_away
    assert presence.returned(1500) is None
    assert presence.wait_over() is None


def test_device_that_stays_away_after_a_start_is_a_gap() -> None:
    """Its gap began with the last reading before; the reason is that the gateway was not running."""
    presence = Presence(DEVICE, last_ms=1000)
    assert presence.wait_over() == Gap(device=DEVICE, from_ms=1000, why=NOT_RUNNING)
    assert presence.wait_over() is None
    assert presence.returned(9000) == Gap(device=DEVICE, from_ms=1000, why=NOT_RUNNING, to_ms=9000)


def test_gap_goes_on_over_a_restart() -> None:
    """What the chain says of an unfinished gap is where the next run goes on, and it is said but once."""
    gap = Gap(device=DEVICE, from_ms=1000, why="it was unplugged")
    presence = Presence(DEVICE, last_ms=1000, lasting=lasting_gaps([event(gap)])[DEVICE])
    assert presence.wait_over() is None
    assert presence.lost(1000, "the link was lost") is None
    ended = presence.returned(9000)
    assert ended == Gap(device=DEVICE, from_ms=1000, why="it was unplugged", to_ms=9000)
    assert lasting_gaps([event(gap), event(ended)]) == {}


def test_event_that_is_no_gap_is_passed_over() -> None:
    """A gap without its details, as a later version may have them, does not stop a start."""
    at = Instant(real_ms=1, epoch=1, monotonic_ms=1)
    odd = Event(sequence=1, at=at, kind=EventKind.GAP, details={"device": 7}, salt=bytes(16))
    assert lasting_gaps([odd]) == {}


@given(steps=st.lists(st.sampled_from(["lost", "returned", "wait"]), max_size=30), last_ms=st.none() | st.just(5))
def test_gaps_begin_and_end_in_turn(steps: list[str], last_ms: int | None) -> None:
    """Whatever happens, each gap that began ends once before the next, and none ends that did not begin."""
    presence, said = Presence(DEVICE, last_ms=last_ms), []
    for now_ms, step in enumerate(steps, 10):
        if step == "lost":
            gap = presence.lost(now_ms, "lost")
        else:
            gap = presence.returned(now_ms) if step == "returned" else presence.wait_over()
        if gap is not None:
            said.append(gap.to_ms is not None)
    assert said == [bool(number % 2) for number in range(len(said))]
