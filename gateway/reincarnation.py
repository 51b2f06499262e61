"""A gateway's store begun anew: the next incarnation's tree, with what was not certified in the one before.

    readings.db, incarnation i            next-readings.db, incarnation i + 1
      certified leaves  (stay there)        genesis, clock, an enrolment of every device
      other leaves      --the same bytes--> behind them, and those of other branches

    next-readings.db built -> opening-<i + 1>.cbor written: from here on it counts -> readings.db becomes
    incarnation-<i>.db -> next-readings.db becomes readings.db

A crash before the opening is written leaves everything as it was; after one behind it `settle` does the rest.
"""

import re
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from gateway import canonical, clock, merkle, signing
from gateway.clock import ClockReading
from gateway.devices import enrolment_details, fold
from gateway.io import folder
from gateway.io.store.readings import FILE, LeafRow, ReadingStore, Signer, StoredLeaf
from gateway.ledger.closing import Closing
from gateway.model import Event, EventKind
from gateway.voice import Voice

NEXT = "next-readings.db"
_OPENING = re.compile(r"opening-([0-9]+)\.cbor")
_AT_ONCE = 1000
_SALT_SIZE = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebuilt:
    """What became of a store: leaves that stay certified in the old one, and leaves that are to be anchored again."""

    incarnation: int
    certified: int
    again: int
    of_branches: int
    devices: int
    old: Path


def load_opening(state: Path) -> bytes:
    """Give the message by which the latest incarnation was begun; empty for a chain in its first."""
    latest = _latest_opening(state)
    return folder.read_bytes(state / f"opening-{latest}.cbor") if latest else b""


def begun_incarnation(state: Path) -> int:
    """Give the incarnation of the store in a state folder."""
    store = ReadingStore(str(state / FILE), read_only=True)
    try:
        return _incarnation(store)
    finally:
        store.close()


def settle(state: Path) -> None:
    """Finish, or undo, what a crash has left half done; the caller holds the folder's lock."""
    if not (state / NEXT).exists():
        return
    store = ReadingStore(str(state / NEXT), read_only=True)
    try:
        begun = _incarnation(store)
    finally:
        store.close()
    if begun and begun == _latest_opening(state):
        _swap(state, begun)
    else:
        _unlink(state / NEXT)


def rebuild(
    state: Path,
    *,
    gateway: str,
    ledger: str,
    keys: signing.Keys,
    closing: Closing,
    opening: bytes,
    now: ClockReading,
    branches: Sequence[Path] = (),
) -> Rebuilt:
    """Begin the incarnation behind a closing in a gateway's state folder, whose lock the caller holds.

    `opening` is the message by which peers begin it; `branches` are readings.db files of clones.
    Raises: StoreError if the disk cannot be trusted.
    """
    settle(state)
    incarnation = closing.incarnation + 1
    old = ReadingStore(str(state / FILE))  # not read-only: what a crash left in its log is taken in
    others = [ReadingStore(str(path), read_only=True) for path in branches]
    fresh = ReadingStore(str(state / NEXT))
    try:
        certified = old.certified_size()
        own = _Writer(fresh)
        for row in _first_leaves(old, gateway, ledger, keys, closing, now, incarnation):
            own.add(row)
        begun = own.count
        for leaf in old.leaves(certified):
            own.add_again(leaf)
        again = own.count - begun
        for branch, other in enumerate(others, old.branches()):
            for leaf in other.leaves(0):
                known = old.numbered(leaf.kind, leaf.issuer, leaf.sequence)
                if known is None or known.data != leaf.data:
                    own.add_again(replace(leaf, branch=branch))
        own.flush()
        devices = len(fold(event for _, event in old.events()))
    finally:
        for store in (old, fresh, *others):
            store.close()
    folder.write(state / f"opening-{incarnation}.cbor", opening)
    _swap(state, incarnation)
    return Rebuilt(
        incarnation=incarnation,
        certified=certified,
        again=again,
        of_branches=own.count - begun - again,
        devices=devices,
        old=state / f"incarnation-{closing.incarnation}.db",
    )


# -- pieces


class _Writer:
    """Puts leaves one behind the other into a store, many at once."""

    def __init__(self, store: ReadingStore) -> None:
        self._store = store
        self._rows: list[LeafRow] = []
        self._hashes: set[bytes] = set()
        self.count = 0

    def add(self, row: LeafRow) -> None:
        self._rows.append(row._replace(position=self.count))
        self.count += 1
        if len(self._rows) >= _AT_ONCE:
            self.flush()

    def add_again(self, leaf: StoredLeaf) -> None:
        """Add a leaf that was in another tree, once."""
        hashed = merkle.leaf_hash(leaf.data)
        if hashed in self._hashes:
            return
        self._hashes.add(hashed)
        self.add(_row(leaf))

    def flush(self) -> None:
        self._store.append(self._rows)
        self._rows = []


def _first_leaves(  # noqa: PLR0917 - see rebuild
    old: ReadingStore,
    gateway: str,
    ledger: str,
    keys: signing.Keys,
    closing: Closing,
    now: ClockReading,
    incarnation: int,
) -> Iterator[LeafRow]:
    """Give genesis, clock and enrolments, numbered on behind the events that are there."""
    events = list(old.events())
    last = old.last_sequences()
    voice = Voice(keys.first, "event", gateway, closing.chain, last.get(gateway, 0) + 1)
    before = clock.last_epoch(event for _, event in events)
    epoch, why = clock.next_epoch(before, now)

    def event(kind: EventKind, details: dict[str, int | str | bytes | bool]) -> LeafRow:
        made = Event(
            sequence=voice.next_sequence,
            at=clock.instant(epoch, now.real_ms, now.boot_ms),
            kind=kind,
            details=details,
            salt=secrets.token_bytes(_SALT_SIZE),
        )
        voice.next_sequence += 1
        return LeafRow(0, voice.row, made.sequence, voice.signer.sign_tail(canonical.encode_event(made)))

    begins: dict[str, int | str | bytes | bool] = {
        "ledger": ledger,
        "public-key": keys.first.public_key,
        "incarnation": incarnation,
    }
    yield event(EventKind.GENESIS, {**begins, "closing": closing.digest})
    clocks = [position for position, event in events if event.kind is EventKind.CLOCK]
    for position in clocks[-1:]:
        if position < old.certified_size():  # later ones are anchored again in any case
            yield _row(old.leaf(position))
    if why is not None:
        yield event(EventKind.CLOCK, clock.clock_details(epoch, now, why))
    for device in fold(event for _, event in events).values():
        numbered = replace(device, last_sequence=max(last.get(device.id, 0), device.last_sequence))
        yield event(EventKind.DEVICE_ENROLLED, enrolment_details(numbered))


def _row(leaf: StoredLeaf) -> LeafRow:
    """Give a leaf as it is kept: what its signer's leaves begin with, and the rest."""
    prefix = signing.prefix_of(leaf.data)
    return LeafRow(0, Signer(leaf.kind, leaf.issuer, prefix, leaf.branch), leaf.sequence, leaf.data[len(prefix) :])


def _incarnation(store: ReadingStore) -> int:
    for _, event in store.events():
        incarnation = event.details.get("incarnation")
        if isinstance(incarnation, int):
            return incarnation
    return 0


def _latest_opening(state: Path) -> int:
    found = [_OPENING.fullmatch(path.name) for path in state.glob("opening-*.cbor")]
    return max((int(match[1]) for match in found if match), default=0)


def _swap(state: Path, incarnation: int) -> None:
    """Put the next store in the place of the old one; each step can be the last before a crash."""
    old = state / f"incarnation-{incarnation - 1}.db"
    if (state / FILE).exists() and not old.exists():
        folder.rename(state / FILE, old)
    folder.rename(state / NEXT, state / FILE)


def _unlink(path: Path) -> None:
    for name in (path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")):
        name.unlink(missing_ok=True)
