"""Sensors that sign themselves: the format `iomt-frame/1`, its decoder, and the check of what a sensor signed.

What an oximeter says first in its third boot, in CBOR's diagnostic notation, and on the line:

    18([<< {1: -8, 3: "application/iomt-statement+cbor", 4: h'21fe31dfa154a261', 15: {1: "oximeter-7"}} >>, {},
        << {1: 1, 2: 1, 3: [3, 41000], 5: [[149530, 72, "/min"], [150456, 4([-1, 975]), "%"]], 8: 1764000000123} >>,
        h'bbe929f2...64 bytes'])

    00  54 d2 84 58 3d ... the statement's bytes, stuffed ...  00

    line      = ? 00, *( frame, 00, ? 00 )    ; 115200 8N1, or cut into the notifications of a GATT characteristic
    frame     = the statement under COBS (Cheshire and Baker 1999), 1 to 1024 bytes: a statement has 1019 at most
    statement = COSE_Sign1 (RFC 9052), tagged, deterministic CBOR (RFC 8949 4.2.1), unprotected map empty
    protected = {1: algorithm, 3: "application/iomt-statement+cbor", 4: kid, 15: {1: the sensor's own id}}
    algorithm = -8 / -19 (Ed25519) / -7 / -9 (ECDSA on P-256 with SHA-256, signature r and s of 32 bytes each)
    kid       = first 8 bytes of SHA-256 over the public key: 32 bytes, or the point as registered, 33 or 65 (SEC 1)
    payload   = {1: 1, 2: sequence, 3: [boot, uptime ms], 5: [+ measurement], ? 8: device time ms, ? 9: [+ flag]}

A measurement is one of a reading (`gateway.canonical`), exponents and scales in -128 to 127. Numbers of field 2, 3 and
8 are unsigned and below 2^63; id, unit and flag are 1 to 64 printable ASCII characters without space. `boot` counts
the sensor's starts and never repeats, `sequence` never repeats within a boot: together they go up with each statement,
so that a replay shows. Uptime is the sensor's clock since that start; device time, ms since 1970 in UTC, is there only
where it has a clock that was set.

Over GATT the service is 8ca10001-f81e-4eb5-ba55-3256ab0bf1b5, and its characteristic
8ca10002-f81e-4eb5-ba55-3256ab0bf1b5 ("stream") notifies the line's bytes, at most MTU - 3 of them a time; a new
subscriber is first sent a 00.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from gateway import canonical, cbor, signing
from gateway.decode.frame import FormatError
from gateway.decode.stream import DAMAGE_LIMIT
from gateway.errors import VerificationError
from gateway.model import Damaged, Measurement, Reading, Sample, Waveform

STATEMENT_TYPE = "application/iomt-statement+cbor"
FRAME_LIMIT = 1024
STATEMENT_LIMIT = 1019
FORMAT = 1

_ALGORITHMS = frozenset({canonical.EDDSA, canonical.ED25519, canonical.ES256, canonical.ESP256})
_HEADER = {canonical.ALG, canonical.CONTENT_TYPE, canonical.KID, canonical.CWT_CLAIMS}
_KID_SIZE = 8
_EXPONENTS = range(-128, 128)
_TEXT = re.compile(r"[!-~]{1,64}")
_RUN = re.compile(rb"\x00+|[^\x00]+")
_QUIET_ZEROS = 2  # one ends a frame, one may go before the next


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """What a sensor says of itself: who, when by its own count and clock, and the values."""

    sensor: str
    kid: bytes
    boot: int
    sequence: int
    uptime_ms: int
    measurements: tuple[Measurement, ...]
    device_time_ms: int | None
    flags: tuple[str, ...]


class StatementFrames:
    """The decoder of `iomt-frame/1`; it judges the form of a statement and never its signature.

    What is between two 00 is a frame or damaged as a whole; what is too long, and more 00 than two, is damaged too.
    Damage comes in pieces of at most `DAMAGE_LIMIT` bytes. Holds at most `FRAME_LIMIT` bytes between calls.
    """

    __slots__ = ("_overlong", "_rest", "_zeros")

    def __init__(self) -> None:
        self._rest = b""  # of the run of 00, or of other bytes, that is not over yet
        self._overlong = False  # that run is longer than a frame, and its beginning was given up
        self._zeros = 0  # so many 00 of that run were taken as delimiters

    def feed(self, chunk: bytes, /) -> list[Sample | Damaged]:
        """Give the samples and the damage that these bytes complete; frames are without their 00."""
        heard = self._rest + chunk
        made: list[Sample | Damaged] = []
        begin = 0
        for run in _RUN.finditer(heard):
            is_over = run.end() < len(heard)
            take = self._take_frame if heard[run.start()] else self._take_zeros
            used = take(run[0], made, is_over=is_over)
            begin = run.end() if is_over else run.start() + used
        self._rest = heard[begin:]
        return made

    def _take_zeros(self, run: bytes, made: list[Sample | Damaged], *, is_over: bool) -> int:
        """Give up what is more than delimiters; return how many bytes were used."""
        self._overlong = False
        quiet = min(len(run), _QUIET_ZEROS - self._zeros)
        self._zeros += quiet
        return quiet + _shed(run[quiet:], "00 without a frame", made, is_over=is_over)

    def _take_frame(self, run: bytes, made: list[Sample | Damaged], *, is_over: bool) -> int:
        """Read a run that is over, or give it up once it is too long; return how many bytes were used."""
        self._zeros = 0
        self._overlong = self._overlong or len(run) > FRAME_LIMIT
        if self._overlong:
            return _shed(run, f"no frame ends within {FRAME_LIMIT} bytes", made, is_over=is_over)
        if is_over:
            made += _decode(run)
        return 0


def read_statement(statement: bytes) -> Statement:
    """Take a statement apart, by its form alone: its signature is not checked.

    Raises: VerificationError if it is not of this format.
    """
    return _read(signing.parse(statement), len(statement))


def open_statement(statement: bytes, public_key: bytes) -> Statement:
    """Check a statement against the raw public key of its sensor, and take it apart.

    Raises: VerificationError if it is not of this format, names another key, or its signature does not hold.
    """
    message = signing.parse(statement)
    said = _read(message, len(statement))
    kid = canonical.key_id(public_key)
    if said.kid != kid:
        raise VerificationError(f"the statement is by key {said.kid.hex()}, the sensor's is {kid.hex()}")
    signing.verify(message, public_key)
    return said


def verify_statement(reading: Reading, public_key: bytes) -> None:
    """Check that a reading says what its sensor signed under this raw public key; it may carry more flags.

    Raises: VerificationError if it has no statement, the statement does not hold, or the two differ.
    """
    if reading.statement is None:
        raise VerificationError("the reading carries no statement by its sensor")
    said = open_statement(reading.statement, public_key)
    if canonical.encode_measurements(said.measurements) != canonical.encode_measurements(reading.measurements):
        raise VerificationError("the reading's measurements are not those that its sensor signed")
    if said.device_time_ms != reading.device_time_ms:
        raise VerificationError("the reading's device time is not the one that its sensor signed")
    if not set(said.flags) <= set(reading.flags):
        raise VerificationError("the reading lacks flags that its sensor signed")


class StatementCheck:
    """The check of one sensor's statements in the order in which they come.

    `last` is (boot, sequence) of the last that was accepted; whoever keeps it keeps replays out beyond a restart.
    """

    __slots__ = ("_public_key", "last")

    def __init__(self, public_key: bytes, last: tuple[int, int] | None = None) -> None:
        self._public_key = public_key
        self.last = last

    def check(self, statement: bytes) -> None:
        """Accept a statement, which is the last from then on.

        Raises: VerificationError if it does not hold under the sensor's key, or does not come after the last.
        """
        said = open_statement(statement, self._public_key)
        place = (said.boot, said.sequence)
        if self.last is not None and place <= self.last:
            boot, sequence = self.last
            raise VerificationError(
                f"a replay: statement {said.sequence} of boot {said.boot} after statement {sequence} of boot {boot}"
            )
        self.last = place


def _shed(run: bytes, reason: str, made: list[Sample | Damaged], *, is_over: bool) -> int:
    """Give up whole pieces of a run, and what is left of one that is over; return how many bytes."""
    stop = len(run) if is_over else len(run) - len(run) % DAMAGE_LIMIT
    made += _damage(run[:stop], reason)
    return stop


def _damage(frame: bytes, reason: str) -> Iterable[Damaged]:
    for at in range(0, len(frame), DAMAGE_LIMIT):
        yield Damaged(frame=frame[at : at + DAMAGE_LIMIT], reason=reason)


def _decode(frame: bytes) -> Iterable[Sample | Damaged]:
    try:
        statement = _unstuff(frame)
        said = read_statement(statement)
    except (FormatError, VerificationError) as fault:
        return _damage(frame, str(fault))
    return [
        Sample(
            measurements=said.measurements,
            frame=frame,
            device_time_ms=said.device_time_ms,
            flags=said.flags,
            statement=statement,
        )
    ]


def _unstuff(frame: bytes) -> bytes:
    """Undo COBS: a code byte n stands before n - 1 bytes and a zero, which 255 and the end of the frame have not."""
    data, at = bytearray(), 0
    while at < len(frame):
        code = frame[at]
        block = frame[at + 1 : at + code]
        if len(block) < code - 1:
            raise FormatError(f"a COBS block is cut off: {len(block)} of {code - 1} bytes")
        data += block
        at += code
        if code < 0xFF and at < len(frame):
            data.append(0)
    return bytes(data)


def _read(message: signing.Message, size: int) -> Statement:
    if size > STATEMENT_LIMIT:
        raise VerificationError(f"a statement of {size} bytes: at most {STATEMENT_LIMIT} fit into a frame")
    try:
        _check_header(message)
        fields = _payload(message)
        boot, uptime_ms = _pair(fields[3])
        return Statement(
            sensor=_text(message.claim(canonical.ISSUER)),
            kid=message.kid,
            boot=_count(boot),
            sequence=_count(fields[2]),
            uptime_ms=_count(uptime_ms),
            measurements=tuple(_measurement(item) for item in _some(fields[5])),
            device_time_ms=_count(fields[8]) if 8 in fields else None,
            flags=tuple(_text(flag) for flag in _some(fields[9])) if 9 in fields else (),
        )
    except (TypeError, ValueError) as error:
        raise VerificationError(f"not a statement: {error}") from error


def _check_header(message: signing.Message) -> None:
    header, claims = message.header, message.header.get(canonical.CWT_CLAIMS)
    if message.unprotected or header.keys() != _HEADER:
        raise ValueError("its header has 1, 3, 4 and 15, all of them protected")
    if header[canonical.CONTENT_TYPE] != STATEMENT_TYPE:
        raise ValueError(f"its content type is not {STATEMENT_TYPE}")
    algorithm = header[canonical.ALG]
    if type(algorithm) is not int or algorithm not in _ALGORITHMS:
        raise ValueError(f"algorithm {algorithm!r} is neither Ed25519 nor ES256")
    if len(message.kid) != _KID_SIZE or not isinstance(claims, Mapping) or claims.keys() != {canonical.ISSUER}:
        raise ValueError(f"a kid has {_KID_SIZE} bytes, and there is one claim, the sensor's id")
    if len(message.signature) != signing.SIGNATURE_SIZE:
        raise ValueError(f"a signature of {len(message.signature)} bytes")


def _payload(message: signing.Message) -> dict[int, Any]:
    fields = cbor.decode(message.payload or b"")
    if not isinstance(fields, dict) or not {1, 2, 3, 5} <= fields.keys() <= {1, 2, 3, 5, 8, 9}:
        raise ValueError("wrong keys")
    if not cbor.are_naturals(fields[1]) or fields[1] != FORMAT:
        raise ValueError(f"format {fields[1]!r}: this version reads format {FORMAT}")
    return fields


def _measurement(item: object) -> Measurement:
    measurement = canonical.decode_measurement(item)
    _text(measurement.unit)
    match measurement.value:
        case Decimal() as value:
            exponent = value.as_tuple().exponent
        case Waveform(scale=scale):
            exponent = scale
        case _:
            exponent = 0
    if exponent not in _EXPONENTS:
        raise ValueError(f"an exponent of {exponent} is out of -128 to 127")
    return measurement


def _pair(value: object) -> list[object]:
    if not isinstance(value, list) or len(value) != 2:
        raise ValueError("field 3 is [boot, uptime]")
    return value


def _some(value: object) -> list[object]:
    if not isinstance(value, list) or not value:
        raise ValueError("measurements and flags are lists of one or more")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str) or not _TEXT.fullmatch(value):
        raise ValueError(f"{value!r} is no text of 1 to 64 printable ASCII characters without space")
    return value


def _count(value: object) -> int:
    if type(value) is not int or not 0 <= value < 2**63:
        raise ValueError(f"{value!r} is no unsigned integer below 2^63")
    return value
