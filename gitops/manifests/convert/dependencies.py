"""`depends_on` between the services of a set: names looked up, and cycles found.

A name is looked up as every reference is, in the own stack and among services without one; another stack's service goes
by its full name, `<stack>_<name>`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gitops.manifests import problems
from gitops.manifests.catalog import Catalog, Item
from gitops.manifests.desired import Dependency, Desired
from gitops.manifests.kinds.service import ServiceSpec
from gitops.manifests.problems import Issue
from gitops.manifests.text.fieldpath import Path
from gitops.objects import defaults
from gitops.objects import service as objects


def resolve(catalog: Catalog, item: Item, spec: ServiceSpec) -> tuple[Dependency, ...]:
    """What a service depends on, by name in order; names that lead nowhere are reported."""
    found: dict[str, Dependency] = {}
    for name, use in (spec.depends_on or {}).items():
        is_required = use is None or use.required is not False
        other = _find(catalog, item, name)
        if other is None:
            if is_required and not catalog.is_incomplete:
                reason, hint = _missing(catalog, item, name)
                catalog.report(item, Issue(_place(name), reason, hint))
        elif other.engine_name in found:
            hint = "remove one"
            catalog.report(item, Issue(_place(name), f"{other.engine_name!r} is given twice", hint))
        else:
            condition = (use.condition if use else None) or "started"
            found[other.engine_name] = Dependency(other.engine_name, condition, is_required)
    return tuple(found[name] for name in sorted(found))


def _find(catalog: Catalog, item: Item, name: str) -> Item | None:
    near = catalog.items.get(("Service", item.stack, name)) or catalog.items.get(("Service", "", name))
    if near is not None:
        return near
    stack, mark, rest = name.partition("_")
    return catalog.items.get(("Service", stack, rest)) if mark else None


def _missing(catalog: Catalog, item: Item, name: str) -> tuple[str, str]:
    services = [(stack, own) for kind, stack, own in catalog.items if kind == "Service"]
    known = [own for stack, own in services if stack in (item.stack, "")]
    near = problems.closest(name, [*known, *(f"{stack}_{own}" for stack, own in services if stack)])
    reason = f"no Service {name!r}" + (f" in stack {item.stack}" if item.stack else " without a stack")
    elsewhere = next((f"{stack}_{own}" for stack, own in services if own == name), "")
    if elsewhere:
        return reason, f'another stack has one: "{elsewhere}"'
    return reason, f'did you mean "{near}"?' if near else "write a Service of this name, or required: false"


def _place(name: str) -> Path:
    return "spec", "depends_on", name


def check_cycles(catalog: Catalog, services: Sequence[tuple[Item, Desired]]) -> None:
    """Report services that wait for each other, once for each cycle that is met, with the chain and its places."""
    if not any(desired.depends_on for _, desired in services):
        return
    by_name = {desired.engine_name: (item, desired) for item, desired in services}
    done: set[str] = set()
    for name in by_name:
        for chain in _cycles(by_name, name, done):
            _report(catalog, by_name, chain)


def warn_of_endless(catalog: Catalog, services: Sequence[tuple[Item, Desired]]) -> None:
    """Warn where a service waits for one to complete which always starts again."""
    by_name = {desired.engine_name: desired for _, desired in services}
    for item, desired in services:
        for dependency in desired.depends_on:
            other = by_name.get(dependency.engine_name)
            if dependency.condition == "completed_successfully" and other is not None and _starts_again(other):
                reason = f"{other.engine_name} never completes: it starts again whenever it ends ({other.position})"
                hint = "give it restart: on-failure, or deploy.mode: replicated-job"
                catalog.warnings.append(item.document.problem(Issue(_edge(item, other.engine_name)[1], reason, hint)))


def _starts_again(desired: Desired) -> bool:
    spec = desired.spec
    assert isinstance(spec, objects.ServiceSpec)
    is_job = spec.mode.replicated_job is not None or spec.mode.global_job is not None
    return not is_job and defaults.restart_policy(spec.task_template.restart_policy).condition == "any"


def _cycles(by_name: dict[str, tuple[Item, Desired]], start: str, done: set[str]) -> Iterator[list[str]]:
    """Depth first without recursion, since chains may be long; `done` is what needn't be entered again."""
    path: list[str] = []
    on_path: dict[str, int] = {}
    stack: list[tuple[str, bool]] = [(start, True)]
    while stack:
        name, is_entry = stack.pop()
        if not is_entry:
            path.pop()
            del on_path[name]
            done.add(name)
        elif name in on_path:
            yield path[on_path[name] :]
        elif name in by_name and name not in done:
            on_path[name] = len(path)
            path.append(name)
            stack.append((name, False))
            stack += [(other.engine_name, True) for other in reversed(by_name[name][1].depends_on)]


def _report(catalog: Catalog, by_name: dict[str, tuple[Item, Desired]], chain: list[str]) -> None:
    edges = zip(chain, [*chain[1:], chain[0]], strict=True)
    places = [_edge(by_name[name][0], other) for name, other in edges]
    text = " -> ".join([*chain, chain[0]])
    item, path = places[0]
    reason = f"services can't wait for each other: {text}" if len(chain) > 1 else "a service can't wait for itself"
    also = ", ".join(
        f"{place.file}:{place.line}" for other, at in places[1:] for place in (other.document.problem(Issue(at, "")),)
    )
    catalog.report(item, Issue(path, reason, f"cut the chain here, or at {also}" if also else "remove it"))


def _edge(item: Item, other: str) -> tuple[Item, Path]:
    """Where `item` names the service that is called `other` on the engine."""
    names = list(getattr(getattr(item.model, "spec", None), "depends_on", None) or ())
    return item, _place(next(name for name in names if other in (name, f"{item.stack}_{name}")))
