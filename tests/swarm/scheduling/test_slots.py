"""Slots: filled, free, dead; whom a scale-down takes (O04 to O06, O20, O26)."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gitops.objects.service import Service, UpdateStatus
from gitops.objects.task import Task, TaskState
from gitops.swarm.scheduling import slots

SERVICE = Service(id="web")


def always(task: Task) -> bool:
    return True


def never(task: Task) -> bool:
    return False


def test_tasks_are_ordered_by_the_time_of_their_status_then_creation_then_id(task: Any) -> None:
    tasks = [
        task("d", slot=1, timestamp="2026-01-01T00:00:02.000000000Z"),
        task("c", slot=1, timestamp="2026-01-01T00:00:01.000000000Z", created_at="2"),
        task("b", slot=1, timestamp="2026-01-01T00:00:01.000000000Z", created_at="1"),
        task("a", slot=1, timestamp="2026-01-01T00:00:01.000000000Z", created_at="1"),
    ]
    assert [item.id for item in slots.by_slot(tasks)[1]] == ["a", "b", "c", "d"]


def test_slots_come_in_the_order_of_their_numbers(task: Any) -> None:
    assert list(slots.by_slot([task("a", slot=3), task("b", slot=1), task("c", slot=2)])) == [1, 2, 3]


def test_a_slot_with_a_wanted_task_is_occupied_by_it_alone(task: Any) -> None:
    live = task("live", slot=1, timestamp="2")
    old = task("old", slot=1, state=TaskState.FAILED, desired=TaskState.SHUTDOWN, timestamp="1")
    found = slots.occupancy(SERVICE, [old, live], never)
    assert found.occupied == {1: [live]} and found.dead == {}


def test_a_slot_that_is_not_restarted_is_occupied_by_its_last_task(task: Any) -> None:
    first = task("first", slot=1, state=TaskState.FAILED, desired=TaskState.SHUTDOWN, timestamp="1")
    last = task("last", slot=1, state=TaskState.COMPLETE, desired=TaskState.SHUTDOWN, timestamp="2")
    assert slots.occupancy(SERVICE, [last, first], never).occupied == {1: [last]}
    assert slots.occupancy(SERVICE, [last, first], always).dead == {1: [first, last]}


def test_a_rollback_fills_stopped_slots_again(task: Any) -> None:
    last = task("last", slot=1, state=TaskState.COMPLETE, desired=TaskState.SHUTDOWN)
    service = Service(id="web", update_status=UpdateStatus(state="rollback_started"))
    assert slots.occupancy(service, [last], never).dead == {1: [last]}


def live(task: Any, number: int, node: str, state: TaskState = TaskState.RUNNING) -> Task:
    return task(f"t{number}", slot=number, node=node, state=state)


def test_o04_slots_without_a_node_go_first(task: Any) -> None:
    occupied = {1: [task("t1", slot=1)], 2: [live(task, 2, "n1")], 3: [live(task, 3, "n1")]}
    assert slots.scale(occupied, 2).remove == [1]


def test_o05_then_the_node_with_the_most_copies_gives(task: Any) -> None:
    occupied = {i: [live(task, i, "n1" if i <= 3 else "n2")] for i in range(1, 5)}
    assert slots.scale(occupied, 2).keep == [1, 4]
    assert slots.scale(occupied, 3).remove == [3]


def test_o06_lower_numbers_survive_and_running_ones_before_the_others(task: Any) -> None:
    occupied = {i: [live(task, i, f"n{i}")] for i in range(1, 5)}
    assert slots.scale(occupied, 2).keep == [1, 2]
    occupied[1] = [live(task, 1, "n1", TaskState.PREPARING)]
    assert slots.scale(occupied, 3).remove == [1]


def test_slots_in_the_middle_of_an_update_go_before_settled_ones(task: Any) -> None:
    occupied = {1: [live(task, 1, "n1"), task("new", slot=1)], 2: [live(task, 2, "n1")]}
    assert slots.scale(occupied, 1).remove == [1]


def test_a_scale_up_touches_nothing_and_takes_the_lowest_free_numbers(task: Any) -> None:
    occupied = {2: [live(task, 2, "n1")], 4: [live(task, 4, "n1")]}
    assert slots.scale(occupied, 5) == slots.Scale([2, 4], [1, 3, 5], [])
    assert slots.scale({}, 0) == slots.Scale([], [], [])
    assert slots.scale(occupied, 0).remove == [2, 4]


@given(
    st.lists(st.tuples(st.integers(0, 4), st.booleans()), max_size=20),
    st.integers(0, 20),
)
def test_what_a_scale_down_keeps_is_balanced(task: Any, places: list[tuple[int, bool]], replicas: int) -> None:
    occupied = {
        number: [live(task, number, f"n{node}" if node else "", TaskState.RUNNING if runs else TaskState.READY)]
        for number, (node, runs) in enumerate(places, start=1)
    }
    result = slots.scale(occupied, replicas)
    assert sorted(result.keep + result.remove) == sorted(occupied)
    assert len(result.keep) + len(result.create) == replicas or len(result.keep) == len(occupied)
    counts = Counter(occupied[number][0].node_id for number in result.keep)
    for number in result.remove:
        node_id = occupied[number][0].node_id
        if node_id:
            # Whoever gives a copy keeps at least as many as the emptiest node that gave, or would have given, one.
            assert all(count <= counts[node_id] + 1 for name, count in counts.items() if name)


@given(st.sets(st.integers(1, 30)), st.integers(0, 30))
def test_free_numbers_are_the_lowest_that_are_free(taken: set[int], count: int) -> None:
    found = slots.free_numbers(taken, count)
    assert len(set(found)) == count and taken.isdisjoint(found)
    assert found == sorted(found)
    assert all(number in taken or number in found for number in range(1, max(found, default=0)))
