"""The one thread in which a store is called."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TypeVar

Result = TypeVar("Result")


async def in_thread(executor: Executor, call: Callable[[], Result]) -> Result:
    """Call in the executor's thread, and wait for its end also where the calling task is cancelled meanwhile.

    The thread does not stop for that, and what was handed to it must not be taken for undone.
    """
    future = asyncio.get_running_loop().run_in_executor(executor, call)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        await asyncio.wait((future,))
        future.result()
        raise
