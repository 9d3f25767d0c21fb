"""Secrets and configs with `template_driver`: a new version for each content, and for being a template."""

from __future__ import annotations

from pathlib import Path

import pytest

from gitops import manifests
from gitops.manifests import canonical
from gitops.manifests.desired import Desired
from gitops.objects import wire
from gitops.objects.base import to_json
from gitops.objects.secret import ConfigSpec, SecretSpec, Templating


def one(tmp_path: Path, kind: str, spec: str) -> Desired:
    (tmp_path / "file.yaml").write_text(f"apiVersion: gitops/v1\nkind: {kind}\nmetadata: {{name: a}}\nspec: {spec}\n")
    (found,) = manifests.load(tmp_path).objects
    return found


@pytest.mark.parametrize(("kind", "struct"), [("Config", ConfigSpec), ("Secret", SecretSpec)])
def test_being_a_template_is_part_of_the_version_and_of_the_form(
    tmp_path: Path, kind: str, struct: type[ConfigSpec] | type[SecretSpec]
) -> None:
    plain = one(tmp_path, kind, '{content: "{{.Task.Slot}}"}')
    template = one(tmp_path, kind, '{content: "{{.Task.Slot}}", template_driver: golang}')
    assert isinstance(plain.spec, struct) and isinstance(template.spec, struct)
    assert (plain.spec.templating, template.spec.templating) == (None, Templating("golang"))
    assert plain.engine_name != template.engine_name
    assert template.canonical["template_driver"] == "golang" and "template_driver" not in plain.canonical
    live = wire.decode(to_json(template.spec), struct)
    form = canonical.secret(live) if isinstance(live, SecretSpec) else canonical.config(live)
    assert form == template.canonical
