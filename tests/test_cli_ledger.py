import hashlib
import io
import json
import re
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway import signing
from gateway.cli import cards
from gateway.io import keyring
from gateway.ledger.policy import parse_policy, policy_items
from gateway.ledger.rosters import open_rosters
from gateway.model import Member
from tests.builders import alone, make_roster
from tests.commands import Typed, typed

__all__ = ["typed"]  # a fixture

BROKER = ("--broker", "mqtt://h:1")


def card_text(**changed: object) -> str:
    """Give a peer's card, changed."""
    keys = {"public_key": 64 * "0", "second_key": 2624 * "0"}
    return json.dumps({"kind": "peer", "id": "x", "organisation": "y", **keys, **changed})


class Ledger:
    """A ledger whose administrators each have a folder; commands as they type them."""

    def __init__(self, typed: Typed, folder: Path) -> None:
        self.typed = typed
        self.folder = folder
        assert typed("ledger", "create", "--state", folder / "alice", "--name", "alice").code == 0

    def roster(self, who: str = "alice") -> Path:
        """Give the roster as one of them has it."""
        return self.folder / who / "roster.cose"

    def draft(self, who: str = "alice") -> Path:
        """Give the draft as one of them has it."""
        return self.folder / who / "roster.draft"

    def peer(self, name: str) -> Path:
        """Set up a peer; give its card."""
        state = self.folder / name
        self.typed("peer", "init", "--state", state, "--id", name, *BROKER, "--roster", self.roster())
        return state / f"{name}.card"

    def gateway(self, name: str) -> Path:
        """Set up a gateway; give its card."""
        state = self.folder / name
        self.typed("init", "--state", state, "--id", name, *BROKER, "--roster", self.roster())
        return state / f"{name}.card"

    def administrator(self, name: str) -> Path:
        """Make an administrator's key; give the card."""
        assert self.typed("ledger", "key", "--state", self.folder / name, "--name", name).code == 0
        return self.folder / name / f"{name}.card"

    def does(self, command: str, *arguments: object, who: str = "alice") -> Any:  # noqa: ANN401 - JSON
        """Give what a command came to that has to succeed."""
        result = self.typed("ledger", command, "--state", self.folder / who, *arguments, "--json")
        assert result.code == 0, result.err
        return result.json

    def hand_over(self, to: str, of: str = "alice") -> None:
        """Copy the roster from one to the other."""
        self.roster(to).write_bytes(self.roster(of).read_bytes())


@pytest.fixture
def ledger(typed: Typed, tmp_path: Path) -> Ledger:
    """Give a ledger of one administrator, alice, with four peers and a gateway."""
    made = Ledger(typed, tmp_path)
    cards = [made.peer(name) for name in ("a", "b", "c", "d")]
    made.does("admit", *cards, made.gateway("ward"))
    return made


@pytest.fixture
def pair(ledger: Ledger) -> Ledger:
    """Give one that alice and bob have to sign both."""
    ledger.does("administrators", "alice", ledger.administrator("bob"), "--threshold", 2)
    ledger.hand_over("bob")
    ledger.does("sign", ledger.draft(), "--yes", who="bob")
    ledger.hand_over("alice", of="bob")
    return ledger


# -- joining


@pytest.mark.parametrize(
    ("card", "reason"),
    [
        ("", "not a card"),
        ("[]", "not a card"),
        ("[" * 100_000, "not a card"),
        (card_text(public_key="00"), "public_key has 1 bytes; allowed: 32"),
        (card_text(public_key="0x"), "not a card"),
        (card_text(second_key="00"), "second_key has 1 bytes; allowed: 1312"),
        (card_text(second_key=None), "not a card"),
        (card_text(kind="gateway", chain="c", second_key=64 * "0", recovery_key="00"), "recovery_key has 1 bytes"),
        (card_text(kind="gateway"), "not a card: KeyError.'chain'"),
        (card_text(kind="king"), "kind 'king'; allowed: peer, gateway, administrator"),
        (card_text(kind="administrator"), "a kind that has no place here: administrator; allowed: peer, gateway"),
        (card_text(id="a/b"), "the name 'a/b'"),
        (card_text(id=5), "not a card"),
    ],
)
def test_card_that_is_none_is_refused(typed: Typed, tmp_path: Path, card: str, reason: str) -> None:
    """A file that is no card admits nobody; the roster stays as it was."""
    typed("ledger", "create", "--state", tmp_path / "ledger")
    before = (tmp_path / "ledger" / "roster.cose").read_bytes()
    (tmp_path / "card").write_text(card)
    result = typed("ledger", "admit", "--state", tmp_path / "ledger", tmp_path / "card")
    assert (result.code, result.out, result.err.count("\n")) == (2, "", 1)
    assert re.search(reason, result.err)
    assert (tmp_path / "ledger" / "roster.cose").read_bytes() == before


def test_member_is_admitted_once(typed: Typed, tmp_path: Path) -> None:
    """A card that was admitted is refused the second time, and the roster stays as it was."""
    options = ("--id", "lab", "--broker", "mqtt://h:1", "--roster", tmp_path / "roster.cose")
    typed("ledger", "create", "--state", tmp_path / "ledger")
    typed("peer", "init", "--state", tmp_path / "lab", *options)
    admit = ("ledger", "admit", "--state", tmp_path / "ledger", tmp_path / "lab" / "lab.card")
    assert typed(*admit).code == 0
    before = (tmp_path / "ledger" / "roster.cose").read_bytes()
    result = typed(*admit)
    assert (result.code, result.out) == (2, "")
    assert result.err == "iomt: lab is on the roster already; iomt ledger rekey gives a member new keys\n"
    assert (tmp_path / "ledger" / "roster.cose").read_bytes() == before


def test_organisation_counts_once(typed: Typed, tmp_path: Path) -> None:
    """Three peers of a hospital and three others are four organisations; people and programs are told the policy."""
    ledger, roster = tmp_path / "ledger", tmp_path / "ledger" / "roster.cose"
    typed("ledger", "create", "--state", ledger)
    cards = []
    for name in ("st-anna-1", "st-anna-2", "st-anna-3", "lab", "patients", "regulator"):
        owner = ("--organisation", "St. Anna") if name.startswith("st-anna") else ()
        typed(
            "peer",
            "init",
            "--state",
            tmp_path / name,
            "--id",
            name,
            "--broker",
            "mqtt://h:1",
            "--roster",
            roster,
            *owner,
        )
        cards.append(tmp_path / name / f"{name}.card")
    few = typed("ledger", "admit", "--state", ledger, *cards[:5])
    assert (few.code, few.err) == (0, "warning: 3 organisations bear no dishonest one: a fourth makes it one\n")
    told = typed("ledger", "admit", "--state", ledger, cards[5])
    assert (told.code, told.err) == (0, "")
    assert "policy      3 of (2 of st-anna-1, st-anna-2, st-anna-3), lab, patients, regulator\n" in told.out
    assert "peers       6, organisations: 4, a quorum: 3 or more\n" in told.out
    assert "bears       1 dishonest (safety), 1 silent (liveness)\n" in told.out
    record = typed("ledger", "show", "--state", ledger, "--json").json
    assert record["policy"] == [3, [[2, ["st-anna-1", "st-anna-2", "st-anna-3"]], "lab", "patients", "regulator"]]
    assert (record["n"], record["quorum"], record["f_safety"], record["f_liveness"]) == (4, 3, 1, 1)


@pytest.mark.parametrize(
    ("quorum", "peers", "warning"),
    [
        (1, 1, "1 organisation bears no dishonest one: four bear one"),
        (2, 2, "2 organisations bear no dishonest one: four bear one"),
        (3, 3, "3 organisations bear no dishonest one: a fourth makes it one"),
        (4, 4, "4 organisations bear no dishonest one by this policy"),
    ],
)
def test_policy_that_bears_nobody_is_warned_of(
    typed: Typed, tmp_path: Path, quorum: int, peers: int, warning: str
) -> None:
    """Where one dishonest or silent organisation is too many, stderr says so, and stdout has what it always has."""
    (tmp_path / "roster.cose").write_bytes(alone(make_roster(peers, quorum=quorum)).encode())
    shown = typed("ledger", "show", "--roster", tmp_path / "roster.cose", "--json")
    assert (shown.code, shown.err) == (0, f"warning: {warning}\n")
    assert shown.json["f_liveness"] == 0


def test_gateway_and_peer_show_all_their_keys(ledger: Ledger) -> None:
    """A card has both public keys, a gateway's that of its recovery key, too; each comes of a secret in the folder."""
    kind, member = cards.read_card(ledger.folder / "ward" / "ward.card")
    master = keyring.load_master(ledger.folder / "ward")
    assert kind == "gateway"
    assert member.public_key == signing.derive_key(master, "gateway", "ward").public_key
    second_key = signing.derive_second_key(master, "gateway", "ward").public_key
    assert member.second_key == hashlib.sha256(second_key).digest()
    seed = keyring.load_recovery_key(ledger.folder / "ward" / "recovery.key")
    assert member.recovery_key == signing.Key(seed).public_key
    kind, member = cards.read_card(ledger.folder / "a" / "a.card")
    master = keyring.load_master(ledger.folder / "a")
    assert member.second_key == signing.derive_second_key(master, "peer", "a").public_key
    assert (kind, member.recovery_key, member.chain) == ("peer", None, None)
    assert open_rosters(ledger.roster().read_bytes()).current.peers[0] == member


def test_recovery_key_goes_where_it_is_wanted(typed: Typed, tmp_path: Path) -> None:
    """It is written elsewhere on demand, for its owner alone, never over another; a person is told what it is for."""
    options = ("--id", "ward", *BROKER, "--roster", tmp_path / "roster.cose", "--recovery-key", tmp_path / "safe")
    told = typed("init", "--state", tmp_path / "ward", *options)
    assert f"recovery    {tmp_path / 'safe'}\n" in told.out
    assert "closes this chain and opens its next incarnation" in told.out
    assert not (tmp_path / "ward" / "recovery.key").exists()
    assert stat.S_IMODE((tmp_path / "safe").stat().st_mode) == 0o600
    seed = (tmp_path / "safe").read_bytes()
    again = typed("init", "--state", tmp_path / "other", *options)
    assert (again.code, again.out) == (2, "")
    assert f"{tmp_path / 'safe'}: exists already" in again.err
    assert not (tmp_path / "other").exists()
    assert (tmp_path / "safe").read_bytes() == seed
    nowhere = typed("init", "--state", tmp_path / "other", *options[:-1], tmp_path / "none" / "safe")
    assert (nowhere.code, nowhere.out) == (2, "")
    assert "there is no such folder" in nowhere.err


# -- changing


def test_one_administrator_changes_the_roster_at_once(ledger: Ledger) -> None:
    """Where one signature is enough, a command writes the next version, and shows what show shows."""
    retired = ledger.does("retire", "d")
    assert (retired["version"], retired["epoch"], retired["quorum"]) == (3, 2, 3)
    policy = ledger.does("policy", "2 of a, (2 of b, c)")
    assert (policy["epoch"], policy["policy"]) == (3, [2, ["a", [2, ["b", "c"]]]])
    quantum = ledger.does("post-quantum")
    assert (quantum["epoch"], quantum["post_quantum"]) == (4, True)
    assert ledger.does("show") == quantum
    assert [(each["version"], each["epoch"], each["signed_by"]) for each in quantum["versions"]] == [
        (number, number - 1, ["alice"]) for number in range(1, 6)
    ]
    assert not ledger.draft().exists()


def test_policy_is_read_as_it_is_shown(ledger: Ledger) -> None:
    """What admit and show print of the policy is what policy takes."""
    ledger.does("policy", "3 of (1 of a), b, (2 of c, d)")
    shown = ledger.typed("ledger", "show", "--state", ledger.folder / "alice").out
    (text,) = re.findall("^policy +(.*)$", shown, re.MULTILINE)
    assert policy_items(parse_policy(text)) == ledger.does("show")["policy"]


def test_policy_comes_with_peers_where_people_wrote_it(ledger: Ledger) -> None:
    """After a policy of one's own, who joins or leaves needs the next one said."""
    ledger.does("policy", "4 of a, b, c, d")
    before = ledger.roster().read_bytes()
    for command in (("retire", "d"), ("admit", ledger.peer("e"))):
        result = ledger.typed("ledger", *command, "--state", ledger.folder / "alice")
        assert (result.code, result.out) == (2, "")
        assert "the policy is not the default one but 4 of a, b, c, d; give the next one with --policy" in result.err
    assert ledger.roster().read_bytes() == before
    assert ledger.does("retire", "d", "--policy", "3 of a, b, c")["quorum"] == 3
    assert ledger.does("admit", ledger.folder / "d" / "d.card", "--policy", "4 of a, b, c, d")["quorum"] == 4


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (("retire", "nobody"), "nobody: no peer and no gateway on the roster"),
        (("policy", "2 of a, b"), "two quorums of the policy 2 of a, b need not share a peer|names|not share"),
        (("policy", "3 of a, b, nobody"), "the policy names nobody: no peer on the roster"),
        (("policy", "a, b"), "'a' in the place of a number"),
        (("administrators", "alice", "nobody", "--threshold", 1), "nobody: no administrator .* and no card is there"),
        (("administrators", "alice", "--threshold", 2), "2 of 1 administrators; allowed: 1 to 1"),
        (("rekey", "CARD"), "a has, or had, that very key"),
        (("administrators", "CARD", "--threshold", 1), "a kind that has no place here: peer; allowed: administrator"),
    ],
)
def test_change_that_cannot_be_leaves_everything(ledger: Ledger, command: tuple[object, ...], reason: str) -> None:
    """What is refused says why in one line, and the roster stays as it was."""
    before = ledger.roster().read_bytes()
    card = ledger.folder / "a" / "a.card"
    arguments = [card if part == "CARD" else part for part in command]
    if command == ("policy", "2 of a, b"):
        arguments = ["policy", "2 of a, b, c, d"]
    result = ledger.typed("ledger", *arguments, "--state", ledger.folder / "alice")
    assert (result.out, result.err.count("\n")) == ("", 1)
    assert result.code in {1, 2}
    assert re.search(reason, result.err)
    assert ledger.roster().read_bytes() == before


# -- keys


@pytest.mark.parametrize(("role", "name", "file"), [("peer", "a", "peer.toml"), ("gateway", "ward", "gateway.toml")])
def test_member_gets_the_next_key(ledger: Ledger, role: str, name: str, file: str) -> None:
    """Its configuration has the next generation, its card the new keys; repeated until the roster has them."""
    state = ledger.folder / name
    config = state / file
    config.write_text("# mine\n" + config.read_text() + "\n[tls]\nca = 'x'\ncertificate = 'x'\nkey = 'x'\n")
    command = ("peer", "rekey") if role == "peer" else ("rekey",)
    made = ledger.typed(*command, "--state", state, "--json").json
    assert ledger.typed(*command, "--state", state, "--json").json == made
    assert (made["id"], made["generation"]) == (name, 2)
    assert made["public_key"] == signing.derive_key(keyring.load_master(state), role, name, 2).public_key.hex()
    text = config.read_text()
    assert text.startswith("# mine\n")
    assert "\ngeneration = 2\n\n[tls]\n" in text
    after = ledger.does("rekey", made["card"])
    (member,) = [each for each in after[f"{role}s"] if each["id"] == name]
    assert (member["public_key"], member["second_key"]) == (made["public_key"], made["second_key"])
    assert len(member.get("former_keys", [])) == (role == "gateway")
    third = ledger.typed(*command, "--state", state, "--json").json
    assert (third["generation"], "generation = 3\n" in config.read_text()) == (3, True)


def test_member_that_is_on_no_roster_gets_no_next_key(ledger: Ledger) -> None:
    """Before it is admitted, or with another secret, nothing is raised."""
    ledger.peer("e")
    before = (ledger.folder / "e" / "peer.toml").read_text()
    result = ledger.typed("peer", "rekey", "--state", ledger.folder / "e")
    assert (result.code, result.out) == (2, "")
    assert "peer e with a key of" in result.err
    assert (ledger.folder / "e" / "peer.toml").read_text() == before


def test_configuration_that_cannot_be_raised_is_left(ledger: Ledger) -> None:
    """Where the line would not stand at the top, a person is asked to write it."""
    config = ledger.folder / "a" / "peer.toml"
    text = config.read_text().replace('id = "a"', '"generation" = 1\nid = "a"')
    config.write_text(text)
    result = ledger.typed("peer", "rekey", "--state", ledger.folder / "a")
    assert (result.code, result.out) == (2, "")
    assert config.read_text() == text


# -- several administrators


def test_change_waits_for_those_who_must_sign(pair: Ledger) -> None:
    """The roster stays as it was; the draft says what it changes, who has signed it, and who has to yet."""
    before = pair.roster().read_bytes()
    draft = pair.does("retire", "d")
    assert (draft["version"], draft["draft"], draft["signed_by"]) == (4, str(pair.draft()), ["alice"])
    assert draft["missing"] == [{"signatures": 1, "of": ["bob"]}]
    assert [(each["what"], each["role"], each["id"]) for each in draft["changes"]] == [("retired", "peer", "d")]
    assert pair.roster().read_bytes() == before
    again = pair.typed("ledger", "policy", "3 of a, b, c, d", "--state", pair.folder / "alice")
    assert (again.code, again.out) == (2, "")
    twice = pair.typed("ledger", "sign", pair.draft(), "--yes", "--state", pair.folder / "alice")
    assert (twice.code, "alice has signed version 4 already" in twice.err) == (2, True)
    signed = pair.does("sign", pair.draft(), "--yes", who="bob")
    assert (signed["version"], [each["id"] for each in signed["peers"]]) == (4, ["a", "b", "c"])
    assert signed["versions"][-1]["signed_by"] == ["alice", "bob"]


def test_draft_waits_until_it_is_signed_or_dropped(pair: Ledger) -> None:
    """Signatures that were collected are not written over; the roster that comes of them makes room."""
    pair.does("retire", "d")
    state = pair.folder / "alice"
    refused = pair.typed("ledger", "retire", "c", "--state", state)
    assert (refused.code, refused.out) == (2, "")
    assert refused.err.startswith(f"iomt: {pair.draft()}: waits for signatures; ")
    pair.does("sign", pair.draft(), "--yes", who="bob")
    pair.hand_over("alice", of="bob")
    assert pair.does("retire", "c")["version"] == 5
    pair.draft().write_bytes(b"no draft")
    damaged = pair.typed("ledger", "retire", "c", "--state", state)
    assert (damaged.code, damaged.err.count("\n")) == (2, 1)
    assert damaged.err.startswith(f"iomt: {pair.draft()}: not a draft of a roster: ")


def test_signer_sees_what_changes_and_is_asked(pair: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Members, policy and what it bears, before and after; without a yes nothing is signed."""
    pair.does("retire", "d")
    before = pair.draft().read_bytes()
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    asked = pair.typed("ledger", "sign", pair.draft(), "--state", pair.folder / "bob")
    assert asked.code == 130
    assert "version     3, epoch 1 -> 4, epoch 2\n" in asked.out
    assert "policy      3 of a, b, c, d\n  becomes   3 of a, b, c\n" in asked.out
    assert "bears       1 dishonest (safety), 1 silent (liveness)\n  becomes   2 dishonest (safety), 0" in asked.out
    assert re.search("^retired  peer  d   d             [0-9a-f]{32}$", asked.out, re.MULTILINE)
    assert "warning: 3 organisations bear no dishonest one: a fourth makes it one\n" in asked.err
    assert max(map(len, asked.out.splitlines())) <= 80
    assert pair.draft().read_bytes() == before
    told = pair.typed("ledger", "sign", pair.draft(), "--yes", "--state", pair.folder / "bob")
    assert told.out.endswith(f"\nroster      {pair.roster('bob')}, version 4: copy it to every peer and gateway\n")
    without_yes = pair.typed("ledger", "sign", pair.draft(), "--json", "--state", pair.folder / "bob")
    assert (without_yes.code, "it goes with --yes" in without_yes.err) == (2, True)


def test_every_field_that_changes_is_shown(pair: Ledger) -> None:
    """Of a re-keyed gateway, its old and new keys, and the former ones, of which no fingerprint tells."""
    pair.typed("rekey", "--state", pair.folder / "ward")
    told = pair.typed("ledger", "rekey", "--state", pair.folder / "alice", pair.folder / "ward" / "ward.card")
    assert told.code == 0
    for line in ("Ed25519 key ", "ML-DSA-44 key ", "former keys none -> "):
        assert f"\n  ward: {line}" in told.out
    assert "to sign it  1 of bob\neach by     iomt ledger sign roster.draft, roster.cose in" in told.out
    assert max(len(line) for line in told.out.splitlines() if str(pair.folder) not in line) <= 80


def test_draft_goes_from_hand_to_hand(pair: Ledger) -> None:
    """With three to sign, the second signature goes into the draft, the third makes the roster."""
    carol = pair.administrator("carol")
    first = pair.does("administrators", "alice", "bob", carol, "--threshold", 3)
    assert first["missing"] == [{"signatures": 1, "of": ["bob"]}, {"signatures": 2, "of": ["bob", "carol"]}]
    pair.hand_over("carol")
    second = pair.does("sign", pair.draft(), "--yes", who="carol")
    assert second["missing"] == [{"signatures": 1, "of": ["bob"]}, {"signatures": 1, "of": ["bob"]}]
    third = pair.does("sign", pair.draft(), "--yes", who="bob")
    assert (third["threshold"], [each["id"] for each in third["administrators"]]) == (3, ["alice", "bob", "carol"])


def test_stranger_signs_nothing(pair: Ledger) -> None:
    """A folder whose key is no administrator's is told whose it would have to be."""
    pair.administrator("mallory")
    pair.hand_over("mallory")
    before = pair.roster().read_bytes()
    pair.does("retire", "d")
    draft = pair.draft().read_bytes()
    for command in (("retire", "c"), ("sign", pair.draft(), "--yes")):
        result = pair.typed("ledger", *command, "--state", pair.folder / "mallory")
        assert (result.code, result.err.count("\n")) == (2, 1)
        assert "is none of the administrators' (alice, bob)" in result.err
    assert pair.draft().read_bytes() == draft
    assert pair.roster().read_bytes() == before == pair.roster("mallory").read_bytes()


def test_draft_of_an_older_roster_is_refused(pair: Ledger) -> None:
    """What was drafted before the roster that one holds cannot follow it."""
    pair.does("retire", "d")
    old = pair.draft().read_bytes()
    pair.does("sign", pair.draft(), "--yes", who="bob")
    (pair.folder / "old.draft").write_bytes(old)
    result = pair.typed("ledger", "sign", pair.folder / "old.draft", "--yes", "--state", pair.folder / "bob")
    assert (result.code, result.out) == (1, "")
    assert "version 4 of the roster cannot follow version 4" in result.err


def test_key_is_made_once_with_its_card(ledger: Ledger) -> None:
    """An administrator's card has both keys; the secret is for them alone, and stays."""
    card = ledger.administrator("bob")
    kind, member = cards.read_card(card)
    master = keyring.load_master(ledger.folder / "bob")
    assert (kind, member.id) == ("administrator", "bob")
    assert member == cards.make_member("administrator", master, "bob")
    again = ledger.typed("ledger", "key", "--state", ledger.folder / "bob", "--name", "bob")
    assert (again.code, "exists already" in again.err) == (2, True)
    made = ledger.typed("ledger", "key", "--state", ledger.folder / "carol", "--name", "carol", "--json").json
    assert cards.read_card(Path(made["card"]))[1].public_key.hex() == made["public_key"]


# -- showing


def test_kept_versions_are_shown(pair: Ledger) -> None:
    """People see who signs, how votes are signed, and every version that is kept, within 80 columns."""
    shown = pair.typed("ledger", "show", "--roster", pair.roster())
    assert "signed by   2 of alice, bob\nsignatures  Ed25519\n" in shown.out
    assert shown.out.endswith(
        "version  epoch  peers  gateways  signed by\n"
        "      1      0      0         0  alice\n"
        "      2      1      4         1  alice\n"
        "      3      1      4         1  alice, bob\n"
    )
    assert max(len(line) for line in shown.out.splitlines() if str(pair.folder) not in line) <= 80


def test_card_survives_its_file(tmp_path: Path) -> None:
    """What is written is what is read; former keys are the roster's, not the card's."""
    member = Member(
        id="w", organisation="Süd", public_key=b"p" * 32, chain="w.0", second_key=b"s" * 32, recovery_key=b"r" * 32
    )
    for each in (member, replace(member, recovery_key=None)):
        cards.write_card(tmp_path / "card", "gateway", each)
        assert cards.read_card(tmp_path / "card") == ("gateway", each)
