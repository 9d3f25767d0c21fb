"""What a plan is: for each object what would be done, with every field's old and new value. Values only.

`gitops.reconciler.planner` makes plans, `gitops.reconciler.apply` carries them out.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from gitops.reconciler.diff import FieldChange
from gitops.reconciler.forecast import Forecast, Refusal

KINDS = ("Image", "Network", "Volume", "Secret", "Config", "Service")
"""In the order in which objects need each other; deletes go the other way round."""


class Action(enum.StrEnum):
    """What happens to an object."""

    CREATE = "create"
    UPDATE = "update"
    REPLACE = "replace"
    DELETE = "delete"
    NONE = "no-op"


class Reason(enum.StrEnum):
    """Why, as a stable code for programs."""

    MISSING = "missing"
    CHANGED = "changed"
    LEFT = "left-manifests"
    STACK = "stack-deleted"
    PAUSED = "update-paused"
    SAME = "same"


@dataclass(frozen=True, slots=True)
class Step:
    """One object of the plan.

    `position` is `file:line` of its manifest; `note` is for people: what the step does to what runs; `obsolete` names
    former versions on the engine that go when nothing uses them any more (images, secrets and configs are never
    changed in place).
    """

    kind: str
    stack: str
    name: str
    engine_name: str
    action: Action
    reason: Reason
    changes: tuple[FieldChange, ...] = ()
    position: str = ""
    note: str = ""
    obsolete: tuple[str, ...] = ()

    @property
    def key(self) -> tuple[str, str]:
        """Kind and engine name: unique in a plan."""
        return self.kind, self.engine_name


@dataclass(frozen=True, slots=True)
class Unplaced:
    """A service some of whose tasks no node can hold, and why."""

    service: str
    count: int
    reason: str
    refusals: tuple[Refusal, ...] = ()

    @property
    def text(self) -> str:
        """`2 tasks can't be placed: no suitable node (…)`."""
        return f"{self.count} task{'' if self.count == 1 else 's'} can't be placed: {self.reason}"


@dataclass(frozen=True, slots=True)
class Plan:
    """All steps, no-ops included; what would not find a node; what forbids to carry it out; the schedule."""

    steps: tuple[Step, ...]
    unplaced: tuple[Unplaced, ...] = ()
    warnings: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    forecast: Forecast | None = None

    @property
    def changed(self) -> tuple[Step, ...]:
        """The steps that do something."""
        return tuple(step for step in self.steps if step.action is not Action.NONE)

    def count(self, *actions: Action) -> int:
        """How many steps have one of these actions."""
        return sum(step.action in actions for step in self.steps)

    def of(self, kind: str, *actions: Action) -> list[Step]:
        """The steps of a kind with one of the actions."""
        return [step for step in self.steps if step.kind == kind and step.action in actions]
