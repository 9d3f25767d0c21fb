"""Messages lead from what a node holds to what it should hold; tested for all kinds of both."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from gitops.objects import base
from gitops.objects.assignment import Assignments, Endpoints, PortBackends
from gitops.objects.network import NetworkObject, NetworkSpec
from gitops.objects.secret import Config, Secret
from gitops.objects.task import Task, TaskState, TaskStatus
from gitops.swarm.manager.assignments import Holdings, complete, difference

KEYS = st.sampled_from(["a", "b", "c", "d"])
DESIRED = st.sampled_from([TaskState.READY, TaskState.RUNNING, TaskState.SHUTDOWN])
STATES = st.sampled_from([TaskState.ASSIGNED, TaskState.RUNNING, TaskState.FAILED])


def tasks() -> st.SearchStrategy[dict[str, Task]]:
    def make(fields: tuple[TaskState, TaskState]) -> Task:
        return Task(desired_state=fields[0], status=TaskStatus(state=fields[1]))

    made = st.dictionaries(KEYS, st.tuples(DESIRED, STATES).map(make))
    return made.map(lambda items: {key: replace(task, id=key) for key, task in items.items()})


def networks() -> st.SearchStrategy[dict[str, NetworkObject]]:
    made = st.dictionaries(KEYS, st.booleans())
    return made.map(
        lambda items: {key: NetworkObject(id=key, spec=NetworkSpec(internal=flag)) for key, flag in items.items()}
    )


def files(kind: Any) -> st.SearchStrategy[dict[str, Any]]:
    return st.sets(KEYS).map(lambda keys: {key: kind(id=key) for key in sorted(keys)})


def endpoints() -> st.SearchStrategy[Endpoints]:
    return st.builds(
        lambda version, ports: Endpoints(version=version, ports=[PortBackends(published_port=p) for p in ports]),
        st.integers(0, 9),
        st.lists(st.integers(1, 3)),
    )


HOLDINGS = st.builds(Holdings, tasks(), files(Secret), files(Config), networks(), endpoints())


def apply(held: Holdings, message: Assignments) -> Holdings:
    """What a node makes of a message."""

    def merge(items: Any, changed: Any, removed: Any) -> dict[str, Any]:
        kept = {} if message.is_complete else {key: item for key, item in items.items() if key not in removed}
        return kept | {item.id: item for item in changed}

    return Holdings(
        merge(held.tasks, message.tasks, message.removed_tasks),
        merge(held.secrets, message.secrets, message.removed_secrets),
        merge(held.configs, message.configs, message.removed_configs),
        merge(held.networks, message.networks, message.removed_networks),
        message.endpoints or held.endpoints,
    )


def sense(holdings: Holdings) -> Any:
    """What of it matters to a node."""
    return (
        {key: task.desired_state for key, task in holdings.tasks.items()},
        set(holdings.secrets),
        set(holdings.configs),
        dict(holdings.networks),
        holdings.endpoints and holdings.endpoints.ports,
    )


@given(HOLDINGS, HOLDINGS)
def test_a_difference_leads_from_any_state_to_any_other(held: Holdings, want: Holdings) -> None:
    message = difference(held, want)
    after = held if message is None else apply(held, message)
    assert sense(after) == sense(want)
    assert difference(after, want) is None


@given(HOLDINGS, HOLDINGS)
def test_a_complete_message_leads_there_whatever_was_held(held: Holdings, want: Holdings) -> None:
    assert sense(apply(held, complete(want))) == sense(want)


@given(HOLDINGS)
def test_there_is_nothing_to_say_about_what_is_right_already(held: Holdings) -> None:
    assert difference(held, held) is None


@given(HOLDINGS, HOLDINGS)
def test_messages_survive_the_wire(held: Holdings, want: Holdings) -> None:
    message = difference(held, want) or complete(want)
    assert base.from_json(base.to_json(message), Assignments) == message
