"""Tasks on the wire: inside them the Engine API describes a network's addresses otherwise than everywhere else.

A network in a listing has `IPAM: {Driver: "default", Config: [{Subnet, IPRange, Gateway}]}`; the same in a task's
attachments is `IPAMOptions: {Driver: {Name}, Configs: [{Subnet, Range, Gateway}]}`. Our structs know the first shape.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from gitops import errors
from gitops.objects import base, wire
from gitops.objects.task import Task

_Shape = dict[str, Any]


def encode(tasks: Sequence[Task]) -> list[_Shape]:
    """Tasks as the API has them, ready for JSON."""
    return [_each_ipam(base.to_builtins(task), _to_swarm) for task in tasks]


def decode_one(data: bytes) -> Task:
    """A task from the API's JSON.

    Raises:
        errors.Invalid: it isn't one.
    """
    return wire.decode(base.to_json(_each_ipam(_parsed(data), _from_swarm)), Task)


def decode_all(data: bytes) -> list[Task]:
    """Tasks from the API's JSON.

    Raises:
        errors.Invalid: they aren't any.
    """
    items = _parsed(data)
    if not isinstance(items, list):
        raise errors.Invalid("a list of tasks was expected")
    return wire.decode(base.to_json([_each_ipam(item, _from_swarm) for item in items]), list[Task])


def _parsed(data: bytes) -> Any:
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise errors.Invalid(f"invalid JSON of a task: {error}") from error


def _each_ipam(task: Any, change: Callable[[_Shape], _Shape]) -> Any:
    """Change every `IPAMOptions` of a task's attachments, in place."""
    for attachment in (task.get("NetworksAttachments") if isinstance(task, dict) else None) or ():
        network = attachment.get("Network") or {}
        for holder in (network, network.get("Spec") or {}):
            if isinstance(holder.get("IPAMOptions"), dict):
                holder["IPAMOptions"] = change(holder["IPAMOptions"])
    return task


def _to_swarm(ipam: _Shape) -> _Shape:
    configs = [
        {"Subnet": item.get("Subnet", ""), "Range": item.get("IPRange", ""), "Gateway": item.get("Gateway", "")}
        for item in ipam.get("Config") or ()
    ]
    return {"Driver": {"Name": ipam.get("Driver") or "default"}, "Configs": configs}


def _from_swarm(ipam: _Shape) -> _Shape:
    if "Configs" not in ipam and not isinstance(ipam.get("Driver"), dict):
        return ipam
    configs = [
        {"Subnet": item.get("Subnet") or "", "IPRange": item.get("Range") or "", "Gateway": item.get("Gateway") or ""}
        for item in ipam.get("Configs") or ()
    ]
    return {"Driver": (ipam.get("Driver") or {}).get("Name") or "default", "Config": configs}
