"""A gateway's state folder as a run would have left it: configuration, secret, roster, and a certified chain."""

from collections.abc import Sequence
from pathlib import Path

from gateway import canonical, cbor, signing
from gateway.io.keyring import write_secret
from gateway.io.store.readings import LeafRow, ReadingStore, Signer
from gateway.ledger.voting import cast_vote
from gateway.model import Roster
from tests.builders import CHAIN, GATEWAY, MASTER, VOTED_S, Chain, alone, keys_of, make_roster, ward_chain
from tests.processes import type_iomt

PEERS = ("peer-0", "peer-1", "peer-2")
CONFIG = f"""\
id = "{GATEWAY}"
chain = "{CHAIN}"
broker = "mqtt://127.0.0.1:1"
roster = "roster.cose"
"""


def keep(store: ReadingStore, chain: Chain, voters: Sequence[str] = PEERS) -> None:
    """Keep a whole chain, certified by these peers."""
    for position, leaf in enumerate(chain.leaves):
        store.append([row_of(leaf, position)])
    for proposal in chain.proposals:
        store.seal(proposal.block, proposal.signed, proposal.hashes)
        votes = [(peer, cast_vote(keys_of(peer), peer, 1, proposal.block, VOTED_S)) for peer in voters]
        store.save_votes(proposal.block.height, votes, certified=True)


def row_of(leaf: bytes, position: int) -> LeafRow:
    """Take a leaf apart as the store keeps it."""
    message = signing.parse(leaf)
    is_reading = message.header[canonical.CONTENT_TYPE] == canonical.READING_TYPE
    read = canonical.decode_reading if is_reading else canonical.decode_event
    issuer = str(message.claim(canonical.ISSUER))
    prefix = b"\xd2\x84" + cbor.encode(message.protected) + b"\xa0"
    signer = Signer("reading" if is_reading else "event", issuer, prefix)
    return LeafRow(position, signer, read(message.payload or b"").sequence, leaf.removeprefix(prefix))


def make_state(folder: Path, chain: Chain | None = None, roster: Roster | None = None) -> Path:
    """Make a state folder with `ward_chain`, or another, certified by three of four peers."""
    folder.mkdir(mode=0o750)
    (folder / "gateway.toml").write_text(CONFIG)
    (folder / "roster.cose").write_bytes(alone(roster or make_roster()).encode())
    write_secret(folder / "master.key", MASTER)
    store = ReadingStore(str(folder / "readings.db"))
    keep(store, chain or ward_chain())
    store.close()
    return folder


def init_gateway(folder: Path) -> Path:
    """Initialise a gateway in a folder, admitted to a ledger without peers beside it; give its state folder."""
    ledger = folder.parent / "ledger"
    member = ("--broker", "mqtt://127.0.0.1:1", "--roster", ledger / "roster.cose")
    type_iomt("ledger", "create", "--state", ledger)
    type_iomt("init", "--state", folder, "--id", "ward-3", *member)
    type_iomt("ledger", "admit", "--state", ledger, *folder.glob("*.card"))
    return folder
