"""Random clusters, services and changes, all from one source of randomness: the same seed gives the same ones."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from gitops.objects.base import SECOND
from gitops.objects.node import NodeSpec
from gitops.objects.service import (
    ContainerSpec,
    EndpointSpec,
    Global,
    GlobalJob,
    Placement,
    PlacementPreference,
    PortConfig,
    Replicated,
    ReplicatedJob,
    ResourceRequirements,
    Resources,
    RestartPolicy,
    ServiceMode,
    ServiceSpec,
    SpreadOver,
    TaskSpec,
    UpdateConfig,
)
from gitops.objects.task import Task
from gitops.simulation.executor import Behaviour
from gitops.swarm.scheduling import modes

GIB = 1 << 30
_CONSTRAINTS = ("node.labels.disk==ssd", "node.labels.disk!=ssd", "node.labels.zone!=a", "node.hostname!=n1")


@dataclass(frozen=True, slots=True)
class Host:
    """A node to be: its spec and what it has."""

    id: str
    spec: NodeSpec
    resources: Resources


def hosts(rng: random.Random, count: int) -> list[Host]:
    """So many nodes, of different sizes and labels; one in ten is paused or drained."""
    return [
        Host(
            id=f"n{number}",
            spec=NodeSpec(
                name=f"n{number}",
                labels={"disk": rng.choice(["ssd", "hdd"]), "zone": rng.choice("abc")},
                availability=rng.choice(["active"] * 18 + ["pause", "drain"]),
            ),
            resources=Resources(nano_cpus=rng.choice([2, 4, 8]) * SECOND, memory_bytes=rng.choice([2, 4, 8]) * GIB),
        )
        for number in range(1, count + 1)
    ]


def service(rng: random.Random, name: str, port: int, kinds: Sequence[str] = (modes.REPLICATED,)) -> ServiceSpec:
    """A service of one of the modes `kinds`; `port` is one that it may take on its hosts."""
    has_port = rng.random() < 0.15
    mode = _MODES[rng.choice(kinds)](rng)
    is_job = modes.is_job(mode)
    policy = RestartPolicy(delay=rng.choice([0, 1, 5]) * SECOND, condition="on-failure" if is_job else "any")
    spec = ServiceSpec(
        name=name,
        task_template=TaskSpec(
            container_spec=ContainerSpec(image="app:v1"), resources=_resources(rng), restart_policy=policy
        ),
        mode=mode,
        update_config=None if is_job else _update(rng),
        endpoint_spec=EndpointSpec(ports=[_host_port(port)]) if has_port and not is_job else None,
    )
    return _new_placement(rng, spec)


def change(rng: random.Random, spec: ServiceSpec) -> ServiceSpec:
    """The same service with one to three things changed; sometimes with none."""
    is_job = modes.is_job(spec.mode)
    for _ in range(rng.randint(1, 3)):
        spec = rng.choice([item for item in _CHANGES if not (is_job and item is _new_update)])(rng, spec)
    return spec


def node_change(rng: random.Random, spec: NodeSpec) -> NodeSpec:
    """A node that is taken out of use, or comes back, or has another label."""
    if rng.random() < 0.5:
        return replace(spec, labels={"disk": rng.choice(["ssd", "hdd"]), "zone": rng.choice("abc")})
    return replace(
        spec, availability=rng.choice([it for it in ("active", "pause", "drain") if it != spec.availability])
    )


def behaviour(rng: random.Random) -> Callable[[Task], Behaviour]:
    """How long tasks take; all alike, and none takes longer to stop than another to start. Those of jobs end."""
    prepare_s, start_s = round(rng.uniform(0.3, 1.0), 2), round(rng.uniform(0.3, 1.0), 2)
    stop_s = round(rng.uniform(0.2, 0.9) * (prepare_s + start_s), 2)
    runs, ends = (
        Behaviour(prepare_s, start_s, stop_s),
        Behaviour(prepare_s, start_s, stop_s, exits_after_s=(prepare_s + start_s) / 2),
    )
    return lambda task: runs if task.job_iteration is None else ends


def _host_port(port: int) -> PortConfig:
    return PortConfig(target_port=80, published_port=port, publish_mode="host")


def _resources(rng: random.Random) -> ResourceRequirements | None:
    memory, cpus = rng.choice([0, 0, GIB // 4, GIB // 2, GIB, 3 * GIB]), rng.choice([0, 0, 0, SECOND // 2, SECOND])
    return ResourceRequirements(reservations=Resources(nano_cpus=cpus, memory_bytes=memory)) if memory + cpus else None


def _placement(rng: random.Random) -> Placement | None:
    spread = PlacementPreference(spread=SpreadOver(spread_descriptor=f"node.labels.{rng.choice(['zone', 'disk'])}"))
    return rng.choice(
        [
            None,
            None,
            None,
            Placement(constraints=[rng.choice(_CONSTRAINTS)]),
            Placement(preferences=[spread]),
            Placement(max_replicas=rng.randint(1, 3)),
        ]
    )


def _replicas(rng: random.Random) -> ServiceMode:
    return ServiceMode(replicated=Replicated(replicas=rng.choice([0, 1, 1, 2, 3, 4, 5, 6, 8])))


def _completions(rng: random.Random) -> ServiceMode:
    count = rng.choice([0, 1, 2, 3, 5, 7])
    return ServiceMode(
        replicated_job=ReplicatedJob(max_concurrent=rng.choice([1, 2, 2, 3, 8]), total_completions=count)
    )


_MODES: dict[str, Callable[[random.Random], ServiceMode]] = {
    modes.REPLICATED: _replicas,
    modes.GLOBAL: lambda rng: ServiceMode(global_=Global()),
    modes.REPLICATED_JOB: _completions,
    modes.GLOBAL_JOB: lambda rng: ServiceMode(global_job=GlobalJob()),
}


def _update(rng: random.Random) -> UpdateConfig:
    return UpdateConfig(
        parallelism=rng.choice([0, 1, 1, 2, 2, 3]),
        delay=rng.choice([0, 0, 2, 10]) * SECOND,
        monitor=rng.choice([1, 3, 5]) * SECOND,
        order=rng.choice(["stop-first", "start-first"]),
    )


def _with_template(spec: ServiceSpec, template: TaskSpec) -> ServiceSpec:
    return replace(spec, task_template=template)


def _new_image(rng: random.Random, spec: ServiceSpec) -> ServiceSpec:
    container = ContainerSpec(image=f"app:v{rng.randint(1, 4)}")
    return _with_template(spec, replace(spec.task_template, container_spec=container))


def _new_update(rng: random.Random, spec: ServiceSpec) -> ServiceSpec:
    return replace(spec, update_config=_update(rng))


def _new_placement(rng: random.Random, spec: ServiceSpec) -> ServiceSpec:
    placement = _placement(rng)
    if modes.is_by_node(spec.mode) and placement is not None:
        placement = replace(placement, max_replicas=0)
    return _with_template(spec, replace(spec.task_template, placement=placement))


_CHANGES = (
    _new_image,
    _new_image,
    _new_image,
    _new_update,
    _new_placement,
    lambda rng, spec: replace(spec, mode=_MODES[modes.mode_of(spec.mode)](rng)),
    lambda rng, spec: replace(spec, labels={"a": str(rng.random())}),
    lambda rng, spec: _with_template(spec, replace(spec.task_template, resources=_resources(rng))),
    lambda rng, spec: _with_template(spec, replace(spec.task_template, force_update=rng.randint(1, 9))),
)


def names(count: int) -> Sequence[str]:
    """Names for services."""
    return [f"service-{number}" for number in range(1, count + 1)]
