"""An engine's container service on a root file system made from busybox, with roots and a cgroup parent of its own."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from gitops.config import EngineConfig
from gitops.engine import mountinfo
from gitops.engine.containers import ContainerService, InjectedFile, cgroups
from gitops.engine.database import Database
from gitops.engine.events import EventBus
from gitops.engine.networks import NetworkService
from gitops.engine.volumes import VolumeService
from gitops.objects.container import ContainerConfig, ContainerCreate, HostConfig
from gitops.objects.image import ImageInspect, RootFS

BUSYBOX = Path("/bin/busybox")
APPLETS = [
    "sh",
    "true",
    "false",
    "cat",
    "echo",
    "sleep",
    "ls",
    "id",
    "env",
    "pwd",
    "mount",
    "hostname",
    "touch",
    "kill",
    "dd",
    "head",
    "test",
    "stat",
    "mkdir",
    "nproc",
    "yes",
    "seq",
]


class LocalImages:
    """One image, `busybox`, of one layer that was made by hand."""

    def __init__(self, layer: Path) -> None:
        self.layer = layer
        self.settings = ContainerConfig(env=["PATH=/bin", "FROM_IMAGE=yes"], cmd=["/bin/sh"])

    def resolve(self, name: str) -> str:
        return f"sha256:{'1' * 64}"

    def inspect(self, name: str) -> ImageInspect:
        return ImageInspect(
            id=self.resolve(name),
            repo_tags=["busybox:latest"],
            repo_digests=[],
            created="",
            config=self.settings,
            architecture="amd64",
            os="linux",
            size=0,
            root_fs=RootFS(),
        )

    def layers(self, image_id: str) -> list[Path]:
        return [self.layer]


class NoNetworks(NetworkService):
    """For containers that have no network: there is nothing to remove."""

    async def remove_sandbox(self, container_id: str) -> None:
        return None


def make_layer(folder: Path) -> Path:
    """A small root file system."""
    for name in ("bin", "etc", "tmp", "data", "run", "sbin"):
        (folder / name).mkdir(parents=True)
    shutil.copy(BUSYBOX, folder / "bin" / "busybox")
    for applet in APPLETS:
        (folder / "bin" / applet).symlink_to("/bin/busybox")
    (folder / "etc" / "passwd").write_text("root:x:0:0:root:/root:/bin/sh\nworker:x:1001:1002::/home/worker:/bin/sh\n")
    (folder / "etc" / "group").write_text("root:x:0:\nstaff:x:1002:\nextra:x:1003:worker\n")
    (folder / "data" / "seed").write_text("from the image\n")
    os.chown(folder / "data", 1001, 1002)
    (folder / "tmp").chmod(0o1777)
    return folder


@dataclass
class Host:
    """Roots of one engine, and the services that are started on them."""

    root: Path
    images: LocalImages
    config: EngineConfig
    events: EventBus = field(default_factory=EventBus)
    started: list[tuple[ContainerService, Database]] = field(default_factory=list)

    async def start(self) -> ContainerService:
        """A service; the one before must be closed."""
        database = Database(self.config.data_root / "engine.db")
        volumes = VolumeService(self.config, database, self.events)
        await volumes.start()
        networks = NoNetworks(self.config, database, self.events)
        service = ContainerService(self.config, database, self.events, self.images, networks, volumes)
        await service.start()
        self.started.append((service, database))
        return service

    async def stop(self) -> None:
        """Close the service; containers live on."""
        service, database = self.started.pop()
        await service.close()
        database.close()

    def leftovers(self) -> list[str]:
        """What is left of containers: mounts, cgroups, directories."""
        run = self.config.run_root
        found = [f"mount {path}" for path in mountinfo.below(run) if path != run / "crun"]
        groups = cgroups.Groups(self.config.cgroup_parent)
        found += [f"cgroup {name}" for name in groups.leftovers()]
        for folder in ("bundles", "state", "exits", "socks", "secrets"):
            if (run / folder).exists():
                names = [entry.name for entry in os.scandir(run / folder)]
                found += [f"{folder}/{name}" for name in names if name != ".cache"]  # newer cruns' own
        data = self.config.data_root / "containers"
        return found + ([f"data {entry.name}" for entry in os.scandir(data)] if data.exists() else [])


@pytest.fixture
async def host() -> AsyncIterator[Host]:
    mark = secrets.token_hex(3)
    # Short: the path of conmon's socket must stay under 108 bytes.
    root = Path(f"/tmp/gc-{mark}")
    root.mkdir(mode=0o700)
    config = EngineConfig(data_root=root / "data", run_root=root / "run", cgroup_parent=f"gitops-test-{mark}")
    found = Host(root, LocalImages(make_layer(root / "layer")), config)
    yield found
    if not found.started:
        await found.start()
    service, _ = found.started[-1]
    for line in service.list(all=True):
        await service.remove(line.id, force=True, volumes=True)
    await service.destroy()
    await found.stop()
    assert not [one for one in cgroups.hierarchies() if (one.path / config.cgroup_parent).exists()]
    assert mountinfo.below(root) == []
    shutil.rmtree(root)


@pytest.fixture
async def service(host: Host) -> ContainerService:
    return await host.start()


def body(*command: str, host: HostConfig | None = None, **config: object) -> ContainerCreate:
    """A create call without a network."""
    settings = host or HostConfig()
    if settings.network_mode == "default":
        settings = HostConfig(
            **{name: getattr(settings, name) for name in HostConfig.__struct_fields__ if name != "network_mode"},
            network_mode="none",
        )
    return ContainerCreate(image="busybox", cmd=list(command) or None, host_config=settings, **config)  # type: ignore[arg-type]


@pytest.fixture
def call() -> object:
    return body


__all__ = ["Host", "InjectedFile", "LocalImages", "body"]
