"""What pure functions gave, remembered for one run: many machines read and check the same bytes."""

import sys
from collections.abc import Callable
from functools import lru_cache
from types import ModuleType

import pytest

from gateway import signing
from gateway.ledger import closing, messages, quorum, roster, statements
from gateway.ledger.closing import Shown
from gateway.ledger.rosters import Rosters
from gateway.model import Freeze, Vote

REMEMBERED = 10_000
PURE: tuple[tuple[ModuleType, str], ...] = (
    (signing, "crypto_sign_open"),
    (signing, "parse"),
    (signing, "parse_blob"),
    (statements, "decode_block"),
    (statements, "decode_freeze"),
    (messages, "decode_proposal"),
    (messages, "decode_answer"),
    (messages, "decode_certificate"),
    (messages, "decode_ask"),
    (messages, "decode_freezes"),
    (messages, "decode_opening"),
    (roster, "read_version"),
    (roster, "open_version"),
)


def remember(patch: pytest.MonkeyPatch) -> None:
    """Let pure functions remember what they gave, wherever they are called, until the patch is undone."""
    originals: dict[Callable[..., object], Callable[..., object]] = {
        getattr(module, name): lru_cache(REMEMBERED)(getattr(module, name)) for module, name in PURE
    }
    originals |= {closing.open_freeze: _remember_freezes(), quorum.read_vote: _remember_votes()}
    for module, name, original in _places(tuple(originals)):
        if getattr(module, name) is original:  # else a test has put something else there
            patch.setattr(module, name, originals[original])


@lru_cache(1)
def _places(functions: tuple[Callable[..., object], ...]) -> list[tuple[ModuleType, str, Callable[..., object]]]:
    """Find where these functions are known by name."""
    known = {id(function): function for function in functions}
    modules = [module for name, module in sys.modules.items() if name.startswith(("gateway", "tests.simulation"))]
    return [
        (module, name, known[id(value)])
        for module in modules
        for name, value in vars(module).items()
        if id(value) in known
    ]


def _remember_freezes() -> Callable[[Rosters, Shown], Freeze]:
    """Give `open_freeze` with a memory; the versions of a run's roster are those of one list."""
    known: dict[tuple[int, Shown], Freeze] = {}
    open_freeze = closing.open_freeze

    def remembered(rosters: Rosters, shown: Shown) -> Freeze:
        place = rosters.current.version, shown
        if place not in known:
            known[place] = open_freeze(rosters, shown)
        return known[place]

    return remembered


def _remember_votes() -> Callable[[signing.Message, bytes], Vote]:
    """Give `read_vote` with a memory; the message is what the bytes beside it hold."""
    known: dict[bytes, Vote] = {}
    read_vote = quorum.read_vote

    def remembered(message: signing.Message, signed: bytes) -> Vote:
        if signed not in known:
            known[signed] = read_vote(message, signed)
        return known[signed]

    return remembered
