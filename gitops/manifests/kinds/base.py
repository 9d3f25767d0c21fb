"""What all kinds share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from gitops.manifests.kinds.values import Labels, Name, PlainLabels

API_VERSION = "gitops/v1"


def optional(description: str) -> Any:
    """A field that may be left out, or be empty."""
    return Field(default=None, description=description)


class Model(BaseModel):
    """Unknown keys are errors, except `x-…` (which the loader takes out).

    Validators are built for whole kinds alone: those of their parts would take as long again, and nobody calls them.
    """

    model_config = ConfigDict(
        extra="forbid",
        defer_build=True,
        hide_input_in_errors=True,
        json_schema_extra={"patternProperties": {"^x-": {}}},
    )

    NOT_YET: ClassVar[Mapping[str, str]] = {}
    """Fields that are known and refused, each with what to do instead (or nothing)."""
    NEVER: ClassVar[Mapping[str, str]] = {}
    """Fields of Compose that stand for nothing that a swarm has, each with what to do instead."""


class Metadata(Model):
    """Whose the object is, and what it is called."""

    name: Name = Field(description="The object's name: lower-case letters, digits and dashes.")
    stack: Name | None = optional(
        "The stack that it belongs to: the prefix of its name on the engine, and what is pruned together.",
    )
    moved_from: Name | None = optional(
        "The stack that the object was in before: it keeps its name on the engine, and nothing restarts.",
    )
    labels: Labels | None = optional("Labels of the object on the engine.")
    annotations: PlainLabels | None = optional("Notes that stay in the manifest.")
    naming: Literal["compose"] | None = optional(
        "compose: names here may be as in Compose files, with capital letters, dots and underscores."
    )


class Manifest(Model):
    """The frame of every kind."""

    api_version: Literal["gitops/v1"] = Field(alias="apiVersion", description="Always gitops/v1.")
    metadata: Metadata = Field(description="Name, stack, labels.")
