"""What a plan does to what runs, in words: from the forecast of the schedule. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from gitops.reconciler.forecast import Forecast, ServiceForecast
from gitops.reconciler.plan import Action, Step
from gitops.swarm.scheduling import modes

_SHOWN_NODES = 8
_MIB = 1024**2


def brief(step: Step, forecast: Forecast | None) -> str:
    """`5 tasks, 2 at a time, at least 3 healthy, about 45 s`; what the plan notes where nothing is forecast."""
    found = of(step, forecast)
    if found is None or step.action not in (Action.UPDATE, Action.REPLACE):
        return step.note + _spread(step, found)
    if found.mode in (modes.REPLICATED_JOB, modes.GLOBAL_JOB):
        return _anew(found)
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


def _spread(step: Step, found: ServiceForecast | None) -> str:
    """On how many nodes a new service by node comes to be."""
    if found is None or step.action is not Action.CREATE or found.mode not in (modes.GLOBAL, modes.GLOBAL_JOB):
        return ""
    return f": {_nodes(len(found.after))}"


def _anew(found: ServiceForecast) -> str:
    """`runs anew: 5 tasks, 2 at a time, 1 stopped before its end`."""
    count = sum(map(len, found.batches))
    largest = max(map(len, found.batches), default=0)
    pace = f", {largest} at a time" if largest < count else ""
    stopped = len(found.restarted) + len(found.removed)
    cut = f", {stopped} stopped before {'its' if stopped == 1 else 'their'} end" if stopped else ""
    return f"runs anew: {_tasks(count)}{pace}{cut}"


def lines(step: Step, forecast: Forecast | None) -> list[str]:
    """The lines below a service's fields: where its tasks run, what is pulled, what blocks."""
    found = of(step, forecast)
    if found is None or forecast is None:
        return []
    told = []
    if found.after or found.before:
        same = " (unchanged)" if dict(found.before) == dict(found.after) else ""
        before = f"{_placed(found.before)}  ->  " if found.before and not same else ""
        told.append(f"schedule   {before}{_placed(found.after)}{same}{_pulls(found)}")
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


def _pulls(found: ServiceForecast) -> str:
    """`; pulls 12 MiB on 3 nodes`; of nodes whose images aren't known, that."""
    told = ""
    if found.pulls:
        known = next((size for size in found.pulls.values() if size), None)
        size = f"{max(1, round(known / _MIB))} MiB" if known else "the image (size unknown)"
        told += f"; pulls {size} on {_nodes(len(found.pulls))}"
    if found.pulls_unknown:
        told += f"; whether it must be pulled on {_nodes(len(found.pulls_unknown))} is unknown"
    return told


def _nodes(count: int) -> str:
    return f"{count} node{'' if count == 1 else 's'}"


def _tasks(count: int) -> str:
    return f"{count} task{'' if count == 1 else 's'}"
