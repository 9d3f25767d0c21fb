"""Placeholders in a service's environment, hostname and mounts, and in secrets and configs that are templates.

`objects.placeholders` has what they look like; here they get the values of one task on its node.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from gitops import errors
from gitops.objects import placeholders
from gitops.objects.node import NodeDescription
from gitops.objects.task import Task


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
            ".Task.Slot": task.place,
        }

    def __call__(self, text: str) -> str:
        """`text` with its placeholders replaced.

        Raises:
            errors.Invalid: a placeholder that isn't known, or a label that isn't there.
        """
        return placeholders.expand(text, lambda expression: self._value(expression, text))

    def file(self, data: bytes, name: str, functions: Mapping[str, Callable[[str], str]]) -> bytes:
        """The content of a secret or config that is a template, with what `functions` give for their arguments.

        Raises:
            errors.Invalid: a placeholder that isn't known, or no UTF-8. The message names the file, never its content.
        """

        def value(expression: str) -> str:
            found = placeholders.call(expression)
            if found is not None:
                return functions[found[0]](found[1])
            try:
                return self._value(expression, name)
            except errors.Invalid as error:
                raise errors.Invalid(f"the template {name} has a placeholder that can't be expanded") from error

        try:
            return placeholders.expand(data.decode(), value).encode()
        except UnicodeDecodeError as error:
            raise errors.Invalid(f"the template {name} is no UTF-8 text") from error

    def _value(self, expression: str, text: str) -> str:
        if expression in self._values:
            return self._values[expression]
        label = placeholders.label(expression)
        if label is None:
            raise placeholders.unknown(expression, text)
        if label not in self._labels:
            raise errors.Invalid(f"the service has no label {label!r}, which {text!r} refers to")
        return self._labels[label]


def task_name(task: Task) -> str:
    """`<service>.<slot>.<task id>`; a task without a slot has its node's id instead."""
    return f"{task.service_name}.{task.place}.{task.id}"
