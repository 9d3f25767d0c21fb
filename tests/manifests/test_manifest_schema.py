"""The JSON Schemas: current, documented, and of the kinds that there are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gitops.manifests import schema
from gitops.manifests.kinds import registry


def test_the_schemas_in_the_repository_are_current(capsys: pytest.CaptureFixture[str]) -> None:
    assert schema.main(["--check"]) == 0, capsys.readouterr().err


def test_a_stale_schema_is_named_and_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(schema, "DIRECTORY", tmp_path / "schemas")
    assert schema.main([]) == 0 and schema.main(["--check"]) == 0
    (tmp_path / "schemas" / "service.schema.json").write_text("{}")
    (tmp_path / "schemas" / "gone.schema.json").write_text("{}")
    assert schema.main(["--check"]) == 1
    assert "service.schema.json" in capsys.readouterr().err
    assert schema.main([]) == 0 and schema.main(["--check"]) == 0
    assert schema.main(["--wrong"]) == 1


def test_there_is_one_for_each_kind_and_one_for_all() -> None:
    found = schema.schemas()
    assert set(found) == {f"{kind.lower()}.schema.json" for kind in registry.KINDS} | {"gitops.schema.json"}
    whole = found["gitops.schema.json"]
    assert whole["properties"]["kind"]["enum"] == list(registry.KINDS)
    for choice in whole["allOf"]:
        assert choice["then"]["$ref"].removeprefix("#/definitions/") in whole["definitions"]


def test_every_field_is_documented_and_every_reference_leads_somewhere() -> None:
    for name, found in schema.schemas().items():
        for owner, field, content in _fields(found):
            if field != "kind" or owner:
                assert content.get("description"), f"{name}: {owner}.{field}"
        for reference in _references(found):
            assert reference.removeprefix("#/definitions/") in found["definitions"], f"{name}: {reference}"


def test_keys_of_ones_own_are_allowed_everywhere_and_others_nowhere() -> None:
    for found in schema.schemas().values():
        for name, definition in found["definitions"].items():
            if "properties" in definition:
                assert definition["additionalProperties"] is False, name
                assert definition["patternProperties"] == {"^x-": {}}, name


def _fields(found: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for owner, definition in {"": found, **found.get("definitions", {})}.items():
        for field, content in definition.get("properties", {}).items():
            yield owner, field, content


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for item in value.values():
            yield from _references(item)
    elif isinstance(value, list):
        for item in value:
            yield from _references(item)
