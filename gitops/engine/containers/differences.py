"""What a container changed of its image's files: for `docker diff` and `docker commit`. All calls block.

Read from the upper directory of its overlay: an entry there is new or changed, a character device 0:0 stands for a
deletion. What the runtime makes to mount on is none of the container's doing, and left out.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from gitops.engine.images.unpack import lowerview
from gitops.objects.container import FileChange

MODIFIED, ADDED, DELETED = 0, 1, 2
PLACES = ("/dev", "/proc", "/sys", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/sbin/docker-init")
"""Where the runtime mounts something in every container."""


def changes(upper: Path, layers: Sequence[Path], mounted: Collection[str]) -> list[FileChange]:
    """The changed paths, sorted; `layers` are the image's, the top one first, `mounted` what is mounted in it."""
    if not upper.is_dir():
        return []
    hidden = {os.fsencode(path).strip(b"/") for path in (*PLACES, *mounted)}
    found: dict[bytes, int] = {}
    with lowerview.LowerView.open([upper]) as top, lowerview.LowerView.open(layers) as lower:
        for path, kind in _walk(top.roots[0], b"", lower, hidden):
            found[path] = kind
            # A change in a directory is shown as a change of the directory, as Docker shows it.
            parent = os.path.dirname(path)
            while parent and parent not in found:
                found[parent] = MODIFIED
                parent = os.path.dirname(parent)
    return [FileChange(os.fsdecode(b"/" + path), kind) for path, kind in sorted(found.items())]


def _walk(
    root: int, folder: bytes, lower: lowerview.LowerView, hidden: Collection[bytes]
) -> Iterator[tuple[bytes, int]]:
    """Changes below a directory, before those of its parents: explicit, since trees may be of any depth."""
    todo = [folder]
    while todo:
        folder = todo.pop()
        try:
            descriptor = lowerview.open_directory(folder, root)
        except (FileNotFoundError, NotADirectoryError):
            continue  # of a container that runs: gone, or something else, meanwhile
        try:
            names = [os.fsencode(name) for name in os.listdir(descriptor)]
            is_opaque = bool(folder) and lowerview.is_opaque(b"", descriptor)
        finally:
            os.close(descriptor)
        if is_opaque:
            yield from _gone(folder, set(names), lower)
            lower.hide(folder)
        for name in names:
            path = folder + b"/" + name if folder else name
            if path in hidden:
                continue
            status = lowerview.lstat(path, root)
            if status is None:
                continue  # of a container that runs: gone meanwhile
            before = lower.lookup(path)
            if lowerview.is_whiteout(status):
                if before is not None:
                    yield path, DELETED
                continue
            is_folder = stat.S_ISDIR(status.st_mode)
            if before is None:
                if not (is_folder and _leads_only_to(path, hidden)):
                    yield path, ADDED
            elif not (is_folder and before.is_directory) or not _same_folder(status, before.status):
                yield path, MODIFIED
            if is_folder:
                todo.append(path)


def _gone(folder: bytes, kept: Collection[bytes], lower: lowerview.LowerView) -> Iterator[tuple[bytes, int]]:
    """What a directory that was made anew hides of the one before."""
    seen = set(kept)
    for descriptor in lower.merging(folder):
        opened = lowerview.open_directory(folder, descriptor)
        try:
            names = [os.fsencode(name) for name in os.listdir(opened)]
        finally:
            os.close(opened)
        for name in names:
            path = folder + b"/" + name
            if name not in seen and lower.lookup(path) is not None:
                yield path, DELETED
            seen.add(name)


def _leads_only_to(path: bytes, hidden: Collection[bytes]) -> bool:
    """Whether a new directory lies on the way to a place that is mounted on, and so may be the runtime's."""
    return any(place.startswith(path + b"/") for place in hidden)


def _same_folder(now: os.stat_result, before: os.stat_result) -> bool:
    # Its time changes with what is made in it; that is told by what was made.
    return (now.st_mode, now.st_uid, now.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
