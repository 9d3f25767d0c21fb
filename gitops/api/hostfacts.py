"""What the machine under the engine is: for `docker info` and `docker version`. Reads /proc, /sys and /etc only."""

from __future__ import annotations

import os
import platform
from pathlib import Path

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}
_CGROUPS = Path("/sys/fs/cgroup")


def architecture() -> str:
    """The architecture in Go's word."""
    return _ARCHITECTURES.get(platform.machine(), platform.machine())


def machine() -> str:
    """The architecture in the kernel's word."""
    return platform.machine()


def kernel() -> str:
    """The kernel's release."""
    return platform.release()


def operating_system() -> str:
    """The distribution's own name for itself."""
    for path in (Path("/etc/os-release"), Path("/usr/lib/os-release")):
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except OSError:
            continue
        found = dict(line.split("=", 1) for line in lines if "=" in line)
        return found.get("PRETTY_NAME", "Linux").strip("\"'")
    return "Linux"


def memory_bytes() -> int:
    """The machine's memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def cpus() -> int:
    """CPUs that this process may use."""
    return len(os.sched_getaffinity(0))


def hostname() -> str:
    """The node's name."""
    return platform.node()


def cgroup_version() -> str:
    """ "2" where all controllers are in the unified hierarchy, else "1"."""
    return "2" if (_CGROUPS / "cgroup.controllers").exists() else "1"


def has_controller(name: str) -> bool:
    """Whether containers can be limited by this controller."""
    if cgroup_version() == "2":
        return name in (_CGROUPS / "cgroup.controllers").read_text().split()
    return (_CGROUPS / name).is_dir()


def ip_forwarding() -> bool:
    """Whether the kernel forwards IPv4."""
    try:
        return Path("/proc/sys/net/ipv4/ip_forward").read_text().strip() == "1"
    except OSError:
        return False
