"""The log: JSON lines for machines (under systemd, in a pipe), readable ones on a terminal; on stderr, never stdout."""

import sys

import structlog


def configure(level: str) -> None:
    """Set the log up for this process, from a level on: a daemon logs "info", a person's command "warning"."""
    for_people = sys.stderr.isatty()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.ExceptionRenderer(),
            structlog.dev.ConsoleRenderer() if for_people else structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
