"""Registry credentials of services: kept with each spec, never shown, given to nodes whose tasks have to pull (U04)."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from gitops import errors
from gitops.objects.assignment import Endpoints
from gitops.objects.node import Node
from gitops.objects.service import Credentials, Service
from gitops.objects.task import Task, TaskState
from gitops.swarm.manager import assignments
from gitops.swarm.scheduling import dirtiness, rollout
from gitops.swarm.scheduling.tasks import new_task
from gitops.swarm.store.protocol import View

OLD, NEW = Credentials(b"old token"), Credentials(b"new token")
NONE = Credentials()


def kept(swarm: Any) -> tuple[Credentials | None, Credentials | None]:
    (service,) = swarm.store.view().all(Service)
    return service.credentials, service.previous_credentials


async def update(swarm: Any, image: str = "tu-demo:v1", **how: Any) -> Service:
    (service,) = swarm.control.services()
    made: Service = await swarm.control.update_service("web", service.version.index, swarm.spec(image=image), **how)
    return made


def nothing(view: View, node_id: str) -> Endpoints:
    return Endpoints()


def given(swarm: Any) -> dict[str, Credentials]:
    """What the node n1 is given, by task id."""
    return dict(assignments.wanted(swarm.store.view(), "n1", nothing).credentials)


async def test_credentials_are_kept_and_never_shown(swarm: Any) -> None:
    made = await swarm.control.create_service(swarm.spec(), credentials=OLD)
    updated = await update(swarm, credentials=NEW)
    assert kept(swarm) == (NEW, OLD)
    shown = [
        made,
        updated,
        swarm.control.service("web"),
        *swarm.control.services(),
        *swarm.control.services(status=True),
    ]
    for service in shown:
        assert (service.credentials, service.previous_credentials) == (None, None)
    assert "token" not in repr(swarm.store.view().all(Service))


async def test_an_update_without_credentials_keeps_those_of_the_spec_it_names(swarm: Any) -> None:
    await swarm.control.create_service(swarm.spec(), credentials=OLD)
    await update(swarm)
    assert kept(swarm) == (OLD, OLD)
    await update(swarm, credentials=NEW, credentials_from="spec")
    assert kept(swarm) == (NEW, OLD)
    await update(swarm, credentials_from="previous-spec")
    assert kept(swarm) == (OLD, NEW)
    await update(swarm, credentials=NONE)
    assert kept(swarm) == (None, OLD)


async def test_where_credentials_come_from_is_checked(swarm: Any) -> None:
    await swarm.control.create_service(swarm.spec(), credentials=NONE)
    assert kept(swarm) == (None, None)
    with pytest.raises(errors.Invalid, match="unsupported registryAuthFrom value"):
        await update(swarm, credentials_from="elsewhere")
    with pytest.raises(errors.Invalid, match="does not have a previous spec"):
        await update(swarm, credentials_from="previous-spec")


async def test_a_rollback_brings_its_spec_s_credentials_back(swarm: Any) -> None:
    await swarm.control.create_service(swarm.spec(), credentials=OLD)
    await update(swarm, "tu-demo:v2", credentials=NEW)
    await update(swarm, rollback=True)
    assert kept(swarm) == (OLD, NEW)
    (service,) = swarm.store.view().all(Service)
    back = rollout.rolled_back(service, "t", 1, 9)
    assert (back.credentials, back.previous_credentials) == (NEW, None)


async def test_u04_new_credentials_alone_make_no_task_dirty(swarm: Any) -> None:
    await swarm.control.create_service(swarm.spec(), credentials=OLD)
    (service,) = swarm.store.view().all(Service)
    task = await swarm.add_task(service)
    await update(swarm, credentials=NEW)
    (service,) = swarm.store.view().all(Service)
    assert task.spec_version != service.spec_version
    assert not dirtiness.is_dirty(service, task, Node())


async def test_a_node_gets_the_credentials_of_tasks_that_may_have_to_pull(swarm: Any) -> None:
    await swarm.control.create_service(swarm.spec(), credentials=OLD)
    (service,) = swarm.store.view().all(Service)
    task = await swarm.add_task(service, node_id="n1")
    for state, expected in (
        (TaskState.PENDING, {}),
        (TaskState.ASSIGNED, {task.id: OLD}),
        (TaskState.PREPARING, {task.id: OLD}),
        (TaskState.READY, {}),
        (TaskState.RUNNING, {}),
        (TaskState.REJECTED, {}),
    ):
        await swarm.set_state(task, state)
        assert given(swarm) == expected, state


async def test_credentials_are_for_the_image_that_they_were_given_with(swarm: Any) -> None:
    await swarm.control.create_service(swarm.spec(), credentials=OLD)
    (service,) = swarm.store.view().all(Service)
    task = await swarm.set_state(await swarm.add_task(service, node_id="n1"), TaskState.ASSIGNED)
    await update(swarm, credentials=NEW)
    assert given(swarm) == {task.id: NEW}, "a token that is renewed counts for what still waits"
    await update(swarm, "elsewhere.example/tu-demo:v2", credentials=OLD)
    assert given(swarm) == {task.id: NEW}
    await update(swarm, "elsewhere.example/tu-demo:v3")
    assert given(swarm) == {}, "a registry must not see what was meant for another"


async def test_messages_bring_credentials_with_their_tasks_and_don_t_repeat_them(swarm: Any) -> None:
    await swarm.control.create_service(swarm.spec(), credentials=OLD)
    (service,) = swarm.store.view().all(Service)
    first: Task = replace(new_task(service, 1, "t1", TaskState.RUNNING, 0), node_id="n1")
    empty = assignments.Holdings()
    both = assignments.Holdings(tasks={"t1": first}, credentials={"t1": OLD})
    message = assignments.difference(empty, both)
    assert message is not None and message.credentials == {"t1": OLD}
    assert assignments.complete(both).credentials == {"t1": OLD}
    assert assignments.difference(both, both) is None
    assert assignments.difference(both, assignments.Holdings(tasks={"t1": first})) is None
    assert "token" not in repr(message)
