"""The processes of the demonstration: each a real command, its log in a file, none left behind."""

import json
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gateway.errors import Unavailable

READY_LIMIT_S = 20.0
STOP_LIMIT_S = 8.0
PORT_LIMIT_S = 5.0


class Processes:
    """Starts processes by name and stops them, the last first; they end with this one however it ends."""

    def __init__(self, logs: Path, environment: dict[str, str]) -> None:
        self.environment = environment
        self._logs = logs
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, module: str, *arguments: str, ready: bool = False) -> dict[str, Any]:
        """Start `python -m module arguments`; with `ready`, wait for its line of JSON on stdout and give it.

        Raises: Unavailable if it ends or says nothing in time.
        """
        command = [sys.executable, "-m", module, *arguments]
        with (self._logs / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(  # noqa: S603 - our own modules
                ending_with_us(command),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if ready else log,
                stderr=log,
                env=self.environment,
                start_new_session=True,  # Ctrl-C reaches us alone, and we stop them in order
            )
        self._running[name] = process
        return self._first_line(name, process) if ready else {}

    def kill(self, name: str) -> None:
        """Kill one as a power cut would."""
        process = self._running.pop(name)
        process.kill()
        process.wait()

    def check(self) -> None:
        """Check that all are still running.

        Raises: Unavailable if one has ended by itself.
        """
        for name, process in self._running.items():
            if process.poll() is not None:
                raise Unavailable(f"{name} ended with exit code {process.returncode}: {self.tail(name)}")

    def stop(self, *names: str) -> list[str]:
        """Stop these, or all, with SIGTERM; give the names of those that had to be killed or failed."""
        chosen = [name for name in reversed(self._running) if not names or name in names]
        for name in chosen:
            self._running[name].send_signal(signal.SIGTERM)
        return [name for name in chosen if not self._ended_well(name)]

    def tail(self, name: str) -> str:
        """Give the last line of a log."""
        lines = (self._logs / f"{name}.log").read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"

    def _ended_well(self, name: str) -> bool:
        process = self._running.pop(name)
        try:
            return process.wait(STOP_LIMIT_S) in {0, -signal.SIGTERM}
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            return False
        finally:
            if process.stdout is not None:
                process.stdout.close()

    def _first_line(self, name: str, process: subprocess.Popen[bytes]) -> dict[str, Any]:
        assert process.stdout is not None  # noqa: S101 - it was asked for a pipe
        readable, _, _ = select.select([process.stdout], [], [], READY_LIMIT_S)
        line = process.stdout.readline() if readable else b""
        if not line:
            raise Unavailable(f"{name} did not start: {self.tail(name)}")
        return dict(json.loads(line))


def ending_with_us(command: Sequence[str]) -> list[str]:
    """Give a command that the kernel ends when this process dies, if even by SIGKILL."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "TERM", "--", *command] if setpriv else list(command)


def free_port() -> int:
    """Give a port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_for_port(host: str, port: int) -> None:
    """Wait until something listens there.

    Raises: Unavailable if nothing does in time.
    """
    deadline = time.monotonic() + PORT_LIMIT_S
    while True:
        try:
            socket.create_connection((host, port), timeout=1).close()
        except OSError as error:
            if time.monotonic() > deadline:
                raise Unavailable(f"no broker at {host}:{port}: {error.strerror or error}") from error
            time.sleep(0.05)
        else:
            return
