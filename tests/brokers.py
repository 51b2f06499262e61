"""Real brokers for tests: each a process of its own on 127.0.0.1, which ends with the test, by its id."""

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from time import monotonic, sleep
from typing import Self

import pytest

from gateway.cli.demo_processes import free_port

MOSQUITTO = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
START_LIMIT_S = 10.0

ANONYMOUS = """
listener {port} 127.0.0.1
allow_anonymous true
set_tcp_nodelay true
max_inflight_messages 100
max_queued_messages 10000
"""


class Mosquitto:
    """A mosquitto that can be killed and started again on the same port, which is {port} in its configuration."""

    def __init__(self, folder: Path, config: str = ANONYMOUS) -> None:
        self.port = free_port()
        self.log = folder / "mosquitto.log"
        self._file = folder / "mosquitto.conf"
        # As root mosquitto would become a user who cannot read the test's folder.
        self._file.write_text(f"{config.replace('{port}', str(self.port))}\nuser root\nlog_dest stderr\n")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it listens, without TLS."""
        return f"mqtt://127.0.0.1:{self.port}"

    def start(self) -> Self:
        """Start it and wait until it listens."""
        if MOSQUITTO is None:
            pytest.fail("mosquitto is missing: ./systemd/debian-packages mosquitto")
        with self.log.open("ab") as log:
            self._process = subprocess.Popen([MOSQUITTO, "-c", self._file], stderr=log)
        give_up_s = monotonic() + START_LIMIT_S
        while not self._listens():
            if self._process.poll() is not None or monotonic() > give_up_s:
                self.kill()
                pytest.fail(f"mosquitto did not start:\n{self.log.read_text()}")
            sleep(0.01)
        return self

    def kill(self) -> None:
        """End it at once, as a power cut would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[Mosquitto]:
    """Run a mosquitto that takes everyone."""
    broker = Mosquitto(tmp_path).start()
    yield broker
    broker.kill()
