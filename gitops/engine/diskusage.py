"""How much of a disk a directory takes, as `du` counts."""

from __future__ import annotations

import os
from pathlib import Path


def of(path: Path) -> int:
    """Bytes of all that is in a directory, hard links once; what can't be read, or goes meanwhile, counts as nothing.

    Blocks: a millisecond for some hundred files.
    """
    total = 0
    seen: set[tuple[int, int]] = set()
    todo = [str(path)]
    while todo:
        try:
            with os.scandir(todo.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        todo.append(entry.path)
                        continue
                    status = entry.stat(follow_symlinks=False)
                    if status.st_nlink > 1:
                        if (status.st_dev, status.st_ino) in seen:
                            continue
                        seen.add((status.st_dev, status.st_ino))
                    total += status.st_blocks * 512
        except OSError:
            continue  # gone meanwhile, or deeper than a path can say
    return total
