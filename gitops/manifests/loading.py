"""From texts to a `DesiredSet`: parse, check, convert; all problems at once. `gitops.manifests.reading` finds them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, cast

from gitops import errors
from gitops.manifests import checks, documents, reading
from gitops.manifests.ahead import Ahead
from gitops.manifests.catalog import Catalog, Item
from gitops.manifests.compose import discovery as compose_discovery
from gitops.manifests.desired import DEFAULT_NETWORK, Desired, DesiredSet, StackSettings
from gitops.manifests.documents import Document, SourceText
from gitops.manifests.memory import LoadMemory, Read
from gitops.manifests.options import LoadOptions
from gitops.manifests.reading import ReadFile
from gitops.manifests.repository import Refused, Repository
from gitops.manifests.text.characters import TextProblem
from gitops.objects import labels

if TYPE_CHECKING:
    from gitops.manifests.compose import loading as compose
    from gitops.manifests.kinds.image import Image
    from gitops.manifests.kinds.stack import Stack


@dataclass(slots=True)
class _File:
    """A file of a load, with what is wrong with it by itself."""

    source: SourceText
    path: Path
    repository: Repository
    documents: list[Document] = field(default_factory=list)
    problems: list[errors.Problem] = field(default_factory=list)
    is_compose: bool = False
    """It is a Compose file, of which nothing more is known yet."""
    is_given: bool = False
    """It was named, and not found in a directory."""
    digest: str = ""

    @property
    def is_ours(self) -> bool:
        """Whether it is meant as manifests: something in it says so."""
        return any(document.parsed.is_ours for document in self.documents) or (
            not self.documents and "gitops/v1" in self.source.text
        )


def load(found: reading.Found, options: LoadOptions, memory: LoadMemory, ahead: Ahead) -> DesiredSet:
    """See `gitops.manifests.load`."""
    files = _files(found, memory, ahead)
    environ = _environ(options)
    catalog = Catalog(options, dict(environ))
    catalog.is_incomplete = any(file.is_ours and not file.documents for file in files)
    for file in files:
        for document in file.documents:
            if document.parsed.is_ours:
                catalog.add(_item(document, file.repository))
    made = _compose(files, options, environ, memory, ahead)
    if made is not None:
        catalog.is_incomplete = catalog.is_incomplete or bool(made.problems)
        for document, repository in made.documents:
            item = _item(document, repository)
            item.variables = document.variables
            catalog.add(item)
            made.problems += document.problems()
    objects, externals = _convert(catalog, memory)
    problems = [*catalog.problems, *(made.problems if made else ())]
    for file in files:
        if file.is_ours or not _is_data(file):
            problems += file.problems
    if problems:
        raise errors.InvalidManifest(problems)
    digests: dict[str, str] = {}
    for _, repository in found.repositories:
        digests |= repository.read_digests
    return DesiredSet(
        objects=tuple(objects),
        stacks=_stacks(catalog, objects),
        files_read=digests,
        externals=tuple(externals),
        directories=_directories(found.repositories, files),
        encrypted=tuple(catalog.encrypted),
        asked_host=catalog.looks > 0,
        warnings=(*catalog.warnings, *(made.warnings if made else ())),
    )


def _compose(
    files: Sequence[_File],
    options: LoadOptions,
    environ: Mapping[str, str],
    memory: LoadMemory,
    ahead: Ahead,
    *,
    keeps_data: bool = False,
) -> compose.Loaded | None:
    """What the Compose files among them ask for; None if there is none."""
    found = [file for file in files if file.is_compose]
    if not found:
        return None
    from gitops.manifests.compose import loading

    candidates = [
        loading.Candidate(file.path, file.source, file.repository, file.is_given, file.digest) for file in found
    ]
    return loading.load(candidates, options, environ, memory.projects, ahead, keeps_data=keeps_data)


@dataclass(frozen=True, slots=True)
class Rendered:
    """Texts of manifests by the file that they come from, and what is to be said of them."""

    texts: dict[str, str]
    warnings: tuple[errors.Problem, ...] = ()


def render(found: reading.Found, options: LoadOptions) -> Rendered:
    """See `gitops.manifests.render`."""
    memory = LoadMemory()
    files = _files(found, memory, Ahead())
    problems = [problem for file in files for problem in file.problems if not file.documents]
    made = _compose(files, options, _environ(options), memory, Ahead(), keeps_data=True)
    if made is not None:
        problems += made.problems
        problems += [problem for document, _ in made.documents for problem in document.problems()]
    if problems:
        raise errors.InvalidManifest(problems)
    texts = {file.source.name: file.source.text for file in files if not file.is_compose}
    if made is None:
        return Rendered(texts)
    from gitops.manifests.compose import rendering

    return Rendered(texts | rendering.texts(document for document, _ in made.documents), tuple(made.warnings))


def _environ(options: LoadOptions) -> Mapping[str, str]:
    return options.environ if options.environ is not None else (os.environ if options.allow_host else {})


def _files(found: reading.Found, memory: LoadMemory, ahead: Ahead) -> list[_File]:
    return [_file(file, memory, ahead) for file in found.files]


def _file(read: ReadFile, memory: LoadMemory, ahead: Ahead) -> _File:
    file = _File(read.source, read.path, read.repository, is_given=read.is_given, digest=read.digest)
    if isinstance(read.failure, Refused):
        file.problems.append(errors.Problem(read.source.name, 0, 0, "", read.failure.reason, read.failure.hint))
    elif isinstance(read.failure, errors.Problem):
        file.problems.append(read.failure)
    try:
        if isinstance(read.failure, TextProblem):
            raise read.failure
        if read.failure is None:
            known = memory.read(read.source.name, read.digest, lambda: _understood(read, ahead))
            file.is_compose = known.is_compose
            file.documents = [Document(file.source, index, parsed) for index, parsed in enumerate(known.documents)]
    except TextProblem as error:
        file.problems.append(documents.text_problem(file.source, error))
    for document in file.documents:
        file.problems += document.problems()
    return file


def _understood(read: ReadFile, ahead: Ahead) -> Read:
    """What is in a text."""
    text = read.source.text
    if compose_discovery.looks_like(text):
        return Read(text, is_compose=True)
    built = ahead.take(read.digest)
    return Read(text, documents.parse_text(text) if built is None else documents.checked(built))


def _is_data(file: _File) -> bool:
    """Whether a manifest reads it as a file, so that it needn't be one."""
    data = file.repository.data_paths
    return file.path in data or any(parent in data for parent in file.path.parents)


def _item(document: Document, repository: Repository) -> Item:
    parsed = document.parsed
    model = parsed.model
    name = model.metadata.name if model else parsed.name
    stack = (model.metadata.stack or "") if model else parsed.stack
    item = Item(document, repository, parsed.kind, stack, name, model)
    spec = getattr(model, "spec", None)
    item.is_external = bool(getattr(spec, "external", None))
    item.moved_from = model.metadata.moved_from if model else None
    item.own_name = "" if item.is_external else getattr(spec, "name", None) or ""
    if item.is_external:
        item.engine_name = str(spec.name or name) if spec is not None else name
    elif item.kind == "Image" and model is not None:
        from gitops.manifests.convert import image

        item.engine_name = image.reference(cast("Image", model))
    elif item.kind not in ("Secret", "Config", "Image"):
        item.engine_name = item.unversioned_name
    return item


def _convert(catalog: Catalog, memory: LoadMemory) -> tuple[list[Desired], list[Desired]]:
    """All objects in the order in which they need each other, and the external ones."""
    from gitops.manifests.convert import storage

    for item in list(catalog.items.values()):
        checks.check_names(catalog, item)
        checks.check_stack(catalog, item)
        checks.check_move(catalog, item)
        checks.check_protection(catalog, item)
    checks.check_images(catalog)
    checks.check_subnets(catalog)
    checks.check_ports(catalog)
    images = _images(catalog)
    networks = [(item, storage.network(catalog, item)) for item in catalog.of("Network")]
    volumes = [(item, storage.volume(catalog, item)) for item in catalog.of("Volume")]
    secrets = [(item, secret) for item in catalog.of("Secret") if (secret := storage.secret(catalog, item))]
    configs = [(item, config) for item in catalog.of("Config") if (config := storage.config(catalog, item))]
    services = _services(catalog, memory)
    checks.check_default_networks(catalog)
    implied = [
        storage.default_network(_default_network(stack, item)) for stack, item in catalog.default_networks.items()
    ]
    written = [*networks, *volumes, *secrets, *configs]
    own = [desired for item, desired in written if not item.is_external]
    externals = [desired for item, desired in written if item.is_external]
    count = sum(desired.kind == "Network" for desired in own)
    return [*images, *own[:count], *implied, *own[count:], *services], externals


def _images(catalog: Catalog) -> list[Desired]:
    if not catalog.images:
        return []
    from gitops.manifests.convert import image

    return [image.convert(catalog, item) for item in checks.images_in_order(catalog)]


def _services(catalog: Catalog, memory: LoadMemory) -> list[Desired]:
    items = list(catalog.of("Service"))
    if not items:
        return []
    from gitops.manifests.convert import dependencies

    memory.services.begin(catalog)
    found = [(item, memory.services.find(catalog, item) or _service(catalog, item, memory)) for item in items]
    if not catalog.is_incomplete:
        dependencies.check_cycles(catalog, found)
        dependencies.warn_of_endless(catalog, found)
    return [desired for _, desired in found]


def _service(catalog: Catalog, item: Item, memory: LoadMemory) -> Desired:
    """Convert a service; it is remembered if nothing but its document and the catalog was looked at."""
    from gitops.manifests.convert import service

    before = catalog.looks, item.repository.looks, len(catalog.problems), len(catalog.warnings)
    desired = service.convert(catalog, item)
    if before == (catalog.looks, item.repository.looks, len(catalog.problems), len(catalog.warnings)):
        memory.services.note(catalog, item, desired)
    return desired


def _default_network(stack: str, item: Item) -> Item:
    return Item(
        document=item.document,
        repository=item.repository,
        kind="Network",
        stack=stack,
        name=DEFAULT_NETWORK,
        model=None,
        engine_name=labels.engine_name(stack, DEFAULT_NETWORK),
    )


def _stacks(catalog: Catalog, objects: Sequence[Desired]) -> dict[str, StackSettings]:
    found = {desired.stack: StackSettings(desired.stack) for desired in objects}
    for item in catalog.of("Stack"):
        model = cast("Stack", item.model)
        found[item.name] = StackSettings(
            name=item.name,
            description=(model.spec.description if model.spec else None) or "",
            prune=model.spec is None or model.spec.prune is not False,
            labels=model.metadata.labels or {},
            position=item.document.position,
        )
    return dict(sorted(found.items()))


def _directories(repositories: Sequence[tuple[Path, Repository]], files: Sequence[_File]) -> tuple[Path, ...]:
    """Where a change may matter: the given directories, and those of the files that were read."""
    found = {path if path.is_dir() else path.parent for path, _ in repositories}
    found.update(file.path.parent for file in files)
    for _, repository in repositories:
        found.update(path if path.is_dir() else path.parent for path in repository.data_paths)
    return tuple(sorted(path for path in found if path.is_dir()))
