"""What the target of an apply can do that another can't, and what becomes of images that come with the manifests there.

The built-in engine knows a loaded image by its manifest's digest, and so does a Docker Engine with containerd's image
store. Docker's older store gives an image a digest only when it is pulled or pushed: there, services run a loaded image
by its id. The nodes of a Docker Swarm get an image from a registry, or have it already. Pure, but for `look`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from gitops import client as clients
from gitops.manifests import Desired, DesiredSet, ImageSource
from gitops.objects.image import ImageInspect
from gitops.objects.network import NetworkCreate
from gitops.objects.service import ServiceSpec
from gitops.oci import reference as references
from gitops.reconciler import apiversions
from gitops.reconciler.images import Known

_OURS = "gitops engine"
_CONTAINERD_STORE = "io.containerd.snapshotter.v1"
_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Target:
    """An engine, as far as a plan depends on it."""

    is_ours: bool = True
    keeps_digests: bool = True
    """Whether an image that was loaded is known by its manifest's digest."""
    api_version: apiversions.Version | None = None
    """The version of the API that is spoken with it; None where nothing is lacking."""


async def look(client: clients.EngineClient) -> Target:
    """Ask an engine what it is."""
    version = await client.version()
    if version.platform.name == _OURS:
        return Target()
    status = (await client.info()).driver_status or []
    return Target(
        is_ours=False,
        keeps_digests=any(_CONTAINERD_STORE in pair for pair in status),
        api_version=apiversions.settled(version.api_version),
    )


def adapt(
    known: Mapping[str, Known], items: Iterable[Desired], images: Mapping[str, ImageInspect], target: Target
) -> dict[str, Known]:
    """What is known of images, with the name and digest by which services run them on `target`.

    `images` are the live ones by reference. Where a push makes the digest, it is empty until the engine has pushed.
    """
    sources = {item.spec.reference: item.spec for item in items if isinstance(item.spec, ImageSource)}
    return {name: _adapted(found, sources.get(name), images.get(name), target) for name, found in known.items()}


def _adapted(known: Known, source: ImageSource | None, image: ImageInspect | None, target: Target) -> Known:
    if source is None or source.pull:
        return known
    if source.push:
        digest = known.digest if target.keeps_digests else _pushed(known, source.push, image)
        return replace(known, name=source.push, digest=digest)
    return known if target.keeps_digests else replace(known, digest=known.image_id, is_id=True)


def _pushed(known: Known, name: str, image: ImageInspect | None) -> str:
    """The digest that the image got when this engine pushed it; empty where it hasn't yet."""
    if image is None or image.id != known.image_id:
        return ""
    return pushed_digest(image, name)


def pushed_digest(image: ImageInspect, name: str) -> str:
    """The digest that an image has in the repository of `name`; empty where it has none there."""
    wanted = references.parse(name).familiar_name
    found = (references.parse(text) for text in image.repo_digests)
    return next((item.digest for item in found if item.digest and item.familiar_name == wanted), "")


def refusals(desired: DesiredSet, target: Target, nodes: int) -> list[str]:
    """What this target can't run: images that only one of its nodes would have, and fields that it doesn't know."""
    found = [*_unknown_fields(desired, target), *_kept_addresses(desired, target)]
    lonely = _lonely(desired)
    if target.is_ours or nodes < 2 or not lonely:
        return found
    return [
        *found,
        f"{_several(lonely)} with the manifests, and the {nodes} nodes of this Docker Swarm have no registry to get"
        " it from: name a repository that they reach with spec.push of the Image",
    ]


def _unknown_fields(desired: DesiredSet, target: Target) -> Iterator[str]:
    for item in desired.of("Service") if target.api_version is not None else ():
        assert isinstance(item.spec, ServiceSpec) and target.api_version is not None
        for field, since in apiversions.lacking(item.spec, target.api_version):
            own = ".".join(map(str, target.api_version))
            yield (
                f"service {item.engine_name}: this engine drops {field} without a word, which came with version {since}"
                f" of the API, and speaks {own}: leave it out, or take a newer engine"
            )


def _kept_addresses(desired: DesiredSet, target: Target) -> Iterator[str]:
    for item in desired.of("Network") if not target.is_ours else ():
        assert isinstance(item.spec, NetworkCreate)
        pools = (item.spec.ipam.config if item.spec.ipam else None) or ()
        if any(pool.auxiliary_addresses for pool in pools):
            yield f"network {item.engine_name}: a Docker Swarm drops ipam aux_addresses without a word: use ip_range"


def warnings(desired: DesiredSet, target: Target, nodes: int) -> list[str]:
    """What holds only as long as the swarm has one node."""
    lonely = _lonely(desired)
    if target.is_ours or nodes > 1 or not lonely:
        return []
    return [
        f"{_several(lonely)} with the manifests and will be on this node only: a second node of this Docker Swarm"
        " needs spec.push of the Image"
    ]


def _lonely(desired: DesiredSet) -> list[str]:
    """Images that services run and that no registry has."""
    sources = {item.spec.reference: item for item in desired.of("Image") if isinstance(item.spec, ImageSource)}
    used = {
        image
        for item in desired.of("Service")
        if isinstance(item.spec, ServiceSpec)
        for need, image in item.needs
        if need == "Image"
    }
    return sorted(
        name
        for name, item in sources.items()
        if name in used and isinstance(item.spec, ImageSource) and not (item.spec.pull or item.spec.push)
    )


def _several(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"image{'s' if len(names) > 1 else ''} {', '.join(names[:_SHOWN])}{more} come{'' if len(names) > 1 else 's'}"
