"""Revisions in swarm Configs: chunks, labels, numbers, and what stays."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest

from gitops import errors
from gitops.manifests import Desired, DesiredSet, ImageSource, Position, StackSettings, canonical
from gitops.manifests.desired import Dependency
from gitops.objects.base import Version
from gitops.objects.network import NetworkCreate
from gitops.objects.secret import Config, ConfigSpec, SecretSpec
from gitops.objects.service import ContainerSpec, Replicated, ServiceMode, ServiceSpec, TaskSpec
from gitops.reconciler import planner, revisions, stored
from gitops.reconciler.images import Known
from gitops.reconciler.plan import Plan
from gitops.reconciler.record import Outcome
from gitops.reconciler.revisions import Body, Head, Revision


class Configs:
    """The engine's Config calls, as both engines answer them."""

    def __init__(self) -> None:
        self.found: dict[str, Config] = {}

    async def configs(self, filters: object = None) -> list[Config]:
        return list(self.found.values())

    async def config(self, config_id: str) -> Config:
        if config_id not in self.found:
            raise errors.NotFound(config_id)
        return self.found[config_id]

    async def create_config(self, spec: ConfigSpec) -> str:
        if any(item.spec.name == spec.name for item in self.found.values()):
            raise errors.Conflict(spec.name)
        assert len(spec.name) <= 64 and len(spec.data) <= 1000 * 1024
        self.found[spec.name] = Config(id=spec.name, version=Version(1), spec=spec)
        return spec.name

    async def update_config(self, config_id: str, version: int, spec: ConfigSpec) -> None:
        assert spec.data == self.found[config_id].spec.data
        self.found[config_id] = Config(id=config_id, version=Version(version + 1), spec=spec)

    async def remove_config(self, config_id: str) -> None:
        if self.found.pop(config_id, None) is None:
            raise errors.NotFound(config_id)


def desired(kind: str, name: str, spec: Any, form: dict[str, Any], **more: Any) -> Desired:
    place = Position("a.yaml", 3, 1)
    return Desired(kind, "app", name, f"app_{name}", place, spec, form, "h", **more)


def noise(size: int) -> str:
    return random.Random(size).randbytes(size).hex()


def item(text: str) -> revisions.Stored:
    return revisions.Stored("Service", "app", "web", "app_web", "a.yaml:1", msgspec.Raw(b"{}"), {"text": text})


def head(number: int, outcome: Outcome = Outcome.APPLIED, digest: str = "") -> Head:
    return Head("app", number, outcome=outcome, digest=digest or str(number))


def kept(*heads: Head) -> list[int]:
    return [item.number for item in revisions.kept([Revision(head, Config()) for head in heads])]


async def test_a_revision_larger_than_a_config_is_cut_and_put_together_again() -> None:
    client: Any = Configs()
    body = Body(objects=[item(noise(2_000_000))])
    await revisions.create(client, Head("a" * 63, 7), body)
    assert len(client.found) == 3
    (found,) = await revisions.read(client, "a" * 63)
    assert found.body == body and found.head.chunks == 3


async def test_a_revision_without_one_of_its_parts_says_so() -> None:
    client: Any = Configs()
    await revisions.create(client, Head("app", 1), Body(objects=[item(noise(1_000_000))]))
    await client.remove_config("gitops-revision-app-1.1")
    (found,) = await revisions.read(client, "app")
    with pytest.raises(errors.Invalid, match="a part of it has gone"):
        _ = found.body


async def test_how_it_ended_is_noted_without_touching_the_data() -> None:
    client: Any = Configs()
    made = await revisions.create(client, Head("app", 1, started_at="2026-01-01T00:00:00Z"), Body())
    await revisions.finish(client, made, outcome=Outcome.FAILED, message="x" * 9000, ended_at="2026-01-01T00:00:05Z")
    (found,) = await revisions.read(client, "app")
    assert found.head.outcome is Outcome.FAILED and found.head.duration_s == 5 and len(found.head.message) == 2000


async def test_two_of_the_same_number_are_refused() -> None:
    client: Any = Configs()
    await revisions.create(client, Head("app", 1), Body())
    with pytest.raises(errors.Refused, match="somebody else"):
        await revisions.create(client, Head("app", 1), Body())


async def test_what_is_left_of_a_revision_that_was_cut_short_is_passed_over_and_collected() -> None:
    client: Any = Configs()
    await revisions.create(client, Head("app", 4), Body(objects=[item(noise(1_000_000))]))
    await client.remove_config("gitops-revision-app-4")
    assert await revisions.read(client, "app") == []
    number = revisions.next_number(client.found.values(), "app")
    assert number == 5
    await revisions.create(client, Head("app", number), Body())
    await revisions.collect(client, "app")
    assert set(client.found) == {"gitops-revision-app-5"}


async def test_a_stack_whose_name_begins_like_anothers_has_a_history_of_its_own() -> None:
    client: Any = Configs()
    await revisions.create(client, Head("app", 1), Body())
    await revisions.create(client, Head("app-1", 1), Body())
    await revisions.remove(client, "app")
    assert [found.head.stack for found in await revisions.read(client, "app-1")] == ["app-1"]


def test_ten_stay_and_the_last_healthy_one() -> None:
    failed = [head(number, Outcome.FAILED) for number in range(30, 10, -1)]
    assert kept(*failed, head(9), head(8)) == [*range(30, 20, -1), 9]


def test_healing_again_and_again_pushes_no_other_state_out() -> None:
    heals = [head(number, digest="same") for number in range(40, 20, -1)]
    assert kept(*heals, head(3), head(2)) == [*range(40, 30, -1), 3, 2]


def test_what_a_revision_asks_for_is_what_was_stored() -> None:
    mode = ServiceMode(replicated=Replicated(replicas=None))
    spec = ServiceSpec(
        name="app_web",
        labels={"gitops.kind": "Service"},
        task_template=TaskSpec(container_spec=ContainerSpec(image="app:v1@sha256:" + "a" * 64)),
        mode=mode,
    )
    network = NetworkCreate(name="app_net", driver="overlay", attachable=True)
    secret = SecretSpec(name="app_key-0123", data=b"hush")
    objects = (
        desired("Image", "app:v1", ImageSource("app:v1", pull="reg.example/app:v1"), {}),
        desired("Network", "net", network, canonical.network(network)),
        desired("Secret", "key", secret, canonical.secret(secret)),
        desired("Config", "page", ConfigSpec(name="app_page-1", data=b"text"), {}),
        desired(
            *("Service", "web", spec, canonical.service(spec)),
            needs=(("Network", "app_net"),),
            depends_on=(Dependency("app_db", "healthy"),),
            deadline_ns=5,
        ),
    )
    known = {"app_app:v1": Known("sha256:" + "b" * 64, "", "reg.example/app:v1")}
    settings = {"app": StackSettings("app", prune=False, labels={"a": "b"})}
    body = stored.body(DesiredSet(objects, settings, {}), known, Plan(()), "app")
    data = revisions.encode(body)
    assert b"hush" not in msgspec.json.encode(body) and b"aHVzaA" not in msgspec.json.encode(body)
    found = Revision(head(1), Config(), data)
    back, images = stored.desired({"app": found.body})
    assert images == known and back.stacks == settings
    made = {item.kind: item for item in back.objects}
    assert made["Service"].spec == spec and made["Network"].spec == network
    assert made["Service"].depends_on == objects[4].depends_on and made["Service"].deadline_ns == 5
    assert made["Secret"].spec == SecretSpec(name="app_key-0123") and made["Config"].spec == ConfigSpec(
        name="app_page-1"
    )
    assert made["Image"].spec == ImageSource("app:v1", pull="reg.example/app:v1@sha256:" + "b" * 64)
    assert planner.settled(spec, None) == made["Service"].spec


def test_a_part_takes_the_place_of_its_objects_alone() -> None:
    other = msgspec.structs.replace(item("old"), name="db", engine_name="app_db")
    found = stored.merged(Body(objects=[item("old"), other]), Body(objects=[item("new")]))
    assert {entry.engine_name: entry.canonical["text"] for entry in found.objects} == {
        "app_web": "new",
        "app_db": "old",
    }


def test_a_thousand_services_take_a_few_hundred_kilobytes() -> None:
    spec = ServiceSpec(name="app_web", task_template=TaskSpec(container_spec=ContainerSpec(image="a:1", env=["A=b"])))
    objects = tuple(desired("Service", f"s{number}", spec, canonical.service(spec)) for number in range(1000))
    body = stored.body(DesiredSet(objects, {}, {}), {}, Plan(()), "app")
    assert len(revisions.encode(body)) < revisions.CHUNK_BYTES
