from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gateway import cbor, signing
from gateway.errors import VerificationError
from gateway.ledger.changes import admitted, post_quantum, retired, with_administrators, with_policy
from gateway.ledger.policy import default_policy
from gateway.ledger.roster import encode_roster, ledger_name, read_version, sign_version
from gateway.ledger.rosters import Rosters, open_rosters
from gateway.model import NOBODY, Member, Policy, Roster
from tests.builders import MASTER, flat, key_of, keys_of, member

SPREAD = Policy(threshold=2, of=tuple(Policy(threshold=1, of=(f"peer-{at}",)) for at in range(3)))


@dataclass(frozen=True, slots=True)
class Person:
    """An administrator with one of their keys."""

    name: str
    generation: int = 1

    @property
    def member(self) -> Member:
        """Give them as a roster has them."""
        key = key_of(self.name, self.generation)
        return Member(id=self.name, organisation=self.name, public_key=key.public_key)


ALICE, BOB, CAROL = Person("alice"), Person("bob"), Person("carol")
PEOPLE = (ALICE, BOB, CAROL, Person("alice", 2))


def begin(*people: Person, threshold: int = 1) -> Roster:
    """Give version 1 of a roster by these administrators, not signed."""
    administrators = tuple(person.member for person in people)
    return Roster(
        ledger=ledger_name(administrators),
        version=1,
        epoch=0,
        policy=NOBODY,
        administrators=administrators,
        peers=(),
        gateways=(),
        threshold=threshold,
    )


def signed(roster: Roster, *people: Person) -> bytes:
    """Give a version signed by these."""
    version = sign_version(roster, {})
    for person in people:
        version = sign_version(roster, {person.name: keys_of(person.name, person.generation)}, version)
    return version


def opened(roster: Roster, *people: Person) -> Rosters:
    """Give a roster file of one version."""
    return open_rosters(file_of([signed(roster, *people)]))


def file_of(versions: Sequence[bytes]) -> bytes:
    return cbor.encode(list(versions))


ROSTERS = opened(begin(ALICE), ALICE)


def with_gateway(rosters: Rosters, name: str, *people: Person) -> Rosters:
    """Give these with one more gateway."""
    return rosters.followed_by(signed(admitted(rosters.current, [], [member(name, name)]), *people))


def with_peer(rosters: Rosters, name: str, *people: Person) -> Rosters:
    """Give these with one more peer."""
    return rosters.followed_by(signed(admitted(rosters.current, [member(name)], []), *people))


# -- who may sign


def test_next_version_needs_the_administrators_of_both() -> None:
    """Those of before and those to be sign it, as many of each as their threshold says; nobody else counts."""
    rosters = opened(begin(ALICE, BOB, threshold=2), ALICE, BOB)
    after = with_administrators(rosters.current, [BOB.member, CAROL.member], 2)
    for few in ((ALICE, BOB), (BOB, CAROL), (ALICE, CAROL), (CAROL,), ()):
        with pytest.raises(VerificationError, match=r"version 2 .* lacks \d of the 2 signatures"):
            rosters.followed_by(signed(after, *few))
    assert rosters.followed_by(signed(after, CAROL, ALICE, BOB)).current == after


def test_rekeyed_administrator_signs_with_both_keys() -> None:
    """The old key hands over, and the new one says that it is there."""
    second = Person("alice", 2)
    after = with_administrators(ROSTERS.current, [second.member], 1)
    for person in (ALICE, second):
        with pytest.raises(VerificationError, match="lacks 1 of the 1 signatures"):
            ROSTERS.followed_by(signed(after, person))
    rosters = ROSTERS.followed_by(signed(after, ALICE, second))
    assert with_gateway(rosters, "g", second).current.version == 3
    with pytest.raises(VerificationError, match="not signed by alice"):
        with_gateway(rosters, "g", ALICE)


def test_second_signature_cannot_be_shaken_off() -> None:
    """Whoever breaks Ed25519 signs no version behind one whose administrators have an ML-DSA-44 key."""
    second = signing.derive_second_key(MASTER, "test", "alice")
    strong = replace(ALICE.member, second_key=second.public_key)
    roster = replace(begin(ALICE), administrators=(strong,), ledger=ledger_name([strong]))
    both = {"alice": signing.Keys(key_of("alice"), second)}
    rosters = open_rosters(file_of([sign_version(post_quantum(roster), both)]))
    weak = replace(rosters.current, version=3, epoch=2, post_quantum=False, administrators=(ALICE.member,))
    with pytest.raises(VerificationError, match="signature of alice has no second one"):
        rosters.followed_by(signed(weak, ALICE))
    assert rosters.followed_by(sign_version(weak, both)).current == weak


# -- order


def test_replay_is_refused() -> None:
    """An older file, an older version, and another content of a known version change nothing."""
    first = with_gateway(ROSTERS, "g", ALICE)
    second = with_peer(first, "peer-0", ALICE)
    with pytest.raises(VerificationError, match="version 2 of the roster is older than the known version 3"):
        second.updated(first.encode())
    with pytest.raises(VerificationError, match="version 2 of the roster cannot follow version 3"):
        second.followed_by(first.current.signed)
    with pytest.raises(VerificationError, match="version 3 of the roster cannot follow version 3"):
        second.followed_by(second.current.signed)
    with pytest.raises(VerificationError, match="there are two versions 3"):
        second.updated(with_peer(first, "peer-1", ALICE).encode())
    assert second.updated(second.encode()) == second
    assert first.updated(second.encode()) == second


def test_contradiction_that_nobody_signed_is_no_contradiction() -> None:
    """Only the administrators themselves can be caught with two versions of one number."""
    forged = replace(admitted(ROSTERS.current, [], [member("g", "g")]), version=1)
    with pytest.raises(VerificationError, match="lacks 1 of the 1 signatures"):
        ROSTERS.updated(file_of([signed(forged, BOB)]))


def test_other_ledger_is_refused() -> None:
    """A roster of another name does not follow, whoever signed it."""
    other = replace(admitted(ROSTERS.current, [], []), ledger="0123456789abcdef")
    for data in (signed(other, ALICE), signed(replace(begin(BOB), version=2), BOB)):
        with pytest.raises(VerificationError, match=r"the roster is ledger .*'s, not "):
            ROSTERS.followed_by(data)
        with pytest.raises(VerificationError, match=r"the roster is ledger .*'s, not "):
            ROSTERS.updated(file_of([data]))


def test_first_version_is_by_those_whose_name_the_ledger_bears() -> None:
    """A file that begins with other administrators is nobody's."""
    with pytest.raises(VerificationError, match="not the fingerprint of its first administrators'"):
        opened(replace(begin(BOB), ledger=ROSTERS.current.ledger), BOB)


@pytest.mark.parametrize(
    ("why", "change"),
    [
        ("changes more than an epoch may", {"peers": (member("peer-0"),), "policy": flat(1, (member("peer-0"),))}),
        ("changes more than an epoch may", {"gateways": ()}),
        ("changes more than an epoch may", {"gateways": (replace(member("g", "g"), former_keys=(bytes(32),)),)}),
        ("epoch 2 cannot follow epoch 0", {"epoch": 2}),
    ],
)
def test_epochs_follow_each_other(why: str, change: dict[str, object]) -> None:
    """Within one, gateways come and administrators change; all else begins the next, and none is left out."""
    rosters = with_gateway(ROSTERS, "g", ALICE)
    after = replace(rosters.current, version=3, **change)  # type: ignore[arg-type]  # a table's
    with pytest.raises(VerificationError, match=why):
        rosters.followed_by(signed(after, ALICE))


def test_epochs_are_found_by_number() -> None:
    """The last version of each is known; what lies outside is said to be."""
    rosters = with_gateway(with_peer(with_gateway(ROSTERS, "g", ALICE), "peer-0", ALICE), "h", ALICE)
    assert [each.id for each in rosters.of_epoch(0).gateways] == ["g"]
    assert [each.id for each in rosters.of_epoch(1).gateways] == ["g", "h"]
    with pytest.raises(VerificationError, match="epoch 2 is not known; the latest that is, is 1"):
        rosters.of_epoch(2)


def test_latest_versions_that_fit_are_enough_for_who_knows_the_others() -> None:
    """What is told over the network are the latest versions, as many as fit; one that does not fit is not told."""
    first = opened(begin(ALICE), ALICE)
    both = first.followed_by(signed(admitted(first.current, [member("a")], []), ALICE))
    latest = both.latest(len(both.encode()) - 1)
    assert latest is not None
    assert len(latest) < len(both.encode())
    assert first.updated(latest) == both
    assert both.latest(len(both.encode())) == both.encode()
    assert both.latest(100) is None


# -- drafts


def test_draft_is_read_before_enough_have_signed_it() -> None:
    """Whoever is to sign sees a version that may follow once they have; wrong signatures are found at once."""
    rosters = opened(begin(ALICE, BOB, threshold=2), ALICE, BOB)
    after = admitted(rosters.current, [], [member("g", "g")])
    assert rosters.draft(signed(after, ALICE)) == after
    assert rosters.draft(signed(after)) == after
    payload, (signature,) = cbor.decode(signed(after, ALICE))
    flipped = signature[:-1] + bytes([signature[-1] ^ 1])
    with pytest.raises(VerificationError, match="does not hold"):
        rosters.draft(cbor.encode([payload, [flipped]]))
    with pytest.raises(VerificationError, match="cannot follow version 1"):
        rosters.draft(signed(begin(ALICE, BOB, threshold=2), ALICE, BOB))
    unsound = replace(after, policy=SPREAD)
    with pytest.raises(VerificationError, match=r"changes more than an epoch|no peer on the roster"):
        rosters.draft(cbor.encode([encode_roster(replace(unsound, epoch=1)), []]))


@pytest.mark.parametrize("content", [[], {}, b"", [1], [[b"", []]], [b""]])
def test_what_is_no_roster_file_is_refused(content: object) -> None:
    """A file is an array of versions, one at least."""
    with pytest.raises(VerificationError):
        open_rosters(cbor.encode(content))
    with pytest.raises(VerificationError):
        ROSTERS.updated(cbor.encode(content))


# -- what a file may leave out


class Succession(RuleBasedStateMachine):
    """Changes by any administrators, allowed or not; one reader has seen every version, another only the file."""

    @initialize(people=st.lists(st.sampled_from([ALICE, BOB, CAROL]), min_size=1, unique=True), data=st.data())
    def create(self, people: list[Person], data: st.DataObject) -> None:
        """Begin with some of them."""
        roster = begin(*people, threshold=data.draw(st.integers(1, len(people))))
        self.rosters = opened(roster, *people)
        self.all: list[Roster] = [self.rosters.current]
        self.files = [self.rosters]
        self.members = 0

    def follow(self, after: Roster, people: Iterable[Person]) -> None:
        """Offer a version that these sign; it is taken if, and only if, the rules in words say so."""
        people = list(people)
        version = signed(after, *people)
        if self.may_follow(after, people):
            self.rosters = self.rosters.followed_by(version)
            self.all.append(self.rosters.current)
            self.files.append(self.rosters)
        else:
            with pytest.raises(VerificationError):
                self.rosters.followed_by(version)
            with pytest.raises(VerificationError):
                self.rosters.updated(file_of([*[each.signed for each in self.rosters.versions], version]))

    def may_follow(self, after: Roster, people: Sequence[Person]) -> bool:
        """Say whether a version may follow the latest, by what the rules say rather than by how they are kept."""
        before = self.all[-1]
        keys = {person.member.public_key for person in people}
        for roster in (before, after):
            if sum(each.public_key in keys for each in roster.administrators) < roster.threshold:
                return False
        if after.epoch == before.epoch:
            if (after.peers, after.policy) != (before.peers, before.policy):
                return False
            return all(each in after.gateways for each in before.gateways)
        return after.epoch == before.epoch + 1

    signers = st.just(list(PEOPLE)) | st.lists(st.sampled_from(PEOPLE), min_size=1, unique=True)

    @rule(people=signers, is_peer=st.booleans(), skipped=st.sampled_from([0, 0, 0, 3]), jump=st.sampled_from([0, 0, 1]))
    def admit(self, people: list[Person], is_peer: bool, skipped: int, jump: int) -> None:  # noqa: FBT001 - drawn
        """Add a peer or a gateway; numbers of versions may be left out, those of epochs may not."""
        self.members += 1
        name = f"m-{self.members}"
        peers, gateways = ([member(name)], []) if is_peer else ([], [member(name, name)])
        roster = self.all[-1]
        policy = default_policy((*roster.peers, *peers)) if peers else None
        after = admitted(roster, peers, gateways, policy)
        self.follow(replace(after, version=after.version + skipped, epoch=after.epoch + jump), people)

    @precondition(lambda self: self.all[-1].peers or self.all[-1].gateways)
    @rule(people=signers, data=st.data(), is_within=st.booleans())
    def retire(self, people: list[Person], data: st.DataObject, is_within: bool) -> None:  # noqa: FBT001 - drawn
        """Take one off, rightly in the next epoch or wrongly within this one."""
        roster = self.all[-1]
        name = data.draw(st.sampled_from([each.id for each in (*roster.peers, *roster.gateways)]))
        rest = [each for each in roster.peers if each.id != name]
        after = retired(roster, [name], None if len(rest) == len(roster.peers) else default_policy(rest))
        self.follow(replace(after, epoch=roster.epoch) if is_within else after, people)

    @precondition(lambda self: self.all[-1].peers)
    @rule(people=signers, is_within=st.booleans())
    def change_policy(self, people: list[Person], is_within: bool) -> None:  # noqa: FBT001 - drawn
        """Ask for all peers, each in a group of its own, or again for as many as by default."""
        roster = self.all[-1]
        groups = tuple(Policy(threshold=1, of=(each.id,)) for each in roster.peers)
        every, default = Policy(threshold=len(groups), of=groups), default_policy(roster.peers)
        after = with_policy(roster, every if roster.policy == default else default)
        self.follow(replace(after, epoch=roster.epoch) if is_within else after, people)

    @rule(people=signers, to_be=st.lists(st.sampled_from(PEOPLE), min_size=1, unique_by=lambda who: who.name),
          data=st.data())  # fmt: skip
    def change_administrators(self, people: list[Person], to_be: list[Person], data: st.DataObject) -> None:
        """Make others the administrators."""
        roster = self.all[-1]
        members = tuple(person.member for person in to_be)
        after = replace(roster, administrators=members, threshold=data.draw(st.integers(1, len(to_be))))
        self.follow(replace(after, version=roster.version + 1, signed=b""), people)

    @rule(people=signers, data=st.data())
    def change_threshold(self, people: list[Person], data: st.DataObject) -> None:
        """Let more or fewer of the same administrators be enough."""
        roster = self.all[-1]
        threshold = data.draw(st.integers(1, len(roster.administrators)))
        self.follow(replace(roster, threshold=threshold, version=roster.version + 1, signed=b""), people)

    @rule(data=st.data())
    def read_late(self, data: st.DataObject) -> None:
        """Who comes back after any time comes to the same conclusion, by the short file or by the whole history."""
        back = data.draw(st.sampled_from(self.files))
        assert back.updated(self.rosters.encode()) == self.rosters
        assert back.updated(file_of([roster.signed for roster in self.all])) == self.rosters
        if back != self.rosters:
            with pytest.raises(VerificationError):
                self.rosters.updated(back.encode())

    @invariant()
    def file_says_it_all(self) -> None:
        """Read the file afresh: it has the last version of every epoch that there ever was."""
        assert open_rosters(self.rosters.encode()) == self.rosters
        assert open_rosters(file_of([roster.signed for roster in self.all])) == self.rosters
        assert self.rosters.current == self.all[-1]
        for roster in {roster.epoch: roster for roster in self.all}.values():
            assert self.rosters.of_epoch(roster.epoch) == roster


TestSuccession = Succession.TestCase
TestSuccession.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)


def test_lower_threshold_is_kept_as_a_step() -> None:
    """Two let one be enough: without that version, what one signed alone would not follow."""
    rosters = opened(begin(ALICE, BOB, threshold=2), ALICE, BOB)
    lower = with_administrators(rosters.current, rosters.current.administrators, 1)
    after = with_gateway(rosters.followed_by(signed(lower, ALICE, BOB)), "g", BOB)
    assert [roster.version for roster in after.versions] == [1, 2, 3]
    assert open_rosters(after.encode()) == after == rosters.updated(after.encode())


def test_file_grows_by_epochs_and_administrators_alone() -> None:
    """Gateways that join one by one leave a file of one version for them all."""
    rosters = with_peer(ROSTERS, "peer-0", ALICE)
    for number in range(10):
        rosters = with_gateway(rosters, f"g-{number}", ALICE)
    assert [roster.version for roster in rosters.versions] == [1, 12]
    assert read_version(rosters.versions[1].signed) == rosters.current
