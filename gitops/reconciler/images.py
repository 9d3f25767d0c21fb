"""Images that manifests assemble or bring along: their digests, known before anything is sent, and their archives.

An image is named to services by the digest of its manifest, so that a rollback goes back to the very image that ran.
Blocking: call it in a thread.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import BinaryIO

from gitops import errors
from gitops.manifests import Desired, ImageSource
from gitops.oci import archive as archives
from gitops.oci import builder
from gitops.oci import digest as digests
from gitops.oci import manifest as manifests


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of an image before the engine has it; `digest` is empty for a tag that a registry must resolve.

    `name` is where an image is pulled from or pushed to, which may differ from what the manifests call it: services are
    sent that name, so that every node knows where to get it; empty for an image that stays with the engine.
    """

    digest: str = ""
    """Of the manifest; of the config, where `is_id`."""
    image_id: str = ""
    """The digest of the config; empty for an image that is pulled."""
    name: str = ""
    is_id: bool = False
    """Whether services run it by its id, since the engine has no digest for it."""

    @property
    def is_pushed(self) -> bool:
        """Whether it goes to a registry."""
        return bool(self.name and self.image_id)

    @property
    def is_late(self) -> bool:
        """Whether its digest is known only when it has been pushed."""
        return self.is_pushed and not self.digest


class Images:
    """The Image objects of a set. Digests of builds are kept by their inputs, over many sets."""

    def __init__(self) -> None:
        self._known: dict[str, Known] = {}

    def resolve(self, items: Iterable[Desired]) -> dict[str, Known]:
        """The digest and id of each image, by reference.

        Raises:
            errors.Invalid, errors.NotFound: a file that goes in is damaged or has gone.
        """
        sources = _sources(items)
        keys = {reference: _key(reference, sources) for reference in sources}
        found = {}
        for reference, source in sources.items():
            if source.pull:
                name, _, digest = source.pull.partition("@")
                found[reference] = Known(digest, name=name)
                continue
            if keys[reference] not in self._known:
                with contextlib.ExitStack() as stack:
                    image = _open(reference, sources, stack)
                    self._known[keys[reference]] = Known(digests.sha256(image.manifest), image.id)
            found[reference] = self._known[keys[reference]]
        self._known = {key: known for key, known in self._known.items() if key in set(keys.values())}
        return found

    def write(self, items: Iterable[Desired], reference: str, output: BinaryIO) -> None:
        """Write the archive of an image that is built or comes from an archive, for `/images/load`."""
        with contextlib.ExitStack() as stack:
            builder.write_archive(_open(reference, _sources(items), stack), output)


def names(item: Desired, known: Mapping[str, Known]) -> tuple[str, ...]:
    """What the engine calls an image: its reference, and where it was pulled from if that is another name."""
    return tuple(dict.fromkeys(filter(None, (item.engine_name, known[item.engine_name].name))))


def version(item: Desired, known: Mapping[str, Known]) -> str:
    """`name:tag@digest`, or `name:tag#id`; empty where neither is known before."""
    return version_of(item.engine_name, known[item.engine_name])


def version_of(reference: str, found: Known) -> str:
    """The same, of an image of that reference."""
    mark = "#" if found.is_id else "@"
    return f"{found.name or reference}{mark}{found.digest}" if found.digest else ""


def brought(item: Desired, known: Mapping[str, Known]) -> tuple[str, ...]:
    """All versions by which an apply leaves an image on the engine: by its own name too, if it is pushed to another."""
    found = known[item.engine_name]
    own = version_of(item.engine_name, replace(found, name="")) if found.is_pushed else ""
    return tuple(dict.fromkeys(filter(None, (own, version(item, known)))))


def _sources(items: Iterable[Desired]) -> dict[str, ImageSource]:
    return {item.spec.reference: item.spec for item in items if isinstance(item.spec, ImageSource)}


def _key(reference: str, sources: Mapping[str, ImageSource]) -> str:
    """All that goes into an image, its base's included."""
    source = sources[reference]
    if source.build is None:
        return f"{reference}|{source.archive}|{source.archive_digest}"
    base = _key(source.build.base, sources) if source.build.base else "scratch"
    inputs = sorted((str(path), digest) for path, digest in source.build.inputs.items())
    return digests.sha256(repr((reference, base, source.build.layers, source.build.config, inputs)).encode())


def _open(reference: str, sources: Mapping[str, ImageSource], stack: contextlib.ExitStack) -> builder.BuiltImage:
    """The image, its files open as long as `stack`."""
    source = sources[reference]
    if source.archive is not None:
        image = _choose(stack.enter_context(archives.open_archive(source.archive)), source)
        document = image.manifest or builder.manifest_of(image)
        named = archives.ArchivedImage([reference], image.config, image.layers, document)
        return stack.enter_context(builder.BuiltImage(named, []))
    if source.build is None:
        raise errors.Invalid(f"image {reference} is pulled from a registry: only built and archived ones can be a base")
    base = _open(source.build.base, sources, stack).image if source.build.base else None
    plan = builder.BuildPlan(source.build.layers, source.build.config, base, [reference])
    return stack.enter_context(builder.build(plan))


def _choose(archive: archives.ImageArchive, source: ImageSource) -> archives.ArchivedImage:
    """The image of an archive: the one of that name, or the only one, for this machine."""
    host = manifests.host()
    fitting = [item for item in archive.images if item.parsed_config().platform.architecture == host.architecture]
    named = [item for item in fitting if any(tag.endswith(f"/{source.reference}") for tag in item.tags)]
    chosen = named or fitting
    if len(chosen) != 1:
        tags = ", ".join(tag for item in archive.images for tag in item.tags) or "no names"
        raise errors.Invalid(
            f"archive {source.archive}: {len(chosen)} images for {host.architecture} could be {source.reference!r}"
            f" ({tags}): save one image into it, or name it as `reference` says"
        )
    return chosen[0]
