"""What goes: objects of ours, of this source's stacks, that left the manifests. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace

from gitops.manifests import DesiredSet
from gitops.reconciler.live import Live
from gitops.reconciler.plan import Action, Reason, Step
from gitops.reconciler.versions import Kept

_VERSIONED = ("Secret", "Config")


def pruned(desired: DesiredSet, stacks: Collection[str], parts: Collection[str]) -> frozenset[str]:
    """The stacks of which anything may go: not where their settings forbid it, nor where `desired` is only a part."""
    return frozenset(stack for stack in stacks if stack not in parts and _prunes(desired, stack))


def _prunes(desired: DesiredSet, stack: str) -> bool:
    settings = desired.stacks.get(stack)
    return settings.prune if settings else True


def steps(desired: DesiredSet, stacks: Collection[str], live: Live, kept: Kept) -> list[Step]:
    """The deletes in `stacks`, but for `volumes`; what is in `kept` stays for rollbacks."""
    wanted = {(item.kind, item.stack, item.name) for item in desired.objects}
    names = {item.key for item in desired.objects}
    found = []
    for kind, name, labels in _owned(live):
        owner = live.owner(labels)
        if owner is None or owner[1] != kind or owner[0] not in stacks:
            continue
        # Secrets and configs have a name for each version; anything else under another name is its former self.
        if (kind, owner[0], owner[2]) in wanted and (kind in _VERSIONED or (kind, name) in names):
            continue
        step = Step(kind, owner[0], owner[2], name, Action.DELETE, reason(desired, owner[0]))
        if step.key in kept and kind in _VERSIONED:
            step = replace(step, action=Action.NONE, note="left the manifests; stays for rollbacks")
        found.append(step)
    return sorted(found, key=lambda step: (step.kind, step.engine_name))


def volumes(
    desired: DesiredSet, stacks: Collection[str], live: Live, removed: Collection[str], *, is_asked: bool
) -> list[Step]:
    """What becomes of volumes that left the manifests; they go only if it `is_asked` for, and if nothing uses them.

    `removed` are the services that go. Of a stack that stays, those that stay are nobody's business and not told.
    """
    wanted = {(item.stack, item.name) for item in desired.of("Volume")}
    users = _users(live, removed) if is_asked else {}
    found = []
    for name, volume in sorted(live.volumes.items()):
        owner = live.owner(volume.labels)
        if owner is None or owner[1] != "Volume" or owner[0] not in stacks or (owner[0], owner[2]) in wanted:
            continue
        step = Step("Volume", owner[0], owner[2], name, Action.NONE, reason(desired, owner[0]), note="kept")
        if is_asked and name in users:
            found.append(replace(step, note=f"kept, since service {', '.join(sorted(users[name]))} uses it"))
        elif is_asked:
            found.append(replace(step, action=Action.DELETE, note="with its data"))
        elif step.reason is Reason.STACK:
            found.append(step)
    return found


def renamed_volumes(desired: DesiredSet, live: Live) -> Iterator[str]:
    """Volumes that the engine has under another name, and that would be made anew: empty."""
    former = {
        (owner[0], owner[2]): name
        for name, volume in live.volumes.items()
        if (owner := live.owner(volume.labels)) and owner[1] == "Volume"
    }
    for item in desired.of("Volume"):
        name = former.get((item.stack, item.name))
        if name is not None and item.engine_name not in live.volumes:
            yield (
                f"volume {item.name} of stack {item.stack} is {name} on the engine; {item.engine_name} will be a new,"
                " empty one: put moved_from or the name back into its manifest, if that isn't meant"
            )


def _users(live: Live, removed: Collection[str]) -> dict[str, set[str]]:
    """The services that use volumes, and stay, by the volume's name."""
    found: dict[str, set[str]] = {}
    for name, service in live.services.items():
        container = service.spec.task_template.container_spec
        if container is None or name in removed:
            continue
        for mount in container.mounts:
            if mount.type == "volume":
                found.setdefault(mount.source, set()).add(name)
    return found


def reason(desired: DesiredSet, stack: str) -> Reason:
    """Why objects of a stack go."""
    return Reason.LEFT if desired.objects or stack in desired.stacks else Reason.STACK


def _owned(live: Live) -> Iterable[tuple[str, str, Mapping[str, str] | None]]:
    for name, service in live.services.items():
        yield "Service", name, service.spec.labels
    for name, network in live.networks.items():
        yield "Network", name, network.labels
    for name, secret in live.secrets.items():
        yield "Secret", name, secret.spec.labels
    for name, config in live.configs.items():
        yield "Config", name, config.spec.labels
