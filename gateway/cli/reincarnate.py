"""`iomt ledger reincarnate`: a chain that was frozen is closed for good, and begun anew from height 0."""

import asyncio
from pathlib import Path
from typing import Any

import click

from gateway import signing
from gateway.cli import setup
from gateway.cli.gateway import load_config
from gateway.cli.output import as_json_option, gateway_state_option, moment, show_facts, show_json, show_table
from gateway.errors import ConfigError
from gateway.freezing import Freezing
from gateway.io import clock, folder, keyring
from gateway.io.store.readings import FILE
from gateway.ledger import messages
from gateway.ledger.closing import Closing, sign_opening
from gateway.ledger.evidence import encode_evidence, open_evidence
from gateway.ledger.member_keys import MemberKeys
from gateway.ledger.policy import describe
from gateway.ledger.roster import gateway_of_chain
from gateway.model import Freeze, Member, Why
from gateway.reincarnation import Rebuilt, begun_incarnation, rebuild, settle
from gateway.roster_file import RosterFile

_WHY = {Why.TWO_HISTORIES: "two histories were signed", Why.RECOVERY: "the recovery key demands it"}


@click.command()
@gateway_state_option
@click.option(
    "--recovery-key",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The chain's recovery key; default: recovery.key in the state folder.",
)
@click.option(
    "--branch",
    multiple=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="The state folder of a clone, whose readings are anchored too; any number of times.",
)
@click.option("--wait", default=60.0, show_default=True, help="Seconds to wait for a quorum of peers.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@as_json_option
def reincarnate(
    state: Path,
    recovery_key: Path | None,
    branch: tuple[Path, ...],
    wait: float,
    yes: bool,  # noqa: FBT001 - click's flag
    as_json: bool,  # noqa: FBT001 - click's flag
) -> None:
    """Close a chain's incarnation for good, and begin the next one with what was not certified.

    For a gateway that signed two histories (cloned, or restored from a backup that the ledger could not catch), and
    for one whose chain has to end for another reason. Run it on the machine that goes on, with the gateway stopped and
    every clone switched off. What was certified stays valid; nothing is deleted.
    """
    with folder.lock(state):
        settle(state)
        config = load_config(state)
        roster = RosterFile(state / config.roster, state)
        member = gateway_of_chain(roster.rosters.current, config.chain)
        key = signing.Key(keyring.load_recovery_key(recovery_key or state / keyring.RECOVERY))
        if key.public_key != member.recovery_key:
            raise ConfigError(f"{recovery_key or state / keyring.RECOVERY}: not the recovery key of {config.chain}")
        keys = MemberKeys(keyring.load_master(state), "gateway", config.id, config.generation)
        incarnation = begun_incarnation(state)
        if not yes:
            _confirm(member, incarnation)
        freezes: dict[str, Freeze] = {}
        freezing = Freezing(
            setup.broker_of(config.broker, config.tls, state),
            roster.rosters,
            member,
            incarnation,
            lambda freeze: _hear(freezes, freeze),
        )
        closing = asyncio.run(freezing.close(key, wait))
        evidence = None if freezing.evidence is None else _save_evidence(state, closing, freezing.evidence)
        opening = messages.encode_opening(sign_opening(key, config.id, closing), closing.shown)
        rebuilt = rebuild(
            state,
            gateway=config.id,
            ledger=roster.rosters.current.ledger,
            keys=keys.require(roster.rosters.current),
            closing=closing,
            opening=opening,
            now=clock.Clocks(clock.boot_id()).read(),
            branches=[each / FILE for each in branch],
        )
    if as_json:
        show_json(_record(closing, freezes, rebuilt, evidence))
        return
    click.echo()
    show_table(("peer", "frozen at", "why"), [_row(freeze) for freeze in freezes.values()])
    click.echo()
    if freezing.evidence is not None and evidence is not None:
        _explain(member, roster, freezing.evidence, evidence)
    show_facts(
        [
            ("closed", f"incarnation {closing.incarnation} of {config.chain}, by {_quorum(roster, closing)}"),
            ("certified", f"{rebuilt.certified} leaves stay valid as they are, in {rebuilt.old.name}"),
            ("anchored again", f"{rebuilt.again} leaves of this gateway, {rebuilt.of_branches} of branches"),
            ("begun", f"incarnation {rebuilt.incarnation}, {rebuilt.devices} devices enrolled in it"),
            ("next", "start the gateway (iomt run, or systemctl start iomt-gateway)"),
        ]
    )


def _confirm(member: Member, incarnation: int) -> None:
    click.echo(
        f"This closes incarnation {incarnation} of chain {member.chain} for good, with every peer of the ledger,"
    )
    click.echo("and begins the next one on this machine. A clone that still runs is shut out.")
    click.confirm("Go on?", abort=True)


def _hear(freezes: dict[str, Freeze], freeze: Freeze) -> None:
    freezes[freeze.peer] = freeze
    click.echo(f"{freeze.peer} has frozen the chain at height {freeze.next_height}: {_WHY[freeze.why]}", err=True)


def _save_evidence(state: Path, closing: Closing, evidence: tuple[bytes, bytes]) -> Path:
    path = state / f"evidence-{closing.incarnation}.cbor"
    folder.write(path, encode_evidence(*evidence))
    return path


def _explain(member: Member, roster: RosterFile, evidence: tuple[bytes, bytes], path: Path) -> None:
    found = open_evidence(roster.rosters.current, *evidence)
    click.echo(f"Gateway {member.id} signed two histories: {found.contradiction}.")
    for block in (found.first, found.second):
        click.echo(
            f"  block {block.height}, leaves [{block.start}, {block.size}), sealed {moment(block.sealed_ms)},"
            f" root {block.root.hex()[:16]}"
        )
    click.echo(f"Anyone can check that: iomt verify evidence {path} --roster {roster.kept}\n")


def _quorum(roster: RosterFile, closing: Closing) -> str:
    return describe(roster.rosters.of_epoch(closing.epoch).policy)


def _row(freeze: Freeze) -> tuple[object, ...]:
    return freeze.peer, f"height {freeze.next_height}, {freeze.size} leaves", _WHY[freeze.why]


def _record(closing: Closing, freezes: dict[str, Freeze], rebuilt: Rebuilt, evidence: Path | None) -> dict[str, Any]:
    return {
        "chain": closing.chain,
        "closed": closing.incarnation,
        "epoch": closing.epoch,
        "closing": closing.digest.hex(),
        "peers": [
            {"peer": each.peer, "next_height": each.next_height, "size": each.size, "why": each.why.value}
            for each in freezes.values()
        ],
        "evidence": None if evidence is None else str(evidence),
        "begun": rebuilt.incarnation,
        "certified": rebuilt.certified,
        "again": rebuilt.again,
        "of_branches": rebuilt.of_branches,
        "devices": rebuilt.devices,
        "old": str(rebuilt.old),
    }
