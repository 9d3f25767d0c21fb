"""Carries out a plan: what is needed first, then the services, then what is left over; and waits until all of it holds.

Every step is idempotent: an apply that was killed anywhere is finished by the next one. Nothing is deleted before what
replaces it has converged, but for a service whose published port another one takes.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable, Iterable
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
from gitops.reconciler import groups, images, planner, ports, waiting
from gitops.reconciler.live import Live
from gitops.reconciler.pinning import Credentials
from gitops.reconciler.plan import Action, Plan, Step
from gitops.reconciler.waiting import Report, Update

_PARALLEL = 4
_RETRIES = 5
_REMOVAL_S = 60.0
_TASK_LABEL = "com.docker.swarm.task.id"
_ALIVE = ("running", "paused", "restarting")


@dataclass(frozen=True, slots=True)
class Job:
    """A plan with what it was made of."""

    plan: Plan
    request: planner.Request
    live: Live
    images: images.Images
    credentials: Credentials
    timeout_s: float
    guard: Callable[[], Awaitable[None]] | None = None
    """Asked before every write and at every look while waiting: raises errors.Refused once this apply has lost its
    right to go on."""


async def run(client: clients.EngineClient, job: Job, report: Report) -> frozenset[str]:
    """Make it so, and return when every task runs and has stayed so for its service's monitor time.

    What comes back are the names of all that was removed, former versions included.

    Raises:
        errors.Unschedulable, errors.RolloutFailed: a service doesn't get there, with the reason.
        errors.Refused: somebody else changed a service or took a network into use since the plan was made.
        errors.GitopsError: a call failed; what was done stays, and the next apply goes on from there.
    """
    return await _Apply(client, job, report).run()


class _Apply:
    def __init__(self, client: clients.EngineClient, job: Job, report: Report) -> None:
        self._client = client
        self._job = job
        self._plan = job.plan
        self._report = report
        self._live = dict(job.live.services)
        self._items = {item.key: item for item in job.request.desired.objects}
        self._slots = asyncio.Semaphore(_PARALLEL)
        self._removed: set[str] = set()

    async def run(self) -> frozenset[str]:
        await self._all(self._image, self._plan.of("Image", Action.CREATE, Action.UPDATE))
        making = [
            step
            for kind in ("Network", "Volume", "Secret", "Config")
            for step in self._plan.of(kind, Action.CREATE, Action.UPDATE, Action.REPLACE)
        ]
        await self._all(self._make, making)
        early = self._colliding()
        await self._all(self._remove, early)
        await self._services()
        await self._wait()
        await self._prune([step for step in self._plan.steps if step.action is Action.DELETE and step not in early])
        return frozenset(self._removed)

    async def _all(self, call: Callable[[Step], Awaitable[bool | None]], steps: Iterable[Step]) -> None:
        async def one(step: Step) -> None:
            async with self._slots:
                if self._job.guard:
                    await self._job.guard()
                self._report(Update(step.kind, step.engine_name, "started", _doing(step)))
                if await call(step) is not False:
                    self._report(Update(step.kind, step.engine_name, "done", _did(step)))

        async with groups.group() as group:
            for step in steps:
                group.create_task(one(step))

    # -- images, networks, volumes, secrets, configs

    async def _image(self, step: Step) -> None:
        source = self._items[step.key].spec
        assert isinstance(source, ImageSource)

        def note(line: ImageProgress) -> None:
            detail = line.progress_detail
            if detail and detail.total:
                done = f"{line.status} {line.id} {100 * detail.current // detail.total} %"
                self._report(Update(step.kind, step.engine_name, "progress", done))

        if source.pull:
            await self._client.pull_image(source.pull, auth=self._job.credentials(source.pull), progress=note)
            if source.pull != source.reference:
                await self._client.tag_image(source.pull.partition("@")[0], source.reference)
            return
        with tempfile.TemporaryDirectory(prefix="gitops-image-") as directory:
            archive = Path(directory) / "image.tar"
            with archive.open("wb") as output:
                items = self._job.request.desired.of("Image")
                await asyncio.to_thread(self._job.images.write, items, step.engine_name, output)
            await self._client.load_image(archive, progress=note)

    async def _make(self, step: Step) -> None:
        spec = self._items[step.key].spec
        try:
            if isinstance(spec, NetworkCreate):
                if step.action is Action.REPLACE:
                    await self._client.remove_network(step.engine_name)
                await self._client.create_network(spec)
            elif isinstance(spec, VolumeCreate):
                await self._client.create_volume(spec)
            elif isinstance(spec, SecretSpec):
                await self._client.create_secret(spec)
            elif isinstance(spec, ConfigSpec):
                await self._client.create_config(spec)
        except errors.Conflict as error:
            # Made meanwhile, by an apply that was killed after the call or by one beside us: the next diff judges it.
            if step.action is Action.REPLACE:
                raise errors.Refused(f"{step.kind.lower()} {step.engine_name} is in use: {error}") from error

    # -- services

    async def _ids(self) -> waiting.Ids:
        """Ids of networks, secrets and configs by name, read after all of them were made."""
        networks, secrets, configs = await asyncio.gather(
            self._client.networks(), self._client.secrets(), self._client.configs()
        )
        return waiting.Ids(
            {item.name: item.id for item in networks},
            {item.spec.name: item.id for item in secrets},
            {item.spec.name: item.id for item in configs},
        )

    async def _services(self) -> None:
        """Send the services, in the order in which none is sent a port that another still holds."""
        steps = {step.engine_name: step for step in self._plan.of("Service", Action.CREATE, Action.UPDATE)}
        if not steps:
            return
        ids = await self._ids()
        order = ports.order({name: _spec(self._items[step.key]) for name, step in steps.items()}, self._live)
        for name, given_up in order.released.items():
            await self._release(name, given_up)
        for wave in order.waves:
            await self._all(lambda step: self._service(step, ids), [steps[name] for name in wave])

    async def _release(self, name: str, given_up: frozenset[ports.Port]) -> None:
        """Take ports off a service that swaps them with another, until its turn to get its new ones comes."""
        service = self._live[name]
        self._report(Update("Service", name, "started", "gives up ports that another service takes"))
        await self._client.update_service(service.id, service.version.index, ports.without(service.spec, given_up))
        self._live[name] = await self._client.service(name)

    async def _service(self, step: Step, ids: waiting.Ids) -> None:
        item = self._items[step.key]
        spec = _with_ids(item, ids)
        auth = self._job.credentials(_image_of(spec))
        if step.action is Action.CREATE:
            try:
                await self._client.create_service(spec, auth=auth)
            except errors.Conflict as error:
                # Made meanwhile, by an apply that was killed after the call or by one beside us; or by a stranger.
                found = await self._client.service(step.engine_name)
                if self._job.live.owner(found.spec.labels) != (step.stack, step.kind, step.name):
                    raise errors.Refused(_overtaken(step, "made")) from error
                await self._update(step, spec, found, auth)
            return
        await self._update(step, spec, self._live[step.engine_name], auth)

    async def _update(self, step: Step, spec: ServiceSpec, seen: Service, auth: AuthConfig | None) -> None:
        """Replace the spec that the plan saw; when somebody changed it meanwhile, the plan is no longer true."""
        service = seen
        for _ in range(_RETRIES):
            try:
                sent = planner.settled(spec, replaced_live(self._job.live, service))
                await self._client.update_service(service.id, service.version.index, sent, auth=auth)
                return
            except errors.NotFound as error:
                raise errors.Refused(_overtaken(step, "removed")) from error
            except errors.OutOfSequence:
                # The version also counts what the swarm itself notes of an update: only a changed spec matters.
                service = await self._client.service(step.engine_name)
                if service.spec != seen.spec:
                    raise errors.Refused(_overtaken(step, "changed")) from None
        raise errors.Unavailable(f"service {step.engine_name} keeps changing: try again")

    async def _wait(self) -> None:
        """Wait for every service of the manifests, changed or not."""
        changed = {step.engine_name for step in self._plan.of("Service", Action.CREATE, Action.UPDATE)}
        names = [item.engine_name for item in self._job.request.desired.of("Service")]
        await waiting.wait(self._client, names, changed, self._report, self._job.timeout_s, self._job.guard)

    # -- what goes

    def _colliding(self) -> list[Step]:
        """Services that go first, since one that comes takes their published port."""
        coming = self._plan.of("Service", Action.CREATE, Action.UPDATE)
        wanted = {port for step in coming for port in ports.published(_spec(self._items[step.key]))}
        return [
            step
            for step in self._plan.of("Service", Action.DELETE)
            if any(port.collides(other) for port in ports.held(self._live[step.engine_name]) for other in wanted)
        ]

    async def _prune(self, steps: list[Step]) -> None:
        await self._all(self._remove, [step for step in steps if step.kind == "Service"])
        rest = [step for step in steps if step.kind in ("Secret", "Config")]
        await self._all(self._remove, rest)
        await self._collect_versions()
        await self._all(self._remove, [step for step in steps if step.kind in ("Network", "Image", "Volume")])

    async def _collect_versions(self) -> None:
        """Former versions of images, secrets and configs, as far as nothing uses them."""
        for step in self._plan.steps:
            for name in step.obsolete if step.action is not Action.DELETE else ():
                try:
                    await self._take_away(step.kind, name)
                except errors.NotFound:
                    self._removed.add(name)
                except errors.GitopsError as error:
                    self._report(Update(step.kind, name, "kept", f"kept: {error}"))

    async def _remove(self, step: Step) -> bool:
        """Remove an object, and wait for a service's tasks; what stopping tasks still use is tried again."""
        end = asyncio.get_running_loop().time() + _REMOVAL_S
        while True:
            try:
                await self._take_away(step.kind, step.engine_name)
                break
            except errors.NotFound:
                self._removed.add(step.engine_name)
                break
            except (errors.Conflict, errors.Invalid, errors.Denied) as error:
                if step.kind == "Image":
                    self._report(Update(step.kind, step.engine_name, "kept", f"kept: {error}"))
                    return False
                if asyncio.get_running_loop().time() > end:
                    raise
                await asyncio.sleep(waiting.POLL_S)
        if step.kind == "Service":
            service = self._live.get(step.engine_name)
            await waiting.wait_gone(self._client, service.id if service else "", _REMOVAL_S)
        self._removed.update(step.obsolete)
        return True

    async def _take_away(self, kind: str, name: str) -> None:
        removers: dict[str, Callable[[str], Awaitable[object]]] = {
            "Service": self._client.remove_service,
            "Network": self._client.remove_network,
            "Volume": self._client.remove_volume,
            "Secret": self._client.remove_secret,
            "Config": self._client.remove_config,
            "Image": self._remove_image,
        }
        await removers[kind](name)
        self._removed.add(name)

    async def _remove_image(self, name: str) -> None:
        """Remove an image, by force if all that holds it are containers of tasks that have ended."""
        try:
            await self._client.remove_image(name)
        except errors.Conflict:
            image = await self._client.image(name)
            users = [item for item in await self._client.containers(all=True) if item.image_id == image.id]
            if any(_TASK_LABEL not in item.labels or item.state in _ALIVE for item in users):
                raise
            await self._client.remove_image(name, force=True)


def replaced_live(live: Live, service: Service) -> Live:
    """`live` with a newer state of one service."""
    return Live(services={**live.services, service.spec.name: service})


def _with_ids(item: Desired, ids: waiting.Ids) -> ServiceSpec:
    """The spec with ids where the API wants them."""
    spec = _spec(item)
    template = spec.task_template
    container = template.container_spec
    assert container is not None
    try:
        networks = [
            NetworkAttachmentConfig(ids.networks[use.target], use.aliases, use.driver_opts) for use in template.networks
        ]
        secrets = [
            SecretReference(use.file, ids.secrets[use.secret_name], use.secret_name) for use in container.secrets
        ]
        configs = [
            ConfigReference(use.file, ids.configs[use.config_name], use.config_name) for use in container.configs
        ]
    except KeyError as error:
        raise errors.NotFound(
            f"{item.position}: service {item.engine_name} needs {error.args[0]!r}, which the engine does not have"
        ) from error
    container = replace(container, secrets=secrets, configs=configs)
    return replace(spec, task_template=replace(template, container_spec=container, networks=networks))


def _image_of(spec: ServiceSpec) -> str:
    container = spec.task_template.container_spec
    return container.image if container else ""


def _spec(item: Desired) -> ServiceSpec:
    assert isinstance(item.spec, ServiceSpec)
    return item.spec


def _overtaken(step: Step, what: str) -> str:
    return f"service {step.engine_name} was {what} by somebody else meanwhile: run it again to see the new plan"


def _doing(step: Step) -> str:
    return {Action.CREATE: "creating", Action.UPDATE: "updating", Action.REPLACE: "replacing"}.get(
        step.action, "removing"
    )


def _did(step: Step) -> str:
    return {Action.CREATE: "created", Action.UPDATE: "updated", Action.REPLACE: "replaced"}.get(step.action, "removed")
