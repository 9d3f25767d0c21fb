"""An apply that dies before or after any of its writes is finished by the next one, with no task made twice."""

from __future__ import annotations

import contextlib
import random
import shutil
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gitops import manifests
from gitops.client import EngineClient, endpoint
from gitops.client.transport import Transport
from gitops.manifests import canonical
from gitops.reconciler import live, source
from gitops.reconciler.reconcile import Options, Reconciler

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

DOCUMENTS = {
    "net": "kind: Network\nmetadata: {name: net, stack: app}\nspec: {}\n",
    "page": 'kind: Config\nmetadata: {name: page, stack: app}\nspec: {content: "page VERSION"}\n',
    "key": 'kind: Secret\nmetadata: {name: key, stack: app}\nspec: {content: "key VERSION"}\n',
    "db": """\
kind: Service
metadata: {name: db, stack: app}
spec:
  image: app:v1
  networks: [net]
  secrets: [key]
  init: true
  deploy: {replicas: 1, restart_policy: {delay: 100ms}, update_config: {monitor: 100ms}}
""",
    "web": """\
kind: Service
metadata: {name: web, stack: app}
spec:
  image: app:VERSION
  networks: [net]
  configs: [page]
  init: true
  depends_on: {db: {condition: healthy}}
  deploy: {replicas: 2, restart_policy: {delay: 100ms}, update_config: {parallelism: 2, monitor: 100ms}}
""",
}
OLD = "kind: Config\nmetadata: {name: old, stack: app}\nspec: {content: goes}\n"


class Crash(BaseException):
    """The apply is dead: nothing catches it."""


class Mortal(Transport):
    """Counts writes, and dies at one of them: before the engine hears of it, or once it has carried it out."""

    def __init__(self, socket: str, dies_at: int = 0, is_heard: bool = False) -> None:
        super().__init__(endpoint.resolve(socket))
        self.writes: list[str] = []
        self._dies_at = dies_at
        self._is_heard = is_heard
        self._is_dead = False

    @contextlib.asynccontextmanager
    async def _answer(self, method: str, path: str, **options: Any) -> AsyncIterator[Any]:
        if self._is_dead:
            raise Crash
        is_last = False
        if method != "GET":
            self.writes.append(f"{method} {path}")
            is_last = len(self.writes) == self._dies_at
            self._is_dead = self._is_dead or is_last
        if is_last and not self._is_heard:
            raise Crash
        async with super()._answer(method, path, **options) as response:
            if is_last:
                await response.read()
                raise Crash
            yield response


def lay_out(path: Path, image: Any, version: str, order: random.Random | None = None) -> Path:
    """The manifests of a version; with `order`, in any order and any number of files."""
    documents = [text.replace("VERSION", version) for text in DOCUMENTS.values()]
    documents += [OLD] if version == "v1" else []
    texts = [f"apiVersion: gitops/v1\n{text}" for text in documents]
    texts += [image(tag, tag) for tag in ("app:v1", f"app:{version}")][: 1 if version == "v1" else 2]
    files = [texts]
    if order:
        order.shuffle(texts)
        cut = order.randrange(1, len(texts))
        files = [texts[:cut], texts[cut:]]
    for former in path.glob("*.yaml"):
        former.unlink()
    for number, part in enumerate(files):
        (path / f"{number}.yaml").write_text("---\n".join(part))
    return path


async def apply(transport: Mortal, path: Path) -> bool:
    """Whether it came to its end."""
    load = manifests.LoadOptions(allow_host=True, secret_key=b"k" * 32)
    try:
        async with EngineClient(transport) as client:
            reconciler = Reconciler(client, Options(load, timeout_s=60, lease_s=1.0))
            await reconciler.apply(await reconciler.prepare(source.of_path(path)), lambda _: None)
    except Crash:
        return False
    except BaseExceptionGroup as group:
        if group.split(Crash)[1] is not None:
            raise
        return False
    return True


async def picture(host: Any) -> tuple[Any, Counter[tuple[str, int]]]:
    """What the engine holds, without what differs from life to life; and how many tasks each slot has had."""
    async with EngineClient(Transport(endpoint.resolve(host.socket))) as client:
        seen = await live.read(client, ("app:v1", "app:v2"))
    names = {service.id: name for name, service in seen.services.items()}
    tasks = Counter((names[task.service_id], task.slot) for task in seen.tasks if task.service_id in names)
    running = Counter(
        (names[task.service_id], task.slot, task.spec.container_spec.image)
        for task in seen.tasks
        if task.status.state == "running" and task.spec.container_spec
    )
    record = seen.records["app"]
    state = {
        "services": {name: canonical.service(item.spec, seen.names) for name, item in seen.services.items()},
        "networks": {name for name, item in seen.networks.items() if seen.owner(item.labels)},
        "secrets": set(seen.secrets),
        "configs": {name for name in seen.configs if not name.startswith("gitops-")},
        "images": {name: image.id for name, image in seen.images.items()},
        "running": running,
        "record": (record.outcome, record.revision),
    }
    return state, tasks


async def life(host: Any, path: Path, image: Any, dies_at: int, is_heard: bool, order: random.Random | None) -> Any:
    """Create, update and delete a stack; the pictures after the first two, and their writes. Deaths are healed."""
    found = []
    for version in ("v1", "v2"):
        lay_out(path, image, version, order)
        first = Mortal(host.socket, dies_at, is_heard)
        if not await apply(first, path):
            assert await apply(Mortal(host.socket), path)
        else:
            assert not dies_at or len(first.writes) < dies_at
        found.append((await picture(host), first.writes))
    unchanged = Mortal(host.socket)
    assert await apply(unchanged, path)
    assert unchanged.writes == [], "an apply that changes nothing wrote"
    host.gitops("delete", "app", "--yes")
    return found


async def repeat(host: Any, path: Path, image: Any, order: random.Random, lives: int | None) -> None:
    """Deaths at `lives` moments, at all of them if that is None, each as good as none."""
    whole = await life(host, path, image, 0, False, None)
    count = max(len(writes) for _, writes in whole)
    assert count >= 10
    moments = [(number, is_heard) for number in range(1, count + 1) for is_heard in (False, True)]
    chosen = moments if lives is None else order.sample(moments, lives)
    for number, is_heard in chosen:
        found = await life(host, path, image, number, is_heard, order)
        for ((state, tasks), writes), ((wanted, wanted_tasks), _) in zip(found, whole, strict=True):
            where = f"death at write {number}, {'heard' if is_heard else 'not heard'}: {writes}"
            # A revision names the files, too, and those are laid out anew.
            assert {**state, "record": state["record"][0]} == {**wanted, "record": wanted["record"][0]}, where
            assert tasks == wanted_tasks, where


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "bin").mkdir()
    shutil.copy("/bin/busybox", tmp_path / "bin" / "busybox")
    return tmp_path


async def test_an_apply_that_dies_at_a_write_is_finished_by_the_next_one(swarm: Any, path: Path, image: Any) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    await repeat(swarm, path, image, random.Random(seed), 3)


@pytest.mark.soak
async def test_an_apply_may_die_at_every_single_write(swarm: Any, path: Path, image: Any) -> None:
    await repeat(swarm, path, image, random.Random(1), None)
