"""What a plan says of the schedule: counts by node, batches, the least that runs, what can't be placed and why."""

from __future__ import annotations

from dataclasses import replace as replaced
from typing import Any

import pytest
from msgspec.structs import replace

from gitops.objects.base import SECOND, Version, format_time
from gitops.objects.network import NetworkResource
from gitops.objects.node import Node, NodeDescription, NodeSpec, NodeStatus
from gitops.objects.service import (
    ContainerSpec,
    Endpoint,
    EndpointSpec,
    Global,
    GlobalJob,
    HealthConfig,
    JobStatus,
    NetworkAttachmentConfig,
    Placement,
    PortConfig,
    Replicated,
    ReplicatedJob,
    ResourceRequirements,
    Resources,
    Service,
    ServiceMode,
    ServiceSpec,
    TaskSpec,
    UpdateConfig,
)
from gitops.objects.task import Task, TaskState, TaskStatus
from gitops.reconciler.forecast import LostNode, ServiceForecast
from gitops.reconciler.live import Live
from gitops.reconciler.prediction import Prediction, predict
from gitops.reconciler.pulls import Supply
from gitops.swarm.scheduling import modes

GIB = 1 << 30


def node(name: str, *, memory: int = 8 * GIB, **spec: Any) -> Node:
    return Node(
        id=f"id-{name}",
        spec=NodeSpec(**spec),
        status=NodeStatus(state="ready"),
        description=NodeDescription(hostname=name, resources=Resources(nano_cpus=4 * SECOND, memory_bytes=memory)),
    )


def spec(
    replicas: int = 2, image: str = "app:v1", *, memory: int = 0, ports: list[PortConfig] | None = None, **more: Any
) -> ServiceSpec:
    container = ContainerSpec(image=image, healthcheck=more.pop("healthcheck", None))
    reserved = ResourceRequirements(reservations=Resources(memory_bytes=memory)) if memory else None
    template = TaskSpec(
        container_spec=container,
        resources=reserved,
        placement=more.pop("placement", None),
        networks=more.pop("networks", []),
    )
    mode = ServiceMode(replicated=Replicated(replicas=replicas))
    endpoint = EndpointSpec(ports=ports) if ports else None
    return ServiceSpec(name="web", task_template=template, mode=mode, endpoint_spec=endpoint, **more)


def running(wanted: ServiceSpec, nodes: list[Node], **more: Any) -> Live:
    """A service whose tasks run, one after the other on `nodes`."""
    service = Service(id="s1", spec=wanted, spec_version=Version(5), created_at=format_time(1))
    count = wanted.mode.replicated.replicas if wanted.mode.replicated else 0
    tasks = [
        Task(
            id=f"t{slot}",
            service_id="s1",
            slot=slot,
            spec=wanted.task_template,
            spec_version=Version(5),
            created_at=format_time(slot),
            endpoint=Endpoint(spec=wanted.endpoint_spec),
            node_id=nodes[(slot - 1) % len(nodes)].id,
            status=TaskStatus(state=TaskState.RUNNING, timestamp=format_time(slot)),
        )
        for slot in range(1, (count or 0) + 1)
    ]
    return Live(services={"web": service}, nodes=tuple(nodes), tasks=tuple(tasks), **more)


def follow(wanted: ServiceSpec | None, live: Live) -> tuple[ServiceForecast, Prediction]:
    found = predict({} if wanted is None else {"web": wanted}, () if wanted else ("web",), live)
    return found.forecast.services["web"], found


TWO = [node("a"), node("b")]


def test_a_new_service_is_spread_over_the_nodes() -> None:
    found, whole = follow(spec(replicas=3), Live(nodes=tuple(TWO)))
    assert (found.before, found.after, found.created) == ({}, {"a": 2, "b": 1}, (1, 2, 3))
    assert (found.min_healthy, found.has_outage, found.batches, found.wanted) == (0, False, (), 3)
    assert [(item.hostname, item.tasks) for item in whole.forecast.nodes] == [("a", 2), ("b", 1)]
    assert not whole.unplaced


def test_an_update_goes_in_batches_with_as_many_running_as_it_leaves() -> None:
    update = UpdateConfig(parallelism=2, delay=10 * SECOND, monitor=5 * SECOND)
    live = running(spec(replicas=5, update_config=update), TWO)
    found, _ = follow(spec(replicas=5, image="app:v2", update_config=update), live)
    assert found.batches == ((1, 2), (3, 4), (5,))
    assert (found.order, found.restarted, found.min_healthy, found.has_outage) == (
        "stop-first",
        (1, 2, 3, 4, 5),
        3,
        False,
    )
    # Two delays, and a last look that is a second longer than a delay beyond the monitor time.
    assert found.best_case_s == 31.0
    assert found.after == {"a": 3, "b": 2}


def test_start_first_never_runs_less_and_waits_for_the_first_health_check() -> None:
    settings: dict[str, Any] = {
        "update_config": UpdateConfig(order="start-first", monitor=2 * SECOND),
        "healthcheck": HealthConfig(test=["CMD", "true"], interval=7 * SECOND),
    }
    found, _ = follow(spec(image="app:v2", **settings), running(spec(**settings), TWO))
    assert (found.order, found.batches, found.min_healthy) == ("start-first", ((1,), (2,)), 2)
    assert found.best_case_s == 16.0


def test_one_replica_that_stops_first_is_an_outage() -> None:
    found, _ = follow(spec(1, "app:v2"), running(spec(1), TWO))
    assert (found.min_healthy, found.has_outage) == (0, True)


def test_what_no_task_needs_restarts_none() -> None:
    network = NetworkResource(id="net1", name="back", created="")
    live = running(spec(networks=[NetworkAttachmentConfig(target="net1")]), TWO, networks={"back": network})
    wanted = spec(networks=[NetworkAttachmentConfig(target="back")], labels={"a": "b"})
    found, _ = follow(wanted, live)
    assert (found.restarted, found.batches, found.min_healthy, found.best_case_s) == ((), (), 2, 0.0)


def test_a_scale_down_takes_what_keeps_the_nodes_even() -> None:
    found, _ = follow(spec(2), running(spec(5), TWO))
    assert (found.removed, found.after, found.min_healthy) == ((3, 4, 5), {"a": 1, "b": 1}, 2)


def test_a_service_that_is_deleted_leaves_its_nodes() -> None:
    found, whole = follow(None, running(spec(3), TWO))
    assert (found.before, found.after, found.wanted, found.removed) == ({"a": 2, "b": 1}, {}, 0, (1, 2, 3))
    assert [item.tasks for item in whole.forecast.nodes] == [0, 0]


def test_a_refusal_says_the_dimension_and_how_much_is_short() -> None:
    nodes = (
        node("a", memory=GIB),
        node("b", memory=2 * GIB),
        node("c", labels={"disk": "hdd"}),
        node("d", availability="drain"),
    )
    wanted = spec(1, memory=3 * GIB + GIB // 2, placement=Placement(constraints=["node.labels.disk != hdd"]))
    _, whole = follow(wanted, Live(nodes=nodes))
    assert [(item.dimension, item.nodes, item.text) for item in whole.unplaced[0].refusals] == [
        ("memory", 2, "memory exhausted on 2 nodes: 1.5 GiB short"),
        ("node", 1, "1 node can't be used: drain"),
        ("constraint", 1, "constraint node.labels.disk != hdd refuses 1 node"),
    ]
    assert "no suitable node" in whole.unplaced[0].reason


def test_start_first_without_room_beside_the_old_task_is_blocked() -> None:
    settings = {"memory": 5 * GIB, "update_config": UpdateConfig(order="start-first")}
    found, whole = follow(spec(2, "app:v2", **settings), running(spec(2, **settings), TWO))
    assert found.blocked == (
        "slot 1 finds no node beside the task that it replaces: memory exhausted on 2 nodes: 2 GiB short"
    )
    assert (found.batches, found.min_healthy) == (((1,),), 2)
    assert [item.count for item in whole.unplaced] == [1]


@pytest.mark.parametrize("ports", [[PortConfig(target_port=80, published_port=80, publish_mode="host")]])
def test_a_host_port_is_taken_over_from_the_task_that_stops(ports: list[PortConfig]) -> None:
    update = UpdateConfig(order="start-first")
    live = running(spec(2, ports=ports, update_config=update), TWO)
    found, whole = follow(spec(2, "app:v2", ports=ports, update_config=update), live)
    assert (found.order, found.blocked, found.min_healthy) == ("stop-first", "", 1)
    assert not whole.unplaced
    _, whole = follow(spec(3, ports=ports, update_config=update), live)
    assert whole.unplaced[0].refusals[0].text == "host port 80/tcp is in use on 2 nodes"


def test_the_loss_of_a_node_is_felt_where_the_others_have_no_room() -> None:
    nodes = [*TWO, node("c", labels={"disk": "ssd"})]
    _, whole = follow(spec(3, memory=5 * GIB), Live(nodes=tuple(nodes)))
    assert {(item.hostname, item.service, item.missing) for item in whole.forecast.lost} == {
        ("a", "web", 1),
        ("b", "web", 1),
        ("c", "web", 1),
    }
    _, whole = follow(spec(2, memory=5 * GIB), Live(nodes=tuple(nodes)))
    assert whole.forecast.lost == ()
    wanted = spec(2, placement=Placement(constraints=["node.labels.disk==ssd"]))
    _, whole = follow(wanted, Live(nodes=tuple(nodes)))
    reason = "no suitable node (scheduling constraints not satisfied on 2 nodes)"
    assert whole.forecast.lost == (LostNode("c", "web", 2, reason),)
    _, whole = follow(wanted, Live(nodes=(nodes[2],)))
    assert whole.forecast.lost == ()


def test_an_engine_that_shows_neither_endpoints_nor_versions_is_understood() -> None:
    ports = [PortConfig(target_port=80, published_port=8080)]
    live = running(spec(3, ports=ports), TWO)
    plain = [replace(task, endpoint=None, spec_version=Version()) for task in live.tasks]
    live = Live(
        services={"web": replace(live.services["web"], spec_version=Version())}, nodes=live.nodes, tasks=tuple(plain)
    )
    assert follow(spec(3, ports=ports, labels={"a": "b"}), live)[0].restarted == ()
    assert follow(spec(3, "app:v2", ports=ports), live)[0].restarted == (1, 2, 3)


def one_each(image: str = "app:v1", **more: Any) -> ServiceSpec:
    """A global service."""
    return replace(spec(image=image, **more), mode=ServiceMode(global_=Global()))


def on_each(
    wanted: ServiceSpec, nodes: list[Node], state: TaskState = TaskState.RUNNING, on: int | None = None
) -> Live:
    """A service that has a task on each of the first `on` nodes."""
    service = Service(id="s1", spec=wanted, spec_version=Version(5), created_at=format_time(1), job_status=JobStatus())
    is_job = modes.is_job(wanted.mode)
    tasks = [
        Task(
            id=f"t{number}",
            service_id="s1",
            spec=wanted.task_template,
            spec_version=Version(5),
            created_at=format_time(number),
            endpoint=Endpoint(spec=wanted.endpoint_spec),
            node_id=each.id,
            is_by_node=True,
            job_iteration=Version(0) if is_job else None,
            desired_state=modes.goal(wanted.mode),
            status=TaskStatus(state=state, timestamp=format_time(number)),
        )
        for number, each in enumerate(nodes[:on], start=1)
    ]
    return Live(services={"web": service}, nodes=tuple(nodes), tasks=tuple(tasks))


THREE = [*TWO, node("c")]


def test_a_new_global_service_has_a_task_on_each_node_that_fits_and_is_in_use() -> None:
    nodes = [*THREE, node("d", availability="drain"), node("e", labels={"disk": "hdd"})]
    wanted = one_each(placement=Placement(constraints=["node.labels.disk != hdd"]))
    found, whole = follow(wanted, Live(nodes=tuple(nodes)))
    assert (found.mode, found.wanted, found.after) == ("global", 3, {"a": 1, "b": 1, "c": 1})
    assert (found.created, found.batches, found.blocked) == (("a", "b", "c"), (), "")
    assert whole.unplaced == ()


def test_a_global_service_is_updated_node_by_node() -> None:
    update = UpdateConfig(parallelism=2, delay=10 * SECOND, monitor=5 * SECOND)
    live = on_each(one_each(update_config=update), THREE)
    found, _ = follow(one_each("app:v2", update_config=update), live)
    assert (found.batches, found.restarted) == ((("a", "b"), ("c",)), ("a", "b", "c"))
    assert (found.order, found.min_healthy, found.has_outage, found.best_case_s) == ("stop-first", 1, False, 21.0)
    assert found.before == found.after == {"a": 1, "b": 1, "c": 1}
    alone, _ = follow(one_each("app:v2"), on_each(one_each(), THREE[:1]))
    assert (alone.min_healthy, alone.has_outage) == (0, True)


def test_a_tighter_constraint_takes_a_global_service_off_its_nodes_and_a_wider_one_brings_it() -> None:
    nodes = [*TWO, node("c", labels={"disk": "ssd"})]
    only = one_each(placement=Placement(constraints=["node.labels.disk == ssd"]))
    found, _ = follow(only, on_each(one_each(), nodes))
    assert (found.removed, found.created, found.restarted, found.after) == (("a", "b"), (), (), {"c": 1})
    found, _ = follow(one_each(), on_each(only, [nodes[2], *TWO], on=1))
    assert (found.removed, found.created, found.wanted) == ((), ("a", "b"), 3)


def test_a_global_service_that_one_node_has_no_room_for_says_which() -> None:
    nodes = [node("a"), node("b", memory=GIB)]
    found, whole = follow(one_each(memory=2 * GIB), Live(nodes=tuple(nodes)))
    assert (found.after, found.wanted) == ({"a": 1}, 2)
    assert [(item.count, item.reason) for item in whole.unplaced] == [
        (1, "no suitable node (insufficient resources on 1 node)")
    ]
    assert [item.text for item in whole.unplaced[0].refusals] == ["memory exhausted on 1 node: 1 GiB short"]
    settings = {"memory": 5 * GIB, "update_config": UpdateConfig(order="start-first")}
    found, _ = follow(one_each("app:v2", **settings), on_each(one_each(**settings), TWO))
    assert found.blocked == (
        "node a can't take its task beside the task that it replaces: memory exhausted on 1 node: 2 GiB short"
    )


def test_the_loss_of_a_node_takes_nothing_from_a_service_by_node() -> None:
    _, whole = follow(one_each(memory=5 * GIB), Live(nodes=tuple(TWO)))
    assert whole.forecast.lost == ()


def job(completions: int, at_once: int, image: str = "app:v1", **more: Any) -> ServiceSpec:
    mode = ServiceMode(replicated_job=ReplicatedJob(max_concurrent=at_once, total_completions=completions))
    return replace(spec(image=image, **more), mode=mode)


def test_a_job_runs_in_rounds_and_to_its_end() -> None:
    found, _ = follow(job(5, 2), Live(nodes=tuple(TWO)))
    assert (found.mode, found.wanted, found.completed) == ("replicated-job", 5, 5)
    assert found.batches == ((0, 1), (2, 3), (4,))
    assert found.after == {"a": 3, "b": 2}
    assert (found.created, found.min_healthy, found.has_outage, found.order) == ((0, 1, 2, 3, 4), 0, False, "")


def test_a_job_with_room_for_fewer_than_may_run_takes_more_time_and_ends() -> None:
    found, whole = follow(job(4, 4, memory=6 * GIB), Live(nodes=tuple(TWO)))
    assert (found.completed, found.blocked, whole.unplaced) == (4, "", ())
    assert found.after == {"a": 2, "b": 2}
    never, whole = follow(job(4, 2, memory=9 * GIB), Live(nodes=tuple(TWO)))
    assert never.blocked == "slot 0 finds no node: memory exhausted on 2 nodes: 1 GiB short"
    assert [item.count for item in whole.unplaced] == [2]


def test_a_job_that_runs_is_stopped_and_runs_anew_whatever_changed() -> None:
    wanted = replace(spec(), mode=ServiceMode(global_job=GlobalJob()))
    found, _ = follow(replace(wanted, labels={"a": "b"}), on_each(wanted, TWO))
    assert (found.batches, found.restarted, found.removed) == ((("a", "b"),), ("a", "b"), ())
    assert (found.completed, found.wanted, found.after) == (2, 2, {"a": 1, "b": 1})
    found, _ = follow(replace(wanted, labels={"a": "b"}), on_each(wanted, TWO, TaskState.COMPLETE))
    assert (found.restarted, found.created) == ((), ("a", "b"))


def test_a_job_that_only_one_node_can_run_hangs_on_that_node() -> None:
    nodes = (*TWO, node("c", labels={"disk": "ssd"}))
    _, whole = follow(job(4, 2, placement=Placement(constraints=["node.labels.disk==ssd"])), Live(nodes=nodes))
    reason = "no suitable node (scheduling constraints not satisfied on 2 nodes)"
    assert whole.forecast.lost == (LostNode("c", "web", 4, reason),)
    _, whole = follow(job(4, 2), Live(nodes=nodes))
    assert whole.forecast.lost == ()


def test_what_is_removed_makes_room_only_when_all_else_is_there() -> None:
    live = running(spec(1, memory=6 * GIB), TWO[:1])
    new = replace(spec(1, memory=6 * GIB), name="new")
    found = predict({"new": new}, {"web"}, live)
    assert [(item.service, item.count) for item in found.unplaced] == [("new", 1)]
    assert found.forecast.services["web"].after == {"a": 1}
    assert [item.text for item in found.unplaced[0].refusals] == [
        "memory exhausted on 1 node: 4 GiB short",
        "there is room once what the plan removes is gone, which goes last: remove it by an apply of its own first",
    ]
    larger = predict({"new": replace(spec(1, memory=9 * GIB), name="new")}, {"web"}, live)
    assert [item.dimension for item in larger.unplaced[0].refusals] == ["memory"]
    # It goes first where the new one takes its port.
    found = predict({"new": new}, {"web"}, live, {"web"})
    assert (found.unplaced, found.forecast.services["new"].after) == ((), {"a": 1})


def test_a_mode_that_would_change_is_not_followed() -> None:
    assert predict({"web": one_each()}, (), running(spec(), TWO)).forecast.services == {}


def test_what_goes_on_beside_a_plan_goes_on() -> None:
    gone = node("a", availability="drain")
    live = running(replace(spec(2), name="other"), [gone, *TWO[1:]])
    found = predict({"web": spec(1)}, (), replaced(live, services={"other": live.services["web"]}))
    assert [(item.hostname, item.tasks) for item in found.forecast.nodes] == [("a", 0), ("b", 3)]


def test_nodes_that_lack_an_image_pull_it_and_of_others_it_is_unknown() -> None:
    supply = Supply({"id-a": frozenset({"app@sha256:" + "1" * 64}), "id-b": frozenset()}, {"app:v1": 7 << 20})
    live = Live(nodes=tuple(THREE))
    found = predict({"web": spec(3)}, (), live, (), supply).forecast.services["web"]
    assert (found.pulls, found.pulls_unknown) == ({"a": 7 << 20, "b": 7 << 20}, ("c",))
    pinned = spec(3, "app:v1@sha256:" + "1" * 64)
    found = predict({"web": pinned}, (), live, (), supply).forecast.services["web"]
    assert (found.pulls, found.pulls_unknown) == ({"b": None}, ("c",))
    # Where nothing is made, nothing is pulled.
    found = predict({"web": spec(2, labels={"a": "b"})}, (), running(spec(2), THREE), (), supply)
    assert (found.forecast.services["web"].pulls, found.forecast.services["web"].pulls_unknown) == ({}, ())
