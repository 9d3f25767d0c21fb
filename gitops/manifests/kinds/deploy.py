"""How a service is spread, updated, restarted and limited: Compose's `deploy`."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from gitops.manifests.kinds import placement
from gitops.manifests.kinds.base import Model, optional
from gitops.manifests.kinds.findings import Findings, problem
from gitops.manifests.kinds.values import Count, Cpus, Duration, Labels, Memory


def _ratio(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise problem("must be a number from 0 to 1", "as in 0.2")
    return float(value)


class UpdateConfig(Model):
    """How an update goes through the tasks."""

    parallelism: Count | None = optional("Tasks at a time; 0: all at once; default 1.")
    delay: Duration | None = optional("Between two batches; default 0.")
    failure_action: Literal["pause", "continue", "rollback"] | None = optional(
        "When too many tasks fail; default pause."
    )
    monitor: Duration | None = optional("How long a new task is watched for failure; default 5s.")
    max_failure_ratio: Annotated[float, BeforeValidator(_ratio, json_schema_input_type=float)] | None = optional(
        "The part of the tasks that may fail; default 0."
    )
    order: Literal["stop-first", "start-first"] | None = optional("Default stop-first.")


def _no_rollback(config: UpdateConfig) -> UpdateConfig:
    if config.failure_action == "rollback":
        raise problem("a rollback can't be rolled back", "write pause or continue", "failure_action")
    return config


class RestartPolicy(Model):
    """When a task that ended is replaced."""

    condition: (
        Annotated[
            Literal["none", "on-failure", "any"],
            BeforeValidator(
                lambda value: {"always": "any"}.get(value, value) if isinstance(value, str) else value,
                json_schema_input_type=Literal["none", "on-failure", "any"],
            ),
        ]
        | None
    ) = optional("none, on-failure or any (default).")
    delay: Duration | None = optional("Before the replacement starts; default 5s.")
    max_attempts: Count | None = optional("0: without end (default).")
    window: Duration | None = optional("The time in which attempts are counted; 0: ever (default).")


class Limits(Model):
    """What each task may use at most."""

    cpus: Cpus | None = optional("As in 0.5.")
    memory: Memory | None = optional("As in 128M.")
    pids: Count | None = optional("Processes and threads; 0: no limit.")


class Reservations(Model):
    """What the scheduler keeps free for each task."""

    NOT_YET: ClassVar = {
        "generic_resources": "give the nodes a label, and use placement.constraints and max_replicas_per_node"
    }
    NEVER: ClassVar = {"devices": "give the nodes a label, and use placement.constraints"}

    cpus: Cpus | None = optional("As in 0.25.")
    memory: Memory | None = optional("As in 64M.")


class Resources(Model):
    """Limits and reservations of each task."""

    limits: Limits | None = optional("At most.")
    reservations: Reservations | None = optional("At least, for the scheduler.")


def _sane(resources: Resources) -> Resources:
    limits, reservations = resources.limits, resources.reservations
    findings = Findings()
    for name in ("cpus", "memory") if limits and reservations else ():
        limit, reserved = getattr(limits, name), getattr(reservations, name)
        if limit and reserved and reserved > limit:
            hint = f"lower it, or raise limits.{name}"
            findings.add("more is reserved than the limit allows", hint, "reservations", name)
    findings.finish()
    return resources


class Preference(Model):
    """A label over whose values tasks are spread."""

    spread: Annotated[str, BeforeValidator(placement.spread, json_schema_input_type=str)] = Field(
        description="node.labels.NAME or engine.labels.NAME."
    )


class Placement(Model):
    """Which nodes may run the tasks."""

    constraints: (
        Annotated[list[str], BeforeValidator(placement.constraints, json_schema_input_type=list[str])] | None
    ) = optional("As in node.role == worker; all must hold.")
    preferences: list[Preference] | None = optional("Spread over values of labels, one level after the other.")
    max_replicas_per_node: Count | None = optional("0: no limit.")


def _endpoint_mode(value: Any) -> Any:
    if value == "vip":
        raise problem(
            "virtual IPs aren't there yet",
            "leave endpoint_mode out: a service's name then resolves to its healthy tasks",
        )
    return value


def _deadline(value: int) -> int:
    if value == 0:
        raise problem("nothing is done in no time", "as in 5m, or leave it out")
    return value


class Deploy(Model):
    """How the service is deployed."""

    NOT_YET: ClassVar = {
        "wave": "",
        "autoscale": "write replicas",
        "owner": "",
        "rollout": "",
        "policy": "",
    }

    mode: Literal["replicated", "global", "replicated-job", "global-job"] | None = optional(
        "replicated (default); global: a task on each node; replicated-job and global-job: tasks that end."
    )
    replicas: Annotated[Count, Field(le=100_000)] | None = optional(
        "How many tasks; of a job: how many must complete. Left out, the live count stays; 1 in the beginning."
    )
    max_concurrent: Annotated[Count, Field(ge=1, le=100_000)] | None = optional(
        "Of a replicated-job: how many tasks at a time; default all."
    )
    endpoint_mode: (
        Annotated[Literal["dnsrr"], BeforeValidator(_endpoint_mode, json_schema_input_type=Literal["dnsrr"])] | None
    ) = optional("dnsrr: only by name, no published ports. Leave it out otherwise.")
    labels: Labels | None = optional("Labels of the service.")
    update_config: UpdateConfig | None = optional("How an update goes through the tasks.")
    rollback_config: Annotated[UpdateConfig, AfterValidator(_no_rollback)] | None = optional(
        "How a rollback goes through the tasks."
    )
    restart_policy: RestartPolicy | None = optional("When a task that ended is replaced.")
    resources: Annotated[Resources, AfterValidator(_sane)] | None = optional("Limits and reservations.")
    placement: Placement | None = optional("Which nodes may run the tasks.")
    deadline: Annotated[Duration, AfterValidator(_deadline)] | None = optional(
        "How long a rollout of it may take before the apply fails."
    )
    min_available: Count | None = optional(
        "A change that would leave fewer healthy tasks on its way is refused; default 0."
    )


JOBS = ("replicated-job", "global-job")


def whole(deploy: Deploy) -> Deploy:
    """Refuse what the mode has no use for."""
    mode = deploy.mode or "replicated"
    if deploy.min_available is not None and deploy.replicas is not None and deploy.min_available > deploy.replicas:
        raise problem(f"more than the {deploy.replicas} replicas", "lower it, or raise replicas", "min_available")
    if mode == "replicated" and deploy.max_concurrent is None:
        return deploy
    findings = Findings()
    for name, modes, hint in _ONLY_WITH:
        if getattr(deploy, name) is not None and mode not in modes:
            findings.add(f"has no meaning with mode {mode}", hint, name, on_key=True)
    policy = deploy.restart_policy
    if mode in JOBS and policy is not None and policy.condition == "any":
        hint = "write on-failure or none"
        findings.add("a job that always starts again never ends", hint, "restart_policy", "condition")
    placement = deploy.placement
    if mode in ("global", "global-job") and placement is not None:
        for name in ("max_replicas_per_node", "preferences"):
            if getattr(placement, name):
                hint = "leave it out: each node has one task"
                findings.add(f"has no meaning with mode {mode}", hint, "placement", name, on_key=True)
    findings.finish()
    return deploy


_EACH_NODE = "leave it out: each node that the constraints allow has one task"
_NO_UPDATE = "leave it out: a job that changed is run again as a whole"
_ONLY_WITH = (
    ("replicas", ("replicated", "replicated-job"), _EACH_NODE),
    ("max_concurrent", ("replicated-job",), "it is for mode replicated-job"),
    ("min_available", ("replicated", "global"), "leave it out: a job ends"),
    ("update_config", ("replicated", "global"), _NO_UPDATE),
    ("rollback_config", ("replicated", "global"), _NO_UPDATE),
)
"""Fields, the modes that have them, and what to do with others."""
