"""A service's variables: those of its files, and over them its own."""

from __future__ import annotations

from gitops.manifests.catalog import Catalog, Item
from gitops.manifests.kinds.service import ServiceSpec
from gitops.manifests.problems import Issue
from gitops.manifests.repository import Refused
from gitops.manifests.text import graph

_MAX_FILE = 1 << 20


def environment(catalog: Catalog, item: Item, spec: ServiceSpec) -> list[str]:
    """KEY=VALUE in the order of the keys."""
    if spec.env_file is None:
        return [f"{key}={value}" for key, value in sorted((spec.environment or {}).items())]
    from gitops.manifests.convert import dotenv  # its patterns take time to build, and few services have files

    variables: dict[str, str] = {}
    for index, file in enumerate(spec.env_file):
        try:
            path = item.repository.resolve(item.directory, file.path)
            data = item.repository.read(path, _MAX_FILE)
            variables |= dotenv.parse(graph.decode(data), is_raw=file.format == "raw")
        except Refused as error:
            if file.required is False and error.reason.startswith("no such file"):
                continue
            catalog.report(item, Issue(("spec", "env_file", index), error.reason, error.hint))
        except dotenv.BadLine as error:
            catalog.report(item, Issue(("spec", "env_file", index), f"{file.path!r}, {error}"))
        except graph.TextProblem as error:
            catalog.report(item, Issue(("spec", "env_file", index), f"{file.path!r}: {error.reason}", error.hint))
    variables |= spec.environment or {}
    return [f"{key}={value}" for key, value in sorted(variables.items())]
