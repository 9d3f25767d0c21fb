"""What is read of the host: hierarchies, mounts, pids; and files inside a hostile tree."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gitops.engine import diskusage, mountinfo
from gitops.engine.containers import adoption, cgroups, copyup, processes, rootfs, syscalls

HYBRID = """\
24 22 0:20 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
25 24 0:21 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
26 24 0:22 / /sys/fs/cgroup/systemd rw shared:5 - cgroup cgroup rw,name=systemd
27 24 0:23 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
28 24 0:24 / /elsewhere/memory rw - cgroup cgroup rw,memory
"""
UNIFIED = "24 22 0:20 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"


def test_hierarchies_are_found_in_the_mixture(tmp_path: Path) -> None:
    (tmp_path / "m").write_text(HYBRID)
    found = {one.path.name: one for one in cgroups.hierarchies(tmp_path / "m")}
    assert set(found) == {"cpu,cpuacct", "systemd", "unified"}
    assert {"cpu", "cpuacct"} <= found["cpu,cpuacct"].controllers
    assert found["unified"].is_v2 and not found["systemd"].is_v2


def test_a_unified_hierarchy_is_the_root_itself(tmp_path: Path) -> None:
    (tmp_path / "m").write_text(UNIFIED)
    assert cgroups.hierarchies(tmp_path / "m") == [cgroups.Hierarchy(Path("/sys/fs/cgroup"), True)]


@pytest.mark.parametrize("is_v2", [True, False])
def test_what_can_t_be_frozen_in_time_runs_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_v2: bool) -> None:
    monkeypatch.setattr(cgroups, "ROOT", tmp_path)
    monkeypatch.setattr(cgroups, "_FREEZE_TIMEOUT_S", 0.0)
    groups = cgroups.Groups("parent")
    groups.is_v2 = is_v2
    groups.hierarchies = [cgroups.Hierarchy(tmp_path, is_v2, frozenset({"freezer"}))]
    folder = tmp_path / "parent" / "c"
    folder.mkdir(parents=True)
    monkeypatch.setattr(groups, "is_frozen", lambda container: False)
    with pytest.raises(TimeoutError, match="didn't freeze it in time"):
        groups.freeze("c", frozen=True)
    place = folder / ("cgroup.freeze" if is_v2 else "freezer.state")
    assert place.read_text() == ("0" if is_v2 else "THAWED")


def test_groups_in_use_don_t_keep_the_others(tmp_path: Path) -> None:
    groups = cgroups.Groups("parent")
    groups.hierarchies = [cgroups.Hierarchy(tmp_path / name, False) for name in ("a", "b")]
    for name in ("a", "b"):
        (tmp_path / name / "parent" / "c").mkdir(parents=True)
    (tmp_path / "a" / "parent" / "c" / "file").touch()
    assert groups.remove("c") is False
    assert not (tmp_path / "b" / "parent" / "c").exists()


def test_mounts_below_a_directory_go_inner_ones_first(tmp_path: Path) -> None:
    top = tmp_path.resolve()
    lines = [
        f"{n} 1 0:1 / {path} rw - tmpfs x rw" for n, path in enumerate([top, f"{top}/a", f"{top}/a/b\\040c", f"{top}x"])
    ]
    (tmp_path / "m").write_text("\n".join(lines))
    assert mountinfo.below(top, tmp_path / "m") == [top / "a" / "b c", top / "a", top]


def test_a_mount_of_any_name_on_the_host_is_read_past(tmp_path: Path) -> None:
    top = tmp_path.resolve()
    other = b"1 1 0:1 / /mnt/caf\xe9\x0b\xc2\x85 rw - tmpfs x rw\n"
    (tmp_path / "m").write_bytes(other + f"2 1 0:1 / {top}/a\\043b rw - tmpfs x rw\n".encode())
    assert mountinfo.below(top, tmp_path / "m") == [top / "a#b"]
    assert cgroups.hierarchies(tmp_path / "m") == []


def make_deep(top: Path, depth: int) -> None:
    """Directories in each other, deeper than any path can say."""
    top.mkdir()
    descriptor = os.open(top, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d" * 60, dir_fd=descriptor)
        os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=descriptor))
        inner = os.open("d" * 60, os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = inner
    os.close(descriptor)


def test_a_tree_is_removed_however_deep_a_container_made_it(tmp_path: Path) -> None:
    make_deep(tmp_path / "deep", 1500)
    (tmp_path / "kept").mkdir()
    (tmp_path / "deep" / "out").symlink_to(tmp_path / "kept")
    assert diskusage.of(tmp_path / "deep") < 65536
    mountinfo.remove_tree(tmp_path / "deep")
    assert os.listdir(tmp_path) == ["kept"]
    mountinfo.remove_tree(tmp_path / "deep")


def test_a_link_in_the_tree_leads_nowhere_outside(tmp_path: Path) -> None:
    (tmp_path / "outside").write_text("secret")
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    (root / "etc" / "up").symlink_to("../../outside")
    (root / "etc" / "absolute").symlink_to(tmp_path / "outside")
    (root / "etc" / "proc").symlink_to("/proc/self/root")
    (root / "outside").write_text("inner")
    assert rootfs.read_file(root, "/etc/up", 100) == b"inner"
    assert rootfs.read_file(root, "/../../outside", 100) == b"inner"
    assert rootfs.read_file(root, "/etc/absolute", 100) is None
    assert rootfs.read_file(root, "/etc/proc", 100) is None


def test_what_is_no_file_isn_t_even_opened(tmp_path: Path) -> None:
    # A pipe stands for a device: to open a watchdog would start it.
    os.mkfifo(tmp_path / "passwd")
    (tmp_path / "group").write_text("x")
    watch = syscalls.Inotify()
    try:
        for name in ("passwd", "group"):
            watch.watch(tmp_path / name, 0x20)  # IN_OPEN
        assert rootfs.read_file(tmp_path, "/passwd", 100) is None
        assert list(watch.read()) == []
        assert rootfs.read_file(tmp_path, "/group", 100) == b"x"
        assert len(list(watch.read())) == 1
    finally:
        watch.close()


def test_only_regular_files_are_read_and_only_so_much(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "big").write_bytes(b"x" * 100)
    assert rootfs.read_file(tmp_path, "pipe", 10) is None
    assert rootfs.read_file(tmp_path, "loop", 10) is None
    assert rootfs.read_file(tmp_path, ".", 10) is None
    assert rootfs.read_file(tmp_path, "big", 10) == b"x" * 10


def test_a_new_volume_gets_an_exact_copy(tmp_path: Path) -> None:
    root, volume = tmp_path / "root", tmp_path / "volume"
    source = root / "data" / "sub"
    source.mkdir(parents=True)
    volume.mkdir()
    (source / "file").write_text("x")
    (source / "file").chmod(0o640)
    os.link(source / "file", source / "twin")
    (root / "data" / "link").symlink_to("/etc/passwd")
    os.mkfifo(root / "data" / "pipe")
    (root / "data").chmod(0o1770)
    os.utime(source, ns=(1, 2))
    assert copyup.fill_volume(root, "/data", volume)
    assert (volume / "sub" / "file").stat().st_mode & 0o7777 == 0o640
    assert (volume / "sub" / "file").stat().st_ino == (volume / "sub" / "twin").stat().st_ino
    assert os.readlink(volume / "link") == "/etc/passwd"
    assert (volume / "pipe").is_fifo()
    assert volume.stat().st_mode & 0o7777 == 0o1770
    assert (volume / "sub").stat().st_mtime_ns == 2


def test_a_volume_with_data_is_left_alone_and_a_missing_source_is_none(tmp_path: Path) -> None:
    root, volume = tmp_path / "root", tmp_path / "volume"
    (root / "data").mkdir(parents=True)
    (root / "data" / "new").write_text("x")
    (root / "out").symlink_to(tmp_path)
    volume.mkdir()
    assert not copyup.fill_volume(root, "/missing", volume)
    assert not copyup.fill_volume(root, "/out", volume)
    (volume / "own").write_text("mine")
    assert not copyup.fill_volume(root, "/data", volume)
    assert os.listdir(volume) == ["own"]


def test_a_process_is_recognised_by_its_start_and_group() -> None:
    pid = os.getpid()
    ticks = processes.start_ticks(pid)
    assert ticks is not None and processes.start_ticks(2**22 + 1) is None
    descriptor = processes.open_process(pid, ticks)
    assert descriptor is not None
    os.close(descriptor)
    assert processes.open_process(pid, ticks + 1) is None
    assert not adoption.is_in_group(pid, "/gitops-no-such-parent/x")


def test_a_process_is_recognised_whatever_it_calls_itself() -> None:
    program = r"import ctypes; ctypes.CDLL(None).prctl(15, b'\xff) Z \xfe(', 0, 0, 0); print(flush=True); input()"
    child = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with child:
        assert child.stdout is not None and child.stdout.readline() == b"\n"
        ticks = processes.start_ticks(child.pid)
        assert ticks is not None and ticks > 0
        child.kill()


@pytest.mark.parametrize(("text", "expected"), [("a\\040b", "a b"), ("a\\134b", "a\\b"), ("plain", "plain")])
def test_paths_of_proc_are_read_as_they_are_meant(text: str, expected: str) -> None:
    assert mountinfo.unescape(text) == expected


async def test_a_program_that_takes_too_long_is_killed() -> None:
    with pytest.raises(Exception, match=r"took longer than 0\.05 s and was killed"):
        await processes.run(["sleep", "1000"], timeout_s=0.05)
    done = await processes.run(["sh", "-c", "echo said; exit 3"], timeout_s=10)
    assert done == processes.Done(3, "said\n")


def test_a_path_s_mount_and_its_ties_are_found(tmp_path: Path) -> None:
    listing = tmp_path / "m"
    listing.write_text(
        "1 0 0:1 / / rw,relatime - ext4 /dev/a rw\n"
        "2 1 0:2 / /srv rw shared:7 - ext4 /dev/b rw\n"
        "3 1 0:3 / /srv/in\\040side rw shared:8 master:7 - ext4 /dev/c rw\n"
    )
    assert mountinfo.propagation(Path("/etc"), listing) == (Path("/"), frozenset())
    assert mountinfo.propagation(Path("/srv/x"), listing) == (Path("/srv"), {"shared"})
    assert mountinfo.propagation(Path("/srv/in side"), listing) == (Path("/srv/in side"), {"shared", "master"})
