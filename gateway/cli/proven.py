"""What verified files prove, as commands show it: of a reading, and of evidence against a gateway."""

from typing import Any

from gateway import signing
from gateway.cli.output import moment, values
from gateway.ledger.evidence import Evidence
from gateway.ledger.policy import describe, is_met
from gateway.ledger.receipt import Proven
from gateway.model import Block, Reading, Roster
from gateway.records import device_record, event_record, reading_record


def proven_record(proven: Proven) -> dict[str, Any]:
    """Give what a verified file proves, as JSON shows it."""
    entry = proven.entry
    return {
        "chain": proven.position.chain,
        "incarnation": proven.position.incarnation,
        "epoch": proven.position.epoch,
        "post_quantum": proven.post_quantum,
        "index": proven.position.index,
        "block": {"height": proven.position.height, "start": proven.position.start, "size": proven.position.size},
        "sealed_ms": proven.position.sealed_ms,
        "device": device_record(proven.device) if proven.device else None,
        "entry": reading_record(entry) if isinstance(entry, Reading) else event_record(entry),
        "votes": [{"peer": vote.peer, "voted_ms": vote.voted_ms, "epoch": vote.epoch} for vote in proven.votes],
    }


def proven_facts(proven: Proven, roster: Roster) -> list[tuple[str, object]]:
    """Give it as people read it; `roster` is that of its epoch."""
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
        ("sealed", f"{moment(position.sealed_ms)}, in incarnation {position.incarnation}"),
        ("signed by", f"{', '.join(vote.peer for vote in proven.votes)}, by {moment(_final_ms(proven, roster))}"),
        ("quorum", f"{len(proven.votes)} of {len(roster.peers)} peers, epoch {roster.epoch}"),
        ("needed", describe(roster.policy)),
        ("signatures", "Ed25519 and ML-DSA-44" if proven.post_quantum else "Ed25519"),
    ]


def evidence_record(found: Evidence) -> dict[str, Any]:
    """Give what evidence shows, as JSON shows it."""
    return {
        "gateway": found.gateway.id,
        "organisation": found.gateway.organisation,
        "chain": found.first.chain,
        "incarnation": found.first.incarnation,
        "contradiction": found.contradiction,
        "proposals": [
            _proposal_record(*each) for each in zip((found.first, found.second), found.proposals, strict=True)
        ],
    }


def _proposal_record(block: Block, signed: bytes) -> dict[str, Any]:
    return {
        "height": block.height,
        "start": block.start,
        "size": block.size,
        "root": block.root.hex(),
        "sealed_ms": block.sealed_ms,
        "proposal": signing.fingerprint(signed),
    }


def evidence_facts(record: dict[str, Any]) -> list[tuple[str, object]]:
    """Give the record of evidence as people read it."""
    return [
        ("proved", f"gateway {record['gateway']} of {record['organisation']} signed two histories"),
        ("chain", f"{record['chain']}, incarnation {record['incarnation']}"),
        ("why", record["contradiction"]),
        *[
            (
                f"proposal {each['proposal']}",
                f"block {each['height']}, leaves [{each['start']}, {each['size']}), root {each['root'][:16]}, sealed "
                + moment(each["sealed_ms"]),
            )
            for each in record["proposals"]
        ],
    ]


def _final_ms(proven: Proven, roster: Roster) -> int:
    """Give when the votes met the policy, by the times that they state."""
    return min(
        last.voted_ms
        for last in proven.votes
        if is_met(roster.policy, [vote.peer for vote in proven.votes if vote.voted_ms <= last.voted_ms])
    )
