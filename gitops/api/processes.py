"""What processes of a container are shown as, read from /proc.

For other columns than the usual ones the host's own `ps` is asked.
"""

from __future__ import annotations

import os
import pwd
import subprocess
import time
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from gitops import errors

TITLES = ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]
_TICKS = os.sysconf("SC_CLK_TCK")
_PS_TIMEOUT_S = 10.0


def rows(pids: Iterable[int]) -> list[list[str]]:
    """A row for each of these processes that is still there, under `TITLES`; blocks."""
    found = (_row(pid) for pid in pids)
    return [row for row in found if row is not None]


def by_ps(pids: Collection[int], arguments: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """Titles and rows of `ps` with `arguments` for these processes; blocks.

    Raises:
        errors.Invalid: ps doesn't take the arguments, or doesn't show PIDs by them. errors.Unsupported: there is no ps.
    """
    try:
        done = subprocess.run(
            ["ps", *arguments], capture_output=True, text=True, errors="replace", timeout=_PS_TIMEOUT_S, check=False
        )
    except FileNotFoundError:
        raise errors.Unsupported("ps isn't installed: install the package procps, or leave the arguments out") from None
    except (subprocess.TimeoutExpired, ValueError) as error:
        raise errors.Invalid(f"ps {' '.join(arguments)}: {error}") from error
    if done.returncode != 0:
        raise errors.Invalid(f"ps: {done.stderr.strip().splitlines()[0] if done.stderr.strip() else 'no process'}")
    return parse_ps(done.stdout, pids)


def parse_ps(text: str, pids: Collection[int]) -> tuple[list[str], list[list[str]]]:
    """Titles, and the rows of `pids`, of what ps printed. Pure.

    Raises:
        errors.Invalid: no column has the title PID.
    """
    first, *lines = text.splitlines() or [""]
    titles = first.split()
    if "PID" not in titles:
        raise errors.Invalid("Couldn't find PID field in ps output")
    place = titles.index("PID")
    found = [line.split(None, len(titles) - 1) for line in lines]
    shown = {str(pid) for pid in pids}
    return titles, [row for row in found if len(row) > place and row[place] in shown]


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
