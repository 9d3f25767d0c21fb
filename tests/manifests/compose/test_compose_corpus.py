"""Compose files of others, judged as the specification's schema and `docker stack config` judge them.

Every file is loaded, with stand-ins for what it names and the corpus lacks (see `compose_corpus`). What isn't loaded,
and what differs, stands in a table here with its reason; a row that isn't true any more is a failure, too.
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

ENVIRON = {"HOME": "/nonexistent", "TEST_REGISTRY_PORT": "5000"}
"""HOME is that of who made the golden files."""
_FETCHED = "extends a file that a fetcher of its own test brings"
_REMOTE = "compose-spec+compose-go/loader/testdata/remote/"
REFUSED = {
    "BretFisher+dogvscat/stack-proxy-global.yml": "encrypted networks, which there are not yet",
    "compose-spec+compose-go/loader/testdata/compose-include-cycle.yaml": "includes itself: Compose refuses it, too",
    f"{_REMOTE}cycle/compose.yaml": _FETCHED,
    f"{_REMOTE}cycle/compose-cycle.yaml": _FETCHED,
    f"{_REMOTE}nested/compose.yaml": _FETCHED,
    "compose-spec+compose-go/schema/using-variables.yaml": "numbers of a variable that isn't set: so does Compose",
    "dockercli/cli/compose/loader/full-example.yml": "constraints, reservations and labels that no swarm takes; a "
    "config and a secret without a source",
    "dockercli/e2e/stack/testdata/stack-with-named-resources.yml": "mounts at relative paths: swarms refuse them",
}
DIFFERENT = {
    "psviderski+uncloud/test/e2e/fixtures/compose-build-basic/compose.yaml": "the golden file was made without the "
    "variable in the image's name, which is none then",
}


def rows(corpus: Path) -> Iterator[dict[str, str]]:
    with (corpus / "INDEX.tsv").open() as index:
        yield from csv.DictReader(index, delimiter="\t")


def load(path: Path, corpus: Path, **more: Any) -> manifests.DesiredSet:
    return manifests.load(
        path, LoadOptions(root=corpus, environ=ENVIRON, secret_key=b"k", project_name="corpus", **more)
    )


def problems(path: Path, corpus: Path) -> tuple[errors.Problem, ...]:
    try:
        load(path, corpus)
    except errors.InvalidManifest as error:
        return tuple(error.problems)
    return ()


@pytest.mark.timeout(300)
def test_what_the_schema_accepts_loads_and_what_it_refuses_is_refused_with_its_line(
    compose_corpus: Path | None,
) -> None:
    loaded, refused = 0, {}
    for row in rows(compose_corpus) if compose_corpus else ():
        assert compose_corpus is not None
        found = problems(compose_corpus / row["path"], compose_corpus)
        assert all(problem.line > 0 for problem in found), row["path"]
        if row["compose_spec_schema"] != "ok":
            assert found, row["path"]
        elif found:
            refused[row["path"]] = [problem.headline() for problem in found]
        else:
            loaded += 1
    print(f"{loaded} files are loaded, {len(refused)} are not")
    assert not compose_corpus or refused.keys() == REFUSED.keys(), refused


def objects(found: manifests.DesiredSet) -> dict[Any, Any]:
    return {item.key: ours_left_out(item.canonical) for item in (*found.objects, *found.externals)}


def ours_left_out(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: ours_left_out(item) for key, item in value.items() if not key.startswith("gitops.")}
    return [ours_left_out(item) for item in value] if isinstance(value, list | tuple) else value


@pytest.mark.timeout(300)
def test_all_objects_equal_what_docker_stack_config_gives(compose_corpus: Path | None) -> None:
    equal, different = 0, {}
    for row in rows(compose_corpus) if compose_corpus else ():
        assert compose_corpus is not None
        path = compose_corpus / row["path"]
        golden = compose_corpus / "golden" / f"{row['path']}.stack-config.yaml"
        if row["compose_spec_schema"] != "ok" or not golden.is_file() or row["path"] in REFUSED:
            continue
        # It stands beside the original, where its relative paths lead to the same files, and holds no more variables.
        beside = path.parent / "golden.yaml"
        beside.write_text(golden.read_text().replace("$", "$$").replace("/corpus", str(compose_corpus)))
        # `docker stack config` reads no .env, as Compose and we do: an empty file in its place makes us alike.
        (compose_corpus / "empty.env").touch()
        no_env = (os.path.relpath(compose_corpus / "empty.env", path.parent),)
        ours = objects(load(path, compose_corpus, env_files=no_env))
        theirs = {} if problems(beside, compose_corpus) else objects(load(beside, compose_corpus))
        beside.unlink()
        if ours == theirs:
            equal += 1
        else:
            names = ours.keys() | theirs.keys()
            different[row["path"]] = {name for name in names if ours.get(name) != theirs.get(name)}
    print(f"{equal} files equal `docker stack config`, {len(different)} do not")
    assert not compose_corpus or different.keys() == DIFFERENT.keys(), different
