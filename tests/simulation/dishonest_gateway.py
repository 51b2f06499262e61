"""Gateways that lie, with their owners: they grow several histories of a chain, and begin incarnations as they like."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from gateway import merkle
from gateway.block import Head, next_block
from gateway.errors import VerificationError
from gateway.ledger import messages
from gateway.ledger.closing import START, Closing, Shown, close, open_freeze, sign_opening, sign_recovery
from gateway.ledger.messages import Kind, Topic
from gateway.ledger.voting import sign_block
from gateway.model import Block, Member, Why
from tests.simulation.machine import Machine, Site
from tests.simulation.membership import keys_of, recovery_key_of


@dataclass(slots=True)
class Branch:
    """One history of an incarnation: the head before each block, and the blocks' signed proposals and hashes."""

    heads: list[Head]
    said: list[tuple[bytes, Sequence[bytes]]] = field(default_factory=list)


class DishonestGateway(Machine):
    """A gateway that grows several histories of its chain and shows them to whom it likes.

    Where it `parts` its peers, each of them is shown one of two histories for ever, and those that lie both.
    """

    def __init__(
        self, name: str, member: Member, site: Site, every_ms: int, liars: Sequence[str], *, parts: bool
    ) -> None:
        super().__init__(name, site)
        self._chain = member.chain or ""
        self._id = member.id
        self._every_ms = every_ms
        self._liars = liars
        self._parts = parts
        self._side: dict[str, int] = {}
        self._leaves = 0
        self._incarnation = 0
        self._trees: dict[int, list[Branch]] = {0: self._new_tree(0)}
        self._freezes: dict[tuple[int, int, bool], dict[str, Shown]] = {}

    def begin(self) -> None:
        """Go on lying."""
        self.after(self.site.chance.randint(1, self._every_ms), self._act)

    def wants(self, topic: Topic) -> bool:
        """Say whether it has subscribed to the topic: it answers who asks, and gathers freezes."""
        return topic.chain == self._chain and topic.kind in {Kind.ASK, Kind.FREEZE}

    def hear(self, topic: Topic, payload: bytes) -> None:
        """Answer with the blocks of any history."""
        try:
            if topic.kind is Kind.FREEZE:
                self._gather(payload)
                return
            ask = messages.decode_ask(payload)
        except VerificationError:
            return
        branches = self._trees.get(ask.incarnation)
        if not branches or ask.to not in {"", self._chain}:
            return
        branch = self._branch_for(topic.who, branches)
        for signed, hashes in branch.said[ask.next_height : ask.next_height + messages.ANSWER_BLOCKS]:
            answer = messages.encode_answer(signed, hashes, ())
            self.site.promises.proposed(answer)
            self.site.network.publish(self.name, Topic(self._chain, Kind.ANSWER, topic.who, self._chain), answer)

    def _act(self) -> None:
        chance = self.site.chance
        incarnation = self._incarnation
        if incarnation and chance.random() < 0.3:  # the old one is not dead for it
            incarnation -= 1
        branches = self._trees[incarnation]
        branch = chance.choice(branches)
        match chance.randrange(12):
            case 0 | 1 if not self._parts:
                height = chance.randrange(max(len(branch.said) - 3, 0), len(branch.said) + 1)
                branches.append(Branch(branch.heads[: height + 1], branch.said[:height]))
            case 2 if not self._parts:
                self._tell_some(self._twisted(branch))
            case 3 if branch.said and not self._parts:
                self._tell_some(chance.choice(branch.said))
            case 4 | 5 if not self._parts:
                self._split(branches, branch)
            case 6:
                self._demand()
            case 7 | 8:
                self._open()
            case _ if self._parts:
                self._grow_both(branches)
            case _:
                self._tell_some(self._grown(branch))
        self.after(chance.randint(1, 2 * self._every_ms), self._act)

    # -- histories

    def _new_tree(self, incarnation: int) -> list[Branch]:
        return [Branch([Head(chain=self._chain, incarnation=incarnation)]) for _ in range(1 + self._parts)]

    def _branch_for(self, name: str, branches: list[Branch]) -> Branch:
        if not self._parts:
            return self.site.chance.choice(branches)
        return branches[self._side.setdefault(name, self.site.chance.randrange(2))]

    def _grow_both(self, branches: list[Branch]) -> None:
        """Let each of two histories grow by a block, or show one that was shown before, each to its own peers."""
        names = [member.id for member in self.site.membership.rosters.current.peers]
        for side, branch in enumerate(branches):
            is_old = branch.said and self.site.chance.random() < 0.4
            said = self.site.chance.choice(branch.said[-4:]) if is_old else self._grown(branch)
            to = [name for name in names if self._side.setdefault(name, self.site.chance.randrange(2)) == side]
            self._tell(said, to)

    def _split(self, branches: list[Branch], branch: Branch) -> None:
        """Show one next block to some peers, and another to the rest."""
        other = Branch(list(branch.heads), list(branch.said))
        branches.append(other)
        names = [member.id for member in self.site.membership.rosters.current.peers]
        some = self.site.chance.sample(names, len(names) // 2)
        self._tell(self._grown(branch), some)
        self._tell(self._grown(other), [name for name in names if name not in some])

    def _grown(self, branch: Branch) -> tuple[bytes, Sequence[bytes]]:
        block, hashes, after = self._next(branch.heads[-1])
        branch.said.append((self._signed(block), hashes))
        branch.heads.append(after)
        return branch.said[-1]

    def _twisted(self, branch: Branch) -> tuple[bytes, Sequence[bytes]]:
        """Sign a block that is wrong in one way."""
        chance = self.site.chance
        block, hashes, _ = self._next(branch.heads[-1])
        twisted: list[Block] = [
            replace(block, start=max(block.start - 1, 0), size=block.size - 1),
            replace(block, start=block.start + 1, size=block.size + 1),
            replace(block, start_root=chance.randbytes(32)),
            replace(block, root=chance.randbytes(32)),
            replace(block, height=block.height + 1),
            replace(block, incarnation=block.incarnation + 1),
            replace(block, sealed_ms=block.sealed_ms + 1),
        ]
        return self._signed(chance.choice(twisted)), hashes

    def _next(self, head: Head) -> tuple[Block, list[bytes], Head]:
        hashes = []
        for _ in range(self.site.chance.randint(1, 3)):
            self._leaves += 1
            hashes.append(merkle.leaf_hash(f"leaf {self._leaves} of {self.name}".encode()))
        block, after = next_block(head, hashes, 0, self.wall_ms)
        return block, hashes, after

    def _signed(self, block: Block) -> bytes:
        return sign_block(keys_of("gateway", self._id).require(self.site.membership.rosters.current), self._id, block)

    def _tell_some(self, said: tuple[bytes, Sequence[bytes]]) -> None:
        """Show a block to some peers, or to all."""
        names = [member.id for member in self.site.membership.rosters.current.peers]
        self._tell(said, self.site.chance.sample(names, self.site.chance.randint(1, len(names))))

    def _tell(self, said: tuple[bytes, Sequence[bytes]], to: Sequence[str]) -> None:
        message = messages.encode_proposal(*said)
        self.site.promises.proposed(message)
        self.site.network.publish(self.name, Topic(self._chain, Kind.PROPOSAL), message, to=[*to, *self._liars])

    # -- endings and beginnings

    def _demand(self) -> None:
        """Demand that an incarnation be closed, or give the peers the evidence against itself."""
        demand = sign_recovery(recovery_key_of(self._id), self._id, self._chain, self._incarnation)
        self.site.network.publish(self.name, Topic(self._chain, Kind.RECOVERY), demand)

    def _gather(self, payload: bytes) -> None:
        shown, _ = messages.decode_freezes(payload)
        for each in shown:
            freeze = open_freeze(self.site.membership.rosters, each)
            key = freeze.incarnation, freeze.epoch, freeze.why is not Why.EPOCH
            self._freezes.setdefault(key, {})[freeze.peer] = each

    def _open(self) -> None:
        """Begin an incarnation: as it should be, or with what does not suffice, or behind another closing as well."""
        chance = self.site.chance
        known = [key for key in self._freezes if key[0] in {self._incarnation, self._incarnation - 1}]
        if not known:
            return
        key = chance.choice(known)
        shown = list(self._freezes[key].values())
        if chance.random() < 0.5:
            shown = chance.sample(shown, chance.randint(1, len(shown)))
        if chance.random() < 0.2:
            shown += chance.sample(sorted_values(self._freezes[chance.choice(known)]), 1)
        incarnation = max(key[0], 0)
        closing = self._closing(incarnation, key, shown)
        opening = messages.encode_opening(sign_opening(recovery_key_of(self._id), self._id, closing), shown)
        self.site.network.publish(self.name, Topic(self._chain, Kind.OPENING, self._chain), opening, retain=True)
        if incarnation + 1 not in self._trees:
            self._trees[incarnation + 1] = self._new_tree(incarnation + 1)
            self._incarnation = incarnation + 1

    def _closing(self, incarnation: int, key: tuple[int, int, bool], shown: Sequence[Shown]) -> Closing:
        """Give these freezes as if they were a closing."""
        try:
            return close(self.site.membership.rosters, shown)
        except VerificationError:
            return Closing(
                chain=self._chain,
                incarnation=incarnation,
                epoch=key[1],
                is_final=True,
                highest=START,
                shown=tuple(shown),
            )


def sorted_values(freezes: dict[str, Shown]) -> list[Shown]:
    """Give freezes in the order of their peers."""
    return [freezes[name] for name in sorted(freezes)]
