"""What this machine and this process allow: limits, swap accounting, devices."""

from __future__ import annotations

import os
import re
import resource
import stat
from pathlib import Path
from typing import Any

from gitops.engine.containers import capabilities
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
    )


def _raise_open_files() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _kernel() -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", os.uname().release)[:2])


def has_swap_accounting(groups: Groups) -> bool:
    """Whether memory plus swap can be limited."""
    return groups.is_v2 or (ROOT / "memory" / "memory.memsw.limit_in_bytes").exists()


def devices() -> list[dict[str, Any]]:
    """Every device of the host, for a privileged container; blocks."""
    found: list[dict[str, Any]] = []
    for base, folders, files in os.walk("/dev"):
        folders[:] = [name for name in folders if name not in ("pts", "shm", "mqueue", "fd")]
        for name in files:
            path = os.path.join(base, name)
            try:
                status = os.lstat(path)
            except FileNotFoundError:
                continue
            is_char = stat.S_ISCHR(status.st_mode)
            if (is_char or stat.S_ISBLK(status.st_mode)) and not (base == "/dev" and name in _OWN_DEVICES):
                found.append(
                    {
                        "path": path,
                        "type": "c" if is_char else "b",
                        "major": os.major(status.st_rdev),
                        "minor": os.minor(status.st_rdev),
                        "fileMode": stat.S_IMODE(status.st_mode),
                        "uid": status.st_uid,
                        "gid": status.st_gid,
                    }
                )
    return found
