"""Linux capabilities of a container: Docker's default set, additions and drops, cut to what the daemon itself holds."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from pathlib import Path

from gitops import errors


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


# Numbered as in linux/capability.h.
ALL = _words(
    "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE "
    "NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT "
    "SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE "
    "AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ "
    "PERFMON BPF CHECKPOINT_RESTORE"
)
DEFAULT = _words(
    "CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP NET_BIND_SERVICE SYS_CHROOT "
    "KILL AUDIT_WRITE"
)


def normalise(name: str) -> str:
    """`net_admin`, `CAP_NET_ADMIN` as `NET_ADMIN`; `ALL` stays.

    Raises:
        errors.Invalid: there is no such capability.
    """
    short = name.strip().upper().removeprefix("CAP_")
    if short != "ALL" and short not in ALL:
        raise errors.Invalid(f'invalid capability: "{name}"')
    return short


def effective(add: Iterable[str], drop: Iterable[str], *, privileged: bool, held: Sequence[str]) -> list[str]:
    """The capabilities of a container, each as `CAP_X`, in the kernel's order.

    What the daemon does not hold is left out: the kernel would refuse the whole set.
    """
    added = {normalise(name) for name in add}
    dropped = {normalise(name) for name in drop}
    if privileged or "ALL" in added:
        wanted = set(ALL) if privileged or "ALL" not in dropped else set()
    else:
        wanted = set() if "ALL" in dropped else set(DEFAULT)
    if not privileged:
        wanted = (wanted | (added - {"ALL"})) - dropped
    return [f"CAP_{name}" for name in ALL if name in wanted and name in held]


@functools.cache
def held() -> tuple[str, ...]:
    """What this process may pass on: its bounding and permitted sets."""
    masks = [
        int(line.split()[1], 16)
        for line in Path("/proc/self/status").read_text().splitlines()
        if line.startswith(("CapBnd:", "CapPrm:"))
    ]
    return tuple(name for number, name in enumerate(ALL) if all(mask >> number & 1 for mask in masks))
