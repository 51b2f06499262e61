"""What many tests build on: a ledger in memory with real keys, a chain written to it, and the proofs of its leaves."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal

from hypothesis import strategies as st

from gateway import canonical, merkle, signing
from gateway.block import Head, next_block
from gateway.devices import Device, enrolment_details
from gateway.ledger.policy import default_policy
from gateway.ledger.receipt import make_receipt, make_transparent
from gateway.ledger.roster import ledger_name, open_version, sign_version
from gateway.ledger.rosters import Rosters
from gateway.ledger.voting import cast_vote, sign_block
from gateway.model import (
    Block,
    Event,
    EventKind,
    Instant,
    Measurement,
    Member,
    Policy,
    Proposal,
    Reading,
    Roster,
    Waveform,
)

CHAIN = "ward-3.1f0a9c21"
GATEWAY = "ward-3"
DEVICE = "strap-1"
SEALED_MS = 1_764_000_000_000
VOTED_S = 1_764_000_060
SALT = bytes(range(16))

MASTER = b"a master secret for tests only.."


def key_of(name: str, generation: int = 1) -> signing.Key:
    """Give the test key of that name; the same name is always the same key."""
    return signing.derive_key(MASTER, "test", name, generation)


def keys_of(name: str, generation: int = 1) -> signing.Keys:
    """Give the test keys of that name with which blobs are signed."""
    return signing.Keys(key_of(name, generation))


def member(name: str, chain: str | None = None) -> Member:
    """Give a member of the roster whose key is `key_of(name)`."""
    return Member(id=name, organisation=f"{name}.example", public_key=key_of(name).public_key, chain=chain)


def make_roster(peers: int = 4, *, epoch: int = 1, quorum: int | None = None) -> Roster:
    """Give a signed roster: one administrator, peers peer-0 to peer-n, one gateway."""
    administrators = (member("admin"),)
    voters = tuple(member(f"peer-{number}") for number in range(peers))
    roster = Roster(
        ledger=ledger_name(administrators),
        version=1,
        epoch=epoch,
        policy=default_policy(voters) if quorum is None else flat(quorum, voters),
        administrators=administrators,
        peers=voters,
        gateways=(member(GATEWAY, CHAIN),),
    )
    return signed_again(roster)


def flat(threshold: int, peers: Sequence[Member]) -> Policy:
    """Give the policy that so many of these peers meet, each counting once."""
    return Policy(threshold=threshold, of=tuple(peer.id for peer in peers))


def signed_again(roster: Roster) -> Roster:
    """Give a roster, changed by a test, as its administrators would have signed it."""
    keys = {administrator.id: keys_of(administrator.id) for administrator in roster.administrators}
    return open_version(sign_version(replace(roster, signed=b""), keys))


def alone(roster: Roster) -> Rosters:
    """Give a roster as the only version that is known."""
    return Rosters((roster,))


def make_reading(sequence: int = 1, value: int | Decimal | Waveform = 72, *, salt: bytes = SALT) -> Reading:
    """Give a heart rate as the strap would have sent it."""
    return Reading(
        sequence=sequence,
        at=Instant(real_ms=SEALED_MS - 1000 + sequence, epoch=1, monotonic_ms=sequence),
        measurements=(Measurement(147842, value, "/min"),),
        frame=b"\x00\x48",
        decoder="gatt.heart_rate/1",
        salt=salt,
    )


def reading_leaf(reading: Reading, device: str = DEVICE, chain: str = CHAIN) -> bytes:
    """Give a reading signed by its device's key."""
    key = key_of(device)
    header = canonical.signer_header(canonical.READING_TYPE, key.kid, device, chain)
    return signing.sign(key, header, canonical.encode_reading(reading))


def make_event(kind: EventKind, details: dict[str, int | str | bytes | bool], sequence: int = 1) -> Event:
    """Give an entry of the audit trail."""
    at = Instant(real_ms=SEALED_MS - 1000, epoch=1, monotonic_ms=0)
    return Event(sequence=sequence, at=at, kind=kind, details=details, salt=SALT)


def event_leaf(event: Event, gateway: str = GATEWAY, chain: str = CHAIN) -> bytes:
    """Give an event signed by the gateway's key."""
    key = key_of(gateway)
    header = canonical.signer_header(canonical.EVENT_TYPE, key.kid, gateway, chain)
    return signing.sign(key, header, canonical.encode_event(event))


def enrolment_leaf(device: str = DEVICE, sequence: int = 2) -> bytes:
    """Give the event by which the gateway enrols a device."""
    enrolled = Device(
        id=device,
        profile="heart-rate-strap",
        address="C0:FF:EE:00:00:01",
        public_key=key_of(device).public_key,
        generation=1,
    )
    return event_leaf(make_event(EventKind.DEVICE_ENROLLED, enrolment_details(enrolled), sequence))


def genesis_leaf() -> bytes:
    """Give leaf 0 of a chain."""
    return event_leaf(make_event(EventKind.GENESIS, {"ledger": "test", "incarnation": 0}))


@dataclass
class Chain:
    """A gateway's chain in memory: every leaf, every sealed block with its signed proposal."""

    leaves: list[bytes] = field(default_factory=list)
    head: Head = field(default_factory=lambda: Head(chain=CHAIN))
    proposals: list[Proposal] = field(default_factory=list)

    def hashes(self, start: int = 0, stop: int | None = None) -> list[bytes]:
        """Give the leaf hashes of [start, stop)."""
        return [merkle.leaf_hash(leaf) for leaf in self.leaves[start:stop]]

    def seal(self, *leaves: bytes) -> Proposal:
        """Add leaves and seal them into a block of their own."""
        start = len(self.leaves)
        self.leaves += leaves
        block, self.head = next_block(self.head, self.hashes(start), 0, SEALED_MS)
        proposal = propose(block, self.hashes(start))
        self.proposals.append(proposal)
        return proposal

    def fork(self) -> "Chain":
        """Give a copy that can go on differently."""
        return Chain(list(self.leaves), self.head, list(self.proposals))

    def block_of(self, index: int) -> Block:
        """Give the block in which a leaf was sealed."""
        return next(proposal.block for proposal in self.proposals if index < proposal.block.size)

    def receipts(self, index: int, peers: Sequence[str], epoch: int = 1) -> list[bytes]:
        """Give the receipts of a leaf by these peers."""
        block = self.block_of(index)
        path = merkle.inclusion_path(self.hashes(0, block.size), index)
        return [
            make_receipt(cast_vote(keys_of(peer), peer, epoch, block, VOTED_S), index, block.size, path)
            for peer in peers
        ]

    def transparent_event(self, index: int, peers: Sequence[str], epoch: int = 1) -> bytes:
        """Give the event at that index with its receipts by these peers."""
        return make_transparent(self.leaves[index], self.receipts(index, peers, epoch), None)

    def transparent_reading(self, index: int, enrolment: int, peers: Sequence[str], epoch: int = 1) -> bytes:
        """Give the reading at `index`, with the enrolment at `enrolment`, both with receipts by these peers."""
        proof = self.transparent_event(enrolment, peers, epoch)
        return make_transparent(self.leaves[index], self.receipts(index, peers, epoch), proof)


def propose(block: Block, hashes: Sequence[bytes], gateway: str = GATEWAY) -> Proposal:
    """Give a block as its gateway proposes it."""
    return Proposal(block=block, signed=sign_block(keys_of(gateway), gateway, block), hashes=tuple(hashes))


def ward_chain(readings: int = 5) -> Chain:
    """Give a chain of two blocks: genesis and the strap's enrolment (0, 1), then this many readings (from 2 on)."""
    chain = Chain()
    chain.seal(genesis_leaf(), enrolment_leaf())
    chain.seal(*[reading_leaf(make_reading(sequence, 60 + sequence)) for sequence in range(1, readings + 1)])
    return chain


NATURALS = st.integers(0, 2**64 - 1)
INTEGERS = st.integers(-(2**64), 2**64 - 1)
TEXTS = st.text(max_size=40)
DECIMALS = st.builds(
    lambda mantissa, exponent: Decimal(mantissa).scaleb(exponent), st.integers(-(2**63), 2**63), st.integers(-40, 40)
)
INSTANTS = st.builds(Instant, real_ms=st.integers(-(2**63), 2**63), epoch=NATURALS, monotonic_ms=NATURALS)
WAVEFORMS = st.builds(
    Waveform, period_ns=NATURALS, scale=st.integers(-20, 20), samples=st.lists(INTEGERS, max_size=80).map(tuple)
)
MEASUREMENTS = st.builds(Measurement, NATURALS, INTEGERS | DECIMALS | WAVEFORMS, TEXTS)
READINGS = st.builds(
    Reading,
    sequence=NATURALS,
    at=INSTANTS,
    measurements=st.lists(MEASUREMENTS, max_size=30).map(tuple),
    frame=st.binary(max_size=512),
    decoder=TEXTS,
    salt=st.binary(min_size=16, max_size=16),
    device_time_ms=st.none() | INTEGERS,
    flags=st.lists(TEXTS, max_size=30).map(tuple),
    statement=st.none() | st.binary(max_size=300),
)
EVENTS = st.builds(
    Event,
    sequence=NATURALS,
    at=INSTANTS,
    kind=st.sampled_from(EventKind),
    details=st.dictionaries(TEXTS, INTEGERS | TEXTS | st.binary(max_size=80) | st.booleans(), max_size=6),
    salt=st.binary(min_size=16, max_size=16),
)
