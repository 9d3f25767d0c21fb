"""The way back: which revision, what it asks for, and whether all that it needs is still there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from gitops import client as clients
from gitops import errors
from gitops.manifests import DesiredSet, ImageSource
from gitops.oci import reference as references
from gitops.reconciler import images, record, revisions, stored, versions
from gitops.reconciler.images import Known
from gitops.reconciler.live import Live
from gitops.reconciler.record import Outcome, Record
from gitops.reconciler.revisions import Head, Revision
from gitops.reconciler.source import Source

if TYPE_CHECKING:
    from gitops.reconciler.reconcile import Prepared


def last_healthy(seen: Live, stack: str) -> Revision | None:
    """The last healthy revision before the present one that asked for something else."""
    found = seen.revisions.get(stack, [])
    return next((item for item in found if item.head.is_healthy and item.head.digest != found[0].head.digest), None)


def target(seen: Live, stack: str, number: int | None) -> Revision:
    """The revision of that number, or the last healthy one.

    Raises:
        errors.NotFound: there is none, with those that there are.
    """
    found = seen.revisions.get(stack)
    if not found:
        raise errors.NotFound(f"no revision of a stack {stack!r} on this engine: see gitops status")
    kept = ", ".join(str(item.number) for item in found)
    if number is None:
        if last := last_healthy(seen, stack):
            return last
        raise errors.NotFound(f"stack {stack!r} has no healthy revision before the present one; kept are {kept}")
    for item in found:
        if item.number == number:
            return item
    raise errors.NotFound(f"stack {stack!r} has no revision {number}; kept are {kept}: see gitops history {stack}")


def desired(targets: Mapping[str, Revision]) -> tuple[DesiredSet, dict[str, Known]]:
    """What revisions, by stack, ask for together.

    Raises:
        errors.Invalid: one of them is damaged.
    """
    return stored.desired({stack: item.body for stack, item in targets.items()})


def versions_of(found: DesiredSet, known: Mapping[str, Known]) -> set[str]:
    """What the engine calls the versions of images that a set needs, when their tags have moved on."""
    return {versions.as_digest(name) for item in found.of("Image") if (name := images.version(item, known))}


def check(targets: Mapping[str, Revision], found: DesiredSet, known: Mapping[str, Known], seen: Live) -> None:
    """All that can't be made anew must still be there: versions of secrets, configs, and images that were brought.

    Raises:
        errors.Refused: something is gone, with the commit to apply instead.
    """
    gone = []
    for item in found.objects:
        present = {"Secret": seen.secrets, "Config": seen.configs}.get(item.kind)
        if present is not None and item.engine_name not in present:
            gone.append((item.stack, f"{item.kind.lower()} {item.engine_name}"))
        is_brought = isinstance(item.spec, ImageSource) and not item.spec.pull
        if is_brought and not _has_image(item.engine_name, images.version(item, known), seen):
            gone.append((item.stack, f"image {images.version(item, known) or item.engine_name}"))
    if gone:
        head = targets[gone[0][0]].head
        way = f"apply commit {head.label} instead" if head.commit else "apply the manifests of that time instead"
        names = ", ".join(name for _, name in gone)
        raise errors.Refused(f"revision {head.number} of stack {head.stack!r} needs what is gone: {names}; {way}")


def _has_image(name: str, version: str, seen: Live) -> bool:
    if version and versions.as_digest(version) in seen.images:
        return True
    image = seen.images.get(name)
    if image is None or not version:
        return image is not None
    digest = versions.digest_of(version)
    return digest == image.id or digest in {references.parse(text).digest for text in image.repo_digests}


def source(heads: Mapping[str, Head], seen: Live) -> Source:
    """Where what is brought back came from."""
    head = next(iter(heads.values()))
    identity = seen.records.get(head.stack, Record(head.stack)).source or head.source
    return Source(identity, Path(), head.commit.removesuffix("+"), head.commit.endswith("+"), head.author, head.subject)


async def note(
    client: clients.EngineClient,
    targets: Mapping[str, Revision],
    failed: Prepared,
    text: str,
    fence: Callable[[str], str | None],
) -> None:
    """Write down that what failed was brought back: in the records, and in the revisions that failed."""
    for stack in targets:
        await record.write(
            client, stack, fence=fence(stack), outcome=Outcome.ROLLED_BACK, message=text[:2000], held=failed.revision
        )
        for item in await revisions.read(client, stack):
            if item.head.revision == failed.revision and item.head.outcome is Outcome.FAILED:
                await revisions.finish(client, item, outcome=Outcome.ROLLED_BACK, message=text)
                break
