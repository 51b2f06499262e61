"""The table of all targets."""

from tests.fuzz.decoders import DECODER_TARGETS
from tests.fuzz.peering import PEER_TARGETS
from tests.fuzz.readers import READER_TARGETS
from tests.fuzz.signed import SIGNED_TARGETS
from tests.fuzz.target import Target

TARGETS: dict[str, Target] = {**DECODER_TARGETS, **READER_TARGETS, **PEER_TARGETS, **SIGNED_TARGETS}
