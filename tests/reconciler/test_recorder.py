"""What an apply writes down, and what it leaves as it was."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gitops import errors
from gitops.manifests import Desired, DesiredSet, Position, StackSettings, canonical
from gitops.objects.base import Version
from gitops.objects.network import NetworkCreate, NetworkResource
from gitops.objects.secret import Config, ConfigSpec
from gitops.reconciler import planner, record, recorder, revisions
from gitops.reconciler.live import Live
from gitops.reconciler.reconcile import Prepared
from gitops.reconciler.record import Outcome, Record
from gitops.reconciler.recorder import Recorder
from gitops.reconciler.source import Source

WHOLE = "git.example/site#manifests"


class Engine:
    """The Configs of an engine."""

    def __init__(self) -> None:
        self.found: dict[str, Config] = {}

    async def configs(self, filters: dict[str, list[str]] | None = None) -> list[Config]:
        wanted = [text.split("=", 1) for text in (filters or {}).get("label", [])]
        return [
            item for item in self.found.values() if all(item.spec.labels.get(key) == value for key, value in wanted)
        ]

    async def config(self, config_id: str) -> Config:
        return self.found[config_id]

    async def create_config(self, spec: ConfigSpec) -> str:
        if spec.name in self.found:
            raise errors.Conflict(spec.name)
        self.found[spec.name] = Config(id=spec.name, version=Version(1), spec=spec)
        return spec.name

    async def update_config(self, config_id: str, version: int, spec: ConfigSpec) -> None:
        self.found[config_id] = Config(id=config_id, version=Version(version + 1), spec=spec)


@pytest.fixture
def engine() -> Any:
    return Engine()


def networks(*names: str) -> DesiredSet:
    found = []
    for name in names:
        spec = NetworkCreate(name=f"app_{name}", labels={"gitops.stack": "app", "gitops.name": name})
        form = canonical.network(spec)
        found.append(Desired("Network", "app", name, f"app_{name}", Position("a.yaml", 1, 1), spec, form, ""))
    return DesiredSet(tuple(found), {"app": StackSettings("app")}, {})


async def state(engine: Any) -> Live:
    records = await record.read(engine)
    return Live(
        records=records,
        configs={item.spec.name: item for item in await engine.configs()},
        revisions=revisions.parse(await engine.configs()),
    )


async def apply(engine: Any, desired: DesiredSet, identity: str, commit: str, **request: Any) -> Prepared:
    seen = await state(engine)
    made = planner.Request(desired, {}, frozenset({"app"}), **request)
    found = Prepared(Source(identity, Path(), commit), f"{commit}-1", made, seen, planner.make(made, seen))
    written = Recorder(engine, found)
    await written.begin()
    await written.end(Outcome.APPLIED, "")
    return found


async def test_a_part_leaves_the_record_its_source_and_state_and_the_revision_has_the_rest(engine: Any) -> None:
    await apply(engine, networks("one", "two"), WHOLE, "aaa")
    part = {"parts": {"app": "one.yaml"}}
    prepared = await apply(engine, networks("one", "three"), f"{WHOLE}/one.yaml", "bbb", **part)
    seen = await state(engine)
    found = seen.records["app"]
    assert (found.source, found.commit, found.revision) == (WHOLE, "aaa", "aaa-1")
    head = seen.revisions["app"][0].head
    assert (head.number, head.source, head.part, head.commit) == (2, WHOLE, "one.yaml", "bbb")
    assert [item.name for item in seen.revisions["app"][0].body.objects] == ["two", "one", "three"]
    nothing_new = replace(prepared, live=seen, plan=replace(prepared.plan, steps=()))
    assert recorder.is_noted(nothing_new, "app") and not recorder.is_due(nothing_new, "app")


async def test_a_stack_from_which_something_moved_lets_go_of_its_claim(engine: Any) -> None:
    await record.write(engine, "old", source="other", claims=("Network old_net net n1",))
    seen = replace(
        await state(engine), records={"old": Record("old", source="other", claims=("Network old_net net n1",))}
    )
    (item,) = networks("net").objects
    moved = replace(item, engine_name="old_net", moved_from="old")
    seen = replace(seen, networks={"old_net": network("old")})
    request = planner.Request(replace(networks("net"), objects=(moved,)), {}, frozenset({"app"}))
    prepared = Prepared(Source(WHOLE, Path()), "r", request, seen, planner.make(request, seen))
    await Recorder(engine, prepared).write(Outcome.APPLYING, "")
    found = await record.read(engine)
    assert found["old"].claims == () and found["app"].claims == ("Network old_net net n1",)


def network(stack: str) -> NetworkResource:
    labels = {"gitops.stack": stack, "gitops.kind": "Network", "gitops.name": "net"}
    return NetworkResource("old_net", "n1", "", "swarm", "overlay", labels=labels)
