"""An apply, a rollback or a removal that dies before or after any of its writes is finished by the next one, with no
task made twice."""

from __future__ import annotations

import contextlib
import itertools
import random
import shutil
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gitops import errors, manifests
from gitops.client import EngineClient, endpoint
from gitops.client.transport import Transport
from gitops.manifests import canonical
from gitops.reconciler import deleting, lease, live, source
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


Death = tuple[int, bool]
"""At which write, and whether the engine has carried it out."""

OPENING = 4
"""Writes with which one that follows a dead one begins: lease, end of the dead one's revision, own revision, record."""
LEASE = 1
"""All that a removal begins with."""
DEATHS = 12
"""In a row: more than there are objects to write."""


def one_more_each(opening: int) -> Iterator[Death]:
    """Deaths after each write of the opening; and then each after one write more than the one before came to."""
    yield from ((number, True) for number in (*range(1, opening + 1), *itertools.repeat(opening + 1, DEATHS)))


class Crash(BaseException):
    """The apply is dead: nothing catches it."""


class Mortal(Transport):
    """Counts writes, and dies at one of them: before the engine hears of it, or once it has carried it out."""

    def __init__(self, socket: str, dies_at: int = 0, is_heard: bool = False) -> None:
        super().__init__(endpoint.resolve(socket))
        self.writes: list[str] = []
        self.dies_at = dies_at
        self._is_heard = is_heard
        self._is_dead = False

    @contextlib.asynccontextmanager
    async def _answer(self, method: str, path: str, **options: Any) -> AsyncIterator[Any]:
        if self._is_dead:
            raise Crash
        is_last = False
        if method != "GET":
            self.writes.append(f"{method} {path}")
            is_last = len(self.writes) == self.dies_at
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


Act = Callable[[EngineClient, float], Awaitable[None]]
"""What is done, and how long its lease lasts, in seconds."""
SHORT_S = 1.0
"""So that one needn't wait long for the lease of one that died."""


async def survives(transport: Mortal, act: Act) -> bool:
    """Whether it came to its end."""
    try:
        async with EngineClient(transport) as client:
            await act(client, SHORT_S if transport.dies_at else lease.TTL_S)
    except Crash:
        return False
    except errors.Refused:
        if not transport.dies_at:
            raise
        return False  # on a slow machine it may lose a short lease: that is an end like any other
    except BaseExceptionGroup as group:
        if group.split(Crash)[1] is not None:
            raise
        return False
    return True


def reconciler(client: EngineClient, lease_s: float) -> Reconciler:
    load = manifests.LoadOptions(allow_host=True, secret_key=b"k" * 32)
    return Reconciler(client, Options(load, timeout_s=60, lease_s=lease_s))


def applies(path: Path) -> Act:
    async def act(client: EngineClient, lease_s: float) -> None:
        run = reconciler(client, lease_s)
        await run.apply(await run.prepare(source.of_path(path)), lambda _: None)

    return act


def rolls_back(state: str) -> Act:
    """To the newest revision of a state, which is that of the one that died, once there is one."""

    async def act(client: EngineClient, lease_s: float) -> None:
        run = reconciler(client, lease_s)
        found = (await live.read(client, ())).revisions["app"]
        number = next(item.number for item in found if item.head.digest == state)
        await run.apply(await run.prepare_rollback("app", number), lambda _: None)

    return act


async def deletes(client: EngineClient, lease_s: float) -> None:
    try:
        prepared = await deleting.plan(client, "app")
    except errors.NotFound:
        return  # the one before died after its last write
    await deleting.delete(client, prepared, "app", lambda _: None, lease_s=lease_s)


async def carried_out(host: Any, act: Act, deaths: Iterable[Death]) -> list[str]:
    """What the one that came through wrote, after those that died."""
    for number, is_heard in deaths:
        transport = Mortal(host.socket, number, is_heard)
        if await survives(transport, act):
            return transport.writes
    last = Mortal(host.socket)
    assert await survives(last, act)
    return last.writes


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
    record = seen.records.get("app")
    state = {
        "services": {name: canonical.service(item.spec, seen.names) for name, item in seen.services.items()},
        "networks": {name for name, item in seen.networks.items() if seen.owner(item.labels)},
        "secrets": set(seen.secrets),
        "configs": {name for name in seen.configs if record is None or not name.startswith("gitops-")},
        "images": {name: image.id for name, image in seen.images.items()},
        "running": running,
        "record": (record.outcome, record.revision) if record else (None, ""),
    }
    return state, tasks


async def state_of(host: Any) -> str:
    """What names the objects of the newest revision."""
    async with EngineClient(Transport(endpoint.resolve(host.socket))) as client:
        return (await live.read(client, ())).revisions["app"][0].head.digest


async def life(
    host: Any,
    path: Path,
    image: Any,
    deaths: Callable[[int], Iterable[Death]],
    order: random.Random | None = None,
) -> list[tuple[Any, list[str]]]:
    """Create, update, roll back and delete a stack, each with its `deaths`; the picture after each, and its writes."""
    found = []

    async def then(act: Act, opening: int = OPENING) -> None:
        writes = await carried_out(host, act, deaths(opening))
        found.append((await picture(host), writes))

    lay_out(path, image, "v1", order)
    await then(applies(path))
    first = await state_of(host)
    lay_out(path, image, "v2", order)
    await then(applies(path))
    unchanged = Mortal(host.socket)
    assert await survives(unchanged, applies(path)) and unchanged.writes == [], "what changes nothing wrote something"
    await then(rolls_back(first))
    await then(deletes, LEASE)
    return found


def same(found: list[tuple[Any, list[str]]], whole: list[tuple[Any, list[str]]], where: str) -> None:
    """Each state is that of a life without deaths, and no slot has had another number of tasks."""
    for number, (((state, tasks), writes), ((wanted, wanted_tasks), _)) in enumerate(zip(found, whole, strict=True)):
        told = f"phase {number} with {where}: {writes}"
        # A revision names the files, too, and those are laid out anew.
        assert {**state, "record": state["record"][0]} == {**wanted, "record": wanted["record"][0]}, told
        assert tasks == wanted_tasks, told


async def unharmed(host: Any, path: Path, image: Any) -> list[tuple[Any, list[str]]]:
    """A life without deaths. Every task of its slots is known yet: the swarm forgets all but the last five of each."""
    whole = await life(host, path, image, lambda _: ())
    create, update, rollback, removal = (tasks for (_, tasks), _ in whole)
    slots = {("app_db", 1), ("app_web", 1), ("app_web", 2)}
    assert create == dict.fromkeys(slots, 1) and update == dict.fromkeys(slots, 2) and removal == {}
    assert rollback == dict.fromkeys(slots, 3)
    assert [len(writes) >= 8 for _, writes in whole] == [True] * 4, whole
    return whole


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "bin").mkdir()
    shutil.copy("/bin/busybox", tmp_path / "bin" / "busybox")
    return tmp_path


async def test_what_dies_at_writes_is_finished_by_the_next_one(swarm: Any, path: Path, image: Any) -> None:
    whole = await unharmed(swarm, path, image)
    same(await life(swarm, path, image, one_more_each), whole, "a death after each write")
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    order = random.Random(seed)
    death = order.randint(1, max(len(writes) for _, writes in whole)), order.random() < 0.5
    same(await life(swarm, path, image, lambda _: [death], order), whole, f"death {death}")


@pytest.mark.soak
async def test_it_may_die_before_and_after_every_single_write(swarm: Any, path: Path, image: Any) -> None:
    whole = await unharmed(swarm, path, image)
    order = random.Random(1)
    for number in range(1, max(len(writes) for _, writes in whole) + 1):
        for death in ((number, False), (number, True)):
            same(await life(swarm, path, image, lambda _, death=death: [death], order), whole, f"death {death}")
