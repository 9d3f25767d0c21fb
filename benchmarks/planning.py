"""One reconciler over one engine, as `watch` has it: what each pass up to the plan takes. Run as a child: its memory is
what is measured too.

`python -m benchmarks.planning HOST PATH PASSES`; the line that it prints is JSON.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import time
from pathlib import Path

from gitops import client as clients
from gitops import manifests
from gitops.reconciler import source
from gitops.reconciler.reconcile import Options, Reconciler


async def passes(host: str, path: Path, count: int) -> dict[str, list[float]]:
    """Seconds of the first pass, of `count` ones with nothing changed, and of `count` with one changed file each."""
    found: dict[str, list[float]] = {"first": [], "unchanged": [], "changed": []}
    async with clients.connect(host) as client:
        client.keep_listings()
        reconciler = Reconciler(client, Options(manifests.LoadOptions(secret_key=b"benchmark")))

        async def once(kind: str, changes: int) -> None:
            begin = time.perf_counter()
            prepared = await reconciler.prepare(source.of_path(path))
            found[kind].append(time.perf_counter() - begin)
            if len(prepared.plan.changed) != changes:
                raise RuntimeError(f"{len(prepared.plan.changed)} changes planned, not {changes}")

        await once("first", 0)
        for _ in range(count):
            await once("unchanged", 0)
        file = sorted(path.glob("*.yaml"))[0]
        text = file.read_text()
        for number in range(count):
            # Another value each time, of one service of the file.
            file.write_text(text.replace("LOG_LEVEL: info", f"LOG_LEVEL: changed-{number}", 1))
            await once("changed", 1)
        file.write_text(text)
    return found


def main() -> None:
    """Measure, and print."""
    host, path, count = sys.argv[1:]
    found: dict[str, object] = dict(asyncio.run(passes(host, Path(path), int(count))))
    found["peak_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps(found))


if __name__ == "__main__":
    main()
