"""Containers of one engine: the calls that the API and the executor make."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING

from gitops import errors
from gitops.config import EngineConfig
from gitops.engine.containers.boundary import Images, ImageUser, InjectedFile, LogRecord
from gitops.engine.database import Database
from gitops.engine.events import EventBus
from gitops.engine.volumes import VolumeService
from gitops.objects.container import ContainerCreate, ContainerInspect, ContainerState, ContainerSummary

if TYPE_CHECKING:
    from gitops.engine.networks import NetworkService


class ContainerService:
    """Containers are named by full id, name (with or without "/"), or a unique prefix of the id.

    Every method that takes one raises `errors.NotFound` where there is none, `errors.Invalid` where a prefix is ambiguous.
    """

    warnings: tuple[str, ...] = ()
    """What was found wrong with the host at the start, and what was done about it; for `docker info`."""

    def __init__(
        self,
        config: EngineConfig,
        database: Database,
        events: EventBus,
        images: Images,
        networks: NetworkService,
        volumes: VolumeService,
    ) -> None: ...

    async def start(self) -> None:
        """Prepare the host, adopt what runs, finish what was begun, sweep what is left over of this instance."""
        raise errors.Unsupported("containers")

    async def close(self) -> None:
        """Stop watching; the containers live on."""

    async def create(
        self, body: ContainerCreate, name: str | None = None, *, files: Sequence[InjectedFile] = ()
    ) -> ContainerInspect:
        """Make a container; durable when it returns."""
        raise errors.Unsupported("containers")

    async def start_container(self, container: str) -> bool:
        """Start it; False when it runs already."""
        raise errors.Unsupported("containers")

    async def stop(self, container: str, timeout_s: float | None = None, signal: str | None = None) -> bool:
        """Stop signal, grace period, SIGKILL; False when it doesn't run. A negative timeout waits for ever."""
        raise errors.Unsupported("containers")

    async def kill(self, container: str, signal: str = "KILL") -> None:
        """Send a signal to its first process."""
        raise errors.Unsupported("containers")

    async def restart(self, container: str, timeout_s: float | None = None, signal: str | None = None) -> None:
        """Stop and start."""
        raise errors.Unsupported("containers")

    async def pause(self, container: str) -> None:
        """Freeze all its processes."""
        raise errors.Unsupported("containers")

    async def unpause(self, container: str) -> None:
        """Let them run again."""
        raise errors.Unsupported("containers")

    async def wait(self, container: str, condition: str = "not-running") -> int:
        """Its exit code, when `condition` (not-running, next-exit, removed) holds."""
        raise errors.Unsupported("containers")

    async def remove(self, container: str, *, force: bool = False, volumes: bool = False) -> None:
        """Take it away; `force` kills it first, `volumes` takes its anonymous volumes too."""
        raise errors.Unsupported("containers")

    async def rename(self, container: str, name: str) -> None:
        """Give it another name."""
        raise errors.Unsupported("containers")

    def get(self, container: str) -> ContainerInspect:
        """What the API shows of it."""
        raise errors.Unsupported("containers")

    def list(
        self, *, all: bool = False, limit: int | None = None, filters: Mapping[str, Sequence[str]] | None = None
    ) -> list[ContainerSummary]:
        """Running containers, or all, newest first."""
        raise errors.Unsupported("containers")

    def logs(
        self,
        container: str,
        *,
        stdout: bool = True,
        stderr: bool = True,
        since_ns: int = 0,
        until_ns: int = 0,
        timestamps: bool = False,
        tail: int | None = None,
        follow: bool = False,
    ) -> AsyncIterator[LogRecord]:
        """Its output, oldest first; `follow` goes on until it ends."""
        raise errors.Unsupported("containers")

    def changes(self, container: str) -> AsyncIterator[ContainerState]:
        """Its state now and after each change (health included); states in between may be skipped. Ends with its removal."""
        raise errors.Unsupported("containers")

    def image_users(self, image_id: str) -> Sequence[ImageUser]:
        """The containers that were made from an image."""
        raise errors.Unsupported("containers")
