"""What is said of a service before its schedule is known, by mode."""

from __future__ import annotations

import pytest

from gitops.objects.service import (
    ContainerSpec,
    Global,
    GlobalJob,
    Replicated,
    ReplicatedJob,
    Service,
    ServiceMode,
    ServiceSpec,
    TaskSpec,
    UpdateConfig,
)
from gitops.reconciler import effects
from gitops.reconciler.diff import FieldChange

REPLICATED = ServiceMode(replicated=Replicated(replicas=3))
GLOBAL = ServiceMode(global_=Global())
JOB = ServiceMode(replicated_job=ReplicatedJob(max_concurrent=2, total_completions=5))
GLOBAL_JOB = ServiceMode(global_job=GlobalJob())


def spec(mode: ServiceMode, **update: object) -> ServiceSpec:
    template = TaskSpec(container_spec=ContainerSpec(image="app:v1@sha256:" + "a" * 64))
    config = UpdateConfig(**update) if update else None  # type: ignore[arg-type]
    return ServiceSpec(name="web", task_template=template, mode=mode, update_config=config)


@pytest.mark.parametrize(
    ("mode", "text"),
    [
        (REPLICATED, "app:v1, 3 tasks"),
        (ServiceMode(), "app:v1, 1 task"),
        (GLOBAL, "app:v1, a task on each node that fits"),
        (JOB, "app:v1, 5 tasks run to the end, 2 at a time"),
        (ServiceMode(replicated_job=ReplicatedJob()), "app:v1, 1 task run to the end"),
        (GLOBAL_JOB, "app:v1, a task run once on each node that fits"),
    ],
)
def test_a_new_service_is_told_by_its_mode(mode: ServiceMode, text: str) -> None:
    assert effects.creation(spec(mode)) == text


@pytest.mark.parametrize(
    ("mode", "path", "text"),
    [
        (REPLICATED, "image", "3 tasks replaced, 1 at a time"),
        (GLOBAL, "image", "the task of each node replaced, 1 at a time"),
        (GLOBAL, "deploy.labels.a", "no task is restarted"),
        (GLOBAL, "deploy.placement.constraints", "tasks move where their node doesn't fit any more"),
        (JOB, "deploy.labels.a", "runs anew: 5 tasks run to the end, 2 at a time"),
        (GLOBAL_JOB, "image", "runs anew: a task run once on each node that fits"),
    ],
)
def test_an_update_is_told_by_its_mode(mode: ServiceMode, path: str, text: str) -> None:
    assert effects.update([FieldChange(path, 1, 2)], Service(spec=spec(mode)), spec(mode)) == text


def test_an_update_of_a_global_service_says_its_pace_and_order() -> None:
    wanted = spec(GLOBAL, parallelism=0, order="start-first")
    told = effects.update([FieldChange("image", 1, 2)], Service(spec=wanted), wanted)
    assert told == "the task of each node replaced, all at once, the new ones first"
