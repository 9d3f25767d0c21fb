"""Task groups whose errors come out as one error of ours, as a person reads it, not as a group of groups."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from gitops import errors

_SHOWN = 3


@contextlib.asynccontextmanager
async def group() -> AsyncIterator[asyncio.TaskGroup]:
    """A task group; errors of `gitops.errors` in it are raised as one.

    Raises:
        errors.GitopsError: of the first error's class, with the texts of the first few; anything that is not ours
            stays what it is.
    """
    try:
        async with asyncio.TaskGroup() as tasks:
            yield tasks
    except BaseExceptionGroup as caught:
        others = caught.split(errors.GitopsError)[1]
        if others is not None:
            raise others from None
        raise one(caught) from None


def one(caught: BaseException) -> errors.GitopsError:
    """One error for a group of errors of ours: the first, with the texts of the others behind its own."""
    found = list(dict.fromkeys(_leaves(caught)))
    texts = list(dict.fromkeys(map(str, found)))
    if len(texts) == 1 or isinstance(found[0], errors.InvalidManifest):
        return found[0]
    more = f"; and {len(texts) - _SHOWN} more" if len(texts) > _SHOWN else ""
    joined = type(found[0])("; ".join(texts[:_SHOWN]) + more)
    joined.__cause__ = found[0]
    return joined


def _leaves(caught: BaseException) -> list[errors.GitopsError]:
    if isinstance(caught, BaseExceptionGroup):
        return [leaf for inner in caught.exceptions for leaf in _leaves(inner)]
    assert isinstance(caught, errors.GitopsError)
    return [caught]
