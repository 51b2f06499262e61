import asyncio
import random
from collections.abc import Callable
from dataclasses import replace
from threading import Event

import pytest

from gateway import canonical, merkle, signing
from gateway.errors import ConfigError, StoreError, VerificationError
from gateway.io.store.readings import ReadingStore, payload_of
from gateway.ledger.statements import encode_block
from gateway.ledger.voting import sign_block
from gateway.model import EventKind, Proposal, Reading
from tests.audit import audit
from tests.builders import CHAIN, GATEWAY, MASTER
from tests.recorders import Ward, record, sample, ward

OTHER_MASTER = b"another master secret for tests."
__all__ = ["ward"]  # a fixture


def readings_of(ward: Ward) -> list[Reading]:
    return [canonical.decode_reading(payload_of(leaf.data)) for leaf in ward.store.leaves(0) if leaf.kind == "reading"]


def kinds_of(ward: Ward) -> list[EventKind]:
    return [event.kind for _, event in ward.store.events()]


# -- recorded and kept


async def test_new_chain_begins_with_its_genesis(ward: Ward) -> None:
    """Leaf 0 names the ledger and the gateway's key, leaf 1 says what the clock is worth; both are durable at once."""
    recorder = await ward.start()
    (_, genesis), (_, clock) = ward.store.events()
    key = signing.derive_key(MASTER, "gateway", GATEWAY).public_key
    assert (genesis.kind, clock.kind) == (EventKind.GENESIS, EventKind.CLOCK)
    assert genesis.details == {"ledger": "a ledger", "public-key": key, "incarnation": 0}
    assert clock.details == {
        "epoch": 1,
        "boot": "boot-1",
        "boot-ms": 5_000,
        "synchronised": True,
        "why": "boot",
        "error-ms": 7,
    }
    assert (recorder.durable, recorder.unsealed, recorder.waiting) == (2, 2, 0)


async def test_reading_is_signed_with_its_device_key(ward: Ward) -> None:
    """A reading says what the sample said, with number and time, and verifies with the key that was enrolled."""
    recorder = await ward.start_with_strap()
    ward.clocks.pass_by(250)
    record(recorder, 2)
    await recorder.commit()
    first, second = (leaf for leaf in ward.store.leaves(0) if leaf.kind == "reading")
    message = signing.verify(first.data, recorder.devices["strap-1"].public_key)
    assert (message.claim(canonical.ISSUER), message.claim(canonical.SUBJECT)) == ("strap-1", CHAIN)
    reading = canonical.decode_reading(message.payload or b"")
    assert (reading.measurements, reading.frame, reading.flags) == (
        sample(60).measurements,
        sample(60).frame,
        sample(60).flags,
    )
    assert (reading.sequence, reading.at.real_ms, reading.at.epoch, reading.at.monotonic_ms) == (
        1,
        1_764_000_000_250,
        1,
        250,
    )
    again = canonical.decode_reading(payload_of(second.data))
    assert (again.sequence, recorder.readings("strap-1")) == (2, 2)
    assert again.salt != reading.salt


async def test_reading_counts_from_its_commit(ward: Ward) -> None:
    """What was recorded is in memory until the commit: not durable, not to be sealed, and gone with the process."""
    recorder = await ward.start_with_strap()
    record(recorder, 3)
    assert (recorder.durable, recorder.unsealed, recorder.waiting) == (3, 3, 3)
    restarted = await ward.start()
    assert restarted.readings("strap-1") == 0
    record(restarted, 2)
    assert await restarted.commit() == 5
    assert (restarted.durable, restarted.unsealed, restarted.waiting) == (5, 5, 0)
    assert ward.audit().readings == {"strap-1": 2}


async def test_committed_waits_for_the_commit(ward: Ward) -> None:
    """Whoever waits for what is durable waits for the commit that has it, and not for what comes after."""
    recorder = await ward.start_with_strap()
    await recorder.committed()
    record(recorder)
    waiter = asyncio.create_task(recorder.committed())
    impatient = asyncio.create_task(recorder.committed())
    await asyncio.sleep(0)
    assert not waiter.done()
    impatient.cancel()
    record(recorder, 2)
    await recorder.commit()
    await asyncio.wait_for(waiter, 1)
    assert len(readings_of(ward)) == 3


async def test_waiting_is_announced(ward: Ward) -> None:
    """Every entry wakes whoever commits."""
    recorder = await ward.start_with_strap()
    calls: list[int] = []
    recorder.on_waiting = lambda: calls.append(recorder.waiting)
    record(recorder, 2)
    assert calls == [1, 2]


async def test_disk_that_is_too_far_behind_is_an_error(ward: Ward, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is in memory is bounded: beyond that the gateway stops, even where the caller of the hearer swallows it."""
    monkeypatch.setattr("gateway.recorder.ENTRIES_LIMIT", 5)
    recorder = await ward.start_with_strap()
    record(recorder, 5)
    with pytest.raises(StoreError, match="the disk is 5 leaves behind the sensors"):
        record(recorder)
    with pytest.raises(StoreError, match="the disk is 5 leaves behind the sensors"):
        await recorder.commit()
    assert ward.audit().readings == {"strap-1": 5}


async def test_two_pumps_scheduled_at_once_lose_and_double_nothing(ward: Ward) -> None:
    """Two commits under way at the same time, with readings between them, keep every reading once and in order."""
    recorder = await ward.start_with_strap()
    for _ in range(50):
        record(recorder, 3)
        first = asyncio.create_task(recorder.commit())
        second = asyncio.create_task(recorder.commit())
        await asyncio.sleep(0)
        record(recorder, 2)
        third = asyncio.create_task(recorder.commit())
        await asyncio.gather(first, second, third)
    await recorder.commit()
    assert recorder.durable == 3 + 250
    assert ward.audit().readings == {"strap-1": 250}


@pytest.mark.parametrize("seed", range(5))
async def test_recording_while_committing_and_sealing_loses_and_doubles_nothing(ward: Ward, seed: int) -> None:
    """Sensors that are heard at any moment of a commit or a seal: each reading is kept once, each leaf sealed once."""
    recorder, chance = await ward.start_with_strap(), random.Random(seed)  # noqa: S311 - a seed, no secret
    recorder.enrol("strap-2", "heart-rate-strap", "C0:FF:EE:00:00:02")

    async def hear(device: str) -> None:
        for _ in range(300):
            record(recorder, chance.randrange(3), device)
            await (recorder.committed() if chance.randrange(10) == 0 else asyncio.sleep(0))

    async def keep() -> None:
        while True:
            await recorder.commit()
            if recorder.unsealed > chance.randrange(20):
                await recorder.seal(chance.randrange(1, 30))
            await asyncio.sleep(0)

    sensors = [asyncio.create_task(hear(device)) for device in ("strap-1", "strap-2", "strap-1")]
    keeper = asyncio.create_task(keep())
    await asyncio.gather(*sensors)
    keeper.cancel()
    await asyncio.wait([keeper])
    await recorder.commit()
    made = {device: recorder.readings(device) for device in ("strap-1", "strap-2")}
    account = ward.audit()
    assert account.readings == made
    assert len(account.blocks) > 5


async def test_commit_that_is_cancelled_is_finished_all_the_same(ward: Ward) -> None:
    """A commit that waits for the store's thread when the gateway is told to stop leaves no hole in the chain."""
    recorder, hold = await ward.start_with_strap(), Event()
    busy = ward.executor.submit(hold.wait)  # something else that the thread does
    record(recorder, 3)
    commit = asyncio.create_task(recorder.commit())
    await asyncio.sleep(0)
    record(recorder, 2)
    commit.cancel()
    await asyncio.sleep(0)
    hold.set()
    await asyncio.wait([commit])
    assert commit.cancelled()
    assert busy.result()
    await recorder.commit()
    assert ward.audit().readings == {"strap-1": 5}


async def test_commit_that_fails_while_it_is_cancelled_says_so(ward: Ward) -> None:
    """The disk's refusal is not lost in the stop."""
    recorder, hold = await ward.start_with_strap(), Event()
    ward.executor.submit(hold.wait)
    record(recorder, 3)
    commit = asyncio.create_task(recorder.commit())
    await asyncio.sleep(0)
    commit.cancel()
    ward.change("CREATE TRIGGER refuse BEFORE INSERT ON leaf BEGIN SELECT RAISE(ABORT, 'no more'); END")
    hold.set()
    with pytest.raises(StoreError, match="no more"):
        await commit


# -- sealed


async def test_blocks_follow_each_other(ward: Ward) -> None:
    """Blocks take up to so many durable leaves each, from where the last one ended, signed by the gateway."""
    recorder = await ward.start_with_strap()
    record(recorder, 5)
    await recorder.commit()
    record(recorder, 4)
    proposals = [await recorder.seal(6), await recorder.seal(6)]
    assert [(proposal.block.start, proposal.block.size) for proposal in proposals] == [(0, 6), (6, 8)]
    assert (recorder.unsealed, recorder.head.next_height) == (0, 2)
    key = signing.derive_key(MASTER, "gateway", GATEWAY).public_key
    for proposal in proposals:
        assert signing.verify(proposal.signed, key).payload == encode_block(proposal.block)
        kept = ward.store.block(proposal.block.height)
        assert kept is not None
        assert kept.proposal == proposal.signed
    await recorder.commit()
    assert len(ward.audit().blocks) == 2


async def test_block_is_not_sealed_before_its_leaves(ward: Ward) -> None:
    """A wall clock that jumps back does not put a block before the readings in it, nor before the last block."""
    recorder = await ward.start_with_strap()
    record(recorder)
    await recorder.commit()
    heard_ms = ward.clocks.real_ms
    ward.clocks.real_ms -= 3_600_000
    assert (await recorder.seal(9)).block.sealed_ms == heard_ms
    record(recorder)
    await recorder.commit()
    assert (await recorder.seal(9)).block.sealed_ms == heard_ms


async def test_age_is_that_of_the_oldest_leaf(ward: Ward) -> None:
    """The age that decides on sealing runs on the monotonic clock from the oldest leaf that is not sealed."""
    recorder = await ward.start()
    ward.clocks.pass_by(100)
    recorder.enrol("strap-1", "heart-rate-strap", "C0:FF:EE:00:00:01")
    await recorder.commit()
    ward.clocks.real_ms += 86_400_000
    assert recorder.oldest_age_ms() == 100
    await recorder.seal(2)
    assert recorder.oldest_age_ms() == 0
    await recorder.seal(2)
    assert recorder.oldest_age_ms() == 0
    assert (recorder.now_ms(), recorder.boot_ms()) == ward.clocks.times()


async def test_fault_15_leaf_hash_flipped_in_memory_is_not_signed(ward: Ward) -> None:
    """A bit of a leaf's hash that flips in memory before the root is made stops the gateway; no block is kept."""
    recorder = await ward.start_with_strap()
    record(recorder, 3)
    await recorder.commit()
    flipped = bytes((recorder._unsealed[4].leaf_hash[0] ^ 1,)) + recorder._unsealed[4].leaf_hash[1:]
    recorder._unsealed[4] = recorder._unsealed[4]._replace(leaf_hash=flipped)
    with pytest.raises(StoreError, match=r"leaves \[0, 6\) do not read back as they were signed"):
        await recorder.seal(9)
    assert (ward.store.last_block(), recorder.head.next_height) == (None, 0)


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE leaf SET tail = CAST(substr(tail, 1, 40) || x'00' || substr(tail, 42) AS BLOB) WHERE position = 4",
        "DELETE FROM leaf WHERE position = 4",
        "UPDATE leaf SET header = (SELECT header FROM leaf WHERE position = 0), sequence = 9 WHERE position = 4",
        "UPDATE leaf SET position = 99 WHERE position = 5",
    ],
)
async def test_fault_15_leaf_that_reads_back_otherwise_is_not_signed(ward: Ward, sql: str) -> None:
    """Leaves are read from the file before their root is signed: what the disk changed, lost or moved stops it."""
    recorder = await ward.start_with_strap()
    record(recorder, 3)
    await recorder.commit()
    ward.change(sql)
    with pytest.raises(StoreError, match="do not read back as they were signed"):
        await recorder.seal(9)
    assert ward.store.last_block() is None


# -- started again


async def test_restart_goes_on_where_the_chain_ended(ward: Ward) -> None:
    """After a restart numbers, positions, blocks and the clock's epoch go on; nothing is begun again."""
    recorder = await ward.start_with_strap()
    record(recorder, 5)
    await recorder.commit()
    sealed = await recorder.seal(4)
    ward.clocks.pass_by(60_000)
    again = await ward.start()
    assert (again.durable, again.unsealed, again.head.next_height) == (8, 4, 1)
    assert again.devices == recorder.devices
    record(again, 2)
    await again.commit()
    after = await again.seal(9)
    assert (after.block.start, after.block.start_root) == (sealed.block.size, sealed.block.root)
    assert kinds_of(ward) == [EventKind.GENESIS, EventKind.CLOCK, EventKind.DEVICE_ENROLLED]
    assert readings_of(ward)[-1].at.epoch == 1
    assert readings_of(ward)[-1].at.monotonic_ms == 60_000
    assert ward.audit().readings == {"strap-1": 7}


async def test_same_leaves_are_sealed_the_same_after_a_crash(ward: Ward) -> None:
    """A crash between commit and seal costs nothing: the next run seals the very leaves, in their order."""
    recorder = await ward.start_with_strap()
    record(recorder, 3)
    await recorder.commit()
    hashes = [leaf.leaf_hash for leaf in recorder._unsealed]
    again = await ward.start()
    assert list((await again.seal(9)).hashes) == hashes


async def test_new_boot_begins_a_clock_epoch(ward: Ward) -> None:
    """A reboot is in the chain: the monotonic clock began anew, and says so in a new epoch."""
    recorder = await ward.start_with_strap()
    record(recorder)
    await recorder.commit()
    ward.clocks.boot, ward.clocks.boot_ms = "boot-2", 900
    again = await ward.start()
    record(again)
    await again.commit()
    assert kinds_of(ward)[-1] is EventKind.CLOCK
    assert [reading.at.epoch for reading in readings_of(ward)] == [1, 2]
    assert readings_of(ward)[1].at.monotonic_ms == 0


async def test_another_master_secret_is_refused(ward: Ward) -> None:
    """A chain is not continued with keys that are not its own, whether or not a device was enrolled."""
    await ward.start()
    with pytest.raises(ConfigError, match="the key with which this chain was begun"):
        await ward.start(OTHER_MASTER)
    recorder = await ward.start_with_strap()
    assert recorder.durable == 3


async def test_device_of_another_master_secret_is_refused(ward: Ward) -> None:
    """A device whose enrolled key the master secret does not make cannot be read: its readings would not verify."""
    recorder = await ward.start_with_strap()
    recorder._master = OTHER_MASTER
    recorder.enrol("strap-2", "heart-rate-strap", "C0:FF:EE:00:00:02")
    await recorder.commit()
    with pytest.raises(ConfigError, match="the key with which strap-2 was enrolled"):
        await ward.start()


@pytest.mark.parametrize("leaves", [0, 3])
async def test_another_chain_is_refused(ward: Ward, leaves: int) -> None:
    """A store is not continued under another chain's name, whether or not a block was sealed."""
    recorder = await ward.start_with_strap()
    if leaves:
        await recorder.seal(leaves)
    with pytest.raises(StoreError, match=f"the store holds chain {CHAIN}, the configuration says ward-4"):
        await ward.start(chain="ward-4")


@pytest.mark.parametrize(
    ("sql", "refusal"),
    [
        ("DELETE FROM leaf WHERE position = 5", "leaf 5 is missing: the next one that is kept is 6"),
        ("UPDATE leaf SET tail = zeroblob(length(tail)) WHERE position = 6", "leaf 6 was damaged on the disk"),
        (
            "UPDATE leaf SET tail = CAST(substr(tail, 1, 99) || x'00' || substr(tail, 101) AS BLOB) WHERE position = 6",
            "leaf 6 was damaged on the disk: the signature",
        ),
        ("UPDATE tile SET hashes = zeroblob(length(hashes))", "does not make the root of block 0"),
        ("DELETE FROM tile", "tile .* is missing"),
        ("UPDATE block SET proposal = x'00'", "block 0 was damaged on the disk"),
        ("UPDATE leaf SET tail = zeroblob(length(tail)) WHERE position = 0", "event 1 was damaged on the disk"),
    ],
)
async def test_damage_is_found_at_the_start(ward: Ward, sql: str, refusal: str) -> None:
    """What the disk lost or changed of the chain's end is named before anything is signed on top of it."""
    recorder = await ward.start_with_strap()
    record(recorder, 5)
    await recorder.commit()
    await recorder.seal(5)
    ward.change(sql)
    with pytest.raises(StoreError, match=refusal):
        await ward.start()


# -- the clock


async def test_step_of_the_wall_clock_begins_an_epoch(ward: Ward) -> None:
    """A reading after a step is in the epoch that the step began, whose event stands before it."""
    recorder = await ward.start_with_strap()
    record(recorder)
    ward.clocks.real_ms += 7_200_000
    record(recorder)
    await recorder.commit()
    events = [event for _, event in ward.store.events()]
    assert (events[-1].kind, events[-1].details["why"]) == (EventKind.CLOCK, "step")
    assert [reading.at.epoch for reading in readings_of(ward)] == [1, 2]
    assert [leaf.kind for leaf in ward.store.leaves(3)] == ["reading", "event", "reading"]


async def test_first_synchronisation_begins_an_epoch(ward: Ward) -> None:
    """A clock that is synchronised after the start is worth more from then on; one that stays so begins nothing."""
    ward.clocks.synchronised = False
    recorder = await ward.start_with_strap()
    recorder.check_clock()
    ward.clocks.synchronised = True
    recorder.check_clock()
    recorder.check_clock()
    await recorder.commit()
    why = [event.details["why"] for _, event in ward.store.events() if event.kind is EventKind.CLOCK]
    assert why == ["boot", "synchronised"]


# -- enrolled


@pytest.mark.parametrize(
    ("name", "address", "refusal"),
    [
        ("strap-1", "C0:FF:EE:00:00:02", "the name strap-1 is taken"),
        (GATEWAY, "C0:FF:EE:00:00:02", "the name ward-3 is taken"),
        ("strap-2", "C0:FF:EE:00:00:01", "C0:FF:EE:00:00:01 is enrolled already, as strap-1"),
    ],
)
async def test_enrolment_is_refused(ward: Ward, name: str, address: str, refusal: str) -> None:
    """A name and an address belong to one device; a refused enrolment leaves no event."""
    recorder = await ward.start_with_strap()
    with pytest.raises(ConfigError, match=refusal):
        recorder.enrol(name, "heart-rate-strap", address)
    assert recorder.waiting == 0
    assert list(recorder.devices) == ["strap-1"]


@pytest.mark.parametrize("name", ["", "../strap", "a/b", "strap\x1b[2J", "strap\n", ".hidden", "x" * 65, "ström", "\0"])
async def test_fault_52_hostile_name_is_not_enrolled(ward: Ward, name: str) -> None:
    """A device's name stands in signed bytes, topics and on terminals: whoever asks, it is letters, digits, - _ ."""
    recorder = await ward.start()
    with pytest.raises(ConfigError, match="allowed: 1 to 64 of A-Z a-z 0-9"):
        recorder.enrol(name, "heart-rate-strap", "C0:FF:EE:00:00:02")
    assert recorder.waiting == 0


# -- taken back


async def lost_block(ward: Ward, readings: int = 4) -> tuple[Proposal, Callable[[], None]]:
    """Seal a block that is lost by restoring the backup that the returned function restores."""
    recorder = await ward.start_with_strap()
    await recorder.seal(9)
    ward.stop()
    backup = ward.file.read_bytes()
    recorder = await ward.start()
    record(recorder, readings)
    await recorder.commit()
    proposal = await recorder.seal(99)
    ward.stop()

    def restore() -> None:
        ward.file.write_bytes(backup)

    return proposal, restore


async def test_lost_block_is_taken_back(ward: Ward) -> None:
    """What was recorded since the backup was restored moves behind the block that comes back; then all goes on."""
    lost, restore = await lost_block(ward)
    restore()
    recorder = await ward.start()
    record(recorder, 2)
    await recorder.commit()
    assert recorder.durable == 5
    await recorder.adopt(lost)
    assert (recorder.head.next_height, recorder.durable, recorder.unsealed) == (2, 9, 2)
    after = await recorder.seal(9)
    assert (after.block.start, after.block.start_root) == (lost.block.size, lost.block.root)
    assert ward.store.hashes(3, 9) == [*lost.hashes, *after.hashes]


async def test_recording_goes_on_while_a_block_is_taken_back(ward: Ward) -> None:
    """Readings that are heard while a block comes back are kept once, behind it, and only then called durable."""
    lost, restore = await lost_block(ward)
    restore()
    recorder, hold = await ward.start(), Event()
    record(recorder, 2)
    ward.executor.submit(hold.wait)
    taking = asyncio.create_task(recorder.adopt(lost))
    await asyncio.sleep(0)
    record(recorder, 3)
    waiter = asyncio.create_task(recorder.committed())
    hold.set()
    await taking
    assert not waiter.done()
    record(recorder, 1)
    await recorder.commit()
    await asyncio.wait_for(waiter, 1)
    assert [leaf.position for leaf in ward.store.leaves(0)] == [0, 1, 2, *range(7, 13)]
    assert [reading.sequence for reading in readings_of(ward)] == [1, 2, 3, 4, 5, 6]
    await recorder.seal(99)
    ward.stop()
    store = ReadingStore(str(ward.file), read_only=True)
    assert audit(store, bodies_lost=range(3, 7)).leaves == 13
    store.close()


async def test_lost_block_with_other_hashes_is_refused(ward: Ward) -> None:
    """A peer that lies about the leaf hashes of a block cannot damage the tree; an honest one's answer is taken."""
    lost, restore = await lost_block(ward)
    restore()
    recorder = await ward.start()
    record(recorder, 2)
    for hashes in ((bytes(32), *lost.hashes[1:]), lost.hashes[:-1], (*lost.hashes, bytes(32)), ()):
        with pytest.raises(VerificationError, match="do not make its root"):
            await recorder.adopt(replace(lost, hashes=hashes))
    await recorder.adopt(lost)
    assert recorder.head.next_height == 2


async def test_block_of_another_history_stops_the_gateway(ward: Ward) -> None:
    """A block that this key signed and that does not follow what is here means two gateways with one key."""
    lost, restore = await lost_block(ward)
    restore()
    recorder = await ward.start()
    key = signing.derive_key(MASTER, "gateway", GATEWAY)
    block = replace(lost.block, start_root=merkle.EMPTY_ROOT)
    other = replace(lost, block=block, signed=sign_block(signing.Keys(key), GATEWAY, block))
    with pytest.raises(StoreError, match="block 1, which peers hold, does not follow what is sealed here"):
        await recorder.adopt(other)


async def test_fault_13_one_flipped_bit_in_every_page_is_found_or_harmless(ward: Ward) -> None:
    """Whatever page a bit flips in: the start says so in a StoreError, or the chain's end is what it was."""
    recorder = await ward.start_with_strap()
    for _ in range(8):
        record(recorder, 40)
        await recorder.commit()
        await recorder.seal(30)
    whole, chance = (recorder.head, list(recorder._unsealed)), random.Random(13)  # noqa: S311 - a seed, no secret
    hashes = [pending.leaf_hash for pending in whole[1]]
    ward.stop()
    sound = ward.file.read_bytes()
    found, page_size = 0, int.from_bytes(sound[16:18], "big")
    for page in range(len(sound) // page_size):
        flipped = bytearray(sound)
        flipped[page_size * page + chance.randrange(page_size)] ^= 1 << chance.randrange(8)
        ward.file.write_bytes(flipped)
        try:
            again = await ward.start()
        except StoreError:
            found += 1
        else:
            assert (again.head, [pending.leaf_hash for pending in again._unsealed]) == (whole[0], hashes)
        ward.stop()
    assert found > 0
