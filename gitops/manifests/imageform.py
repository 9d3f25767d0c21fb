"""The canonical form of where an image comes from: what goes into a build counts by its content. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gitops.manifests import canonical
from gitops.manifests.desired import ImageSource

if TYPE_CHECKING:
    from gitops.oci.plan import BuildConfig, Entry


def image(source: ImageSource) -> canonical.Canonical:
    """Where an image comes from. What is live is compared by its id, which a client knows once it has built it."""
    result: canonical.Canonical = {
        "reference": source.reference,
        "pull": source.pull,
        "archive": source.archive_digest,
        "push": source.push,
    }
    if source.build is not None:
        build = source.build
        result["build"] = {
            "base": build.base or "scratch",
            "layers": [_layer(layer, build.inputs) for layer in build.layers],
            "config": _run(build.config),
        }
    return canonical.clean(result)


def _layer(entries: Sequence[Entry], inputs: Mapping[Path, str]) -> canonical.Canonical:
    return {entry.to: _entry(entry, inputs) for entry in entries}


def _entry(entry: Entry, inputs: Mapping[Path, str]) -> canonical.Canonical:
    from gitops.oci.plan import ContentEntry, FileEntry, LinkEntry  # with it the reader of archives

    owner = {"uid": entry.uid or None, "gid": entry.gid or None}
    if isinstance(entry, LinkEntry):
        return canonical.clean({"link": entry.target, **owner})
    if isinstance(entry, ContentEntry):
        return canonical.clean({"content": hashlib.sha256(entry.content).hexdigest(), "mode": entry.mode, **owner})
    if isinstance(entry, FileEntry):
        return canonical.clean({"content": inputs.get(entry.source, ""), "mode": entry.mode, **owner})
    below = {
        # A name may be no UTF-8, which a text of JSON must be.
        bytes(path.relative_to(entry.source)).decode("utf-8", "backslashreplace"): content
        for path, content in inputs.items()
        if path.is_relative_to(entry.source)
    }
    return canonical.clean({"files": below, "mode": entry.mode, **owner})


def _run(run: BuildConfig) -> canonical.Canonical:
    return {
        "entrypoint": list(run.entrypoint) if run.entrypoint is not None else None,
        "cmd": list(run.cmd) if run.cmd is not None else None,
        "env": dict(run.env),
        "working_dir": run.working_dir,
        "user": run.user,
        "expose": sorted(set(run.exposed_ports)),
        "labels": dict(run.labels),
        "stop_signal": run.stop_signal,
        "healthcheck": canonical.healthcheck(run.healthcheck),
        "volumes": {path: {} for path in run.volumes},
    }
