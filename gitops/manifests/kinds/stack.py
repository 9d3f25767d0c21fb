"""Stack: what holds for a stack as a whole. Nobody has to write one."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from gitops.manifests.kinds.base import Manifest, Model, optional
from gitops.manifests.kinds.values import Bool


class StackSpec(Model):
    """Settings of a stack."""

    NOT_YET: ClassVar = dict.fromkeys(
        ("includes", "profiles", "variables", "ordering", "source", "targets", "promotion"), ""
    )

    description: str | None = optional("For people.")
    prune: Bool | None = optional("Whether objects that left the manifests are deleted; default true.")


class Stack(Manifest, defer_build=False):
    """A stack: objects that are applied and pruned together."""

    kind: Literal["Stack"] = Field(description="Stack.")
    spec: StackSpec | None = optional("Settings of the stack.")
