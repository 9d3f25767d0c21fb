"""What really happened to a service: seen from the store's commits, one by one, while the loops run.

A `Witness` knows nothing of what should happen. It is asked afterwards: which slots were updated, in which order and
together with which others, how few tasks ran at the worst moment, where the tasks are.
"""

from __future__ import annotations

from collections import Counter

from gitops.objects.task import Task, TaskState
from gitops.swarm.store.protocol import Store

Place = int | str
"""The number of a slot, or the id of a node."""


class Witness:
    """Watches the tasks of one service, from the moment it is made until it is closed."""

    def __init__(self, store: Store, service_id: str) -> None:
        view, self._watch = store.view_and_watch()
        self.service_id = service_id
        self._tasks = {task.id: task for task in view.tasks_of_service(service_id)}
        self._former = self.places()
        self._hands: list[list[str]] = []
        self._done: dict[str, str] = {}
        self.batches: list[list[Place]] = []
        """The slots (or nodes) that got a new task in the place of an older one, in order; of a job all begun ones.

        As many hands are at work as slots are on their way at once; a batch is what they take for the n-th time.
        """
        self.min_healthy = self.healthy()
        """The least number of tasks that ran, and were meant to."""

    def look(self) -> None:
        """Go through the commits since the last look."""
        for commit in self._watch.drain():
            changes = [
                change
                for change in commit.changes
                if isinstance(change.object, Task) and change.object.service_id == self.service_id
            ]
            for change in changes:
                task = change.object
                assert isinstance(task, Task)
                # One whose object goes is remembered as it was last: told to go.
                self._tasks[task.id] = task
            self._note_done()
            for change in changes:
                if change.action == "create" and isinstance(change.object, Task):
                    self._note_made(change.object)
            self.min_healthy = min(self.min_healthy, self.healthy())

    def close(self) -> None:
        """Stop watching."""
        self.look()
        self._watch.__exit__(None, None, None)

    def healthy(self) -> int:
        """How many tasks run and are meant to."""
        return sum(
            task.status.state is TaskState.RUNNING and task.desired_state is TaskState.RUNNING
            for task in self._tasks.values()
        )

    def places(self) -> set[Place]:
        """The slots (or nodes) that have a task which is wanted."""
        return {_place(task) for task in self._tasks.values() if _is_wanted(task)}

    def placements(self) -> dict[str, int]:
        """Wanted tasks that a node has taken, by its id."""
        placed = (task for task in self._tasks.values() if task.status.state.rank >= TaskState.ASSIGNED.rank)
        return dict(Counter(task.node_id for task in placed if _is_wanted(task) and task.node_id))

    def waiting(self) -> int:
        """Wanted tasks that no node has taken."""
        return sum(_is_wanted(task) and task.status.state is TaskState.PENDING for task in self._tasks.values())

    def completed(self) -> int:
        """Tasks of a job that have run to their end, and still count."""
        return sum(_is_wanted(task) and task.status.state is TaskState.COMPLETE for task in self._tasks.values())

    def _note_made(self, task: Task) -> None:
        """A new task in the place of an older one is taken by the hand that is free the longest, or by one more.

        Of a job, every first task of a place is: the former ones are those of another run.
        """
        place = _place(task)
        if task.job_iteration is None and place not in self._former:
            return
        if task.job_iteration is not None and any(place in batch for batch in self.batches):
            return
        free = [hand for hand in self._hands if hand[-1] in self._done]
        hand = min(free, key=lambda hand: (self._done[hand[-1]], len(hand)), default=[])
        if not hand:
            self._hands.append(hand)
        hand.append(task.id)
        if len(hand) > len(self.batches):
            self.batches.append([])
        self.batches[len(hand) - 1].append(place)

    def _note_done(self) -> None:
        """The present tasks of hands that have come as far as they should, or are over, free their hands."""
        for hand in self._hands:
            task = self._tasks[hand[-1]]
            goal = TaskState.RUNNING if task.job_iteration is None else TaskState.COMPLETE
            if task.id not in self._done and task.status.state.rank >= goal.rank:
                self._done[task.id] = task.status.timestamp


def _place(task: Task) -> Place:
    return task.node_id if task.is_by_node else task.slot


def _is_wanted(task: Task) -> bool:
    return task.desired_state.rank <= TaskState.COMPLETE.rank
