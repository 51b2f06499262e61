from dataclasses import replace

import pytest

from gateway.errors import ConfigError
from gateway.ledger.member_keys import MemberKeys
from gateway.ledger.rosters import Rosters
from tests.ledgers import MASTER, first_roster, next_roster, peer_member, with_peers

FIRST = first_roster(("a", "b", "c", "d"))


def rekeyed(rosters: Rosters) -> Rosters:
    """Give the roster's next version, with the second key of a."""
    return next_roster(rosters, lambda roster: replace(roster, peers=(peer_member("a", 2), *roster.peers[1:])))


def test_each_version_of_the_roster_has_its_key() -> None:
    """A member that was re-keyed signs for an earlier epoch with the key that it had, and now with the new one."""
    second = rekeyed(FIRST)
    keys = MemberKeys(MASTER, "peer", "a", 2)
    old, new = keys.of(FIRST.current), keys.of(second.current)
    assert old is not None
    assert new is not None
    assert [old.first.public_key, new.first.public_key] == list(keys.public_keys)
    assert (old.second, new.second) == (None, None)


def test_post_quantum_roster_wants_the_second_key() -> None:
    """Where the roster says so, the ML-DSA-44 key that stands on it comes with the first."""
    rosters = first_roster(("a",), post_quantum=True)
    keys = MemberKeys(MASTER, "peer", "a").require(rosters.current)
    assert keys.second is not None
    assert keys.second.public_key == rosters.current.peers[0].second_key
    assert MemberKeys(MASTER, "peer", "a").require(rosters.current).second is not keys.second


def test_who_is_not_on_the_roster_has_no_keys() -> None:
    """A stranger, and a member whose key the roster does not name, cannot sign; one that was retired once could."""
    strangers = [
        MemberKeys(MASTER, "peer", "z"),
        MemberKeys(bytes(32), "peer", "a"),
        MemberKeys(MASTER, "gateway", "a"),
    ]
    for keys in strangers:
        assert keys.of(FIRST.current) is None
        with pytest.raises(ConfigError, match="is not on the roster; iomt ledger admit"):
            keys.require_ever(FIRST)
    retired = next_roster(FIRST, with_peers("b", "c", "d"))
    MemberKeys(MASTER, "peer", "a").require_ever(retired)
    assert MemberKeys(MASTER, "peer", "a").of(retired.current) is None
