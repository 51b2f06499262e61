"""The roster of a running peer or gateway: a file that a person may replace, and what the ledger's peers tell.

    the configured file  --newer-->  known  <--newer--  a peer's word
                                       |
                          known-roster.cose in the state folder

What is known never goes back: an older roster, from a person or an attacker, changes nothing, also after a restart.
"""

from pathlib import Path

import structlog

from gateway.errors import ConfigError, VerificationError
from gateway.io import folder
from gateway.ledger.rosters import Rosters, open_rosters

KNOWN = "known-roster.cose"

log = structlog.get_logger("iomt.roster")


class RosterFile:
    """The versions known, in one state folder whose lock the caller holds.

    Raises: ConfigError if there is no roster yet, VerificationError if what was known does not hold.
    """

    def __init__(self, given: Path, state: Path) -> None:
        self._given = given
        self.kept = state / KNOWN
        self._seen = self._signature()
        data = folder.read_bytes(given) if given.exists() else b""
        if self.kept.exists():
            self.rosters = open_rosters(folder.read_bytes(self.kept))
            if data:
                self._offer(data, str(given))
        elif data:
            self.rosters = open_rosters(data)
            folder.write(self.kept, data)
        else:
            raise ConfigError(f"{given}: there is no roster here; copy the ledger's roster.cose to it")

    def look(self) -> Rosters | None:
        """Look whether a person has replaced the file; gives the versions if there is a newer one."""
        seen = self._signature()
        if seen == self._seen:
            return None
        self._seen = seen
        try:
            return self._offer(folder.read_bytes(self._given), str(self._given))
        except ConfigError as error:
            log.warning("the roster cannot be read", why=str(error))
            return None

    def hear(self, data: bytes, by: str) -> Rosters | None:
        """Hear a roster file over the network; gives the versions if there is a newer one."""
        return self._offer(data, by)

    def _offer(self, data: bytes, source: str) -> Rosters | None:
        try:
            rosters = self.rosters.updated(data)
            if rosters == self.rosters:
                return None
            folder.write(self.kept, rosters.encode())
        except (VerificationError, ConfigError) as error:  # the latter: the disk does not take it now
            log.warning("roster refused", source=source, why=str(error))
            return None
        self.rosters = rosters
        log.info("roster", version=rosters.current.version, epoch=rosters.current.epoch, source=source)
        return rosters

    def _signature(self) -> tuple[int, int, int]:
        try:
            status = self._given.stat()
        except (OSError, ValueError):  # the latter: a name that can be none
            return (0, 0, 0)
        return (status.st_ino, status.st_size, status.st_mtime_ns)
