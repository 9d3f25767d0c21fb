"""What people write: manifests of every kind, read with positions, checked as a whole, made into the API's objects.

`load` is the one door: paths in, a `DesiredSet` out, or one `errors.InvalidManifest` that names everything that is
wrong. `canonical` is the one normaliser, for what was declared and for what is live. Nothing here talks to an engine.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from gitops.manifests.desired import (
    BuildSource,
    Desired,
    DesiredSet,
    ImageSource,
    Position,
    Spec,
    StackSettings,
)
from gitops.manifests.memory import LoadMemory
from gitops.manifests.options import LoadOptions

if TYPE_CHECKING:
    from gitops.manifests.loading import Rendered
    from gitops.manifests.reading import Found

__all__ = [
    "BuildSource",
    "Desired",
    "DesiredSet",
    "ImageSource",
    "LoadMemory",
    "LoadOptions",
    "Position",
    "Spec",
    "StackSettings",
    "load",
    "load_found",
    "render",
    "rendered",
]


def load(
    paths: Path | Sequence[Path], options: LoadOptions | None = None, memory: LoadMemory | None = None
) -> DesiredSet:
    """Read manifests from files and directories and check them as a whole. Blocking.

    Who loads again and again gives a `memory`: files are then kept by their content, and what didn't change is the same
    object as in the set before.

    Raises:
        errors.InvalidManifest: anything wrong in any file, all of it at once.
        errors.NotFound: a path that was given doesn't exist.
    """
    from gitops.manifests import reading

    options, memory = options or LoadOptions(), memory or LoadMemory()
    with _without_collector(), memory.load():
        found = reading.read([paths] if isinstance(paths, Path) else list(paths), options, memory)
        return _checked(found, options, memory)


def load_found(found: Found, options: LoadOptions, memory: LoadMemory) -> DesiredSet:
    """The same for files that were read before, with the same options and memory.

    Raises:
        errors.InvalidManifest: anything wrong in any file, all of it at once.
    """
    with _without_collector(), memory.load():
        return _checked(found, options, memory)


def _checked(found: Found, options: LoadOptions, memory: LoadMemory) -> DesiredSet:
    from gitops.manifests import ahead
    from gitops.manifests.compose import discovery

    new = {file.digest: file.source.text for file in found.files if memory.text(file.digest) is None}
    compose = {digest for digest, text in new.items() if discovery.looks_like(text)}
    plain = {digest for digest in compose if discovery.is_plain(new[digest])}
    texts = {digest: text for digest, text in new.items() if digest in plain or digest not in compose}
    with ahead.parsing(texts, plain) as parsed:
        from gitops.manifests import loading  # pydantic and the kinds are heavy, and only needed here

        return loading.load(found, options, memory, parsed)


def render(paths: Path | Sequence[Path], options: LoadOptions | None = None) -> dict[str, str]:
    """The text of every manifest with templates rendered, by the file's name as shown; nothing of it is checked.
    A Compose project comes as the manifests that it means, under a name that says where it comes from.

    Raises:
        errors.InvalidManifest: a file can't be read or rendered.
        errors.NotFound: a path that was given doesn't exist.
    """
    return rendered(paths, options).texts


def rendered(paths: Path | Sequence[Path], options: LoadOptions | None = None) -> Rendered:
    """The same, with what is to be said of it."""
    from gitops.manifests import loading, reading

    options = options or LoadOptions()
    found = reading.read([paths] if isinstance(paths, Path) else list(paths), options, LoadMemory())
    return loading.render(found, options)


@contextmanager
def _without_collector() -> Iterator[None]:
    """A load makes hundreds of thousands of small objects and no cycles; looking for some takes as long again."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            # What is there now counts as old, so that the next collection of young objects doesn't search it.
            gc.freeze()
            gc.unfreeze()
            gc.enable()
