"""What `iomt peer status` shows: where a peer stands on each chain, read from its copy and the words in it."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import Any

import click

from gateway import signing
from gateway.cli.output import printable, show_table
from gateway.errors import VerificationError
from gateway.io.store.chains import ChainStore, is_there
from gateway.io.store.database import undamaged
from gateway.ledger.rosters import Rosters
from gateway.ledger.standing import Standing, Words, first_epoch, load_standing, roster_of_chain
from gateway.ledger.voting import Tip, block_of

OPEN, BEHIND, LEFT = "open", "behind the base", "left the roster"
TWO_HISTORIES, RECOVERY, NOBODY_VOTES = "frozen: two histories", "frozen: recovery", "nobody votes"
_WHY = {
    TWO_HISTORIES: "is frozen: its gateway signed two histories",
    RECOVERY: "is frozen: its recovery key demands it",
    NOBODY_VOTES: "has no votes: its gateway was on no roster that has peers",
    LEFT: "is at its end: its gateway is on the roster no more",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainStatus:
    """One chain, in its latest incarnation.

    `epoch` is that in which this peer votes there, `base` the height below which it says no vote of it; `certified`
    blocks are final by the last certificate that is kept; `closed` says that only the next incarnation goes on.
    """

    chain: str
    gateway: str | None
    incarnation: int
    epoch: int | None
    blocks: int
    certified: int
    leaves: int
    root: str
    state: str
    base: int
    frozen: bool
    closed: bool
    evidence: Sequence[Mapping[str, Any]]
    heard_ms_ago: int | None


def chain_statuses(copy: str, rosters: Rosters, heard_ms_ago: Mapping[str, int]) -> list[ChainStatus]:
    """Give how every chain stands that is or was on the roster, or is in the copy; who never ran has no copy yet."""
    written = {gateway.chain or "" for roster in rosters.versions for gateway in roster.gateways}
    if not is_there(copy):
        return [_status(rosters, Tip(chain=chain), {}, 0, None) for chain in sorted(written)]
    with closing(ChainStore(copy, read_only=True)) as store:
        store.hold()
        found = []
        for chain in sorted({*written, *store.chains()}):
            tip = store.tip(chain)
            words, certified = store.words(chain, tip.incarnation), store.certified(chain, tip.incarnation)
            found.append(_status(rosters, tip, words, certified, heard_ms_ago.get(chain)))
        return found


def record_of(status: ChainStatus) -> dict[str, Any]:
    """Give a chain's status as JSON shows it."""
    return asdict(status)


def show_statuses(statuses: Sequence[ChainStatus]) -> None:
    """Show the chains in a table, and below it whatever keeps one from going on."""
    show_table(("chain", "inc", "epoch", "blocks", "final", "leaves", "root", "heard", "state"), map(_row, statuses))
    for status in statuses:
        if status.state != OPEN:
            click.echo(f"\n{printable(status.chain)} {_why(status)}")
        if status.closed:
            click.echo("a quorum has closed this incarnation: iomt ledger reincarnate begins the next one")
        if status.evidence:
            show_table(("height", "proposal"), [(each["height"], each["proposal"]) for each in status.evidence])


def _status(rosters: Rosters, tip: Tip, words: Words, certified: int, heard_ms_ago: int | None) -> ChainStatus:
    standing = _standing(rosters, tip, words)
    cause = standing.cause if standing is not None else ()
    return ChainStatus(
        chain=tip.chain,
        gateway=_gateway(rosters, tip.chain),
        incarnation=tip.incarnation,
        epoch=None if standing is None or standing.epoch > rosters.current.epoch else standing.epoch,
        blocks=tip.next_height,
        certified=certified,
        leaves=tip.frontier.size,
        root=tip.frontier.root().hex(),
        state=NOBODY_VOTES if standing is None else _state(rosters, standing),
        base=0 if standing is None else standing.base.next_height,
        frozen=tip.frozen,
        closed=standing is not None and True in standing.closed,
        evidence=[_proposal_record(signed) for signed in cause] if len(cause) > 1 else [],
        heard_ms_ago=heard_ms_ago,
    )


def _standing(rosters: Rosters, tip: Tip, words: Words) -> Standing | None:
    try:
        first_epoch(rosters, tip.chain)
    except VerificationError:
        return None
    return load_standing(rosters, tip, words)


def _gateway(rosters: Rosters, chain: str) -> str | None:
    try:
        roster = roster_of_chain(rosters, chain)
    except VerificationError:
        return None
    return next(gateway.id for gateway in roster.gateways if gateway.chain == chain)


def _state(rosters: Rosters, standing: Standing) -> str:
    current = rosters.current.epoch
    if standing.cause:
        return RECOVERY if len(standing.cause) == 1 else TWO_HISTORIES
    if standing.epoch < current:
        return f"waits for the end of epoch {standing.epoch}"
    if standing.epoch > current:
        return LEFT
    return BEHIND if standing.tip.next_height < standing.base.next_height else OPEN


def _why(status: ChainStatus) -> str:
    if status.state == BEHIND:
        return f"is behind: this peer votes again once it has all {status.base} blocks of earlier epochs"
    return _WHY.get(status.state, status.state)


def _proposal_record(signed: bytes) -> dict[str, Any]:
    with undamaged("evidence"):
        block = block_of(signed)
    return {
        "height": block.height,
        "start": block.start,
        "size": block.size,
        "root": block.root.hex(),
        "proposal": signing.fingerprint(signed),
    }


def _row(status: ChainStatus) -> tuple[object, ...]:
    heard_ms = status.heard_ms_ago
    return (
        _cut(status.chain, 16),
        status.incarnation,
        "-" if status.epoch is None else status.epoch,
        status.blocks,
        status.certified,
        status.leaves,
        status.root[:6],
        "-" if heard_ms is None else ago(heard_ms),
        status.state.split(":")[0].split(" ")[0],
    )


def _cut(text: str, width: int) -> str:
    """Give a name in at most so many characters: its end tells chains of long names apart."""
    return text if len(text) <= width else f"{text[: width - 9]}~{text[-8:]}"


def ago(ms: int) -> str:
    """Give a span in its largest unit, in at most four characters for three years."""
    for unit, span_ms in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000)):
        if ms >= 2 * span_ms:
            return f"{ms // span_ms}{unit}"
    return f"{ms // 1000}s"
