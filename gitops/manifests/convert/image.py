"""Images: what to pull, which archive to read, or what to assemble."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from gitops.manifests import canonical, imageform
from gitops.manifests.catalog import Catalog, Item
from gitops.manifests.convert.common import desired, healthcheck
from gitops.manifests.desired import BuildSource, Desired, ImageSource
from gitops.manifests.kinds import image as kind
from gitops.manifests.problems import Issue
from gitops.manifests.repository import Refused, archive_digest
from gitops.oci import reference as references
from gitops.oci.plan import BuildConfig, ContentEntry, DirectoryEntry, Entry, FileEntry, LinkEntry

_CONTENT_MODE = 0o644


def reference(model: kind.Image) -> str:
    """The name on the engine."""
    if model.spec.reference is not None:
        return model.spec.reference
    assert model.spec.pull is not None
    return f"{model.spec.pull.repository}:{model.spec.pull.tag}"


def convert(catalog: Catalog, item: Item) -> Desired:
    """An image. Problems with its files are reported; the result is then not to be used."""
    model = item.model
    assert isinstance(model, kind.Image)
    spec = model.spec
    needs: tuple[tuple[str, str], ...] = ()
    if spec.pull is not None:
        tag = f":{spec.pull.tag}" if spec.pull.tag else ""
        digest = f"@{spec.pull.digest}" if spec.pull.digest else ""
        source = ImageSource(item.engine_name, pull=f"{spec.pull.repository}{tag}{digest}")
    elif spec.archive is not None:
        source = _archive(catalog, item, spec.archive.path)
    else:
        assert spec.build is not None
        source = ImageSource(item.engine_name, build=_build(catalog, item, spec.build))
        needs = (("Image", spec.build.base),) if spec.build.base else ()
    if spec.push is not None:
        source = replace(source, push=_pushed(spec.push, item.engine_name))
    form = imageform.image(source)
    return desired(item, source, form, canonical.digest(form), needs)


def _pushed(repository: str, own: str) -> str:
    """The reference in the registry: the tag that is written, or the one that the image has on the engine."""
    wanted = references.parse(repository)
    return wanted.familiar() if wanted.tag else f"{wanted.familiar()}:{references.parse(own).tag or 'latest'}"


def _archive(catalog: Catalog, item: Item, text: str) -> ImageSource:
    try:
        path = item.repository.resolve(item.directory, text)
        return ImageSource(item.engine_name, archive=path, archive_digest=archive_digest(item.repository, path))
    except Refused as error:
        catalog.report(item, Issue(("spec", "archive", "path"), error.reason, error.hint))
        return ImageSource(item.engine_name)


def _build(catalog: Catalog, item: Item, build: kind.Build) -> BuildSource:
    inputs: dict[Path, str] = {}
    layers = []
    for number, layer in enumerate(build.layers):
        entries: list[Entry] = []
        seen: dict[str, int] = {}
        for index, entry in enumerate(layer.files):
            path = ("spec", "build", "layers", number, "files", index)
            first = seen.setdefault(entry.to, index)
            if first != index:
                hint = f"files[{first}] goes there too"
                catalog.report(item, Issue((*path, "to"), f"{entry.to!r} is given twice in a layer", hint))
            try:
                entries.append(_entry(item, entry, inputs))
            except Refused as error:
                catalog.report(item, Issue((*path, "from"), error.reason, error.hint))
        layers.append(tuple(entries))
    return BuildSource(build.base, tuple(layers), _config(build.config or kind.RunConfig()), inputs)


def _entry(item: Item, entry: kind.Entry, inputs: dict[Path, str]) -> Entry:
    uid, gid = entry.uid or 0, entry.gid or 0
    if entry.link is not None:
        return LinkEntry(entry.link, entry.to, uid, gid)
    if entry.content is not None:
        return ContentEntry(
            entry.content.encode(), entry.to, _CONTENT_MODE if entry.mode is None else entry.mode, uid, gid
        )
    assert entry.source is not None
    path = item.repository.resolve(item.directory, entry.source)
    if path.is_dir():
        inputs.update(item.repository.tree(path))
        return DirectoryEntry(path, entry.to, entry.mode, uid, gid)
    inputs[path] = item.repository.content(path)
    return FileEntry(path, entry.to, entry.mode, uid, gid)


def _config(run: kind.RunConfig) -> BuildConfig:
    return BuildConfig(
        entrypoint=run.entrypoint,
        cmd=run.cmd,
        env=run.env or {},
        working_dir=run.working_dir,
        user=run.user,
        exposed_ports=tuple(run.expose or ()),
        labels=run.labels or {},
        stop_signal=run.stop_signal,
        healthcheck=healthcheck(run.healthcheck),
        volumes=tuple(run.volumes or ()),
    )
