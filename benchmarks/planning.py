"""One reconciler over one engine, as `watch` has it: what each pass up to the plan takes.

`python -m benchmarks.planning HOST PATH PASSES` is run as a child, whose memory is measured with it. First it declares
all that the manifests of PATH ask for, if the engine has nothing. The line that it prints is JSON.
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
from gitops.objects.network import NetworkCreate
from gitops.objects.service import ServiceSpec
from gitops.reconciler import source
from gitops.reconciler.reconcile import Options, Reconciler

OPTIONS = Options(manifests.LoadOptions(secret_key=b"benchmark"))
_AT_ONCE = 16


async def declare(host: str, path: Path) -> float:
    """Make everything on the engine, without waiting for anything to run; the seconds that it took."""
    desired = manifests.load(path, OPTIONS.load)
    slots = asyncio.Semaphore(_AT_ONCE)
    async with clients.connect(host) as client:

        async def create(spec: ServiceSpec) -> None:
            async with slots:
                await client.create_service(spec)

        if await client.services():
            return 0.0
        begin = time.perf_counter()
        for network in desired.of("Network"):
            assert isinstance(network.spec, NetworkCreate)
            await client.create_network(network.spec)
        await asyncio.gather(*(create(item.spec) for item in desired.objects if isinstance(item.spec, ServiceSpec)))
        return time.perf_counter() - begin


async def passes(host: str, path: Path, count: int) -> dict[str, list[tuple[float, float]]]:
    """The first pass, `count` ones with nothing changed, and `count` with one changed file each: seconds of wall and of
    this process's CPU time."""
    found: dict[str, list[tuple[float, float]]] = {"first": [], "unchanged": [], "changed": []}
    async with clients.connect(host) as client:
        client.keep_listings()
        reconciler = Reconciler(client, OPTIONS)

        async def once(kind: str, changes: int) -> None:
            begin, cpu = time.perf_counter(), time.process_time()
            prepared = await reconciler.prepare(source.of_path(path))
            found[kind].append((time.perf_counter() - begin, time.process_time() - cpu))
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


async def measured(host: str, path: Path, count: int) -> dict[str, object]:
    """All of it."""
    declared_s = await declare(host, path)
    return {**await passes(host, path, count), "declared_s": declared_s}


def main() -> None:
    """Measure, and print."""
    host, path, count = sys.argv[1:]
    found = asyncio.run(measured(host, Path(path), int(count)))
    found["peak_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps(found))


if __name__ == "__main__":
    main()
