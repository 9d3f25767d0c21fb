"""Whether a plain container that ended is started again, and after how long. Pure; the rules are Docker's."""

from __future__ import annotations

from gitops.engine.containers.record import ContainerRecord
from gitops.objects import base
from gitops.objects.container import RestartPolicy

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 60.0
STEADY_NS = 10 * base.SECOND
"""Who ran as long as this begins with the shortest pause again."""


def after_exit(record: ContainerRecord) -> bool:
    """Whether the container, which ended by itself with `record.exit_code`, is started again."""
    policy = record.host_config.restart_policy or RestartPolicy()
    if record.was_stopped:
        return False
    if policy.name == "on-failure":
        is_left = policy.maximum_retry_count == 0 or record.restart_count < policy.maximum_retry_count
        return record.exit_code != 0 and is_left
    return policy.name in ("always", "unless-stopped")


def at_boot(record: ContainerRecord) -> bool:
    """Whether a container that doesn't run is started when the engine starts; one never started isn't."""
    policy = record.host_config.restart_policy or RestartPolicy()
    if record.started_ns == 0:
        return False
    if policy.name == "always":
        return True
    return after_exit(record)


def pause_s(previous_s: float, ran_ns: int) -> float:
    """Seconds to wait, after a pause of `previous_s` (0 for none yet) and a run of `ran_ns`."""
    if previous_s <= 0 or ran_ns >= STEADY_NS:
        return FIRST_PAUSE_S
    return min(previous_s * 2, LONGEST_PAUSE_S)
