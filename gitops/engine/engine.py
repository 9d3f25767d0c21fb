"""One host's engine: the services, made in the order of what they need, and started and closed in that order.

Owns what lies between services: who uses an image, the clearing of layers after a container's removal, the engine's id.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import uuid

from gitops import config as settings
from gitops import errors
from gitops.engine.committing import Committing
from gitops.engine.containers import ContainerService
from gitops.engine.database import Database
from gitops.engine.events import EventBus
from gitops.engine.images.service import ImageService
from gitops.engine.images.unpack.unpacker import Unpacker
from gitops.engine.networks import NetworkService
from gitops.engine.volumes import VolumeService
from gitops.objects import base

log = logging.getLogger(__name__)

_PROGRAM_TIMEOUT_S = 5.0
_IDENTITY = "engine"


class _Identity(base.Full, frozen=True):
    """A row that makes one data root tell itself from all others."""

    id: str


class Engine:
    """Images, containers, networks and volumes of one host."""

    def __init__(self, config: settings.EngineConfig, unpacker: Unpacker) -> None:
        """`unpacker` has been started, and is closed by its owner.

        Raises:
            errors.RuntimeFailure, errors.Unsupported: the database can't be opened.
        """
        self.config = config
        self.spool = config.data_root / "spool"
        """Where archives lie while they are loaded; what a crash left there is cleared at the start."""
        explained = [config.data_root / name for name in ("containers", "layers")]
        self.database = Database(config.data_root / "engine.db", explained)
        self.events = EventBus()
        self.images = ImageService(config, self.database, self.events, unpacker)
        self.volumes = VolumeService(config, self.database, self.events)
        self.networks = NetworkService(config, self.database, self.events)
        self.containers = ContainerService(config, self.database, self.events, self.images, self.networks, self.volumes)
        self.images.users = self.containers.image_users
        self.committing = Committing(self.containers, self.images, self.events, self.spool)
        self.id = self._identity()
        self._collector: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Take up what is on disk and in the kernel.

        Raises:
            errors.GitopsError: the host can't run containers; the message says why.
        """
        await asyncio.to_thread(shutil.rmtree, self.spool, ignore_errors=True)
        await self.images.start()
        await self.volumes.start()
        await self.networks.start(self.containers.running())
        await self.containers.start()
        self._collector = asyncio.create_task(self._collect(), name="image-collector")
        for warning in self.warnings():
            log.warning("%s", warning)

    async def close(self) -> None:
        """Stop serving; containers, their networks and ports live on. Safe after a start that failed half-way."""
        if self._collector is not None:
            self._collector.cancel()
            await asyncio.gather(self._collector, return_exceptions=True)
        for name, closing in (
            ("containers", self.containers.close),
            ("networks", self.networks.close),
            ("volumes", self.volumes.close),
            ("images", self.images.close),
        ):
            # One service that can't close must not keep the others from it.
            try:
                await closing()
            except Exception:
                log.exception("closing %s failed", name)
        self.events.close()
        self.database.close()

    def warnings(self) -> list[str]:
        """What a person should know about this host, for `docker info` and the log."""
        return [*self.images.findings, *self.containers.warnings, *self.networks.warnings]

    async def components(self) -> dict[str, str]:
        """The programs that containers run by, with their versions."""
        found = {}
        # Without a root of ours crun makes its own, even to tell its version.
        options = {"crun": ["--root", str(self.config.run_root / "state")], "conmon": []}
        for name, words in options.items():
            if shutil.which(name):
                found[name] = await _version_of(name, *words)
        return found

    def _identity(self) -> str:
        row = self.database.get(_IDENTITY, "self", _Identity)
        if row is None:
            row = _Identity(str(uuid.uuid4()))
            self.database.put(_IDENTITY, "self", row)
        return row.id

    async def _collect(self) -> None:
        """Layers that only a removed container kept go away with it."""
        while True:
            try:
                with self.events.subscribe() as events:
                    async for event in events:
                        if event.type == "container" and event.action == "destroy":
                            await self.images.collect()
            except errors.GitopsError as error:
                # A subscription that was overrun among them: the next one, and the next removal, make up for it.
                log.warning("layers that nobody needs could not be removed: %s", error)


async def _version_of(program: str, *options: str) -> str:
    """The version in the first line of `program --version`, "" where it doesn't say."""
    process = await asyncio.create_subprocess_exec(
        program, *options, "--version", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        output, _ = await asyncio.wait_for(process.communicate(), _PROGRAM_TIMEOUT_S)
    except TimeoutError:
        process.kill()
        await process.wait()
        return ""
    first = output.decode("utf-8", "replace").splitlines()[:1]
    return first[0].rpartition(" ")[2] if first else ""
