"""Tasks that have one owner: it starts them, hears of their failures, and waits for their end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, TypeVar

from gitops import errors

T = TypeVar("T")

logger = logging.getLogger(__name__)


class Tasks:
    """A set of tasks. One that fails is logged and takes no other down."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def spawn(self, coroutine: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
        """Run `coroutine`."""
        task = asyncio.get_running_loop().create_task(coroutine, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(_log)
        return task

    async def finish(self, coroutine: Coroutine[Any, Any, T], name: str) -> T:
        """Run `coroutine` to its end, even if the caller is cancelled half-way; an error is the caller's, if there."""
        task = asyncio.get_running_loop().create_task(coroutine, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(_log)
            raise

    async def drain(self, timeout_s: float) -> None:
        """Wait until all have ended by themselves, at most `timeout_s`."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=timeout_s)

    async def close(self) -> None:
        """Cancel all and wait for them."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _log(task: asyncio.Task[Any]) -> None:
    error = None if task.cancelled() else task.exception()
    if isinstance(error, errors.GitopsError):
        logger.error("%s failed: %s", task.get_name(), error)
    elif error is not None:
        logger.error("%s failed: %s", task.get_name(), error, exc_info=error)
