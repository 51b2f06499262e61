"""A continuous glucose sensor under the skin: a value a minute, all of them stored, a session that can be restarted.

A session runs from the moment that the sensor is switched on, which its clock says was 2026-03-01 08:00:00. A client
sets that clock by writing the present to the session's start (2AAA): the time that has passed since the start is taken
off, and the rest is what is read. The status (2AA9) has the minute of now, or that in which the session was stopped.
Records are asked for by RACP with their time offsets. What is written without its CRC is refused by an error of ATT,
80 missing and 81 wrong. Source: Continuous Glucose Monitoring Service 1.0.2, 3.3, 3.4 and its error codes.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final

from firmware_stubs.behaviour import OUT_OF_RANGE, RECORD_ACCESS, AttError, Behaviour, DeviceClock, Sent, describe
from firmware_stubs.cgm import (
    HAS_CRC,
    HAS_SESSIONS,
    HAS_TREND,
    INTERSTITIAL_FLUID,
    SUBCUTANEOUS_TISSUE,
    UNKNOWN_ZONE,
    encode_cgm_feature,
    encode_cgm_record,
    encode_cgm_status,
    encode_run_time,
    encode_session_start,
    is_sound,
    with_crc,
)
from firmware_stubs.ieee11073 import read_date_time
from firmware_stubs.peripheral import Characteristic, Peripheral, uuid_of
from firmware_stubs.physiology import Wearer
from firmware_stubs.racp import Record, RecordStore

CGM_MEASUREMENT: Final = uuid_of(0x2AA7)
CGM_FEATURE: Final = uuid_of(0x2AA8)
CGM_STATUS: Final = uuid_of(0x2AA9)
CGM_SESSION_START: Final = uuid_of(0x2AAA)
CGM_RUN_TIME: Final = uuid_of(0x2AAB)
CGM_CONTROL: Final = uuid_of(0x2AAC)

_FEATURE: Final = encode_cgm_feature(HAS_CRC | HAS_SESSIONS | HAS_TREND, INTERSTITIAL_FLUID, SUBCUTANEOUS_TISSUE)
_STARTED: Final = datetime(2026, 3, 1, 8, tzinfo=UTC)
_RUN_TIME_H: Final = 240
_MINUTE_MS: Final = 60_000
_SET_INTERVAL, _GET_INTERVAL, _INTERVAL, _START, _STOP, _RESPONSE = 0x01, 0x02, 0x03, 0x1A, 0x1B, 0x1C
_SUCCESS, _NOT_SUPPORTED, _INVALID, _NOT_COMPLETED = 1, 2, 3, 4
_STOPPED: Final = 1 << 0
_MISSING_CRC, _WRONG_CRC = 0x80, 0x81
# How long what is written is without its CRC, at most.
_SESSION_START_SIZE: Final = 9
_CONTROL_SIZE: Final = 2


def cgm_sensor(address: str) -> Peripheral:
    """Return a glucose sensor with all that its service has."""
    characteristics = (
        Characteristic(uuid=CGM_MEASUREMENT, flags=("notify",)),
        Characteristic(uuid=CGM_FEATURE, flags=("read",), value=_FEATURE),
        Characteristic(uuid=CGM_STATUS, flags=("read",), value=encode_cgm_status(0)),
        Characteristic(uuid=CGM_SESSION_START, flags=("read", "write"), value=encode_session_start(_STARTED)),
        Characteristic(uuid=CGM_RUN_TIME, flags=("read",), value=encode_run_time(_RUN_TIME_H)),
        Characteristic(uuid=RECORD_ACCESS, flags=("write", "indicate")),
        Characteristic(uuid=CGM_CONTROL, flags=("write", "indicate")),
    )
    return describe(address, "Simulated CGM", 0x181F, characteristics, has_clock=True)


class CgmSensor(Behaviour):
    """A sensor that measures once a minute while its session runs, and notifies at the interval that was asked for."""

    def __init__(self, wearer: Wearer) -> None:
        super().__init__(DeviceClock(_STARTED))
        self._wearer = wearer
        self._store = RecordStore()
        self._start_ms = 0.0
        self._stop_ms: float | None = None
        self._zone = UNKNOWN_ZONE
        self._measured = -1
        self._interval_min = 1
        self._last_mg_dl: int | None = None

    @property
    def values(self) -> Mapping[str, bytes]:
        """The session's start and status beside the clock."""
        start = encode_session_start(self.clock.read(self._start_ms), self._zone)
        status = encode_cgm_status(self._offset_min(), 0 if self._stop_ms is None else _STOPPED)
        return {**super().values, CGM_SESSION_START: start, CGM_STATUS: status}

    def written(self, uuid: str, value: bytes) -> list[Sent]:
        """Answer to the two control points, and take the present for the session's start."""
        if uuid == RECORD_ACCESS:
            return self._store.written(value)
        if uuid == CGM_CONTROL:
            control = _without_crc(value, _CONTROL_SIZE)
            return [(CGM_CONTROL, with_crc(self._control(control[0], control[1:])))]
        if uuid == CGM_SESSION_START:
            self._set_present(_without_crc(value, _SESSION_START_SIZE))
        return super().written(uuid, value)

    def left(self) -> None:
        """End what was being reported."""
        self._store.left()

    def tick(self, now_ms: float) -> list[Sent]:
        """Measure, when it is time to, and go on with a report."""
        super().tick(now_ms)
        self._wearer.advance(now_ms)
        sent = self._store.more()
        if self._stop_ms is not None or self._offset_min() <= self._measured:
            return sent
        record = self._measure()
        is_due = self._interval_min and self._measured % self._interval_min == 0
        return [*sent, record] if is_due else sent

    def _measure(self) -> Sent:
        self._measured = self._offset_min()
        mg_dl = self._wearer.body.glucose_mg_dl
        trend = None if self._last_mg_dl is None else Decimal((mg_dl - self._last_mg_dl) * 10).scaleb(-1)
        self._last_mg_dl = mg_dl
        sent = CGM_MEASUREMENT, encode_cgm_record(mg_dl, self._measured, trend=trend)
        self._store.add(Record(number=self._measured, report=(sent,)))
        return sent

    def _offset_min(self) -> int:
        end_ms = self.now_ms if self._stop_ms is None else self._stop_ms
        return int((end_ms - self._start_ms) // _MINUTE_MS)

    def _set_present(self, value: bytes) -> None:
        moment = read_date_time(value)
        if moment is None or len(value) != _SESSION_START_SIZE:
            raise AttError(OUT_OF_RANGE)
        self.clock.set(moment, self.now_ms)
        self._zone = value[-len(UNKNOWN_ZONE) :]

    def _control(self, opcode: int, operand: bytes) -> bytes:
        if opcode == _GET_INTERVAL:
            return bytes((_INTERVAL, self._interval_min))
        codes = {_SET_INTERVAL: self._set_interval, _START: self._start, _STOP: self._stop}
        code = codes[opcode](operand) if opcode in codes else _NOT_SUPPORTED
        return bytes((_RESPONSE, opcode, code))

    def _set_interval(self, operand: bytes) -> int:
        """Take an interval: 0 switches notifications off, 255 is as fast as it goes."""
        if len(operand) != 1:
            return _INVALID
        self._interval_min = 1 if operand[0] == 0xFF else operand[0]
        return _SUCCESS

    def _start(self, _operand: bytes) -> int:
        """Begin a session, which forgets the records of the one before."""
        if self._stop_ms is None:
            return _NOT_COMPLETED
        self._start_ms, self._stop_ms = self.now_ms, None
        self._measured, self._last_mg_dl = -1, None
        self._store.records.clear()
        return _SUCCESS

    def _stop(self, _operand: bytes) -> int:
        if self._stop_ms is None:
            self._stop_ms = self.now_ms
        return _SUCCESS


def _without_crc(value: bytes, size: int) -> bytes:
    if not is_sound(value):
        raise AttError(_MISSING_CRC if len(value) <= size else _WRONG_CRC)
    return value[:-2]
