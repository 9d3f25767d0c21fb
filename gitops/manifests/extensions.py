"""What a manifest says of a service and the Engine API has no field for: it travels as labels `gitops.x.<path>`.

The engine keeps and shows such labels as any others, ours and a real dockerd alike, so that what is live still says it.
`labels_of` writes them, `canonical` and `read` take them back. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from gitops.manifests.desired import Dependency
from gitops.objects import labels

DEPENDS_ON = labels.EXTENSION + "depends_on"
DEADLINE = labels.EXTENSION + "deploy.deadline"
MIN_AVAILABLE = labels.EXTENSION + "deploy.min_available"
CONDITIONS = ("started", "healthy", "completed_successfully")


def labels_of(
    depends_on: Iterable[Dependency], deadline_ns: int | None, min_available: int | None = None
) -> dict[str, str]:
    """The labels that a service gets for what goes beyond the API; none for what isn't said."""
    found: dict[str, str] = {}
    uses = {item.engine_name: _use(item.condition, item.required) for item in depends_on}
    if uses:
        found[DEPENDS_ON] = msgspec.json.encode(uses, order="sorted").decode()
    if deadline_ns is not None:
        found[DEADLINE] = str(deadline_ns)
    if min_available is not None:
        found[MIN_AVAILABLE] = str(min_available)
    return found


def _use(condition: str, required: bool) -> dict[str, Any]:
    return {"condition": condition} if required else {"condition": condition, "required": False}


def depends_on(found: Mapping[str, str]) -> tuple[Dependency, ...] | None:
    """What a service's labels say that it depends on; None if they say nothing that we understand."""
    try:
        uses = msgspec.json.decode(found.get(DEPENDS_ON, ""), type=dict[str, dict[str, Any]])
        result = tuple(Dependency(name, use["condition"], use.get("required", True)) for name, use in uses.items())
    except (msgspec.DecodeError, KeyError):
        return None
    return result if all(item.condition in CONDITIONS for item in result) else None


def number(found: Mapping[str, str], label: str) -> int | None:
    """The number that a label holds; None if it holds none."""
    text = found.get(label, "")
    return int(text) if text.isascii() and text.isdigit() else None


def canonical(found: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, Any], dict[str, str]]:
    """A service's labels apart: fields of the service, fields of `deploy`, and the labels that remain.

    Dependencies within the stack stand by the service's own name, as in the manifest. A label of ours that somebody
    made unreadable remains a label, so that the difference shows.
    """
    if not any(label.startswith(labels.EXTENSION) for label in found):
        return {}, {}, dict(found)
    rest = dict(found)
    service: dict[str, Any] = {}
    deploy: dict[str, Any] = {}
    known = depends_on(found)
    if known is not None:
        prefix = labels.engine_name(found.get(labels.STACK, ""), "")
        service["depends_on"] = {
            item.engine_name.removeprefix(prefix): _use(item.condition, item.required) for item in known
        }
        del rest[DEPENDS_ON]
    for label in (DEADLINE, MIN_AVAILABLE):
        value = number(found, label)
        if value is not None:
            deploy[label.rpartition(".")[2]] = value
            del rest[label]
    return service, deploy, rest
