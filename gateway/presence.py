"""Whether a device is there, and the gaps in what was heard of it.

    lost     -> gap {device, from, why}        at once
    returned -> gap {device, from, to, why}    with the first frame after it

`from` is when its last reading was received, `to` when it was heard again, both in ms since 1970. What began before
the gateway was last started goes on after it; a gateway that was not running is a gap of its own where a device was
not heard again within its quiet time.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from gateway.model import Event, EventKind

NOT_RUNNING = "the gateway was not running"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """Between two readings of a device; `to_ms` is None while it lasts."""

    device: str
    from_ms: int
    why: str
    to_ms: int | None = None

    def details(self) -> dict[str, int | str | bytes | bool]:
        """Give the details of its event."""
        details: dict[str, int | str | bytes | bool] = {"device": self.device, "from": self.from_ms, "why": self.why}
        return details if self.to_ms is None else {**details, "to": self.to_ms}


class Presence:
    """One device; `last_ms` is when its last reading was received, `lasting` the gap it is in, both from before."""

    def __init__(self, device: str, *, last_ms: int | None = None, lasting: Gap | None = None) -> None:
        self._device = device
        self._lasting = lasting
        # What is a gap only if it lasts: the gateway was started anew.
        self._unsaid = None
        if lasting is None and last_ms is not None:
            self._unsaid = Gap(device=device, from_ms=last_ms, why=NOT_RUNNING)

    @property
    def is_away(self) -> bool:
        """Say whether a frame would be a return."""
        return self._lasting is not None or self._unsaid is not None

    def lost(self, last_ms: int | None, why: str) -> Gap | None:
        """Note a loss; give the gap that it begins, None where one lasts already or nothing was ever heard."""
        if self.is_away or last_ms is None:
            return None
        self._lasting = Gap(device=self._device, from_ms=last_ms, why=why)
        return self._lasting

    def wait_over(self) -> Gap | None:
        """Note that the quiet time since the start is over; give the gap that this makes certain."""
        if self._unsaid is None:
            return None
        self._lasting, self._unsaid = self._unsaid, None
        return self._lasting

    def returned(self, now_ms: int) -> Gap | None:
        """Note that it is heard; give the gap that this ends, None where there was none worth an event."""
        gap, self._lasting, self._unsaid = self._lasting, None, None
        return None if gap is None else Gap(device=gap.device, from_ms=gap.from_ms, why=gap.why, to_ms=now_ms)


def lasting_gaps(events: Iterable[Event]) -> dict[str, Gap]:
    """Give the gaps that had not ended after these events, by device."""
    gaps: dict[str, Gap] = {}
    for event in events:
        if event.kind is EventKind.GAP:
            _fold(gaps, event.details)
    return gaps


def _fold(gaps: dict[str, Gap], details: Mapping[str, int | str | bytes | bool]) -> None:
    match details:
        case {"device": str(device), "from": int(from_ms), "why": str(why)}:
            gaps.pop(device, None)
            if "to" not in details:
                gaps[device] = Gap(device=device, from_ms=from_ms, why=why)
