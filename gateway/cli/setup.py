"""What `iomt init`, `iomt peer init` and their `run` share: a state folder with a configuration."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from gateway.config import TlsFiles
from gateway.errors import ConfigError
from gateway.io import folder
from gateway.io.mqtt import Broker, Tls

Command = TypeVar("Command", bound=Callable[..., Any])

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


def broker_of(url: str, tls: TlsFiles | None, state: Path) -> Broker:
    """Give the broker of a configuration; relative file names are relative to the state folder.

    Raises: ConfigError if the URL is no broker's, or TLS and scheme do not fit.
    """
    if tls is None:
        return Broker.parse(url)
    files = Tls(ca=str(state / tls.ca), certificate=str(state / tls.certificate), key=str(state / tls.key))
    return Broker.parse(url, files)


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
