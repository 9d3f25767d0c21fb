"""A part of a volume as a mount of its own, for `volume-subpath`.

What lies in a volume is some container's making: the path is looked up by the kernel with the volume as root, and what
was found is bound by its descriptor, so that nobody can put another thing in its place meanwhile. All calls block.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from gitops import errors
from gitops.engine.containers import rootfs, syscalls


def mount(volume: Path, subpath: str, target: Path) -> Path:
    """Bind `subpath` of `volume` at `target`, which is made; returns `target`.

    Raises:
        errors.Invalid: there is no such path in the volume. errors.RuntimeFailure: the kernel refused.
    """
    with rootfs.opened(volume) as top:
        try:
            found = syscalls.open_in_root(top, subpath, os.O_PATH)
        except OSError as error:
            word = (error.strerror or str(error)).lower()
            raise errors.Invalid(f"cannot access path {volume / subpath}: {word}") from error
    try:
        if stat.S_ISDIR(os.fstat(found).st_mode):
            target.mkdir(parents=True, exist_ok=True)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.touch()
        syscalls.mount(f"/proc/self/fd/{found}", target, "", syscalls.MS_BIND)
    except OSError as error:
        raise errors.RuntimeFailure(f"can't mount {subpath!r} of the volume at {volume}: {error.strerror}") from error
    finally:
        os.close(found)
    return target
