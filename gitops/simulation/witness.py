"""What really happened to a service: seen from the store's commits, one by one, while the loops run.

A `Witness` knows nothing of what should happen. It is asked afterwards: which slots were updated, in which order and
together with which others, how few tasks ran at the worst moment, where the tasks are.
"""

from __future__ import annotations

from collections import Counter

from gitops.objects.task import Task, TaskState
from gitops.swarm.store.protocol import Store


class Witness:
    """Watches the tasks of one service, from the moment it is made until it is closed."""

    def __init__(self, store: Store, service_id: str) -> None:
        view, self._watch = store.view_and_watch()
        self._service_id = service_id
        self._tasks = {task.id: task for task in view.tasks_of_service(service_id)}
        self._former_slots = self.slots()
        self._hands: list[list[str]] = []
        self._done: dict[str, int] = {}
        self.batches: list[list[int]] = []
        """The slots that got a new task in the place of an older one, in order.

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
                if isinstance(change.object, Task) and change.object.service_id == self._service_id
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

    def slots(self) -> set[int]:
        """The slots that have a task which is wanted."""
        return {task.slot for task in self._tasks.values() if _is_wanted(task)}

    def placements(self) -> dict[str, int]:
        """Wanted tasks that have a node, by its id."""
        return dict(Counter(task.node_id for task in self._tasks.values() if _is_wanted(task) and task.node_id))

    def waiting(self) -> int:
        """Wanted tasks that have none."""
        return sum(_is_wanted(task) and not task.node_id for task in self._tasks.values())

    def _note_made(self, task: Task) -> None:
        """A new task in the place of an older one is taken by the hand that is free the longest, or by one more."""
        if task.slot not in self._former_slots:
            return
        free = [hand for hand in self._hands if hand[-1] in self._done]
        hand = min(free, key=lambda hand: self._done[hand[-1]], default=[])
        if not hand:
            self._hands.append(hand)
        hand.append(task.id)
        if len(hand) > len(self.batches):
            self.batches.append([])
        self.batches[len(hand) - 1].append(task.slot)

    def _note_done(self) -> None:
        """The present tasks of hands that run, or are over, free their hands; earlier commits free earlier."""
        for hand in self._hands:
            if hand[-1] not in self._done and self._tasks[hand[-1]].status.state.rank >= TaskState.RUNNING.rank:
                self._done[hand[-1]] = len(self._done)


def _is_wanted(task: Task) -> bool:
    return task.desired_state.rank <= TaskState.COMPLETE.rank
