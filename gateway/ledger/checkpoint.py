"""The head of a chain as a checkpoint, which public witnesses and their tools read (c2sp.org/tlog-checkpoint).

    84c6c06b186fabfe/ward-3.1f0a9c21
    7
    0d+7RGNKbtLhCDmPFfl+ncVXGYbghaghOz8YZKx0JxE=

    — 84c6c06b186fabfe/ward-3.1f0a9c21 D7YmnyBiGjxUYexUBTir7jekjvPElm4b+Bxr+QANZVD95KNlX09iR4egVeEgazuvX4QGu8HOK...
    — peer-0.84c6c06b186fabfe dRDAjAAAAABpJIE8qakWlZvx7njSulh63o86BBeNW6PpCLuEG6Y4rQFiZaLtGvfwA72IwnoO1Jlh5nnVB...

    note    = text, an empty line, + signature line         ; c2sp.org/signed-note, UTF-8
    text    = origin, leaves in decimal, base64(root), each with its newline; extension lines are read only
    origin  = ledger "/" chain                              ; of incarnation 0
            / ledger "/" chain "/" incarnation              ; in decimal, of a later one
    line    = "— " name " " base64(key id || signature)
    key id  = SHA-256(name || 0x0A || type || public key)[:4]
    vkey    = name "+" key id in hex "+" base64(type || public key)
    gateway   type 0x01, its name is the origin: Ed25519 over the text
    peer      type 0x04 (c2sp.org/tlog-cosignature), peer "." ledger: u64 POSIX time, Ed25519 over
              "cosignature/v1" 0x0A "time " time in decimal 0x0A text

A log only grows, and an incarnation begins a tree from nothing: to witnesses each is a log of its own.

No signature here can be taken for one elsewhere, or the other way round, though the keys are those of blocks and
votes. Those sign a Sig_structure (RFC 9052 4.4), whose first bytes are 0x84 0x6a; what is signed here is UTF-8, which
no byte 0x84 begins. A gateway's text begins with its ledger's name, which is hexadecimal, so it is no peer's message:
the second character of that is "o".
"""

import base64
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass

from nacl.bindings import crypto_sign_open
from nacl.exceptions import BadSignatureError

from gateway import signing
from gateway.errors import VerificationError
from gateway.ledger.policy import require
from gateway.ledger.roster import gateway_of_chain
from gateway.ledger.rosters import Rosters
from gateway.model import Member, Roster

NOTE_LIMIT = 1 << 20
"""Bytes of the longest note that is read: signed-note wants room for 16 signatures, of which none is over 5 KB."""

LOG, COSIGNER = 0x01, 0x04
_DASH = "— "
_KEY_ID_SIZE = 4
_TIME_SIZE = 8
_ROOT_SIZE = 32
_NUMBER = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)
_LIMIT = 1 << 63  # of sizes and times


@dataclass(frozen=True, slots=True)
class NoteKey:
    """A key as readers of notes know it: its name, its signature type, the raw Ed25519 key. As text, its vkey."""

    name: str
    kind: int
    public_key: bytes

    @property
    def id(self) -> bytes:
        """What stands before each of its signatures."""
        return hashlib.sha256(self.name.encode() + b"\n" + self._material).digest()[:_KEY_ID_SIZE]

    def __str__(self) -> str:
        return f"{self.name}+{self.id.hex()}+{_base64(self._material)}"

    @property
    def _material(self) -> bytes:
        return bytes((self.kind,)) + self.public_key


@dataclass(frozen=True, slots=True)
class NoteSignature:
    """A signature line taken apart, not yet checked. As text, the line."""

    name: str
    key_id: bytes
    signature: bytes

    def __str__(self) -> str:
        return f"{_DASH}{self.name} {_base64(self.key_id + self.signature)}"


@dataclass(frozen=True, slots=True)
class Note:
    """A signed note taken apart; its text means nothing until a signature was checked."""

    text: str
    signatures: tuple[NoteSignature, ...]

    def encode(self) -> bytes:
        """Give the note's bytes."""
        return "".join((self.text, "\n", *[f"{line}\n" for line in self.signatures])).encode()

    def signed(self, signature: NoteSignature) -> "Note":
        """Give the note with a signature added, in place of an earlier one by the same key."""
        others = [line for line in self.signatures if (line.name, line.key_id) != (signature.name, signature.key_id)]
        return Note(self.text, (*others, signature))


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The head of a log: whose, how many leaves, the root there (RFC 9162). As text, what is signed."""

    origin: str
    size: int
    root: bytes

    def __str__(self) -> str:
        return f"{self.origin}\n{self.size}\n{_base64(self.root)}\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Signers:
    """Who of a roster signed a checkpoint: its gateway or not, peers with the time that each states, and others."""

    roster: Roster
    checkpoint: Checkpoint
    gateway: Member
    by_gateway: bool
    cosigned_s: Mapping[str, int]
    unknown: int


# -- names and keys


def origin(ledger: str, chain: str, incarnation: int = 0) -> str:
    """Give the name of a chain's incarnation as a log."""
    return f"{ledger}/{chain}/{incarnation}" if incarnation else f"{ledger}/{chain}"


def parse_origin(name: str) -> tuple[str, str, int]:
    """Read the name of a log: ledger, chain and incarnation.

    Raises: VerificationError if it is not one of ours.
    """
    ledger, _, rest = name.partition("/")
    chain, _, number = rest.partition("/")
    incarnation = int(number) if _NUMBER.fullmatch(number) else 0
    if origin(ledger, chain, incarnation) != name:
        raise VerificationError(f"the checkpoint is of {name[:80]!r}, which is no chain's name")
    return ledger, chain, incarnation


def gateway_key(ledger: str, gateway: Member, incarnation: int = 0) -> NoteKey:
    """Give the key by which a gateway's signatures on the checkpoints of an incarnation are known."""
    return NoteKey(origin(ledger, gateway.chain or "", incarnation), LOG, gateway.public_key)


def peer_key(ledger: str, peer: Member) -> NoteKey:
    """Give the key by which a peer's cosignatures are known."""
    return NoteKey(f"{peer.id}.{ledger}", COSIGNER, peer.public_key)


# -- signing


def sign_as_log(key: signing.Key, name: str, text: str) -> NoteSignature:
    """Give a log's signature on its checkpoint (signed-note, type 0x01)."""
    return NoteSignature(name, NoteKey(name, LOG, key.public_key).id, key.sign(text.encode()))


def cosign(key: signing.Key, name: str, text: str, time_s: int) -> NoteSignature:
    """Give a cosigner's signature (tlog-cosignature, type 0x04).

    It states that at `time_s` this was the largest head of the log that the cosigner had seen, and that it is
    consistent with each before it.
    """
    signature = time_s.to_bytes(_TIME_SIZE, "big") + key.sign(_cosigned(text, time_s))
    return NoteSignature(name, NoteKey(name, COSIGNER, key.public_key).id, signature)


# -- reading


def parse_note(data: bytes) -> Note:
    """Take a signed note apart without checking a signature.

    Raises: VerificationError if it is none.
    """
    if len(data) > NOTE_LIMIT:
        raise VerificationError(f"a note of {len(data)} bytes is over {NOTE_LIMIT}")
    try:
        note = data.decode()
    except UnicodeDecodeError as error:
        raise VerificationError("not a signed note: not UTF-8") from error
    if any(character < " " and character != "\n" for character in note):
        raise VerificationError("not a signed note: it has control characters")
    text, gap, lines = note.rpartition("\n\n")
    if not gap or not lines.endswith("\n"):
        raise VerificationError("not a signed note: no signature follows an empty line")
    return Note(text + "\n", tuple(_parse_line(line) for line in lines[:-1].split("\n")))


def parse_checkpoint(text: str) -> Checkpoint:
    """Read the text of a checkpoint; extension lines say nothing to us.

    Raises: VerificationError if it is none.
    """
    match text.split("\n"):
        case [name, size, root, *extensions, ""] if name and all(extensions):
            pass
        case _:
            raise VerificationError("not a checkpoint: its text is not of three lines or more, none of them empty")
    if _NUMBER.fullmatch(size) is None or int(size) >= _LIMIT:
        raise VerificationError(f"not a checkpoint: {size[:40]!r} is no size of a tree")
    digest = _parse_base64(root)
    if len(digest) != _ROOT_SIZE:
        raise VerificationError(f"not a checkpoint: a root has {_ROOT_SIZE} bytes, not {len(digest)}")
    return Checkpoint(name, int(size), digest)


def verify_line(key: NoteKey, text: str, line: NoteSignature) -> int | None:
    """Check a signature line by this key and give the time that a cosignature states, in POSIX seconds.

    Raises: VerificationError if it does not hold.
    """
    if (line.name, line.key_id) != (key.name, key.id):
        raise VerificationError(f"the signature of {line.name[:80]!r} is not by key {key.name} {key.id.hex()}")
    if key.kind == LOG:
        _check(key, text.encode(), line.signature)
        return None
    time_s = int.from_bytes(line.signature[:_TIME_SIZE], "big")
    if time_s >= _LIMIT:
        raise VerificationError(f"the cosignature of {key.name} is of no time that can be")
    _check(key, _cosigned(text, time_s), line.signature[_TIME_SIZE:])
    return time_s


# -- against a roster


def verify_known(roster: Roster, note: Note) -> Signers:
    """Check each line of a checkpoint that is by a key of the roster, and give whose there are; others are ignored.

    Raises: VerificationError if it is no checkpoint of one of the roster's chains, or a line does not hold.
    """
    checkpoint = parse_checkpoint(note.text)
    ledger, chain, incarnation = parse_origin(checkpoint.origin)
    if ledger != roster.ledger:
        raise VerificationError(f"the checkpoint is of {checkpoint.origin[:80]!r}, the roster of {roster.ledger}")
    gateway = gateway_of_chain(roster, chain)
    log = gateway_key(ledger, gateway, incarnation)
    peers = {(key.name, key.id): (peer, key) for peer in roster.peers for key in [peer_key(ledger, peer)]}
    by_gateway, unknown, cosigned_s = False, 0, dict[str, int]()
    for line in note.signatures:
        if (line.name, line.key_id) == (log.name, log.id):
            verify_line(log, note.text, line)
            by_gateway = True
        elif (line.name, line.key_id) in peers:
            peer, key = peers[line.name, line.key_id]
            cosigned_s[peer.id] = max(verify_line(key, note.text, line) or 0, cosigned_s.get(peer.id, 0))
        else:
            unknown += 1
    return Signers(
        roster=roster,
        checkpoint=checkpoint,
        gateway=gateway,
        by_gateway=by_gateway,
        cosigned_s=cosigned_s,
        unknown=unknown,
    )


def verify_checkpoint(rosters: Rosters, data: bytes) -> Signers:
    """Check a note with a checkpoint of a chain: its gateway signed it and a quorum of peers cosigned.

    A note names no roster epoch: it holds if it does by one version of the roster, the latest that will do.
    Raises: VerificationError if not, which says what the current version, or the last with this chain, lacks.
    """
    note = parse_note(data)
    _, chain, _ = parse_origin(parse_checkpoint(note.text).origin)
    known = [roster for roster in rosters.versions if any(member.chain == chain for member in roster.gateways)]
    refusals = []
    for roster in reversed(known or rosters.versions):
        try:
            return _verify_by(roster, note)
        except VerificationError as error:
            refusals.append(error)
    raise refusals[0]


def _verify_by(roster: Roster, note: Note) -> Signers:
    signers = verify_known(roster, note)
    if not signers.by_gateway:
        raise VerificationError(f"the signature of gateway {signers.gateway.id} is missing")
    require(roster.policy, signers.cosigned_s, "cosigned")
    return signers


# -- pieces


def _cosigned(text: str, time_s: int) -> bytes:
    return f"cosignature/v1\ntime {time_s}\n{text}".encode()


def _check(key: NoteKey, message: bytes, signature: bytes) -> None:
    if len(signature) != signing.SIGNATURE_SIZE or len(key.public_key) != signing.PUBLIC_KEY_SIZE:
        raise VerificationError(f"the signature of {key.name} is not Ed25519")
    try:
        crypto_sign_open(signature + message, key.public_key)
    except (BadSignatureError, ValueError) as error:
        raise VerificationError(f"the signature of {key.name} does not hold") from error


def _parse_line(line: str) -> NoteSignature:
    name, _, encoded = line.removeprefix(_DASH).partition(" ")
    if not line.startswith(_DASH) or not name or "+" in name or any(character.isspace() for character in name):
        raise VerificationError(f"not a signed note: {line[:80]!r} is no signature line")
    data = _parse_base64(encoded)
    if len(data) <= _KEY_ID_SIZE:
        raise VerificationError(f"not a signed note: the signature of {name[:80]!r} is cut short")
    return NoteSignature(name, data[:_KEY_ID_SIZE], data[_KEY_ID_SIZE:])


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _parse_base64(text: str) -> bytes:
    """Read standard base64 (RFC 4648 4) in the one form that `_base64` writes."""
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError as error:
        raise VerificationError(f"not base64: {text[:80]!r}") from error
    if _base64(data) != text:
        raise VerificationError(f"not base64 as it is written: {text[:80]!r}")
    return data
