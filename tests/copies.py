"""State folders of peers that do not run: with a copy that a test made up, or one that a peer came to at a table."""

import shutil
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

import apsw

from gateway.io.store.chains import ChainStore
from gateway.ledger.book import Changes
from gateway.ledger.messages import encode_freezes
from gateway.ledger.rosters import Rosters
from gateway.ledger.standing import Word
from gateway.ledger.voting import cast_vote
from gateway.model import Certificate, Proposal
from tests.builders import CHAIN, VOTED_S, Chain, alone, keys_of, make_roster
from tests.ledgers import Table, first_roster

LEAVES = (2, 5, 300, 250)


def chain_of(*sizes: int, branch: int = 0) -> list[Proposal]:
    """Give the blocks of a chain of so many leaves each; another branch has other leaves from height 2 on."""
    chain = Chain()
    for height, size in enumerate(sizes):
        chain.seal(*[sha256(b"%d %d %d" % (branch if height > 1 else 0, height, at)).digest() for at in range(size)])
    return chain.proposals


def make_peer(
    folder: Path,
    proposals: Sequence[Proposal],
    cause: Sequence[bytes] = (),
    name: str = "peer-0",
    certified: Sequence[int] = (),
) -> Path:
    """Make a peer's state folder with its copy of a chain: with certificates at some heights, frozen for a cause."""
    make_folder(folder, alone(make_roster()), name)
    store = ChainStore(str(folder / "ledger.db"))
    changes = Changes()
    for proposal in proposals:
        block = proposal.block
        votes = [cast_vote(keys_of(voter), voter, 1, block, VOTED_S) for voter in (name, "peer-2", "peer-3")]
        changes.votes[CHAIN, 0, block.height] = (proposal, votes[0])
        if block.height in certified:
            certificate = Certificate(proposal=proposal.signed, votes=tuple(votes))
            changes.certificates[CHAIN, 0, block.height] = certificate
    if cause:
        changes.words[CHAIN, 0, 0, Word.CAUSE] = encode_freezes((), cause)
    store.commit(changes)
    store.close()
    return folder


def make_folder(folder: Path, rosters: Rosters, name: str) -> None:
    """Make a peer's state folder, without a copy yet."""
    folder.mkdir()
    (folder / "peer.toml").write_text(f'id = "{name}"\nbroker = "mqtt://127.0.0.1:1"\nroster = "roster.cose"\n')
    (folder / "roster.cose").write_bytes(rosters.encode())


def forked() -> tuple[list[Proposal], tuple[bytes, bytes]]:
    """Give a chain, and the two proposals by which its gateway signed another one."""
    ours, other = chain_of(*LEAVES), chain_of(*LEAVES, branch=1)[2]
    return ours, (ours[2].signed, other.signed)


def damage(folder: Path, sql: str) -> None:
    """Change a copy behind its peer's back."""
    connection = apsw.Connection(str(folder / "ledger.db"))
    connection.execute(sql)
    connection.close()


FOUR = ("a", "b", "c", "d")


def seated(folder: Path) -> Table:
    """Give four peers around a table that have voted for a block."""
    table = Table(folder, first_roster(FOUR))
    table.seat(*FOUR)
    table.certify(table.propose(b"leaf 0"), 1)
    return table


def leave(table: Table, name: str, folder: Path) -> Path:
    """Close a table that was seated in the folder above, and give a state folder of one of its peers."""
    table.close()
    make_folder(folder, table.rosters, name)
    shutil.copy(folder.parent / f"{name}.db", folder / "ledger.db")
    return folder


def begin_again(table: Table) -> None:
    """Close a chain at its recovery key's demand, and begin its next incarnation."""
    table.demand_recovery()
    table.open(table.closing())
