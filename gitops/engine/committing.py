"""`docker commit`: an image of what a container is at this moment. It lies between containers and images."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gitops import errors
from gitops.engine.containers import ContainerService, creation
from gitops.engine.containers.record import ContainerRecord
from gitops.engine.events import EventBus
from gitops.engine.images.assembling import Making
from gitops.engine.images.service import ImageService
from gitops.objects.container import ContainerConfig
from gitops.oci import changes as instructions


@dataclass(frozen=True, slots=True)
class Wish:
    """What the image is to be called, and to say of itself."""

    name: str = ""
    """A reference, "" for an image without a name."""
    author: str = ""
    comment: str = ""
    changes: Sequence[str] = ()
    """Instructions of a Dockerfile."""
    config: ContainerConfig | None = None
    """Words before the container's own."""
    is_paused: bool = True
    """Whether it stands still meanwhile."""


class Committing:
    """Makes images of one engine's containers."""

    def __init__(self, containers: ContainerService, images: ImageService, events: EventBus, spool: Path) -> None:
        """`spool` is where a layer lies until the image store has it."""
        self._containers = containers
        self._images = images
        self._events = events
        self._spool = spool

    async def commit(self, name: str, wish: Wish) -> str:
        """Make the image; returns its id.

        Raises:
            errors.NotFound: no such container. errors.Invalid: a bad name or instruction.
            errors.RuntimeFailure: the disk refused.
        """
        found = self._containers.get(name)
        run = creation.merge(wish.config, found.config) if wish.config else found.config
        run = instructions.apply(run, wish.changes)
        await asyncio.to_thread(self._spool.mkdir, mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self._spool) as folder:
            layer = Path(folder) / "layer.tar"
            now = await self._pack(found.id, layer, pauses=wish.is_paused and found.state.status == "running")
            making = Making(
                run=run,
                created_ns=time.time_ns(),
                comment=wish.comment,
                author=wish.author,
                created_by=" ".join([now.path, *now.args]),
            )
            made = await self._images.assemble(layer, making, below=now.image_id, name=wish.name, action="commit")
        self._tell(now, made, wish)
        return made

    async def _pack(self, container: str, layer: Path, *, pauses: bool) -> ContainerRecord:
        is_ours = False
        if pauses:
            # It may have ended, or been paused by somebody else, since it was looked at: then it stands still anyway.
            with contextlib.suppress(errors.Conflict):
                await self._containers.pause(container)
                is_ours = True
        try:
            return await self._containers.trees.layer(container, layer)
        finally:
            if is_ours and self._containers.get(container).state.paused:
                await asyncio.shield(self._containers.unpause(container))

    def _tell(self, now: ContainerRecord, made: str, wish: Wish) -> None:
        labels, own = now.config.labels or {}, {"image": now.config.image, "name": now.short_name}
        told = {"comment": wish.comment, "imageID": made, "imageRef": wish.name}
        self._events.publish("container", "commit", now.id, {**labels, **own, **told})
