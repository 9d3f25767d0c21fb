"""Plans, by tables: what is created, updated, replaced, deleted, and what is nobody's business."""

from __future__ import annotations

from dataclasses import replace as replaced
from typing import Any, cast

import pytest
from msgspec.structs import replace

from gitops import errors
from gitops.manifests import Desired, DesiredSet, ImageSource, Position, StackSettings, canonical
from gitops.objects.container import ContainerConfig, Volume, VolumeCreate
from gitops.objects.image import ImageInspect, RootFS
from gitops.objects.network import IPAM, IPAMConfig, NetworkCreate, NetworkResource
from gitops.objects.node import Node, NodeDescription, NodeSpec, NodeStatus
from gitops.objects.secret import Config, ConfigSpec, Secret, SecretSpec
from gitops.objects.service import (
    ContainerSpec,
    EndpointSpec,
    NetworkAttachmentConfig,
    PortConfig,
    Replicated,
    ResourceRequirements,
    Resources,
    Service,
    ServiceMode,
    ServiceSpec,
    TaskSpec,
    UpdateStatus,
)
from gitops.reconciler import planner, record
from gitops.reconciler.diff import Cause
from gitops.reconciler.images import Known
from gitops.reconciler.live import Live
from gitops.reconciler.plan import Action, Plan, Reason

NODE = Node(
    id="n1",
    spec=NodeSpec(role="manager"),
    status=NodeStatus(state="ready"),
    description=NodeDescription(resources=Resources(nano_cpus=2 * 10**9, memory_bytes=2**30)),
)


def labels(kind: str, name: str, stack: str = "app") -> dict[str, str]:
    return {"gitops.stack": stack, "gitops.kind": kind, "gitops.name": name}


def spec(name: str = "web", image: str = "app:v1", replicas: int | None = 2, **more: Any) -> ServiceSpec:
    template = TaskSpec(container_spec=ContainerSpec(image=image), **more)
    mode = ServiceMode(replicated=Replicated(replicas=replicas))
    return ServiceSpec(name=f"app_{name}", labels=labels("Service", name), task_template=template, mode=mode)


def desired(kind: str, name: str, value: Any, form: dict[str, Any], engine_name: str = "") -> Desired:
    return Desired(kind, "app", name, engine_name or f"app_{name}", Position("a.yaml", 3, 1), value, form, "")


def service(**changes: Any) -> Desired:
    value = spec(**changes)
    return desired("Service", changes.get("name", "web"), value, canonical.service(value))


def live(**parts: Any) -> Live:
    return Live(nodes=(NODE,), **parts)


def plan(objects: tuple[Desired, ...], seen: Live, known: dict[str, Known] | None = None, prune: bool = True) -> Plan:
    found = DesiredSet(objects, {"app": StackSettings("app", prune=prune)}, {})
    return planner.make(planner.Request(found, known or {}, frozenset({"app"})), seen)


def actions(found: Plan) -> dict[str, Action]:
    return {step.engine_name: step.action for step in found.steps}


def test_what_is_missing_is_created_with_all_its_fields() -> None:
    found = plan((service(),), live())
    assert actions(found) == {"app_web": Action.CREATE}
    assert {change.path for change in found.steps[0].changes} >= {"image", "deploy.replicas"}
    assert all(change.old is None for change in found.steps[0].changes)


def test_what_is_the_same_is_left_alone() -> None:
    seen = live(services={"app_web": Service(id="s1", spec=spec())})
    found = plan((service(),), seen)
    assert actions(found) == {"app_web": Action.NONE} and not found.changed


def test_a_change_names_the_field_and_both_values() -> None:
    seen = live(services={"app_web": Service(id="s1", spec=spec())})
    step = plan((service(image="app:v2", replicas=3),), seen).steps[0]
    assert (step.action, step.reason, step.position) == (Action.UPDATE, Reason.CHANGED, "a.yaml:3")
    assert [(change.path, change.old, change.new) for change in step.changes] == [
        ("deploy.replicas", 2, 3),
        ("image", "app:v1", "app:v2"),
    ]


def test_what_somebody_else_changed_or_removed_is_told_from_what_the_manifests_ask_for() -> None:
    applied = {("Service", "app_web"): canonical.service(spec())}
    seen = live(services={"app_web": Service(id="s1", spec=spec(replicas=9))})
    found = DesiredSet((service(),), {"app": StackSettings("app")}, {})
    request = planner.Request(found, {}, frozenset({"app"}), baseline=applied)
    step = planner.make(request, seen).steps[0]
    assert (step.action, step.reason, step.is_drift) == (Action.UPDATE, Reason.DRIFTED, True)
    assert [(change.path, change.cause) for change in step.changes] == [("deploy.replicas", Cause.DRIFT)]
    gone = planner.make(request, live()).steps[0]
    assert (gone.action, gone.reason) == (Action.CREATE, Reason.REMOVED)
    meant = replaced(request, desired=DesiredSet((service(image="app:v2"),), found.stacks, {}))
    both = planner.make(meant, seen).steps[0]
    assert both.reason is Reason.CHANGED and len(both.drift) == 1 and [x.path for x in both.intent] == ["image"]


def test_without_replicas_in_the_manifest_the_live_count_stays() -> None:
    seen = live(services={"app_web": Service(id="s1", spec=spec(replicas=7))})
    assert not plan((service(replicas=None),), seen).changed


def test_a_forced_update_by_hand_is_no_difference_and_is_kept() -> None:
    forced = spec()
    forced = replace(forced, task_template=replace(forced.task_template, force_update=3))
    seen = live(services={"app_web": Service(id="s1", spec=forced)})
    assert not plan((service(),), seen).changed
    assert planner.settled(spec(), seen.services["app_web"]).task_template.force_update == 3


def test_networks_are_compared_by_name_though_the_live_spec_has_ids() -> None:
    network = NetworkResource(name="app_net", id="abc", created="", driver="overlay", scope="swarm")
    seen_spec = spec(networks=[NetworkAttachmentConfig(target="abc")])
    seen = live(services={"app_web": Service(id="s1", spec=seen_spec)}, networks={"app_net": network})
    assert not plan((service(networks=[NetworkAttachmentConfig(target="app_net")]),), seen).changed


def test_what_left_the_manifests_goes_if_it_is_ours_and_stays_if_it_is_not() -> None:
    others = ServiceSpec(name="theirs")
    stacked = replace(spec("other"), labels=labels("Service", "other", "another"))
    seen = live(
        services={
            "app_old": Service(id="1", spec=spec("old")),
            "theirs": Service(id="2", spec=others),
            "app_other": Service(id="3", spec=stacked),
        }
    )
    found = plan((service(),), seen)
    assert actions(found) == {"app_web": Action.CREATE, "app_old": Action.DELETE}
    assert not [step for step in plan((service(),), seen, prune=False).steps if step.action is Action.DELETE]


def test_an_object_of_somebody_else_in_the_way_is_refused_by_name() -> None:
    seen = live(services={"app_web": Service(id="1", spec=ServiceSpec(name="app_web"))})
    with pytest.raises(errors.Refused, match=r"a\.yaml:3: service app_web exists and has no label gitops\.kind"):
        plan((service(),), seen)
    foreign = replace(spec(), labels=labels("Service", "web", "another"))
    with pytest.raises(errors.Refused, match="belongs to stack 'another'"):
        plan((service(),), live(services={"app_web": Service(id="1", spec=foreign)}))


def test_a_changed_secret_is_a_new_version_and_the_plan_shows_no_value() -> None:
    old = SecretSpec(name="app_key-aaaaaaaaaaaa", labels=labels("Secret", "key"))
    new = SecretSpec(name="app_key-bbbbbbbbbbbb", labels=labels("Secret", "key"), data=b"hunter2")
    item = desired("Secret", "key", new, canonical.secret(new), new.name)
    step = plan((item,), live(secrets={old.name: Secret(id="1", spec=old)})).steps[0]
    assert (step.action, step.obsolete) == (Action.UPDATE, (old.name,))
    assert "hunter2" not in repr(step) and "hunter2" not in repr(item)
    assert plan((item,), live()).steps[0].action is Action.CREATE
    same = live(secrets={new.name: Secret(id="2", spec=new)})
    assert plan((item,), same).steps[0].action is Action.NONE


def test_versions_of_one_config_are_not_pruned_as_strangers() -> None:
    old = ConfigSpec(name="app_page-aaaaaaaaaaaa", labels=labels("Config", "page"))
    new = ConfigSpec(name="app_page-bbbbbbbbbbbb", labels=labels("Config", "page"), data=b"x")
    item = desired("Config", "page", new, canonical.config(new), new.name)
    found = plan((item,), live(configs={old.name: Config(id="1", spec=old)}))
    assert actions(found) == {new.name: Action.UPDATE}
    gone = plan((service(),), live(configs={old.name: Config(id="1", spec=old)}))
    assert actions(gone)[old.name] is Action.DELETE


def test_a_network_whose_declared_subnet_differs_is_replaced_and_a_chosen_one_is_not() -> None:
    resource = NetworkResource(
        name="app_net",
        id="n",
        created="",
        driver="overlay",
        labels=labels("Network", "net"),
        ipam=IPAM(config=[IPAMConfig(subnet="10.0.1.0/24", gateway="10.0.1.1")]),
    )
    seen = live(networks={"app_net": resource})
    free = NetworkCreate(name="app_net", driver="overlay", labels=labels("Network", "net"))
    assert not plan((desired("Network", "net", free, canonical.network(free)),), seen).changed
    fixed = replace(free, ipam=IPAM(config=[IPAMConfig(subnet="10.7.0.0/24")]))
    found = plan((desired("Network", "net", fixed, canonical.network(fixed)),), seen)
    assert actions(found) == {"app_net": Action.REPLACE}


def image(digest: str) -> ImageInspect:
    return ImageInspect(
        id="sha256:" + "1" * 64,
        repo_tags=["app:v1"],
        repo_digests=[f"app@{digest}"],
        created="",
        config=ContainerConfig(),
        architecture="amd64",
        os="linux",
        size=1,
        root_fs=RootFS(),
    )


def test_an_image_is_there_when_its_name_leads_to_the_wanted_content() -> None:
    old, new = "sha256:" + "a" * 64, "sha256:" + "b" * 64
    source = ImageSource("app:v1", pull="app:v1")
    item = desired("Image", "app", source, {}, "app:v1")
    assert plan((item,), live(), {"app:v1": Known(new)}).steps[0].action is Action.CREATE
    seen = live(images={"app:v1": image(old)})
    assert plan((item,), seen, {"app:v1": Known(old)}).steps[0].action is Action.NONE
    assert plan((item,), seen, {"app:v1": Known("")}).steps[0].action is Action.NONE
    step = plan((item,), seen, {"app:v1": Known(new)}).steps[0]
    assert (step.action, step.changes[0].old, step.changes[0].new) == (Action.UPDATE, old, new)


A, B, C = ("sha256:" + letter * 64 for letter in "abc")


def brought(*versions: str, images: tuple[str, ...] = ()) -> dict[str, record.Record]:
    return {"app": record.Record("app", images=images, brought=versions)}


def test_images_that_an_earlier_apply_brought_go_when_they_left_the_manifests() -> None:
    seen = live(images={"app:v1": image(A)}, records=brought(images=("app:v1",)))
    assert actions(plan((service(image="other:1"),), seen))["app:v1"] is Action.DELETE
    assert "app:v1" not in actions(plan((service(image="app:v1"),), seen)), "a service runs it"
    assert "app:v1" not in actions(plan((service(image="other:1"),), live(records=seen.records))), "it has gone"


def test_an_image_that_left_the_manifests_stays_as_long_as_a_service_would_be_rolled_back_to_it() -> None:
    running = Service(id="s1", spec=spec(image=f"app:v1@{A}"))
    seen = live(
        services={"app_web": running}, images={"app:v1": image(A)}, records=brought(f"app:v1@{A}", images=("app:v1",))
    )
    assert actions(plan((service(image=f"app:v2@{B}"),), seen)) == {"app_web": Action.UPDATE}
    rolled = Service(id="s1", spec=spec(image=f"app:v2@{B}"), previous_spec=running.spec)
    assert actions(plan((service(image=f"app:v2@{B}"),), replace_services(seen, rolled))) == {"app_web": Action.NONE}
    third = plan((service(image=f"app:v3@{C}"),), replace_services(seen, rolled))
    assert actions(third) == {"app_web": Action.UPDATE, "app:v1": Action.DELETE}


def replace_services(seen: Live, *services: Service) -> Live:
    return live(services={item.spec.name: item for item in services}, images=seen.images, records=seen.records)


def test_of_an_image_that_was_rebuilt_the_present_and_the_previous_version_stay() -> None:
    item = desired("Image", "app", ImageSource("app:v1", pull="app:v1"), {}, "app:v1")
    seen = live(images={"app:v1": image(C)}, records=brought(f"app:v1@{A}", f"app:v1@{B}", f"app:v1@{C}"))
    step = plan((item,), seen, {"app:v1": Known(C)}).steps[0]
    assert (step.action, step.obsolete) == (Action.NONE, (f"app@{A}",))
    used = replace_services(
        seen, Service(id="s1", spec=replace(spec(image=f"app:v1@{A}"), name="elsewhere", labels={}))
    )
    assert plan((item,), used, {"app:v1": Known(C)}).steps[0].obsolete == ()


def test_a_paused_update_goes_on_when_the_same_manifests_are_applied_again() -> None:
    paused = Service(id="s1", spec=spec(), update_status=UpdateStatus(state="paused"))
    step = plan((service(),), live(services={"app_web": paused})).steps[0]
    assert (step.action, step.reason, step.changes) == (Action.UPDATE, Reason.PAUSED, ())


def ported(name: str, *numbers: int) -> Desired:
    ports = [PortConfig(target_port=80, published_port=number) for number in numbers]
    value = replace(spec(name), endpoint_spec=EndpointSpec(ports=ports))
    return desired("Service", name, value, canonical.service(value))


def test_a_port_that_another_service_keeps_is_refused_before_anything_is_done() -> None:
    other = replace(
        spec("x"), name="other_x", labels={}, endpoint_spec=EndpointSpec(ports=[PortConfig(published_port=80)])
    )
    found = plan((ported("web", 80),), live(services={"other_x": Service(id="1", spec=other)}))
    assert found.refused == ("service app_web can't publish port 80/tcp: service other_x has it",)
    twice = plan((ported("a", 81), ported("b", 81)), live())
    assert twice.refused == ("service app_b can't publish port 81/tcp: service app_a has it",)


def test_a_port_that_a_removed_or_changed_service_leaves_is_free() -> None:
    old = Service(id="1", spec=cast(ServiceSpec, ported("old", 80).spec))
    assert not plan((ported("new", 80),), live(services={"app_old": old})).refused
    assert not plan((ported("new", 80), ported("old", 81)), live(services={"app_old": old})).refused


def test_what_cannot_be_changed_in_place_is_refused_in_the_plan() -> None:
    volume = VolumeCreate(name="app_data", labels=labels("Volume", "data"), driver_opts={"type": "tmpfs"})
    item = desired("Volume", "data", volume, canonical.volume(volume))
    found = plan((item,), live(volumes={"app_data": Volume(name="app_data", labels=labels("Volume", "data"))}))
    assert len(found.refused) == 1 and "can't be changed in place" in found.refused[0]


@pytest.mark.parametrize(
    ("changed", "note"),
    [
        ({"replicas": 5}, "no task is restarted"),
        ({"image": "app:v2"}, "2 tasks replaced, 1 at a time"),
        ({"image": "app:v2", "replicas": 1}, "1 task replaced, all at once"),
    ],
)
def test_the_plan_says_what_an_update_does_to_what_runs(changed: dict[str, Any], note: str) -> None:
    seen = live(services={"app_web": Service(id="s1", spec=spec())})
    assert plan((service(**changed),), seen).steps[0].note == note


def test_an_external_object_that_is_missing_is_an_error_at_its_manifest() -> None:
    wanted = desired("Network", "net", NetworkCreate(name="net"), {}, "net")
    found = DesiredSet((), {"app": StackSettings("app")}, {}, externals=(wanted,))
    with pytest.raises(errors.InvalidManifest, match=r"a\.yaml:3:1: spec\.external: the engine has no network 'net'"):
        planner.make(planner.Request(found, {}, frozenset({"app"})), live())


def test_what_no_node_can_hold_is_said_with_the_count_and_the_reason() -> None:
    resources = ResourceRequirements(reservations=Resources(nano_cpus=10**9))
    found = plan((service(replicas=3, resources=resources),), live())
    assert [(item.service, item.count) for item in found.unplaced] == [("app_web", 1)]
    assert "insufficient resources on 1 node" in found.unplaced[0].reason


def test_an_updated_service_is_not_counted_twice_when_its_place_is_predicted() -> None:
    resources = ResourceRequirements(reservations=Resources(nano_cpus=2 * 10**9))
    seen = live(services={"app_web": Service(id="s1", spec=spec(replicas=1, resources=resources))})
    found = plan((service(image="app:v2", replicas=1, resources=resources),), seen)
    assert found.steps[0].action is Action.UPDATE and not found.unplaced
