"""The invariant of a whole peer: whatever comes under a topic of the ledger, VerificationError or none is raised.

Input: a byte that chooses the kind of message, then the payload. Afterwards the peer goes on: it votes for the one
block that its gateway signed, and for no other, unless the recovery key has closed the chain.
"""

from gateway.errors import VerificationError
from gateway.ledger import comparing, messages, proving
from gateway.ledger.closing import close, sign_opening, sign_recovery
from gateway.ledger.messages import Ask, Kind, Topic
from gateway.ledger.peering import PeerRule
from gateway.ledger.proving import Question
from gateway.ledger.quorum import verify_block_vote
from tests.fuzz.readers import check_text
from tests.fuzz.target import Target
from tests.ledgers import CHAIN, GATEWAY, VOTED_S, Writer, first_roster, keys_of, recovery_key
from tests.simulation.disks import PeerDisk
from tests.test_ledger_closing import freeze_of

_ROSTERS = first_roster(("a", "b", "c", "d"))
_WRITER = Writer()
_BLOCK = _WRITER.seal(_ROSTERS.current, b"leaf 0", b"leaf 1")
_FREEZES = [freeze_of(name) for name in "abc"]
_KINDS = tuple(sorted(set(Kind) - {Kind.ROSTER}))
_HEADS = comparing.sign_heads(
    keys_of("peer", "b").require(_ROSTERS.current).first,
    "b",
    _ROSTERS.current.ledger,
    1,
    [comparing.HeadOf(CHAIN, 0, 1, bytes(32))],
)
_OPENING = sign_opening(recovery_key(), GATEWAY, close(_ROSTERS, _FREEZES))
_SOUND = {
    Kind.PROPOSAL: messages.encode_proposal(_BLOCK.signed, _BLOCK.hashes),
    Kind.ANSWER: messages.encode_answer(_BLOCK.signed, _BLOCK.hashes, []),
    Kind.ASK: messages.encode_ask(Ask(incarnation=0, next_height=0)),
    Kind.PROVE: proving.encode_question(Question(to="a", incarnation=0, size=2, index=1)),
    Kind.FREEZE: messages.encode_freezes(_FREEZES, [sign_recovery(recovery_key(), GATEWAY, CHAIN, 0)]),
    Kind.RECOVERY: sign_recovery(recovery_key(), GATEWAY, CHAIN, 0),
    Kind.OPENING: messages.encode_opening(_OPENING, _FREEZES),
    Kind.HEADS: _HEADS[0],
}


def check_peer(data: bytes) -> None:
    """Let a peer hear one message of any bytes under any topic."""
    kind = _KINDS[data[0] % len(_KINDS)] if data else Kind.PROPOSAL
    disk = PeerDisk(lambda: None)
    rule = PeerRule("a", keys_of("peer", "a").of, _ROSTERS, disk)
    try:
        rule.hear(Topic(CHAIN, kind, "b", "b"), data[1:], 0, VOTED_S)
    except VerificationError as error:
        check_text(error)
    rule.settle()
    is_closed = disk.is_frozen(CHAIN) or disk.incarnation(CHAIN) > 0
    if not is_closed:
        rule.hear(Topic(CHAIN, Kind.PROPOSAL), _SOUND[Kind.PROPOSAL], 0, VOTED_S)
    votes = [each.payload for each in rule.settle() if each.topic.kind is Kind.VOTE]
    assert is_closed or votes, "it votes no more"
    for vote in votes:
        assert verify_block_vote(_ROSTERS.current, _BLOCK.block, vote).peer == "a"


_SEEDS = tuple(bytes((_KINDS.index(kind),)) + payload for kind, payload in _SOUND.items())
PEER_TARGETS = {"peer": Target(name="peer", check=check_peer, seeds=_SEEDS)}
