"""Layers to directories: each by a process of its own that fetches, verifies and writes, locked into the directory.

`Unpacker` is the door. It is started before the daemon has threads or an event loop. A layer's bytes never touch the
daemon: a worker that dies, however, is a layer refused. After the workers, `finish` completes a layer with what the
layers below it decide, bottom up. Naming, storing and renaming directories is the image store's business.
"""

from gitops.engine.images.unpack.fetching import FetchFailed
from gitops.engine.images.unpack.finishing import finish
from gitops.engine.images.unpack.job import (
    DeferredLink,
    FileSource,
    FinishResult,
    HttpSource,
    LayerJob,
    LayerProgress,
    LayerResult,
)
from gitops.engine.images.unpack.unpacker import Unpacker

__all__ = [
    "DeferredLink",
    "FetchFailed",
    "FileSource",
    "FinishResult",
    "HttpSource",
    "LayerJob",
    "LayerProgress",
    "LayerResult",
    "Unpacker",
    "finish",
]
