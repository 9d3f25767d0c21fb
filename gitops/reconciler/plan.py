"""What a plan is: for each object what would be done, with every field's old and new value. Values only.

`gitops.reconciler.planner` makes plans, `gitops.reconciler.apply` carries them out.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gitops.reconciler.diff import Cause, FieldChange
from gitops.reconciler.forecast import Forecast, Refusal

KINDS = ("Image", "Network", "Volume", "Secret", "Config", "Service")
"""In the order in which objects need each other; deletes go the other way round."""


Key = tuple[str, str]
"""Kind and engine name: unique in a plan."""


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
    """It is in the manifests and was never applied."""
    REMOVED = "removed-outside"
    """It was applied, and somebody removed it since."""
    CHANGED = "changed"
    """The manifest changed."""
    DRIFTED = "drifted"
    """The manifest didn't change; somebody changed the object."""
    IMMUTABLE = "cannot-update"
    """It differs in what can't be changed in place."""
    LEFT = "left-manifests"
    STACK = "stack-deleted"
    PAUSED = "update-paused"
    UNKNOWN = "unknown"
    """It is there, but whether its content is the same can't be told here: a secret without the operator's key."""
    MOVED = "moved"
    """It belongs to another stack from now on; nothing else changes."""
    SAME = "same"


@dataclass(frozen=True, slots=True)
class Step:
    """One object of the plan.

    `position` is `file:line` of its manifest; `note` is for people: what the step does to what runs; `obsolete` names
    former versions on the engine that go when nothing uses them any more (images, secrets and configs are never
    changed in place). `before` and `after` are the canonical forms of an object that changes, where it has one on that
    side; `changes` are the fields in which they differ.
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
    before: Mapping[str, Any] | None = field(default=None, repr=False, compare=False)
    after: Mapping[str, Any] | None = field(default=None, repr=False, compare=False)

    @property
    def is_drift(self) -> bool:
        """Whether somebody's change of what was applied is all that there is to undo."""
        return self.reason in (Reason.DRIFTED, Reason.REMOVED)

    @property
    def drift(self) -> tuple[FieldChange, ...]:
        """The changes that undo what somebody did to a live object."""
        return tuple(change for change in self.changes if change.cause is Cause.DRIFT)

    @property
    def intent(self) -> tuple[FieldChange, ...]:
        """The changes that the manifests ask for."""
        return tuple(change for change in self.changes if change.cause is Cause.INTENT)

    @property
    def key(self) -> Key:
        """Kind and engine name."""
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

    @property
    def drifted(self) -> tuple[Step, ...]:
        """The steps that undo something that somebody did to live objects, whatever else they do."""
        return tuple(step for step in self.steps if step.is_drift or step.drift)

    def count(self, *actions: Action) -> int:
        """How many steps have one of these actions."""
        return sum(step.action in actions for step in self.steps)

    def of(self, kind: str, *actions: Action) -> list[Step]:
        """The steps of a kind with one of the actions."""
        return [step for step in self.steps if step.kind == kind and step.action in actions]
