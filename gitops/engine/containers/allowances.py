"""What a container may ask of the host's resources: what can't be is refused, what this host lacks goes. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

import msgspec

from gitops import errors
from gitops.engine.containers.resources import HostLimits
from gitops.objects.container import HostConfig, RestartPolicy, ThrottleDevice
from gitops.objects.service import Ulimit

MIN_MEMORY = 6 * 1024 * 1024
RESTART_POLICIES = ("no", "always", "on-failure", "unless-stopped")
_SHORTEST_PERIOD_US = 1_000
_LONGEST_PERIOD_US = 1_000_000
_WEIGHTS = range(10, 1001)
_CPU_SET = re.compile(r"[0-9]{1,5}(-[0-9]{1,5})?")
_MOST_CPUS = 8192
_LIMITS = frozenset(
    "core cpu data fsize locks memlock msgqueue nice nofile nproc rss rtprio rttime sigpending stack".split()  # noqa: SIM905
)


def check(host: HostConfig, cpus: int) -> None:
    """Raises `errors.Invalid`, in Docker's words where it has any, for what no host could give."""
    _check_memory(host)
    _check_cpus(host, cpus)
    _check_blocks(host)
    if host.shm_size < 0:
        raise errors.Invalid("SHM size can not be less than 0")
    if not -1000 <= host.oom_score_adj <= 1000:
        raise errors.Invalid(f"Invalid value {host.oom_score_adj}, range for oom score adj is [-1000, 1000]")
    for limit in host.ulimits or ():
        _check_ulimit(limit)


def _check_memory(host: HostConfig) -> None:
    if host.memory and host.memory < MIN_MEMORY:
        raise errors.Invalid("Minimum memory limit allowed is 6MB")
    if host.memory_swap > 0 and not host.memory:
        raise errors.Invalid("You should always set the Memory limit when using Memoryswap limit, see usage")
    if host.memory_swap > 0 and host.memory_swap < host.memory:
        raise errors.Invalid("Minimum memoryswap limit should be larger than memory limit, see usage")
    if host.memory_reservation < 0:
        raise errors.Invalid(f"invalid memory reservation: {host.memory_reservation}")
    if host.memory_reservation and host.memory_reservation < MIN_MEMORY:
        raise errors.Invalid("Minimum memory reservation allowed is 6MB")
    if host.memory_reservation and host.memory and host.memory_reservation > host.memory:
        raise errors.Invalid("Minimum memory limit can not be less than memory reservation limit, see usage")
    if host.memory_swappiness is not None and not -1 <= host.memory_swappiness <= 100:
        raise errors.Invalid(f"Invalid value: {host.memory_swappiness}, valid memory swappiness range is 0-100")


def _check_cpus(host: HostConfig, cpus: int) -> None:
    if host.nano_cpus and host.cpu_period:
        raise errors.Invalid("Conflicting options: Nano CPUs and CPU Period cannot both be set")
    if host.nano_cpus and host.cpu_quota:
        raise errors.Invalid("Conflicting options: Nano CPUs and CPU Quota cannot both be set")
    if host.nano_cpus and not 10_000_000 <= host.nano_cpus <= cpus * 1_000_000_000:
        raise errors.Invalid(f"range of CPUs is from 0.01 to {cpus}.00, as there are only {cpus} CPUs available")
    if host.cpu_shares < 0:
        raise errors.Invalid(f"invalid CPU shares ({host.cpu_shares}): value must be a positive integer")
    if host.cpu_period and not _SHORTEST_PERIOD_US <= host.cpu_period <= _LONGEST_PERIOD_US:
        raise errors.Invalid("CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)")
    if 0 < host.cpu_quota < _SHORTEST_PERIOD_US:
        raise errors.Invalid("CPU cfs quota can not be less than 1ms (i.e. 1000)")
    for text, what in ((host.cpuset_cpus, "cpus"), (host.cpuset_mems, "mems")):
        if text and parse_set(text) is None:
            raise errors.Invalid(f"Invalid value {text} for cpuset {what}")


def parse_set(text: str) -> frozenset[int] | None:
    """The numbers of `0-3,6`; None where it isn't such a list."""
    found: set[int] = set()
    for part in text.split(","):
        if not _CPU_SET.fullmatch(part):
            return None
        first, _, last = part.partition("-")
        if int(last or first) < int(first) or int(last or first) >= _MOST_CPUS:
            return None
        found.update(range(int(first), int(last or first) + 1))
    return frozenset(found)


def _check_blocks(host: HostConfig) -> None:
    weights = [host.blkio_weight] if host.blkio_weight else []
    for weight in [*weights, *(device.weight for device in host.blkio_weight_device or ())]:
        if weight not in _WEIGHTS:
            raise errors.Invalid("Range of blkio weight is from 10 to 1000")
    for device in throttles(host):
        if device.rate < 0:
            raise errors.Invalid(f"invalid rate {device.rate} for the device {device.path}")


def throttles(host: HostConfig) -> list[ThrottleDevice]:
    """Every limit on a block device."""
    return [
        *(host.blkio_device_read_bps or ()),
        *(host.blkio_device_write_bps or ()),
        *(host.blkio_device_read_iops or ()),
        *(host.blkio_device_write_iops or ()),
    ]


def _check_ulimit(limit: Ulimit) -> None:
    if limit.name not in _LIMITS:
        raise errors.Invalid(f"invalid ulimit type: {limit.name}")
    if min(limit.soft, limit.hard) < -1:
        raise errors.Invalid(f"invalid ulimit {limit.name}: {limit.soft}:{limit.hard}, -1 is the word for no limit")
    if limit.hard != -1 and (limit.soft == -1 or limit.soft > limit.hard):
        raise errors.Invalid(f"ulimit soft limit must be less than or equal to hard limit: {limit.soft} > {limit.hard}")


def check_restart(host: HostConfig) -> None:
    """Raises `errors.Invalid` for a restart policy that isn't one, or that contradicts `--rm`."""
    policy = host.restart_policy or RestartPolicy()
    if policy.name not in RESTART_POLICIES:
        raise errors.Invalid(
            f"invalid restart policy: unknown policy '{policy.name}'; use one of 'no', 'always', 'on-failure', "
            "or 'unless-stopped'"
        )
    if policy.maximum_retry_count < 0:
        raise errors.Invalid("invalid restart policy: maximum retry count cannot be negative")
    if policy.maximum_retry_count and policy.name != "on-failure":
        raise errors.Invalid("invalid restart policy: maximum retry count can only be used with 'on-failure'")
    if host.auto_remove and policy.name != "no":
        raise errors.Invalid("can't create 'AutoRemove' container with restart policy")


def fit(host: HostConfig, limits: HostLimits) -> tuple[HostConfig, list[str]]:
    """`host` without what this machine lacks, and a sentence for each thing that was left out or cut.

    Raises:
        errors.Invalid: CPUs or memory nodes that aren't there.
    """
    _check_available(host.cpuset_cpus, limits.cpus, "CPUs")
    _check_available(host.cpuset_mems, limits.mems, "memory nodes")
    gone: dict[str, object] = {}
    warnings: list[str] = []

    def leave_out(name: str, empty: object, warning: str) -> None:
        gone[name] = empty
        warnings.append(warning)

    if host.memory_swap > 0 and not limits.has_swap_limit:
        leave_out(
            "memory_swap",
            -1,
            "Your kernel does not support swap limit capabilities or the cgroup is not mounted. Memory limited without "
            "swap.",
        )
    _fit_memory(host, limits, leave_out)
    if host.blkio_weight and not limits.has_block_weight:
        leave_out(
            "blkio_weight",
            0,
            "Your kernel does not support Block I/O weight or the cgroup is not mounted. Weight discarded.",
        )
    if host.blkio_weight_device and not limits.has_block_weight:
        leave_out(
            "blkio_weight_device",
            None,
            "Your kernel does not support Block I/O weight_device or the cgroup is not mounted. Weight-device "
            "discarded.",
        )
    warnings += _cut_limits(host.ulimits or (), limits)
    if host.network_mode == "host" and host.port_bindings:
        warnings.append("Published ports are discarded when using host network mode")
    return msgspec.structs.replace(host, **gone), warnings


def _fit_memory(host: HostConfig, limits: HostLimits, leave_out: Callable[[str, object, str], None]) -> None:
    if host.memory_swappiness not in (None, -1) and limits.is_v2:
        leave_out(
            "memory_swappiness",
            None,
            "Your kernel does not support memory swappiness capabilities, or the cgroup is not mounted. Memory "
            "swappiness discarded.",
        )
    if host.oom_kill_disable and limits.is_v2:
        leave_out("oom_kill_disable", None, "Your kernel does not support OomKillDisable. OomKillDisable discarded.")
    elif host.oom_kill_disable and not host.memory:
        leave_out(
            "oom_kill_disable",
            True,
            "OOM killer is disabled for the container, but no memory limit is set, this can result in the system "
            "running out of resources.",
        )


def _cut_limits(ulimits: Iterable[Ulimit], limits: HostLimits) -> list[str]:
    if limits.may_raise_limits:
        return []
    warnings = []
    for limit in ulimits:
        ceiling = limits.rlimits.get(limit.name, (-1, -1))[1]
        if ceiling != -1 and (limit.hard == -1 or limit.hard > ceiling):
            warnings.append(
                f"The engine may not raise hard limits on this machine: ulimit {limit.name} is cut to {ceiling}."
            )
    return warnings


def _check_available(text: str, available: frozenset[int], what: str) -> None:
    wanted = parse_set(text) if text else None
    if wanted and available and not wanted <= available:
        raise errors.Invalid(f"Requested {what} are not available - requested {text}, available: {_shown(available)}")


def _shown(numbers: frozenset[int]) -> str:
    """`0-1,4`, as the kernel writes it."""
    parts: list[tuple[int, int]] = []
    for number in sorted(numbers):
        if parts and parts[-1][1] == number - 1:
            parts[-1] = (parts[-1][0], number)
        else:
            parts.append((number, number))
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in parts)
