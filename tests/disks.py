"""A disk that fails on purpose: a VFS between the unmodified store and SQLite's own."""

from types import TracebackType
from typing import Self

import apsw


class FailingDisk(apsw.VFS):
    """SQLite's default disk for the length of a `with`; `touched` counts writes, syncs and truncations.

    The operation with number `fail_at` fails with `failure`, and so does every one after it where `lasting`.
    """

    def __init__(self) -> None:
        self.touched = 0
        self.fail_at: int | None = None
        self.failure: type[apsw.Error] = apsw.FullError
        self.lasting = False
        super().__init__("failing", "unix", makedefault=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.unregister()

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> "FailingFile":  # noqa: N802 - SQLite's name
        """Open a file as SQLite asks for it."""
        return FailingFile(self, name, flags)

    def touch(self) -> None:
        """Count an operation on a file, and fail if it is its turn."""
        self.touched += 1
        if self.fail_at is not None and (
            self.touched == self.fail_at or (self.lasting and self.touched > self.fail_at)
        ):
            raise self.failure("as the test wants it")


class FailingFile(apsw.VFSFile):
    """A file of a failing disk."""

    def __init__(self, disk: FailingDisk, name: str | apsw.URIFilename | None, flags: list[int]) -> None:
        self._disk = disk
        super().__init__("unix", name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802 - SQLite's name
        """Write, or fail."""
        self._disk.touch()
        super().xWrite(data, offset)

    def xSync(self, flags: int) -> None:  # noqa: N802 - SQLite's name
        """Bring to the disk, or fail."""
        self._disk.touch()
        super().xSync(flags)

    def xTruncate(self, newsize: int) -> None:  # noqa: N802 - SQLite's name
        """Shorten, or fail."""
        self._disk.touch()
        super().xTruncate(newsize)
