"""`iomt readings`, `iomt export`, `iomt verify`: what was read, the proof of one of it, and its check offline."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from gateway import canonical
from gateway.cli.gateway import load_config
from gateway.cli.ledger import load_roster
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
from gateway.devices import Device, fold
from gateway.errors import ConfigError, VerificationError
from gateway.export import transparent_reading
from gateway.io import folder
from gateway.io.store.readings import DAMAGED_KEPT, FILE, DamagedFrame, ReadingStore, StoredLeaf, payload_of
from gateway.ledger.policy import describe, is_met
from gateway.ledger.receipt import Proven, verify_transparent
from gateway.model import Reading, Roster
from gateway.records import device_record, event_record, reading_record


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
    store = open_store(state)
    sequence, data = transparent_reading(store, device, number)
    store.close()
    folder.write(output, data)
    if as_json:
        show_json({"device": device, "sequence": sequence, "file": str(output), "bytes": len(data)})
    else:
        click.echo(printable(f"reading {sequence} of {device} with its receipts: {output}, {len(data)} bytes"))


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--roster", required=True, type=click.Path(dir_okay=False, path_type=Path), help="The ledger's roster.")
@as_json_option
def verify(file: Path, roster: Path, as_json: bool) -> None:  # noqa: FBT001 - click's flag
    """Check an exported reading offline, with nothing but the file and the roster.

    Exit code 0 if it holds; 1, with one line that says what is wrong, if not.
    """
    data, members = folder.read_bytes(file), load_roster(roster)
    try:
        proven = verify_transparent(data, members)
    except VerificationError as error:
        if as_json:
            show_json({"verified": False, "file": str(file), "reason": str(error)})
            raise click.exceptions.Exit(error.exit_code) from error
        raise VerificationError(f"{file} is refused: {error}") from error
    if as_json:
        show_json({"verified": True, "file": str(file), **proven_record(proven)})
    else:
        show_facts(_proven_facts(proven, members))


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


def enrolled(state: Path) -> dict[str, Device]:
    """Give the devices that are enrolled, by id; raises ConfigError if nothing was ever kept here."""
    store = open_store(state)
    devices = fold(event for _, event in store.events())
    store.close()
    return devices


def enrolled_addresses(state: Path) -> set[str]:
    """Give where the devices that are enrolled are reached; none where nothing was ever kept."""
    return {device.address for device in enrolled(state).values()} if (state / FILE).exists() else set()


def proven_record(proven: Proven) -> dict[str, Any]:
    """Give what a verified file proves, as JSON shows it."""
    entry = proven.entry
    return {
        "chain": proven.position.chain,
        "index": proven.position.index,
        "block": {"height": proven.position.height, "start": proven.position.start, "size": proven.position.size},
        "device": device_record(proven.device) if proven.device else None,
        "entry": reading_record(entry) if isinstance(entry, Reading) else event_record(entry),
        "votes": [{"peer": vote.peer, "voted_ms": vote.voted_ms, "epoch": vote.epoch} for vote in proven.votes],
    }


def _proven_facts(proven: Proven, roster: Roster) -> list[tuple[str, object]]:
    record, position, device = proven_record(proven), proven.position, proven.device
    entry = record["entry"]
    shown = values(entry["measurements"]) if "measurements" in entry else entry["kind"]
    return [
        ("verified", f"{'reading' if device else 'event'} {entry['sequence']}"),
        *([("device", f"{device.id}, {device.profile}, key {device.public_key.hex()[:16]}")] if device else []),
        ("values", shown),
        *([("flags", ", ".join(entry["flags"]))] if entry.get("flags") else []),
        ("received", moment(entry["received_ms"])),
        (
            "block",
            f"{position.height} of {position.chain}: leaf {position.index} in [{position.start}, {position.size})",
        ),
        ("signed by", f"{', '.join(vote.peer for vote in proven.votes)}, by {moment(_final_ms(proven, roster))}"),
        ("quorum", f"{len(proven.votes)} of {len(roster.peers)} peers, epoch {roster.epoch}"),
        ("needed", describe(roster.policy)),
    ]


def _final_ms(proven: Proven, roster: Roster) -> int:
    """Give when the votes met the policy, by the times that they state."""
    return min(
        last.voted_ms
        for last in proven.votes
        if is_met(roster.policy, [vote.peer for vote in proven.votes if vote.voted_ms <= last.voted_ms])
    )


def _leaf_record(store: ReadingStore, leaf: StoredLeaf) -> dict[str, Any]:
    block = store.block_of(leaf.position)
    return {
        "device": leaf.issuer,
        **reading_record(canonical.decode_reading(payload_of(leaf.data))),
        "position": leaf.position,
        "block": block.height if block else None,
        "certified": bool(block and block.certified),
    }
