"""One target tried in a process of its own, which a crash or an endless loop takes down and nothing else.

The input under test and the last that failed stand in memory which the two processes share, so that they outlive it.
"""

import ctypes
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from time import monotonic

from tests.fuzz.target import LIMIT, Target

GRACE_S = 20.0
"""How long a process may go on after its time, to make a finding smaller; one that does not end then hangs."""

_FORK = get_context("fork")
_TEXT_LIMIT = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """An input for which a target does not keep its promise, and what it did instead."""

    data: bytes
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What came of a target: how many inputs it was given, in how long, and the first finding, made small.

    `fault` says how the engine broke off at an input that the target bears without it: rare, and no finding.
    """

    target: str
    runs: int
    seconds: float
    finding: Finding | None
    fault: str = ""


class Track:
    """What a process that tries inputs leaves behind it."""

    def __init__(self) -> None:
        self._runs = _FORK.RawValue(ctypes.c_uint64)
        self._input = _Bytes(LIMIT)
        self._failed = _Bytes(LIMIT)
        self._error = _Bytes(_TEXT_LIMIT)

    @property
    def runs(self) -> int:
        """How many inputs were tried."""
        return int(self._runs.value)

    def run(self, check: Callable[[bytes], object], data: bytes) -> None:
        """Try an input; raises what the check raises."""
        self._runs.value += 1
        self._input.put(data)
        try:
            check(data)
        except Exception as error:
            self._failed.put(data)
            self._error.put(f"{type(error).__name__}: {error}".encode()[:_TEXT_LIMIT])
            raise

    def finding(self) -> Finding | None:
        """Give the last input that failed."""
        error = self._error.get()
        return Finding(data=self._failed.get(), error=error.decode("utf-8", "replace")) if error else None

    def victim(self, error: str) -> Finding:
        """Blame the input during which the process ended."""
        return Finding(data=self._input.get(), error=error)


class _Bytes:
    """A byte string of a bounded size, in shared memory."""

    def __init__(self, limit: int) -> None:
        self._size = _FORK.RawValue(ctypes.c_uint32)
        self._octets = memoryview(_FORK.RawArray(ctypes.c_uint8, limit)).cast("B")

    def put(self, data: bytes) -> None:
        self._octets[: len(data)] = data
        self._size.value = len(data)

    def get(self) -> bytes:
        return bytes(self._octets[: self._size.value])


Engine = Callable[[Target, float, Path, Track], None]
"""Tries inputs for some seconds, keeping what it learns in a folder; may end the process at a failure, or raise it."""


class Attempt:
    """A process that tries inputs on a target."""

    def __init__(self, target: Target, seconds: float, folder: Path, engine: Engine) -> None:
        self._target = target
        self._track = Track()
        self._began_s = monotonic()
        self._due_s = self._began_s + seconds + GRACE_S
        arguments = (engine, target, seconds, folder, self._track)
        self._process = _FORK.Process(target=_work, args=arguments, daemon=True)
        self._process.start()

    @property
    def sentinel(self) -> int:
        """What is ready once the process has ended."""
        return self._process.sentinel

    @property
    def left_s(self) -> float:
        """How much longer the process may live."""
        return max(self._due_s - monotonic(), 0.0)

    def finish(self) -> Report | None:
        """Give the report if the process has ended, or is ended now because its time is over."""
        is_late = self._process.is_alive() and not self.left_s
        if is_late:
            self._process.kill()
        elif self._process.is_alive():
            return None
        self._process.join()
        finding, fault = self._track.finding(), ""
        if finding is None and (is_late or self._process.exitcode):
            victim = self._track.victim("it does not end" if is_late else _death(self._process.exitcode or 0))
            if is_late or not _holds(self._target, victim.data):
                finding = victim
            else:
                fault = f"{victim.error}, and the input {victim.data.hex()} holds without the engine"
        return Report(
            target=self._target.name,
            runs=self._track.runs,
            seconds=monotonic() - self._began_s,
            finding=finding,
            fault=fault,
        )


def _holds(target: Target, data: bytes) -> bool:
    """Say whether an input is borne in a process without an engine."""
    process = _FORK.Process(target=_check_alone, args=(target, data), daemon=True)
    process.start()
    process.join(GRACE_S)
    is_borne = process.exitcode == 0
    process.kill()
    return is_borne


def _check_alone(target: Target, data: bytes) -> None:
    _hush()
    target.check(data)


def _death(code: int) -> str:
    return f"the process died of {signal.Signals(-code).name}" if code < 0 else f"the process ended with {code}"


def _hush() -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nowhere, stream)


def _work(engine: Engine, target: Target, seconds: float, folder: Path, track: Track) -> None:
    _hush()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        engine(target, seconds, folder, track)
    except Exception:
        if track.finding() is None:
            raise
