"""From paths to a `DesiredSet`: find, read, render, parse, check, convert; all problems at once."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from gitops import errors
from gitops.manifests import checks, discovery, documents
from gitops.manifests.catalog import Catalog, Item
from gitops.manifests.compose import discovery as compose_discovery
from gitops.manifests.desired import DEFAULT_NETWORK, Desired, DesiredSet, StackSettings
from gitops.manifests.documents import Document, SourceText
from gitops.manifests.memory import LoadMemory, Read
from gitops.manifests.options import LoadOptions
from gitops.manifests.problems import one_line
from gitops.manifests.repository import Refused, Repository, root_of
from gitops.manifests.templating.renderer import Renderer, TemplateProblem
from gitops.manifests.text import graph
from gitops.objects import labels

if TYPE_CHECKING:
    from gitops.manifests.compose import loading as compose
    from gitops.manifests.kinds.image import Image
    from gitops.manifests.kinds.stack import Stack

MAX_FILE = 4 << 20
"""Bytes of one manifest or template."""


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

    @property
    def is_ours(self) -> bool:
        """Whether it is meant as manifests: something in it says so."""
        return any(document.parsed.is_ours for document in self.documents) or (
            not self.documents and "gitops/v1" in self.source.text
        )


def load(paths: Sequence[Path], options: LoadOptions, memory: LoadMemory) -> DesiredSet:
    """See `gitops.manifests.load`."""
    repositories = _repositories(paths, options)
    files = list(_read(repositories, options, memory))
    environ = _environ(options)
    catalog = Catalog(options, dict(environ))
    catalog.is_incomplete = any(file.is_ours and not file.documents for file in files)
    for file in files:
        for document in file.documents:
            if document.parsed.is_ours:
                catalog.add(_item(document, file.repository))
    made = _compose(files, options, environ, memory)
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
    for _, repository in repositories:
        digests |= repository.read_digests
    return DesiredSet(
        objects=tuple(objects),
        stacks=_stacks(catalog, objects),
        files_read=digests,
        externals=tuple(externals),
        directories=_directories(repositories, files),
        encrypted=tuple(catalog.encrypted),
        warnings=(*catalog.warnings, *(made.warnings if made else ())),
    )


def _compose(
    files: Sequence[_File],
    options: LoadOptions,
    environ: Mapping[str, str],
    memory: LoadMemory,
    *,
    keeps_data: bool = False,
) -> compose.Loaded | None:
    """What the Compose files among them ask for; None if there is none."""
    found = [file for file in files if file.is_compose]
    if not found:
        return None
    from gitops.manifests.compose import loading

    candidates = [loading.Candidate(file.path, file.source, file.repository, file.is_given) for file in found]
    return loading.load(candidates, options, environ, memory.projects, keeps_data=keeps_data)


@dataclass(frozen=True, slots=True)
class Rendered:
    """Texts of manifests by the file that they come from, and what is to be said of them."""

    texts: dict[str, str]
    warnings: tuple[errors.Problem, ...] = ()


def render(paths: Sequence[Path], options: LoadOptions) -> Rendered:
    """See `gitops.manifests.render`."""
    memory = LoadMemory()
    files = list(_read(_repositories(paths, options), options, memory))
    problems = [problem for file in files for problem in file.problems if not file.documents]
    made = _compose(files, options, _environ(options), memory, keeps_data=True)
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


def _repositories(paths: Sequence[Path], options: LoadOptions) -> list[tuple[Path, Repository]]:
    """Each given path with what it may read. Names are shown relative to the path, or to what all have in common."""
    real: list[Path] = []
    for path in paths:
        try:
            real.append(Path(os.path.realpath(path, strict=True)))
        except OSError as error:
            raise errors.NotFound(f"no such file or directory: {path}") from error
    directories = [path if path.is_dir() else path.parent for path in real]
    shown_from = Path(os.path.commonpath(directories)) if directories else Path()
    allowed = [Path(os.path.realpath(path)) for path in options.allow_host_paths]
    found = []
    for path in real:
        root = Path(os.path.realpath(options.root)) if options.root else root_of(path)
        found.append((path, Repository(root, shown_from, allowed)))
    return found


def _read(repositories: Sequence[tuple[Path, Repository]], options: LoadOptions, memory: LoadMemory) -> Iterator[_File]:
    seen: set[Path] = set()
    for given, repository in repositories:
        found = discovery.find(given, repository)
        for name, refused in found.refused:
            yield _broken(name, refused, given, repository)
        named = list(_named(given, repository, options))
        files = [(path, name) for path, name in dict.fromkeys((*named, *found.files)) if path not in seen]
        seen.update(path for path, _ in files)
        if any(discovery.is_template(name) for _, name in files):
            read = _with_values(files, given, repository, options, memory)
        else:
            read = (_file(path, name, repository, None, memory) for path, name in files)
        own = {given, *(path for path, _ in named)}
        for file in read:
            file.is_given = file.path in own
            yield file


def _named(given: Path, repository: Repository, options: LoadOptions) -> Iterator[tuple[Path, str]]:
    """The Compose files that the user names, in their order, after the path if that is a file."""
    if given.is_file():
        yield given, repository.shown(given)
    directory = given if given.is_dir() else given.parent
    for name in options.compose_files:
        try:
            path = repository.resolve(str(directory), name, is_data=False)
        except Refused as error:
            raise errors.InvalidManifest([errors.Problem(name, 0, 0, "", error.reason, error.hint)]) from error
        yield path, repository.shown(path)


def _with_values(
    files: Sequence[tuple[Path, str]], given: Path, repository: Repository, options: LoadOptions, memory: LoadMemory
) -> Iterator[_File]:
    from gitops.manifests.templating import values as template_values

    directory = given if given.is_dir() else given.parent
    try:
        found = template_values.load(directory, options.env, options.sets, repository)
    except template_values.ValuesProblems as error:
        raise errors.InvalidManifest(error.problems) from error
    with Renderer(found) as renderer:
        for path, name in files:
            yield _file(path, name, repository, renderer if discovery.is_template(name) else None, memory)


def _broken(name: str, refused: Refused, path: Path, repository: Repository) -> _File:
    problem = errors.Problem(name, 0, 0, "", refused.reason, refused.hint)
    return _File(SourceText(name, "gitops/v1"), path, repository, problems=[problem])


def _file(path: Path, name: str, repository: Repository, renderer: Renderer | None, memory: LoadMemory) -> _File:
    try:
        data = repository.read(path, MAX_FILE)
    except Refused as error:
        return _broken(name, error, path, repository)
    file = _File(SourceText(name, "", directory=str(path.parent)), path, repository)
    try:
        if renderer is not None:
            _read_template(file, graph.decode(data), renderer, memory)
        else:
            digest = repository.read_digests[repository.shown(path)]
            _understand(file, memory.read(name, digest, lambda: _plain(file, graph.decode(data))))
    except graph.TextProblem as error:
        if not file.source.text:
            file.source = SourceText(name, data.decode("utf-8", "replace"), directory=str(path.parent))
        file.problems.append(documents.text_problem(file.source, error))
    except TemplateProblem as error:
        lines = file.source.text.split("\n")
        line = lines[error.line - 1] if 0 < error.line <= len(lines) else ""
        width = len(line.strip())
        column = len(line) - len(line.lstrip()) + 1
        file.problems.append(
            errors.Problem(
                name, error.line, column, "", one_line(f"template: {error.reason}"), error.hint, line, max(width, 1)
            )
        )
    for document in file.documents:
        file.problems += document.problems()
    return file


def _read_template(file: _File, text: str, renderer: Renderer, memory: LoadMemory) -> None:
    """What a template renders to, from its text; the file has that text until it is rendered."""
    file.source = replace(file.source, text=text)
    rendered = renderer.render(text)
    file.source = replace(file.source, text=rendered, is_rendered=True)
    digest = hashlib.sha256(rendered.encode("utf-8", "surrogatepass")).hexdigest()

    def read() -> Read:
        graph.check(rendered)
        return _plain(file, rendered)

    _understand(file, memory.read(file.source.name, digest, read))


def _plain(file: _File, text: str) -> Read:
    """What is in a text; the file has it then, so that what is wrong with it can be shown."""
    file.source = replace(file.source, text=text)
    if compose_discovery.looks_like(text):
        return Read(text, is_compose=True)
    return Read(text, documents.parse_text(text))


def _understand(file: _File, found: Read) -> None:
    file.source = replace(file.source, text=found.text)
    file.is_compose = found.is_compose
    file.documents = [Document(file.source, index, parsed) for index, parsed in enumerate(found.documents)]


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
