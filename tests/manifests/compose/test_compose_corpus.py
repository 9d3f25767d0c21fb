"""Compose files of others, judged as the specification's schema and `docker stack config` judge them.

The corpus isn't part of the project: GITOPS_COMPOSE_CORPUS says where it is, else it is looked for beside the checkout.
Where it isn't there the test says so.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gitops import errors, manifests
from gitops.manifests import LoadOptions

CORPUS = Path(os.environ.get("GITOPS_COMPOSE_CORPUS") or Path(__file__).parents[4] / "shared" / "compose-corpus")
ABSENT = ("no such file", "invalid reference format: '127.0.0.1:/")
"""What a file names and the corpus lacks: files beside it, variables that aren't set."""
JUSTIFIED = {
    "compose-spec+compose-go/schema/using-variables.yaml": "numbers of variables that aren't set",
    "compose-spec+compose-go/loader/testdata/compose-include-cycle.yaml": "includes itself",
    "dockercli/cli/compose/loader/full-example.yml": "constraints and reservations that no swarm takes",
    "dockercli/e2e/stack/testdata/stack-with-named-resources.yml": "mounts at relative paths",
    "psviderski+uncloud/pkg/client/compose/testdata/compose-full-spec.yaml": "a part of a volume, refused by name",
}
_DOT_ENV = "we read the .env beside it, as Compose does; `docker stack config` doesn't"
DIFFERS = {
    "compose-spec+compose-go/cli/testdata/simple/compose-with-paths.yaml": "a path of Windows",
    "compose-spec+compose-go/cli/testdata/simple/compose-with-variables.yaml": _DOT_ENV,
    "docker+awesome-compose/postgresql-pgadmin/compose.yaml": _DOT_ENV,
    "docker+awesome-compose/pihole-cloudflared-DoH/compose.yaml": _DOT_ENV,
    "docker+awesome-compose/wireguard/compose.yaml": _DOT_ENV,
    "compose-spec+compose-go/loader/testdata/subdir/compose-test-extends-imported.yaml": "a file beside it",
    "docker+awesome-compose/minecraft/compose.yaml": "a mount of the home directory",
}


def rows() -> Iterator[dict[str, str]]:
    with (CORPUS / "INDEX.tsv").open() as index:
        yield from csv.DictReader(index, delimiter="\t")


def load(path: Path) -> manifests.DesiredSet:
    return manifests.load(path, LoadOptions(root=CORPUS, environ={}, secret_key=b"k", project_name="corpus"))


def is_there() -> bool:
    if (CORPUS / "INDEX.tsv").is_file():
        return True
    print(f"the corpus isn't at {CORPUS}: set GITOPS_COMPOSE_CORPUS to its directory")
    return False


@pytest.mark.timeout(300)
def test_what_the_schema_accepts_loads_and_what_it_refuses_is_refused_with_its_line() -> None:
    for row in rows() if is_there() else ():
        found = problems(CORPUS / row["path"])
        is_valid = row["compose_spec_schema"] == "ok"
        assert is_valid or found, row["path"]
        assert all(problem.line > 0 for problem in found), row["path"]
        if is_valid and row["path"] not in JUSTIFIED:
            assert [problem for problem in found if not problem.reason.startswith(ABSENT)] == [], row["path"]


def problems(path: Path) -> tuple[errors.Problem, ...]:
    try:
        load(path)
    except errors.InvalidManifest as error:
        return tuple(error.problems)
    return ()


def services(found: manifests.DesiredSet) -> dict[str, Any]:
    """Canonical forms, with the paths that the golden files were made at."""
    return {item.name: plain(item.canonical) for item in found.of("Service")}


def plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items() if not key.startswith("gitops.")}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value.replace(str(CORPUS), "/corpus") if isinstance(value, str) else value


@pytest.mark.timeout(300)
def test_services_equal_what_docker_stack_config_gives(tmp_path: Path) -> None:
    compared = 0
    for row in rows() if is_there() else ():
        golden = CORPUS / "golden" / f"{row['path']}.stack-config.yaml"
        if row["compose_spec_schema"] != "ok" or not golden.is_file() or row["path"] in DIFFERS:
            continue
        if problems(CORPUS / row["path"]):
            continue  # judged above
        ours = load(CORPUS / row["path"])
        copy = tmp_path / "golden.yaml"
        copy.write_text(golden.read_text().replace("$", "$$"))
        theirs = manifests.load(copy, LoadOptions(environ={}, secret_key=b"k", project_name="corpus"))
        assert services(ours) == services(theirs), row["path"]
        compared += 1
    print(f"{compared} files equal `docker stack config`")
