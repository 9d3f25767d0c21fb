"""Carries out a plan: what is needed first, then the services, then what is left over; and waits until all of it holds.

Every step is idempotent: an apply that was killed anywhere is finished by the next one. Nothing is deleted before what
replaces it has converged, but for a service whose published port a new one takes.
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
from gitops.reconciler import images, planner, waiting
from gitops.reconciler.live import Live
from gitops.reconciler.pinning import Credentials
from gitops.reconciler.plan import Action, Plan, Step
from gitops.reconciler.waiting import Report, Update

_PARALLEL = 4
_RETRIES = 5
_REMOVAL_S = 60.0


@dataclass(frozen=True, slots=True)
class Job:
    """A plan with what it was made of."""

    plan: Plan
    request: planner.Request
    live: Live
    images: images.Images
    credentials: Credentials
    timeout_s: float


async def run(client: clients.EngineClient, job: Job, report: Report) -> None:
    """Make it so, and return when every task runs and has stayed so for its service's monitor time.

    Raises:
        errors.Unschedulable, errors.RolloutFailed: a service doesn't get there, with the reason.
        errors.Refused: a network or volume in use would have to be replaced.
        errors.GitopsError: a call failed; what was done stays, and the next apply goes on from there.
    """
    await _Apply(client, job, report).run()


class _Apply:
    def __init__(self, client: clients.EngineClient, job: Job, report: Report) -> None:
        self._client = client
        self._job = job
        self._plan = job.plan
        self._report = report
        self._items = {item.key: item for item in job.request.desired.objects}
        self._slots = asyncio.Semaphore(_PARALLEL)

    async def run(self) -> None:
        self._refuse_replacing_what_is_used()
        await self._all(self._image, self._plan.of("Image", Action.CREATE, Action.UPDATE))
        making = [
            step
            for kind in ("Network", "Volume", "Secret", "Config")
            for step in self._plan.of(kind, Action.CREATE, Action.UPDATE, Action.REPLACE)
        ]
        await self._all(self._make, making)
        early = self._colliding()
        await self._all(self._remove, early)
        ids = await self._ids()
        await self._all(lambda step: self._service(step, ids), self._plan.of("Service", Action.CREATE, Action.UPDATE))
        await self._wait()
        await self._prune([step for step in self._plan.steps if step.action is Action.DELETE and step not in early])

    async def _all(self, call: Callable[[Step], Awaitable[None]], steps: Iterable[Step]) -> None:
        async def one(step: Step) -> None:
            async with self._slots:
                self._report(Update(step.kind, step.engine_name, "started", _doing(step)))
                await call(step)
                self._report(Update(step.kind, step.engine_name, "done", _did(step)))

        try:
            async with asyncio.TaskGroup() as group:
                for step in steps:
                    group.create_task(one(step))
        except* errors.GitopsError as caught:
            raise _first(caught) from None

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
                if step.action is Action.REPLACE:
                    raise errors.Refused(
                        f"volume {step.engine_name} differs from its manifest ({_paths(step)}) and a volume can't be"
                        " changed in place: move its data to a volume of another name"
                    )
                await self._client.create_volume(spec)
            elif isinstance(spec, SecretSpec):
                await self._client.create_secret(spec)
            elif isinstance(spec, ConfigSpec):
                await self._client.create_config(spec)
        except errors.Conflict as error:
            # Made meanwhile, by an apply that was killed after the call or by one beside us: the next diff judges it.
            if step.action is Action.REPLACE:
                raise errors.Refused(f"{step.kind.lower()} {step.engine_name} is in use: {error}") from error

    def _refuse_replacing_what_is_used(self) -> None:
        """A network can't be changed in place; one that services use is not torn away under them."""
        for step in self._plan.of("Network", Action.REPLACE):
            network = self._job.live.networks[step.engine_name]
            users = [
                name
                for name, service in self._job.live.services.items()
                if any(use.target in (network.id, network.name) for use in service.spec.task_template.networks)
            ]
            if users:
                raise errors.Refused(
                    f"network {step.engine_name} differs from its manifest ({_paths(step)}) and can't be changed in"
                    f" place while {', '.join(sorted(users))} use it: give the network another name"
                )

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

    async def _service(self, step: Step, ids: waiting.Ids) -> None:
        item = self._items[step.key]
        spec = _with_ids(item, ids)
        auth = self._job.credentials(_image_of(spec))
        if step.action is Action.CREATE:
            try:
                await self._client.create_service(spec, auth=auth)
            except errors.Conflict:
                await self._update(step, spec, await self._client.service(step.engine_name))
            return
        await self._update(step, spec, self._job.live.services[step.engine_name])

    async def _update(self, step: Step, spec: ServiceSpec, seen: Service) -> None:
        """Replace the spec that the plan saw; when somebody changed it meanwhile, the plan is no longer true."""
        service = seen
        for _ in range(_RETRIES):
            try:
                sent = planner.settled(spec, replaced_live(self._job.live, service))
                await self._client.update_service(service.id, service.version.index, sent)
                return
            except errors.OutOfSequence:
                service = await self._client.service(step.engine_name)
                if service.spec != seen.spec:
                    raise errors.Refused(
                        f"service {step.engine_name} was changed by somebody else meanwhile: run it again to see the"
                        " new plan"
                    ) from None
        raise errors.Unavailable(f"service {step.engine_name} keeps changing: try again")

    async def _wait(self) -> None:
        """Wait for every service of the manifests, changed or not."""
        changed = {step.engine_name for step in self._plan.of("Service", Action.CREATE, Action.UPDATE)}
        names = [item.engine_name for item in self._job.request.desired.of("Service")]
        await waiting.wait(self._client, names, changed, self._report, self._job.timeout_s)

    # -- what goes

    def _colliding(self) -> list[Step]:
        """Services that go first, since one that comes takes their published port."""
        taken = set()
        for step in self._plan.of("Service", Action.CREATE, Action.UPDATE):
            taken |= _ports(self._items[step.key].spec)
        gone = self._plan.of("Service", Action.DELETE)
        return [step for step in gone if _ports(self._job.live.services[step.engine_name].spec) & taken]

    async def _prune(self, steps: list[Step]) -> None:
        await self._all(self._remove, [step for step in steps if step.kind == "Service"])
        rest = [step for step in steps if step.kind in ("Secret", "Config")]
        await self._all(self._remove, rest)
        await self._collect_versions()
        await self._all(self._remove, [step for step in steps if step.kind in ("Network", "Image")])

    async def _collect_versions(self) -> None:
        """Former versions of secrets and configs, as far as nothing uses them."""
        for step in self._plan.steps:
            for name in step.obsolete:
                try:
                    await self._remover(step.kind)(name)
                except errors.NotFound:
                    continue
                except errors.GitopsError as error:
                    self._report(Update(step.kind, name, "kept", f"still in use: {error}"))

    async def _remove(self, step: Step) -> None:
        """Remove an object, and wait for a service's tasks; what stopping tasks still use is tried again."""
        end = asyncio.get_running_loop().time() + _REMOVAL_S
        while True:
            try:
                await self._remover(step.kind)(step.engine_name)
                break
            except errors.NotFound:
                break
            except (errors.Conflict, errors.Invalid, errors.Denied) as error:
                if step.kind == "Image":
                    self._report(Update(step.kind, step.engine_name, "kept", f"still in use: {error}"))
                    return
                if asyncio.get_running_loop().time() > end:
                    raise
                await asyncio.sleep(waiting.POLL_S)
        if step.kind == "Service":
            service = self._job.live.services.get(step.engine_name)
            await waiting.wait_gone(self._client, service.id if service else "", _REMOVAL_S)

    def _remover(self, kind: str) -> Callable[[str], Awaitable[object]]:
        removers: dict[str, Callable[[str], Awaitable[object]]] = {
            "Service": self._client.remove_service,
            "Network": self._client.remove_network,
            "Secret": self._client.remove_secret,
            "Config": self._client.remove_config,
            "Image": self._client.remove_image,
        }
        return removers[kind]


def replaced_live(live: Live, service: Service) -> Live:
    """`live` with a newer state of one service."""
    return Live(services={**live.services, service.spec.name: service})


def _with_ids(item: Desired, ids: waiting.Ids) -> ServiceSpec:
    """The spec with ids where the API wants them."""
    spec = item.spec
    assert isinstance(spec, ServiceSpec)
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


def _ports(spec: object) -> set[tuple[str, int]]:
    assert isinstance(spec, ServiceSpec)
    ports = spec.endpoint_spec.ports if spec.endpoint_spec else []
    return {(port.protocol, port.published_port) for port in ports if port.published_port}


def _paths(step: Step) -> str:
    return ", ".join(change.path for change in step.changes)


def _doing(step: Step) -> str:
    return {Action.CREATE: "creating", Action.UPDATE: "updating", Action.REPLACE: "replacing"}.get(
        step.action, "removing"
    )


def _did(step: Step) -> str:
    return {Action.CREATE: "created", Action.UPDATE: "updated", Action.REPLACE: "replaced"}.get(step.action, "removed")


def _first(group: BaseExceptionGroup[errors.GitopsError]) -> errors.GitopsError:
    """One error for several: the first, with the count of the others."""
    found: list[errors.GitopsError] = []

    def collect(item: BaseException) -> None:
        if isinstance(item, BaseExceptionGroup):
            for inner in item.exceptions:
                collect(inner)
        elif isinstance(item, errors.GitopsError):
            found.append(item)

    collect(group)
    return found[0]
