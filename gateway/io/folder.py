"""A state folder: its files read with clear errors and written durably, and the lock that says whose it is now."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from gateway.errors import ConfigError


def read_text(path: Path) -> str:
    """Read a text file.

    Raises: ConfigError if it cannot be read or is not UTF-8.
    """
    try:
        return read_bytes(path).decode()
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text") from error


def read_bytes(path: Path) -> bytes:
    """Read a file.

    Raises: ConfigError if it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error


def write(path: Path, data: bytes) -> None:
    """Write a file whole and durably, or leave the one that was there.

    Raises: ConfigError if the folder cannot be written.
    """
    fresh = path.with_name(f".{path.name}.new")
    try:
        with fresh.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        with suppress(OSError):
            fresh.unlink()
        raise ConfigError(f"{path}: {error.strerror}") from error
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def rename(path: Path, to: Path) -> None:
    """Give a file another name in its folder, durably.

    Raises: ConfigError if the folder cannot be written.
    """
    try:
        path.rename(to)
        folder = os.open(to.parent, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def create(folder: Path) -> None:
    """Make a state folder that only its owner and group may enter, if it is not there.

    Raises: ConfigError if it cannot be made.
    """
    try:
        folder.mkdir(mode=0o750, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{folder}: {error.strerror}") from error


@contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Hold a state folder for this process.

    Raises: ConfigError if there is no such folder or another process has it.
    """
    try:
        descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    except OSError as error:
        raise ConfigError(f"{folder}: {error.strerror}; it is made by init") from error
    try:
        _take(descriptor, folder)
        yield
    finally:
        os.close(descriptor)


def _take(descriptor: int, folder: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise ConfigError(f"{folder}: in use by another iomt process; stop it first") from error
