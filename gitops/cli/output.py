"""How plans, problems and stacks look: as text for people, as JSON for programs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import click

from gitops.cli import schedule
from gitops.reconciler import document as documents
from gitops.reconciler.diff import FieldChange
from gitops.reconciler.plan import Action, Plan, Reason, Step
from gitops.reconciler.reconcile import Prepared
from gitops.reconciler.record import Outcome, Record

_MARKS = {
    Action.CREATE: ("+", "green"),
    Action.UPDATE: ("~", "yellow"),
    Action.REPLACE: ("±", "yellow"),
    Action.DELETE: ("-", "red"),
    Action.NONE: ("=", ""),
}
_DURATIONS = {
    *("delay", "monitor", "window", "interval", "timeout", "start_period", "start_interval", "stop_grace_period"),
}
_SIZES = {"memory", "size", "shm_size"}
_MAPS = ("environment", "labels", "configs", "secrets", "volumes", "networks", "ports", "sysctls", "ulimits", "ipam")
_BRIEF_WIDTH = 40
_GROUP_NAMES = 12
_LINE_WIDTH = 110
_UNITS = ((3_600_000_000_000, "h"), (60_000_000_000, "m"), (1_000_000_000, "s"), (1_000_000, "ms"), (1_000, "us"))


def plan_text(prepared: Prepared, host: str, *, is_live: bool = True) -> str:
    """The plan: a line for each object that changes, then the fields, then what it comes to."""
    plan = prepared.plan
    lines = [f"{title(prepared)}, on {host}", ""]
    shown = [*plan.changed, *(step for step in plan.steps if step.action is Action.NONE and step.note)]
    width = max((len(step.name) for step in shown), default=0)
    briefs = {step.key: brief(step) for step in shown}
    brief_width = min(_BRIEF_WIDTH, max(map(len, briefs.values()), default=0))
    for step in shown:
        what = briefs[step.key]
        told = schedule.brief(step, plan.forecast)
        note = f"  {told}" if told else ""
        lines.append(f"  {_mark(step)} {step.kind:<8} {step.name:<{width}}  {what:<{brief_width}}{note}".rstrip())
    unchanged = sum(step.action is Action.NONE and not step.note for step in plan.steps)
    if unchanged:
        lines.append(f"  = {unchanged} unchanged")
    for group in alike(plan.changed):
        step = group[0]
        scheduled = [f"    {line}" for item in group[:1] for line in schedule.lines(item, plan.forecast)]
        if step.action in (Action.UPDATE, Action.REPLACE) and step.intent:
            lines += ["", _heading(step, len(group)), *_fields(step.intent)]
            lines += scheduled if len(group) == 1 else [f"    of {_names(group)}"]
        elif scheduled and step.action is Action.CREATE:
            lines += ["", _heading(step), *scheduled]
    if plan.drifted:
        lines += ["", "Changed or removed by somebody else since the last apply, to be put back:"]
        for step in plan.drifted:
            lines += [_heading(step), *(_fields(step.drift) if step.drift else ["    removed"])]
    if lines[-1]:
        lines.append("")
    for item in plan.unplaced:
        lines.append(click.style(f"service {item.service}: {item.text}", fg="red"))
        lines += [click.style(f"    {refusal.text}", fg="red") for refusal in item.refusals]
    lines += [click.style(f"refused: {text}", fg="red") for text in plan.refused]
    lines += [click.style(f"warning: {text}", fg="yellow") for text in warnings(prepared)]
    lines.append(last_line(plan, is_live=is_live, is_now=prepared.snapshot is None))
    return "\n".join(lines)


def verdict(plan: Plan) -> str:
    """What a plan comes to, in a word for programs."""
    return documents.verdict(plan)


def plan_json(prepared: Prepared) -> str:
    """The plan for programs; values of secrets are not in it, since no plan holds them."""
    return json.dumps(plan_document(prepared), indent=2, ensure_ascii=False)


def plan_document(prepared: Prepared) -> dict[str, Any]:
    """The plan as plain data, and what it is of."""
    found = documents.of_plan(prepared.plan)
    head = {
        "format_version": documents.FORMAT_VERSION,
        "source": prepared.source.identity,
        "commit": prepared.source.commit,
        "revision": prepared.revision,
        "stacks": list(prepared.stacks),
        "against": _against(prepared),
    }
    return head | found | {"warnings": warnings(prepared)}


def _against(prepared: Prepared) -> dict[str, str] | None:
    found = prepared.snapshot
    if found is None:
        return None
    return {"file": str(found.file), "host": found.document.engine.host, "made_at": found.document.made_at}


def title(prepared: Prepared) -> str:
    """`Stack app, commit 3f2c1ab`."""
    names = [stack for stack in prepared.stacks if stack]
    commit = f", commit {prepared.source.label}" if prepared.source.label else ""
    if not names:
        return f"Manifests without a stack{commit}"
    return f"Stack{'s' if len(names) > 1 else ''} {', '.join(names)}{commit}"


def warnings(prepared: Prepared) -> list[str]:
    """What a person should know before."""
    return [*prepared.plan.warnings, *_former(prepared)]


def _former(prepared: Prepared) -> list[str]:
    """What a person should know of the last apply, when it was of this very revision."""
    told = []
    for stack in prepared.stacks:
        found = prepared.live.records.get(stack)
        if found and found.revision == prepared.revision and found.outcome in (Outcome.FAILED, Outcome.INTERRUPTED):
            whose = f" of stack {stack}" if stack else ""
            told.append(f"the last apply{whose}, of this very revision, {_ended(found)}")
    return told


def _ended(found: Record) -> str:
    return "was interrupted" if found.outcome is Outcome.INTERRUPTED else f"failed: {found.message}"


def _mark(step: Step) -> str:
    mark, colour = _MARKS[step.action]
    return click.style(mark, fg=colour) if colour else mark


def alike(steps: Iterable[Step]) -> list[list[Step]]:
    """Updates that change the same fields in the same way, together; each other step by itself."""
    groups: dict[object, list[Step]] = {}
    for step in steps:
        is_update = step.action in (Action.UPDATE, Action.REPLACE) and step.intent
        said = [(change.path, repr(change.old), repr(change.new)) for change in step.intent] if is_update else []
        key = (step.kind, step.action, tuple(said)) if said else step.key
        groups.setdefault(key, []).append(step)
    return list(groups.values())


def _names(steps: Sequence[Step]) -> str:
    more = f" and {len(steps) - _GROUP_NAMES} more" if len(steps) > _GROUP_NAMES else ""
    return ", ".join(step.name for step in steps[:_GROUP_NAMES]) + more


def _heading(step: Step, count: int = 1) -> str:
    if count > 1:
        return f"{_mark(step)} {count} {step.kind.lower()}s alike"
    name = f"{step.kind} {step.name}"
    return f"{_mark(step)} {name:<52}  {step.position}".rstrip()


def brief(step: Step) -> str:
    """What changes, in a few words; what it does to what runs is the step's note."""
    if step.action is Action.DELETE:
        return "left the manifests" if step.reason is Reason.LEFT else ""
    if step.reason is Reason.REMOVED:
        return "removed by somebody"
    if step.reason is Reason.MOVED:
        return f"moved from stack {step.changes[0].old}"
    if step.action in (Action.CREATE, Action.NONE):
        return ""
    names = list(dict.fromkeys(_word(change.path) for change in step.changes))
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _word(path: str) -> str:
    """A field's name without what only its own lines need: `environment`, `update_config.delay`, `replicas`."""
    parts = re.sub(r"\[[^\]]*\]", "", path).removeprefix("deploy.").split(".")
    return parts[0] if parts[0] in _MAPS or "[" in path else ".".join(parts[:2])


def _fields(changes: Sequence[FieldChange]) -> list[str]:
    """Path, old and new value; on lines of their own where they are too long for one."""
    width = max(len(change.path) for change in changes)
    lines = []
    for change in changes:
        old, new = value(change.path, change.old), value(change.path, change.new)
        if len(old) + len(new) + width > _LINE_WIDTH or "\n" in old + new:
            lines += [f"    {change.path}", *_block("-", old, "red"), *_block("+", new, "green")]
        else:
            lines.append(f"    {change.path:<{width}}  {old}  ->  {new}")
    return lines


def _block(mark: str, text: str, colour: str) -> list[str]:
    return [click.style(f"      {mark} {line}", fg=colour) for line in text.splitlines() or [""]]


def value(path: str, found: Any) -> str:
    """A field's value for a person: durations and sizes with units, images with short digests."""
    last = path.rpartition(".")[2]
    if found is None:
        return "(none)"
    if found in ("", [], {}):
        return json.dumps(found)
    if isinstance(found, int) and not isinstance(found, bool):
        if last in _DURATIONS:
            return duration(found)
        if last in _SIZES:
            return size(found)
        if last == "cpus":
            return f"{found / 1_000_000_000:g}"
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


def last_line(plan: Plan, *, is_live: bool = True, is_now: bool = True) -> str:
    """What a plan comes to, in a line for people; of drift and schedule only where a live state was looked at."""
    if not plan.changed and not is_live:
        return "No changes between these commits."
    if not plan.changed and not plan.refused:
        return f"No changes: the engine {'is' if is_now else 'was'} as the manifests say."
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
    if not is_live:
        return f"{', '.join(counts)}. No engine was asked: no drift, digest or schedule is in this."
    drift = f"Drift on {_objects(len(plan.drifted))}." if plan.drifted else "No drift."
    text = f"{', '.join(counts) or 'Nothing to change'}. {drift}"
    if plan.refused:
        return f"{text} Can NOT be applied."
    if plan.unplaced:
        return f"{text} Can NOT be scheduled."
    return f"{text} Can be scheduled." if plan.of("Service", Action.CREATE, Action.UPDATE) else text


def _objects(count: int) -> str:
    return f"{count} object{'' if count == 1 else 's'}"


def table(rows: Iterable[Iterable[str]]) -> str:
    """Columns as wide as they must be, three spaces apart."""
    lines = [list(row) for row in rows]
    widths = [max(len(row[column]) for row in lines) for column in range(len(lines[0]))] if lines else []
    return "\n".join(
        "   ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in lines
    )
