"""A plan for a pull request's comment: a table first, the fields folded, and no longer than such a comment may be."""

from __future__ import annotations

from gitops.cli import output, schedule
from gitops.reconciler.plan import Action, Step
from gitops.reconciler.reconcile import Prepared

LIMIT = 60_000
"""Characters; GitHub takes 65,536 in a comment."""
_MARKS = {
    Action.CREATE: "+ create",
    Action.UPDATE: "~ update",
    Action.REPLACE: "± replace",
    Action.DELETE: "- delete",
    Action.NONE: "= no-op",
}
_ROWS = 100
_VALUE = 300


def plan(prepared: Prepared, host: str, limit: int = LIMIT, *, is_live: bool = True) -> str:
    """The comment, `limit` characters at most; what is cut is counted at its end."""
    found = prepared.plan
    head = [
        f"### {_text(output.title(prepared))}, on `{host}`",
        "",
        f"**{output.last_line(found, is_live=is_live, is_now=prepared.snapshot is None)}**",
        "",
    ]
    head += [f"> **refused:** {_text(text)}" for text in found.refused]
    for item in found.unplaced:
        head.append(f"> **can't be scheduled:** service `{item.service}`: {_text(item.text)}")
        head += [f"> - {_text(refusal.text)}" for refusal in item.refusals]
    head += [f"> warning: {_text(text)}" for text in output.warnings(prepared)]
    changed = found.changed
    if changed:
        head += ["", "| | Kind | Name | What | Effect |", "| --- | --- | --- | --- | --- |"]
        head += [_row(step, prepared) for step in changed[:_ROWS]]
        if len(changed) > _ROWS:
            head.append(f"| | | and {len(changed) - _ROWS} more | | |")
    blocks = [_block(group, prepared) for group in output.alike(changed) if group[0].changes]
    return _bounded("\n".join(head), [block for block in blocks if block], limit)


def _bounded(head: str, blocks: list[str], limit: int) -> str:
    reserve = 200
    head = head if len(head) <= limit - reserve else head[: limit - reserve] + "\n\n(cut)"
    parts, used = [head], len(head)
    for number, block in enumerate(blocks):
        if used + len(block) + 2 > limit - reserve:
            parts.append(
                f"_The fields of {len(blocks) - number} more entries were cut: the comment would be too long._"
            )
            break
        parts.append(block)
        used += len(block) + 2
    return "\n\n".join(parts) + "\n"


def _row(step: Step, prepared: Prepared) -> str:
    effect = schedule.brief(step, prepared.plan.forecast)
    drift = " (drift)" if step.is_drift else ""
    what = output.brief(step)
    return f"| {_MARKS[step.action]}{drift} | {step.kind} | `{step.name}` | {_cell(what)} | {_cell(effect)} |"


def _block(group: list[Step], prepared: Prepared) -> str:
    """The fields of steps that change alike, folded."""
    step = group[0]
    if step.action is Action.CREATE:
        return _made(step, prepared)
    if step.action not in (Action.UPDATE, Action.REPLACE):
        return ""
    name = f"{step.kind} {step.name}" if len(group) == 1 else f"{len(group)} {step.kind.lower()}s alike"
    lines = [f"<details><summary>{_MARKS[step.action]} {name}</summary>", "", "```diff"]
    if len(group) > 1:
        lines.append("# " + ", ".join(item.name for item in group[:50]))
    for change in step.changes:
        note = "  # drift" if change in step.drift else ""
        lines.append(f"# {change.path}{note}")
        lines += [f"- {line}" for line in _value(change.path, change.old)]
        lines += [f"+ {line}" for line in _value(change.path, change.new)]
    lines += [f"# {line}" for line in schedule.lines(step, prepared.plan.forecast)] if len(group) == 1 else []
    return "\n".join([*lines, "```", "", "</details>"])


def _made(step: Step, prepared: Prepared) -> str:
    """Where the tasks of a new service come to be, folded."""
    told = schedule.lines(step, prepared.plan.forecast)
    if not told:
        return ""
    head = f"<details><summary>{_MARKS[step.action]} {step.kind} {step.name}</summary>"
    return "\n".join([head, "", "```diff", *(f"# {line}" for line in told), "```", "", "</details>"])


def _value(path: str, found: object) -> list[str]:
    """The lines of a value, cut; nothing in it ends the block."""
    if found is None:
        return []
    text = output.value(path, found).replace("```", "` ` `")
    text = text if len(text) <= _VALUE else f"{text[:_VALUE]}… ({len(text)} characters)"
    return text.splitlines() or [""]


def _cell(text: str) -> str:
    return _text(text).replace("|", "\\|").replace("\n", " ")


def _text(text: str) -> str:
    """Text in which nothing is taken for markup of a comment: no tags, no mentions."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace("@", "&#64;").replace("`", "'")
