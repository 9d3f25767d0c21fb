"""Keeping logs within their size: looked at once a second, rotated by rename, and conmon told to open a new file."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Mapping

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
    if log is None or log.type == "none":
        return
    limit, keep = creation.log_limits(log)
    folder = launcher.log_folder(container.id)
    path = folder / logs.LOG_NAME
    if not limit or not path.exists() or path.stat().st_size < limit:
        return
    await launcher.in_thread(logs.rotate, folder, keep)
    descriptor = os.open(runtime.bundle(container.id) / "ctl", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        os.write(descriptor, _REOPEN)
    finally:
        os.close(descriptor)
