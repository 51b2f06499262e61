"""A recorder on a real store in a folder, with clocks that a test sets: opened, closed and opened again at will."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import apsw
import pytest

from gateway.clock import ClockReading
from gateway.io.store.readings import ReadingStore
from gateway.model import Measurement, Sample
from gateway.recorder import Recorder
from tests.audit import Account, audit
from tests.builders import CHAIN, GATEWAY, MASTER

DECODER = "gatt.heart_rate/1"


@dataclass
class Clocks:
    """Clocks that a test sets."""

    real_ms: int = 1_764_000_000_000
    boot_ms: int = 5_000
    boot: str = "boot-1"
    synchronised: bool = True

    def read(self) -> ClockReading:
        """Read all there is to know about the time."""
        return ClockReading(
            real_ms=self.real_ms, boot_ms=self.boot_ms, boot=self.boot, synchronised=self.synchronised, error_ms=7
        )

    def times(self) -> tuple[int, int]:
        """Give wall clock and monotonic clock."""
        return self.real_ms, self.boot_ms

    def pass_by(self, ms: int) -> None:
        """Let time pass."""
        self.real_ms += ms
        self.boot_ms += ms


class Ward:
    """A folder in which a recorder can be opened, closed and opened again, as a gateway that is restarted."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "readings.db"
        self.clocks = Clocks()
        self.executor = ThreadPoolExecutor(1)
        self.stores: list[ReadingStore] = []

    async def start(self, master: bytes = MASTER, chain: str = CHAIN) -> Recorder:
        """Open the recorder as a fresh process would."""
        self.stop()
        self.stores.append(ReadingStore(str(self.file)))
        recorder = Recorder(self.stores[-1], self.executor, self.clocks, master, GATEWAY, chain)
        await recorder.open("a ledger")
        return recorder

    async def start_with_strap(self) -> Recorder:
        """Open it, with a device enrolled."""
        recorder = await self.start()
        recorder.enrol("strap-1", "heart-rate-strap", "C0:FF:EE:00:00:01")
        await recorder.commit()
        return recorder

    def stop(self) -> None:
        """Close what is open."""
        while self.stores:
            self.stores.pop().close()

    def change(self, sql: str) -> None:
        """Change the file behind the program's back."""
        connection = apsw.Connection(str(self.file))
        connection.execute(sql)
        connection.close()

    def audit(self) -> Account:
        """Close, open to read, and check all that is there."""
        self.stop()
        store = ReadingStore(str(self.file), read_only=True)
        account = audit(store)
        store.close()
        return account

    @property
    def store(self) -> ReadingStore:
        """The store that is open."""
        return self.stores[-1]


@pytest.fixture
def ward(tmp_path: Path) -> Iterator[Ward]:
    ward = Ward(tmp_path)
    yield ward
    ward.executor.shutdown()
    ward.stop()


def sample(rate: int = 72) -> Sample:
    return Sample(measurements=(Measurement(147842, rate, "/min"),), frame=bytes((0, rate)), flags=("poor-signal",))


def record(recorder: Recorder, count: int = 1, device: str = "strap-1") -> None:
    for number in range(count):
        recorder.record(device, sample(60 + number % 40), DECODER)
