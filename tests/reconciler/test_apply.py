"""What an apply does to an engine that answers as it is told to: how much at once, what after a failure, what after the
guard has said no."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from gitops import client as clients
from gitops import errors
from gitops.manifests import Desired, DesiredSet
from gitops.manifests.desired import Dependency, Position
from gitops.objects.secret import ConfigSpec
from gitops.objects.service import (
    ConfigReference,
    ContainerSpec,
    Replicated,
    Service,
    ServiceMode,
    ServiceSpec,
    TaskSpec,
    UpdateConfig,
)
from gitops.objects.task import Task
from gitops.reconciler import apply, images, planner, sending, waiting
from gitops.reconciler.live import Live
from gitops.reconciler.plan import Action, Plan, Reason, Step
from gitops.reconciler.waiting import Update


class Engine:
    """Services of no tasks, and configs; `broken` are names that it refuses."""

    def __init__(self, broken: Iterable[str] = ()) -> None:
        self.writes: list[str] = []
        self.at_once = 0
        self.most_at_once = 0
        self._broken = set(broken)
        self._services: list[Service] = []

    async def _write(self, name: str) -> None:
        self.writes.append(name)
        self.at_once += 1
        self.most_at_once = max(self.at_once, self.most_at_once)
        await asyncio.sleep(0.01)
        self.at_once -= 1
        if name in self._broken:
            raise errors.Invalid(f"{name} is broken")

    async def create_config(self, spec: ConfigSpec) -> str:
        await self._write(spec.name)
        return f"id-{spec.name}"

    async def create_service(self, spec: ServiceSpec, *, auth: object = None) -> None:
        await self._write(spec.name)
        self._services.append(Service(id=spec.name, spec=spec))

    async def services(self) -> list[Service]:
        return list(self._services)

    async def _nothing(self, *_: object) -> list[Any]:
        return []

    nodes = networks = secrets = configs = _nothing

    async def network(self, name: str, *, scope: str | None = None) -> None:
        raise errors.NotFound(f"network {name} not found")

    async def tasks(self, filters: object = None) -> list[Task]:
        return []


def config(name: str) -> Desired:
    return Desired("Config", "", name, name, Position("a.yaml", 1, 1), ConfigSpec(name=name), {}, "")


def service(name: str, configs: Iterable[str] = (), depends_on: Iterable[Dependency] = ()) -> Desired:
    container = ContainerSpec(image="a", configs=[ConfigReference(config_name=item) for item in configs])
    spec = ServiceSpec(
        name=name,
        mode=ServiceMode(replicated=Replicated(replicas=0)),
        task_template=TaskSpec(container_spec=container),
        update_config=UpdateConfig(monitor=1),
    )
    needs = tuple(("Config", item) for item in configs)
    return Desired("Service", "", name, name, Position("a.yaml", 1, 1), spec, {}, "", needs, tuple(depends_on))


async def run(
    engine: Engine,
    items: Iterable[Desired],
    guard: Callable[[], Awaitable[None]] | None = None,
    removals: Iterable[Step] = (),
) -> list[Update]:
    found = tuple(items)
    created = (Step(item.kind, "", item.name, item.engine_name, Action.CREATE, Reason.MISSING) for item in found)
    plan = Plan((*created, *removals))
    request = planner.Request(DesiredSet(found, {}, {}), {}, frozenset())
    updates: list[Update] = []
    job = apply.Job(plan, request, Live(), images.Images(), lambda _: None, 5, guard)
    await apply.run(cast(clients.EngineClient, engine), job, updates.append)
    return updates


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "POLL_S", 0.01)


async def test_independent_objects_go_side_by_side_a_few_at_a_time() -> None:
    engine = Engine()
    await run(engine, [config(f"c{number}") for number in range(30)])
    assert engine.most_at_once == sending.PARALLEL and len(engine.writes) == 30


async def test_what_waits_takes_no_place_among_the_calls() -> None:
    engine = Engine()
    items = [service(f"s{number}", depends_on=[Dependency("last", "healthy")]) for number in range(20)]
    await run(engine, [*items, service("last")])
    assert engine.writes[0] == "last" and len(engine.writes) == 21


async def test_a_service_gets_the_ids_of_what_was_made_for_it() -> None:
    engine = Engine()
    await run(engine, [service("web", ["page"]), config("page")])
    assert engine.writes == ["page", "web"]
    container = (await engine.services())[0].spec.task_template.container_spec
    assert container is not None and container.configs[0].config_id == "id-page"


async def test_a_failure_keeps_back_its_dependants_only_and_all_failures_are_told() -> None:
    engine = Engine(["bad", "worse"])
    items = [
        config("bad"),
        service("web", ["bad"]),
        service("front", depends_on=[Dependency("web", "started")]),
        service("worse"),
        service("optional", depends_on=[Dependency("worse", "started", required=False)]),
        service("free"),
    ]
    with pytest.raises(errors.Invalid) as caught:
        await run(engine, items)
    assert set(engine.writes) == {"bad", "worse", "free", "optional"}
    assert {item.name: item.state for item in caught.value.objects} == {
        "bad": "failed",
        "worse": "failed",
        "web": "blocked",
        "front": "blocked",
    }
    for text in ("bad is broken", "worse is broken", "service front waits for web (started), which waits for config"):
        assert text in str(caught.value)


async def test_once_the_guard_has_said_no_nothing_more_is_written() -> None:
    asked = 0

    async def guard() -> None:
        nonlocal asked
        asked += 1
        if asked == 3:
            raise errors.Refused("a newer apply took over")

    engine = Engine()
    with pytest.raises(errors.Refused, match=r"^a newer apply took over$"):
        await run(engine, [config(f"c{number}") for number in range(10)], guard)
    assert len(engine.writes) == 2


async def test_a_defect_is_raised_as_it_is_and_nothing_hangs() -> None:
    class Defective(Engine):
        async def services(self) -> list[Service]:
            raise ZeroDivisionError

    with pytest.raises(BaseExceptionGroup) as caught:
        async with asyncio.timeout(10):
            await run(Defective(), [service("web")])
    assert caught.group_contains(ZeroDivisionError)


class Storing(Engine):
    """One image, which containers use: `labels` of each look at them, none any more at the end."""

    def __init__(self, looks: Iterable[list[dict[str, str]]]) -> None:
        super().__init__()
        self._looks = list(looks)

    async def remove_image(self, name: str, *, force: bool = False) -> None:
        self.writes.append(name)
        if self._looks:
            raise errors.Conflict(f"{name} is in use")

    remove_service = remove_network = remove_volume = remove_secret = remove_config = Engine._nothing

    async def image(self, name: str) -> Any:
        return SimpleNamespace(id="sha256:1")

    async def containers(self, *, all: bool) -> list[Any]:
        return [SimpleNamespace(image_id="sha256:1", labels=labels, state="running") for labels in self._looks.pop(0)]


IMAGE = Step("Image", "app", "app:1", "app:1", Action.DELETE, Reason.STACK)
TASK = {"com.docker.swarm.task.id": "t1"}


async def test_an_image_goes_once_the_tasks_that_stop_have_let_it_go() -> None:
    engine = Storing([[TASK], [TASK, TASK]])
    updates = await run(engine, [], removals=[IMAGE])
    assert engine.writes == ["app:1"] * 3 and updates[-1].text == "removed"


async def test_an_image_of_somebody_s_container_is_kept() -> None:
    engine = Storing([[TASK, {}]])
    updates = await run(engine, [], removals=[IMAGE])
    assert engine.writes == ["app:1"] and updates[-1].text == "kept: app:1 is in use"
