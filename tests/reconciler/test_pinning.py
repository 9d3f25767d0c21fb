"""From tags to digests, with a registry that answers as it is told."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from gitops import client as clients
from gitops import errors
from gitops.manifests import Desired, DesiredSet, Position
from gitops.objects.service import ContainerSpec, Service, ServiceSpec, TaskSpec
from gitops.reconciler import pinning
from gitops.reconciler.images import Known

DIGEST, OTHER = "sha256:" + "a" * 64, "sha256:" + "b" * 64


@dataclass
class Answer:
    descriptor: dict[str, str]


@dataclass
class Image:
    repo_tags: list[str]
    repo_digests: list[str]


@dataclass
class Engine:
    """What its registries hold by name, or the error that they give; and what it has itself."""

    registries: dict[str, str | errors.GitopsError] = field(default_factory=dict)
    local: dict[str, list[str]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    async def distribution(self, name: str, auth: object = None) -> Answer:
        self.asked.append(name)
        found = self.registries.get(name, errors.NotFound(f"manifest for {name} not found"))
        if isinstance(found, errors.GitopsError):
            raise found
        return Answer({"digest": found})

    async def images(self) -> list[Image]:
        return [Image([name], digests) for name, digests in self.local.items()]


def spec(image: str) -> ServiceSpec:
    return ServiceSpec(name="app_web", task_template=TaskSpec(container_spec=ContainerSpec(image=image)))


async def pin(engine: Engine, image: str, known: dict[str, Known] | None = None, live: str = "") -> tuple[str, Any]:
    positions = {"spec.image": (6, 3)}
    item = Desired(
        "Service", "app", "web", "app_web", Position("a.yaml", 1, 1), spec(image), {}, "", positions=positions
    )
    services = {"app_web": Service(spec=spec(live))} if live else {}
    client = cast(clients.EngineClient, engine)
    found = await pinning.pin(client, DesiredSet((item,), {}, {}), known or {}, services, lambda _: None)
    pinned = found.desired.objects[0].spec
    assert isinstance(pinned, ServiceSpec) and pinned.task_template.container_spec is not None
    return pinned.task_template.container_spec.image, found.warnings


async def test_a_tag_is_resolved_once_and_then_not_followed() -> None:
    engine = Engine({"app:v1": DIGEST})
    assert await pin(engine, "app:v1") == (f"app:v1@{DIGEST}", ())
    moved = Engine({"app:v1": OTHER})
    assert await pin(moved, "app:v1", live=f"app:v1@{DIGEST}") == (f"app:v1@{DIGEST}", ())
    assert moved.asked == []


async def test_an_image_that_comes_with_the_manifests_needs_no_registry() -> None:
    engine = Engine()
    assert await pin(engine, "app:v1", {"app:v1": Known(DIGEST)}) == (f"app:v1@{DIGEST}", ())
    assert engine.asked == []


async def test_a_service_is_sent_the_name_that_its_image_is_pulled_by() -> None:
    engine = Engine({"registry.example/web:1": DIGEST})
    known = {"my:1": Known(name="registry.example/web:1")}
    assert await pin(engine, "my:1", known) == (f"registry.example/web:1@{DIGEST}", ())
    assert engine.asked == ["registry.example/web:1"], "no other registry may be asked for that name"
    fixed = {"my:1": Known(OTHER, name="registry.example/web:1")}
    assert await pin(Engine(), "my:1", fixed) == (f"registry.example/web:1@{OTHER}", ())


async def test_an_image_that_nobody_has_is_an_error_at_its_line() -> None:
    with pytest.raises(errors.InvalidManifest, match=r"a\.yaml:6:3: spec\.image: manifest for app:v9 not found"):
        await pin(Engine(), "app:v9")
    with pytest.raises(errors.InvalidManifest, match="no basic auth credentials"):
        await pin(Engine({"app:v1": errors.Denied("no basic auth credentials")}), "app:v1")


async def test_an_image_that_the_engine_has_under_that_name_is_enough() -> None:
    assert await pin(Engine(local={"app:v9": [f"app@{DIGEST}"]}), "app:v9") == (f"app:v9@{DIGEST}", ())
    image, warnings = await pin(Engine(local={"app:v9": []}), "app:v9")
    assert image == "app:v9" and len(warnings) == 1


async def test_a_registry_out_of_reach_is_a_warning_that_says_why() -> None:
    image, warnings = await pin(Engine({"app:v1": errors.Unavailable("connection refused")}), "app:v1")
    assert image == "app:v1" and "connection refused" in warnings[0]


async def test_a_registry_out_of_reach_is_told_once_for_all_its_images() -> None:
    away = errors.Unavailable("connection refused")
    positions = [Position("a.yaml", line, 1) for line in range(5)]
    items = tuple(
        Desired(
            "Service", "app", str(place.line), f"app_{place.line}", place, spec(f"r.example/a:{place.line}"), {}, ""
        )
        for place in positions
    )
    engine = Engine({f"r.example/a:{number}": away for number in range(5)})
    client = cast(clients.EngineClient, engine)
    found = await pinning.pin(client, DesiredSet(items, {}, {}), {}, {}, lambda _: None)
    assert len(found.warnings) == 1 and "and 2 more" in found.warnings[0]
