"""The device's side of the Pulse Oximeter Service: a clip that measures on and on, and one for spot checks.

    04 61 00 4a 00 20 01                       2A5F: SpO2 97 %, pulse 74/min, ongoing and fully qualified
    03 61 00 4a 00 ea 07 03 01 08 00 1e 00 01  2A5E: the same, 2026-03-01 08:00:30, fully qualified

2A5F, continuous: flags, SpO2 and pulse (SFLOATs), then by flag: bit 0 a fast pair, 1 a slow pair, 2 measurement status
(16 bits), 3 device and sensor status (24 bits), 4 pulse amplitude index (SFLOAT). 2A5E, spot check: bit 0 date time,
bits 1, 2, 3 those statuses and the index, 4 the clock is not set. Measurement status: 5 ongoing, 8 fully qualified,
9 from storage. 2A60, features: bit 0 statuses, 2 stores spot checks, 3 stamps them; then the statuses that there are.
Source: Pulse Oximeter Service 1.0.1, 3.2 to 3.4. Stored checks are asked for by RACP, all of them at once.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from firmware_stubs.behaviour import RECORD_ACCESS, Behaviour, Sent, describe
from firmware_stubs.ieee11073 import Number, date_time, sfloat
from firmware_stubs.peripheral import Characteristic, Peripheral, uuid_of
from firmware_stubs.physiology import Wearer
from firmware_stubs.racp import Operator, Record, RecordStore

PLX_SPOT_CHECK_MEASUREMENT: Final = uuid_of(0x2A5E)
PLX_CONTINUOUS_MEASUREMENT: Final = uuid_of(0x2A5F)

SPOT_CHECK_MS: Final = 30_000

_FEATURES: Final = uuid_of(0x2A60)
_ONGOING: Final = 1 << 5
_QUALIFIED: Final = 1 << 8
_STORED: Final = 1 << 9
_STATUS_SUPPORTED: Final = 1 << 0
_STORES: Final = 1 << 2
_STAMPS: Final = 1 << 3
# What the clip's clock counts from until it is set.
_RESET: Final = datetime(2000, 1, 1, tzinfo=UTC)

Pair = tuple[Number, Number]


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """What both measurements may end with: measurement status, device and sensor status, pulse amplitude index."""

    status: int | None = None
    sensor_status: int | None = None
    amplitude_index: Number | None = None

    @property
    def flags(self) -> int:
        """Which of the three are there, from bit 0 up."""
        there = (self.status is not None, self.sensor_status is not None, self.amplitude_index is not None)
        return sum(bit << place for place, bit in enumerate(there))

    def __bytes__(self) -> bytes:
        status = b"" if self.status is None else self.status.to_bytes(2, "little")
        sensor = b"" if self.sensor_status is None else self.sensor_status.to_bytes(3, "little")
        return status + sensor + (b"" if self.amplitude_index is None else sfloat(self.amplitude_index))


_CONTINUOUS_QUALITY: Final = Quality(status=_ONGOING | _QUALIFIED)


def encode_plx_continuous(
    spo2_percent: Number,
    pulse_per_min: Number,
    *,
    fast: Pair | None = None,
    slow: Pair | None = None,
    quality: Quality = _CONTINUOUS_QUALITY,
) -> bytes:
    """Return a PLX Continuous Measurement (2A5F); pairs are SpO2 and pulse."""
    flags = (fast is not None) | (slow is not None) << 1 | quality.flags << 2
    pairs = ((spo2_percent, pulse_per_min), *(pair for pair in (fast, slow) if pair))
    return bytes((flags,)) + b"".join(sfloat(number) for pair in pairs for number in pair) + bytes(quality)


def encode_plx_spot_check(
    spo2_percent: Number,
    pulse_per_min: Number,
    *,
    stamp: bytes = b"",
    is_clock_set: bool = True,
    quality: Quality = Quality(),
) -> bytes:
    """Return a PLX Spot-Check Measurement (2A5E); the stamp is a date time, or nothing."""
    flags = bool(stamp) | quality.flags << 1 | (not is_clock_set) << 4
    return bytes((flags,)) + sfloat(spo2_percent) + sfloat(pulse_per_min) + stamp + bytes(quality)


def pulse_oximeter(address: str) -> Peripheral:
    """Return a finger clip: continuous SpO2 and pulse, battery, device information."""
    characteristics = (
        Characteristic(uuid=PLX_CONTINUOUS_MEASUREMENT, flags=("notify",)),
        Characteristic(
            uuid=_FEATURES, flags=("read",), value=_encode_features(_STATUS_SUPPORTED, _ONGOING | _QUALIFIED)
        ),
    )
    return describe(address, "Simulated PLX", 0x1822, characteristics)


def spot_check_oximeter(address: str) -> Peripheral:
    """Return a finger clip for spot checks: they are indicated or stored, and its clock wants to be set."""
    features = _encode_features(_STATUS_SUPPORTED | _STORES | _STAMPS, _QUALIFIED | _STORED)
    characteristics = (
        Characteristic(uuid=PLX_SPOT_CHECK_MEASUREMENT, flags=("indicate",)),
        Characteristic(uuid=_FEATURES, flags=("read",), value=features),
        Characteristic(uuid=RECORD_ACCESS, flags=("write", "indicate")),
    )
    return describe(address, "Simulated PLX spot", 0x1822, characteristics, has_clock=True)


class ContinuousOximeter(Behaviour):
    """A clip that measures once a second."""

    def __init__(self, wearer: Wearer) -> None:
        super().__init__()
        self._wearer = wearer

    def tick(self, now_ms: float) -> list[Sent]:
        """Measure."""
        super().tick(now_ms)
        self._wearer.advance(now_ms)
        value = encode_plx_continuous(self._wearer.spo2_percent, self._wearer.rate_per_min())
        return [(PLX_CONTINUOUS_MEASUREMENT, value)]


class SpotCheckOximeter(Behaviour):
    """A clip that checks every half minute: it indicates the check to who is subscribed, and stores it else."""

    def __init__(self, wearer: Wearer) -> None:
        super().__init__()
        self._wearer = wearer
        self._store = RecordStore({Operator.ALL})
        self._checks = 0
        self._is_heard = False

    def written(self, uuid: str, value: bytes) -> list[Sent]:
        """Answer to the record access control point and to the clock."""
        if uuid == RECORD_ACCESS:
            return self._store.written(value)
        return super().written(uuid, value)

    def subscribed(self, uuid: str) -> list[Sent]:
        """Note who listens to checks."""
        self._is_heard |= uuid == PLX_SPOT_CHECK_MEASUREMENT
        return super().subscribed(uuid)

    def left(self) -> None:
        """Store from now on."""
        self._is_heard = False
        self._store.left()

    def tick(self, now_ms: float) -> list[Sent]:
        """Check, when it is time to, and go on with a report."""
        super().tick(now_ms)
        self._wearer.advance(now_ms)
        sent = self._store.more()
        if now_ms < (self._checks + 1) * SPOT_CHECK_MS:
            return sent
        self._checks += 1
        if self._is_heard:
            return [*sent, self._check(_QUALIFIED)]
        self._store.add(Record(number=self._checks, report=(self._check(_QUALIFIED | _STORED),)))
        return sent

    def _check(self, status: int) -> Sent:
        moment = self.clock.read(self.now_ms)
        value = encode_plx_spot_check(
            self._wearer.spo2_percent,
            self._wearer.rate_per_min(),
            stamp=date_time(moment or _RESET + timedelta(milliseconds=self.now_ms)),
            is_clock_set=moment is not None,
            quality=Quality(status=status),
        )
        return PLX_SPOT_CHECK_MEASUREMENT, value


def _encode_features(features: int, statuses: int) -> bytes:
    return features.to_bytes(2, "little") + statuses.to_bytes(2, "little")
