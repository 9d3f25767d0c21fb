"""Which events a client wants: words of a key are alternatives, keys must all match. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gitops.engine.events import Event

_OBJECTS = ("container", "image", "volume", "network", "daemon", "plugin", "service", "node", "secret", "config")
KEYS = (*_OBJECTS, "event", "label", "type", "scope")
_TASK_LABEL = "com.docker.swarm.service.name"


def matches(event: Event, filters: Mapping[str, Sequence[str]]) -> bool:
    """Whether the event passes every filter."""
    return all(_matches(event, key, values) for key, values in filters.items())


def _matches(event: Event, key: str, values: Sequence[str]) -> bool:
    if key == "type":
        return event.type in values
    if key == "scope":
        return event.scope in values
    if key == "event":
        # "exec_create: ls" is meant by "exec_create", "health_status: healthy" by "health_status".
        return event.action in values or event.action.partition(":")[0] in values
    if key == "label":
        return all(_has_label(event.actor.attributes, value) for value in values)
    return event.type == key and any(_names(event, value) for value in values)


def _has_label(attributes: Mapping[str, str], wanted: str) -> bool:
    name, separator, value = wanted.partition("=")
    return name in attributes and (not separator or attributes[name] == value)


def _names(event: Event, wanted: str) -> bool:
    attributes = event.actor.attributes
    if event.type == "image":
        # `nginx` means every tag of it.
        known = {event.actor.id, attributes.get("name", "")}
        return wanted in known or any(name.rpartition(":")[0] == wanted for name in known)
    return wanted in (event.actor.id, attributes.get("name"), attributes.get(_TASK_LABEL)) or (
        len(wanted) >= 4 and event.actor.id.startswith(wanted)
    )
