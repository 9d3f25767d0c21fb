"""From tags to digests: a service runs `name:tag@digest`, so that what ran is what a rollback brings back.

A tag is resolved when the text of the manifest changes, not each time: a tag that moved is not followed.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from dataclasses import replace as replaced
from typing import Protocol

from msgspec.structs import replace

from gitops import errors
from gitops.manifests import Desired, DesiredSet
from gitops.objects.image import PULL_SIZE, AuthConfig, DistributionInspect, ImageSummary
from gitops.objects.memory import Memory
from gitops.objects.service import Service, ServiceSpec
from gitops.oci import reference as references
from gitops.reconciler.images import Known

_PARALLEL = 8
_SHOWN = 3

Credentials = Callable[[str], AuthConfig | None]
"""From an image reference to what its registry wants."""


class Asked(Protocol):
    """Who knows digests: an engine."""

    async def distribution(self, reference: str, *, auth: AuthConfig | None = None) -> DistributionInspect:
        """What a registry holds under a name."""
        ...

    async def images(self) -> list[ImageSummary]:
        """The images that are there."""
        ...


@dataclass(frozen=True, slots=True)
class Pinned:
    """The set with digests in, and what could not be resolved."""

    desired: DesiredSet
    warnings: tuple[str, ...] = ()
    sizes: Mapping[str, int] = field(default_factory=dict)
    """Bytes that a pull is, by image as services have it now, where a registry was asked and the engine counted."""


async def pin(
    client: Asked,
    desired: DesiredSet,
    known: Mapping[str, Known],
    live: Mapping[str, Service],
    credentials: Credentials,
    remembered: Memory[Desired] | None = None,
) -> Pinned:
    """Give every service of `desired` its image by digest, where that can be had.

    `remembered` makes of the same object with the same digest the same object again, from call to call.

    Raises:
        errors.InvalidManifest: an image that its registry says it doesn't have, or doesn't give, and the engine has
            none of that name either: no task could ever run it.
    """
    images = {id(item): _image(item.spec, known) for item in desired.of("Service") if _is_service(item)}
    services = [item for item in desired.objects if id(item) in images]
    late = {found.name for found in known.values() if found.is_late}
    wanted = {images[id(item)]: _live_image(item, live) for item in services}
    digests = {found.name or name: found.digest for name, found in known.items()}
    pins = {name: _without_asking(name, wanted[name], digests) for name in sorted(wanted.keys() - late)}
    names = [name for name, found in pins.items() if not found.digest]
    lookup = _Lookup(client, credentials)
    pins |= zip(names, await asyncio.gather(*map(lookup.find, names)), strict=True)
    warnings = _warnings(pins)
    pins |= {name: _Pin() for name in late}
    if problems := [_problem(item, pin.error) for item in services if (pin := pins[images[id(item)]]).is_hopeless]:
        raise errors.InvalidManifest(problems)
    memory: Memory[Desired] = remembered or Memory()
    sent = {name: _sent(name, found.digest, known.get(name)) for name, found in pins.items()}
    sizes = {sent[name]: found.size for name, found in pins.items() if found.size}
    objects = tuple(
        memory.of(_with_image, item, sent[images[id(item)]]) if id(item) in images else item for item in desired.objects
    )
    return Pinned(replaced(desired, objects=objects), warnings, sizes)


def _warnings(pins: Mapping[str, _Pin]) -> tuple[str, ...]:
    """One for all images that have no digest for the same reason: a registry that is away is told once."""
    alike: dict[tuple[object, str], list[str]] = {}
    for name, found in pins.items():
        if not found.digest:
            alike.setdefault((type(found.error), references.parse(name).domain), []).append(name)
    return tuple(
        f"no digest is on record for {_several(names)}, so each node runs what it has or gets under that name:"
        f" {pins[names[0]].error or 'the engine has it without one'}"
        for names in alike.values()
    )


def _several(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"image{'s' if len(names) > 1 else ''} {', '.join(names[:_SHOWN])}{more}"


def bare(image: str) -> str:
    """An image without its digest, in the familiar form, where it has a tag."""
    parsed = references.parse(image)
    return replaced(parsed, digest=None).familiar() if parsed.tag else parsed.familiar()


def _is_service(item: Desired) -> bool:
    return isinstance(item.spec, ServiceSpec) and item.spec.task_template.container_spec is not None


def _image(spec: object, known: Mapping[str, Known]) -> str:
    """What a service runs: the name that its manifest gives, or where the Image of that name is pulled from."""
    assert isinstance(spec, ServiceSpec) and spec.task_template.container_spec is not None
    name = _familiar(spec.task_template.container_spec.image)
    return known[name].name or name if name in known else name


@functools.lru_cache(maxsize=references.REMEMBERED)
def _familiar(image: str) -> str:
    parsed = references.parse(image)
    return parsed.familiar() if parsed.digest else parsed.with_default_tag().familiar()


def _live_image(item: Desired, live: Mapping[str, Service]) -> str:
    service = live.get(item.engine_name)
    container = service.spec.task_template.container_spec if service else None
    return container.image if container else ""


@dataclass(frozen=True, slots=True)
class _Pin:
    """An image's digest; where there is none, what the registry said to that."""

    digest: str = ""
    error: errors.GitopsError | None = None
    is_local: bool = False
    size: int = 0
    """Bytes that a pull is; 0 where that isn't known."""

    @property
    def is_hopeless(self) -> bool:
        return not self.digest and not self.is_local and isinstance(self.error, errors.NotFound | errors.Denied)


def _without_asking(name: str, live: str, known: Mapping[str, str]) -> _Pin:
    """The digest of an image whose name says it, that is known, or that the service has now: `live` is its image."""
    if "@" in name:
        return _Pin(references.parse(name).digest or "")
    if digest := known.get(name, ""):
        return _Pin(digest)
    return _Pin((references.parse(live).digest or "") if live and bare(live) == name else "")


class _Lookup:
    """Finds digests, a few at a time; a registry that can't be reached is not asked again in the same run."""

    def __init__(self, client: Asked, credentials: Credentials) -> None:
        self._client = client
        self._credentials = credentials
        self._slots = asyncio.Semaphore(_PARALLEL)
        self._unreachable: dict[str, errors.GitopsError] = {}
        self._listing = asyncio.Lock()
        self._local: Mapping[str, Sequence[str]] | None = None

    async def find(self, name: str) -> _Pin:
        """The digest that `name` stands for, if it can be had."""
        async with self._slots:
            return await self._ask(name, references.parse(name).domain)

    async def _ask(self, name: str, registry: str) -> _Pin:
        if registry in self._unreachable:
            return await self._here(name, self._unreachable[registry])
        try:
            found = await self._client.distribution(name, auth=self._credentials(name))
        except (errors.Unavailable, errors.RuntimeFailure) as error:
            self._unreachable[registry] = error
            return await self._here(name, error)
        except (errors.NotFound, errors.Denied, errors.Invalid, errors.Unsupported) as error:
            return await self._here(name, error)
        size = str((found.descriptor.get("annotations") or {}).get(PULL_SIZE, ""))
        return _Pin(str(found.descriptor.get("digest", "")), size=int(size) if size.isdecimal() else 0)

    async def _here(self, name: str, error: errors.GitopsError) -> _Pin:
        """The digest under which the engine has the image already; its images are asked for once."""
        async with self._listing:
            if self._local is None:
                self._local = {tag: item.repo_digests for item in await self._client.images() for tag in item.repo_tags}
        if name not in self._local:
            return _Pin(error=error)
        wanted = references.parse(name).familiar_name
        found = [references.parse(text) for text in self._local[name]]
        digest = next((item.digest for item in found if item.digest and item.familiar_name == wanted), "")
        return _Pin(digest, error, is_local=True)


def _problem(item: Desired, error: errors.GitopsError | None) -> errors.Problem:
    line, column = item.positions.get("spec.image", (item.position.line, item.position.column))
    return errors.Problem(item.position.file, line, column, "spec.image", str(error))


def _sent(name: str, digest: str, known: Known | None) -> str:
    """What services are sent for an image."""
    if known is not None and known.is_id:
        return digest
    return f"{name}@{digest}" if digest and "@" not in name else name


def _with_image(item: Desired, image: str) -> Desired:
    spec = item.spec
    assert isinstance(spec, ServiceSpec) and spec.task_template.container_spec is not None
    container = replace(spec.task_template.container_spec, image=image)
    return replaced(item, spec=replace(spec, task_template=replace(spec.task_template, container_spec=container)))
