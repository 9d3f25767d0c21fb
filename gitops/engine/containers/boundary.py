"""What crosses the border of this package: values that callers hand in or get, and what it needs of the image store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from gitops.objects.image import ImageInspect


@dataclass(frozen=True, slots=True)
class InjectedFile:
    """A secret or config that appears at `path` in a container. It is held in memory and on a tmpfs, never on disk."""

    path: str
    data: bytes = field(repr=False)
    mode: int = 0o444
    uid: int = 0
    gid: int = 0


@dataclass(frozen=True, slots=True)
class LogRecord:
    """A piece of output: `stream` is stdout or stderr, `time_ns` since the epoch, `data` with its line end, if any.

    A line that the container wrote in several goes comes as several records; only the last of them ends in a newline.
    """

    stream: str
    time_ns: int
    data: bytes


@dataclass(frozen=True, slots=True)
class ImageUser:
    """A container that was made from an image."""

    id: str
    name: str
    is_running: bool


class Images(Protocol):
    """What containers need of the image store."""

    def resolve(self, name: str) -> str:
        """The id of the image `name`; raises `errors.NotFound`."""
        ...

    def inspect(self, name: str) -> ImageInspect:
        """The image with its config."""
        ...

    def layers(self, image_id: str) -> Sequence[Path]:
        """Directories of the layers, the top one first, as overlayfs wants them."""
        ...
