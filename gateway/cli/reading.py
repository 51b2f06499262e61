"""`iomt readings`, `iomt export`, `iomt verify`: what was read, the proof of one of it, and its check offline."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from gateway import canonical
from gateway.cli.gateway import load_config
from gateway.cli.output import (
    as_json_option,
    gateway_state_option,
    moment,
    printable,
    show_facts,
    show_json,
    show_table,
    values,
)
from gateway.cli.proven import evidence_facts, evidence_record, proven_facts, proven_record
from gateway.cli.rosters import load_rosters
from gateway.devices import Device, fold
from gateway.errors import ConfigError, Unavailable, VerificationError
from gateway.export import transparent_reading
from gateway.io import folder
from gateway.io.store.readings import DAMAGED_KEPT, FILE, DamagedFrame, ReadingStore, StoredLeaf, payload_of
from gateway.ledger.evidence import Evidence, decode_evidence, open_evidence
from gateway.ledger.receipt import Proven, require_post_quantum, verify_transparent
from gateway.ledger.rosters import Rosters
from gateway.ledger.standing import roster_of_chain
from gateway.ledger.voting import block_of
from gateway.records import reading_record

_DEFAULT = "reading"
_EARLIER = re.compile(r"incarnation-([0-9]+)\.db")
Result = TypeVar("Result")

_FILE = click.Path(dir_okay=False, path_type=Path)
_file_argument = click.argument("file", type=_FILE)
_roster_option = click.option("--roster", required=True, type=_FILE, help="The ledger's roster.")


@click.command()
@gateway_state_option
@click.option("--device", help="Only of this device.")
@click.option("--last", type=click.IntRange(1, 100_000), default=20, show_default=True, help="How many, from the end.")
@click.option("--damaged", is_flag=True, help="The frames that could not be decoded, instead, as they were heard.")
@as_json_option
def readings(state: Path, device: str | None, last: int, damaged: bool, as_json: bool) -> None:  # noqa: FBT001 - click's flags
    """Show the latest readings, oldest first; with --json one object a line."""
    store = open_store(state)
    if damaged:
        frames = [frame for frame in store.damaged(DAMAGED_KEPT) if device in {None, frame.device}]
        _show_damaged(frames[:last][::-1], as_json=as_json)
        store.close()
        return
    leaves = store.latest("reading", device, last)[::-1]
    records = [_leaf_record(store, leaf) for leaf in leaves]
    store.close()
    if as_json:
        for record in records:
            show_json(record)
        return
    rows = [
        (
            record["device"],
            record["sequence"],
            moment(record["received_ms"]),
            "yes" if record["certified"] else "not yet",
            values(record["measurements"]) + "".join(f" [{flag}]" for flag in record["flags"]),
        )
        for record in records
    ]
    show_table(("device", "number", "received", "certified", "values"), rows)


@click.command()
@gateway_state_option
@click.option("--device", required=True, help="Of which device.")
@click.option("--number", type=click.IntRange(1), help="Its sequence number; the latest certified one without it.")
@click.option(
    "--output", "-o", type=click.Path(dir_okay=False, path_type=Path), required=True, help="The file to write."
)
@as_json_option
def export(state: Path, device: str, number: int | None, output: Path, as_json: bool) -> None:  # noqa: FBT001 - click's flag
    """Write one reading with its receipts to a file that proves it to anyone who has the roster."""
    sequence, data = _exported(state, device, number)
    folder.write(output, data)
    if as_json:
        show_json({"device": device, "sequence": sequence, "file": str(output), "bytes": len(data)})
    else:
        click.echo(printable(f"reading {sequence} of {device} with its receipts: {output}, {len(data)} bytes"))


class Verify(click.Group):
    """A group that takes what is none of its commands for a file with a reading."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the command in front that is meant."""
        if not args or args[0] not in {*self.commands, *self.get_help_option_names(ctx)}:
            args = [_DEFAULT, *args]
        return super().parse_args(ctx, args)


@click.group(cls=Verify)
def verify() -> None:
    """Check a file offline, with nothing but the roster.

    Exit code 0 if it holds; 1, with one line that says what is wrong, if not. iomt verify FILE is iomt verify
    reading FILE.
    """


@verify.command(_DEFAULT)
@_file_argument
@_roster_option
@click.option("--policy", type=click.Choice(["pq"]), help="pq: refuse votes without a post-quantum signature.")
@as_json_option
def verify_reading(file: Path, roster: Path, policy: str | None, as_json: bool) -> None:  # noqa: FBT001 - click's flag
    """Check an exported reading: signers, place and quorum."""

    def check(data: bytes, rosters: Rosters) -> Proven:
        proven = verify_transparent(data, rosters)
        if policy:
            require_post_quantum(proven)
        return proven

    proven, rosters = _checked(file, roster, check, as_json=as_json)
    if as_json:
        show_json({"verified": True, "file": str(file), **proven_record(proven)})
    else:
        show_facts(proven_facts(proven, rosters.of_epoch(proven.position.epoch)))


@verify.command("evidence")
@_file_argument
@_roster_option
@as_json_option
def verify_evidence(file: Path, roster: Path, as_json: bool) -> None:  # noqa: FBT001 - click's flag
    """Check evidence that a gateway signed two histories.

    It is two proposals by the gateway that no history holds both.
    """

    def check(data: bytes, rosters: Rosters) -> Evidence:
        first, second = decode_evidence(data)
        return open_evidence(roster_of_chain(rosters, block_of(first).chain), first, second)

    found, _ = _checked(file, roster, check, as_json=as_json)
    record = evidence_record(found)
    if as_json:
        show_json({"verified": True, "file": str(file), **record})
    else:
        show_facts(evidence_facts(record))


def _checked(
    file: Path, roster: Path, check: Callable[[bytes, Rosters], Result], *, as_json: bool
) -> tuple[Result, Rosters]:
    """Give what a check makes of a file, and the rosters by which it did; a refusal names the file."""
    data, rosters = folder.read_bytes(file), load_rosters(roster)
    try:
        return check(data, rosters), rosters
    except VerificationError as error:
        if as_json:
            show_json({"verified": False, "file": str(file), "reason": str(error)})
            raise click.exceptions.Exit(error.exit_code) from error
        raise VerificationError(f"{file} is refused: {error}") from error


def _exported(state: Path, device: str, number: int | None) -> tuple[int, bytes]:
    """Give a reading with its proof, of the chain's latest incarnation in which it is certified.

    Raises: what the latest incarnation has to say, if it is certified in none.
    """
    refusals = []
    for path in [state / FILE, *_earlier_stores(state)]:
        store = open_store(state) if path.name == FILE else ReadingStore(str(path), read_only=True)
        try:
            return transparent_reading(store, device, number)
        except (ConfigError, Unavailable) as error:
            refusals.append(error)
        finally:
            store.close()
    raise refusals[0]


def _show_damaged(frames: Sequence[DamagedFrame], *, as_json: bool) -> None:
    if as_json:
        for frame in frames:
            record = {"device": frame.device, "received_ms": frame.received_ms, "reason": frame.reason}
            show_json({**record, "frame": frame.data.hex()})
        return
    rows = [(frame.device, moment(frame.received_ms), frame.reason, frame.data[:16].hex(" ")) for frame in frames]
    show_table(("device", "received", "why", "first bytes"), rows)


def open_store(state: Path) -> ReadingStore:
    """Open a gateway's store to read, whether or not the gateway runs.

    Raises: ConfigError if nothing was ever kept here.
    """
    load_config(state)
    path = state / FILE
    if not path.exists():
        raise ConfigError(f"{path}: nothing was kept here yet; iomt run starts it")
    return ReadingStore(str(path), read_only=True)


def _earlier_stores(state: Path) -> list[Path]:
    """Give where what was certified in earlier incarnations is kept, the latest first."""
    found = [(_EARLIER.fullmatch(path.name), path) for path in state.iterdir()]
    return [path for _, path in sorted(((int(match[1]), path) for match, path in found if match), reverse=True)]


def enrolled(state: Path) -> dict[str, Device]:
    """Give the devices that are enrolled, by id; raises ConfigError if nothing was ever kept here."""
    store = open_store(state)
    devices = fold(event for _, event in store.events())
    store.close()
    return devices


def enrolled_addresses(state: Path) -> set[str]:
    """Give where the devices that are enrolled are reached; none where nothing was ever kept."""
    return {device.address for device in enrolled(state).values()} if (state / FILE).exists() else set()


def _leaf_record(store: ReadingStore, leaf: StoredLeaf) -> dict[str, Any]:
    block = store.block_of(leaf.position)
    return {
        "device": leaf.issuer,
        **reading_record(canonical.decode_reading(payload_of(leaf.data))),
        "position": leaf.position,
        "block": block.height if block else None,
        "certified": bool(block and block.certified),
    }
