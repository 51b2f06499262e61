import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gateway.io import systemd

Told = Callable[[], list[str]]


@contextmanager
def listening(address: str) -> Iterator[Told]:
    """Stand in for systemd: what it yields reads what has been told so far."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(address)
        receiver.settimeout(0)

        def told() -> list[str]:
            lines = []
            while True:
                try:
                    lines.append(receiver.recv(4096).decode())
                except BlockingIOError:  # a datagram is there as soon as its sender has returned
                    return lines

        yield told


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Told]:
    path = str(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", path)
    monkeypatch.setenv("WATCHDOG_USEC", "30000000")
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    with listening(path) as read:
        yield read


def test_notify_sends_one_datagram(told: Told) -> None:
    """What is notified arrives at the socket that systemd named, byte for byte."""
    systemd.notify("READY=1\nSTATUS=2 devices")
    assert told() == ["READY=1\nSTATUS=2 devices"]


def test_notify_reaches_an_abstract_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that begins with @ is in the abstract namespace, as in containers."""
    name = f"iomt-test-{tmp_path.name}"
    monkeypatch.setenv("NOTIFY_SOCKET", "@" + name)
    with listening("\0" + name) as told:
        systemd.notify("STOPPING=1")
        assert told() == ["STOPPING=1"]


@pytest.mark.parametrize("address", [None, "", "/nowhere/notify", "vsock:2:1234"])
def test_notify_does_nothing_without_systemd(address: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Outside systemd, or where its socket is gone, a process runs on."""
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    if address is not None:
        monkeypatch.setenv("NOTIFY_SOCKET", address)
    systemd.notify("READY=1")


@pytest.mark.parametrize(
    ("usec", "pid", "interval_s"),
    [("30000000", None, 30.0), (None, None, None), ("0", None, None), ("soon", None, None), ("30000000", "1", None)],
)
def test_watchdog_interval(
    usec: str | None, pid: str | None, interval_s: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The interval is WATCHDOG_USEC, unless it is absent, nonsense, or meant for another process."""
    for name, value in (("WATCHDOG_USEC", usec), ("WATCHDOG_PID", pid)):
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    assert systemd.watchdog_interval_s() == interval_s


def test_watchdog_is_fed_when_every_stage_came_round(told: Told) -> None:
    """One feed for each time that all stages have come round, in whatever order."""
    watchdog = systemd.Watchdog("keep", "beat")
    for stage in ("keep", "beat", "beat", "keep"):
        watchdog.progress(stage)
    assert told() == ["WATCHDOG=1", "WATCHDOG=1"]


def test_watchdog_starves_when_a_stage_hangs(told: Told) -> None:
    """A stage that stays away is not outvoted by one that goes on."""
    watchdog = systemd.Watchdog("keep", "beat")
    watchdog.progress("keep")
    watchdog.progress("beat")
    for _ in range(100):
        watchdog.progress("beat")
    assert told() == ["WATCHDOG=1"]


def test_watchdog_is_silent_where_nobody_watches(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without WATCHDOG_USEC nothing is sent."""
    monkeypatch.delenv("WATCHDOG_USEC")
    systemd.Watchdog("beat").progress("beat")
    assert told() == []
