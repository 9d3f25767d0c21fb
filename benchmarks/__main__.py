"""`python -m benchmarks [NAME …]`: all, or those that are named. Needs root; the peer is Debian's docker.io."""

from __future__ import annotations

import importlib
import sys

NAMES = ("manifests", "containers", "pulls", "ports")


def main() -> None:
    """Run what is asked for."""
    wanted = sys.argv[1:] or NAMES
    if unknown := [name for name in wanted if name not in NAMES]:
        sys.exit(f"error: no benchmark {unknown[0]!r}; there are: {', '.join(NAMES)}")
    for name in wanted:
        importlib.import_module(f"benchmarks.{name}").run()


if __name__ == "__main__":
    main()
