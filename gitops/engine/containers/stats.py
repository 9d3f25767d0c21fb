"""What a container uses of the machine by the kernel's accounts: read from its cgroups and /proc, shown as Docker does.

`read` blocks for a fraction of a millisecond; `show` is pure.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gitops import errors
from gitops.engine.containers.cgroups import Groups
from gitops.engine.containers.container import Container
from gitops.engine.containers.launcher import Launcher
from gitops.objects import base

_TICK_NS = base.SECOND // os.sysconf("SC_CLK_TCK")
_NET_FIELDS = ("rx_bytes", "rx_packets", "rx_errors", "rx_dropped")
_SENT_FIELDS = ("tx_bytes", "tx_packets", "tx_errors", "tx_dropped")


@dataclass(frozen=True, slots=True)
class Sample:
    """The accounts at one moment; all zero where nothing runs."""

    time_ns: int = 0
    cpu: Mapping[str, Any] = field(default_factory=dict)
    memory: Mapping[str, Any] = field(default_factory=dict)
    pids: Mapping[str, int] = field(default_factory=dict)
    block: Mapping[str, Any] = field(default_factory=dict)
    networks: Mapping[str, Mapping[str, int]] | None = None


class Meter:
    """Takes samples of one engine's containers, which are named as in `ContainerService`."""

    def __init__(self, launcher: Launcher, find: Callable[[str], Container]) -> None:
        self._launcher = launcher
        self._find = find

    async def sample(self, name: str) -> Sample:
        """What a container uses at this moment: nothing, where it doesn't run."""
        container = self._find(name)
        now = container.record
        if not now.is_alive or now.run is None:
            return Sample()
        return await self._launcher.in_thread(read, self._launcher.groups, container.id, now.run.pid)

    async def processes(self, name: str) -> list[int]:
        """The ids of all its processes, as the host has them.

        Raises:
            errors.Conflict: it doesn't run.
        """
        container = self._find(name)
        if not container.record.is_alive:
            raise errors.Conflict(f"container {container.id} is not running")
        return await self._launcher.in_thread(self._launcher.groups.processes, container.id)


def read(groups: Groups, container: str, pid: int) -> Sample:
    """The accounts of a container whose first process is `pid`; what can't be read is left out."""

    def file(controller: str, name: str) -> str:
        return _text(groups.folder(container, controller) / name)

    limit = _number(file("pids", "pids.max"))
    return Sample(
        time_ns=time.time_ns(),
        cpu=(_cpu_v2 if groups.is_v2 else _cpu_v1)(file) | {"system_cpu_usage": _system_ns(), "online_cpus": _cpus()},
        memory=(_memory_v2 if groups.is_v2 else _memory_v1)(file),
        pids={"current": _number(file("pids", "pids.current"))} | ({"limit": limit} if limit else {}),
        block=(_block_v2 if groups.is_v2 else _block_v1)(file),
        networks=_networks(pid),
    )


_File = Callable[[str, str], str]
"""The text of a controller's file."""


def _cpu_v1(file: _File) -> dict[str, Any]:
    used, throttled = _table(file("cpuacct", "cpuacct.stat")), _table(file("cpu", "cpu.stat"))
    return {
        "cpu_usage": {
            "total_usage": _number(file("cpuacct", "cpuacct.usage")),
            "percpu_usage": [int(word) for word in file("cpuacct", "cpuacct.usage_percpu").split()],
            "usage_in_kernelmode": used.get("system", 0) * _TICK_NS,
            "usage_in_usermode": used.get("user", 0) * _TICK_NS,
        },
        "throttling_data": _throttling(throttled, throttled.get("throttled_time", 0)),
    }


def _cpu_v2(file: _File) -> dict[str, Any]:
    used = _table(file("cpu", "cpu.stat"))
    return {
        "cpu_usage": {
            "total_usage": used.get("usage_usec", 0) * 1000,
            "usage_in_kernelmode": used.get("system_usec", 0) * 1000,
            "usage_in_usermode": used.get("user_usec", 0) * 1000,
        },
        "throttling_data": _throttling(used, used.get("throttled_usec", 0) * 1000),
    }


def _throttling(table: Mapping[str, int], time_ns: int) -> dict[str, int]:
    return {
        "periods": table.get("nr_periods", 0),
        "throttled_periods": table.get("nr_throttled", 0),
        "throttled_time": time_ns,
    }


def _memory_v1(file: _File) -> dict[str, Any]:
    return {
        "usage": _number(file("memory", "memory.usage_in_bytes")),
        "max_usage": _number(file("memory", "memory.max_usage_in_bytes")),
        "failcnt": _number(file("memory", "memory.failcnt")),
        "stats": _table(file("memory", "memory.stat")),
        "limit": _limit(file("memory", "memory.limit_in_bytes")),
    }


def _memory_v2(file: _File) -> dict[str, Any]:
    return {
        "usage": _number(file("memory", "memory.current")),
        "stats": _table(file("memory", "memory.stat")),
        "limit": _limit(file("memory", "memory.max")),
    }


def _limit(text: str) -> int:
    """No limit shows as the machine's memory."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min(_number(text) or machine, machine)


def _block_v1(file: _File) -> dict[str, Any]:
    return {
        "io_service_bytes_recursive": list(_entries_v1(file("blkio", "blkio.throttle.io_service_bytes_recursive"))),
        "io_serviced_recursive": list(_entries_v1(file("blkio", "blkio.throttle.io_serviced_recursive"))),
    }


def _entries_v1(text: str) -> Iterator[dict[str, Any]]:
    for words in (line.split() for line in text.splitlines()):
        if len(words) == 3:
            yield _entry(words[0], words[1].lower(), words[2])


def _block_v2(file: _File) -> dict[str, Any]:
    bytes_, counts = [], []
    for device, *words in (line.split() for line in file("io", "io.stat").splitlines()):
        values = dict(word.split("=", 1) for word in words)
        bytes_ += [
            _entry(device, "read", values.get("rbytes", "0")),
            _entry(device, "write", values.get("wbytes", "0")),
        ]
        counts += [_entry(device, "read", values.get("rios", "0")), _entry(device, "write", values.get("wios", "0"))]
    return {"io_service_bytes_recursive": bytes_, "io_serviced_recursive": counts}


def _entry(device: str, operation: str, value: str) -> dict[str, Any]:
    major, _, minor = device.partition(":")
    return {"major": int(major), "minor": int(minor or 0), "op": operation, "value": int(value)}


def _networks(pid: int) -> dict[str, dict[str, int]]:
    """Interfaces as the process sees them, without its loopback."""
    found = {}
    for line in _text(Path(f"/proc/{pid}/net/dev")).splitlines()[2:]:
        name, _, rest = line.partition(":")
        numbers = [int(word) for word in rest.split()]
        if name.strip() != "lo" and len(numbers) >= 12:
            found[name.strip()] = dict(zip((*_NET_FIELDS, *_SENT_FIELDS), [*numbers[:4], *numbers[8:12]], strict=True))
    return found


def _system_ns() -> int:
    """CPU time of the machine, idle time included."""
    words = _text(Path("/proc/stat")).split(maxsplit=8)[1:8]
    return sum(int(word) for word in words) * _TICK_NS


def _cpus() -> int:
    return os.sysconf("SC_NPROCESSORS_ONLN")


def _table(text: str) -> dict[str, int]:
    pairs = (line.split() for line in text.splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}


def _number(text: str) -> int:
    """0 for what isn't there, and for "max"."""
    return int(text) if text.strip().isdigit() else 0


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def show(container: str, name: str, now: Sample, before: Sample) -> dict[str, Any]:
    """As the API shows it; CPU percentages come of the difference to the sample `before`."""
    empty_cpu = {"cpu_usage": {"total_usage": 0, "usage_in_kernelmode": 0, "usage_in_usermode": 0}}
    empty_cpu |= {"throttling_data": _throttling({}, 0)}
    shown = {
        "id": container,
        "name": name,
        "read": base.format_time(now.time_ns),
        "preread": base.format_time(before.time_ns),
        "pids_stats": dict(now.pids),
        "blkio_stats": dict(now.block),
        "num_procs": 0,
        "storage_stats": {},
        "cpu_stats": dict(now.cpu) or empty_cpu,
        "precpu_stats": dict(before.cpu) or empty_cpu,
        "memory_stats": dict(now.memory),
    }
    return shown if now.networks is None else {**shown, "networks": now.networks}
