"""The kernel's accounts as the API shows them, on both versions of cgroups."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gitops.engine.containers import cgroups, stats

V1 = {
    "cpuacct/cpuacct.usage": "123456789\n",
    "cpuacct/cpuacct.usage_percpu": "100 200 \n",
    "cpuacct/cpuacct.stat": "user 10\nsystem 5\n",
    "cpu/cpu.stat": "nr_periods 7\nnr_throttled 3\nthrottled_time 99\n",
    "memory/memory.usage_in_bytes": "4096\n",
    "memory/memory.max_usage_in_bytes": "8192\n",
    "memory/memory.failcnt": "1\n",
    "memory/memory.stat": "cache 100\ntotal_inactive_file 50\n",
    "memory/memory.limit_in_bytes": "9223372036854771712\n",
    "pids/pids.current": "3\n",
    "pids/pids.max": "max\n",
    "blkio/blkio.throttle.io_service_bytes_recursive": "8:0 Read 10\n8:0 Write 20\n8:0 Total 30\nTotal 30\n",
    "blkio/blkio.throttle.io_serviced_recursive": "8:0 Read 1\n",
}
V2 = {
    "cpu.stat": "usage_usec 123456\nuser_usec 100\nsystem_usec 50\nnr_periods 7\nnr_throttled 3\nthrottled_usec 9\n",
    "memory.current": "4096\n",
    "memory.max": "1048576\n",
    "memory.stat": "file 100\ninactive_file 50\n",
    "pids.current": "3\n",
    "pids.max": "10\n",
    "io.stat": "8:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0 dios=0\n",
}


class Groups:
    """Files in a directory, laid out as one version has them."""

    def __init__(self, root: Path, files: dict[str, str], *, is_v2: bool) -> None:
        self.root, self.is_v2 = root, is_v2
        for name, text in files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)

    def folder(self, container: str, controller: str) -> Path:
        return self.root if self.is_v2 else self.root / controller


def sample(root: Path, files: dict[str, str], *, is_v2: bool) -> stats.Sample:
    groups: Any = Groups(root, files, is_v2=is_v2)
    return stats.read(groups, "c", 2**22 + 1)


def entries(sample: stats.Sample, name: str) -> list[tuple[str, int]]:
    return [(entry["op"], entry["value"]) for entry in sample.block[name]]


def test_version_1(tmp_path: Path) -> None:
    found = sample(tmp_path, V1, is_v2=False)
    assert found.cpu["cpu_usage"]["total_usage"] == 123456789
    assert found.cpu["cpu_usage"]["percpu_usage"] == [100, 200]
    assert found.cpu["throttling_data"] == {"periods": 7, "throttled_periods": 3, "throttled_time": 99}
    assert found.memory["usage"] == 4096
    assert found.memory["stats"]["total_inactive_file"] == 50
    assert 2**20 < found.memory["limit"] < 2**60, "no limit is the machine's memory"
    assert found.pids == {"current": 3}
    assert entries(found, "io_service_bytes_recursive") == [("read", 10), ("write", 20), ("total", 30)]


def test_version_2(tmp_path: Path) -> None:
    found = sample(tmp_path, V2, is_v2=True)
    assert found.cpu["cpu_usage"] == {
        "total_usage": 123456000,
        "usage_in_kernelmode": 50000,
        "usage_in_usermode": 100000,
    }
    assert found.cpu["throttling_data"]["throttled_time"] == 9000
    assert found.memory == {"usage": 4096, "stats": {"file": 100, "inactive_file": 50}, "limit": 1048576}
    assert found.pids == {"current": 3, "limit": 10}
    assert entries(found, "io_service_bytes_recursive") == [("read", 10), ("write", 20)]
    assert entries(found, "io_serviced_recursive") == [("read", 1), ("write", 2)]


@pytest.mark.parametrize("is_v2", [False, True])
def test_groups_that_have_gone_count_nothing(tmp_path: Path, is_v2: bool) -> None:
    found = sample(tmp_path, {}, is_v2=is_v2)
    assert found.cpu["cpu_usage"]["total_usage"] == 0
    assert found.memory["usage"] == 0 and found.pids == {"current": 0}
    assert found.networks == {}


def test_a_line_has_this_moment_and_the_one_before(tmp_path: Path) -> None:
    now = sample(tmp_path, V2, is_v2=True)
    shown = stats.show("c1", "/one", now, stats.Sample())
    assert (shown["id"], shown["name"]) == ("c1", "/one")
    assert shown["cpu_stats"]["cpu_usage"]["total_usage"] == 123456000
    assert shown["cpu_stats"]["system_cpu_usage"] > 0 and shown["cpu_stats"]["online_cpus"] >= 1
    assert shown["precpu_stats"]["cpu_usage"]["total_usage"] == 0
    assert shown["preread"] == "0001-01-01T00:00:00Z"
    assert "networks" not in stats.show("c1", "/one", stats.Sample(), now), "what doesn't run has none"


def test_the_real_groups_answer_for_a_container_that_is_not_there() -> None:
    assert stats.read(cgroups.Groups("no-such-parent"), "none", 1).memory["usage"] == 0
