"""What one pass of a watch leaves for the next: of a thousand services hardly any is another one than before.

Each memory is of one pure function, by the very objects that went in, so nothing here can be out of date: what is read
anew is another object, and what is made of it is made anew. A run by hand starts with an empty one.
"""

from __future__ import annotations

from gitops.manifests import Desired, canonical
from gitops.objects.memory import Memory
from gitops.reconciler.live import Live
from gitops.reconciler.plan import Step
from gitops.reconciler.revisions import Stored


class Remembered:
    """The memories of one reconciler."""

    def __init__(self) -> None:
        self.pinned: Memory[Desired] = Memory()
        """Services with the digests of their images in."""
        self.steps: Memory[Step] = Memory()
        self.stored: Memory[Stored] = Memory()
        """Objects as a revision holds them, and what each has to say in its digest."""
        self.digested: Memory[bytes] = Memory()
        self._names = canonical.NO_NAMES

    def begin(self) -> None:
        """A new pass: what neither it nor the next one needs is forgotten."""
        for memory in (self.pinned, self.steps, self.stored, self.digested):
            memory.begin()

    def names(self, live: Live) -> canonical.Names:
        """Ids to names: the same object as long as they are the same."""
        found = live.names
        if found != self._names:
            self._names = found
        return self._names
