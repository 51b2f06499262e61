"""The invariants of what is signed or sealed, and of what else is written down and read back.

Whatever the bytes, what passes was signed by who has the key: a leaf, a statement, a roster, a certificate, evidence
and a transparent reading are one of those that were made here, or VerificationError is raised. A payload of any bytes
that its sensor did sign is a statement or VerificationError. A sealed advertisement keeps to what whole frames promise.
Events, blocks, tips, freezes, recoveries, openings, evidence and rosters encode to the very bytes that they were read
from. A configuration is a value or ConfigError; what a device says of itself is names and printable text, or nothing.
"""

from collections.abc import Callable
from typing import Final

from firmware_stubs import bthome
from gateway import canonical, signing
from gateway.config import load_gateway, load_peer
from gateway.decode.bthome import Bthome
from gateway.decode.device_information import DEVICE_INFORMATION, read_information
from gateway.decode.features import FEATURES, describe_feature
from gateway.decode.statement import open_statement
from gateway.devices import enrolled_device
from gateway.errors import ConfigError, VerificationError
from gateway.ledger import messages, statements
from gateway.ledger.evidence import decode_evidence, encode_evidence, open_evidence
from gateway.ledger.quorum import certificate_epoch, verify_certificate
from gateway.ledger.receipt import make_transparent, verify_transparent
from gateway.ledger.roster import decode_roster, encode_roster
from gateway.ledger.rosters import open_rosters
from gateway.ledger.voting import cast_vote, sign_block
from gateway.model import Certificate, Freeze, Opening, Proposal, TipStatement, Why
from tests.builders import CHAIN, DEVICE, GATEWAY, VOTED_S, key_of, ward_chain
from tests.epochs import both_keys_of, epochs, post_quantum, receipts_of
from tests.fuzz.decoders import check_made
from tests.fuzz.readers import comes_back, is_refused_by
from tests.fuzz.seeds import STATEMENTS
from tests.fuzz.target import Target
from tests.statements import ed25519_sensor, payload_of

_PEERS: Final = ("peer-0", "peer-1", "peer-2")
_CHAIN: Final = ward_chain(3)
_ROSTERS: Final = epochs(post_quantum)
_SENSOR: Final = ed25519_sensor()
_BLOCK: Final = _CHAIN.proposals[1]
_OTHER_BLOCK: Final = ward_chain(2).proposals[1]
_TIP: Final = TipStatement(chain=CHAIN, incarnation=0, next_height=2, size=5, root=bytes(32), nonce=bytes(16))
_FREEZE: Final = Freeze(
    peer="peer-0", chain=CHAIN, incarnation=0, next_height=2, size=5, root=bytes(32), epoch=1, why=Why.EPOCH
)
_OPENING: Final = Opening(chain=CHAIN, incarnation=1, closing_digest=bytes(32))
_BIND_KEY, _ADDRESS = bytes(16), bytes(6)
_SEALED: Final = bthome.seal_bthome(
    [(bthome.Object.BATTERY_PERCENT, 100), (bthome.Object.HUMIDITY_CENTI, 50)],
    key=_BIND_KEY,
    address=_ADDRESS,
    counter=3,
)
_GATEWAY_TOML: Final = b"""id = "ward-3"
chain = "ward-3.1f0a9c21"
broker = "mqtts://broker.example:8883"
roster = "roster.cose"
[block]
leaves = 256
age_s = 10.0
[radio]
adapter = "hci0"
slots = 5
[tls]
ca = "ca.crt"
certificate = "ward-3.crt"
key = "ward-3.key"
"""
_PEER_TOML: Final = b'id = "lab"\nbroker = "mqtt://localhost"\nroster = "roster.cose"\n'


def unforged(name: str, read: Callable[[bytes], object], *sound: bytes) -> Target:
    """Make the target of a reader that checks signatures: what it gives is what one of `sound` gives."""
    signed = [read(data) for data in sound]

    def read_signed(data: bytes) -> object:
        value = read(data)
        assert value in signed, "it passes, and nobody signed it"
        return value

    return Target(name=name, check=is_refused_by(VerificationError, read_signed), seeds=sound)


def _certificate(epoch: int) -> bytes:
    """Give the certificate of a block in epoch 1, plain, or epoch 2, post-quantum."""
    keys = both_keys_of if epoch == 2 else lambda name: signing.Keys(key_of(name))
    votes = tuple(cast_vote(keys(peer), peer, epoch, _BLOCK.block, VOTED_S) for peer in _PEERS)
    signed = sign_block(keys(GATEWAY), GATEWAY, _BLOCK.block)
    return messages.encode_certificate(Certificate(proposal=signed, votes=votes))


def _proof(epoch: int) -> bytes:
    """Give a reading with its proof in epoch 1 or epoch 2."""
    enrolment, receipts = (receipts_of(_CHAIN, index, _PEERS, epoch=epoch, second=epoch == 2) for index in (1, 2))
    return make_transparent(_CHAIN.leaves[2], receipts, make_transparent(_CHAIN.leaves[1], enrolment, None))


def _evidence(first: Proposal, second: Proposal) -> bytes:
    return encode_evidence(first.signed, second.signed)


def check_sealed(data: bytes) -> None:
    """Hold the decoder of encrypted advertisements to what all decoders of whole frames promise."""
    made = Bthome(_BIND_KEY, _ADDRESS).feed(data)
    check_made("adv.bthome_v2", made)
    assert [piece.frame for piece in made] == [data], "the frame is not the bytes heard"


def check_features(data: bytes) -> None:
    """Let a device say any bytes of what it can do."""
    for characteristic in FEATURES:
        for name in describe_feature(characteristic, data):
            assert name == "".join(name.split()), f"{name!r} is no name"


def check_information(data: bytes) -> None:
    """Let a device say any bytes of what it is."""
    for characteristic in DEVICE_INFORMATION:
        said = read_information(characteristic, data)
        assert said is None or (said[1].isprintable() and 0 < len(said[1]) <= 64), f"{said!r} is no text to show"


def _read_signed_payload(data: bytes) -> object:
    said = open_statement(_SENSOR.state(data), _SENSOR.public_key)
    assert said.measurements, "a statement of nothing"
    return said


def _read_certificate(data: bytes) -> object:
    certificate = messages.decode_certificate(data)
    return verify_certificate(_ROSTERS.of_epoch(certificate_epoch(certificate)), certificate)


def _read_enrolment(data: bytes) -> object:
    return enrolled_device(canonical.decode_event(data))


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def _payload_of(leaf: bytes) -> bytes:
    return signing.parse(leaf).payload or b""


_TARGETS: Final = (
    Target(
        name="event",
        check=comes_back(canonical.decode_event, canonical.encode_event),
        seeds=tuple(_payload_of(leaf) for leaf in _CHAIN.leaves[:2]),
    ),
    Target(
        name="enrolment",
        check=is_refused_by(VerificationError, _read_enrolment),
        seeds=(_payload_of(_CHAIN.leaves[1]),),
    ),
    Target(
        name="block",
        check=comes_back(statements.decode_block, statements.encode_block),
        seeds=(statements.encode_block(_BLOCK.block),),
    ),
    Target(
        name="tip",
        check=comes_back(statements.decode_tip, statements.encode_tip),
        seeds=(statements.encode_tip(_TIP),),
    ),
    Target(
        name="freeze",
        check=comes_back(lambda data: statements.decode_freeze(data, "peer-0"), statements.encode_freeze),
        seeds=(statements.encode_freeze(_FREEZE),),
    ),
    Target(
        name="recovery",
        check=comes_back(statements.decode_recovery, lambda said: statements.encode_recovery(*said)),
        seeds=(statements.encode_recovery(CHAIN, 0),),
    ),
    Target(
        name="opening",
        check=comes_back(statements.decode_opening, statements.encode_opening),
        seeds=(statements.encode_opening(_OPENING),),
    ),
    Target(
        name="evidence",
        check=comes_back(decode_evidence, lambda pair: encode_evidence(*pair)),
        seeds=(_evidence(_BLOCK, _OTHER_BLOCK),),
    ),
    Target(
        name="roster",
        check=comes_back(decode_roster, encode_roster),
        seeds=tuple(encode_roster(roster) for roster in _ROSTERS.versions),
    ),
    unforged("signed.leaf", lambda data: signing.verify(data, key_of(DEVICE).public_key).payload, _CHAIN.leaves[2]),
    unforged("signed.statement", lambda data: open_statement(data, _SENSOR.public_key), STATEMENTS[0]),
    Target(
        name="signed.payload",
        check=is_refused_by(VerificationError, _read_signed_payload),
        seeds=tuple(_payload_of(_SENSOR.state(payload)) for payload in (payload_of(), payload_of(f8=1, f9=["a"]))),
    ),
    unforged("signed.roster", open_rosters, _ROSTERS.encode()),
    unforged("signed.certificate", _read_certificate, _certificate(1), _certificate(2)),
    unforged(
        "signed.evidence",
        lambda data: open_evidence(_ROSTERS.current, *decode_evidence(data)).contradiction,
        _evidence(_BLOCK, _OTHER_BLOCK),
    ),
    unforged(
        "signed.proof",
        lambda data: verify_transparent(data, _ROSTERS).entry,
        _proof(1),
        _proof(2),
        _CHAIN.transparent_event(1, _PEERS),
    ),
    Target(name="sealed.bthome_v2", check=check_sealed, seeds=(_SEALED,)),
    Target(
        name="features", check=check_features, seeds=(b"\x48\x00", b"\x3f\x00\x00\x00", b"\x6e\x9e\x01\x16\x8a\xc1")
    ),
    Target(name="information", check=check_information, seeds=(b"H10", bytes.fromhex("025c0a34121001"), b"\x01" * 8)),
    Target(
        name="config.gateway",
        check=is_refused_by(ConfigError, lambda data: load_gateway(_text(data), "gateway.toml")),
        seeds=(_GATEWAY_TOML,),
    ),
    Target(
        name="config.peer",
        check=is_refused_by(ConfigError, lambda data: load_peer(_text(data), "peer.toml")),
        seeds=(_PEER_TOML,),
    ),
)
SIGNED_TARGETS: Final = {target.name: target for target in _TARGETS}
