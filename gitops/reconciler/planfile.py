"""A plan that is kept in a file, to be applied as it was shown or not at all.

The file holds the plan's document, where its manifests are, the state that they had, and digests of what it was made
on. It holds no manifest and no secret's value: an apply reads the manifests again, plans again on the live state, and
goes on only if nothing that counts has changed (`differences`). So a file is consent to a plan, never a way to change
what is applied. Values of `--set` aren't kept, their names are: they are to be given again.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gitops import errors
from gitops.manifests import canonical
from gitops.objects import base
from gitops.objects.node import Node
from gitops.reconciler import document as documents
from gitops.reconciler.diff import fields

if TYPE_CHECKING:
    from gitops.reconciler.live import Live
    from gitops.reconciler.reconcile import Prepared

FORMAT = "gitops-plan"
FORMAT_VERSION = 1
_HEAD = 200
_SHOWN = 20
_DRIFT_REASONS = {"drifted": "changed", "removed-outside": "missing"}


@dataclass(frozen=True, slots=True)
class Given:
    """What the command line said, as far as it has to be the same again; `sets` are the names of `--set`, `compose` the
    options of Compose files that were given, by the names that `LoadOptions` has for them."""

    path: Path
    env: str = ""
    sets: tuple[str, ...] = ()
    take_over: bool = False
    allow_empty: bool = False
    compose: Mapping[str, Any] = field(default_factory=dict)
    allow_deletes: bool = False
    prune: bool = False
    prune_volumes: bool = False


@dataclass(frozen=True, slots=True)
class Kept:
    """A plan from a file."""

    file: Path
    given: Given
    document: Mapping[str, Any]


def names(sets: tuple[str, ...]) -> tuple[str, ...]:
    """The names of values that were given as `a.b=c`."""
    return tuple(sorted(text.partition("=")[0] for text in sets))


def write(file: Path, prepared: Prepared, given: Given) -> None:
    """Keep a plan; the file is whole or not there, and only its owner reads it: environments are in plans.

    Raises:
        errors.Invalid: it can't be written.
    """
    body = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "made_at": base.format_time(time.time_ns()),
        "path": str(given.path),
        "env": given.env,
        "sets": list(given.sets),
        "take_over": given.take_over,
        "allow_empty": given.allow_empty,
        "compose": dict(given.compose),
        "allow_deletes": given.allow_deletes,
        "prune": given.prune,
        "prune_volumes": given.prune_volumes,
        "source": prepared.source.identity,
        "commit": prepared.source.commit,
        "revision": prepared.revision,
        "basis": _basis(prepared),
        "plan": documents.of_plan(prepared.plan),
    }
    body["digest"] = _digest(body)
    data = (json.dumps(body, indent=1, ensure_ascii=False) + "\n").encode()
    try:
        handle, scratch = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
        try:
            with os.fdopen(handle, "wb") as output:
                output.write(data)
            os.replace(scratch, file)
        except OSError:
            Path(scratch).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise errors.Invalid(f"{file}: the plan can't be kept there: {error.strerror}") from error


def read(file: Path) -> Kept | None:
    """The plan that a file holds; None if it is something else, such as a manifest.

    Raises:
        errors.Invalid: a plan that was cut or edited, or one of another version.
    """
    try:
        with file.open("rb") as source:
            head = source.read(_HEAD)
            if f'"format": "{FORMAT}"'.encode() not in head:
                return None
            body = json.loads(head + source.read())
    except OSError as error:
        raise errors.Invalid(f"{file}: can't be read: {error.strerror}") from error
    except ValueError as error:
        raise errors.Invalid(f"{file}: this kept plan is damaged: make a new one with gitops diff --out") from error
    if body.get("format_version") != FORMAT_VERSION:
        raise errors.Invalid(f"{file}: a kept plan of another version of gitops: make a new one with gitops diff --out")
    if body.pop("digest", "") != _digest(body):
        raise errors.Invalid(f"{file}: this kept plan was changed since it was made: make a new one")
    compose = {name: tuple(value) if isinstance(value, list) else value for name, value in body["compose"].items()}
    given = Given(
        Path(body["path"]),
        body["env"],
        tuple(body["sets"]),
        bool(body["take_over"]),
        bool(body["allow_empty"]),
        compose,
        bool(body.get("allow_deletes")),
        bool(body.get("prune")),
        bool(body.get("prune_volumes")),
    )
    return Kept(file, given, body)


def check(kept: Kept, prepared: Prepared) -> None:
    """See that a plan that was made anew is the one that was kept, on the same state.

    Raises:
        errors.Refused: it isn't; with what differs.
    """
    found = list(differences(kept, prepared))
    if found:
        more = [f"and {len(found) - _SHOWN} more"] if len(found) > _SHOWN else []
        text = "\n  ".join([*found[:_SHOWN], *more])
        raise errors.Refused(
            f"{kept.file}: the plan is stale, nothing was changed:\n  {text}\nmake a new one: gitops diff"
            f" {kept.given.path} --out {kept.file}"
        )


def differences(kept: Kept, prepared: Prepared) -> Iterator[str]:
    """What is no longer as it was when a plan was kept, in a line each."""
    former = kept.document
    if former["source"] != prepared.source.identity:
        yield f"the manifests were of {former['source']}, these are of {prepared.source.identity}"
    elif _state(former["revision"]) != _state(prepared.revision):
        yield f"the manifests changed: they were at {former['revision']}, and are at {prepared.revision}"
    before = {(step["kind"], step["engine_name"]): step for step in former["plan"]["changes"]}
    now = {
        (step["kind"], step["engine_name"]): step
        for step in json.loads(json.dumps([documents.step(item) for item in prepared.plan.steps]))
    }
    told = set()
    for name, text in _live_changes(former["basis"]["services"], before, prepared.live):
        told.add(("Service", name))
        yield text
    for key in sorted(before.keys() | now.keys()):
        old, new = _core(before.get(key)), _core(now.get(key))
        if old != new and key not in told:
            yield f"{key[0].lower()} {key[1]}: the plan was {_said(old)}, and would be {_said(new)}"
    yield from _node_changes(former["basis"]["nodes"], _nodes(prepared.live))


def _basis(prepared: Prepared) -> dict[str, Any]:
    touched = [step.engine_name for step in prepared.plan.changed if step.kind == "Service"]
    services = prepared.live.services
    return {
        "services": {name: _service(prepared.live, name) for name in touched if name in services},
        "nodes": _nodes(prepared.live) if touched else {},
    }


def _service(live: Live, name: str) -> dict[str, Any]:
    found = live.services[name]
    return {
        "id": found.id,
        "version": found.version.index,
        "hash": hashlib.sha256(base.to_json(found.spec)).hexdigest(),
        "update": found.update_status.state if found.update_status else "",
    }


def _live_changes(
    former: Mapping[str, Any], before: Mapping[tuple[str, str], Any], live: Live
) -> Iterator[tuple[str, str]]:
    """What happened to the live services that the plan would touch."""
    for name, was in former.items():
        if name not in live.services:
            yield name, f"service {name}: it was removed since"
            continue
        now = _service(live, name)
        if (was["id"], was["hash"]) == (now["id"], now["hash"]):
            continue
        form = before["Service", name].get("before") or {}
        changes = fields(form, canonical.service(live.services[name].spec, live.names)) if form else ()
        told = ", ".join(f"{change.path} was {change.old!r}, is {change.new!r}" for change in changes[:5])
        yield name, f"service {name}: changed since: {told or 'it was updated'}"


def _nodes(live: Live) -> dict[str, Any]:
    return {node.id: _node(node) for node in live.nodes}


def _node(node: Node) -> dict[str, Any]:
    """What the scheduler asks of a node."""
    description = node.description
    resources = description.resources if description else None
    return {
        "hostname": description.hostname if description else "",
        "state": node.status.state,
        "availability": node.spec.availability,
        "role": node.spec.role,
        "labels": dict(node.spec.labels),
        "cpus": resources.nano_cpus if resources else 0,
        "memory": resources.memory_bytes if resources else 0,
    }


def _node_changes(former: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    if not former:
        return
    for node in sorted(former.keys() | now.keys()):
        old, new = former.get(node), now.get(node)
        name = (new or old or {}).get("hostname") or node
        if old is None or new is None:
            yield f"node {name}: {'it came' if old is None else 'it left'} since"
        elif old != new:
            told = [f"{key} was {old.get(key)!r}, is {new[key]!r}" for key in new if old.get(key) != new[key]]
            yield f"node {name}: {', '.join(told)}"


def _core(step: Mapping[str, Any] | None) -> tuple[Any, ...] | None:
    """What a step does; None where it does nothing. Whether it is drift is no part of it."""
    if step is None or step["action"] == "no-op":
        return None
    changed = [(item["path"], item["old"], item["new"]) for item in step["fields"]]
    return step["action"], _DRIFT_REASONS.get(step["reason"], step["reason"]), changed


def _said(core: tuple[Any, ...] | None) -> str:
    if core is None:
        return "to do nothing"
    paths = ", ".join(item[0] for item in core[2][:5])
    return f"to {core[0]} it" + (f" ({paths})" if paths and core[0] == "update" else "")


def _state(revision: str) -> str:
    """The state of the files in a revision: a commit that changes none of them doesn't count."""
    return revision.rpartition("-")[2]


def _digest(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
