"""How plans, problems and stacks look: as text for people, as JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import click

from gitops.reconciler.plan import Action, Plan, Step
from gitops.reconciler.reconcile import Prepared

FORMAT_VERSION = "1"
_MARKS = {
    Action.CREATE: ("+", "green"),
    Action.UPDATE: ("~", "yellow"),
    Action.REPLACE: ("±", "yellow"),
    Action.DELETE: ("-", "red"),
}
_DURATIONS = {
    *("delay", "monitor", "window", "interval", "timeout", "start_period", "start_interval", "stop_grace_period"),
}
_SIZES = {"memory", "size", "shm_size"}
_UNITS = ((3_600_000_000_000, "h"), (60_000_000_000, "m"), (1_000_000_000, "s"), (1_000_000, "ms"), (1_000, "us"))


def plan_text(prepared: Prepared, host: str) -> str:
    """The plan: a line for each object that changes, then the fields, then what it comes to."""
    plan = prepared.plan
    lines = [f"{_title(prepared)}, on {host}", ""]
    changed = plan.changed
    width = max((len(step.name) for step in changed), default=0)
    for step in changed:
        lines.append(f"  {_mark(step)} {step.kind:<8} {step.name:<{width}}  {_brief(step)}".rstrip())
    unchanged = plan.count(Action.NONE)
    if unchanged:
        lines.append(f"  = {unchanged} unchanged")
    for step in changed:
        if step.action in (Action.UPDATE, Action.REPLACE) and step.changes:
            lines += ["", f"{_mark(step)} {step.kind} {step.name}{_where(step)}", *_fields(step)]
    lines.append("")
    for item in plan.unplaced:
        lines.append(click.style(f"{item.service}: {item.count} tasks can't be placed: {item.reason}", fg="red"))
    lines += [click.style(f"warning: {text}", fg="yellow") for text in plan.warnings]
    lines.append(_verdict(plan))
    return "\n".join(lines)


def plan_json(prepared: Prepared) -> str:
    """The plan for programs; values of secrets are not in it, since no plan holds them."""
    plan = prepared.plan
    document = {
        "format_version": FORMAT_VERSION,
        "source": prepared.source.identity,
        "commit": prepared.source.commit,
        "revision": prepared.revision,
        "stacks": list(prepared.stacks),
        "verdict": "unschedulable" if plan.unplaced else "changes" if plan.changed else "unchanged",
        "changes": [_step_json(step) for step in plan.steps],
        "unplaced": [{"service": item.service, "tasks": item.count, "reason": item.reason} for item in plan.unplaced],
        "warnings": list(plan.warnings),
    }
    return json.dumps(document, indent=2, ensure_ascii=False)


def _step_json(step: Step) -> dict[str, Any]:
    return {
        "kind": step.kind,
        "stack": step.stack,
        "name": step.name,
        "engine_name": step.engine_name,
        "action": str(step.action),
        "reason": str(step.reason),
        "position": step.position,
        "fields": [{"path": change.path, "old": change.old, "new": change.new} for change in step.changes],
    }


def _title(prepared: Prepared) -> str:
    stacks = ", ".join(stack for stack in prepared.stacks if stack)
    commit = f", commit {prepared.source.label}" if prepared.source.label else ""
    return f"Stack {stacks}{commit}" if stacks else f"Manifests without a stack{commit}"


def _mark(step: Step) -> str:
    mark, colour = _MARKS[step.action]
    return click.style(mark, fg=colour)


def _where(step: Step) -> str:
    return f"{'':<40}{step.position}" if step.position else ""


def _brief(step: Step) -> str:
    if step.action is Action.DELETE:
        return "left the manifests"
    if step.action is Action.CREATE:
        return step.note
    names = list(dict.fromkeys(change.path.rpartition(".")[2] for change in step.changes))
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _fields(step: Step) -> list[str]:
    width = max(len(change.path) for change in step.changes)
    return [
        f"    {change.path:<{width}}  {value(change.path, change.old)}  ->  {value(change.path, change.new)}"
        for change in step.changes
    ]


def value(path: str, found: Any) -> str:
    """A field's value for a person: durations and sizes with units, images with short digests."""
    last = path.rpartition(".")[2]
    if found is None or found in ("", [], {}):
        return "(none)"
    if isinstance(found, int) and not isinstance(found, bool):
        if last in _DURATIONS:
            return duration(found)
        if last in _SIZES:
            return size(found)
    if isinstance(found, str):
        name, separator, digest = found.partition("@sha256:")
        if separator:
            return f"{name} (sha256:{digest[:12]})"
        return found[:19] if found.startswith("sha256:") else found
    if isinstance(found, list | Mapping):
        return json.dumps(found, ensure_ascii=False)
    return str(found)


def duration(nanoseconds: int) -> str:
    """`20s`, `1m30s`."""
    if not nanoseconds:
        return "0s"
    parts, rest = [], nanoseconds
    for unit, name in _UNITS:
        count, rest = divmod(rest, unit)
        if count:
            parts.append(f"{count}{name}")
    return "".join(parts) or f"{nanoseconds}ns"


def size(count: int) -> str:
    """`64 MiB`, or bytes where it is no whole number of units."""
    for power, name in ((3, "GiB"), (2, "MiB"), (1, "KiB")):
        if count >= 1024**power and count % 1024**power == 0:
            return f"{count // 1024**power} {name}"
    return f"{count} B"


def _verdict(plan: Plan) -> str:
    if not plan.changed:
        return "No changes: the engine is as the manifests say."
    counts = [
        f"{plan.count(action)} to {verb}"
        for action, verb in (
            (Action.CREATE, "create"),
            (Action.UPDATE, "update"),
            (Action.REPLACE, "replace"),
            (Action.DELETE, "delete"),
        )
        if plan.count(action)
    ]
    return f"{', '.join(counts)}. {'Can NOT be scheduled.' if plan.unplaced else 'Can be scheduled.'}"


def table(rows: Iterable[Iterable[str]]) -> str:
    """Columns as wide as they must be, three spaces apart."""
    lines = [list(row) for row in rows]
    widths = [max(len(row[column]) for row in lines) for column in range(len(lines[0]))] if lines else []
    return "\n".join(
        "   ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in lines
    )
