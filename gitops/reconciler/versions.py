"""Which images that applies of a stack brought may go again. Pure.

A version stays as long as a service runs it or would be rolled back to it, and as long as a kept revision names it; of
each image that is still in the manifests the version before the present one stays in any case. What is not in a stack's
record is nobody's business.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from gitops.objects.service import Service, ServiceSpec
from gitops.oci import digest as digests
from gitops.oci import reference as references

_MARK = re.compile("[@#]")
Kept = frozenset[tuple[str, str]]
"""What kept revisions name: kind and engine name, of images `name:tag@digest`."""


@dataclass(frozen=True, slots=True)
class Use:
    """What services name once a plan is carried out: `name@digest` or an id, and `name:tag` where none is known."""

    versions: frozenset[str]
    names: frozenset[str]

    def has(self, version: str) -> bool:
        """Whether a service runs `name:tag@digest`, by whatever tag, or `name:tag#id`."""
        return as_digest(version) in self.versions


def used(specs: Iterable[ServiceSpec | None]) -> Use:
    """The use that these specs, present and previous ones, make of images."""
    found: set[str] = set()
    names: set[str] = set()
    for spec in specs:
        container = spec.task_template.container_spec if spec else None
        if container is None or not container.image:
            continue
        version, name = _named(container.image)
        found.add(version)
        names.add(name)
    return Use(frozenset(found) - {""}, frozenset(names) - {""})


@functools.lru_cache(maxsize=references.REMEMBERED)
def _named(image: str) -> tuple[str, str]:
    """`name@digest` or an id, or else `name:tag`: one of the two is empty."""
    parsed = references.parse(image)
    if digests.is_digest(image):
        return image, ""
    if parsed.digest:
        return f"{parsed.familiar_name}@{parsed.digest}", ""
    return "", parsed.with_default_tag().familiar()


def after(
    live: Mapping[str, Service], changed: Mapping[str, ServiceSpec], removed: Iterable[str]
) -> list[ServiceSpec | None]:
    """All specs, present and previous, that services have once `changed` are sent and `removed` are gone."""
    gone = set(removed)
    specs: list[ServiceSpec | None] = list(changed.values())
    for name, service in live.items():
        if name in gone:
            continue
        specs += [service.spec] if name in changed else [service.spec, service.previous_spec]
    return specs


def former(brought: Sequence[str], reference: str, digest: str, use: Use, kept: Kept) -> tuple[str, ...]:
    """The versions of an image of the manifests that may go; `brought` has the latest last."""
    found = [item for item in brought if name_of(item) == reference and digest_of(item) != digest]
    return tuple(item for item in found[:-1] if not use.has(item) and ("Image", item) not in kept)


def left(
    brought: Sequence[str], images: Sequence[str], wanted: frozenset[str], use: Use, kept: Kept
) -> tuple[str, ...]:
    """The versions, and where no version is known the names, of images that left the manifests and may go."""
    gone = [item for item in brought if name_of(item) not in wanted and not use.has(item)]
    versions = [item for item in gone if ("Image", item) not in kept]
    known = {name_of(item) for item in brought}
    names = [item for item in images if item not in wanted and item not in known and item not in use.names]
    return tuple(versions + names)


def noted(brought: Sequence[str], present: Iterable[str]) -> tuple[str, ...]:
    """`brought` with the present versions at its end."""
    now = list(dict.fromkeys(present))
    return (*(item for item in brought if item not in now), *now)


def name_of(version: str) -> str:
    """`name:tag` of `name:tag@digest` or `name:tag#id`."""
    return _MARK.split(version, maxsplit=1)[0]


def digest_of(version: str) -> str:
    """`digest` of `name:tag@digest`, `id` of `name:tag#id`; empty where there is none."""
    return version[len(name_of(version)) + 1 :]


def as_digest(version: str) -> str:
    """How an engine calls a version whose tag has moved on: `name@digest`, or the id."""
    if "#" in version:
        return digest_of(version)
    parsed = references.parse(name_of(version))
    return f"{parsed.familiar_name}@{digest_of(version)}" if digest_of(version) else version
