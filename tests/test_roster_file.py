from pathlib import Path

import pytest

from gateway.errors import ConfigError
from gateway.roster_file import KNOWN, RosterFile
from tests.ledgers import first_roster, next_roster, with_peers

FIRST = first_roster(("a", "b", "c", "d"))
SECOND = next_roster(FIRST, with_peers("a", "b", "c"))
OTHER_SECOND = next_roster(FIRST, with_peers("b", "c", "d"))


def given(folder: Path, data: bytes = FIRST.encode()) -> Path:
    """Give the file that a person copied to the machine."""
    path = folder / "roster.cose"
    path.write_bytes(data)
    return path


def test_file_that_a_person_replaces_is_taken(tmp_path: Path) -> None:
    """A newer roster in the file's place is taken at the next look, once."""
    file = RosterFile(given(tmp_path), tmp_path)
    assert file.look() is None
    given(tmp_path, SECOND.encode())
    assert file.look() == SECOND
    assert file.look() is None
    assert file.rosters == SECOND


def test_what_a_peer_tells_is_kept_over_a_restart(tmp_path: Path) -> None:
    """A newer roster that came over the network is known after a restart, whatever the file still says."""
    file = RosterFile(given(tmp_path), tmp_path)
    assert file.hear(SECOND.encode(), "a") == SECOND
    assert file.hear(SECOND.encode(), "b") is None
    assert RosterFile(given(tmp_path), tmp_path).rosters == SECOND


@pytest.mark.parametrize("data", [FIRST.encode(), OTHER_SECOND.encode(), b"", b"garbage", SECOND.encode()[:-1]])
def test_fault_20_replayed_roster_is_refused(tmp_path: Path, data: bytes) -> None:
    """An older roster, another of the same version, and garbage change nothing, whoever gives it, whenever."""
    file = RosterFile(given(tmp_path, SECOND.encode()), tmp_path)
    assert file.hear(data, "mallory") is None
    given(tmp_path, data)
    assert file.look() is None
    assert file.rosters == SECOND
    assert RosterFile(given(tmp_path, data), tmp_path).rosters == SECOND


def test_roster_that_cannot_be_kept_is_not_gone_by(tmp_path: Path) -> None:
    """What the disk does not take is not known either: after a restart it would be another one."""
    file = RosterFile(given(tmp_path), tmp_path)
    (tmp_path / f".{KNOWN}.new").mkdir()
    assert file.hear(SECOND.encode(), "a") is None
    assert file.rosters == FIRST
    (tmp_path / f".{KNOWN}.new").rmdir()
    assert file.hear(SECOND.encode(), "a") == SECOND


def test_without_a_roster_there_is_nothing_to_go_by(tmp_path: Path) -> None:
    """A folder without a roster says where it is to be copied to."""
    with pytest.raises(ConfigError, match=r"roster\.cose: there is no roster here"):
        RosterFile(tmp_path / "roster.cose", tmp_path)


def test_file_may_go_once_it_is_known(tmp_path: Path) -> None:
    """What is known stands in the state folder: the file is needed once."""
    path = given(tmp_path)
    RosterFile(path, tmp_path)
    path.unlink()
    file = RosterFile(path, tmp_path)
    assert file.rosters == FIRST
    assert file.look() is None
    assert (tmp_path / KNOWN).read_bytes() == FIRST.encode()
