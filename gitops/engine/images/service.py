"""Images of one host: what the rest of the engine calls.

Owns the content store, the layers on their way, and the registry client; each rule lives in the module that it is
named after. Containers keep the layers of their image by being named by `users`, even when the image was removed by
force; who removes a container calls `collect` afterwards.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from gitops import config as settings
from gitops import errors
from gitops.engine import database as databases
from gitops.engine import events as event_bus
from gitops.engine.images import (
    assembling,
    layout,
    loading,
    pulling,
    pushing,
    records,
    removal,
    report,
    saving,
    staging,
    store,
    views,
)
from gitops.engine.registry import client as registries
from gitops.objects import image
from gitops.oci import digest as digests
from gitops.oci import manifest as manifests
from gitops.oci import reference as references

Report = report.Report
Summaries = list[image.ImageSummary]
History = list[image.HistoryItem]
Deleted = list[image.ImageDelete]
Strings = list[str]
Paths = list[Path]

_HEX = re.compile(r"(?:sha256:)?([0-9a-f]{1,64})")


@dataclass(frozen=True, slots=True)
class ImageUsage:
    """What images take on disk, in bytes."""

    layers_bytes: int
    blobs_bytes: int
    reclaimable_bytes: int
    """Of layers that only images without containers have."""


class ImageService:
    """Pull, load, names, removal; layers for containers. Belongs to one event loop."""

    def __init__(
        self,
        config: settings.EngineConfig,
        database: databases.Database,
        events: event_bus.EventBus,
        unpacker: staging.Unpacker,
        *,
        registry: registries.RegistryClient | None = None,
    ) -> None:
        """`unpacker` has been started before there was an event loop; its owner closes it."""
        self.users: Callable[[str], Sequence[removal.ImageUser]] = lambda _: ()
        """The containers of an image id; set by the engine."""
        self._registry = registry or registries.RegistryClient(
            insecure=frozenset(config.insecure_registries), mirrors=config.registry_mirrors
        )
        self._store = store.ContentStore(layout.Layout(config.data_root), database)
        slots = max(2, len(os.sched_getaffinity(0)))
        self._staging = staging.Staging(self._store, unpacker, slots=slots, retry=self._registry.retry)
        self._puller = pulling.Puller(self._store, self._staging, self._registry, events)
        self._pusher = pushing.Pusher(self._store, self._registry, events)
        self._loader = loading.Loader(self._store, self._staging, events)
        self._saver = saving.Saver(self._store)
        self._assembler = assembling.Assembler(self._saver, self._loader)
        self._events = events
        self._running = 0
        self._idle = asyncio.Event()
        self._idle.set()

    # -- life

    async def start(self) -> None:
        """Check the disk against the database, drop and report what is damaged, clear what a crash left.

        Raises:
            errors.RuntimeFailure: the data root can't be read or written.
        """
        await self._store.start()

    async def close(self) -> None:
        """End what is on its way (it can be resumed) and the background deletion."""
        self._staging.close()
        await self._idle.wait()
        await self._registry.close()
        await self._store.close()

    @property
    def findings(self) -> Strings:
        """What the last start found damaged, and dropped."""
        return list(self._store.findings)

    # -- in

    async def pull(
        self,
        reference: str,
        *,
        auth: image.AuthConfig | None = None,
        platform: str | None = None,
        progress: Report | None = None,
    ) -> str:
        """Fetch an image from its registry; returns its id. Cancelling it is safe, and keeps what was downloaded.

        Raises:
            errors.Invalid: no reference, or content that contradicts itself or its digest.
            errors.NotFound, errors.Denied: in Docker's words.
            errors.Unavailable: the registry can't be reached, or stopped half-way; the next pull goes on from there.
            errors.Unsupported: schema 1, or no image at all.
            errors.RuntimeFailure: the disk refused.
        """
        parsed = references.parse(reference).with_default_tag()
        wanted = manifests.parse_platform(platform) if platform else None
        async with self._busy():
            return await self._puller.pull(parsed, auth=auth, platform=wanted, send=progress or report.silent)

    async def load(self, path: Path, progress: Report | None = None) -> Strings:
        """Take the images of an archive (docker-archive, OCI archive, OCI layout); returns their names, or ids.

        Raises:
            errors.Invalid, errors.Unsupported: no such archive, or damaged.
            errors.NotFound: no file, or no image for this platform.
        """
        async with self._busy():
            return await self._loader.load(path, progress or report.silent)

    async def assemble(
        self,
        layer: Path,
        making: assembling.Making,
        *,
        below: str | None = None,
        name: str = "",
        action: str = "import",
    ) -> str:
        """Make an image of the tar `layer`, on top of the image with the id `below` if there is one; returns its id.

        `action` is what its event says. Raises as `Assembler.assemble`, and errors.Invalid for a `name` with a digest.
        """
        names = [_new_name(name).canonical()] if name else []
        async with self._busy():
            image_id = await self._assembler.assemble(layer, making, below=below, names=names)
        self._events.publish("image", action, image_id, {"name": name or image_id})
        return image_id

    @asynccontextmanager
    async def _busy(self) -> AsyncIterator[None]:
        self._running += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._running -= 1
            if not self._running:
                self._idle.set()

    # -- out

    @asynccontextmanager
    async def save(self, names: Sequence[str], output: BinaryIO) -> AsyncIterator[asyncio.Future[None]]:
        """The writing of an archive of these images to `output`, which is closed at its end: docker-archive and OCI.

        A name without tag or digest brings all tags of its repository; an id brings none.

        Raises:
            errors.NotFound: one of them isn't there. errors.RuntimeFailure: a blob is gone.
        """
        wanted: dict[str, list[str]] = {}
        for name in names:
            for image_id, canonical in self._saved(name):
                known = wanted.setdefault(image_id, [])
                known += [text for text in canonical if text not in known]
        async with self._busy(), self._saver.save(wanted, output) as done:
            yield done
        for image_id in wanted:
            self._events.publish("image", "save", image_id, {"name": image_id})

    def _saved(self, name: str) -> list[tuple[str, list[str]]]:
        is_id = len(name) >= 64 and _HEX.fullmatch(name) is not None
        repository = None if is_id else references.parse(name)
        is_bare = repository is not None and repository.tag is None and repository.digest is None
        if repository is not None and is_bare and (tags := sorted(self._tags_here(repository))):
            return [(self._store.names[tag], [tag]) for tag in tags]
        image_id, found = self._find(name)
        return [(image_id, [found.canonical()] if found is not None and found.digest is None else [])]

    # -- registries

    async def login(self, auth: image.AuthConfig) -> None:
        """See whether the registry `auth.serveraddress` (default: the public one) takes these credentials.

        Raises:
            errors.Denied: it doesn't. errors.Unavailable: it can't be reached.
        """
        await self._registry.login(_domain(auth.serveraddress), auth)

    async def push(
        self, reference: str, *, auth: image.AuthConfig | None = None, progress: Report | None = None
    ) -> Strings:
        """Send an image to the registry of its name; of a name without a tag, all that have one. Returns the digests.

        Raises:
            errors.NotFound: no image of that name, or no such repository.
            errors.Invalid: no reference, or one with a digest.
            errors.Denied: the registry wants other credentials.
            errors.Unavailable: the registry can't be reached, or stopped half-way.
            errors.Conflict: a layer isn't held as the registry would have it.
        """
        wanted = references.parse(reference)
        if wanted.digest:
            raise errors.Invalid("cannot push a digest reference")
        names = [wanted.canonical()] if wanted.tag else sorted(self._tags_here(wanted))
        missing = [name for name in names if name not in self._store.names]
        if missing or not names:
            raise errors.NotFound(f"An image does not exist locally with the tag: {wanted.familiar()}")
        async with self._busy():
            found = [(references.parse(name), self._store.image(self._store.names[name])) for name in names]
            return [
                await self._pusher.push(name, row, auth=auth, send=progress or report.silent) for name, row in found
            ]

    def _tags_here(self, repository: references.Reference) -> Iterator[str]:
        return (name for name in self._store.names if name.startswith(f"{repository.name}:"))

    async def tags(self, repository: str, *, auth: image.AuthConfig | None = None) -> Strings:
        """Every tag that a repository has in its registry, for `pull -a`. Raises as `pull`."""
        remote = await self._registry.repository(references.parse(repository).name_only(), auth)
        return await remote.tags()

    async def distribution(self, reference: str, auth: image.AuthConfig | None = None) -> image.DistributionInspect:
        """What the registry holds under a name. Raises as `pull`."""
        parsed = references.parse(reference).with_default_tag()
        remote, fetched = await self._manifest(parsed, auth)
        document = manifests.parse_manifest(fetched.data, fetched.media_type)
        if isinstance(document, manifests.Index):
            platforms = [entry.platform for entry in document.manifests if entry.platform is not None]
        else:
            config = await remote.blob(document.config, limit=manifests.CONFIG_LIMIT)
            platforms = [manifests.parse_config(config).platform]
        kind = document.media_type or fetched.media_type.partition(";")[0].strip()
        descriptor: dict[str, Any] = {"mediaType": kind, "digest": fetched.digest, "size": len(fetched.data)}
        if (missing := await self._puller.missing_bytes(remote, fetched)) is not None:
            descriptor["annotations"] = {image.PULL_SIZE: str(missing)}
        return image.DistributionInspect(
            descriptor=descriptor,
            platforms=[_platform(entry) for entry in platforms if entry.os not in ("", "unknown")],
        )

    async def _manifest(
        self, reference: references.Reference, auth: image.AuthConfig | None
    ) -> tuple[registries.Repository, registries.Fetched]:
        """What a reference stands for, of the first mirror that has it, else of its registry."""
        name = reference.digest or reference.tag or references.DEFAULT_TAG
        for mirror in self._registry.mirrors(reference):
            with contextlib.suppress(*pulling.PASSED_OVER):
                return mirror, await mirror.manifest(name)
        remote = await self._registry.repository(reference, auth)
        return remote, await remote.manifest(name)

    # -- reading

    def resolve(self, name: str) -> str:
        """The id of `name`: an id, a name, or a unique prefix of an id, in this order.

        Raises:
            errors.NotFound: "No such image: X".
            errors.Invalid: no reference, or an ambiguous prefix.
        """
        return self._find(name)[0]

    def list(
        self, *, all: bool = False, filters: Mapping[str, Sequence[str]] | None = None, has_use: bool = False
    ) -> Summaries:
        """Images, newest first. `all` changes nothing: there are no intermediate images.

        With `has_use` they tell how many containers they have, and the bytes that they share with other images.

        Raises:
            errors.Invalid: an unknown filter.
            errors.NotFound: the image that `before` or `since` names.
        """
        names = self._store.names_by_image()
        entries = [self._entry(row.id, names.get(row.id, ())) for row in self._visible()]
        chosen = views.select(entries, filters or {}, lambda name: self._entry(self.resolve(name)))
        chosen.sort(key=lambda entry: (-entry.created_ns, entry.row.id))
        shown = [views.summary(entry) for entry in chosen]
        return [self._with_use(item) for item in shown] if has_use else shown

    def _with_use(self, item: image.ImageSummary) -> image.ImageSummary:
        mine = {layer.chain_id for layer in self._store.image(item.id).layers}
        others = {layer.chain_id for row in self._visible() if row.id != item.id for layer in row.layers}
        shared = sum(self._store.layers[key].unpacked_bytes for key in mine & others)
        return msgspec.structs.replace(item, containers=len(self.users(item.id)), shared_size=shared)

    def inspect(self, name: str) -> image.ImageInspect:
        """An image in full. Raises as `resolve`."""
        image_id = self.resolve(name)
        return views.inspect(self._entry(image_id), self.layers(image_id))

    def history(self, name: str) -> History:
        """How an image came to be, newest step first. Raises as `resolve`."""
        return views.history(self._entry(self.resolve(name)))

    def get(self, name: str) -> records.Image:
        """The row of an image: its manifest, its layers and blobs. Raises as `resolve`."""
        return self._store.image(self.resolve(name))

    def config(self, image_id: str) -> manifests.ImageConfig:
        """The config of an image by its full id, of one removed by force too as long as a container is made of it.

        Raises:
            errors.NotFound: there is none.
        """
        return self._store.config(image_id)

    def layers(self, image_id: str) -> Paths:
        """Directories for overlayfs' lowerdir, the top layer first; short, so that 127 of them fit one page.

        They are symlinks. Layers that an opaque root hides are left out. By the full id, as `config`.

        Raises:
            errors.NotFound: there is no such image.
            errors.RuntimeFailure: a layer is gone from the disk; what needs it is dropped, so that a pull mends it.
        """
        row = self._store.image(image_id)
        self._store.check_layers(row)
        return self._store.lower(row.layers[-1].chain_id) if row.layers else []

    def usage(self) -> ImageUsage:
        """What images take on disk."""
        used = {layer.chain_id for row in self._store.images.values() if self.users(row.id) for layer in row.layers}
        free = sum(layer.disk_bytes for key, layer in self._store.layers.items() if key not in used)
        return ImageUsage(*self._store.usage(), reclaimable_bytes=free)

    def _visible(self) -> Iterator[records.Image]:
        return (row for row in self._store.images.values() if not row.is_removed)

    def _entry(self, image_id: str, known: Sequence[str] | None = None) -> views.Entry:
        row = self._store.image(image_id)
        texts = self._store.names_of(image_id) if known is None else known
        names = [references.parse(text) for text in texts]
        return views.Entry(
            row=row,
            config=self._store.config(image_id),
            layers=[self._store.layers[layer.chain_id] for layer in row.layers],
            tags=[name for name in names if name.digest is None],
            digests=[name for name in names if name.digest is not None],
        )

    def _find(self, name: str) -> tuple[str, references.Reference | None]:
        """Id, and the reference where it was found by that."""
        if digests.is_digest(name) or (len(name) == 64 and _HEX.fullmatch(name)):
            image_id = name if name.startswith("sha256:") else f"sha256:{name}"
            if self._is_visible(image_id):
                return image_id, None
            raise errors.NotFound(f"No such image: {name}")
        prefix = _HEX.fullmatch(name)
        reference = _reference(name, is_optional=prefix is not None)
        if reference is not None and (found := self._store.names.get(reference.canonical())) is not None:
            return found, reference
        matches = [row.id for row in self._visible() if prefix and row.id.startswith(f"sha256:{prefix[1]}")]
        if len(matches) > 1:
            raise errors.Invalid(f"ambiguous image id {name}: {len(matches)} images begin so, give more of it")
        if not matches:
            raise errors.NotFound(f"No such image: {reference or name}")
        return matches[0], None

    def _is_visible(self, image_id: str) -> bool:
        return image_id in self._store.images and not self._store.images[image_id].is_removed

    # -- names

    def tag(self, name: str, new_reference: str) -> None:
        """Give an image one more name; a name that another image has moves.

        Raises:
            errors.NotFound: no such image.
            errors.Invalid: no reference, or one with a digest.
        """
        image_id = self.resolve(name)
        target = _new_name(new_reference)
        row = msgspec.structs.replace(self._store.image(image_id), tagged_ns=time.time_ns())
        self._store.rename(row, add=[target.canonical()])
        self._events.publish("image", "tag", image_id, {"name": target.familiar()})

    async def remove(self, name: str, *, force: bool = False) -> Deleted:
        """Take a name away, and the image with its last one, by Docker's rules; says what went, in order.

        Raises:
            errors.NotFound, errors.Invalid: as `resolve`.
            errors.Conflict: a container or another name forbids it.
        """
        image_id, reference = self._find(name)
        names = [references.parse(text) for text in self._store.names_of(image_id)]
        plan = removal.plan(image_id, reference, names, self.users(image_id), force=force)
        row = msgspec.structs.replace(self._store.image(image_id), is_removed=plan.is_deleted)
        self._store.rename(row, drop=[gone.canonical() for gone in plan.untag])
        lines = [image.ImageDelete(untagged=gone.familiar()) for gone in plan.untag]
        for _ in plan.untag:
            self._events.publish("image", "untag", image_id, {"name": image_id})
        if plan.is_deleted:
            lines.append(image.ImageDelete(deleted=image_id))
            self._events.publish("image", "delete", image_id, {"name": image_id})
            lines += [image.ImageDelete(deleted=chain_id) for chain_id in await self.collect()]
        return lines

    async def prune(self, filters: Mapping[str, Sequence[str]]) -> tuple[Deleted, int]:
        """Remove images that no container has: those without a tag, with the filter `dangling=false` all.

        Further filters are those of `list` (`until` in nanoseconds since the epoch). Returns what went, and the bytes
        that this set free.

        Raises:
            errors.Invalid: an unknown filter or value.
        """
        chosen = dict(filters)
        is_all = [value.lower() in ("0", "false") for value in chosen.pop("dangling", ())][-1:] == [True]
        before, lines = sum(self._store.usage()), []
        for found in self.list(filters=chosen):
            if self.users(found.id) or (found.repo_tags and not is_all):
                continue
            try:
                lines += await self.remove(found.id, force=True)
            except (errors.Conflict, errors.NotFound):
                continue  # taken into use, or removed, meanwhile
        return lines, max(0, before - sum(self._store.usage()))

    async def collect(self) -> Strings:
        """Remove layers and blobs that no image, no container and no pull needs; their chain ids.

        Costs a millisecond; the deleting itself happens in the background.
        """
        return await self._store.collect(lambda image_id: bool(self.users(image_id)))


def _reference(name: str, *, is_optional: bool) -> references.Reference | None:
    try:
        reference = references.parse(name).with_default_tag()
    except errors.Invalid:
        if is_optional:
            return None
        raise
    return reference.without_tag() if reference.digest else reference


def _new_name(text: str) -> references.Reference:
    name = references.parse(text).with_default_tag()
    if name.digest is not None:
        raise errors.Invalid("refusing to create a tag with a digest reference")
    return name


def _domain(address: str) -> str:
    """The registry's domain of an address as `docker login` takes it."""
    host = address.partition("://")[2] or address
    host = host.partition("/")[0]
    return references.DEFAULT_DOMAIN if host in ("", "index.docker.io", "registry-1.docker.io") else host


def _platform(entry: manifests.Platform) -> dict[str, str]:
    shown = {"architecture": entry.architecture, "os": entry.os, "variant": entry.variant}
    return {key: value for key, value in shown.items() if value}
