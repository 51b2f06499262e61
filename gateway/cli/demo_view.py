"""What the demonstration shows: a live table on a terminal, plain lines elsewhere, nothing with --json."""

import sys
import time
from typing import Any

import click
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from gateway.cli.gateway import device_row

LOOK_S = 0.25
LINE_EVERY_S = 3.0


class View:
    """The steps so far above, how things stand below."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._live: Live | None = None
        self._began_s = self._last_line_s = time.monotonic()
        if not quiet and sys.stdout.isatty():
            self._live = Live(console=Console(highlight=False), refresh_per_second=8)
            self._live.start()

    def say(self, what: str) -> None:
        """Say that something happened."""
        self._print(f"{time.monotonic() - self._began_s:5.1f} s  {what}")

    def show(self, text: str) -> None:
        """Show what a command printed, indented."""
        for line in text.rstrip().splitlines():
            self._print(f"           {line}")

    def update(self, status: dict[str, Any]) -> None:
        """Show how things stand, and wait a moment."""
        time.sleep(LOOK_S)
        if not status or self._quiet:
            return
        if self._live is not None:
            self._live.update(_table(status))
        elif time.monotonic() - self._last_line_s > LINE_EVERY_S:
            self._last_line_s = time.monotonic()
            self._print(f"           {_summary(status)}")

    def close(self, result: dict[str, Any]) -> None:
        """Show what came of it."""
        if self._live is not None:
            self._live.stop()
        if self._quiet:
            return
        proved = "verified" if result["verified"] else "NOT verified"
        forged = "refused" if result["tamper_detected"] else "NOT refused"
        caught_up = "caught up" if result["caught_up"] else "did NOT catch up"
        stopped = "stopped cleanly" if result["stopped"] else "did NOT stop cleanly"
        votes = f"certified by {result['quorum']} or more of {result['peers']} peers"
        click.echo()
        click.echo(f"{result['readings']} readings of {result['devices']} devices, {result['lost']} lost")
        click.echo(f"{result['blocks']} blocks, {result['certified_blocks']} {votes}")
        click.echo(f"reading {proved}, forgery {forged}, killed peer {caught_up}")
        click.echo(f"{stopped} after {result['seconds']} s; everything is in {result['state']}")

    def _print(self, line: str) -> None:
        if self._quiet:
            return
        if self._live is not None:
            self._live.console.print(Text(line))
        else:
            click.echo(line)


def _summary(status: dict[str, Any]) -> str:
    devices = ", ".join(f"{device['id']} {device['readings']}" for device in status["devices"])
    return f"readings: {devices}; {_blocks(status)}"


def _blocks(status: dict[str, Any]) -> str:
    voted = ", ".join(status["voted_last"]) or "none yet"
    return f"{status['blocks']} blocks sealed, {status['certified_blocks']} certified, last by {voted}"


def _table(status: dict[str, Any]) -> Group:
    table = Table(box=None, pad_edge=False)
    for column in ("device", "link", "readings", "latest"):
        table.add_column(column, justify="right" if column == "readings" else "left", no_wrap=column != "latest")
    for device in status["devices"]:
        name, link, count, _, latest = device_row(device)
        table.add_row(Text(str(name)), str(link), str(count), Text(str(latest)))
    return Group(Text(), table, Text(), Text(f"{status['readings']} readings, {_blocks(status)}"))
