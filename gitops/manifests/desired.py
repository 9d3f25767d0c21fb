"""What manifests ask for, ready to be compared with what is live and sent to an engine. Values only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from gitops import errors
from gitops.objects.container import VolumeCreate
from gitops.objects.network import NetworkCreate
from gitops.objects.secret import ConfigSpec, SecretSpec
from gitops.objects.service import ServiceSpec

if TYPE_CHECKING:
    from gitops.oci.plan import BuildConfig, Entry

DEFAULT_NETWORK = "default"
"""The network of each stack that its services join where they say nothing else, whether it is written or not."""


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """Where an object is written: its file as shown to people, and its first line and column, from 1."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True)
class BuildSource:
    """An image assembled from files. Sources are resolved paths that the operator's rules allow."""

    base: str
    """The reference of another Image of the set; "" is `scratch`."""
    layers: tuple[tuple[Entry, ...], ...]
    config: BuildConfig
    inputs: Mapping[Path, str] = field(default_factory=dict)
    """Every file that goes in, with the digest of its content and its mode (of a link: the digest of its text)."""


@dataclass(frozen=True, slots=True)
class ImageSource:
    """Where an image comes from: exactly one of `pull`, `archive` and `build` is set."""

    reference: str
    """Its name on the engine, in the familiar form with a tag: `tu-demo:v1`."""
    pull: str = ""
    """What to pull, in the familiar form: `nginx:1.27@sha256:…`."""
    archive: Path | None = None
    """A docker-archive, an OCI archive, or an OCI layout directory; resolved."""
    archive_digest: str = ""
    """`sha256:…` over the archive's file, or over the layout's `index.json`."""
    build: BuildSource | None = None
    push: str = ""
    """Where a swarm whose nodes have a registry in common pulls what was built or archived from, in the familiar form
    with a tag: `registry.example/team/app:v1`; "" is nowhere."""


@dataclass(frozen=True, slots=True)
class Dependency:
    """What a service waits for before it is made or changed."""

    engine_name: str
    """The other service, by its name on the engine."""
    condition: Literal["started", "healthy", "completed_successfully"] = "started"
    required: bool = True
    """Whether its failing to get there keeps this service from being applied."""


Spec = ServiceSpec | NetworkCreate | VolumeCreate | SecretSpec | ConfigSpec | ImageSource


@dataclass(frozen=True, slots=True)
class Desired:
    """One object that must exist.

    `kind` is Image, Network, Volume, Secret, Config or Service; `engine_name` is unique within its kind. In a service's
    spec networks, volumes, secrets and configs stand by engine name, without ids. The spec's labels say whose the
    object is, `gitops.hash` included (where its kind has labels).
    """

    kind: str
    stack: str
    name: str
    engine_name: str
    position: Position
    spec: Spec
    canonical: Mapping[str, Any]
    """`spec` by `manifests.canonical`."""
    hash: str
    """SHA-256 of `canonical`, in hex."""
    needs: tuple[tuple[str, str], ...] = ()
    """Kind and engine name of what must exist before, external objects included."""
    depends_on: tuple[Dependency, ...] = ()
    """The services that it waits for, by name in order; they need not be in `needs`."""
    deadline_ns: int | None = None
    """How long its rollout may take, in nanoseconds; None: whatever the apply allows."""
    moved_from: str | None = None
    """The stack that it was in before, whose name it keeps on the engine; None: it never moved."""
    positions: Mapping[str, tuple[int, int]] = field(default_factory=dict, repr=False, compare=False)
    """Line and column of each field that is written: `spec.deploy.update_config.delay`, `spec.ports[0]`."""

    @property
    def key(self) -> tuple[str, str]:
        """Kind and engine name: unique in a set."""
        return self.kind, self.engine_name


@dataclass(frozen=True, slots=True)
class StackSettings:
    """What a Stack manifest says; every stack that an object names has one, with the defaults where none is written."""

    name: str
    description: str = ""
    prune: bool = True
    """Whether objects that left the manifests are deleted."""
    labels: Mapping[str, str] = field(default_factory=dict)
    position: Position | None = None


@dataclass(frozen=True, slots=True)
class EncryptedSource:
    """A secret or config whose value stands in a file encrypted with SOPS; `sealed` are its data key's copies, by
    recipient."""

    kind: str
    stack: str
    name: str
    file: str
    sealed: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True, slots=True)
class DesiredSet:
    """All that a set of manifests asks for."""

    objects: tuple[Desired, ...]
    """In the order in which they need each other: images (bases first), networks, volumes, secrets, configs,
    services."""
    stacks: Mapping[str, StackSettings]
    """By name; "" is there when an object names no stack."""
    files_read: Mapping[str, str]
    """Every file that had a say, by its name as shown, with the SHA-256 of its content in hex: a name for the state."""
    externals: tuple[Desired, ...] = ()
    """What is said to exist already (`external: true`): to be found under its engine name, never made or changed."""
    directories: tuple[Path, ...] = ()
    """Directories that were searched or read from, for watching."""
    encrypted: tuple[EncryptedSource, ...] = ()
    """What was read from encrypted files."""
    warnings: tuple[errors.Problem, ...] = ()
    """What was read and has no effect, or another one than elsewhere, or is hardly meant, with its place."""

    asked_host: bool = False
    """Whether anything of this host was asked for but files of the repository: what comes of it may differ the next
    time."""

    def of(self, kind: str) -> tuple[Desired, ...]:
        """The objects of a kind."""
        return tuple(item for item in self.objects if item.kind == kind)
