"""A plan as a document for programs: versioned, described by `schemas/plan.schema.json`. Pure.

Its form follows Terraform's where that has one: `actions`, and for each object `before` and `after` beside parallel
trees `before_sensitive` and `after_sensitive`, in which true marks a value that is not shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from gitops.reconciler.diff import HIDDEN, FieldChange
from gitops.reconciler.forecast import ServiceForecast
from gitops.reconciler.plan import Action, Plan, Step, Unplaced

FORMAT_VERSION = "1.2"
"""The first number changes when a program that reads the old form would misread the new one."""
_ACTIONS = {
    Action.CREATE: ["create"],
    Action.UPDATE: ["update"],
    Action.REPLACE: ["delete", "create"],
    Action.DELETE: ["delete"],
    Action.NONE: ["no-op"],
}


def verdict(plan: Plan) -> str:
    """What a plan comes to, in a word for programs."""
    if plan.refused:
        return "refused"
    if plan.unplaced:
        return "unschedulable"
    return "changes" if plan.changed else "unchanged"


def of_plan(plan: Plan) -> dict[str, Any]:
    """The part of the document that the plan alone decides."""
    forecast = plan.forecast
    services = forecast.services if forecast else {}
    return {
        "verdict": verdict(plan),
        "summary": {str(action): plan.count(action) for action in Action} | {"drifted": len(plan.drifted)},
        "changes": [step(item, services.get(item.engine_name)) for item in plan.steps],
        "nodes": [asdict(node) for node in forecast.nodes] if forecast else [],
        "lost_node": [asdict(item) for item in forecast.lost] if forecast else [],
        "unplaced": [_unplaced(item) for item in plan.unplaced],
        "refused": list(plan.refused),
        "warnings": list(plan.warnings),
    }


def step(item: Step, forecast: ServiceForecast | None = None) -> dict[str, Any]:
    """One object of the plan."""
    return {
        "kind": item.kind,
        "stack": item.stack,
        "name": item.name,
        "engine_name": item.engine_name,
        "action": str(item.action),
        "actions": _ACTIONS[item.action],
        "reason": str(item.reason),
        "position": item.position,
        "note": item.note,
        "obsolete": list(item.obsolete),
        "fields": [_field(change) for change in item.changes],
        "before": item.before,
        "after": item.after,
        "before_sensitive": sensitive(item.before),
        "after_sensitive": sensitive(item.after),
        "forecast": asdict(forecast) if forecast and item.kind == "Service" else None,
    }


def sensitive(form: Mapping[str, Any] | None) -> dict[str, Any]:
    """The tree that marks what is not shown of a form; empty where all is."""
    found: dict[str, Any] = {}
    for key, value in (form or {}).items():
        if isinstance(value, Mapping):
            if below := sensitive(value):
                found[key] = below
        elif value == HIDDEN:
            found[key] = True
    return found


def _field(change: FieldChange) -> dict[str, Any]:
    return {
        "path": change.path,
        "old": change.old,
        "new": change.new,
        "cause": str(change.cause),
        "sensitive": change.is_sensitive,
    }


def _unplaced(item: Unplaced) -> dict[str, Any]:
    return {
        "service": item.service,
        "tasks": item.count,
        "reason": item.reason,
        "filters": [asdict(refusal) for refusal in item.refusals],
    }
