"""The calls that carry out one step of a plan: each is idempotent, asks the guard first and takes one of a few slots.

Nothing here decides when: that is `gitops.reconciler.apply`.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from msgspec.structs import replace

from gitops import client as clients
from gitops import errors
from gitops.manifests import Desired, ImageSource
from gitops.objects.container import VolumeCreate
from gitops.objects.image import AuthConfig
from gitops.objects.image import Progress as ImageProgress
from gitops.objects.network import NetworkCreate
from gitops.objects.secret import ConfigSpec, SecretSpec
from gitops.objects.service import (
    ConfigReference,
    NetworkAttachmentConfig,
    SecretReference,
    Service,
    ServiceSpec,
)
from gitops.oci import digest as digests
from gitops.reconciler import images, planner, ports, predefined, versions
from gitops.reconciler.graph import spec_of
from gitops.reconciler.live import Live
from gitops.reconciler.pinning import Credentials
from gitops.reconciler.plan import Action, Plan, Reason, Step
from gitops.reconciler.waiting import Guard, Report, Update

PARALLEL = 6
"""Calls at a time: what waits for tasks takes no place among them."""

_RETRIES = 5
_TASK_LABEL = "com.docker.swarm.task.id"
_ALIVE = ("running", "paused", "restarting")


@dataclass(frozen=True, slots=True)
class Job:
    """A plan with what it was made of; `timeout_s` is for each object for which the manifest has no deadline."""

    plan: Plan
    request: planner.Request
    live: Live
    images: images.Images
    credentials: Credentials
    timeout_s: float
    guard: Guard | None = None
    """Asked before every write: raises errors.Refused once this apply has lost its right to go on."""
    look: Guard | None = None
    """The same, asked at every look while waiting."""


class UsedByTasks(errors.Conflict):
    """An image can't go yet: tasks run it, and nothing else does. Those that stop set it free."""


class Sender:
    """Carries out steps; remembers what the calls told it."""

    def __init__(self, client: clients.EngineClient, job: Job, report: Report) -> None:
        self._client = client
        self._job = job
        self._report = report
        self._items = {item.key: item for item in job.request.desired.objects}
        self._live = dict(job.live.services)
        self._ids: dict[str, dict[str, str]] = {"Network": {}, "Secret": {}, "Config": {}}
        self._made: dict[tuple[str, str], str] = {}
        self._slots = asyncio.Semaphore(PARALLEL)
        self._reading = asyncio.Lock()
        self._removing_image = asyncio.Lock()
        self._holders: dict[str, asyncio.Lock] = {}
        self._lost: errors.Refused | None = None

    @property
    def lost(self) -> errors.Refused | None:
        """Why this apply may not go on, once the guard has said so."""
        return self._lost

    async def ask(self) -> None:
        """Ask the guard.

        Raises:
            errors.Refused: this apply has lost its right to go on, now or before.
        """
        await self._ask(self._job.guard)

    async def look(self) -> None:
        """Ask whether it may go on waiting.

        Raises:
            errors.Refused: this apply has lost its right to go on, now or before.
        """
        await self._ask(self._job.look)

    async def _ask(self, guard: Guard | None) -> None:
        if self._lost is not None:
            raise self._lost
        if guard:
            try:
                await guard()
            except errors.Refused as error:
                self._lost = error
                raise

    @contextlib.asynccontextmanager
    async def _slot(self) -> AsyncIterator[None]:
        async with self._slots:
            await self.ask()
            yield

    def deadline_s(self, step: Step) -> float:
        """How long an object may take, in seconds."""
        item = self._items.get(step.key)
        found = item.deadline_ns if item else None
        return self._job.timeout_s if found is None else found / 1e9

    # -- images, networks, volumes, secrets, configs

    async def make(self, step: Step) -> None:
        """Make an object that is no service.

        Raises:
            errors.RolloutFailed: nothing was heard of it for as long as it may take.
            errors.Refused: a network that should be replaced is in use.
        """
        limit_s = self.deadline_s(step)
        async with self._slot():
            try:
                async with asyncio.timeout(limit_s) as limit:
                    await self._make(step, limit)
            except TimeoutError as error:
                if not limit.expired():
                    raise
                text = f"{step.kind.lower()} {step.engine_name}: no progress for {limit_s:g} s"
                raise errors.RolloutFailed(text) from error

    async def _make(self, step: Step, limit: asyncio.Timeout) -> None:
        if step.reason is Reason.MOVED:
            return  # the stack's record claims it
        spec = self._items[step.key].spec
        if isinstance(spec, ImageSource):
            await self._image(step, spec, limit)
            return
        try:
            if isinstance(spec, NetworkCreate):
                if step.action is Action.REPLACE:
                    await self._client.remove_network(step.engine_name)
                    await self.ask()
                self._made[step.key] = await self._client.create_network(spec)
            elif isinstance(spec, VolumeCreate):
                await self._client.create_volume(spec)
            elif isinstance(spec, SecretSpec):
                self._made[step.key] = await self._client.create_secret(spec)
            elif isinstance(spec, ConfigSpec):
                self._made[step.key] = await self._client.create_config(spec)
        except errors.Conflict as error:
            # Made meanwhile, by an apply that was killed after the call or by one beside us: the next diff judges it.
            if step.action is Action.REPLACE:
                raise errors.Refused(f"{step.kind.lower()} {step.engine_name} is in use: {error}") from error

    async def _image(self, step: Step, source: ImageSource, limit: asyncio.Timeout) -> None:
        loop = asyncio.get_running_loop()
        patience_s = self.deadline_s(step)

        def note(line: ImageProgress) -> None:
            limit.reschedule(loop.time() + patience_s)
            detail = line.progress_detail
            if detail and detail.total:
                done = f"{line.status} {line.id} {100 * detail.current // detail.total} %"
                self._report(Update(step.kind, step.engine_name, "progress", done))

        if source.pull:
            await self._client.pull_image(source.pull, auth=self._job.credentials(source.pull), progress=note)
            if source.pull != source.reference:
                await self.ask()
                await self._client.tag_image(source.pull.partition("@")[0], source.reference)
            return
        if source.archive is None and source.build is None:  # of a revision: a version that the engine kept
            kept = versions.as_digest(images.version(self._items[step.key], self._job.request.known))
            await self._client.tag_image(kept, source.reference)
            return
        known, there = self._job.request.known[step.engine_name], self._job.live.images.get(step.engine_name)
        if there is None or there.id != known.image_id:
            await self._load(step, note)
        if source.push:
            await self.ask()
            await self._client.tag_image(step.engine_name, source.push)
            await self.ask()
            await self._client.push_image(source.push, auth=self._job.credentials(source.push), progress=note)

    async def _load(self, step: Step, note: Callable[[ImageProgress], None]) -> None:
        with tempfile.TemporaryDirectory(prefix="gitops-image-") as directory:
            archive = Path(directory) / "image.tar"
            with archive.open("wb") as output:
                items = self._job.request.desired.of("Image")
                await asyncio.to_thread(self._job.images.write, items, step.engine_name, output)
            await self._client.load_image(archive, progress=note)

    # -- services

    async def service(self, step: Step, released: Mapping[str, frozenset[ports.Port]]) -> None:
        """Create or update a service; others that hold ports of it and can't be sent before give them up first.

        Raises:
            errors.Refused: somebody else changed, made or removed it since the plan was made.
        """
        for holder, given_up in released.items():
            await self._release(holder, given_up)
        spec = await self._with_ids(self._items[step.key])
        image = _image_of(spec)
        auth = None if digests.is_digest(image) else self._job.credentials(image)
        async with self._slot():
            if step.action is Action.CREATE:
                await self._create(step, spec, auth)
            else:
                await self._update(step, spec, self._live[step.engine_name], auth)

    async def _create(self, step: Step, spec: ServiceSpec, auth: AuthConfig | None) -> None:
        try:
            await self._client.create_service(spec, auth=auth)
        except errors.Conflict as error:
            # Made meanwhile, by an apply that was killed after the call or by one beside us; or by a stranger.
            found = await self._client.service(step.engine_name)
            if self._job.live.owner(found.spec.labels) != (step.stack, step.kind, step.name):
                raise errors.Refused(_overtaken(step, "made")) from error
            await self._update(step, spec, found, auth)

    async def _update(self, step: Step, spec: ServiceSpec, seen: Service, auth: AuthConfig | None) -> None:
        """Replace the spec that the plan saw; when somebody changed it meanwhile, the plan is no longer true."""
        service = seen
        for _ in range(_RETRIES):
            try:
                sent = planner.settled(spec, service)
                await self._client.update_service(service.id, service.version.index, sent, auth=auth)
                return
            except errors.NotFound as error:
                raise errors.Refused(_overtaken(step, "removed")) from error
            except errors.OutOfSequence:
                # The version also counts what the swarm itself notes of an update: only a changed spec matters.
                service = await self._client.service(step.engine_name)
                if service.spec != seen.spec:
                    raise errors.Refused(_overtaken(step, "changed")) from None
                await self.ask()
        raise errors.Unavailable(f"service {step.engine_name} keeps changing: try again")

    async def _release(self, name: str, given_up: frozenset[ports.Port]) -> None:
        """Take ports off a service that swaps them with another, until its turn to get its new ones comes."""
        async with self._holders.setdefault(name, asyncio.Lock()), self._slot():
            service = self._live[name]
            self._report(Update("Service", name, "started", "gives up ports that another service takes"))
            await self._client.update_service(service.id, service.version.index, ports.without(service.spec, given_up))
            self._live[name] = await self._client.service(name)

    async def _with_ids(self, item: Desired) -> ServiceSpec:
        """The spec with ids where the API wants them; read again when something isn't known yet."""
        async with self._reading:
            with contextlib.suppress(KeyError):
                return _resolved(item, self._ids)
            await self._read_ids()
        try:
            return _resolved(item, self._ids)
        except KeyError as error:
            raise errors.NotFound(
                f"{item.position}: service {item.engine_name} needs {error.args[0]!r}, which the engine does not have"
            ) from error

    async def _read_ids(self) -> None:
        networks, secrets, configs = await asyncio.gather(
            predefined.networks(self._client), self._client.secrets(), self._client.configs()
        )
        self._ids = {
            "Network": {item.name: item.id for item in networks},
            "Secret": {item.spec.name: item.id for item in secrets},
            "Config": {item.spec.name: item.id for item in configs},
        }
        # What we made is surely newer than what a list said that was asked for before.
        for (kind, name), identity in self._made.items():
            self._ids.get(kind, {})[name] = identity

    # -- what goes

    async def remove(self, kind: str, name: str) -> None:
        """Remove an object by its name.

        Raises:
            errors.NotFound, errors.Conflict: it isn't there; it is in use.
        """
        removers: dict[str, Callable[[str], Awaitable[object]]] = {
            "Service": self._client.remove_service,
            "Network": self._client.remove_network,
            "Volume": self._client.remove_volume,
            "Secret": self._client.remove_secret,
            "Config": self._client.remove_config,
            "Image": self._remove_image,
        }
        async with self._slot():
            await removers[kind](name)

    async def _remove_image(self, name: str) -> None:
        """Remove an image, by force if all that holds it are containers of tasks that have ended.

        One at a time: dockerd that is told to remove two names of an image at once may keep the image, without a name.
        """
        async with self._removing_image:
            try:
                await self._client.remove_image(name)
            except errors.Conflict as error:
                image = await self._client.image(name)
                users = [item for item in await self._client.containers(all=True) if item.image_id == image.id]
                if any(_TASK_LABEL not in item.labels for item in users):
                    raise
                if any(item.state in _ALIVE for item in users):
                    raise UsedByTasks(str(error)) from error
                await self.ask()
                await self._client.remove_image(name, force=True)


def _resolved(item: Desired, ids: Mapping[str, Mapping[str, str]]) -> ServiceSpec:
    """The spec with ids.

    Raises:
        KeyError: the name of something that has none yet.
    """
    spec = spec_of(item)
    template = spec.task_template
    container = template.container_spec
    assert container is not None
    networks, secrets, configs = (ids.get(kind, {}) for kind in ("Network", "Secret", "Config"))
    attached = [
        NetworkAttachmentConfig(networks[use.target], use.aliases, use.driver_opts) for use in template.networks
    ]
    container = replace(
        container,
        secrets=[SecretReference(use.file, secrets[use.secret_name], use.secret_name) for use in container.secrets],
        configs=[ConfigReference(use.file, configs[use.config_name], use.config_name) for use in container.configs],
    )
    return replace(spec, task_template=replace(template, container_spec=container, networks=attached))


def _image_of(spec: ServiceSpec) -> str:
    container = spec.task_template.container_spec
    return container.image if container else ""


def _overtaken(step: Step, what: str) -> str:
    return f"service {step.engine_name} was {what} by somebody else meanwhile: run it again to see the new plan"
