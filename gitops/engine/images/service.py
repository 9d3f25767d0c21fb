"""Images of one host: what the rest of the engine calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from gitops import config as settings
from gitops.engine import database as databases
from gitops.engine import events as event_bus
from gitops.objects import image
from gitops.oci import manifest

if TYPE_CHECKING:
    from gitops.engine.images.unpack import Unpacker

Report = Callable[[image.Progress], None]


class ImageUser(Protocol):
    """A container that was made from an image."""

    @property
    def id(self) -> str: ...

    @property
    def is_running(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class ImageUsage:
    """What images take on disk, in bytes."""

    layers_bytes: int
    blobs_bytes: int
    reclaimable_bytes: int


class ImageService:
    """Pull, load, names, removal; layers for containers."""

    users: Callable[[str], Sequence[ImageUser]]
    """The containers of an image id; set by the engine. Nobody until then."""

    def __init__(
        self,
        config: settings.EngineConfig,
        database: databases.Database,
        events: event_bus.EventBus,
        unpacker: Unpacker,
    ) -> None:
        raise NotImplementedError

    async def start(self) -> None:
        """Check what is on disk against the database; clear what a crash left."""
        raise NotImplementedError

    async def close(self) -> None:
        """End pulls and the background deletion."""
        raise NotImplementedError

    async def pull(
        self,
        reference: str,
        *,
        auth: image.AuthConfig | None = None,
        platform: str | None = None,
        progress: Report | None = None,
    ) -> str:
        """Fetch an image from its registry; returns its id."""
        raise NotImplementedError

    async def load(self, path: Path, progress: Report | None = None) -> list[str]:
        """Take the images of an archive; returns their names, or ids where they have none."""
        raise NotImplementedError

    async def tags(self, repository: str, *, auth: image.AuthConfig | None = None) -> list[str]:
        """Every tag of a repository, for `pull -a`."""
        raise NotImplementedError

    async def distribution(self, reference: str, auth: image.AuthConfig | None = None) -> image.DistributionInspect:
        """What the registry holds under a name."""
        raise NotImplementedError

    def list(
        self, *, all: bool = False, filters: Mapping[str, Sequence[str]] | None = None
    ) -> list[image.ImageSummary]:
        """Images, newest first; filters: reference, dangling, label, before, since."""
        raise NotImplementedError

    def resolve(self, name: str) -> str:
        """The id of `name` (a reference, an id, a unique prefix of one); raises NotFound."""
        raise NotImplementedError

    def inspect(self, name: str) -> image.ImageInspect:
        """An image in full."""
        raise NotImplementedError

    def history(self, name: str) -> Sequence[image.HistoryItem]:
        """How an image came to be, newest step first."""
        raise NotImplementedError

    def config(self, image_id: str) -> manifest.ImageConfig:
        """The config blob of an image."""
        raise NotImplementedError

    def layers(self, image_id: str) -> Sequence[Path]:
        """Directories of the layers for overlayfs, top first."""
        raise NotImplementedError

    def tag(self, name: str, new_reference: str) -> None:
        """Give an image one more name; the name moves if another image has it."""
        raise NotImplementedError

    async def remove(self, name: str, *, force: bool = False) -> Sequence[image.ImageDelete]:
        """Untag, and delete with the last name, by Docker's rules."""
        raise NotImplementedError

    async def collect(self) -> None:
        """Remove layers that no image and no container needs any more; to be called after a container's removal."""
        raise NotImplementedError

    def usage(self) -> ImageUsage:
        """What images take on disk."""
        raise NotImplementedError
