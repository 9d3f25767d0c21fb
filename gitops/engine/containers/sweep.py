"""The engine's start: adopting containers that run, finishing what a crash interrupted, removing what has no owner.

Only what lies below this instance's own roots and cgroup is touched, and nothing that lives in a group whose container
isn't known here: two engines may have been given one parent by mistake.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping

from gitops import errors
from gitops.engine import mountinfo
from gitops.engine.containers import adoption, processes, record
from gitops.engine.containers.adoption import Finding, Survey
from gitops.engine.containers.container import Container
from gitops.engine.containers.injected import InjectedFiles
from gitops.engine.containers.launcher import Launcher
from gitops.engine.containers.runtime import Runtime
from gitops.engine.containers.supervisor import Supervisor

logger = logging.getLogger(__name__)

_ID = re.compile(r"[0-9a-f]{64}")


async def sweep(
    containers: Mapping[str, Container],
    runtime: Runtime,
    launcher: Launcher,
    files: InjectedFiles,
    supervisor: Supervisor,
) -> None:
    """Bring the stored containers and the machine together."""
    traces = runtime.known() | launcher.groups.leftovers()
    for container in list(containers.values()):
        try:
            await _settle(container, traces, runtime, launcher, supervisor)
        except (errors.GitopsError, OSError) as error:
            # One container that can't be cleaned up must not keep the engine from starting.
            logger.error("container %s: can't be taken up: %s", container.record.short_name, error)
    await _remove_unknown(containers, runtime, launcher, files)


async def _settle(
    container: Container, traces: set[str], runtime: Runtime, launcher: Launcher, supervisor: Supervisor
) -> None:
    now = container.record
    found = adoption.survey(now, runtime, launcher.groups.path(container.id))
    if now.status == record.REMOVING:
        await supervisor.remove(container, force=True, volumes=now.removes_volumes)
    elif found.finding is Finding.RUNNING:
        _adopt(container, found, launcher, supervisor)
    elif found.finding is Finding.ENDED:
        await _bury(container, found, runtime, supervisor)
    elif found.finding is Finding.WAITING or container.id in traces:
        await launcher.take_down(now)
        if now.is_alive:
            _undo_start(container, supervisor)
    if now.host_config.auto_remove and container.record.status == record.EXITED and not container.is_gone:
        await supervisor.remove(container, force=True, volumes=True)


def _adopt(container: Container, found: Survey, launcher: Launcher, supervisor: Supervisor) -> None:
    run = found.run
    if run is None:
        return
    status = record.PAUSED if launcher.groups.is_frozen(container.id) else record.RUNNING
    if (container.record.status, container.record.run) != (status, run):
        supervisor.save(container, status=status, run=run)
    launcher.adopt_volumes(container.record)
    supervisor.arm(container, run)


def _undo_start(container: Container, supervisor: Supervisor) -> None:
    now = container.record
    is_first = now.came_from == record.CREATED
    supervisor.save(
        container,
        status=now.came_from,
        started_ns=0 if is_first else now.started_ns,
        finished_ns=0 if is_first else now.started_ns,
        attached={},
        sandbox="",
        gateway_address="",
        ports={},
        health="",
    )


async def _bury(container: Container, found: Survey, runtime: Runtime, supervisor: Supervisor) -> None:
    conmon = processes.read_pid(runtime.bundle(container.id) / "conmon.pid")
    if found.exit_code is None and conmon is not None and processes.has_word(conmon, container.id) and found.run:
        # conmon is still at it: its word is waited for, as for any container that ends.
        supervisor.arm(container, found.run)
        return
    await supervisor.ended(container, found.exit_code)


async def _remove_unknown(
    containers: Mapping[str, Container], runtime: Runtime, launcher: Launcher, files: InjectedFiles
) -> None:
    known_here = {name for name in runtime.known() if _ID.fullmatch(name)}
    for name in known_here - containers.keys():
        await launcher.take_down_id(name)
    for name in {name for name in launcher.groups.leftovers() if _ID.fullmatch(name)} - containers.keys():
        if launcher.groups.processes(name):
            logger.warning("cgroup %s holds processes of no container of this engine: left alone", name)
        else:
            await launcher.in_thread(launcher.groups.remove, name)
    for name in files.known() - containers.keys():
        await launcher.in_thread(files.remove, name)
    root = launcher.folder("")
    for name in {entry.name for entry in os.scandir(root)} if root.is_dir() else ():
        if _ID.fullmatch(name) and name not in containers:
            await launcher.in_thread(mountinfo.remove_tree, launcher.folder(name))
