"""Which nodes have to pull an image before their tasks can start, and how much that is.

What a node has is known of the one that the engine we speak with is; nodes don't report it, so that of others it is
unknown. Sizes are those of the compressed layers that this engine lacks; the built-in one tells them where a tag was
looked up for this plan. Pure, but for `look`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from gitops import client as clients
from gitops.oci import reference as references


@dataclass(frozen=True, slots=True)
class Supply:
    """What is known of images: `held` are the names, `name@digest` and ids that a node has, by its id."""

    held: Mapping[str, frozenset[str]] = field(default_factory=dict)
    sizes: Mapping[str, int] = field(default_factory=dict)
    """Bytes by image, as services call it."""

    def has(self, node_id: str, image: str) -> bool | None:
        """Whether a node has an image; None where that isn't known."""
        held = self.held.get(node_id)
        return None if held is None else not held.isdisjoint(_names(image))


NOTHING = Supply()
"""Nothing is known."""


@dataclass(frozen=True, slots=True)
class Pulls:
    """The nodes that lack an image, by id, with the bytes that they pull; and those of which that isn't known."""

    lacking: Mapping[str, int | None] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()


async def look(client: clients.EngineClient) -> Supply:
    """What the engine's own node has.

    Raises:
        errors.Unavailable: it can't be reached.
    """
    info, images = await asyncio.gather(client.info(), client.images())
    held = {name for image in images for name in (image.id, *image.repo_tags, *image.repo_digests)}
    return Supply({info.swarm.node_id: frozenset(held)}) if info.swarm.node_id else Supply()


def with_loaded(supply: Supply, images: Iterable[str]) -> Supply:
    """The supply when the images that come with the manifests are loaded, or pulled again, on the engine's node."""
    loaded = {name for image in images for name in _names(image)}
    return replace(supply, held={node_id: held | loaded for node_id, held in supply.held.items()})


def needed(image: str, nodes: Iterable[str], supply: Supply) -> Pulls:
    """What becomes of `nodes`, by id, that get new tasks of `image`."""
    found = {node_id: supply.has(node_id, image) for node_id in nodes}
    size = supply.sizes.get(image)
    return Pulls(
        {node_id: size for node_id, has in found.items() if has is False},
        tuple(node_id for node_id, has in found.items() if has is None),
    )


def _names(image: str) -> set[str]:
    """What an engine that has an image lists it as: by digest where there is one, or else by its tag or id."""
    if image.startswith("sha256:"):
        return {image}
    parsed = references.parse(image)
    if parsed.digest:
        return {f"{parsed.familiar_name}@{parsed.digest}"}
    return {parsed.with_default_tag().familiar()}
