"""Swarm mode's defaults where a spec leaves a field out (Docker's documented values), and the filling in of them."""

from __future__ import annotations

from msgspec.structs import replace

from gitops.objects.base import SECOND
from gitops.objects.service import (
    ContainerSpec,
    EndpointSpec,
    Placement,
    Replicated,
    ReplicatedJob,
    ResourceRequirements,
    RestartPolicy,
    ServiceMode,
    ServiceSpec,
    UpdateConfig,
)

REPLICAS = 1
MAX_CONCURRENT = 1
STOP_GRACE_PERIOD = 10 * SECOND
RESTART_CONDITION = "any"
RESTART_DELAY = 5 * SECOND
UPDATE_PARALLELISM = 1
UPDATE_MONITOR = 5 * SECOND
UPDATE_FAILURE_ACTION = "pause"
UPDATE_ORDER = "stop-first"
ENDPOINT_MODE = "vip"
HEALTH_INTERVAL = 30 * SECOND
HEALTH_TIMEOUT = 30 * SECOND
HEALTH_START_INTERVAL = 5 * SECOND
HEALTH_RETRIES = 3
TASK_TIMEOUT_S = 60.0
"""Seconds that a replacement waits for its predecessor to stop."""


def update_config(config: UpdateConfig | None) -> UpdateConfig:
    """`config` with every field set; parallelism 0 stays 0 (all at once)."""
    given = config or UpdateConfig()
    return replace(
        given,
        parallelism=UPDATE_PARALLELISM if given.parallelism is None else given.parallelism,
        failure_action=given.failure_action or UPDATE_FAILURE_ACTION,
        # Docker documents that 0 means the default, too.
        monitor=given.monitor or UPDATE_MONITOR,
        order=given.order or UPDATE_ORDER,
    )


def restart_policy(policy: RestartPolicy | None) -> RestartPolicy:
    """`policy` with every field set."""
    given = policy or RestartPolicy()
    return replace(
        given,
        condition=given.condition or RESTART_CONDITION,
        delay=RESTART_DELAY if given.delay is None else given.delay,
        max_attempts=given.max_attempts or 0,
        window=given.window or 0,
    )


def fill_mode(mode: ServiceMode) -> ServiceMode:
    """`mode` with its counts set: one replica; of a job one task at a time, and as many in all as at a time."""
    job = mode.replicated_job
    if job is not None:
        at_a_time = MAX_CONCURRENT if job.max_concurrent is None else job.max_concurrent
        total = at_a_time if job.total_completions is None else job.total_completions
        return replace(mode, replicated_job=ReplicatedJob(max_concurrent=at_a_time, total_completions=total))
    if mode.global_ is not None or mode.global_job is not None:
        return mode
    count = mode.replicated.replicas if mode.replicated else None
    return ServiceMode(replicated=Replicated(replicas=REPLICAS if count is None else count))


def fill(spec: ServiceSpec) -> ServiceSpec:
    """`spec` as `?insertDefaults=true` shows it, and as two specs are compared."""
    template = spec.task_template
    container = template.container_spec or ContainerSpec()
    if container.stop_grace_period is None:
        container = replace(container, stop_grace_period=STOP_GRACE_PERIOD)
    mode = fill_mode(spec.mode)
    is_job = mode.replicated_job is not None or mode.global_job is not None
    endpoint = spec.endpoint_spec or EndpointSpec()
    return replace(
        spec,
        mode=mode,
        task_template=replace(
            template,
            container_spec=container,
            resources=template.resources or ResourceRequirements(),
            restart_policy=restart_policy(template.restart_policy),
            placement=template.placement or Placement(),
            runtime=template.runtime or "container",
        ),
        # Jobs aren't updated, they run anew.
        update_config=None if is_job else update_config(spec.update_config),
        rollback_config=None if is_job else update_config(spec.rollback_config),
        endpoint_spec=replace(endpoint, mode=endpoint.mode or ENDPOINT_MODE),
    )
