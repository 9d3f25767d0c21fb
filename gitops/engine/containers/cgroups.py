"""Control groups of containers, on version 1, version 2 and the mixture: where they are, what they say, their end.

The OCI runtime makes a container's groups and sets their limits; this module prepares the host for it, reads, freezes
and removes. A container's group is `/<parent>/<id>` in every hierarchy.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from gitops import errors
from gitops.engine import mountinfo
from gitops.engine.containers import syscalls

ROOT = Path("/sys/fs/cgroup")
_REMOVE_ATTEMPTS = 40
_REMOVE_PAUSE_S = 0.005
_FREEZE_TIMEOUT_S = 5.0


@dataclass(slots=True)
class HostReport:
    """What was done to the host, and what a person should know; plain sentences."""

    actions: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """One mounted cgroup hierarchy; `controllers` is empty for version 2 and for named ones."""

    path: Path
    is_v2: bool
    controllers: frozenset[str] = frozenset()


def hierarchies(listing: Path = mountinfo.MOUNTINFO) -> list[Hierarchy]:
    """Every hierarchy that is mounted below /sys/fs/cgroup."""
    found: dict[Path, Hierarchy] = {}
    for line in mountinfo.lines(listing):
        left, _, right = line.partition(" - ")
        kind, _, options = right.split(" ", 2)
        path = Path(mountinfo.unescape(left.split()[4]))
        if kind in ("cgroup", "cgroup2") and (path == ROOT or ROOT in path.parents):
            known = frozenset(options.split(",")) if kind == "cgroup" else frozenset()
            found[path] = Hierarchy(path, kind == "cgroup2", known)
    return list(found.values())


def prepare_host() -> HostReport:
    """Bring the host's cgroups into a state that the runtime accepts, and say what was done; idempotent.

    crun refuses a mixture of versions where a controller is left to version 2 ("hybrid mode"): such a controller is
    given a version 1 hierarchy, as the others have. `favordynmods` saves a grace period of the kernel at each start.

    Raises:
        errors.RuntimeFailure: there are no cgroups here.
    """
    report = HostReport()
    mounted = hierarchies()
    unified = next((one for one in mounted if one.is_v2), None)
    if not mounted:
        raise errors.RuntimeFailure(
            f"no cgroup hierarchy is mounted below {ROOT}, so no container can be started; `ip netns exec` hides them: "
            "enter a network namespace with `nsenter --net=/run/netns/NAME` instead"
        )
    if unified is not None and unified.path != ROOT:
        _mount_missing(unified.path, report)
    if unified is not None:
        _favour_moves(unified.path, report)
    return report


def _mount_missing(unified: Path, report: HostReport) -> None:
    for name in (unified / "cgroup.controllers").read_text().split():
        target = ROOT / name
        try:
            target.mkdir(exist_ok=True)
            syscalls.mount(
                "cgroup", target, "cgroup", syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC, name
            )
        except OSError as error:
            # Another engine that starts at the same moment may have been faster.
            if not mountinfo.is_mount_point(target):
                report.warnings.append(
                    f"The cgroup controller {name} belongs to no version 1 hierarchy, and {target} can't be mounted "
                    f"({error.strerror}): the OCI runtime may refuse to start containers"
                )
        else:
            report.actions.append(f"Mounted the cgroup controller {name} at {target}, where the OCI runtime wants it")


def _favour_moves(unified: Path, report: HostReport) -> None:
    options = {
        line.split()[1]: line.split()[3] for line in mountinfo.lines(Path("/proc/self/mounts")) if "cgroup2" in line
    }
    current = options.get(str(unified), "").split(",")
    if "favordynmods" in current or "ro" in current:
        return
    flags = syscalls.MS_REMOUNT
    for name, flag in (("nosuid", syscalls.MS_NOSUID), ("nodev", syscalls.MS_NODEV), ("noexec", syscalls.MS_NOEXEC)):
        flags |= flag if name in current else 0
    # What a remount doesn't say is switched off.
    keep = [name for name in current if name == "nsdelegate" or name.startswith(("memory_", "pids_"))]
    try:
        syscalls.mount("cgroup2", unified, "cgroup2", flags, ",".join([*keep, "favordynmods"]))
    except OSError:
        return  # an older kernel: starts take some milliseconds longer
    report.actions.append(f"Remounted {unified} with favordynmods, which makes starts faster")


class Groups:
    """The groups of one engine's containers."""

    def __init__(self, parent: str) -> None:
        self.parent = parent.strip("/")
        self.hierarchies = hierarchies()
        self.is_v2 = any(one.is_v2 and one.path == ROOT for one in self.hierarchies)

    def path(self, container: str) -> str:
        """The runtime's `cgroupsPath`."""
        return f"/{self.parent}/{container}"

    def folders(self, container: str) -> Iterator[Path]:
        """The group's directory in each hierarchy, where there is one."""
        for hierarchy in self.hierarchies:
            folder = hierarchy.path / self.parent / container
            if folder.is_dir():
                yield folder

    def leftovers(self) -> set[str]:
        """The names of all groups below the parent."""
        names: set[str] = set()
        for hierarchy in self.hierarchies:
            parent = hierarchy.path / self.parent
            if parent.is_dir():
                names.update(entry.name for entry in os.scandir(parent) if entry.is_dir(follow_symlinks=False))
        return names

    def folder(self, container: str, controller: str) -> Path:
        """The directory that holds the files of `controller`."""
        if not self.is_v2:
            for hierarchy in self.hierarchies:
                if controller in hierarchy.controllers:
                    return hierarchy.path / self.parent / container
        return ROOT / self.parent / container

    def processes(self, container: str) -> list[int]:
        """Every process in the group and below it."""
        found: set[int] = set()
        for folder in self.folders(container):
            for base, _, _ in os.walk(folder):
                try:
                    found.update(int(pid) for pid in Path(base, "cgroup.procs").read_text().split())
                except OSError:
                    continue
        return sorted(found)

    def oom_kills(self, container: str) -> int:
        """How many processes the kernel killed for want of memory; 0 where the group is gone."""
        name = "memory.events" if self.is_v2 else "memory.oom_control"
        try:
            lines = (self.folder(container, "memory") / name).read_text().splitlines()
        except OSError:
            return 0
        return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)

    def freeze(self, container: str, *, frozen: bool) -> None:
        """Stop or continue all processes; blocks until the kernel says that it is so (at most 5 s), else OSError."""
        self._write_freezer(container, frozen=frozen)
        deadline = time.monotonic() + _FREEZE_TIMEOUT_S
        while self.is_frozen(container) != frozen:
            if time.monotonic() > deadline:
                if frozen:
                    # Else it would stand still in the end, and be said to run.
                    self._write_freezer(container, frozen=False)
                raise OSError(errno.ETIMEDOUT, "the kernel didn't freeze it in time", container)
            time.sleep(0.001)

    def _write_freezer(self, container: str, *, frozen: bool) -> None:
        if self.is_v2:
            (ROOT / self.parent / container / "cgroup.freeze").write_text("1" if frozen else "0")
        else:
            (self.folder(container, "freezer") / "freezer.state").write_text("FROZEN" if frozen else "THAWED")

    def is_frozen(self, container: str) -> bool:
        """Whether all its processes are stopped by the freezer."""
        try:
            if self.is_v2:
                return "frozen 1" in (ROOT / self.parent / container / "cgroup.events").read_text().splitlines()
            return (self.folder(container, "freezer") / "freezer.state").read_text().strip() == "FROZEN"
        except OSError:
            return False

    def remove(self, container: str) -> bool:
        """Remove the groups, inner ones first; blocks some milliseconds. False when a process is still in one."""
        # All are tried: one that is in use must not keep the others.
        removed = [_remove_tree(folder) for folder in list(self.folders(container))]
        return all(removed)

    def remove_parent(self) -> None:
        """Remove the parent's groups where nothing is in them any more."""
        for hierarchy in self.hierarchies:
            parent = hierarchy.path / self.parent
            if parent.is_dir():
                with suppress(OSError):
                    parent.rmdir()


def _remove_tree(top: Path) -> bool:
    for base, _, _ in os.walk(top, topdown=False):
        for _ in range(_REMOVE_ATTEMPTS):
            try:
                os.rmdir(base)
            except FileNotFoundError:
                break
            except OSError:
                # A process leaves its groups some time after its exit was seen.
                time.sleep(_REMOVE_PAUSE_S)
            else:
                break
        else:
            return False
    return True
