"""After an apply nothing is left to do: for every example, and for every Compose file that loads.

Applied is through the real API of the built-in engine, call by call as an apply sends them; the node is drained, so
that no task starts: what is judged is that the engine gives back what it was told. What a file needs of the world is
stood in for: a registry has a digest for each image, files that are named hold a word, what is external is made first.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from gitops import client as clients
from gitops import errors, manifests
from gitops.manifests import DesiredSet, LoadOptions
from gitops.objects.image import DistributionInspect
from gitops.reconciler import deleting, images, source
from gitops.reconciler.plan import Plan
from gitops.reconciler.reconcile import Options, Prepared, Reconciler
from gitops.reconciler.sending import Job, Sender

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[3]
EXAMPLES = ROOT / "examples" / "manifests"
PROJECTS = ROOT / "tests" / "manifests" / "compose" / "projects"
ENVIRON = {"EVERY_KEY_TOKEN": "t", "EVERY_KEY_LEVEL": "l"}


def options(place: Path, name: str) -> LoadOptions:
    return LoadOptions(root=place, environ=ENVIRON, secret_key=b"k" * 32, profiles=("*",), project_name=name)


async def every_image(_: clients.EngineClient, reference: str, **__: Any) -> DistributionInspect:
    """What a registry answers that has every image."""
    return DistributionInspect({"digest": f"sha256:{hashlib.sha256(reference.encode()).hexdigest()}"}, [])


class Engine:
    """An engine that nothing runs on."""

    def __init__(self, client: clients.EngineClient) -> None:
        self.client = client

    async def drain(self) -> None:
        (node,) = await self.client.nodes()
        await self.client.update_node(node.id, node.version.index, replace(node.spec, availability="drain"))

    @contextlib.asynccontextmanager
    async def provided(self, desired: DesiredSet) -> AsyncIterator[None]:
        """With what the set expects to find."""
        makers: dict[str, Callable[[Any], Any]] = {
            "Network": self.client.create_network,
            "Volume": self.client.create_volume,
            "Secret": lambda spec: self.client.create_secret(replace(spec, data=b"there")),
            "Config": lambda spec: self.client.create_config(replace(spec, data=b"there")),
        }
        removers: dict[str, Callable[[str], Any]] = {
            "Network": self.client.remove_network,
            "Volume": self.client.remove_volume,
            "Secret": self.client.remove_secret,
            "Config": self.client.remove_config,
        }
        made = []
        for item in desired.externals:
            with contextlib.suppress(errors.Denied):  # a predefined network
                await makers[item.kind](replace(item.spec, labels={}))  # type: ignore[type-var]
                made.append(item)
        yield
        for item in made:
            await removers[item.kind](item.engine_name)

    async def apply_and_look_again(self, path: Path, load: LoadOptions) -> tuple[Plan, list[str]]:
        """The plan that was carried out, and what a second one would do; afterwards all is gone again."""
        reconciler = Reconciler(self.client, Options(load))
        origin = source.of_path(path)
        first = await reconciler.prepare(origin)
        await self._send(first)
        try:
            second = await reconciler.prepare(origin)
        finally:
            await self._remove(first)
        left = [
            f"{step.action} {step.kind} {step.engine_name}: {[(c.path, c.old, c.new) for c in step.changes]}"
            for step in second.plan.changed
        ]
        return first.plan, left

    async def _send(self, prepared: Prepared) -> None:
        job = Job(prepared.plan, prepared.request, prepared.live, images.Images(), lambda _: None, 60)
        sender = Sender(self.client, job, lambda _: None)
        for step in prepared.plan.changed:
            await (sender.service(step, {}) if step.kind == "Service" else sender.make(step))

    async def _remove(self, prepared: Prepared) -> None:
        for stack in prepared.stacks:
            planned = await deleting.plan(self.client, stack, volumes=True)
            await deleting.delete(self.client, planned, stack, lambda _: None)


def load(path: Path, place: Path, name: str) -> DesiredSet | None:
    try:
        return manifests.load(path, options(place, name))
    except errors.InvalidManifest:
        return None


def sets(tmp_path: Path, corpus: Path | None) -> Iterator[tuple[Path, Path]]:
    """Paths to apply, each with the repository that it is in."""
    examples = tmp_path / "examples"
    shutil.copytree(EXAMPLES, examples)
    (examples / "bin").mkdir(exist_ok=True)
    shutil.copy("/bin/busybox", examples / "bin" / "busybox")
    yield examples, examples
    own = tmp_path / "own"
    shutil.copytree(PROJECTS, own)
    yield from ((path, own) for path in sorted(own.iterdir()))
    if corpus is not None:
        files = sorted(corpus.rglob("*.y*ml"))
        yield from ((path, corpus) for path in files if not path.is_relative_to(corpus / "golden"))


def test_nothing_is_left_to_do_after_an_apply(
    swarm: Any, tmp_path: Path, compose_corpus: Path | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clients.EngineClient, "distribution", every_image)

    async def run() -> tuple[int, dict[str, Any]]:
        done, wrong = 0, {}
        async with clients.connect(swarm.socket) as client:
            engine = Engine(client)
            await engine.drain()
            for path, place in sets(tmp_path, compose_corpus):
                desired = load(path, place, f"n{done}")
                if desired is None or not desired.objects:
                    continue
                async with engine.provided(desired):
                    try:
                        plan, left = await engine.apply_and_look_again(path, options(place, f"n{done}"))
                    except errors.GitopsError as error:
                        left, plan = [str(error)], Plan(())
                if left or not plan.changed:
                    wrong[str(path.relative_to(place))] = left or "nothing was sent"
                done += 1
        return done, wrong

    done, wrong = asyncio.run(run())
    where = "with" if compose_corpus is not None else "without, since it isn't there,"
    print(f"{done} sets were applied, {where} the corpus of Compose files")
    assert wrong == {}
    assert done > (100 if compose_corpus is not None else 1)
