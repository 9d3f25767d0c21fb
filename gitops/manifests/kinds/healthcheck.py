"""How a container's health is checked."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator

from gitops.manifests.kinds.base import Model, optional
from gitops.manifests.kinds.findings import problem, shown
from gitops.manifests.kinds.values import Bool, CheckTime, Count, texts


def _test(value: Any) -> Any:
    if isinstance(value, str):
        return ["CMD-SHELL", value] if value else value
    value = texts(value)
    if not isinstance(value, list) or not value:
        return value
    if value[0] not in ("NONE", "CMD", "CMD-SHELL"):
        raise problem(f"the list begins with {shown(value[0])}", "begin it with CMD, CMD-SHELL or NONE", 0)
    if value[0] == "CMD-SHELL" and len(value) != 2:
        raise problem("CMD-SHELL takes one text", "write one line for the shell, or use CMD")
    if value[0] == "CMD" and len(value) < 2:
        raise problem("CMD needs a program")
    if value[0] == "NONE" and len(value) > 1:
        raise problem("NONE takes nothing")
    return value


class HealthcheckFields(Model):
    """A health check; what is left out is the image's, or Docker's default."""

    test: Annotated[list[str], BeforeValidator(_test, json_schema_input_type=str | list[str])] | None = optional(
        "A line for the shell, or [CMD, program, argument…], or [NONE]."
    )
    interval: CheckTime | None = optional("Between two checks; default 30s.")
    timeout: CheckTime | None = optional("How long a check may take; default 30s.")
    retries: Count | None = optional("Failures in a row until it is unhealthy; default 3.")
    start_period: CheckTime | None = optional("While it starts, failures don't count; default 0.")
    start_interval: CheckTime | None = optional("Between two checks while it starts; default 5s.")
    disable: Bool | None = optional("No check, not even the image's.")


def _whole(check: HealthcheckFields) -> HealthcheckFields:
    if check.disable and check.test not in (None, ["NONE"]):
        raise problem("is disabled and has a test", "leave one of them out", "disable")
    return check


Healthcheck = Annotated[HealthcheckFields, AfterValidator(_whole)]
