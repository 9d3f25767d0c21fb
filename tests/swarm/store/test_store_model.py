"""Both stores against a model that is too simple to be wrong."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from msgspec.structs import replace

from gitops import errors
from gitops.objects.base import Version
from gitops.objects.service import Service, ServiceSpec
from gitops.objects.task import Task
from gitops.simulation.clock import VirtualClock
from gitops.swarm.store.memory import MemoryStore
from gitops.swarm.store.protocol import Commit, Tx
from gitops.swarm.store.seal import Seal
from gitops.swarm.store.sqlite import SqliteStore

IDS = st.sampled_from(["a", "b", "c", "d"])
NAMES = st.sampled_from(["web", "Web", "db", "cache"])
GROUPS = st.sampled_from(["", "s1", "s2"])
STEPS = st.one_of(
    st.tuples(st.just("create service"), IDS, NAMES),
    st.tuples(st.just("update service"), IDS, NAMES, st.integers(0, 1)),
    st.tuples(st.just("delete service"), IDS),
    st.tuples(st.just("create task"), IDS, GROUPS),
    st.tuples(st.just("bind task"), IDS, GROUPS),
    st.tuples(st.just("delete task"), IDS),
)
Rows = dict[tuple[type, str], Any]


class Refused(Exception):
    """The model's word for every error."""


def take_step(rows: Rows, step: tuple[Any, ...], version: int) -> None:
    """What a step does to the model: rows in the order of creation."""
    verb, object_id = step[0], step[1]
    key = (Service if verb.endswith("service") else Task, object_id)
    if verb.startswith("create"):
        if key in rows:
            raise Refused
        if verb == "create service":
            check_name(rows, object_id, step[2])
        rows[key] = (version, *step[2:3], "")
        return
    if key not in rows:
        raise Refused
    if verb.startswith("delete"):
        del rows[key]
    elif verb == "bind task":
        rows[key] = (version, rows[key][1], step[2])
    else:
        if step[3]:
            raise Refused
        check_name(rows, object_id, step[2])
        rows[key] = (version, step[2], "")


def check_name(rows: Rows, object_id: str, name: str) -> None:
    if any(k is Service and i != object_id and row[1].lower() == name.lower() for (k, i), row in rows.items()):
        raise Refused


def apply_step(tx: Tx, step: tuple[Any, ...]) -> None:
    verb, object_id = step[0], step[1]
    if verb == "create service":
        tx.create(Service(id=object_id, spec=ServiceSpec(name=step[2])))
    elif verb == "update service":
        service = tx.get(Service, object_id) or Service(id=object_id)
        version = Version(service.version.index + step[3])
        tx.update(replace(service, version=version, spec=ServiceSpec(name=step[2])))
    elif verb == "create task":
        tx.create(Task(id=object_id, service_id=step[2]))
    elif verb == "bind task":
        tx.update(replace(tx.get(Task, object_id) or Task(id=object_id), node_id=step[2]))
    else:
        tx.delete(Service if verb == "delete service" else Task, object_id)


def shown(store: MemoryStore | SqliteStore) -> Rows:
    view = store.view()
    rows: Rows = {(Service, item.id): (item.version.index, item.spec.name, "") for item in view.all(Service)}
    rows |= {(Task, item.id): (item.version.index, item.service_id, item.node_id) for item in view.all(Task)}
    return rows


class StoreMachine(RuleBasedStateMachine):
    """Transactions of several steps; a refused step undoes all of its transaction."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.rows: Rows = {}
        self.version = 0
        self.store: MemoryStore | SqliteStore

    @initialize()
    def open(self) -> None:
        self.store = MemoryStore(VirtualClock())
        self.watch = self.store.watch()
        self.followed: Rows = {}

    @rule(steps=st.lists(STEPS, max_size=6))
    def transact(self, steps: list[tuple[Any, ...]]) -> None:
        rows, is_refused = dict(self.rows), False
        try:
            for step in steps:
                take_step(rows, step, self.version + 1)
        except Refused:
            is_refused = True

        def change(tx: Tx) -> None:
            for step in steps:
                apply_step(tx, step)

        try:
            self.runner.run(self.store.update(change))
            assert not is_refused
        except (errors.NotFound, errors.Conflict):
            assert is_refused
            return
        if rows != self.rows or any(row[0] > self.version for row in rows.values()):
            self.version += 1
        self.rows = rows

    @invariant()
    def store_shows_what_the_model_has(self) -> None:
        view = self.store.view()
        assert view.version == self.version
        assert shown(self.store) == self.rows
        for kind in (Service, Task):
            expected = [object_id for found, object_id in self.rows if found is kind]
            assert [item.id for item in view.all(kind)] == expected  # type: ignore[type-var]
        for group in ("s1", "s2"):
            tasks = {object_id: row for (kind, object_id), row in self.rows.items() if kind is Task}
            by_service = [object_id for object_id, row in tasks.items() if row[1] == group]
            assert [task.id for task in view.tasks_of_service(group)] == by_service
            by_node = [object_id for object_id, row in tasks.items() if row[2] == group]
            assert [task.id for task in view.tasks_of_node(group)] == by_node
        for (kind, object_id), row in self.rows.items():
            if kind is Service:
                named = view.by_name(Service, row[1].upper())
                assert named is not None and named.id == object_id

    @invariant()
    def commits_lead_to_the_same_state(self) -> None:
        for commit in self.watch.drain():
            self.follow(commit)
        assert self.followed == shown(self.store)

    def follow(self, commit: Commit) -> None:
        for change in commit.changes:
            item, key = change.object, (type(change.object), change.object.id)
            assert (change.action == "create") == (key not in self.followed)
            if change.action == "delete":
                del self.followed[key]
            elif isinstance(item, Service):
                self.followed[key] = (item.version.index, item.spec.name, "")
            elif isinstance(item, Task):
                self.followed[key] = (item.version.index, item.service_id, item.node_id)

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.runner.run(self.store.close())
        self.runner.close()


class SqliteMachine(StoreMachine):
    """The same, with a file behind, that is closed and opened at any time."""

    @initialize()
    def open(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name)
        self.seal = Seal.create(self.path / "key")
        self.store = SqliteStore(self.path / "store.db", VirtualClock(), self.seal)
        self.watch = self.store.watch()
        self.followed: Rows = {}

    @rule()
    def open_again(self) -> None:
        self.runner.run(self.store.close())
        self.commits_lead_to_the_same_state()
        self.store = SqliteStore(self.path / "store.db", VirtualClock(), self.seal)
        self.watch = self.store.watch()

    def teardown(self) -> None:
        super().teardown()
        if hasattr(self, "folder"):
            self.folder.cleanup()


TestMemoryStoreModel = StoreMachine.TestCase
TestMemoryStoreModel.settings = settings(max_examples=60, stateful_step_count=20, deadline=None)
TestSqliteStoreModel = SqliteMachine.TestCase
TestSqliteStoreModel.settings = settings(max_examples=15, stateful_step_count=10, deadline=None)
