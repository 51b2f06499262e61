import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.errors import ConfigError
from gateway.io import folder

# Another process that locks a folder and waits to be killed.
HOLDER = """
import sys
from pathlib import Path
from gateway.io import folder
with folder.lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_file_is_written_whole(tmp_path: Path) -> None:
    """A file is there with all its bytes, and nothing beside it."""
    folder.write(tmp_path / "file", b"one")
    folder.write(tmp_path / "file", b"two")
    assert folder.read_bytes(tmp_path / "file") == b"two"
    assert folder.read_text(tmp_path / "file") == "two"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_file_that_cannot_be_written_stays_as_it_was(tmp_path: Path) -> None:
    """Where the disk takes only a part, the old file is whole, no half of the new one stays, and the error says why."""
    folder.write(tmp_path / "file", b"old")
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))"
    program = f"{limit}; from pathlib import Path; from gateway.io import folder"
    program += f"; folder.write(Path({str(tmp_path / 'file')!r}), bytes(5000))"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert result.stderr.splitlines()[-1] == f"gateway.errors.ConfigError: {tmp_path / 'file'}: File too large"
    assert (tmp_path / "file").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_folder_that_is_missing_is_named(tmp_path: Path) -> None:
    """Reading, writing, making and locking name what is not there or not to be made."""
    missing = tmp_path / "none" / "file"
    with pytest.raises(ConfigError, match=f"{missing}: No such file or directory"):
        folder.read_bytes(missing)
    with pytest.raises(ConfigError, match=f"{missing}: No such file or directory"):
        folder.write(missing, b"")
    with pytest.raises(ConfigError, match="No such file or directory; it is made by init"), folder.lock(missing):
        pytest.fail("it was locked")
    (tmp_path / "file").write_bytes(b"\xff")
    with pytest.raises(ConfigError, match="File exists"):
        folder.create(tmp_path / "file")
    with pytest.raises(ConfigError, match="not UTF-8 text"):
        folder.read_text(tmp_path / "file")


def test_folder_is_held_by_one_process(tmp_path: Path) -> None:
    """A folder that another process holds is refused, and free again however that process ends."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(ConfigError, match="in use by another iomt process; stop it first"), folder.lock(tmp_path):
            pytest.fail("it was locked twice")
        holder.send_signal(signal.SIGKILL)
    with folder.lock(tmp_path):
        descriptor = os.open(tmp_path / "lock", os.O_RDONLY)
        with pytest.raises(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(descriptor)


def test_error_of_the_holder_is_its_own(tmp_path: Path) -> None:
    """What goes wrong while a folder is held is not taken for a lock that was refused."""
    with pytest.raises(BlockingIOError, match="mine"), folder.lock(tmp_path):
        raise BlockingIOError("mine")
