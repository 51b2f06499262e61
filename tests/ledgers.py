"""A ledger around one table: peers with real stores on a disk, a gateway's chain, and a broker that loses nothing.

Nothing here awaits or runs by itself: `Table.settle` passes messages on until there are none left.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from gateway import merkle, signing
from gateway.block import Head, next_block
from gateway.errors import VerificationError
from gateway.io.store.chains import ChainStore
from gateway.ledger import messages
from gateway.ledger.book import Note, Said
from gateway.ledger.closing import Closing, Shown, close, open_freeze, sign_opening, sign_recovery
from gateway.ledger.member_keys import MemberKeys
from gateway.ledger.messages import Kind, Topic
from gateway.ledger.peering import PeerRule
from gateway.ledger.policy import default_policy
from gateway.ledger.quorum import read_vote, require_quorum, verify_block_vote, verify_certificate
from gateway.ledger.roster import ledger_name, sign_version
from gateway.ledger.rosters import Rosters, open_rosters
from gateway.ledger.voting import open_proposal, sign_block
from gateway.model import Block, Certificate, Member, Proposal, Roster, Why

MASTER = b"a master secret for tests only.."
GATEWAY = "ward-3"
CHAIN = "ward-3.1f0a9c21"
SEALED_MS = 1_764_000_000_000
VOTED_S = 1_764_000_060


def keys_of(role: str, name: str, generation: int = 1) -> MemberKeys:
    """Give a member's keys, the same for the same name."""
    return MemberKeys(MASTER, role, name, generation)


def peer_member(name: str, generation: int = 1) -> Member:
    """Give a peer as the roster has it."""
    public_key = keys_of("peer", name, generation).public_keys[-1]
    second = signing.derive_second_key(MASTER, "peer", name, generation).public_key
    return Member(id=name, organisation=f"{name}.example", public_key=public_key, second_key=second)


def recovery_key() -> signing.Key:
    """Give the recovery key of the chain."""
    return signing.derive_key(MASTER, "recovery", GATEWAY)


def gateway_member(name: str = GATEWAY, chain: str = CHAIN) -> Member:
    """Give a gateway as the roster has it."""
    return Member(
        id=name,
        organisation="ward.example",
        public_key=keys_of("gateway", name).public_keys[0],
        chain=chain,
        second_key=hashlib.sha256(signing.derive_second_key(MASTER, "gateway", name).public_key).digest(),
        recovery_key=recovery_key().public_key,
    )


def first_roster(peers: Sequence[str], *, post_quantum: bool = False) -> Rosters:
    """Give version 1 of a roster: one administrator, these peers, one gateway."""
    members = tuple(peer_member(name) for name in peers)
    return make_rosters(members, (gateway_member(),), post_quantum=post_quantum)


def make_rosters(peers: tuple[Member, ...], gateways: tuple[Member, ...], *, post_quantum: bool = False) -> Rosters:
    """Give version 1 of a roster of these members, by one administrator."""
    admin = signing.derive_key(MASTER, "administrator", "admin")
    second = signing.derive_second_key(MASTER, "administrator", "admin")
    administrators = (
        Member(id="admin", organisation="admin.example", public_key=admin.public_key, second_key=second.public_key),
    )
    roster = Roster(
        ledger=ledger_name(administrators),
        version=1,
        epoch=1,
        policy=default_policy(peers),
        administrators=administrators,
        peers=peers,
        gateways=gateways,
        post_quantum=post_quantum,
    )
    return open_rosters(_file(roster))


def next_roster(rosters: Rosters, change: Callable[[Roster], Roster]) -> Rosters:
    """Give these with one more version, of the next epoch, changed and signed by the administrator."""
    current = rosters.current
    after = change(replace(current, version=current.version + 1, epoch=current.epoch + 1, signed=b""))
    return rosters.followed_by(sign_version(after, _administrator()))


def with_peers(*peers: str) -> Callable[[Roster], Roster]:
    """Give the change after which these are the peers."""
    members = tuple(peer_member(name) for name in peers)
    return lambda roster: replace(roster, peers=members, policy=default_policy(members))


def _administrator() -> dict[str, signing.Keys]:
    first = signing.derive_key(MASTER, "administrator", "admin")
    return {"admin": signing.Keys(first, signing.derive_second_key(MASTER, "administrator", "admin"))}


def _file(roster: Roster) -> bytes:
    return Rosters((replace(roster, signed=sign_version(roster, _administrator())),)).encode()


@dataclass
class Writer:
    """A gateway that signs what it is told to, and remembers every block."""

    keys: Callable[[Roster], signing.Keys | None] = field(default_factory=lambda: keys_of("gateway", GATEWAY).of)
    head: Head = field(default_factory=lambda: Head(chain=CHAIN))
    proposals: list[Proposal] = field(default_factory=list)

    def seal(self, roster: Roster, *leaves: bytes) -> Proposal:
        """Sign the next block, of these leaves."""
        hashes = [merkle.leaf_hash(leaf) for leaf in leaves]
        block, self.head = next_block(self.head, hashes, 0, SEALED_MS)
        keys = self.keys(roster)
        assert keys is not None
        self.proposals.append(Proposal(block=block, signed=sign_block(keys, GATEWAY, block), hashes=tuple(hashes)))
        return self.proposals[-1]

    def fork(self, height: int) -> "Writer":
        """Give a clone that has signed the blocks below a height only."""
        kept = self.proposals[:height]
        frontier = merkle.Frontier()
        for proposal in kept:
            frontier = frontier.extend(proposal.hashes)
        head = Head(chain=CHAIN, incarnation=self.head.incarnation, next_height=height, frontier=frontier)
        return Writer(self.keys, head, list(kept))


class Table:
    """Peers that hear all that any of them says, in the order in which it was said."""

    def __init__(self, folder: Path, rosters: Rosters) -> None:
        self._folder = folder
        self.rosters = rosters
        self.writer = Writer()
        self.peers: dict[str, PeerRule] = {}
        self.stores: dict[str, ChainStore] = {}
        self.known: dict[str, Rosters] = {}
        self.away: set[str] = set()
        self.kept: dict[Topic, bytes] = {}
        self.said: list[tuple[str, Said]] = []
        self.notes: list[tuple[str, Note]] = []
        self.refused: list[str] = []
        self.now_ms = 0

    def seat(self, *names: str, rosters: Rosters | None = None, generation: int = 1) -> None:
        """Start peers, or start them again, with what their disks hold."""
        for name in names:
            if name not in self.stores:
                self.stores[name] = ChainStore(str(self._folder / f"{name}.db"))
            self.known[name] = rosters or self.known.get(name, self.rosters)
            keys = keys_of("peer", name, generation).of
            self.peers[name] = PeerRule(name, keys, self.known[name], self.stores[name])
            self.away.discard(name)
            for topic, payload in self.kept.items():
                self._hear(name, topic, payload)
            self.peers[name].greet(self.now_ms)
        self.settle()

    def adopt(self, rosters: Rosters, *names: str) -> None:
        """Let these peers learn of a roster, or all that are there."""
        self.rosters = rosters
        for name in names or [name for name in self.peers if name not in self.away]:
            self.known[name] = rosters
            self.peers[name].adopt(rosters)
        self.settle()

    def close(self) -> None:
        """Close the disks."""
        for store in self.stores.values():
            store.close()

    def say(self, topic: Topic, payload: bytes, by: str = "") -> None:
        """Say something to every peer, as one of them or as the gateway."""
        self._pass_on(by, Said(topic, payload))
        self.settle()

    def propose(self, *leaves: bytes, to: Iterable[str] = ()) -> Proposal:
        """Let the gateway sign a block and propose it, to all or only to these."""
        return self.show(self.writer.seal(self.rosters.current, *leaves), to=to)

    def show(self, proposal: Proposal, to: Iterable[str] = ()) -> Proposal:
        """Let peers hear a proposal."""
        message = messages.encode_proposal(proposal.signed, proposal.hashes)
        for name in [*to] or self._present():
            self._hear(name, Topic(CHAIN, Kind.PROPOSAL), message)
        self.settle()
        return proposal

    def settle(self, rounds: int = 200) -> None:
        """Pass messages on until there are none left."""
        for _ in range(rounds):
            said = [(name, each) for name in self._present() for each in self._take(name)]
            if not said:
                return
            for name, each in said:
                self.said.append((name, each))
                self._pass_on(name, each)
        raise AssertionError("the peers do not come to an end")

    def tick(self, seconds: int = 1) -> None:
        """Let time pass for every peer."""
        for _ in range(seconds):
            self.now_ms += 1000
            for name in self._present():
                self.peers[name].remind(self.now_ms)
            self.settle()

    def votes(self, block: Block, epoch: int) -> dict[str, bytes]:
        """Give the votes of an epoch on a block that peers have said and that hold."""
        roster = self.rosters.of_epoch(epoch)
        found = {}
        for name, each in self.said:
            if each.topic.kind is not Kind.VOTE:
                continue
            message, _ = signing.parse_blob(each.payload)
            vote = read_vote(message, each.payload)
            if (vote.epoch, vote.incarnation, vote.height) == (epoch, block.incarnation, block.height):
                try:
                    found[verify_block_vote(roster, block, each.payload).peer] = each.payload
                except VerificationError:
                    self.refused.append(f"vote of {name}")
        return found

    def certificate(self, proposal: Proposal, epoch: int) -> Certificate:
        """Give the certificate that the votes of an epoch make.

        Raises: VerificationError if they do not.
        """
        votes = self.votes(proposal.block, epoch)
        roster = self.rosters.of_epoch(epoch)
        require_quorum(roster, votes)
        certificate = Certificate(proposal=proposal.signed, votes=tuple(votes[name] for name in sorted(votes)))
        assert verify_certificate(roster, certificate) == proposal.block
        return certificate

    def certify(self, proposal: Proposal, epoch: int) -> None:
        """Let every peer hear the certificate of a block, and let the broker keep it."""
        topic = Topic(CHAIN, Kind.CERTIFICATE)
        self.kept[topic] = messages.encode_certificate(self.certificate(proposal, epoch))
        self.say(topic, self.kept[topic])

    def demand_recovery(self, incarnation: int = 0) -> None:
        """Let the recovery key demand that an incarnation be closed."""
        self.say(Topic(CHAIN, Kind.RECOVERY), sign_recovery(recovery_key(), GATEWAY, CHAIN, incarnation))

    def closing(self) -> Closing:
        """Give the closing for good that the peers' last freezes make."""
        shown = {}
        for name, each in self.said:
            if each.topic.kind is Kind.FREEZE:
                freezes, _ = messages.decode_freezes(each.payload)
                shown[name] = freezes
        own = [freeze for name in shown for freeze in shown[name] if self._is_final(name, freeze)]
        return close(self.rosters, own)

    def open(self, closing: Closing) -> None:
        """Let the recovery key begin the incarnation behind a closing, and the gateway with it."""
        opening = messages.encode_opening(sign_opening(recovery_key(), GATEWAY, closing), closing.shown)
        topic = Topic(CHAIN, Kind.OPENING, CHAIN)
        self.kept[topic] = opening
        self.say(topic, opening)
        self.writer = Writer(self.writer.keys, Head(chain=CHAIN, incarnation=closing.incarnation + 1))

    def blocks(self, name: str, incarnation: int = 0) -> list[Block]:
        """Give the blocks of a peer's copy."""
        kept = self.stores[name].blocks(CHAIN, incarnation, 0, 10_000)
        return [open_proposal(self.rosters.current, block.proposal) for block in kept]

    def events(self, name: str) -> list[str]:
        """Give what a peer has noted, in order."""
        return [note.event for by, note in self.notes if by == name]

    # -- pieces

    def _is_final(self, name: str, shown: Shown) -> bool:
        freeze = open_freeze(self.rosters, shown)
        return freeze.peer == name and freeze.why is not Why.EPOCH and freeze.epoch == self.rosters.current.epoch

    def _present(self) -> list[str]:
        return [name for name in self.peers if name not in self.away]

    def _take(self, name: str) -> list[Said]:
        said = self.peers[name].settle()
        self.notes += [(name, note) for note in self.peers[name].notes]
        self.peers[name].notes.clear()
        return said

    def _pass_on(self, by: str, said: Said) -> None:
        if said.retain:
            self.kept[said.topic] = said.payload
        if said.topic.kind is Kind.ASK:
            self._answer(said)
        for name in self._present():
            if name != by and (said.topic.kind is not Kind.ANSWER or said.topic.who == name):
                self._hear(name, said.topic, said.payload)

    def _hear(self, name: str, topic: Topic, payload: bytes) -> None:
        try:
            self.peers[name].hear(topic, payload, self.now_ms, VOTED_S)
        except VerificationError as error:
            self.refused.append(f"{name}: {topic}: {error}")

    def _answer(self, said: Said) -> None:
        """Answer an ask as the gateway does, while it is there."""
        ask = messages.decode_ask(said.payload)
        if "gateway" in self.away or ask.to not in {"", CHAIN} or ask.incarnation != self.writer.head.incarnation:
            return
        for proposal in self.writer.proposals[ask.next_height :][: messages.ANSWER_BLOCKS]:
            message = messages.encode_answer(proposal.signed, proposal.hashes, ())
            self._hear(said.topic.who, Topic(CHAIN, Kind.ANSWER, said.topic.who, CHAIN), message)
