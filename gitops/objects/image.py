"""Images, as the API shows them."""

from __future__ import annotations

from typing import Any

import msgspec

from gitops.objects.base import Full, Wire
from gitops.objects.container import ContainerConfig


class ImageSummary(Full, frozen=True):
    """A line of GET /images/json; `created` in seconds since the epoch, sizes in bytes, -1 for not counted."""

    id: str
    repo_tags: list[str]
    repo_digests: list[str]
    created: int
    size: int
    parent_id: str = ""
    shared_size: int = -1
    labels: dict[str, str] | None = None
    containers: int = -1


class RootFS(Full, frozen=True):
    """The layers of an image by diff id, lowest first."""

    type: str = "layers"
    layers: list[str] = msgspec.field(default_factory=list)


class ImageInspect(Full, frozen=True):
    """GET /images/{name}/json. `id` is the digest of the image's config."""

    id: str
    repo_tags: list[str]
    repo_digests: list[str]
    created: str
    config: ContainerConfig
    architecture: str
    os: str
    size: int
    root_fs: RootFS = msgspec.field(name="RootFS")
    variant: str = ""
    parent: str = ""
    comment: str = ""
    author: str = ""
    docker_version: str = ""
    graph_driver: dict[str, Any] = msgspec.field(default_factory=dict)
    metadata: dict[str, str] = msgspec.field(default_factory=dict)
    container_config: ContainerConfig | None = None
    """As `config`: API versions before 1.45 have it, and Compose v1 reads it whatever the version."""


class HistoryItem(Full, frozen=True):
    """A line of GET /images/{name}/history."""

    id: str
    created: int
    created_by: str
    tags: list[str] | None = None
    size: int = 0
    comment: str = ""


class ImageDelete(Wire, frozen=True):
    """A line of DELETE /images/{name}."""

    untagged: str = ""
    deleted: str = ""


class ProgressDetail(Full, frozen=True):
    """Bytes done and bytes in all."""

    current: int = msgspec.field(name="current", default=0)
    total: int = msgspec.field(name="total", default=0)


class ErrorDetail(Full, frozen=True):
    """An error in a stream that has begun."""

    message: str = msgspec.field(name="message", default="")


class Progress(Wire, frozen=True):
    """A line of the stream of a pull, load or push; `aux` has what a push made: Tag, Digest and Size."""

    status: str = msgspec.field(name="status", default="")
    id: str = msgspec.field(name="id", default="")
    progress_detail: ProgressDetail | None = msgspec.field(name="progressDetail", default=None)
    stream: str = msgspec.field(name="stream", default="")
    error_detail: ErrorDetail | None = msgspec.field(name="errorDetail", default=None)
    error: str = msgspec.field(name="error", default="")
    aux: dict[str, Any] | None = msgspec.field(name="aux", default=None)


class AuthConfig(Full, frozen=True):
    """Registry credentials, in the header X-Registry-Auth; never logged."""

    username: str = msgspec.field(name="username", default="")
    password: str = msgspec.field(name="password", default="")
    serveraddress: str = msgspec.field(name="serveraddress", default="")
    identitytoken: str = msgspec.field(name="identitytoken", default="")
    registrytoken: str = msgspec.field(name="registrytoken", default="")

    def __repr__(self) -> str:
        return f"AuthConfig(serveraddress={self.serveraddress!r}, <hidden>)"


PULL_SIZE = "gitops.pull-size"
"""The annotation of a descriptor by which the built-in engine says how many bytes of layers a pull would fetch."""


class DistributionInspect(Full, frozen=True):
    """GET /distribution/{name}/json: what a registry holds under a name."""

    descriptor: dict[str, Any]
    platforms: list[dict[str, str]] = msgspec.field(default_factory=list)
