import pytest

from firmware_stubs.behaviour import RECORD_ACCESS, AttError, Sent
from firmware_stubs.racp import BURST_RECORDS, Operator, Record, RecordStore

MEASUREMENT = "00002a18-0000-1000-8000-00805f9b34fb"
DONE = (RECORD_ACCESS, bytes.fromhex("06000101"))


def store_of(numbers: range) -> RecordStore:
    store = RecordStore()
    for number in numbers:
        store.add(Record(number=number, report=(report_of(number),)))
    return store


def report_of(number: int) -> Sent:
    return MEASUREMENT, number.to_bytes(2, "little")


def ask(store: RecordStore, request: str) -> list[Sent]:
    return store.written(bytes.fromhex(request))


def responses(store: RecordStore, request: str) -> list[str]:
    return [value.hex() for uuid, value in ask(store, request) if uuid == RECORD_ACCESS]


@pytest.mark.parametrize(
    ("request_", "numbers"),
    [
        ("0101", range(5, 10)),
        ("0102010600", range(5, 7)),
        ("0103010800", range(8, 10)),
        ("01040106000800", range(6, 9)),
        ("0105", range(5, 6)),
        ("0106", range(9, 10)),
    ],
)
def test_a_report_is_the_chosen_records_and_success(request_: str, numbers: range) -> None:
    """All, up to, from, a range, the first, the last: oldest first, and behind them that it is done."""
    assert ask(store_of(range(5, 10)), request_) == [*map(report_of, numbers), DONE]


@pytest.mark.parametrize(("request_", "count"), [("0401", 5), ("0403010700", 3), ("0403011000", 0)])
def test_a_count_is_the_number_of_chosen_records(request_: str, count: int) -> None:
    """It comes instead of a response code, also where there are none."""
    assert responses(store_of(range(5, 10)), request_) == [f"0500{count:02x}00"]


@pytest.mark.parametrize(
    ("request_", "response"),
    [
        ("", "06000002"),
        ("0701", "06000702"),
        ("01", "06000103"),
        ("0100", "06000103"),
        ("0107", "06000104"),
        ("0301", "06000303"),
        ("0103", "06000105"),
        ("01030108", "06000105"),
        ("01040109000800", "06000105"),
        ("0106010000", "06000105"),
        ("01030208000000", "06000109"),
        ("0103011000", "06000106"),
        ("0203011000", "06000206"),
        ("0300", "06000307"),
    ],
)
def test_what_cannot_be_done_is_told_by_its_code(request_: str, response: str) -> None:
    """Opcode, operator and operand that are wrong or not known, no records, nothing to abort."""
    assert responses(store_of(range(5, 10)), request_) == [response]


def test_a_store_tells_which_operators_it_knows() -> None:
    """A pulse oximeter's knows "all" alone."""
    store = RecordStore({Operator.ALL})
    store.add(Record(number=1, report=(report_of(1),)))

    assert responses(store, "0103010100") == ["06000104"]
    assert ask(store, "0101") == [report_of(1), DONE]


def test_deleted_records_are_gone() -> None:
    """They are neither counted nor reported any more; the others are."""
    store = store_of(range(5, 10))

    assert responses(store, "0202010700") == ["06000201"]
    assert responses(store, "0401") == ["05000200"]


def test_a_long_report_goes_on_in_bursts() -> None:
    """Nothing is lost between them, and success comes once, behind the last."""
    store = store_of(range(2 * BURST_RECORDS + 1))

    bursts = [ask(store, "0101"), store.more(), store.more(), store.more()]

    assert [len(burst) for burst in bursts] == [BURST_RECORDS, BURST_RECORDS, 2, 0]
    assert [each for burst in bursts for each in burst] == [*map(report_of, range(2 * BURST_RECORDS + 1)), DONE]


def test_a_report_can_be_aborted_and_nothing_else_comes_between() -> None:
    """While it goes on, requests are refused; behind an abort no record comes, and all can be asked for again."""
    store = store_of(range(2 * BURST_RECORDS))
    ask(store, "0101")

    with pytest.raises(AttError) as refusal:
        ask(store, "0401")
    assert refusal.value.code == 0xFE
    assert responses(store, "0300") == ["06000301"]
    assert store.more() == []
    assert responses(store, "0401") == ["05002800"]


def test_a_report_ends_with_the_link() -> None:
    """The next client does not hear what the one before had asked for."""
    store = store_of(range(2 * BURST_RECORDS))
    ask(store, "0101")

    store.left()

    assert store.more() == []
