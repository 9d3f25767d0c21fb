"""`depends_on`: what a service waits for, in Compose's words or in ours."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator

from gitops.manifests.kinds.base import Model, optional
from gitops.manifests.kinds.findings import problem, shown
from gitops.manifests.kinds.values import Bool

Condition = Literal["started", "healthy", "completed_successfully"]


def _condition(value: Any) -> Any:
    return value.removeprefix("service_") if isinstance(value, str) else value


def _restart(value: Any) -> Any:
    if value is True:
        raise problem(
            "a service isn't restarted for what another one does",
            "leave it out: clients reconnect, and names lead to healthy tasks",
        )
    return value


class DependencyUse(Model):
    """What of the other service is waited for."""

    condition: (
        Annotated[
            Condition,
            BeforeValidator(
                _condition,
                json_schema_input_type=Literal[
                    "started", "healthy", "completed_successfully",
                    "service_started", "service_healthy", "service_completed_successfully",
                ],
            ),
        ]
        | None
    ) = optional("started (default), healthy or completed_successfully.")  # fmt: skip
    required: Bool | None = optional("Whether the other service must be there; default true.")
    restart: Annotated[bool, BeforeValidator(_restart, json_schema_input_type=Literal[False])] | None = optional(
        "Only false."
    )


def _depends_on(value: Any) -> Any:
    if not isinstance(value, list):
        return value
    result: dict[str, Any] = {}
    for index, item in enumerate(value):
        if not isinstance(item, str):
            raise problem("must be the name of a service", "", index)
        if item in result:
            raise problem(f"{shown(item)} is given twice", "remove one", index)
        result[item] = {}
    return result


DependsOn = Annotated[
    dict[str, DependencyUse | None],
    BeforeValidator(_depends_on, json_schema_input_type=list[str] | dict[str, DependencyUse | None]),
]
