"""A sensor's store of records and the server of its Record Access Control Point, characteristic 2A52.

    01 03 01 2a 00    written: report the records with a sequence number of 42 or more
    06 00 01 01       indicated behind the last of them: response to 01, success

Written: opcode (1 report, 2 delete, 3 abort, 4 count), operator (0 null, 1 all, 2 up to, 3 from, 4 range, 5 first,
6 last), for 2 to 4 the filter (1 sequence number or time offset) and one or two values of 16 bits. Indicated: 05 00
and the count, or 06 00, the opcode, a code: 1 success, 2 opcode not supported, 3 operator invalid, 4 operator not
supported, 5 operand invalid, 6 no records, 7 abort unsuccessful, 9 filter not supported. A second request while a
report goes on is refused by an error of ATT.
Source: GATT Specification Supplement, Record Access Control Point; Glucose Service 1.0.1, 3.4.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from firmware_stubs.behaviour import PROCEDURE_IN_PROGRESS, RECORD_ACCESS, AttError, Sent

# How many records go out at once, as in one connection event; the rest follows tick by tick and can be aborted.
BURST_RECORDS: Final = 20

_SEQUENCE_NUMBER: Final = 1


class Opcode(IntEnum):
    """What a client may ask, and what the answers begin with."""

    REPORT = 1
    DELETE = 2
    ABORT = 3
    COUNT = 4
    COUNTED = 5
    RESPONSE = 6


class Operator(IntEnum):
    """Which records are meant."""

    NULL = 0
    ALL = 1
    UP_TO = 2
    FROM = 3
    RANGE = 4
    FIRST = 5
    LAST = 6


class Code(IntEnum):
    """How it went."""

    SUCCESS = 1
    OPCODE_NOT_SUPPORTED = 2
    OPERATOR_INVALID = 3
    OPERATOR_NOT_SUPPORTED = 4
    OPERAND_INVALID = 5
    NO_RECORDS = 6
    ABORT_UNSUCCESSFUL = 7
    FILTER_NOT_SUPPORTED = 9


_OPERANDS: Final = {Operator.UP_TO: 1, Operator.FROM: 1, Operator.RANGE: 2}
EVERY_OPERATOR: Final = frozenset(Operator) - {Operator.NULL}


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A stored measurement: its sequence number (or time offset) and what reports it."""

    number: int
    report: tuple[Sent, ...]


class _Refused(Exception):  # noqa: N818 - an answer, not an error
    def __init__(self, code: Code) -> None:
        super().__init__(code)
        self.code = code


class RecordStore:
    """The records of one sensor, oldest first, and who asks for them; `operators` are those that it knows."""

    def __init__(self, operators: Iterable[Operator] = EVERY_OPERATOR) -> None:
        self.records: list[Record] = []
        self._operators = frozenset(operators)
        self._coming: deque[Record] = deque()

    def add(self, record: Record) -> None:
        """Store the newest record."""
        self.records.append(record)

    def written(self, value: bytes) -> list[Sent]:
        """Answer a request; a report's first records come with the answer, the others from `more`.

        Raises: AttError while a report goes on, for everything but its abortion.
        """
        opcode = value[0] if value else 0
        if self._coming and opcode != Opcode.ABORT:
            raise AttError(PROCEDURE_IN_PROGRESS)
        try:
            return self._answer(opcode, value[1:])
        except _Refused as refusal:
            return [_respond(opcode, refusal.code)]

    def more(self) -> list[Sent]:
        """Return the next records of a report that goes on, with its end if it is reached."""
        if not self._coming:
            return []
        burst = [self._coming.popleft() for _ in range(min(BURST_RECORDS, len(self._coming)))]
        sent = [each for record in burst for each in record.report]
        return sent if self._coming else [*sent, _respond(Opcode.REPORT, Code.SUCCESS)]

    def left(self) -> None:
        """End the report of a client that has gone."""
        self._coming.clear()

    def _answer(self, opcode: int, rest: bytes) -> list[Sent]:
        if opcode == Opcode.ABORT:
            return self._abort(rest)
        if opcode not in (Opcode.REPORT, Opcode.DELETE, Opcode.COUNT):
            raise _Refused(Code.OPCODE_NOT_SUPPORTED)
        chosen = self._choose(rest)
        if opcode == Opcode.COUNT:
            return [(RECORD_ACCESS, bytes((Opcode.COUNTED, Operator.NULL)) + len(chosen).to_bytes(2, "little"))]
        if not chosen:
            raise _Refused(Code.NO_RECORDS)
        if opcode == Opcode.DELETE:
            self.records = [record for record in self.records if record not in chosen]
            return [_respond(opcode, Code.SUCCESS)]
        self._coming.extend(chosen)
        return self.more()

    def _abort(self, rest: bytes) -> list[Sent]:
        if rest[:1] != bytes((Operator.NULL,)):
            raise _Refused(Code.OPERATOR_INVALID)
        if not self._coming:
            raise _Refused(Code.ABORT_UNSUCCESSFUL)
        self._coming.clear()
        return [_respond(Opcode.ABORT, Code.SUCCESS)]

    def _choose(self, rest: bytes) -> list[Record]:
        operator, operands = self._read_operator(rest[:1]), rest[1:]
        if operator in _OPERANDS:
            low, high = _read_bounds(operator, operands)
            return [record for record in self.records if low <= record.number <= high]
        if operands:
            raise _Refused(Code.OPERAND_INVALID)
        if operator is Operator.ALL:
            return list(self.records)
        return self.records[:1] if operator is Operator.FIRST else self.records[-1:]

    def _read_operator(self, value: bytes) -> Operator:
        if value in (b"", bytes((Operator.NULL,))):
            raise _Refused(Code.OPERATOR_INVALID)
        if value[0] not in self._operators:
            raise _Refused(Code.OPERATOR_NOT_SUPPORTED)
        return Operator(value[0])


def _read_bounds(operator: Operator, operands: bytes) -> tuple[int, int]:
    if operands[:1] != bytes((_SEQUENCE_NUMBER,)):
        raise _Refused(Code.FILTER_NOT_SUPPORTED if operands else Code.OPERAND_INVALID)
    if len(operands) != 1 + 2 * _OPERANDS[operator]:
        raise _Refused(Code.OPERAND_INVALID)
    first, last = int.from_bytes(operands[1:3], "little"), int.from_bytes(operands[-2:], "little")
    if first > last:
        raise _Refused(Code.OPERAND_INVALID)
    low = 0 if operator is Operator.UP_TO else first
    return low, 0xFFFF if operator is Operator.FROM else last


def _respond(opcode: int, code: Code) -> Sent:
    return RECORD_ACCESS, bytes((Opcode.RESPONSE, Operator.NULL, opcode, code))
