"""What `iomt peer audit` does: reads a peer's whole copy, finds its first difference, holds it against other copies."""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click

from gateway import signing
from gateway.cli.output import printable, show_facts, show_json, show_table
from gateway.errors import ConfigError, StoreError, VerificationError
from gateway.io.store.chains import FILE, ChainStore, is_there
from gateway.ledger.audit import ChainAudit, Fork, first_fork
from gateway.ledger.rosters import Rosters

Place = tuple[str, int]
"""A chain and one of its incarnations."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What one incarnation of the copy came to; what does not hold is at the height behind the blocks that do.

    `certified` blocks are final by the last certificate that is kept; below it, so many have none of their own.
    """

    chain: str
    incarnation: int
    blocks: int = 0
    leaves: int = 0
    certified: int = 0
    certificates_missing: int = 0
    difference: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One incarnation held against another peer's copy; `unsure` says why they could not be compared to the end."""

    copy: str
    chain: str
    incarnation: int
    blocks_here: int
    blocks_there: int
    fork: Fork | None
    unsure: str | None


def audit_copy(
    path: str, rosters: Rosters, peer: str, chain: str | None, others: Sequence[Path], *, as_json: bool
) -> None:
    """Check a copy, compare it with others, and show what came of it.

    Raises: VerificationError naming the first difference, ConfigError if there is no such copy or chain.
    """
    began_s = time.monotonic()
    kept = _kept(path, rosters, chain)
    with click.progressbar(
        length=sum(kept.values()), label="blocks", file=sys.stderr, hidden=not sys.stderr.isatty()
    ) as progress:
        found = [_look(path, rosters, peer, place, lambda: progress.update(1)) for place in kept]
    seconds = time.monotonic() - began_s
    comparisons = [each for other in others for each in _compare(path, _file(other), other, rosters, chain)]
    if as_json:
        show_json(_record(found, comparisons, seconds))
    else:
        _show(found, comparisons, seconds)
    _require_sound(found, comparisons)


def _kept(path: str, rosters: Rosters, chain: str | None) -> dict[Place, int]:
    with closing(_opened(path)) as store:
        kept = store.kept()
    if chain is None:
        return kept
    chosen = {place: blocks for place, blocks in kept.items() if place[0] == chain}
    known = {gateway.chain for roster in rosters.versions for gateway in roster.gateways}
    if not chosen and chain not in known:
        there_are = ", ".join(sorted({name for name, _ in kept})) or "none yet"
        raise ConfigError(f"there is no chain {chain!r} here; there are {there_are}")
    return chosen or {(chain, 0): 0}


def _look(path: str, rosters: Rosters, peer: str, place: Place, on_block: Callable[[], None]) -> Found:
    """Audit one incarnation, as it stands when this begins."""
    chain, incarnation = place
    with closing(_opened(path)) as store:
        try:
            audit = ChainAudit(rosters, peer, chain, incarnation, store.reader(chain, incarnation))
        except VerificationError as error:
            return Found(chain=chain, incarnation=incarnation, difference=str(error))
        difference = None
        try:
            store.hold()
            for voted in store.every_block(chain, incarnation):
                audit.follow(voted, store.certificate(chain, incarnation, voted.height))
                on_block()
            _check_end(store, place, audit)
        except (VerificationError, StoreError) as error:
            difference = str(error)
    return Found(
        chain=chain,
        incarnation=incarnation,
        blocks=audit.height,
        leaves=audit.leaves,
        certified=audit.certified,
        certificates_missing=audit.certified - audit.certificates,
        difference=difference,
    )


def _check_end(store: ChainStore, place: Place, audit: ChainAudit) -> None:
    audit.end(store.tile_counts(*place), store.certificates(*place))

    def proposal_at(height: int) -> bytes | None:
        voted = store.block(*place, height)
        return None if voted is None else voted.proposal

    audit.check_words(store.words(*place), proposal_at)


def _compare(path: str, other: str, name: Path, rosters: Rosters, chain: str | None) -> Iterator[Comparison]:
    """Compare the incarnations that either copy has."""
    with closing(_opened(path)) as here, closing(_opened(other)) as there:
        here.hold()
        there.hold()
        ours, theirs = here.kept(), there.kept()
        for place in sorted(place for place in ours.keys() | theirs.keys() if chain in {None, place[0]}):
            fork, unsure = None, None
            try:
                fork = first_fork(rosters, *place, here.every_block(*place), there.every_block(*place))
            except (VerificationError, StoreError) as error:
                unsure = str(error)
            yield Comparison(
                copy=str(name),
                chain=place[0],
                incarnation=place[1],
                blocks_here=ours.get(place, 0),
                blocks_there=theirs.get(place, 0),
                fork=fork,
                unsure=unsure,
            )


def _opened(copy: str) -> ChainStore:
    if not is_there(copy):
        raise ConfigError(f"{copy}: there is no peer's copy here")
    return ChainStore(copy, read_only=True)


def _file(copy: Path) -> str:
    """Give the file of a copy that was named by its state folder or itself."""
    return str(copy / FILE if copy.is_dir() else copy)


def _require_sound(found: Sequence[Found], comparisons: Sequence[Comparison]) -> None:
    for each in found:
        if each.difference is not None:
            raise VerificationError(f"{_named(each)}, height {each.blocks}: {each.difference}")
    for comparison in comparisons:
        if comparison.unsure is not None:
            raise VerificationError(f"{_named(comparison)}, against {comparison.copy}: {comparison.unsure}")
        if comparison.fork is not None:
            what = f"height {comparison.fork.height}: its gateway signed another block for {comparison.copy}"
            raise VerificationError(f"{_named(comparison)}, {what}")


def _named(each: Found | Comparison) -> str:
    return f"chain {each.chain}, incarnation {each.incarnation}"


# -- shown


def _record(found: Sequence[Found], comparisons: Sequence[Comparison], seconds: float) -> dict[str, Any]:
    first = next((each for each in found if each.difference is not None), None)
    return {
        "chains": [asdict(each) for each in found],
        "blocks": sum(each.blocks for each in found),
        "leaves": sum(each.leaves for each in found),
        "seconds": round(seconds, 3),
        "first_difference": first
        and {
            "chain": first.chain,
            "incarnation": first.incarnation,
            "height": first.blocks,
            "what": first.difference,
        },
        "against": [_comparison_record(each) for each in comparisons],
    }


def _comparison_record(comparison: Comparison) -> dict[str, Any]:
    fork = comparison.fork
    return {
        "copy": comparison.copy,
        "chain": comparison.chain,
        "incarnation": comparison.incarnation,
        "blocks_here": comparison.blocks_here,
        "blocks_there": comparison.blocks_there,
        "differs_at": fork and fork.height,
        "proposals": fork and [signing.fingerprint(fork.here), signing.fingerprint(fork.there)],
        "unsure": comparison.unsure,
    }


def _show(found: Sequence[Found], comparisons: Sequence[Comparison], seconds: float) -> None:
    rows = [
        (
            each.chain,
            each.incarnation,
            each.blocks,
            each.certified,
            each.leaves,
            "sound" if each.difference is None else "NOT sound",
        )
        for each in found
    ]
    show_table(("chain", "incarnation", "blocks", "final", "leaves", "copy"), rows)
    leaves = sum(each.leaves for each in found)
    click.echo()
    show_facts([("checked", f"{leaves} leaves in {seconds:.1f} s, {leaves / seconds:.0f} a second")])
    missing = sum(each.certificates_missing for each in found)
    if missing:
        show_facts([("without", f"certificates of their own: {_blocks(missing)}, final by one above")])
    for comparison in comparisons:
        click.echo(f"\n{printable(_named(comparison))}, against {printable(comparison.copy)}:")
        for line in _lines(comparison):
            click.echo(f"  {printable(line)}")


def _lines(comparison: Comparison) -> list[str]:
    if comparison.unsure is not None:
        return ["cannot be compared to the end"]
    if comparison.fork is not None:
        fork = comparison.fork
        here, there = signing.fingerprint(fork.here), signing.fingerprint(fork.there)
        return [f"first differs at height {fork.height}; its gateway signed both:", f"{here} here", f"{there} there"]
    behind = comparison.blocks_there - comparison.blocks_here
    if behind:
        return [f"{'this copy' if behind > 0 else 'it'} is behind by {_blocks(abs(behind))}"]
    return [f"both have the same {_blocks(comparison.blocks_here)}"]


def _blocks(count: int) -> str:
    return f"{count} block" if count == 1 else f"{count} blocks"
