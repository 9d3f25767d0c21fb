"""What forbids a plan: objects of others in the way, externals that are missing, what can't be changed. Pure."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping
from typing import Any

from gitops import errors
from gitops.manifests import DesiredSet, extensions
from gitops.objects import labels as names_of_labels
from gitops.objects.network import NetworkResource
from gitops.objects.service import ServiceSpec
from gitops.reconciler import ports
from gitops.reconciler.forecast import Forecast
from gitops.reconciler.live import Live
from gitops.reconciler.plan import Action, Step


def check_owners(desired: DesiredSet, live: Live) -> None:
    """Whatever has the name of an object of ours must be ours, of the same stack and name.

    Raises:
        errors.Refused: something is not.
    """
    found: dict[str, Callable[[str], Mapping[str, str] | None]] = {
        "Service": lambda name: live.services[name].spec.labels if name in live.services else None,
        "Network": lambda name: live.networks[name].labels if name in live.networks else None,
        "Volume": lambda name: live.volumes[name].labels if name in live.volumes else None,
    }
    exists: dict[str, Mapping[str, Any]] = {
        "Service": live.services,
        "Network": live.networks,
        "Volume": live.volumes,
    }
    strangers = []
    for item in desired.objects:
        if item.kind in found and item.engine_name in exists[item.kind]:
            owner = live.owner(found[item.kind](item.engine_name))
            if owner != (item.stack, item.kind, item.name):
                whose = f"belongs to stack {owner[0]!r}" if owner else f"has no label {names_of_labels.KIND}"
                strangers.append(f"{item.position}: {item.kind.lower()} {item.engine_name} exists and {whose}")
    if strangers:
        raise errors.Refused("not ours: " + "; ".join(strangers) + "; rename the manifest's object or remove the other")


def check_externals(desired: DesiredSet, live: Live) -> None:
    """What is said to exist must.

    Raises:
        errors.InvalidManifest: something does not.
    """
    exists: dict[str, Mapping[str, Any]] = {
        "Network": live.networks,
        "Volume": live.volumes,
        "Secret": live.secrets,
        "Config": live.configs,
    }
    problems = [
        errors.Problem(
            item.position.file,
            item.position.line,
            item.position.column,
            "spec.external",
            f"the engine has no {item.kind.lower()} {item.engine_name!r}",
            "create it first, or take `external` away",
        )
        for item in desired.externals
        if item.engine_name not in exists.get(item.kind, {})
    ]
    if problems:
        raise errors.InvalidManifest(problems)


def refusals(
    steps: Iterable[Step], specs: Mapping[str, ServiceSpec], live: Live, removed: Container[str]
) -> Iterable[str]:
    """What can't be carried out: networks in use and volumes that would have to be replaced, ports of others.

    `specs` are what is sent, by engine name; a service that is sent nothing has its ports already.
    """
    for step in steps:
        if step.action is not Action.REPLACE:
            continue
        paths = ", ".join(change.path for change in step.changes)
        what = (
            f"{step.kind.lower()} {step.engine_name} differs from its manifest ({paths}) and can't be changed in place"
        )
        if step.kind == "Volume":
            yield f"{what}: give the volume another name and move its data"
        elif users := _users(live.networks[step.engine_name], live, removed):
            yield f"{what} while it is used by {', '.join(users)}: give the network another name"
    staying = {name: service for name, service in live.services.items() if name not in removed}
    yield from ports.clashes(specs, staying)


def changed_modes(steps: Iterable[Step]) -> Iterable[str]:
    """Services that would change their mode, which no swarm lets them."""
    for step in steps:
        for change in step.changes if step.kind == "Service" and step.action is Action.UPDATE else ():
            if change.path == "deploy.mode":
                yield (
                    f"service {step.engine_name} can't change its mode from {change.old} to {change.new}:"
                    " give it another name, or delete it first"
                )


def unavailable(steps: Iterable[Step], specs: Mapping[str, ServiceSpec], forecast: Forecast | None) -> Iterable[str]:
    """Updates on whose way fewer tasks would be healthy than `deploy.min_available` asks for.

    A service that has fewer now is let through: the change may be what mends it.
    """
    found = forecast.services if forecast else {}
    for step in steps:
        if step.kind != "Service" or step.action is not Action.UPDATE or step.engine_name not in found:
            continue
        least = extensions.number(specs[step.engine_name].labels, extensions.MIN_AVAILABLE) or 0
        service = found[step.engine_name]
        if service.min_healthy < least <= sum(service.before.values()):
            yield (
                f"service {step.engine_name} would have {service.min_healthy} healthy tasks on the way, fewer than its"
                f" min_available of {least}: lower update_config.parallelism, or set order: start-first"
            )


def _users(network: NetworkResource, live: Live, removed: Container[str]) -> list[str]:
    return sorted(
        name
        for name, service in live.services.items()
        if name not in removed
        and any(use.target in (network.id, network.name) for use in service.spec.task_template.networks)
    )
