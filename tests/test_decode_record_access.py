from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.decode.record_access import (
    ANSWER_MS,
    Aborted,
    Counted,
    Deleted,
    Outcome,
    ProcedureRunning,
    RecordAccess,
    Refused,
    Reported,
    StoredRecords,
    TimedOut,
    Unexpected,
)

ALL, SINCE, LAST = 1, 3, 6
REPORT, ABORT = 1, 3


@dataclass
class Meter:
    """A store of numbered records by the Glucose Service: 16-bit numbers, oldest first, one answer a request."""

    numbers: list[int] = field(default_factory=list)
    next_number: int = 0
    operators: frozenset[int] = frozenset({ALL, SINCE, LAST})

    def measure(self, times: int = 1) -> None:
        """Store as many records more."""
        for _ in range(times):
            self.numbers.append(self.next_number)
            self.next_number = (self.next_number + 1) & 0xFFFF

    def reset(self) -> None:
        """Forget all records and begin at 0."""
        self.numbers, self.next_number = [], 0

    def answer(self, request: bytes) -> tuple[list[int], bytes]:
        """Give the numbers of the records that go out, and the indication behind them."""
        assert request[0] == REPORT
        operator, operand = request[1], request[2:]
        if operator not in self.operators:
            return [], b"\x06\x00\x01\x04"
        if operator == SINCE:
            assert (operand[0], len(operand)) == (1, 3)
            chosen = [number for number in self.numbers if number >= int.from_bytes(operand[1:], "little")]
        else:
            assert operand == b""
            chosen = self.numbers if operator == ALL else self.numbers[-1:]
        return list(chosen), b"\x06\x00\x01\x01" if chosen else b"\x06\x00\x01\x06"


def synchronise(meter: Meter, held: int | None, *, cut_after: int | None = None) -> tuple[list[int], int | None]:
    """Give what one connection brings and what is held after it; `cut_after` records the link drops."""
    records = StoredRecords(held)
    heard: list[int] = []
    request: bytes | None = records.begin(0)
    for _ in range(4):
        if request is None:
            break
        numbers, indication = meter.answer(request)
        for number in numbers:
            if cut_after is not None and len(heard) >= cut_after:
                return heard, records.last
            heard.append(number)
            records.heard_record(number)
        request = records.receive(indication, 0)
    assert records.finished
    assert records.reason in ("complete", "no records")
    return heard, records.last


@pytest.mark.parametrize(
    ("ask", "request_hex"),
    [
        (lambda access: access.report_all(0), "0101"),
        (lambda access: access.report_since(43, 0), "0103012b00"),
        (lambda access: access.report_since(65535, 0), "010301ffff"),
        (lambda access: access.report_last(0), "0106"),
        (lambda access: access.count_all(0), "0401"),
        (lambda access: access.delete_all(0), "0201"),
        (lambda access: access.abort(0), "0300"),
    ],
)
def test_a_request_is_what_the_service_says(ask: Callable[[RecordAccess], bytes], request_hex: str) -> None:
    """Opcode, operator, and for "from a number on" the filter and the number (Glucose Service 3.4.1)."""
    assert ask(RecordAccess()).hex() == request_hex


@pytest.mark.parametrize(
    ("ask", "answer", "outcome"),
    [
        (RecordAccess.report_all, "06000101", Reported(is_empty=False)),
        (RecordAccess.report_all, "06000106", Reported(is_empty=True)),
        (RecordAccess.report_all, "06000108", Refused(1, "procedure not completed")),
        (RecordAccess.report_last, "06000104", Refused(1, "operator not supported")),
        (RecordAccess.report_last, "060001fe", Refused(1, "code 254")),
        (RecordAccess.count_all, "05000c00", Counted(12)),
        (RecordAccess.count_all, "050004030201", Counted(0x01020304)),
        (RecordAccess.count_all, "06000406", Counted(0)),
        (RecordAccess.count_all, "06000402", Refused(4, "opcode not supported")),
        (RecordAccess.delete_all, "06000201", Deleted()),
        (RecordAccess.delete_all, "06000206", Deleted()),
        (RecordAccess.abort, "06000301", Aborted()),
        (RecordAccess.abort, "06000307", Refused(3, "abort unsuccessful")),
    ],
)
def test_an_answer_ends_its_request(ask: Callable[[RecordAccess, int], bytes], answer: str, outcome: Outcome) -> None:
    """Every code has its meaning, nothing is awaited any more, and the next request may be made."""
    access = RecordAccess()
    ask(access, 0)
    assert access.receive(bytes.fromhex(answer)) == outcome
    assert access.due_ms is None
    assert access.report_all(0) == b"\x01\x01"


@pytest.mark.parametrize(
    "indication",
    ["", "06", "060001", "0600010101", "06010101", "06000201", "06000301", "05000100", "0500", "0101", "ff000101"],
)
def test_what_answers_nothing_leaves_the_request_running(indication: str) -> None:
    """Another opcode's answer, a wrong operator, too few bytes and too many."""
    access = RecordAccess()
    access.report_all(0)
    assert access.receive(bytes.fromhex(indication)) == Unexpected(bytes.fromhex(indication))
    assert access.receive(b"\x06\x00\x01\x01") == Reported(is_empty=False)


def test_a_second_request_is_refused_and_the_first_goes_on() -> None:
    """A device knows one procedure at a time (Glucose Service 3.4.3, procedure already in progress)."""
    access = RecordAccess()
    access.report_all(0)
    with pytest.raises(ProcedureRunning, match="another request"):
        access.delete_all(0)
    assert access.receive(b"\x06\x00\x02\x01") == Unexpected(b"\x06\x00\x02\x01")
    assert access.receive(b"\x06\x00\x01\x01") == Reported(is_empty=False)


def test_an_abort_ends_what_was_running() -> None:
    """Nothing else answers the report any more."""
    access = RecordAccess()
    access.report_all(0)
    assert access.abort(5) == b"\x03\x00"
    assert access.receive(b"\x06\x00\x03\x01") == Aborted()
    assert access.receive(b"\x06\x00\x01\x01") == Unexpected(b"\x06\x00\x01\x01")


def test_an_abort_that_came_too_late_lets_both_be_answered() -> None:
    """The report had ended on the air already; its abortion then has nothing to end."""
    access = RecordAccess()
    access.report_all(0)
    access.abort(5)
    assert access.receive(b"\x06\x00\x01\x01") == Reported(is_empty=False)
    assert access.due_ms == 5 + ANSWER_MS
    assert access.receive(b"\x06\x00\x03\x07") == Refused(3, "abort unsuccessful")
    assert access.due_ms is None


def test_a_silent_device_is_given_up_after_its_time() -> None:
    """30 s after the request, not before."""
    access = RecordAccess()
    access.count_all(1000)
    assert access.due_ms == 31_000
    assert access.expire(30_999) is None
    assert access.expire(31_000) == TimedOut()
    assert access.due_ms is None
    assert access.expire(99_000) is None


def test_a_device_that_sends_records_has_time() -> None:
    """A thousand records take longer than 30 s; silence after them ends it all the same."""
    access = RecordAccess()
    access.report_all(0)
    access.heard_record()
    assert access.expire(30_000) is None
    assert access.due_ms == 60_000
    assert access.expire(60_000) == TimedOut()


@settings(deadline=None)
@given(
    steps=st.lists(
        st.binary(max_size=6) | st.binary(max_size=2).map(b"\x06\x00".__add__) | st.integers(0, 60_000), max_size=12
    )
)
def test_no_indication_and_no_time_raises(steps: list[bytes | int]) -> None:
    """Garbage is Unexpected or an outcome; something is awaited exactly while a request runs."""
    access = RecordAccess()
    access.report_all(0)
    records = StoredRecords(7)
    records.begin(0)
    for step in steps:
        if isinstance(step, int):
            access.expire(step)
            records.expire(step)
        else:
            access.receive(step)
            records.receive(step, 0)
        assert records.finished == (records.due_ms is None) == bool(records.reason)
    if access.due_ms is None:
        assert access.report_last(0) == b"\x01\x06"
    else:
        with pytest.raises(ProcedureRunning):
            access.report_last(0)


def test_only_what_is_new_is_asked_for() -> None:
    """Records 0 to 4 are held, 5 and 6 came since."""
    meter = Meter()
    meter.measure(7)
    assert synchronise(meter, 4) == ([5, 6], 6)


def test_an_empty_meter_and_one_without_news_end_well() -> None:
    """The last record is the one that is held, or there is none at all."""
    meter = Meter()
    assert synchronise(meter, None) == ([], None)
    assert synchronise(meter, 9) == ([], None)
    meter.measure(10)
    assert synchronise(meter, 9) == ([9], 9)


def test_a_reset_meter_is_read_anew() -> None:
    """Its last number is below the one that is held."""
    meter = Meter()
    meter.measure(50)
    meter.reset()
    meter.measure(3)
    heard, last = synchronise(meter, 49)
    assert heard == [2, 0, 1, 2]
    assert last == 2


def test_a_link_that_drops_in_a_reset_meters_report_loses_nothing() -> None:
    """What was heard of a probe is not held: the next connection asks for all again."""
    meter = Meter()
    meter.measure(50)
    meter.reset()
    meter.measure(3)
    heard, last = synchronise(meter, 49, cut_after=2)
    assert (heard, last) == ([2, 0], 49)
    assert synchronise(meter, last) == ([2, 0, 1, 2], 2)


@pytest.mark.parametrize("held", [65530, 65535])
def test_numbers_that_begin_anew_are_followed(held: int) -> None:
    """65535 is followed by 0, in one connection."""
    meter = Meter(next_number=65529)
    meter.measure(12)
    heard, last = synchronise(meter, held)
    assert set(heard) >= {number for number in meter.numbers if number > held or number < 10}
    assert last == 4


@pytest.mark.parametrize("operators", [{ALL}, {ALL, SINCE}, {ALL, LAST}])
@pytest.mark.parametrize("held", [4, 9])
def test_a_store_with_fewer_operators_is_asked_for_all(operators: set[int], held: int) -> None:
    """What it refuses, such as an oximeter's store everything narrower, is asked for more widely."""
    meter = Meter(operators=frozenset(operators))
    meter.measure(10)
    heard, last = synchronise(meter, held)
    assert set(heard) >= {number for number in meter.numbers if number > held}
    assert last == 9


def test_a_last_record_that_came_damaged_proves_nothing() -> None:
    """No number was heard, so all are asked for."""
    records = StoredRecords(9)
    assert records.begin(0) == b"\x01\x03\x01\x0a\x00"
    assert records.receive(b"\x06\x00\x01\x06", 0) == b"\x01\x06"
    assert records.receive(b"\x06\x00\x01\x01", 0) == b"\x01\x01"


def test_records_that_all_came_damaged_are_asked_for_again() -> None:
    """What is held stays where no number was heard."""
    records = StoredRecords(9)
    records.begin(0)
    assert records.receive(b"\x06\x00\x01\x01", 0) is None
    assert (records.finished, records.last) == (True, 9)


def test_a_device_that_refuses_everything_is_left_alone() -> None:
    """With the reason it gave; what is held stays."""
    records = StoredRecords(9)
    records.begin(0)
    assert records.receive(b"\x06\x00\x01\x02", 0) == b"\x01\x01"
    assert not records.finished
    assert records.receive(b"\x06\x00\x01\x08", 0) is None
    assert (records.finished, records.reason, records.last) == (True, "refused: procedure not completed", 9)


def test_a_device_that_falls_silent_ends_it() -> None:
    """30 s after the last thing that was heard; an answer that comes later is passed over."""
    records = StoredRecords(None)
    assert not records.finished
    records.begin(0)
    records.heard_record(0)
    records.expire(30_000)
    assert not records.finished
    records.expire(60_000)
    assert (records.finished, records.reason, records.last) == (True, "no answer within 30 s", None)
    assert records.receive(b"\x06\x00\x01\x01", 60_001) is None


def test_it_begins_once() -> None:
    """A second beginning is refused while the first is under way."""
    records = StoredRecords(3)
    records.begin(0)
    with pytest.raises(ProcedureRunning):
        records.begin(0)
    assert records.receive(b"\x06\x00\x01\x06", 0) == b"\x01\x06"


@settings(deadline=None)
@given(
    first_number=st.sampled_from([0, 3, 65_528, 65_535]),
    visits=st.lists(
        st.tuples(st.integers(0, 9), st.sampled_from([False, False, True]), st.none() | st.integers(0, 5)), max_size=8
    ),
    operators=st.sampled_from([{ALL, SINCE, LAST}, {ALL, LAST}, {ALL}]),
)
def test_no_record_is_missed_whatever_the_meter_and_the_link_do(
    first_number: int, visits: list[tuple[int, bool, int | None]], operators: set[int]
) -> None:
    """After each connection that ends well, all that is stored was heard, but for a reset that no number tells."""
    meter = Meter(next_number=first_number, operators=frozenset(operators))
    held: int | None = None
    heard: set[int] = set()
    was_reset = False
    for count, is_reset, cut_after in visits:
        if is_reset:
            meter.reset()
            heard.clear()
        meter.measure(count)
        was_reset |= is_reset
        if was_reset and held is not None and any(number >= held for number in meter.numbers):
            return
        numbers, held = synchronise(meter, held, cut_after=cut_after)
        heard |= set(numbers)
        if cut_after is None:
            was_reset = False
            assert heard >= set(meter.numbers)
