"""Placeholders in a service's environment, hostname and mounts: the small part of Go's templates that Docker documents.

`{{.Service.ID}}`, `{{.Service.Name}}`, `{{.Service.Labels.KEY}}`, `{{.Node.ID}}`, `{{.Node.Hostname}}`,
`{{.Node.Platform.OS}}`, `{{.Node.Platform.Architecture}}`, `{{.Task.ID}}`, `{{.Task.Name}}`, `{{.Task.Slot}}`, and
`{{index .Service.Labels "KEY"}}` for keys with dots. Anything else between braces is an error, as it is in Docker.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from gitops import errors
from gitops.objects.node import NodeDescription
from gitops.objects.task import Task

_ACTION = re.compile(r"\{\{-?\s*(.*?)\s*-?\}\}", re.DOTALL)
_LABEL = re.compile(r"\.Service\.Labels\.(\w+)")
_INDEX = re.compile(r"index\s+\.Service\.Labels\s+\"((?:[^\"\\]|\\.)*)\"")


class Expander:
    """Expands the placeholders of one task."""

    def __init__(self, task: Task, node: NodeDescription | None) -> None:
        self._labels: Mapping[str, str] = task.service_labels
        self._values = {
            ".Service.ID": task.service_id,
            ".Service.Name": task.service_name,
            ".Node.ID": task.node_id,
            ".Node.Hostname": node.hostname if node else "",
            ".Node.Platform.OS": node.platform.os if node else "",
            ".Node.Platform.Architecture": node.platform.architecture if node else "",
            ".Task.ID": task.id,
            ".Task.Name": task_name(task),
            ".Task.Slot": str(task.slot) if task.slot else task.node_id,
        }

    def __call__(self, text: str) -> str:
        """`text` with its placeholders replaced.

        Raises:
            errors.Invalid: a placeholder that isn't known, or a label that isn't there.
        """
        return _ACTION.sub(lambda match: self._value(match.group(1), text), text) if "{{" in text else text

    def _value(self, expression: str, text: str) -> str:
        if expression in self._values:
            return self._values[expression]
        match = _LABEL.fullmatch(expression) or _INDEX.fullmatch(expression)
        if match is None:
            known = ", ".join("{{" + name + "}}" for name in self._values)
            raise errors.Invalid(f"unknown placeholder {{{{{expression}}}}} in {text!r}: there are {known}")
        if match.group(1) not in self._labels:
            raise errors.Invalid(f"the service has no label {match.group(1)!r}, which {text!r} refers to")
        return self._labels[match.group(1)]


def task_name(task: Task) -> str:
    """`<service>.<slot>.<task id>`; a task without a slot has its node's id instead."""
    return f"{task.service_name}.{task.slot or task.node_id}.{task.id}"
