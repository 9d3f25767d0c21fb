"""Times a command as a whole process: wall, CPU and peak memory; reads memory; compares, and prints tables."""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Sample:
    """One run: seconds of wall and CPU time, bytes of peak resident memory."""

    wall_s: float
    cpu_s: float
    peak_bytes: int


def command(arguments: Sequence[str], environment: Mapping[str, str] | None = None, ok: Sequence[int] = (0,)) -> Sample:
    """Run a command to its end, its output thrown away."""
    begin = time.perf_counter()
    process = subprocess.Popen(
        arguments,
        env=dict(environment) if environment is not None else None,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    assert process.stderr is not None
    errors = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - begin
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in ok:
        raise RuntimeError(f"{arguments} ended with {process.returncode}: {errors.decode()[-2000:]}")
    return Sample(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)


def median(samples: Sequence[Sample]) -> Sample:
    """The medians of the three figures."""
    return Sample(
        statistics.median(sample.wall_s for sample in samples),
        statistics.median(sample.cpu_s for sample in samples),
        int(statistics.median(sample.peak_bytes for sample in samples)),
    )


def spread(seconds: Sequence[float]) -> str:
    """`12.3 ms [10.1-20.0]`: the median and the range."""
    low, middle, high = min(seconds), statistics.median(seconds), max(seconds)
    return f"{1000 * middle:.1f} ms [{1000 * low:.1f}-{1000 * high:.1f}]"


def show(title: str, rows: Sequence[Sequence[str]]) -> None:
    """Print a table; the first row is its head."""
    print(f"\n{title}")
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for number, row in enumerate(rows):
        print("  " + "   ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())
        if number == 0:
            print("  " + "   ".join("-" * width for width in widths))


def resident(pid: int) -> int:
    """Resident memory of a process in bytes."""
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def beside(pid: int) -> int:
    """Proportional memory, in bytes, of a daemon and all its helpers: whatever is in its network namespace."""
    namespace = os.stat(f"/proc/{pid}/ns/net")
    return sum(_proportional(path) for path in Path("/proc").glob("[0-9]*") if _within(path, namespace))


def _within(process: Path, namespace: os.stat_result) -> bool:
    try:
        return os.path.samestat(os.stat(process / "ns/net"), namespace)
    except (FileNotFoundError, PermissionError):
        return False  # ended since it was listed; or has rights that root here has not, so not started from here


def _proportional(process: Path) -> int:
    try:
        lines = (process / "smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0  # ended since it was listed
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith("Pss:"))


def compared(title: str, seconds: Mapping[str, Sequence[float]]) -> tuple[str, str, str, str]:
    """A row: both engines' spreads, and the ratio of their medians, ours to dockerd's."""
    middles = {name: statistics.median(taken) for name, taken in seconds.items()}
    return title, spread(seconds["gitops"]), spread(seconds["dockerd"]), _ratio(middles)


def of_unit(title: str, found: Mapping[str, Sequence[float]], unit: str) -> tuple[str, str, str, str]:
    """The same of figures in another unit."""
    middles = {name: statistics.median(taken) for name, taken in found.items()}
    ours, peer = (
        f"{middles[name]:.0f} {unit} [{min(found[name]):.0f}-{max(found[name]):.0f}]" for name in ("gitops", "dockerd")
    )
    return title, ours, peer, _ratio(middles)


def sizes(title: str, found: Mapping[str, int]) -> tuple[str, str, str, str]:
    """The same of bytes."""
    return title, f"{found['gitops'] / 2**20:.0f} MiB", f"{found['dockerd'] / 2**20:.0f} MiB", _ratio(found)


def _ratio(found: Mapping[str, float]) -> str:
    return f"{found['gitops'] / found['dockerd']:.2f}"
