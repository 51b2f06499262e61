"""A private D-Bus: a dbus-daemon of our own in a folder, so that no test or demo touches the system's bus."""

import os
import shutil
import signal
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Final, Self

_CONFIGURATION: Final = """\
<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>custom</type>
  <listen>unix:path={socket}</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow own="*"/>
    <allow send_destination="*"/>
    <allow receive_sender="*"/>
  </policy>
  <limit name="max_incoming_bytes">67108864</limit>
  <limit name="max_outgoing_bytes">67108864</limit>
</busconfig>
"""
# What sockaddr_un holds, with its closing zero.
_MAX_SOCKET_PATH_BYTES: Final = 107
_STOP_LIMIT_S: Final = 5.0


class BusError(Exception):
    """The private bus cannot be had; the text says why in one line."""


class PrivateBus:
    """A dbus-daemon that listens in `folder` from `with` on, and dies with this process however that dies.

    The address is the same for the same folder, so clients find a bus that was started again. The thread that
    starts the daemon must live as long as it: the kernel ends the daemon with that thread.

    Raises: BusError on entry.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder.absolute()
        self._made_folder = False
        self._socket = self._folder / "bus"
        self._configuration = self._folder / "bus.conf"
        self._log = self._folder / "bus.log"
        self._daemon: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """What DBUS_SYSTEM_BUS_ADDRESS has to be."""
        return f"unix:path={self._socket}"

    def __enter__(self) -> Self:
        if len(os.fsencode(self._socket)) > _MAX_SOCKET_PATH_BYTES:
            raise BusError(f"{self._folder} is too long a path for a socket; choose a shorter one")
        self._made_folder = not self._folder.exists()
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._configuration.write_text(_CONFIGURATION.format(socket=self._socket))
            self.start()
        except (BusError, OSError) as error:
            self._clear()
            raise BusError(str(error)) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._clear()

    def start(self) -> None:
        """Start the daemon and return when it listens.

        Raises: BusError if dbus-daemon or setpriv is missing, or the daemon refuses.
        """
        command = [
            *(_program("setpriv", package="util-linux"), "--pdeathsig", "KILL", "--"),
            *(_program("dbus-daemon", package="dbus"), f"--config-file={self._configuration}"),
            *("--nofork", "--nopidfile", "--print-address=1"),
        ]
        with self._log.open("ab") as log:
            self._daemon = subprocess.Popen(  # noqa: S603 - our own command
                command,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,  # Ctrl-C on a terminal is for us; we end the daemon last
            )
        if self._daemon.stdout is None or not self._daemon.stdout.readline():
            self.stop()
            raise BusError(f"dbus-daemon did not start: {self._log.read_text().strip()}")

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End the daemon, with SIGKILL as a crash would; its socket goes too."""
        if self._daemon is None:
            return
        self._daemon.send_signal(how)
        try:
            self._daemon.wait(_STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            self._daemon.kill()
            self._daemon.wait()
        if self._daemon.stdout is not None:
            self._daemon.stdout.close()
        self._daemon = None
        self._socket.unlink(missing_ok=True)

    def _clear(self) -> None:
        self._configuration.unlink(missing_ok=True)
        self._log.unlink(missing_ok=True)
        if self._made_folder and self._folder.exists():
            self._folder.rmdir()


def _program(name: str, *, package: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise BusError(f"{name} is missing; install Debian's package {package}")
    return path
