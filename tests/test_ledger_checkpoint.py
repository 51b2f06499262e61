import base64
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import signing
from gateway.errors import VerificationError
from gateway.ledger.checkpoint import (
    COSIGNER,
    LOG,
    NOTE_LIMIT,
    Checkpoint,
    Note,
    NoteKey,
    NoteSignature,
    cosign,
    gateway_key,
    origin,
    parse_checkpoint,
    parse_note,
    parse_origin,
    peer_key,
    sign_as_log,
    verify_checkpoint,
    verify_known,
    verify_line,
)
from tests.builders import CHAIN, GATEWAY, VOTED_S, alone, flat, key_of, make_roster, ward_chain
from tests.epochs import epochs, full_member

ROSTER = make_roster()
ROSTERS = alone(ROSTER)
BLOCK = ward_chain().proposals[-1].block
HEAD = Checkpoint(origin(ROSTER.ledger, CHAIN), BLOCK.size, BLOCK.root)
TEXT = str(HEAD)
LOG_LINE = sign_as_log(key_of(GATEWAY), HEAD.origin, TEXT)

# The example of c2sp.org/signed-note, and that of golang.org/x/mod/sumdb/note (note_test.go) with its private key.
FOO_KEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
FOO_NOTE = """\
This is an example message.

— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=
"""
PETER_SEED = base64.b64decode("AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz")[1:]
PETER_KEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
PETER_NOTE = """\
If you think cryptography is the answer to your problem,
then you don't know what your problem is.

— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=
"""

# A checkpoint of a public log, cosigned by public witnesses; their keys are published by their operators.
PUBLIC_NOTE = """\
arche2025h1.staging.ct.transparency.dev
1432088532
U7WM79jrzyhGZ5/GUBTpM7NzwdyfFx61t3RovgcC4Ro=

— arche2025h1.staging.ct.transparency.dev zTM8sQAAAZ5W0WdjBAMARjBEAiBjW5IQf9pvsYLfQFX6hoGREPMHbdQ3urbllzalApkptQIgIpwtEroeW2BXaHAI4kJXFbon5Ch9MNL5zRNZ55lvGt0=
— arche2025h1.staging.ct.transparency.dev ui8GwCF1+kWqZrxGdhj4aX3gcw7XUlXQQabg/27lefwhUkzbC3NygNI75MdhL1bfTW9g8Ei59RA23oHP7Ry1k3ZFWwQ=
— transparency.dev/DEV:witness-little-garden 2AQqhwAAAABqEiEgzgFIqqhbUoDwjMWE6UP8nd8/KYTzwZ2rhIgcqoXHAwVkjZr4AscylP3v7sEodkRAErumC2q44vdgJY096st5BQ==
— witness1.smartit.nu/witness1 pIyCDwAAAABqEiEghIp82KWebrw7/oHQwlTAm3g2RKS4+eebl8eO0WH+/iEcxZ75W3u5hNI7TOQtmJbqmNWVuE0tgh0XwzdZsDsUAQ==
— remora.n621.de 2net5wAAAABqEiEgPlfF3V06o0Y+fHM+J5J9s27wgxxcOVSpZ/2g/KSiXCg9DEZI+aVCIobWX9sXTynk5XeU/zZ0WBxtqB0DrAWfBw==
— witness.stagemole.eu Z/euoAAAAABqEiEgw0i+7g2ENfDAWHmtRzCfKTHSDwYDJA2NmKeGi9Y8FtEyOUvVr+AJmIY/2TUFucgKi7lI7cUiOvKFYe/TmN9DAg==
"""  # noqa: E501 - as it was published
PUBLIC_LOG = "arche2025h1.staging.ct.transparency.dev+ba2f06c0+AU0vHmlGCS/PdN8b2OaGmKprLI8HKM+dJ472xgFYh15f"
PUBLIC_WITNESSES = [
    "transparency.dev/DEV:witness-little-garden+d8042a87+BCtusOxINQNUTN5Oj8HObRkh2yHf/MwYaGX4CPdiVEPM",
    "witness1.smartit.nu/witness1+a48c820f+BPSFWg9G6KPiO7QPryYO5Xq4oYJJ+kAvLKLSimDhoxMO",
    "remora.n621.de+da77ade7+BOvN63jn/bLvkieywe8R6UYAtVtNbZpXh34x7onlmtw2",
    "witness.stagemole.eu+67f7aea0+BEqSG3yu9YrmcM3BHvQYTxwFj3uSWakQepafafpUqklv",
]


def key_from(vkey: str) -> NoteKey:
    """Read a verifier key; its own key id is checked by whoever compares the text."""
    name, _, material = vkey.split("+", 2)
    data = base64.b64decode(material)
    return NoteKey(name, data[0], data[1:])


def by_peer(peer: str, time_s: int = VOTED_S, text: str = TEXT) -> NoteSignature:
    return cosign(key_of(peer), f"{peer}.{ROSTER.ledger}", text, time_s)


def note_of(*lines: NoteSignature, text: str = TEXT) -> Note:
    return Note(text, lines)


def line_of(note: Note, key: NoteKey) -> NoteSignature:
    (line,) = [line for line in note.signatures if (line.name, line.key_id) == (key.name, key.id)]
    return line


# -- what others published


@pytest.mark.parametrize(("vkey", "text"), [(FOO_KEY, FOO_NOTE), (PETER_KEY, PETER_NOTE), (PUBLIC_LOG, PUBLIC_NOTE)])
def test_published_notes_verify(vkey: str, text: str) -> None:
    """Notes of the specification, of Go's own tests and of a public log hold, and are written as they were read."""
    key, note = key_from(vkey), parse_note(text.encode())
    assert str(key) == vkey
    assert verify_line(key, note.text, line_of(note, key)) is None
    assert note.encode() == text.encode()
    with pytest.raises(VerificationError, match="does not hold"):
        verify_line(key, note.text + "\n", line_of(note, key))


@pytest.mark.parametrize("vkey", PUBLIC_WITNESSES)
def test_cosignatures_of_public_witnesses_verify(vkey: str) -> None:
    """What public witnesses signed holds by their published keys, and says when."""
    key, note = key_from(vkey), parse_note(PUBLIC_NOTE.encode())
    assert str(key) == vkey
    assert verify_line(key, note.text, line_of(note, key)) == 1779573024
    assert str(parse_checkpoint(note.text)) == note.text
    with pytest.raises(VerificationError, match="does not hold"):
        verify_line(key, note.text.replace("1432088532", "1432088533"), line_of(note, key))


def test_signature_is_byte_for_byte_that_of_go() -> None:
    """The published private key gives, over the published text, the published signature line and verifier key."""
    text, _, line = PETER_NOTE.partition("\n\n")
    key = signing.Key(PETER_SEED)
    assert str(sign_as_log(key, "PeterNeumann", text + "\n")) == line.rstrip("\n")
    assert str(NoteKey("PeterNeumann", LOG, key.public_key)) == PETER_KEY


def test_example_of_the_specification_is_read() -> None:
    """The checkpoint that c2sp.org/tlog-cosignature shows, whose keys nobody published, is read and written."""
    text = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
    witness = "jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA=="
    log = "Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8="
    data = f"{text}\n— example.com/behind-the-sofa {log}\n— witness.example.com/w1 {witness}\n".encode()
    note = parse_note(data)
    assert parse_checkpoint(note.text).size == 20852163
    assert int.from_bytes(note.signatures[1].signature[:8], "big") == 1679315147
    assert note.encode() == data


# -- what we sign


def test_note_is_written_as_the_specification_says() -> None:
    """Origin, size and root, an empty line, the gateway by the origin and the peer by its name; keys by type."""
    lines = note_of(LOG_LINE, by_peer("peer-0")).encode().decode().split("\n")
    root = base64.b64encode(BLOCK.root).decode()
    assert lines[:4] == [f"{ROSTER.ledger}/{CHAIN}", "7", root, ""]
    assert lines[4].startswith(f"— {ROSTER.ledger}/{CHAIN} ")
    assert lines[5].startswith(f"— peer-0.{ROSTER.ledger} ")
    assert lines[6:] == [""]
    vkeys = [str(gateway_key(ROSTER.ledger, ROSTER.gateways[0])), str(peer_key(ROSTER.ledger, ROSTER.peers[0]))]
    assert [base64.b64decode(vkey.split("+", 2)[2])[0] for vkey in vkeys] == [LOG, COSIGNER]


def test_quorum_makes_a_checkpoint() -> None:
    """The gateway and three of four peers, in any order and among strangers, are who signed; each states a time."""
    stranger = by_peer("stranger")
    lines = [by_peer("peer-2", VOTED_S + 2), stranger, by_peer("peer-0"), LOG_LINE, by_peer("peer-3", VOTED_S + 3)]
    signers = verify_checkpoint(ROSTERS, note_of(*lines).encode())
    assert (signers.checkpoint, signers.gateway.id, signers.unknown) == (HEAD, GATEWAY, 1)
    assert signers.roster == ROSTER
    assert signers.cosigned_s == {"peer-0": VOTED_S, "peer-2": VOTED_S + 2, "peer-3": VOTED_S + 3}


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ([by_peer("peer-0"), by_peer("peer-1"), by_peer("peer-2")], "the signature of gateway ward-3 is missing"),
        (
            [LOG_LINE, by_peer("peer-1"), by_peer("peer-0")],
            "2 of 4 have cosigned, 3 are needed",
        ),
        ([LOG_LINE, by_peer("stranger")], "0 of 4 have cosigned, 3 are needed"),
        ([LOG_LINE, *[by_peer("peer-0", VOTED_S + late) for late in range(3)]], "1 of 4 have cosigned"),
        ([LOG_LINE, replace(by_peer("peer-1"), signature=bytes(72))], "of peer-1.* does not hold"),
        (
            [LOG_LINE, replace(by_peer("peer-1"), signature=LOG_LINE.signature)],
            "of peer-1.* no time that can be|not Ed",
        ),
        ([LOG_LINE, replace(by_peer("peer-1"), signature=b"\xff" * 72)], "of no time that can be"),
        ([replace(LOG_LINE, signature=LOG_LINE.signature[:-1])], "is not Ed25519"),
        ([replace(LOG_LINE, signature=by_peer("peer-0").signature[8:])], "does not hold"),
    ],
)
def test_note_that_proves_too_little_is_refused(lines: list[NoteSignature], reason: str) -> None:
    """Too few signers, one who counts twice, or a known key's line that does not hold: the whole note is refused."""
    with pytest.raises(VerificationError, match=reason):
        verify_checkpoint(ROSTERS, note_of(*lines).encode())


def test_other_ledgers_and_chains_are_refused() -> None:
    """A note is judged by the roster of its own ledger, which must know its chain."""
    for name, reason in ((f"0123/{CHAIN}", "the roster of"), (f"{ROSTER.ledger}/ward-9", "writes chain 'ward-9'")):
        text = str(replace(HEAD, origin=name))
        with pytest.raises(VerificationError, match=reason):
            verify_known(ROSTER, note_of(sign_as_log(key_of(GATEWAY), name, text), text=text))


def head_of(ledger: str, incarnation: int = 0) -> Checkpoint:
    return Checkpoint(origin(ledger, CHAIN, incarnation), BLOCK.size, BLOCK.root)


def note_by(head: Checkpoint, gateway: signing.Key, ledger: str, *peers: str) -> bytes:
    """Give the note of a head by a gateway's key and these peers."""
    lines = [cosign(key_of(peer), f"{peer}.{ledger}", str(head), VOTED_S) for peer in peers]
    return note_of(sign_as_log(gateway, head.origin, str(head)), *lines, text=str(head)).encode()


PEERS = ("peer-0", "peer-1", "peer-2")


def test_each_incarnation_is_a_log_of_its_own() -> None:
    """The first has the chain's name, a later one its number behind it; none is taken for another."""
    heads = [head_of(ROSTER.ledger, incarnation) for incarnation in (0, 1, 12)]
    names = [f"{ROSTER.ledger}/{CHAIN}", f"{ROSTER.ledger}/{CHAIN}/1", f"{ROSTER.ledger}/{CHAIN}/12"]
    assert [head.origin for head in heads] == names
    keys = {gateway_key(ROSTER.ledger, ROSTER.gateways[0], incarnation).id for incarnation in (0, 1, 12)}
    assert len(keys) == 3
    for head in heads:
        signers = verify_checkpoint(ROSTERS, note_by(head, key_of(GATEWAY), ROSTER.ledger, *PEERS))
        assert (signers.checkpoint, signers.gateway.id) == (head, GATEWAY)
    note = parse_note(note_by(heads[1], key_of(GATEWAY), ROSTER.ledger, *PEERS))
    with pytest.raises(VerificationError, match="does not hold"):
        verify_known(ROSTER, Note(TEXT, (replace(note.signatures[0], name=HEAD.origin, key_id=LOG_LINE.key_id),)))
    with pytest.raises(VerificationError, match="gateway ward-3 is missing"):
        verify_checkpoint(ROSTERS, Note(str(heads[2]), note.signatures[:1]).encode())


@given(st.from_regex(r"[0-9a-f]{16}", fullmatch=True), st.integers(0, 2**60))
def test_names_of_logs_are_read_back(ledger: str, incarnation: int) -> None:
    """Ledger, chain and incarnation come out of a name as they went in."""
    assert parse_origin(origin(ledger, CHAIN, incarnation)) == (ledger, CHAIN, incarnation)


@pytest.mark.parametrize("name", ["", "a", "a/b/", "a/b/0", "a/b/01", "a/b/-1", "a/b/one", "a/b/1/2", "a/b/\u0661"])
def test_what_is_no_chains_name_is_refused(name: str) -> None:
    """There is one way to write a chain's incarnation."""
    with pytest.raises(VerificationError, match="which is no chain's name"):
        parse_origin(name)


def test_note_of_an_earlier_epoch_holds_by_its_roster() -> None:
    """Who signed years ago may have left since: a note holds by the latest version that will do, and says which."""
    former = (key_of(GATEWAY).public_key,)
    gateway = replace(full_member(GATEWAY, CHAIN), public_key=key_of(GATEWAY, 2).public_key, former_keys=former)
    peers = tuple(full_member(f"new-{number}") for number in range(4))
    rosters = epochs(
        lambda roster: replace(roster, gateways=(gateway,)),
        lambda roster: replace(roster, peers=peers, policy=flat(3, peers)),
        lambda roster: replace(roster, gateways=()),
    )
    ledger = rosters.current.ledger
    head, later = head_of(ledger), ("new-0", "new-1", "new-2")
    for generation, names, epoch in ((1, PEERS, 1), (2, PEERS, 2), (2, later, 3)):
        note = note_by(head, key_of(GATEWAY, generation), ledger, *names)
        assert verify_checkpoint(rosters, note).roster.epoch == epoch
    for generation, names in ((1, later), (2, (*PEERS[:2], "new-0"))):
        with pytest.raises(VerificationError, match=r"is missing|1 of 4 have cosigned"):
            verify_checkpoint(rosters, note_by(head, key_of(GATEWAY, generation), ledger, *names))
    with pytest.raises(VerificationError, match="no gateway on the roster writes chain 'ward-9'"):
        verify_checkpoint(rosters, note_of(LOG_LINE, text=str(replace(head, origin=f"{ledger}/ward-9"))).encode())


def test_known_key_is_known_by_name_and_id_together() -> None:
    """A line that shares only the name or only the id of a known key is a stranger's, and ignored."""
    renamed = replace(by_peer("peer-0"), name="peer-9.other")
    rekeyed = replace(by_peer("peer-1"), key_id=bytes(4))
    signers = verify_known(ROSTER, note_of(LOG_LINE, renamed, rekeyed))
    assert (signers.by_gateway, signers.cosigned_s, signers.unknown) == (True, {}, 2)
    with pytest.raises(VerificationError, match="is not by key"):
        verify_line(peer_key(ROSTER.ledger, ROSTER.peers[0]), TEXT, renamed)


def test_extension_lines_are_signed_and_say_nothing() -> None:
    """A note of others may have lines after its root: they are covered by signatures and read over."""
    text = TEXT + "an extension\n"
    signers = verify_known(ROSTER, note_of(sign_as_log(key_of(GATEWAY), HEAD.origin, text), text=text))
    assert (signers.checkpoint, signers.by_gateway) == (HEAD, True)
    with pytest.raises(VerificationError, match="does not hold"):
        verify_known(ROSTER, note_of(LOG_LINE, text=text))


def test_second_signature_by_a_key_takes_the_place_of_the_first() -> None:
    """Who signs again, later, has one line, and the lines of others stay as they are."""
    note = note_of(by_peer("peer-0"), LOG_LINE).signed(by_peer("peer-0", VOTED_S + 9))
    assert note == note_of(LOG_LINE, by_peer("peer-0", VOTED_S + 9))


def test_vote_and_cosignature_cannot_be_taken_for_each_other() -> None:
    """A vote's bytes are no UTF-8, so no note has them; a cosignature's are no Sig_structure."""
    signed = b"\x84\x6aSignature1"
    with pytest.raises(UnicodeDecodeError):
        signed.decode()
    assert not f"cosignature/v1\ntime {VOTED_S}\n{TEXT}".encode().startswith(signed)
    assert not set(ROSTER.ledger) - set("0123456789abcdef")


# -- malformed

MALFORMED = {
    "empty": b"",
    "no signature": TEXT.encode(),
    "no line after the gap": TEXT.encode() + b"\n",
    "no newline at the end": note_of(LOG_LINE).encode()[:-1],
    "no dash": note_of(LOG_LINE).encode().replace("— ".encode(), b"- "),
    "no name": note_of(replace(LOG_LINE, name="")).encode(),
    "plus in a name": note_of(replace(LOG_LINE, name="a+b")).encode(),
    "space in a name": note_of(replace(LOG_LINE, name="a b")).encode(),
    "wide space in a name": note_of(replace(LOG_LINE, name="a\u3000b")).encode(),
    "no signature bytes": note_of(replace(LOG_LINE, signature=b"")).encode(),
    "no base64": note_of(LOG_LINE).encode()[:-4] + b"!=\n",
    "base64 with idle bits": note_of(LOG_LINE).encode()[:-3] + b"x=\n",
    "tab": note_of(LOG_LINE).encode().replace(b"/", b"\t", 1),
    "carriage return": note_of(LOG_LINE).encode().replace(b"\n", b"\r\n"),
    "not UTF-8": b"\xff" + note_of(LOG_LINE).encode(),
    "too long": TEXT.encode() + bytes(NOTE_LIMIT),
}


@pytest.mark.parametrize("what", MALFORMED)
def test_malformed_note_is_refused(what: str) -> None:
    """Whatever is not exactly a signed note is none."""
    with pytest.raises(VerificationError):
        parse_note(MALFORMED[what])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        TEXT[:-1],
        TEXT + "\n",
        "\n" + TEXT,
        TEXT.replace("\n7\n", "\n07\n"),
        TEXT.replace("\n7\n", "\n+7\n"),
        TEXT.replace("\n7\n", "\n-7\n"),
        TEXT.replace("\n7\n", "\n\u0667\n"),
        TEXT.replace("\n7\n", f"\n{1 << 63}\n"),
        TEXT.replace("\n7\n", f"\n{'9' * 9999}\n"),
        TEXT.replace("\n7\n", "\n\n"),
        TEXT.replace("=", ""),
        f"{HEAD.origin}\n7\nAAAA\n",
        f"{HEAD.origin}\n7\n",
    ],
)
def test_malformed_checkpoint_is_refused(text: str) -> None:
    """Whatever is not exactly origin, size and root is no checkpoint."""
    with pytest.raises(VerificationError):
        parse_checkpoint(text)


@given(st.binary(max_size=300) | st.text(max_size=300).map(str.encode))
def test_garbage_is_refused_and_never_more(data: bytes) -> None:
    """Any bytes are a note or raise VerificationError; what is read is written back as it was."""
    try:
        note = parse_note(data)
    except VerificationError:
        return
    assert note.encode() == data


@given(st.data())
def test_damaged_note_proves_nothing_new(data: st.DataObject) -> None:
    """A sound note with bytes changed either is refused, or says what it said before of fewer signers at most."""
    sound = bytearray(note_of(LOG_LINE, *[by_peer(f"peer-{number}") for number in range(4)]).encode())
    for at in data.draw(st.sets(st.integers(0, len(sound) - 1), min_size=1, max_size=3)):
        sound[at] = data.draw(st.integers(0, 255))
    try:
        signers = verify_checkpoint(ROSTERS, bytes(sound))
    except VerificationError:
        return
    assert signers.checkpoint == HEAD
    assert set(signers.cosigned_s.values()) == {VOTED_S}


NAMES = st.from_regex(r"[A-Za-z0-9_-][A-Za-z0-9_./-]{0,30}", fullmatch=True)


@given(
    name=NAMES,
    size=st.integers(0, 2**63 - 1),
    root=st.binary(min_size=32, max_size=32),
    time_s=st.integers(0, 2**63 - 1),
    seed=st.binary(min_size=32, max_size=32),
)
def test_what_is_written_is_read_back(name: str, size: int, root: bytes, time_s: int, seed: bytes) -> None:
    """Any head is read back as it was written, and the signatures on it hold, with the time that they state."""
    head, key = Checkpoint(name, size, root), signing.Key(seed)
    note = Note(str(head), (sign_as_log(key, name, str(head)), cosign(key, "peer.x", str(head), time_s)))
    found = parse_note(note.encode())
    assert (found, parse_checkpoint(found.text)) == (note, head)
    assert verify_line(NoteKey(name, LOG, key.public_key), found.text, found.signatures[0]) is None
    assert verify_line(NoteKey("peer.x", COSIGNER, key.public_key), found.text, found.signatures[1]) == time_s
