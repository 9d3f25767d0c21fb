"""What a plan does to what runs, in words: from the forecast of the schedule. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from gitops.reconciler.forecast import Forecast, ServiceForecast
from gitops.reconciler.plan import Action, Step

_SHOWN_NODES = 8
_MIB = 1024**2


def brief(step: Step, forecast: Forecast | None) -> str:
    """`5 tasks, 2 at a time, at least 3 healthy, about 45 s`; what the plan notes where nothing is forecast."""
    found = of(step, forecast)
    if found is None or step.action not in (Action.UPDATE, Action.REPLACE):
        return step.note
    parts = []
    if found.restarted:
        largest = max(map(len, found.batches), default=len(found.restarted))
        pace = f", {largest} at a time" if largest < len(found.restarted) else ", all at once"
        order = ", the new ones first" if found.order == "start-first" else ""
        parts.append(f"{_tasks(len(found.restarted))} restarted{pace}{order}")
    if found.created:
        parts.append(f"{_tasks(len(found.created))} more")
    if found.removed:
        parts.append(f"{_tasks(len(found.removed))} less")
    if not parts:
        return step.note or "no task is restarted"
    if found.has_outage:
        parts.append("OUTAGE: none healthy on the way")
    elif found.restarted:
        parts.append(f"at least {found.min_healthy} healthy")
    if found.best_case_s >= 1:
        parts.append(f"about {seconds(found.best_case_s)}")
    return ", ".join(parts)


def lines(step: Step, forecast: Forecast | None) -> list[str]:
    """The lines below a service's fields: where its tasks run, what is pulled, what blocks."""
    found = of(step, forecast)
    if found is None or forecast is None:
        return []
    told = []
    if found.after or found.before:
        same = " (unchanged)" if dict(found.before) == dict(found.after) else ""
        before = f"{_placed(found.before)}  ->  " if found.before and not same else ""
        told.append(f"schedule   {before}{_placed(found.after)}{same}{_pulls(found.pulls)}")
    if found.blocked:
        told.append(f"blocked    {found.blocked}")
    lost = [item for item in forecast.lost if item.service == found.engine_name]
    if lost:
        names = ", ".join(f"{item.hostname} ({_tasks(item.missing)} missing)" for item in lost[:_SHOWN_NODES])
        told.append(f"if a node is lost: not enough room without {names}")
    elif len(forecast.nodes) > 1:
        told.append("if a node is lost: holds without any one node")
    return told


def of(step: Step, forecast: Forecast | None) -> ServiceForecast | None:
    """The forecast of a step's service."""
    return forecast.services.get(step.engine_name) if forecast and step.kind == "Service" else None


def seconds(count: float) -> str:
    """`45 s`, `3 min 20 s`."""
    whole = round(count)
    if whole < 120:
        return f"{whole} s"
    return f"{whole // 60} min" + (f" {whole % 60} s" if whole % 60 else "")


def _placed(nodes: Mapping[str, int]) -> str:
    shown = sorted(nodes.items(), key=lambda item: (-item[1], item[0]))
    more = f" and {len(shown) - _SHOWN_NODES} more nodes" if len(shown) > _SHOWN_NODES else ""
    return ", ".join(f"{name} {count}" for name, count in shown[:_SHOWN_NODES]) + more or "nowhere"


def _pulls(pulls: Mapping[str, int | None]) -> str:
    if not pulls:
        return ""
    known = next((size for size in pulls.values() if size), None)
    size = f"{max(1, round(known / _MIB))} MiB" if known else "the image"
    return f"; pulls {size} on {len(pulls)} node{'' if len(pulls) == 1 else 's'}"


def _tasks(count: int) -> str:
    return f"{count} task{'' if count == 1 else 's'}"
