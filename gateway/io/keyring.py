"""Secrets, each in a file that only its owner reads.

The master secret of a gateway or peer, 32 bytes, may come from systemd's credentials; a device that encrypts what it
advertises has a key of 16 bytes.
"""

import os
import secrets
import stat
from pathlib import Path

from gateway.errors import ConfigError
from gateway.signing import SECRET_SIZE

FILE = "master.key"
RECOVERY = "recovery.key"
BIND_KEYS = "bind-keys"
BIND_KEY_SIZE = 16


def create_master(folder: Path) -> bytes:
    """Draw a master secret and keep it in `folder`, mode 0600, never over another.

    Raises: ConfigError if there is one already.
    """
    master = secrets.token_bytes(SECRET_SIZE)
    write_secret(folder / FILE, master)
    return master


def load_master(folder: Path) -> bytes:
    """Read the master secret, from $CREDENTIALS_DIRECTORY where systemd provides it there, else from `folder`.

    Raises: ConfigError if it is missing, of the wrong size, or readable by others.
    """
    credential = Path(os.environ.get("CREDENTIALS_DIRECTORY", "")) / FILE
    if "CREDENTIALS_DIRECTORY" in os.environ and credential.exists():
        return _read(credential)
    path = folder / FILE
    _require_private(path)
    return _read(path)


def create_recovery_key(path: Path) -> bytes:
    """Draw the seed of a chain's recovery key and keep it, mode 0600, never over another.

    Raises: ConfigError if the file exists.
    """
    seed = secrets.token_bytes(SECRET_SIZE)
    write_secret(path, seed)
    return seed


def load_recovery_key(path: Path) -> bytes:
    """Read the seed of a chain's recovery key.

    Raises: ConfigError if it is missing, of the wrong size, or readable by others.
    """
    _require_private(path)
    return _read(path)


def save_bind_key(folder: Path, device: str, key: bytes) -> None:
    """Keep the key of a device that encrypts what it advertises.

    Raises: ConfigError if it is not of 16 bytes, or the device has one.
    """
    if len(key) != BIND_KEY_SIZE:
        raise ConfigError(f"the bind key has {len(key)} bytes; allowed: {BIND_KEY_SIZE}")
    (folder / BIND_KEYS).mkdir(mode=0o700, exist_ok=True)
    write_secret(folder / BIND_KEYS / f"{device}.key", key)


def load_bind_key(folder: Path, device: str) -> bytes | None:
    """Read the key of a device that encrypts what it advertises, None for one that does not.

    Raises: ConfigError if it is of the wrong size, or readable by others.
    """
    path = folder / BIND_KEYS / f"{device}.key"
    if not path.exists():
        return None
    _require_private(path)
    return _read(path, BIND_KEY_SIZE)


def write_secret(path: Path, secret: bytes) -> None:
    """Write a secret durably to a new file of mode 0600.

    Raises: ConfigError if the file exists, or cannot be made.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise ConfigError(f"{path}: exists already; a secret is never overwritten") from error
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    with os.fdopen(descriptor, "wb") as file:
        file.write(secret)
        file.flush()
        os.fsync(file.fileno())


def _require_private(path: Path) -> None:
    if path.exists() and path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ConfigError(f"{path}: others can read this secret; allowed: chmod 600 {path}")


def _read(path: Path, size: int = SECRET_SIZE) -> bytes:
    try:
        secret = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; it is made by init") from error
    if len(secret) != size:
        raise ConfigError(f"{path}: {len(secret)} bytes; allowed: {size}")
    return secret
