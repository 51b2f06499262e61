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
from gateway.io.store.chains import FILE, ChainStore
from gateway.ledger.audit import ChainAudit, Fork, first_fork
from gateway.model import Roster


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What one chain of the copy came to; what does not hold is at the height behind the blocks that do."""

    chain: str
    blocks: int
    leaves: int
    difference: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One chain held against another peer's copy; `unsure` says why they could not be compared to the end."""

    copy: str
    chain: str
    blocks_here: int
    blocks_there: int
    fork: Fork | None
    unsure: str | None


def audit_copy(
    path: Path, roster: Roster, peer: str, chain: str | None, others: Sequence[Path], *, as_json: bool
) -> None:
    """Check a copy, compare it with others, and show what came of it.

    Raises: VerificationError naming the first difference, ConfigError if there is no such copy or chain.
    """
    began_s = time.monotonic()
    kept = _kept(path, chain, {gateway.chain for gateway in roster.gateways})
    with click.progressbar(
        length=sum(kept.values()), label="blocks", file=sys.stderr, hidden=not sys.stderr.isatty()
    ) as progress:
        found = [_look(path, roster, peer, name, lambda: progress.update(1)) for name in kept]
    seconds = time.monotonic() - began_s
    comparisons = [each for other in others for each in _compare(path, _file(other), other, roster, chain)]
    if as_json:
        show_json(_record(found, comparisons, seconds))
    else:
        _show(found, comparisons, seconds)
    _require_sound(found, comparisons)


def _kept(path: Path, chain: str | None, known: set[str | None]) -> dict[str, int]:
    with closing(_opened(path)) as store:
        kept = store.kept()
    if chain is None:
        return kept
    if chain not in kept and chain not in known:
        raise ConfigError(f"there is no chain {chain!r} here; there are {', '.join(kept) or 'none yet'}")
    return {chain: kept.get(chain, 0)}


def _look(path: Path, roster: Roster, peer: str, chain: str, on_block: Callable[[], None]) -> Found:
    """Audit one chain, as it stands when this begins."""
    with closing(_opened(path)) as store:
        audit = ChainAudit(roster, peer, chain, lambda level, number: store.tile(chain, level, number))
        blocks, difference = 0, None
        try:
            store.hold()
            for voted in store.every_block(chain):
                audit.follow(voted)
                blocks += 1
                on_block()
            _check_end(store, chain, audit)
        except (VerificationError, StoreError) as error:
            difference = str(error)
    return Found(chain=chain, blocks=blocks, leaves=audit.leaves, difference=difference)


def _check_end(store: ChainStore, chain: str, audit: ChainAudit) -> None:
    audit.end(store.tile_counts(chain))
    evidence = store.evidence(chain)
    if evidence is not None:

        def proposal_at(height: int) -> bytes | None:
            voted = store.block(chain, height)
            return None if voted is None else voted.proposal

        audit.check_evidence(evidence, proposal_at)


def _compare(path: Path, other: Path, name: Path, roster: Roster, chain: str | None) -> Iterator[Comparison]:
    """Compare the chains that either copy has."""
    with closing(_opened(path)) as here, closing(_opened(other)) as there:
        here.hold()
        there.hold()
        ours, theirs = here.kept(), there.kept()
        for each in sorted(ours.keys() | theirs.keys()) if chain is None else [chain]:
            fork, unsure = None, None
            try:
                fork = first_fork(roster, each, here.every_block(each), there.every_block(each))
            except (VerificationError, StoreError) as error:
                unsure = str(error)
            yield Comparison(
                copy=str(name),
                chain=each,
                blocks_here=ours.get(each, 0),
                blocks_there=theirs.get(each, 0),
                fork=fork,
                unsure=unsure,
            )


def _opened(path: Path) -> ChainStore:
    if not path.exists():
        raise ConfigError(f"{path}: there is no peer's copy here")
    return ChainStore(str(path), read_only=True)


def _file(copy: Path) -> Path:
    """Give the file of a copy that was named by its state folder or itself."""
    return copy / FILE if copy.is_dir() else copy


def _require_sound(found: Sequence[Found], comparisons: Sequence[Comparison]) -> None:
    for each in found:
        if each.difference is not None:
            raise VerificationError(f"chain {each.chain}, height {each.blocks}: {each.difference}")
    for comparison in comparisons:
        if comparison.unsure is not None:
            raise VerificationError(f"chain {comparison.chain}, against {comparison.copy}: {comparison.unsure}")
        if comparison.fork is not None:
            what = f"height {comparison.fork.height}: its gateway signed another block for {comparison.copy}"
            raise VerificationError(f"chain {comparison.chain}, {what}")


# -- shown


def _record(found: Sequence[Found], comparisons: Sequence[Comparison], seconds: float) -> dict[str, Any]:
    first = next((each for each in found if each.difference is not None), None)
    return {
        "chains": [asdict(each) for each in found],
        "blocks": sum(each.blocks for each in found),
        "leaves": sum(each.leaves for each in found),
        "seconds": round(seconds, 3),
        "first_difference": first and {"chain": first.chain, "height": first.blocks, "what": first.difference},
        "against": [_comparison_record(each) for each in comparisons],
    }


def _comparison_record(comparison: Comparison) -> dict[str, Any]:
    fork = comparison.fork
    return {
        "copy": comparison.copy,
        "chain": comparison.chain,
        "blocks_here": comparison.blocks_here,
        "blocks_there": comparison.blocks_there,
        "differs_at": fork and fork.height,
        "proposals": fork and [signing.fingerprint(fork.here), signing.fingerprint(fork.there)],
        "unsure": comparison.unsure,
    }


def _show(found: Sequence[Found], comparisons: Sequence[Comparison], seconds: float) -> None:
    rows = [
        (each.chain, each.blocks, each.leaves, "sound" if each.difference is None else "NOT sound") for each in found
    ]
    show_table(("chain", "blocks", "leaves", "copy"), rows)
    leaves = sum(each.leaves for each in found)
    click.echo()
    show_facts([("checked", f"{leaves} leaves in {seconds:.1f} s, {leaves / seconds:.0f} a second")])
    for comparison in comparisons:
        click.echo(f"\n{printable(comparison.chain)}, against {printable(comparison.copy)}:")
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
