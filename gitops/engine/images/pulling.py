"""One pull, from a reference to a committed image.

    resolve (tag or digest) -> index -> platform -> manifest -> config -> layers that are missing -> commit

Promises: nothing is visible before all of it is complete and durable; all that the manifest or config says is checked
against the other; a reference that is current costs one HEAD.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from gitops import errors
from gitops.engine import events as event_bus
from gitops.engine.images import records, report, staging, store
from gitops.engine.images import unpack as unpacking
from gitops.engine.registry import client as registries
from gitops.objects import image
from gitops.oci import manifest as manifests
from gitops.oci import reference as references

_log = logging.getLogger(__name__)

PASSED_OVER = (errors.NotFound, errors.Denied, errors.Unavailable)
"""What makes a pull go on from a mirror to the next one, and to the registry itself."""
_CONFIG_TYPES = frozenset({manifests.OCI_CONFIG, manifests.DOCKER_CONFIG, "application/octet-stream", ""})
_NESTED = 3
"""Indexes of indexes are followed so deep."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """A manifest for one platform, with the documents that it is known by."""

    descriptor: manifests.Descriptor
    manifest: manifests.Manifest
    document: bytes
    top_digest: str
    """Of what the tag stands for: the index, or the manifest itself."""


@dataclass(frozen=True, slots=True)
class RemoteLayer:
    """A layer's blob in a registry."""

    repository: registries.Repository
    digest: str
    is_remote: bool = True

    async def open(self) -> unpacking.HttpSource:
        """A fresh address: signed ones expire, tokens too."""
        location = await self.repository.locate(self.digest)
        return unpacking.HttpSource(
            url=location.url,
            headers=dict(location.headers),
            ca_file=location.trust.ca_file,
            client_certificate=location.trust.client_certificate,
            client_key=location.trust.client_key,
            insecure_tls=location.trust.is_insecure,
        )

    def explain(self, error: errors.GitopsError) -> errors.GitopsError:
        """Names registry and image."""
        return self.repository.unavailable(error)


class Puller:
    """Pulls images into a content store."""

    def __init__(
        self,
        content: store.ContentStore,
        stages: staging.Staging,
        registry: registries.RegistryClient,
        events: event_bus.EventBus,
    ) -> None:
        self._store = content
        self._staging = stages
        self._registry = registry
        self._events = events

    async def pull(
        self,
        reference: references.Reference,
        *,
        auth: image.AuthConfig | None,
        platform: manifests.Platform | None,
        send: report.Report,
    ) -> str:
        """Fetch `reference`, which has a tag or a digest; returns the image's id. Raises as `ImageService.pull`."""
        name = reference.digest or reference.tag or references.DEFAULT_TAG
        if reference.digest:
            reference = reference.without_tag()
        for mirror in self._registry.mirrors(reference):
            try:
                return await self._pull_from(mirror, name, platform, send)
            except PASSED_OVER as error:
                _log.warning("mirror of the public registry: %s", error)
        return await self._pull_from(await self._registry.repository(reference, auth), name, platform, send)

    async def _pull_from(
        self,
        repository: registries.Repository,
        name: str,
        platform: manifests.Platform | None,
        send: report.Report,
    ) -> str:
        reference = repository.reference
        current = await self._current(repository, name, platform)
        send(image.Progress(status=f"Pulling from {reference.path}", id=name))
        if current is not None:
            (image_id, digest), is_new = current, False
        else:
            chosen = await self._choose(repository, name, platform or manifests.host())
            image_id, is_new = await self._fetch(repository, chosen, platform, send)
            digest = chosen.top_digest
        shown = reference.familiar()
        news = "Downloaded newer image for" if is_new else "Image is up to date for"
        send(image.Progress(status=f"Digest: {digest}"))
        send(image.Progress(status=f"Status: {news} {shown}"))
        self._events.publish("image", "pull", shown, {"name": reference.familiar_name})
        return image_id

    async def missing_bytes(self, repository: registries.Repository, fetched: registries.Fetched) -> int | None:
        """Bytes of the layers that a pull of a fetched manifest would bring to this host; None where none would work.

        Raises:
            errors.Unavailable: the registry can't be reached.
        """
        try:
            chosen = await self._descend(repository, fetched, manifests.host())
            document = await repository.blob(chosen.manifest.config, limit=manifests.CONFIG_LIMIT)
            wanted = layers_of(manifests.parse_config(document), chosen.manifest, repository.reference)
        except (errors.Invalid, errors.NotFound, errors.Unsupported):
            # What is no image for this platform can be asked about all the same.
            return None
        return sum(layer.size for layer in wanted if layer.chain_id not in self._store.layers)

    async def _current(
        self, repository: registries.Repository, name: str, platform: manifests.Platform | None
    ) -> tuple[str, str] | None:
        """Id and digest of the image that the reference stands for already, if the registry agrees."""
        reference = repository.reference
        image_id = self._store.names.get(reference.canonical())
        if image_id is None or not self._suits(image_id, platform):
            return None
        # A digest can't have changed: who has it needs no registry.
        digest = reference.digest or await repository.head(name)
        if digest is None or self._store.names.get(reference.name_only().with_digest(digest).canonical()) != image_id:
            return None
        return image_id, digest

    def _suits(self, image_id: str, platform: manifests.Platform | None) -> bool:
        return platform is None or _matches(self._store.config(image_id).platform, platform)

    async def _choose(self, repository: registries.Repository, name: str, platform: manifests.Platform) -> Chosen:
        return await self._descend(repository, await repository.manifest(name), platform)

    async def _descend(
        self, repository: registries.Repository, fetched: registries.Fetched, platform: manifests.Platform
    ) -> Chosen:
        """From what a name leads to, through indexes, to the manifest for a platform."""
        top = fetched.digest
        for _ in range(_NESTED):
            document = manifests.parse_manifest(fetched.data, fetched.media_type)
            if isinstance(document, manifests.Manifest):
                kind = document.media_type or fetched.media_type.partition(";")[0].strip() or manifests.OCI_MANIFEST
                descriptor = manifests.Descriptor(kind, fetched.digest, len(fetched.data))
                return Chosen(descriptor, document, fetched.data, top)
            entry = manifests.select_platform(document, platform)
            fetched = await repository.manifest(entry.digest)
            if len(fetched.data) != entry.size:
                raise errors.Invalid(f"{repository.reference}: {entry.digest} isn't as long as its index says")
        raise errors.Invalid(f"{repository.reference}: indexes in indexes, more than {_NESTED} deep")

    async def _fetch(
        self,
        repository: registries.Repository,
        chosen: Chosen,
        platform: manifests.Platform | None,
        send: report.Report,
    ) -> tuple[str, bool]:
        """Bring the image and commit it under its names; returns its id, and whether the name got a new image."""
        manifest, reference = chosen.manifest, repository.reference
        _check_types(manifest, reference)
        image_id = manifest.config.digest
        with self._store.lease() as lease, self._store.trash.paused():
            lease([image_id, chosen.descriptor.digest, *(layer.digest for layer in manifest.layers)])
            if self._store.has_blob(image_id):
                document = self._store.read_blob(image_id)
            else:
                document = await repository.blob(manifest.config, limit=manifests.CONFIG_LIMIT)
            config = manifests.parse_config(document)
            wanted = layers_of(config, manifest, reference)
            _check_platform(config, platform, reference)
            lease([layer.chain_id for layer in wanted])
            new = self._start(wanted, repository, send)
            async with self._staging.joined(new) as staged:
                ready = await self._staging.ready(staged)
                names = [reference.canonical()]
                names += [reference.name_only().with_digest(chosen.top_digest).canonical()]
                is_new = self._store.names.get(names[0]) != image_id
                row = self._row(image_id, chosen, wanted)
                documents = {image_id: document, chosen.descriptor.digest: chosen.document}
                documents = {digest: data for digest, data in documents.items() if digest in row.blobs}
                await self._store.commit(row, ready, documents, names)
            for _, _, listener in sorted(new, key=lambda entry: wanted.index(entry[0])):
                listener.say("Pull complete")
        return image_id, is_new

    def _start(
        self, wanted: Sequence[staging.Wanted], repository: registries.Repository, send: report.Report
    ) -> list[tuple[staging.Wanted, staging.Source, report.Listener]]:
        """What is missing, the largest first."""
        missing: list[tuple[staging.Wanted, staging.Source, report.Listener]] = []
        for layer in wanted:
            digest = layer.digest or layer.diff_id
            listener: report.Listener = report.LayerReport(send, report.short_id(digest))
            if layer.chain_id in self._store.layers:
                listener.say("Already exists")
            else:
                listener.say("Pulling fs layer")
                missing.append((layer, RemoteLayer(repository, digest), listener))
        missing.sort(key=lambda entry: -entry[0].size)
        for _, _, listener in missing[self._staging.slots :]:
            listener.say("Waiting")
        return missing

    def _row(self, image_id: str, chosen: Chosen, wanted: Sequence[staging.Wanted]) -> records.Image:
        now = time.time_ns()
        known = self._store.images.get(image_id)
        # An image may have several manifests, by its layers' compression: the one whose blobs we hold is worth more.
        if known is not None and all(self._store.has_blob(digest) for digest in known.blobs):
            return msgspec.structs.replace(known, tagged_ns=now, is_removed=False)
        return records.Image(
            id=image_id,
            manifest=chosen.descriptor,
            layers=[records.ImageLayer(layer.chain_id, layer.digest or layer.diff_id) for layer in wanted],
            stored_ns=now,
            tagged_ns=now,
        )


def layers_of(
    config: manifests.ImageConfig, manifest: manifests.Manifest, reference: references.Reference
) -> list[staging.Wanted]:
    """The layers of an image, lowest first, by what config and manifest say together.

    Raises:
        errors.Invalid: they don't agree on the number of layers.
    """
    diff_ids = config.rootfs.diff_ids
    if len(diff_ids) != len(manifest.layers):
        raise errors.Invalid(
            f"{reference}: the config has {len(diff_ids)} layers and the manifest {len(manifest.layers)}"
        )
    chain = manifests.chain_ids(diff_ids)
    return [
        staging.Wanted(chain_id, parent, diff_id, layer.digest, layer.size, layer.media_type)
        for chain_id, parent, diff_id, layer in zip(chain, ["", *chain], diff_ids, manifest.layers, strict=False)
    ]


def _check_types(manifest: manifests.Manifest, reference: references.Reference) -> None:
    for descriptor, known in (
        (manifest.config, _CONFIG_TYPES),
        *((layer, manifests.LAYER_TYPES) for layer in manifest.layers),
    ):
        if descriptor.media_type not in known:
            raise errors.Unsupported(
                f"{reference} is no image that can be run: it holds {descriptor.media_type[:100]!r}"
            )


def _check_platform(
    config: manifests.ImageConfig, platform: manifests.Platform | None, reference: references.Reference
) -> None:
    if config.os not in ("", "linux"):
        raise errors.Invalid(
            f'{reference}: image operating system "{config.os[:50]}" cannot be used on this platform: '
            "operating system is not supported"
        )
    if platform is not None and not _matches(config.platform, platform):
        raise errors.NotFound(
            f"image with reference {reference} was found but does not match the specified platform: "
            f"wanted {platform}, actual: {config.platform}"
        )


def _matches(has: manifests.Platform, wanted: manifests.Platform) -> bool:
    entry = manifests.Descriptor(manifests.OCI_MANIFEST, "", 0, platform=has)
    try:
        manifests.select_platform(manifests.Index([entry]), wanted)
    except errors.NotFound:
        return False
    return True
