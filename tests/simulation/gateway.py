"""An honest gateway: what `gateway.daemon` and `gateway.recorder` do with a chain, in their order, on a disk in memory.

The talk with the peers is the product's own `Anchoring`. Where the product awaits its disk, other steps come between.
"""

from collections.abc import Iterator

from gateway import merkle
from gateway.anchoring import Anchoring
from gateway.block import Head, SealPolicy, next_block
from gateway.daemon import BEAT_S
from gateway.errors import StoreError, VerificationError
from gateway.io.mqtt import Broker
from gateway.ledger import messages
from gateway.ledger.messages import Kind, Topic
from gateway.ledger.quorum import certificate_epoch, verify_block_vote
from gateway.ledger.rosters import Rosters
from gateway.ledger.voting import require_current_keys, sign_block
from gateway.model import Block, Certificate, Member, Proposal
from tests.simulation.disks import GatewayDisk, Pending, SealedBlock
from tests.simulation.machine import Machine, Site
from tests.simulation.membership import RosterFile, keys_of
from tests.simulation.traits import Kind as Fated
from tests.simulation.turns import Broken

NOWHERE = Broker(host="nowhere", port=1)
SLOWEST_WRITE_MS = 20
HEARD = frozenset({Kind.VOTE, Kind.TIP, Kind.ASK, Kind.FREEZE, Kind.ROSTER})
LAST_LEAF_MS = 5_000
"""How long after all has healed something is measured once more."""


class HonestGateway(Machine):
    """A gateway that follows the rules; `leaf_ms` is how often something is measured, on average."""

    def __init__(self, name: str, member: Member, site: Site, rosters: Rosters, seal: SealPolicy, leaf_ms: int) -> None:
        super().__init__(name, site)
        self.chain = member.chain or ""
        self.id = member.id
        self.disk = GatewayDisk(self.power)
        self.roster = RosterFile(rosters, self.power)
        self._policy = seal
        self._leaf_ms = leaf_ms
        self._measures = True
        self._leaves = 0
        self._reset()

    def _reset(self) -> None:
        roster = self.roster.rosters.current
        self._keys = keys_of("gateway", self.id).require(roster)
        self._anchoring = Anchoring(NOWHERE, roster, self.chain, self._wake, self.disk.opening)
        self._entries: list[Pending] = []
        self._head, self._unsealed = Head(chain=self.chain), list[Pending]()
        self._pass: Iterator[None] | None = None
        self._awake = False

    # -- a machine

    def begin(self) -> None:
        """Read its disk and go on from there; a start is an event of the chain."""
        self.roster.look()
        self._reset()
        self._head, self._unsealed = self.disk.load(self.chain)
        self.measure()
        self._commit()
        self._anchoring.begin(self._head)
        self.after(self.site.chance.randint(1, 2 * self._leaf_ms), self._sense)
        self.after(int(BEAT_S * 1000), self._beat)

    def connected(self) -> None:
        """Be on a new connection."""
        self._anchoring.link.connected.set()
        self._anchoring.link.on_connected()

    def disconnect(self) -> None:
        """Let it notice that its connection is lost."""
        self._anchoring.link.connected.clear()

    def wants(self, topic: Topic) -> bool:
        """Say whether it has subscribed to the topic."""
        if not self._anchoring.link.connected.is_set() or (topic.chain != self.chain and topic.kind is not Kind.ROSTER):
            return False
        return topic.kind in HEARD or (topic.kind is Kind.ANSWER and topic.who == self.chain)

    def hear(self, topic: Topic, payload: bytes) -> None:
        """Take in what a peer says."""
        try:
            self._anchoring._hear(topic, payload)
        except VerificationError as error:
            self.site.trace.tell(self.name, f"refuses {topic}: {error}", count="messages refused")

    def calm(self) -> None:
        """Let no more power cut happen to it, and one last leaf be measured."""
        super().calm()
        if self._measures:
            self._measures = False
            self.after(LAST_LEAF_MS, self.measure)

    def failed(self, error: StoreError) -> None:
        """Be found out: whoever is honest, also with an old disk, never finds its own chain in disagreement."""
        if self.site.promises.fates[self.chain].kind in {Fated.HONEST, Fated.RESTORED}:
            raise Broken(f"the gateway of {self.chain} does not trust its disk: {error}")

    @property
    def unfinished(self) -> str:
        """What is not final yet; empty if nothing is."""
        if self.roster.rosters.current != self.site.membership.rosters.current:
            return f"{self.name} goes by an old roster"
        if self._anchoring.stopped_by:
            return f"{self.name} stands still: {self._anchoring.stopped_by}"
        if not self._anchoring.may_seal:
            return f"{self.name} waits for its peers before it seals"
        uncertified = [sealed.block.height for sealed in self.disk.blocks if not sealed.certified]
        if uncertified:
            return f"{self.name} waits for votes on block {uncertified[0]} of {len(self.disk.blocks)}"
        return f"{self.name} has leaves that are not sealed" if self._unsealed or self._entries else ""

    @property
    def awaits(self) -> int:
        """The height up to which it waits for lost blocks before it seals; 0 if it does not."""
        poll = self._anchoring._poll
        return poll.next_height if poll is not None and poll.answered and not self._anchoring.may_seal else 0

    @property
    def may_seal(self) -> bool:
        """Whether it knows how far its chain goes, and goes on."""
        return self._anchoring.may_seal

    @property
    def stopped_by(self) -> str:
        """Why nothing of its incarnation is certified any more; empty while it goes on."""
        return self._anchoring.stopped_by

    def require_kept(self, block: Block) -> None:
        """Check that a block that a quorum has signed is in its chain.

        Raises: Broken if not.
        """
        disk: GatewayDisk | None = self.disk
        while disk is not None and disk.incarnation != block.incarnation:
            disk = disk.before
        kept = [] if disk is None else disk.blocks[block.height : block.height + 1]
        if not kept or kept[0].block != block:
            raise Broken(f"{self.name} has lost block {block.height}, which a quorum had signed")

    def require_final(self) -> None:
        """Check that whatever it has ever kept is final, in one incarnation or another.

        Raises: Broken if not.
        """
        lost, final = set[bytes](), set[bytes]()
        disk: GatewayDisk | None = self.disk
        while disk is not None:
            blocks = self.site.promises.final((self.chain, disk.incarnation))
            final |= set(disk.leaves[: blocks[-1].size if blocks else 0])
            lost |= set(disk.leaves)
            disk = disk.before
        if lost - final:
            raise Broken(f"{len(lost - final)} leaves of {self.name} are not final in any incarnation")

    # -- what is measured, and the beat

    def _sense(self) -> None:
        if self._measures:
            self.measure()
            self.after(self.site.chance.randint(1, 2 * self._leaf_ms), self._sense)

    def measure(self) -> None:
        """Measure something: a leaf of the chain."""
        self._leaves += 1
        boot_ms = self.site.clock.now_ms
        leaf = f"leaf {self._leaves} of {self.name}".encode()
        self._entries.append(Pending(merkle.leaf_hash(leaf), self.wall_ms, boot_ms))
        self._wake()

    def _beat(self) -> None:
        self._keep_late_votes()
        self._go_by(self.roster.look())
        self._wake()
        self.after(int(BEAT_S * 1000), self._beat)

    def _keep_late_votes(self) -> None:
        late = list(self._anchoring.late)
        self._anchoring.late.clear()
        for height, signed in late:
            sealed = self.disk.blocks[height]
            try:
                vote = verify_block_vote(self.roster.rosters.current, sealed.block, signed)
            except VerificationError:
                continue
            if not sealed.certified or vote.epoch == _epoch_of(sealed):
                self.disk.save_votes(height, [(vote.peer, signed)], certified=False)

    def _hear_rosters(self) -> Iterator[None]:
        while self._anchoring.rosters:
            _, data = self._anchoring.rosters.popleft()
            yield
            self._go_by(self.roster.hear(data))

    def _go_by(self, rosters: Rosters | None) -> None:
        if rosters is not None:
            self.site.trace.tell(self.name, f"goes by epoch {rosters.current.epoch}", count="rosters adopted")
            self._keys = keys_of("gateway", self.id).require(rosters.current)
            self._anchoring.adopt(rosters.current)

    # -- keep

    def _wake(self) -> None:
        self._awake = True
        if self._pass is None:
            self._begin_pass()

    def _begin_pass(self) -> None:
        self._pass = self._keep()
        self.after(0, self._go_on)

    def _go_on(self) -> None:
        """Do what `keep` does up to its next write, then say what waits."""
        for _ in self._pass or ():
            self.after(self.site.chance.randint(0, SLOWEST_WRITE_MS), self._go_on)
            break
        else:
            self._pass = None
            if self._awake or self._entries or self._seal_wait_ms() == 0:
                self._begin_pass()
        self._say_waiting()

    def _keep(self) -> Iterator[None]:
        self._awake = False
        yield
        self._commit()
        yield from self._hear_rosters()
        yield from self._take_back()
        yield from self._seal()
        yield from self._keep_certificates()
        yield from self._fill_flight()
        yield from self._answer()
        self._anchoring.say_due(self.site.clock.now_ms)

    def _commit(self) -> None:
        entries, self._entries = self._entries, []
        if entries:
            self.disk.append(entries)
            self._unsealed += entries

    def _take_back(self) -> Iterator[None]:
        lost, self._anchoring.lost = self._anchoring.lost, type(self._anchoring.lost)()
        for proposal in sorted(lost, key=lambda proposal: proposal.block.height):
            if proposal.block.height == self._head.next_height:
                yield
                self._adopt(proposal)

    def _adopt(self, proposal: Proposal) -> None:
        self._commit()
        block, frontier = proposal.block, self._head.frontier
        if (block.height, block.start, block.start_root) != (self._head.next_height, frontier.size, frontier.root()):
            raise StoreError(f"block {block.height}, which peers hold, does not follow what is sealed here")
        after = frontier.extend(proposal.hashes)
        if (after.size, after.root()) != (block.size, block.root):
            return
        self.disk.adopt(block, proposal.signed, proposal.hashes)
        self._head, self._unsealed = self.disk.load(self.chain)
        self._anchoring.sealed_up_to(self._head.next_height)
        self.site.trace.tell(self.name, f"takes block {block.height} back", count="blocks taken back")

    def _seal_wait_ms(self) -> int | None:
        if not self._anchoring.may_seal:
            return None
        age_ms = self.site.clock.now_ms - self._unsealed[0].boot_ms if self._unsealed else 0
        return self._policy.wait_ms(len(self._unsealed), age_ms)

    def _seal(self) -> Iterator[None]:
        if self._seal_wait_ms() != 0:
            return
        pending = self._unsealed[: self._policy.leaves]
        yield
        hashes = [leaf.leaf_hash for leaf in pending]
        latest_ms = max(leaf.real_ms for leaf in pending)
        block, after = next_block(self._head, hashes, latest_ms, self.wall_ms)
        signed = sign_block(self._keys, self.id, block)
        self.disk.seal(block, signed, hashes)
        yield
        self._head = after
        del self._unsealed[: len(pending)]
        self._anchoring.sealed_up_to(after.next_height)
        self.site.trace.tell(self.name, f"seals block {block.height}")
        self._show(Topic(self.chain, Kind.PROPOSAL), messages.encode_proposal(signed, hashes))
        if self._anchoring.room and self._anchoring.flight_height == block.height - 1:
            self._anchoring.propose(Proposal(block=block, signed=signed, hashes=tuple(hashes)))

    def _keep_certificates(self) -> Iterator[None]:
        while self._anchoring.certified:
            certified = self._anchoring.certified.popleft()
            votes = list(zip(certified.peers, certified.certificate.votes, strict=True))
            yield
            self.disk.save_votes(certified.block.height, votes, certified=True)
            self._anchoring.say_certificate(certified)

    def _fill_flight(self) -> Iterator[None]:
        anchoring = self._anchoring
        if not anchoring.may_seal or anchoring.flight_height >= self._head.next_height - 1:
            return
        room = anchoring.room
        yield
        blocks = self.disk.uncertified(anchoring.flight_height, room)
        for sealed in blocks:
            self._sign_again(sealed)
            hashes = tuple(self.disk.hashes(sealed.block))
            anchoring.propose(Proposal(block=sealed.block, signed=sealed.signed, hashes=hashes))
        if len(blocks) < room:
            anchoring.flight_height = self._head.next_height - 1

    def _sign_again(self, sealed: SealedBlock) -> None:
        """Sign a block again that was sealed under an earlier roster, if it would not be voted for as it is."""
        try:
            require_current_keys(self.roster.rosters.current, sealed.signed)
        except VerificationError:
            self.disk.sign_again(sealed, sign_block(self._keys, self.id, sealed.block))

    def _answer(self) -> Iterator[None]:
        while self._anchoring.asked:
            asker, height = self._anchoring.asked.popleft()
            yield
            for sealed in self.disk.blocks[height : height + messages.ANSWER_BLOCKS]:
                votes = [sealed.votes[name] for name in sorted(sealed.votes)] if sealed.certified else []
                self._anchoring.answer(asker, sealed.signed, self.disk.hashes(sealed.block), votes)

    def _say_waiting(self) -> None:
        waiting = self._anchoring.outbox._waiting
        while not waiting.empty():
            outgoing = waiting.get_nowait()
            if self._anchoring.link.connected.is_set():
                topic = Topic.parse(outgoing.topic)
                self.publish(topic, outgoing.payload, retain=outgoing.retain)
                self._show(topic, outgoing.payload)

    def _show(self, topic: Topic, payload: bytes) -> None:
        if topic.kind in {Kind.PROPOSAL, Kind.ANSWER}:
            self.site.promises.proposed(payload)
        elif topic.kind is Kind.CERTIFICATE:
            self.site.promises.certificate(payload)


def _epoch_of(sealed: SealedBlock) -> int:
    return certificate_epoch(Certificate(proposal=sealed.signed, votes=tuple(sealed.votes.values())))
