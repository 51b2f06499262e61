"""The command `iomt`: what goes wrong becomes one line on stderr and an exit code."""

import sys

# structlog imports rich wherever that is installed: 40 ms and 4 MB that a daemon has no use for.
sys.modules["rich"] = None  # type: ignore[assignment]
import structlog  # noqa: E402, F401 - imported here for that reason alone

del sys.modules["rich"]

from gateway.cli.main import run  # noqa: E402 - behind structlog, see above


def main() -> None:
    """Run the command that was typed."""
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
