"""`docker update`: other limits and another restart policy for a container, at once where it runs."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

import msgspec

from gitops import errors
from gitops.engine.containers import allowances, record, resources
from gitops.engine.containers.container import Container
from gitops.engine.containers.launcher import Launcher
from gitops.engine.containers.runtime import Runtime
from gitops.objects.container import HostConfig

_CHANGEABLE = (
    "blkio_weight",
    "cpu_shares",
    "nano_cpus",
    "cpu_period",
    "cpu_quota",
    "cpuset_cpus",
    "cpuset_mems",
    "memory",
    "memory_swap",
    "memory_reservation",
    "pids_limit",
)


class Updating:
    """Changes of the containers of one engine."""

    def __init__(
        self,
        find: Callable[[str], Container],
        launcher: Launcher,
        runtime: Runtime,
        save: Callable[..., None],
        tell: Callable[..., None],
    ) -> None:
        self._find = find
        self._launcher = launcher
        self._runtime = runtime
        self._save = save
        self._tell = tell

    async def update(self, name: str, wanted: HostConfig) -> Sequence[str]:
        """Change what `wanted` names, all or nothing; what this host lacks is told by the sentences.

        Raises:
            errors.NotFound: no such container. errors.Conflict: it is being removed, or options exclude each other.
            errors.Invalid: a value that can't be. errors.RuntimeFailure: the kernel refused.
        """
        container = self._find(name)
        async with container.lock:
            now = container.record
            if now.status == record.REMOVING or container.is_gone:
                raise errors.Conflict('Container is marked for removal and cannot be "update".')
            host, warnings = allowances.fit(merged(now.host_config, wanted), self._launcher.limits)
            allowances.check(host, os.cpu_count() or 1)
            allowances.check_restart(host)
            if now.is_alive and _has_other_limits(now.host_config, host):
                await self._apply(container, host)
            self._save(container, host_config=host)
        self._tell(container, "update")
        return warnings

    async def _apply(self, container: Container, host: HostConfig) -> None:
        found = resources.cgroup(host, self._launcher.limits)
        # What isn't said stays as it is: "no limit" must be said.
        found.setdefault("pids", {"limit": 0 if self._runtime.is_crun else -1})
        if host.blkio_weight:
            found["blockIO"] = {"weight": host.blkio_weight}
        path = self._runtime.bundle(container.id) / "update.json"
        await self._launcher.in_thread(path.write_bytes, msgspec.json.encode(found))
        done = await self._runtime.call("update", "-r", path, container.id)
        if done.code != 0:
            raise errors.RuntimeFailure(f"Cannot update container {container.id}: {done.output.strip()}")


def merged(now: HostConfig, wanted: HostConfig) -> HostConfig:
    """`now` with what `wanted` names; a zero names nothing.

    Raises:
        errors.Conflict: options that exclude each other, one of them set before.
    """
    _check_conflicts(now, wanted)
    changes = {name: getattr(wanted, name) for name in _CHANGEABLE if getattr(wanted, name)}
    policy = wanted.restart_policy
    if policy is not None and policy.name:
        if now.auto_remove and policy.name != "no":
            raise errors.Conflict("Restart policy cannot be updated because AutoRemove is enabled for the container")
        changes["restart_policy"] = policy
    return msgspec.structs.replace(now, **changes)


def _check_conflicts(now: HostConfig, wanted: HostConfig) -> None:
    for is_so, text in (
        (wanted.nano_cpus and now.cpu_period, "Nano CPUs cannot be updated as CPU Period has already been set"),
        (wanted.nano_cpus and now.cpu_quota, "Nano CPUs cannot be updated as CPU Quota has already been set"),
        (wanted.cpu_period and now.nano_cpus, "CPU Period cannot be updated as NanoCPUs has already been set"),
        (wanted.cpu_quota and now.nano_cpus, "CPU Quota cannot be updated as NanoCPUs has already been set"),
    ):
        if is_so:
            raise errors.Conflict(f"Conflicting options: {text}")
    if wanted.memory and not wanted.memory_swap and 0 < now.memory_swap < wanted.memory:
        raise errors.Conflict(
            "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time"
        )


def _has_other_limits(before: HostConfig, after: HostConfig) -> bool:
    return any(getattr(before, name) != getattr(after, name) for name in _CHANGEABLE)
