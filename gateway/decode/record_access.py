"""Record Access Control Point, GATT characteristic 0x2A52: how what a device stored is asked for.

    01 03 01 2b 00    written: report the records with sequence number 43 or more
    06 00 01 01       indicated, behind the last of them: the answer to 01 is success

Written: opcode (1 report, 2 delete, 3 abort, 4 count), operator (0 none, 1 all, 3 from a value on, 6 the last), for
operator 3 the filter (1 sequence number) and a value of 16 bits. Indicated: 06 00, the opcode that is answered and a
code (1 success, 6 no records, others a refusal), or 05 00 and the count that 04 asked for, of 1 to 4 bytes. Records
come as notifications of another characteristic, oldest first. Glucose meters know all of these operators; pulse
oximeters that store spot checks know "all" alone, and their records have no numbers.

A device has 30 s to answer; each record that it sends gives it as long again.
Source: Glucose Service 1.0.1, section 3.4, and Glucose Profile 1.0.1; Pulse Oximeter Service 1.0.1, Record Access
Control Point.
"""

from dataclasses import dataclass
from enum import Enum, auto

from gateway.errors import IomtError

ANSWER_MS = 30_000
LAST_NUMBER = 0xFFFF  # what sequence numbers reach before they begin at 0 again
_REPORT, _DELETE, _ABORT, _COUNT, _COUNTED, _RESPONSE = range(1, 7)
_SUCCESS, _NO_RECORDS = 1, 6
_REFUSALS = {
    2: "opcode not supported",
    3: "operator invalid",
    4: "operator not supported",
    5: "operand invalid",
    7: "abort unsuccessful",
    8: "procedure not completed",
    9: "operand not supported",
}


class ProcedureRunning(IomtError):  # noqa: N818 - a fact about the device, which the caller did not wait for
    """The device still works on a request; wait for its outcome, or abort it."""


@dataclass(frozen=True, slots=True)
class Reported:
    """Every record that was asked for has come; `is_empty` where there was none."""

    is_empty: bool


@dataclass(frozen=True, slots=True)
class Counted:
    """So many records are stored."""

    count: int


@dataclass(frozen=True, slots=True)
class Deleted:
    """No record is stored any more."""


@dataclass(frozen=True, slots=True)
class Aborted:
    """The request that was running has ended."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The device will not do what the opcode `request` asked, and why."""

    request: int
    reason: str


@dataclass(frozen=True, slots=True)
class TimedOut:
    """The device did not answer in time; it is to be connected anew before it is asked again."""


@dataclass(frozen=True, slots=True)
class Unexpected:
    """An indication that answers no request, or of no sense; what was running still runs."""

    indication: bytes


Outcome = Reported | Counted | Deleted | Aborted | Refused | Unexpected

_OUTCOMES: dict[tuple[int, int], Outcome] = {
    (_REPORT, _SUCCESS): Reported(is_empty=False),
    (_REPORT, _NO_RECORDS): Reported(is_empty=True),
    (_DELETE, _SUCCESS): Deleted(),
    (_DELETE, _NO_RECORDS): Deleted(),
    (_ABORT, _SUCCESS): Aborted(),
    (_COUNT, _NO_RECORDS): Counted(0),
}


class RecordAccess:
    """One device's control point: each request gives the bytes to write, `receive` what became of it.

    One request runs at a time, besides its abortion: another raises ProcedureRunning and changes nothing. Times are
    milliseconds of one clock; where `due_ms` is reached, `expire` is to be called.
    """

    __slots__ = ("_due_ms", "_has_progress", "_running")

    def __init__(self) -> None:
        self._running: frozenset[int] = frozenset()
        self._due_ms: int | None = None
        self._has_progress = False

    @property
    def due_ms(self) -> int | None:
        """When the answer is late; None where nothing runs."""
        return self._due_ms

    def report_all(self, now_ms: int) -> bytes:
        """Ask for every record."""
        return self._ask(b"\x01\x01", now_ms)

    def report_since(self, sequence: int, now_ms: int) -> bytes:
        """Ask for the records from a sequence number (0 to 65535) on; for glucose meters alone."""
        return self._ask(b"\x01\x03\x01" + sequence.to_bytes(2, "little"), now_ms)

    def report_last(self, now_ms: int) -> bytes:
        """Ask for the latest record; for glucose meters alone."""
        return self._ask(b"\x01\x06", now_ms)

    def count_all(self, now_ms: int) -> bytes:
        """Ask how many records there are."""
        return self._ask(b"\x04\x01", now_ms)

    def delete_all(self, now_ms: int) -> bytes:
        """Have every record deleted."""
        return self._ask(b"\x02\x01", now_ms)

    def abort(self, now_ms: int) -> bytes:
        """Have what is running ended; allowed at any time."""
        self._running |= {_ABORT}
        return self._wait(b"\x03\x00", now_ms)

    def heard_record(self) -> None:
        """Note that a record came: the device is at work, and its time begins anew."""
        self._has_progress = True

    def receive(self, indication: bytes) -> Outcome:
        """Give what an indication of the control point means."""
        outcome = self._read(indication)
        if outcome is None:
            return Unexpected(indication)
        request = _COUNT if indication[0] == _COUNTED else indication[2]
        self._running = frozenset() if isinstance(outcome, Aborted) else self._running - {request}
        if not self._running:
            self._due_ms = None
        return outcome

    def expire(self, now_ms: int) -> TimedOut | None:
        """Give up what is running if its time is over and no record came meanwhile."""
        if self._due_ms is None or now_ms < self._due_ms:
            return None
        if self._has_progress:
            self._has_progress, self._due_ms = False, now_ms + ANSWER_MS
            return None
        self._running, self._due_ms = frozenset(), None
        return TimedOut()

    def _ask(self, request: bytes, now_ms: int) -> bytes:
        if self._running:
            raise ProcedureRunning("the device still works on another request for its records")
        self._running = frozenset(request[:1])
        return self._wait(request, now_ms)

    def _wait(self, request: bytes, now_ms: int) -> bytes:
        self._has_progress, self._due_ms = False, now_ms + ANSWER_MS
        return request

    def _read(self, indication: bytes) -> Outcome | None:
        """Give what a sound answer to what is running means; None for anything else."""
        if indication[:2] == bytes((_COUNTED, 0)) and _COUNT in self._running:
            return Counted(int.from_bytes(indication[2:], "little")) if 2 < len(indication) <= 6 else None
        if len(indication) != 4 or indication[:2] != bytes((_RESPONSE, 0)) or indication[2] not in self._running:
            return None
        request, code = indication[2:]
        return _OUTCOMES.get((request, code)) or Refused(request, _REFUSALS.get(code, f"code {code}"))


class _Step(Enum):
    """What StoredRecords waits for."""

    START = auto()
    NEW = auto()
    LAST = auto()
    ALL = auto()
    OVER = auto()


class StoredRecords:
    """What is asked of a store on a connection, for everything that came after record `held` (None: nothing is held).

    The new records are asked for first. Where there are none, or numbers have reached their end, the last one is: if
    it is not the one that is held, the meter was reset or its numbers began at 0 again, and all are asked for; so they
    are where a meter refuses a narrower request. What comes twice is for others to drop. Stores without numbers are
    given None each time and so asked for all.

    `last` is what to hold for the next connection. It moves only when this one has `finished` well: a record that was
    heard is no proof that those before it were. It is None after a store that was empty. A meter that was reset and
    has since counted to `held` or past it cannot be told from one that went on.
    """

    __slots__ = ("_access", "_heard", "_held", "_step", "last", "reason")

    def __init__(self, held: int | None) -> None:
        self.last = held
        self.reason = ""
        self._access = RecordAccess()
        self._held = held
        self._heard: int | None = None
        self._step = _Step.START

    @property
    def finished(self) -> bool:
        """Whether nothing more is to be written; `reason` says how it ended."""
        return self._step is _Step.OVER

    @property
    def due_ms(self) -> int | None:
        """When `expire` is to be called; None where nothing is awaited."""
        return self._access.due_ms

    def begin(self, now_ms: int) -> bytes:
        """Give the first request to write; raises ProcedureRunning where it has begun and is not finished."""
        if self._held is None:
            return self._ask_all(now_ms)
        return self._ask_last(now_ms) if self._held >= LAST_NUMBER else self._ask_new(now_ms)

    def heard_record(self, number: int) -> None:
        """Note a record that came, by its number."""
        self._heard = number
        self._access.heard_record()

    def receive(self, indication: bytes, now_ms: int) -> bytes | None:
        """Give the next request to write, if there is one; an indication that answers nothing is passed over."""
        if self.finished:
            return None
        outcome = self._access.receive(indication)
        if isinstance(outcome, Reported):
            return self._go_on(now_ms, is_empty=outcome.is_empty)
        if isinstance(outcome, Refused):
            if self._step is not _Step.ALL:
                return self._ask_all(now_ms)
            self._finish(f"refused: {outcome.reason}")
        return None

    def expire(self, now_ms: int) -> None:
        """Finish if the device's time is over."""
        if self._access.expire(now_ms) is not None:
            self._finish(f"no answer within {ANSWER_MS // 1000} s")

    def _go_on(self, now_ms: int, *, is_empty: bool) -> bytes | None:
        """Ask further after what was asked has come: if that was all there is to have, finish."""
        if self._step is _Step.NEW and self._heard == LAST_NUMBER:
            self._held = LAST_NUMBER
            return self._ask_last(now_ms)
        if self._step is _Step.NEW and is_empty:
            return self._ask_last(now_ms)
        if self._step is _Step.LAST and not is_empty and self._heard != self._held:
            return self._ask_all(now_ms)
        if is_empty or self._heard is not None:
            self.last = self._heard
        self._finish("no records" if is_empty else "complete")
        return None

    def _finish(self, reason: str) -> None:
        self._step, self.reason = _Step.OVER, reason

    def _ask_new(self, now_ms: int) -> bytes:
        return self._enter(_Step.NEW, self._access.report_since((self._held or 0) + 1, now_ms))

    def _ask_last(self, now_ms: int) -> bytes:
        return self._enter(_Step.LAST, self._access.report_last(now_ms))

    def _ask_all(self, now_ms: int) -> bytes:
        return self._enter(_Step.ALL, self._access.report_all(now_ms))

    def _enter(self, step: _Step, request: bytes) -> bytes:
        self._step, self._heard, self.reason = step, None, ""
        return request
