import shutil
from pathlib import Path

import pytest

from gateway import canonical, signing
from gateway.devices import enrolled_device
from gateway.io import folder
from gateway.io.store.readings import FILE, ReadingStore, StoredLeaf, payload_of
from gateway.ledger import messages
from gateway.ledger.closing import Closing, close, sign_opening
from gateway.merkle import EMPTY_ROOT
from gateway.model import EventKind, Reading
from gateway.reincarnation import NEXT, Rebuilt, begun_incarnation, load_opening, rebuild, settle
from tests.ledgers import CHAIN, GATEWAY, MASTER, first_roster, recovery_key
from tests.recorders import Ward, record
from tests.test_ledger_closing import freeze_of

ROSTERS = first_roster(("a", "b", "c", "d"))
CLOSING = close(ROSTERS, [freeze_of(name) for name in "abc"])
OPENING = messages.encode_opening(sign_opening(recovery_key(), GATEWAY, CLOSING), CLOSING.shown)
KEYS = signing.Keys(signing.derive_key(MASTER, "gateway", GATEWAY))


async def lived(ward: Ward, *, certified: int = 1, more: int = 3) -> None:
    """Let a gateway record, seal and certify, then record more that is not certified, and stop."""
    recorder = await ward.start()
    recorder.enrol("strap-1", "heart-rate-strap", "C0:FF:EE:00:00:01")
    recorder.enrol("strap-2", "heart-rate-strap", "C0:FF:EE:00:00:02")
    record(recorder, 2, "strap-1")
    record(recorder, 2, "strap-2")
    await recorder.commit()
    await recorder.seal(100)
    for height in range(certified):
        ward.store.save_votes(height, [], certified=True)
    record(recorder, more, "strap-1")
    await recorder.commit()
    ward.stop()


def rebuilt(ward: Ward, state: Path, closing: Closing = CLOSING, branches: tuple[Path, ...] = ()) -> Rebuilt:
    """Begin the next incarnation in a state folder."""
    return rebuild(
        state,
        gateway=GATEWAY,
        ledger=ROSTERS.current.ledger,
        keys=KEYS,
        closing=closing,
        opening=OPENING,
        now=ward.clocks.read(),
        branches=branches,
    )


def leaves(path: Path) -> list[StoredLeaf]:
    """Give all leaves of a store."""
    store = ReadingStore(str(path), read_only=True)
    try:
        return list(store.leaves(0))
    finally:
        store.close()


def old_stores(state: Path) -> list[str]:
    """Give the stores of incarnations that were closed."""
    return sorted(path.name for path in state.glob("incarnation-*.db"))


def readings(found: list[StoredLeaf], device: str) -> list[Reading]:
    """Give the readings of a device."""
    mine = [leaf for leaf in found if (leaf.kind, leaf.issuer) == ("reading", device)]
    return [canonical.decode_reading(payload_of(leaf.data)) for leaf in mine]


async def test_what_was_not_certified_stands_again_behind_genesis_and_enrolments(tmp_path: Path) -> None:
    """The new tree begins with a genesis that names its closing, enrols every device, and has the same leaves again."""
    ward = Ward(tmp_path)
    await lived(ward)
    before = leaves(tmp_path / FILE)
    result = rebuilt(ward, tmp_path)
    after = leaves(tmp_path / FILE)
    genesis = canonical.decode_event(payload_of(after[0].data))
    assert (genesis.kind, genesis.details["incarnation"]) == (EventKind.GENESIS, 1)
    assert genesis.details["closing"] == CLOSING.digest
    events = [canonical.decode_event(payload_of(leaf.data)) for leaf in after if leaf.kind == "event"]
    enrolled = [enrolled_device(event) for event in events if event.kind is EventKind.DEVICE_ENROLLED]
    assert [(device.id, device.last_sequence) for device in enrolled] == [("strap-1", 5), ("strap-2", 2)]
    assert [leaf.data for leaf in after[-3:]] == [leaf.data for leaf in before[-3:]]
    assert (result.certified, result.again, result.of_branches, result.devices) == (len(before) - 3, 3, 0, 2)
    assert leaves(result.old) == before


async def test_chain_goes_on_in_its_next_incarnation(tmp_path: Path) -> None:
    """A gateway that is started again numbers on, in the same clock epoch, and seals height 0 of the new tree."""
    ward = Ward(tmp_path)
    await lived(ward)
    rebuilt(ward, tmp_path)
    recorder = await ward.start()
    record(recorder, 1, "strap-1")
    record(recorder, 1, "strap-2")
    await recorder.commit()
    proposal = await recorder.seal(100)
    assert (proposal.block.incarnation, proposal.block.height, proposal.block.start) == (1, 0, 0)
    found = leaves(tmp_path / FILE)
    assert [reading.sequence for reading in readings(found, "strap-1")] == [3, 4, 5, 6]
    assert [reading.sequence for reading in readings(found, "strap-2")] == [3]
    assert len({reading.at.epoch for reading in readings(found, "strap-1")}) == 1
    recorder = await ward.start()
    assert (recorder.head.incarnation, recorder.head.next_height) == (1, 1)
    ward.stop()


async def test_second_reincarnation_goes_on_from_the_first(tmp_path: Path) -> None:
    """An incarnation without a certified block is begun anew, too; numbers still go on."""
    ward = Ward(tmp_path)
    await lived(ward)
    rebuilt(ward, tmp_path)
    assert begun_incarnation(tmp_path) == 1
    empty = {"next_height": 0, "size": 0, "root": EMPTY_ROOT}
    second = close(ROSTERS, [freeze_of(name, proposal=None, incarnation=1, **empty) for name in "abc"])  # type: ignore[arg-type]  # fields of a freeze
    result = rebuilt(ward, tmp_path, second)
    assert (result.incarnation, begun_incarnation(tmp_path)) == (2, 2)
    recorder = await ward.start()
    record(recorder, 1, "strap-2")
    await recorder.commit()
    ward.stop()
    assert [reading.sequence for reading in readings(leaves(tmp_path / FILE), "strap-2")] == [3]
    assert old_stores(tmp_path) == ["incarnation-0.db", "incarnation-1.db"]


async def test_readings_of_a_clone_are_anchored_again_once(tmp_path: Path) -> None:
    """What both branches have comes once; what only the clone read comes too, even under the same numbers."""
    (tmp_path / "clone").mkdir()
    ward, clone = Ward(tmp_path), Ward(tmp_path / "clone")
    await lived(ward, more=2)
    shutil.copy(tmp_path / FILE, tmp_path / "clone" / FILE)
    recorder = await ward.start()
    record(recorder, 1, "strap-1")
    await recorder.commit()
    ward.stop()
    recorder = await clone.start()
    record(recorder, 2, "strap-1")
    await recorder.commit()
    clone.stop()
    result = rebuilt(ward, tmp_path, branches=(tmp_path / "clone" / FILE,))
    assert (result.again, result.of_branches) == (3, 2)
    sequences = [reading.sequence for reading in readings(leaves(tmp_path / FILE), "strap-1")]
    assert sequences == [3, 4, 5, 5, 6]
    recorder = await ward.start()
    record(recorder, 1, "strap-1")
    await recorder.commit()
    ward.stop()
    assert readings(leaves(tmp_path / FILE), "strap-1")[-1].sequence == 7


async def test_fault_10_cut_before_the_opening_is_written_changes_nothing(tmp_path: Path) -> None:
    """A store that was built and not yet opened is thrown away at the next start."""
    ward = Ward(tmp_path)
    await lived(ward)
    before = leaves(tmp_path / FILE)
    shutil.copytree(tmp_path, tmp_path / "other")
    rebuilt(ward, tmp_path / "other")
    shutil.copy(tmp_path / "other" / FILE, tmp_path / NEXT)
    settle(tmp_path)
    assert (load_opening(tmp_path), leaves(tmp_path / FILE)) == (b"", before)
    assert not (tmp_path / NEXT).exists()


@pytest.mark.parametrize("moved", [False, True])
async def test_fault_10_cut_behind_the_opening_is_finished(tmp_path: Path, *, moved: bool) -> None:
    """Once the opening is written, the next start puts the new store in place, however far the last one came."""
    ward = Ward(tmp_path)
    await lived(ward)
    before = leaves(tmp_path / FILE)
    shutil.copytree(tmp_path, tmp_path / "other")
    rebuilt(ward, tmp_path / "other")
    shutil.copy(tmp_path / "other" / FILE, tmp_path / NEXT)
    folder.write(tmp_path / "opening-1.cbor", OPENING)
    if moved:
        folder.rename(tmp_path / FILE, tmp_path / "incarnation-0.db")
    settle(tmp_path)
    settle(tmp_path)
    assert begun_incarnation(tmp_path) == 1
    assert (leaves(tmp_path / "incarnation-0.db"), load_opening(tmp_path)) == (before, OPENING)


def test_chain_in_its_first_incarnation_has_no_opening(tmp_path: Path) -> None:
    """A state folder without an opening gives none."""
    assert load_opening(tmp_path) == b""
    assert CLOSING.chain == CHAIN
