"""What goes: objects of ours, of this source's stacks, that left the manifests. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from gitops.manifests import DesiredSet
from gitops.reconciler.live import Live
from gitops.reconciler.plan import Action, Reason, Step
from gitops.reconciler.versions import Kept

_VERSIONED = ("Secret", "Config")


def steps(desired: DesiredSet, stacks: frozenset[str], live: Live, kept: Kept) -> list[Step]:
    """The deletes; volumes only on an explicit word, so never here. What is in `kept` stays for rollbacks."""
    wanted = {(item.kind, item.stack, item.name) for item in desired.objects}
    found = []
    for kind, name, labels in _owned(live):
        owner = live.owner(labels)
        if owner is None or owner[1] != kind or owner[0] not in stacks or not prunes(desired, owner[0]):
            continue
        if (kind, owner[0], owner[2]) in wanted:
            continue
        step = Step(kind, owner[0], owner[2], name, Action.DELETE, reason(desired, owner[0]))
        if step.key in kept and kind in _VERSIONED:
            step = replace(step, action=Action.NONE, note="left the manifests; stays for rollbacks")
        found.append(step)
    return sorted(found, key=lambda step: (step.kind, step.engine_name))


def reason(desired: DesiredSet, stack: str) -> Reason:
    """Why objects of a stack go."""
    return Reason.LEFT if desired.objects or stack in desired.stacks else Reason.STACK


def prunes(desired: DesiredSet, stack: str) -> bool:
    """Whether a stack's settings let anything go."""
    settings = desired.stacks.get(stack)
    return settings.prune if settings else True


def _owned(live: Live) -> Iterable[tuple[str, str, Mapping[str, str] | None]]:
    for name, service in live.services.items():
        yield "Service", name, service.spec.labels
    for name, network in live.networks.items():
        yield "Network", name, network.labels
    for name, secret in live.secrets.items():
        yield "Secret", name, secret.spec.labels
    for name, config in live.configs.items():
        yield "Config", name, config.spec.labels
