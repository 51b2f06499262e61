"""The table of commands, each loaded when it is typed, and what becomes of their failures."""

from collections.abc import Sequence
from importlib import import_module

import click

from gateway.cli.output import printable
from gateway.errors import IomtError
from gateway.io import logs

INTERRUPTED = 130

# command -> (module below gateway.cli, its name there); in the order in which help shows them
COMMANDS = {
    "demo": ("demo", "demo"),
    "ledger": ("ledger", "ledger"),
    "peer": ("peer", "peer"),
    "init": ("gateway", "init"),
    "rekey": ("gateway", "rekey"),
    "device": ("device", "device"),
    "run": ("gateway", "run"),
    "status": ("gateway", "status"),
    "readings": ("reading", "readings"),
    "export": ("reading", "export"),
    "verify": ("reading", "verify"),
    "simulate": ("simulate", "simulate"),
}


class Commands(click.Group):
    """Loads a command's module when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Give the commands' names."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load a command, None if there is none of that name."""
        del ctx
        if cmd_name not in COMMANDS:
            return None
        module, name = COMMANDS[cmd_name]
        command: click.Command = getattr(import_module(f"gateway.cli.{module}"), name)
        return command


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="iomt-gateway", prog_name="iomt")
def iomt() -> None:
    """Medical sensor readings that can be proved: signed, kept, anchored to a ledger of peers."""


def run(arguments: Sequence[str]) -> int:
    """Run a command and give its exit code: 0 done, 1 refused or not verified, 2 wrong usage, 3 unavailable."""
    logs.configure("warning")
    try:
        code = iomt.main(list(arguments), prog_name="iomt", standalone_mode=False)
    except (click.exceptions.Abort, KeyboardInterrupt):
        click.echo("\niomt: stopped; what was asked is not done", err=True)
        return INTERRUPTED
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except SystemExit:  # click's alone: whoever read our output has seen enough
        return 0
    except IomtError as error:
        return _say(error)
    except ExceptionGroup as group:  # a daemon's task group: what ended it, and what that ended
        ours, other = group.split(IomtError)
        if other is not None or ours is None:
            raise
        return _say(_first(ours))
    return code if isinstance(code, int) else 0


def _say(error: IomtError) -> int:
    click.echo(f"iomt: {printable(str(error))}", err=True)
    return error.exit_code


def _first(group: ExceptionGroup[IomtError]) -> IomtError:
    error = group.exceptions[0]
    return _first(error) if isinstance(error, ExceptionGroup) else error
