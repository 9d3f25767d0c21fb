"""Limits of a container as the OCI runtime takes them: cgroup resources, rlimits, out-of-memory score. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gitops.objects.container import HostConfig
from gitops.objects.service import Ulimit

CPU_PERIOD_US = 100_000
"""The scheduler's period that CPU limits are shares of, in microseconds."""


@dataclass(frozen=True, slots=True)
class HostLimits:
    """What this host and this process allow at most."""

    is_v2: bool
    has_swap_limit: bool
    rlimits: Mapping[str, tuple[int, int]]
    """Soft and hard limits of the daemon, by Docker's names; -1 for none."""
    may_raise_limits: bool
    """Whether the daemon holds CAP_SYS_RESOURCE."""
    oom_score_adj: int
    has_recursive_read_only: bool = False
    """Whether the kernel makes a mount read-only with all that is mounted below it."""
    has_block_weight: bool = False
    """Whether requests to block devices can be weighed."""
    cpus: frozenset[int] = frozenset()
    mems: frozenset[int] = frozenset()
    """Memory nodes; none where the host doesn't say, as with the CPUs."""


def cgroup(host: HostConfig, limits: HostLimits) -> dict[str, Any]:
    """`linux.resources` without the devices."""
    resources: dict[str, Any] = {}
    memory = _memory(host, limits)
    if memory:
        resources["memory"] = memory
    cpu = _cpu(host)
    if cpu:
        resources["cpu"] = cpu
    if host.pids_limit and host.pids_limit > 0:
        resources["pids"] = {"limit": host.pids_limit}
    return resources


def _cpu(host: HostConfig) -> dict[str, int | str]:
    cpu: dict[str, int | str] = {}
    if host.nano_cpus:
        cpu = {"period": CPU_PERIOD_US, "quota": max(1000, host.nano_cpus * CPU_PERIOD_US // 1_000_000_000)}
    if host.cpu_period:
        cpu["period"] = host.cpu_period
    if host.cpu_quota:
        cpu["quota"] = host.cpu_quota
    if host.cpu_shares:
        cpu["shares"] = max(2, host.cpu_shares)
    if host.cpuset_cpus:
        cpu["cpus"] = host.cpuset_cpus
    if host.cpuset_mems:
        cpu["mems"] = host.cpuset_mems
    return cpu


def _memory(host: HostConfig, limits: HostLimits) -> dict[str, int | bool]:
    memory: dict[str, int | bool] = {}
    if host.memory:
        memory["limit"] = host.memory
    if host.memory_reservation:
        memory["reservation"] = host.memory_reservation
    if host.memory and limits.has_swap_limit:
        # Docker's default: as much swap as memory. The runtime's number is the sum of both.
        memory["swap"] = host.memory_swap or 2 * host.memory
    if host.memory_swappiness not in (None, -1) and not limits.is_v2:
        memory["swappiness"] = int(host.memory_swappiness or 0)
    if host.oom_kill_disable and not limits.is_v2:
        memory["disableOOMKiller"] = True
    return memory


def rlimits(ulimits: Sequence[Ulimit], limits: HostLimits) -> list[dict[str, Any]]:
    """`process.rlimits`, cut to the daemon's hard limits where it may not raise them, or the start would fail."""
    result: list[dict[str, Any]] = []
    for ulimit in ulimits:
        hard, soft = ulimit.hard, ulimit.soft
        if not limits.may_raise_limits:
            ceiling = limits.rlimits.get(ulimit.name, (-1, -1))[1]
            hard, soft = _clamp(hard, ceiling), _clamp(soft, ceiling)
        result.append({"type": f"RLIMIT_{ulimit.name.upper()}", "hard": _unsigned(hard), "soft": _unsigned(soft)})
    return result


def oom_score(wanted: int, limits: HostLimits) -> int:
    """The score, not below the daemon's where it may not lower it."""
    return wanted if limits.may_raise_limits else max(wanted, limits.oom_score_adj)


def _clamp(value: int, ceiling: int) -> int:
    if ceiling == -1:
        return value
    return ceiling if value == -1 else min(value, ceiling)


def _unsigned(value: int) -> int:
    return 2**64 - 1 if value == -1 else value
