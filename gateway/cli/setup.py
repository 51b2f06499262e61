"""What `iomt init`, `iomt peer init` and their `run` share: a state folder with a configuration."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import click

from gateway.cli import cards
from gateway.cli.output import show_facts, show_json
from gateway.cli.rosters import load_rosters
from gateway.config import GatewayConfig, PeerConfig, TlsFiles
from gateway.errors import ConfigError
from gateway.io import folder, keyring
from gateway.io.mqtt import Broker, Tls
from gateway.ledger.member_keys import MemberKeys
from gateway.ledger.roster import card_fingerprint
from gateway.model import Member

Command = TypeVar("Command", bound=Callable[..., Any])
Load = Callable[[str, str], GatewayConfig | PeerConfig]
"""Reads a configuration: `config.load_gateway` or `config.load_peer`."""

_FILE = click.Path(dir_okay=False, path_type=Path)


def member_options(command: Command) -> Command:
    """Add the options by which a new peer or gateway says who it is and whom it talks to."""
    for option in reversed(
        (
            click.option("--id", "name", required=True, help="Its name: in topics and on the roster."),
            click.option("--organisation", default="", help="Whose it is; its peers count as one. Default: the name."),
            click.option("--broker", required=True, help="mqtt://host:port or mqtts://host:port."),
            click.option("--roster", required=True, type=_FILE, help="Where the ledger's roster is or will be."),
            click.option("--ca", type=_FILE, help="With mqtts: the broker's CA (PEM)."),
            click.option("--certificate", type=_FILE, help="With mqtts: our certificate (PEM)."),
            click.option("--key", type=_FILE, help="With mqtts: our private key (PEM)."),
        )
    ):
        command = option(command)
    return command


def tls_files(ca: Path | None, certificate: Path | None, key: Path | None) -> TlsFiles | None:
    """Give the TLS files that were named, None if none was.

    Raises: ConfigError if only some were.
    """
    if ca and certificate and key:
        return TlsFiles(ca=str(ca.absolute()), certificate=str(certificate.absolute()), key=str(key.absolute()))
    if ca or certificate or key:
        raise ConfigError("--ca, --certificate and --key go together; allowed: all three, with mqtts://")
    return None


def write_config(path: Path, entries: dict[str, str], tls: TlsFiles | None) -> None:
    """Write a configuration in TOML, never over another.

    Raises: ConfigError if there is one already.
    """
    if path.exists():
        raise ConfigError(f"{path}: exists already; this folder was initialised before")
    lines = [f"{key} = {_quoted(value)}" for key, value in entries.items()]
    if tls is not None:
        files = {"ca": tls.ca, "certificate": tls.certificate, "key": tls.key}
        lines += ["", "[tls]", *[f"{key} = {_quoted(value)}" for key, value in files.items()]]
    folder.write(path, "\n".join(lines).encode() + b"\n")


def show_card(
    kind: str, member: Member, card: Path, *, as_json: bool, more: Mapping[str, object] | None = None
) -> None:
    """Show whose card was written, and what came beside it."""
    if as_json:
        show_json({**cards.member_record(member), "card": str(card), **(more or {})})
        return
    facts: list[tuple[str, object]] = [(kind, member.id)]
    facts += [("chain", member.chain)] if member.chain else []
    facts += [("public key", member.public_key.hex()), ("fingerprint", card_fingerprint(member)), ("card", card)]
    show_facts([*facts, *(more or {}).items()])


def rekey(state: Path, config: Path, kind: str, load: Load, *, as_json: bool) -> None:
    """Raise the generation of a member's key in its configuration, and write and show the card with the new keys.

    As long as the roster does not have the newest generation, its card is written again and nothing raised.
    Raises: ConfigError if the member is not on the roster with one of its keys.
    """
    known = load(folder.read_text(config), str(config))
    master = keyring.load_master(state)
    before, used = _on_roster(state, kind, master, known)
    generation = used + 1
    if generation > known.generation:
        _raise_generation(config, generation, load)
    made = cards.make_member(kind, master, known.id, before.organisation, generation)
    member = replace(made, chain=before.chain, recovery_key=before.recovery_key)
    card = state / f"{known.id}.card"
    cards.write_card(card, kind, member)
    show_card(kind, member, card, as_json=as_json, more={"generation": generation})
    if not as_json:
        click.echo(f"\nRestart the {kind}, then have the card taken over: iomt ledger rekey {card.name}")


def broker_of(url: str, tls: TlsFiles | None, state: Path) -> Broker:
    """Give the broker of a configuration; relative file names are relative to the state folder.

    Raises: ConfigError if the URL is no broker's, or TLS and scheme do not fit.
    """
    if tls is None:
        return Broker.parse(url)
    files = Tls(ca=str(state / tls.ca), certificate=str(state / tls.certificate), key=str(state / tls.key))
    return Broker.parse(url, files)


def _on_roster(state: Path, kind: str, master: bytes, config: GatewayConfig | PeerConfig) -> tuple[Member, int]:
    """Give the member as the roster has it, and the generation of its key there."""
    roster = load_rosters(state / config.roster, state).current
    public_keys = MemberKeys(master, kind, config.id, config.generation).public_keys
    for member in roster.peers if kind == "peer" else roster.gateways:
        if member.id == config.id and member.public_key in public_keys:
            return member, public_keys.index(member.public_key) + 1
    raise ConfigError(f"{kind} {config.id} with a key of {state} is not on the roster; iomt ledger admit comes first")


def _raise_generation(path: Path, generation: int, load: Load) -> None:
    text = folder.read_text(path)
    raised = _with_generation(text, generation)
    if load(raised, str(path)) != replace(load(text, str(path)), generation=generation):
        raise ConfigError(f"{path}: write generation = {generation} into it by hand, before the first table")
    folder.write(path, raised.encode())


def _with_generation(text: str, generation: int) -> str:
    """Give a configuration with another generation, all else as a person has written it."""
    line, lines = f"generation = {generation}", text.splitlines()
    tables = [number for number, each in enumerate(lines) if each.lstrip().startswith("[")]
    end = tables[0] if tables else len(lines)
    while not lines[end - 1].strip():
        end -= 1
    for number, each in enumerate(lines[:end]):
        if each.partition("=")[0].strip() == "generation":
            lines[number] = line
            break
    else:
        lines.insert(end, line)
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
