"""What this machine and this process allow: limits, swap accounting, devices."""

from __future__ import annotations

import os
import re
import resource
from pathlib import Path
from typing import Any

from gitops.engine.containers import allowances, capabilities, devices
from gitops.engine.containers.cgroups import ROOT, Groups
from gitops.engine.containers.resources import HostLimits

_RLIMITS = {
    name.removeprefix("RLIMIT_").lower(): getattr(resource, name)
    for name in dir(resource)
    if name.startswith("RLIMIT_")
}
_OWN_DEVICES = frozenset({"null", "zero", "full", "random", "urandom", "tty", "console", "ptmx"})
"""Those that the runtime makes itself, or that belong to the container's own terminal."""


def limits(groups: Groups) -> HostLimits:
    """The limits, after the daemon's own number of open files was raised as far as it may."""
    _raise_open_files()
    return HostLimits(
        is_v2=groups.is_v2,
        has_swap_limit=has_swap_accounting(groups),
        rlimits={name: resource.getrlimit(number) for name, number in _RLIMITS.items()},
        may_raise_limits="SYS_RESOURCE" in capabilities.held(),
        oom_score_adj=int(Path("/proc/self/oom_score_adj").read_text()),
        has_recursive_read_only=_kernel() >= (5, 12),
        has_block_weight=_has_block_weight(groups),
        cpus=_available(groups, "cpus"),
        mems=_available(groups, "mems"),
    )


def _has_block_weight(groups: Groups) -> bool:
    if groups.is_v2:
        return any(ROOT.glob("*/io.weight")) or any(ROOT.glob("*/io.bfq.weight"))
    return (ROOT / "blkio" / "blkio.weight").exists()


def _available(groups: Groups, what: str) -> frozenset[int]:
    """CPUs or memory nodes that containers can have; none where the host doesn't say."""
    path = ROOT / f"cpuset.{what}.effective" if groups.is_v2 else ROOT / "cpuset" / f"cpuset.{what}"
    try:
        return allowances.parse_set(path.read_text().strip()) or frozenset()
    except OSError:
        return frozenset()


def _raise_open_files() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _kernel() -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", os.uname().release)[:2])


def has_swap_accounting(groups: Groups) -> bool:
    """Whether memory plus swap can be limited."""
    return groups.is_v2 or (ROOT / "memory" / "memory.memsw.limit_in_bytes").exists()


def all_devices() -> list[dict[str, Any]]:
    """Every device of the host, for a privileged container; blocks."""
    own = {f"/dev/{name}" for name in _OWN_DEVICES}
    return [devices.node(path, status) for path, status in devices.below("/dev") if path not in own]
