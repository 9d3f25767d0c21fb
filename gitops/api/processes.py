"""The processes of a container, read from /proc: those in the PID namespace of its first process."""

from __future__ import annotations

import os
import pwd
import time
from pathlib import Path

TITLES = ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]
_TICKS = os.sysconf("SC_CLK_TCK")


def of_namespace(pid: int) -> list[list[str]]:
    """A row for each process that shares the PID namespace of `pid`, in the order of the ids; none where it is gone."""
    try:
        namespace = os.readlink(f"/proc/{pid}/ns/pid")
    except OSError:
        return []
    numbers = sorted(int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
    rows = (_row(number) for number in numbers if _is_in(number, namespace))
    return [row for row in rows if row is not None]


def _is_in(pid: int, namespace: str) -> bool:
    try:
        return os.readlink(f"/proc/{pid}/ns/pid") == namespace
    except OSError:
        return False


def _row(pid: int) -> list[str] | None:
    """None where the process ended meanwhile."""
    root = Path(f"/proc/{pid}")
    try:
        fields = (root / "stat").read_text().rpartition(")")[2].split()
        command = (root / "cmdline").read_bytes().rstrip(b"\0").replace(b"\0", b" ").decode("utf-8", "replace")
        name = (root / "comm").read_text().strip()
        owner = root.stat().st_uid
        uptime = float(Path("/proc/uptime").read_text().split()[0])
    except (OSError, IndexError, ValueError):
        return None
    cpu_s = (int(fields[11]) + int(fields[12])) / _TICKS
    age_s = max(uptime - int(fields[19]) / _TICKS, 0.001)
    started = time.localtime(time.time() - age_s)
    return [
        _user(owner),
        str(pid),
        fields[1],
        str(min(99, int(100 * cpu_s / age_s))),
        time.strftime("%H:%M" if age_s < 86400 else "%b%d", started),
        "?" if fields[4] == "0" else f"{int(fields[4]) >> 8}/{int(fields[4]) & 255}",
        time.strftime("%H:%M:%S", time.gmtime(cpu_s)),
        command or f"[{name}]",
    ]


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
