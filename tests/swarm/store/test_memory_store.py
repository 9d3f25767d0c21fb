"""The store in memory: snapshots, versions, names, watches."""

from __future__ import annotations

import asyncio

import pytest
from msgspec.structs import replace

from gitops import errors
from gitops.objects.base import Version
from gitops.objects.node import Node, NodeDescription
from gitops.objects.service import Service, ServiceSpec
from gitops.objects.task import Task
from gitops.simulation.clock import VirtualClock
from gitops.swarm.store.memory import MemoryStore
from gitops.swarm.store.protocol import Store, Tx


def service(object_id: str, name: str) -> Service:
    return Service(id=object_id, spec=ServiceSpec(name=name))


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore(VirtualClock())


async def test_the_memory_store_is_a_store(store: MemoryStore) -> None:
    checked: Store = store
    assert checked.view().version == 0


async def test_a_create_sets_version_and_times_and_every_commit_counts(store: MemoryStore) -> None:
    first = await store.update(lambda tx: tx.create(service("a", "web")))
    second = await store.update(lambda tx: tx.create(service("b", "db")))
    assert (first.version.index, second.version.index, store.view().version) == (1, 2, 2)
    assert first.created_at == first.updated_at == "2023-11-14T22:13:20.000000000Z"


async def test_an_update_keeps_the_time_of_creation(store: MemoryStore) -> None:
    made = await store.update(lambda tx: tx.create(service("a", "web")))
    moved = await store.update(lambda tx: tx.update(replace(made, created_at="never", updated_at="never")))
    assert moved.created_at == made.created_at
    assert moved.version == Version(2)


async def test_an_update_of_an_old_version_is_out_of_sequence(store: MemoryStore) -> None:
    made = await store.update(lambda tx: tx.create(service("a", "web")))
    await store.update(lambda tx: tx.update(made))
    with pytest.raises(errors.OutOfSequence, match="update out of sequence"):
        await store.update(lambda tx: tx.update(made))


async def test_a_name_is_given_once_whatever_its_case(store: MemoryStore) -> None:
    await store.update(lambda tx: tx.create(service("a", "web")))
    with pytest.raises(errors.Conflict) as caught:
        await store.update(lambda tx: tx.create(service("b", "Web")))
    assert str(caught.value) == (
        "rpc error: code = AlreadyExists desc = name conflicts with an existing object: service Web already exists"
    )


async def test_a_name_is_free_again_after_its_owner_went(store: MemoryStore) -> None:
    await store.update(lambda tx: tx.create(service("a", "web")))

    def swap(tx: Tx) -> None:
        tx.delete(Service, "a")
        tx.create(service("b", "web"))

    await store.update(swap)
    found = store.view().by_name(Service, "web")
    assert found is not None and found.id == "b"


async def test_two_nodes_may_have_one_hostname(store: MemoryStore) -> None:
    for node_id in ("n2", "n1"):
        node = Node(id=node_id, description=NodeDescription(hostname="host"))
        await store.update(lambda tx, node=node: tx.create(node))  # type: ignore[misc]
    found = store.view().by_name(Node, "host")
    assert found is not None and found.id == "n2"


async def test_a_change_that_fails_leaves_nothing(store: MemoryStore) -> None:
    def change(tx: Tx) -> None:
        tx.create(service("a", "web"))
        tx.delete(Service, "missing")

    with pytest.raises(errors.NotFound, match="service missing not found"):
        await store.update(change)
    assert store.view().version == 0
    assert store.view().all(Service) == []
    assert store.view().by_name(Service, "web") is None


async def test_a_transaction_sees_its_own_changes(store: MemoryStore) -> None:
    def change(tx: Tx) -> list[str]:
        tx.create(Task(id="t", service_id="s"))
        task = tx.get(Task, "t")
        assert task is not None
        tx.update(replace(task, node_id="n"))
        return [task.id for task in tx.tasks_of_node("n")]

    assert await store.update(change) == ["t"]


async def test_a_view_never_changes(store: MemoryStore) -> None:
    await store.update(lambda tx: tx.create(Task(id="t1", service_id="s")))
    before = store.view()
    await store.update(lambda tx: tx.create(Task(id="t2", service_id="s")))
    await store.update(lambda tx: tx.delete(Task, "t1"))
    assert [task.id for task in before.tasks_of_service("s")] == ["t1"]
    assert [task.id for task in store.view().tasks_of_service("s")] == ["t2"]


async def test_listings_are_in_the_order_of_creation_whatever_is_updated(store: MemoryStore) -> None:
    for task_id in ("c", "a", "b"):
        await store.update(lambda tx, task_id=task_id: tx.create(Task(id=task_id, service_id="s")))  # type: ignore[misc]
    for task_id in ("b", "c", "a"):
        task = store.view().get(Task, task_id)
        assert task is not None
        await store.update(lambda tx, task=task: tx.update(replace(task, node_id="n")))  # type: ignore[misc]
    view = store.view()
    for listing in (view.all(Task), view.tasks_of_service("s"), view.tasks_of_node("n")):
        assert [task.id for task in listing] == ["c", "a", "b"]


async def test_a_change_of_nothing_commits_nothing(store: MemoryStore) -> None:
    watch = store.watch()
    await store.update(lambda tx: None)

    def come_and_go(tx: Tx) -> None:
        tx.create(service("a", "web"))
        tx.delete(Service, "a")

    await store.update(come_and_go)
    assert store.view().version == 0
    assert list(watch.drain()) == []


async def test_a_commit_tells_each_object_once_with_what_it_was(store: MemoryStore) -> None:
    made = await store.update(lambda tx: tx.create(service("a", "web")))
    with store.watch() as watch:

        def change(tx: Tx) -> None:
            once = tx.update(replace(made, previous_spec=ServiceSpec(name="1")))
            tx.update(replace(once, previous_spec=ServiceSpec(name="2")))
            tx.create(service("b", "db"))

        await store.update(change)
        commit = await anext(aiter(watch))
    assert [(change.action, change.object.id) for change in commit.changes] == [("update", "a"), ("create", "b")]
    assert commit.changes[0].old == made
    assert commit.changes[0].object == store.view().get(Service, "a")
    assert commit.version == store.view().version == 2


async def test_a_delete_tells_the_last_state(store: MemoryStore) -> None:
    made = await store.update(lambda tx: tx.create(service("a", "web")))
    with store.watch() as watch:
        await store.update(lambda tx: tx.delete(Service, "a"))
        (commit,) = watch.drain()
    assert [(change.action, change.object) for change in commit.changes] == [("delete", made)]


async def test_a_view_and_its_watch_have_no_gap(store: MemoryStore) -> None:
    view, watch = store.view_and_watch()
    with watch:
        for number in range(5):
            await store.update(lambda tx, number=number: tx.create(Task(id=str(number))))  # type: ignore[misc]
        assert [commit.version for commit in watch.drain()] == [view.version + step for step in range(1, 6)]


async def test_a_watcher_waits_for_the_next_commit(store: MemoryStore) -> None:
    with store.watch() as watch:
        reader = asyncio.create_task(anext(watch))
        await asyncio.sleep(0)
        assert not reader.done()
        await store.update(lambda tx: tx.create(Task(id="t")))
        assert (await reader).version == 1


async def test_a_watcher_that_falls_behind_is_told_to_read_again() -> None:
    store = MemoryStore(VirtualClock(), watch_limit=3)
    slow, quick = store.watch(), store.watch()
    for number in range(5):
        await store.update(lambda tx, number=number: tx.create(Task(id=str(number))))  # type: ignore[misc]
        assert len(list(quick.drain())) == 1
    assert list(slow.drain()) == []
    with pytest.raises(errors.Unavailable, match="read again"):
        await anext(aiter(slow))
    view, watch = store.view_and_watch()
    assert len(view.all(Task)) == 5
    await store.update(lambda tx: tx.delete(Task, "0"))
    assert [commit.version for commit in watch.drain()] == [6]


async def test_closing_ends_watches_after_what_waits_and_takes_no_more_changes(store: MemoryStore) -> None:
    watch = store.watch()
    await store.update(lambda tx: tx.create(Task(id="t")))
    await store.close()
    assert [commit.version async for commit in watch] == [1]
    assert [commit async for commit in store.watch()] == []
    with pytest.raises(errors.Unavailable, match="closed"):
        await store.update(lambda tx: tx.delete(Task, "t"))


async def test_an_object_without_an_id_is_refused(store: MemoryStore) -> None:
    with pytest.raises(errors.Invalid, match="without an id"):
        await store.update(lambda tx: tx.create(Task()))
    await store.update(lambda tx: tx.create(Task(id="t")))
    with pytest.raises(errors.Conflict, match="task t already exists"):
        await store.update(lambda tx: tx.create(Task(id="t")))
