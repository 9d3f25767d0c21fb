"""JSON Schema of every kind, for editors and other programs: `python -m gitops.manifests.schema [--check]`.

`schemas/` holds one file a kind, and `gitops.schema.json` for files of several kinds, all made of the models. Editors
with the YAML language server use the latter by `# yaml-language-server: $schema=…/gitops.schema.json`. What a schema
can't say (references, files, collisions) is left to `gitops validate`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from pydantic.json_schema import models_json_schema

from gitops.manifests.kinds import registry

DIRECTORY = Path(__file__).resolve().parents[2] / "schemas"
DIALECT = "http://json-schema.org/draft-07/schema#"
COMBINED = "gitops.schema.json"
WRITTEN = ("plan.schema.json", "snapshot.schema.json")
"""Schemas beside those of the kinds, of what commands print: written by hand, and held true by their tests."""


def schemas() -> dict[str, dict[str, Any]]:
    """Every schema by its file's name."""
    found = {f"{kind.lower()}.schema.json": _one(kind) for kind in registry.KINDS}
    found[COMBINED] = _combined()
    return found


def text(schema: dict[str, Any]) -> str:
    """A schema as it stands in its file."""
    return json.dumps(schema, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def _one(kind: str) -> dict[str, Any]:
    schema = registry.KINDS[kind]().model_json_schema(
        by_alias=True, mode="validation", ref_template="#/definitions/{model}"
    )
    return {"$schema": DIALECT, "title": f"gitops {kind}", **_tidy(schema)}


def _combined() -> dict[str, Any]:
    """Chosen by `kind`, so that an editor complains about the right one."""
    models = {kind: load() for kind, load in registry.KINDS.items()}
    names, whole = models_json_schema(
        [(model, "validation") for model in models.values()], by_alias=True, ref_template="#/definitions/{model}"
    )
    return {
        "$schema": DIALECT,
        "title": "gitops manifest",
        "type": "object",
        "required": ["apiVersion", "kind", "metadata"],
        "properties": {
            "apiVersion": {"const": "gitops/v1", "description": "Always gitops/v1."},
            "kind": {"enum": list(registry.KINDS), "description": "What the manifest describes."},
        },
        "allOf": [
            {
                "if": {"properties": {"kind": {"const": kind}}, "required": ["kind"]},
                "then": names[(model, "validation")],
            }
            for kind, model in models.items()
        ],
        "definitions": _tidy(whole)["definitions"],
    }


def _tidy(value: Any, *, is_names: bool = False) -> Any:
    """Without generated titles and empty defaults; `$defs` under the name that draft 7 has for it."""
    if isinstance(value, list):
        return [_tidy(item) for item in value]
    if not isinstance(value, dict):
        return value
    if is_names:
        return {key: _tidy(item) for key, item in value.items()}
    return {
        "definitions" if key == "$defs" else key: _tidy(
            item, is_names=key in ("properties", "$defs", "patternProperties")
        )
        for key, item in value.items()
        if key != "title" and not (key == "default" and item is None)
    }


def main(arguments: list[str]) -> int:
    """Write the schemas, or with --check say which aren't current; returns the exit code."""
    if arguments not in ([], ["--check"]):
        print("usage: python -m gitops.manifests.schema [--check]", file=sys.stderr)
        return 1
    wanted = {name: text(schema) for name, schema in schemas().items()}
    stale = [name for name, content in wanted.items() if _current(name) != content]
    if DIRECTORY.is_dir():
        known = {*wanted, *WRITTEN}
        stale += [path.name for path in sorted(DIRECTORY.glob("*.schema.json")) if path.name not in known]
    if arguments:
        for name in stale:
            print(f"schemas/{name} isn't current: run python -m gitops.manifests.schema", file=sys.stderr)
        return 1 if stale else 0
    DIRECTORY.mkdir(exist_ok=True)
    for name in stale:
        if name in wanted:
            (DIRECTORY / name).write_text(wanted[name])
        else:
            (DIRECTORY / name).unlink()
    return 0


def _current(name: str) -> str:
    try:
        return (DIRECTORY / name).read_text()
    except FileNotFoundError:
        return ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
