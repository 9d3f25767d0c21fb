"""What images are called on engines that can more or less."""

from __future__ import annotations

from dataclasses import replace

from gitops.manifests import Desired, DesiredSet, ImageSource, Position
from gitops.objects.container import ContainerConfig
from gitops.objects.image import ImageInspect, RootFS
from gitops.objects.service import ContainerSpec, ServiceSpec, TaskSpec
from gitops.reconciler import images, imagesteps, latedigests, planner, targets, versions
from gitops.reconciler.images import Known
from gitops.reconciler.live import Live
from gitops.reconciler.plan import Action, Plan, Reason, Step
from gitops.reconciler.targets import Target

OURS, OLD_DOCKER, NEW_DOCKER = Target(), Target(False, False), Target(False, True)
MANIFEST, ID, PUSHED = (f"sha256:{letter * 64}" for letter in "abc")
REGISTRY = "registry.example:5000/app:v1"


def an_image(push: str = "") -> Desired:
    return Desired("Image", "s", "app", "app:v1", Position("a.yaml", 1, 1), ImageSource("app:v1", push=push), {}, "")


def a_service() -> Desired:
    spec = ServiceSpec(name="s_web", task_template=TaskSpec(container_spec=ContainerSpec(image="app:v1")))
    return Desired("Service", "s", "web", "s_web", Position("a.yaml", 9, 1), spec, {}, "", (("Image", "app:v1"),))


def live_image(*digests: str) -> ImageInspect:
    return ImageInspect(ID, ["app:v1"], list(digests), "", ContainerConfig(), "amd64", "linux", 1, RootFS())


def adapted(target: Target, push: str = "", live: ImageInspect | None = None) -> Known:
    seen = {"app:v1": live} if live else {}
    return targets.adapt({"app:v1": Known(MANIFEST, ID)}, [an_image(push)], seen, target)["app:v1"]


def step(known: Known, live: ImageInspect | None) -> Step:
    base = Step("Image", "s", "app", "app:v1", Action.NONE, Reason.SAME)
    return imagesteps.step(base, known, Live(images={"app:v1": live} if live else {}))


def test_a_loaded_image_goes_by_its_digest_where_the_engine_keeps_it_and_else_by_its_id() -> None:
    assert adapted(OURS) == adapted(NEW_DOCKER) == Known(MANIFEST, ID)
    known = adapted(OLD_DOCKER)
    assert known == Known(ID, ID, is_id=True)
    version = images.version(an_image(), {"app:v1": known})
    assert (versions.name_of(version), versions.digest_of(version), versions.as_digest(version)) == ("app:v1", ID, ID)
    use = versions.used([ServiceSpec(task_template=TaskSpec(container_spec=ContainerSpec(image=ID)))])
    assert use.has(version) and not use.has(version.replace("b", "d"))


def test_a_pushed_image_goes_by_its_name_in_the_registry() -> None:
    known = adapted(OURS, REGISTRY)
    assert (known.name, known.digest, known.is_late) == (REGISTRY, MANIFEST, False)
    assert step(known, None).action is Action.CREATE
    loaded = step(known, live_image(f"app@{MANIFEST}"))
    assert (loaded.action, loaded.changes[0].path) == (Action.UPDATE, "push")
    assert step(known, live_image(f"registry.example:5000/app@{MANIFEST}")).action is Action.NONE


def test_docker_s_older_store_gives_a_digest_when_it_pushes() -> None:
    known = adapted(OLD_DOCKER, REGISTRY)
    assert known.is_late and step(known, live_image()).action is Action.UPDATE
    image = live_image(f"elsewhere/app@{MANIFEST}", f"registry.example:5000/app@{PUSHED}")
    known = adapted(OLD_DOCKER, REGISTRY, image)
    assert known.digest == PUSHED and step(known, image).action is Action.NONE


def test_what_only_one_node_would_have_is_refused_on_several_nodes_of_docker() -> None:
    found = DesiredSet((an_image(), a_service()), {}, {})
    assert targets.refusals(found, OURS, 3) == targets.warnings(found, OURS, 1) == []
    assert targets.refusals(found, OLD_DOCKER, 1) == []
    assert "spec.push" in targets.warnings(found, OLD_DOCKER, 1)[0]
    assert "app:v1" in targets.refusals(found, OLD_DOCKER, 3)[0]
    pushed = replace(found, objects=(an_image(REGISTRY), a_service()))
    assert targets.refusals(pushed, OLD_DOCKER, 3) == targets.warnings(pushed, OLD_DOCKER, 1) == []
    unused = replace(found, objects=(an_image(),))
    assert targets.refusals(unused, OLD_DOCKER, 3) == []


def test_what_gets_its_digest_by_the_push_is_pushed_first_and_then_planned_with_it() -> None:
    spec = ServiceSpec(name="s_web", task_template=TaskSpec(container_spec=ContainerSpec(image=REGISTRY)))
    found = DesiredSet((an_image(REGISTRY), replace(a_service(), spec=spec)), {}, {})
    known = {"app:v1": adapted(OLD_DOCKER, REGISTRY)}
    request = planner.Request(found, known, frozenset({"s"}))
    due = replace(step(known["app:v1"], live_image()), obsolete=("app@sha256:0",))
    other = Step("Service", "s", "web", "s_web", Action.CREATE, Reason.MISSING)
    (pushed,) = latedigests.pushes(request, Plan((due, other))).steps
    assert (pushed.key, pushed.obsolete) == (("Image", "app:v1"), ())
    image = live_image(f"registry.example:5000/app@{PUSHED}")
    settled = latedigests.settled(request, {"app:v1": image}, OLD_DOCKER)
    (service,) = settled.desired.of("Service")
    assert isinstance(service.spec, ServiceSpec) and service.spec.task_template.container_spec is not None
    assert service.spec.task_template.container_spec.image == f"{REGISTRY}@{PUSHED}"
    assert settled.known["app:v1"].digest == PUSHED
    assert not latedigests.pushes(settled, Plan((due, other))).steps
    assert images.brought(an_image(REGISTRY), settled.known) == (f"app:v1@{PUSHED}", f"{REGISTRY}@{PUSHED}")
