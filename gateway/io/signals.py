"""How a daemon is told to stop: SIGTERM or SIGINT cancels its main task, once."""

import asyncio
import signal


def cancel_on_signal() -> None:
    """Let SIGTERM and SIGINT cancel the task that calls this; a second one does not disturb its way out."""
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, _cancel, asyncio.current_task())


def _cancel(task: "asyncio.Task[None] | None") -> None:
    if task is not None and not task.cancelling():
        task.cancel()
