from gateway.anchoring import Anchoring
from gateway.io.mqtt import Broker
from gateway.ledger import messages
from gateway.ledger.anchor import TipPoll, state_tip
from gateway.ledger.closing import Place
from gateway.ledger.messages import Kind, Topic
from gateway.merkle import Frontier
from gateway.model import Proposal
from tests.builders import CHAIN, Chain, genesis_leaf, keys_of, make_reading, make_roster, reading_leaf

NONCE = bytes(16)
ROSTER = make_roster()


def tip_of(peer: str, chain: Chain, blocks: int) -> bytes:
    """Give the tip of a peer that has voted for the first blocks of a chain."""
    last = chain.proposals[blocks - 1]
    frontier = Frontier().extend(chain.hashes(0, last.block.size))
    place = Place(blocks, frontier.size, frontier.root(), last.signed)
    return messages.encode_tip(state_tip(keys_of(peer), peer, CHAIN, 0, place, NONCE), last.signed)


def answer(anchoring: Anchoring, proposal: Proposal, peer: str) -> None:
    payload = messages.encode_answer(proposal.signed, proposal.hashes, ())
    anchoring._hear(Topic(CHAIN, Kind.ANSWER, CHAIN, peer), payload)


async def test_fault_14_block_that_one_peer_alone_shows_is_not_signed_again() -> None:
    """After an old backup, a block of ours that comes from a peer beyond the quorum's tips is taken back first."""
    chain = Chain()
    chain.seal(genesis_leaf())
    for number in (1, 2):
        chain.seal(reading_leaf(make_reading(number)))
    anchoring = Anchoring(Broker.parse("mqtt://127.0.0.1:1"), ROSTER, CHAIN, lambda: None)
    anchoring._poll = TipPoll(ROSTER, CHAIN, 0, NONCE)
    for peer in ("peer-0", "peer-1", "peer-2"):
        anchoring._hear(Topic(CHAIN, Kind.TIP, peer), tip_of(peer, chain, 1))
    answer(anchoring, chain.proposals[2], "peer-3")
    anchoring.sealed_up_to(1)
    assert not anchoring.may_seal
    assert [proposal.block.height for proposal in anchoring.lost] == [2]
    anchoring.sealed_up_to(3)
    assert anchoring.may_seal
