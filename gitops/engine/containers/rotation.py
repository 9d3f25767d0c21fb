"""Keeping logs within their size: looked at once a second, rotated by rename, and conmon told to open a new file.

A log that somebody deleted is begun anew in the same way.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
from collections.abc import Mapping
from pathlib import Path

from gitops.engine.containers import creation, logs
from gitops.engine.containers.container import Container
from gitops.engine.containers.launcher import Launcher
from gitops.engine.containers.runtime import Runtime

logger = logging.getLogger(__name__)

_PAUSE_S = 1.0
_REOPEN = b"2 0 0\n"
"""What conmon's control pipe takes for "open the log again"."""


async def rotate_for_ever(containers: Mapping[str, Container], runtime: Runtime, launcher: Launcher) -> None:
    """Rotate the logs of whatever runs, until cancelled."""
    while True:
        await asyncio.sleep(_PAUSE_S)
        for container in list(containers.values()):
            if container.record.is_alive:
                try:
                    await _rotate(container, runtime, launcher)
                except OSError as error:
                    logger.warning("container %s: rotating its log: %s", container.record.short_name, error)


async def _rotate(container: Container, runtime: Runtime, launcher: Launcher) -> None:
    log = container.record.host_config.log_config
    if log is not None and log.type == "none":
        return
    limit, keep = creation.log_limits(log) if log is not None else (0, 0)
    folder = launcher.log_folder(container.id)
    path = folder / logs.LOG_NAME
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        # Somebody deleted it: what conmon writes to has no name any more.
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    else:
        if not limit or size < limit:
            return
        await launcher.in_thread(logs.rotate, folder, keep)
    _tell_conmon(runtime.bundle(container.id) / "ctl")


def _tell_conmon(pipe: Path) -> None:
    try:
        descriptor = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno not in (errno.ENXIO, errno.ENOENT):
            raise
        return  # conmon is gone: nobody writes a log
    try:
        os.write(descriptor, _REOPEN)
    finally:
        os.close(descriptor)
