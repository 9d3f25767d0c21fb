"""Tasks: read only; they are the loops' own."""

from __future__ import annotations

from collections.abc import Callable

from gitops import errors
from gitops.objects.node import Node
from gitops.objects.service import Service
from gitops.objects.task import Task, TaskState
from gitops.swarm.manager.control import filters as filtering
from gitops.swarm.manager.control.base import ControlBase, find
from gitops.swarm.manager.control.filters import Filters
from gitops.swarm.scheduling import dirtiness
from gitops.swarm.store.protocol import View

KEYS = ("_up-to-date", "desired-state", "id", "label", "name", "node", "runtime", "service")


class TaskControl(ControlBase):
    """Find and list tasks."""

    def task(self, reference: str) -> Task:
        """The task with this id, name or beginning of an id.

        Raises:
            errors.NotFound, errors.Invalid: none, or several.
        """
        return find(self._store.view(), Task, reference)

    def tasks(self, filters: Filters | None = None) -> list[Task]:
        """The tasks that match, history included.

        Raises:
            errors.Invalid: an unknown filter, or value of one.
            errors.NotFound: a service or node that is filtered by doesn't exist.
        """
        wanted = filtering.check_keys(filters, KEYS)
        view = self._store.view()
        matches = _matcher(view, wanted)
        return [task for task in _candidates(view, wanted) if matches(task)]


def _candidates(view: View, filters: Filters) -> list[Task]:
    """The tasks that may match, by an index where there is one."""
    services = [find(view, Service, text).id for text in filters.get("service", ())]
    if len(services) == 1:
        return view.tasks_of_service(services[0])
    return [task for task in view.all(Task) if not services or task.service_id in services]


def _matcher(view: View, filters: Filters) -> Callable[[Task], bool]:
    states = _states(filters)
    nodes = {find(view, Node, text).id for text in filters.get("node", ())}
    is_current = filtering.flag(filters, "_up-to-date")

    def matches(task: Task) -> bool:
        return (
            (not states or task.desired_state in states)
            and (not nodes or task.node_id in nodes)
            and filtering.has_prefix(filters, "id", task.id)
            and filtering.has_prefix(filters, "name", task.name)
            and filtering.has_labels(filters, "label", {**task.service_labels, **task.labels})
            and filtering.one_of(filters, "runtime", lambda runtime: runtime == (task.spec.runtime or "container"))
            and (is_current is None or is_current == _is_current(view, task))
        )

    return matches


def _states(filters: Filters) -> set[TaskState]:
    states: set[TaskState] = set()
    for text in filters.get("desired-state", ()):
        if not text:
            continue
        try:
            states.add(TaskState(text.lower()))
        except ValueError as error:
            raise errors.Invalid(f"Invalid desired-state filter: '{text}'") from error
    return states


def _is_current(view: View, task: Task) -> bool:
    service = view.get(Service, task.service_id)
    if service is None:
        return False
    node = view.get(Node, task.node_id) if task.node_id else None
    return not dirtiness.is_dirty(service, task, node)
