"""What the gateway refuses: one class per reaction.

    IomtError
      +- ConfigError        a file or argument we were given is wrong      -> say where, exit 2
      +- VerificationError  a signature, proof or receipt is bad           -> reject and alert, exit 1
      +- Unavailable        radio, port, broker or peer is away            -> retry with backoff, exit 3
      +- StoreError         the disk cannot be trusted                     -> stop, restart, verify
      +- Stale              another worker of this peer was first          -> read again, judge again

A damaged frame is no error but a value (`gateway.model.Damaged`).
"""


class IomtError(Exception):
    """Base of everything that the gateway raises on purpose; its text is fit for a person."""

    exit_code = 1


class ConfigError(IomtError):
    """A file, key or argument that we were given is wrong; the text names it and what is allowed."""

    exit_code = 2


class VerificationError(IomtError):
    """A signature, proof, receipt, vote or roster does not hold; the text says which and why."""

    exit_code = 1


class Unavailable(IomtError):  # noqa: N818 - weather, not an error
    """Something outside (radio, port, broker, peer, daemon) is not there now; trying again is right."""

    exit_code = 3


class StoreError(IomtError):
    """The disk failed or lied; nothing may be acknowledged any more by this process."""

    exit_code = 1


class Stale(IomtError):  # noqa: N818 - no failure: of two workers that share a store, one is first
    """What was judged rests on what another worker has changed since; nothing was kept, and judging again is right."""
