"""`push`: where an image that was built or archived is to be had by a swarm of several nodes."""

from __future__ import annotations

from pathlib import Path

import pytest

from gitops import errors, manifests
from gitops.manifests.desired import ImageSource

IMAGE = """
apiVersion: gitops/v1
kind: Image
metadata: {name: app}
spec: {reference: "app:v1", %s}
"""
BUILD = 'build: {layers: [{files: [{content: "hello", to: /hello}]}]}'


def source(tmp_path: Path, fields: str) -> ImageSource:
    (tmp_path / "image.yaml").write_text(IMAGE % fields)
    (found,) = manifests.load(tmp_path).of("Image")
    assert isinstance(found.spec, ImageSource)
    assert found.canonical.get("push", "") == found.spec.push
    return found.spec


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("registry.example/team/app", "registry.example/team/app:v1"),
        ("registry.example:5000/app:latest", "registry.example:5000/app:latest"),
        ("docker.io/team/app", "team/app:v1"),
    ],
)
def test_a_repository_gets_the_tag_of_the_image_unless_it_has_its_own(tmp_path: Path, written: str, meant: str) -> None:
    assert source(tmp_path, f'{BUILD}, push: "{written}"').push == meant


def test_without_it_nothing_is_pushed(tmp_path: Path) -> None:
    assert source(tmp_path, BUILD).push == ""


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        (f'{BUILD}, push: "Registry/APP"', "spec.push: "),
        (f'{BUILD}, push: "r.example/app@sha256:{"0" * 64}"', "has a digest"),
        ("pull: {repository: nginx, tag: stable}, push: r.example/app", "in a registry already"),
    ],
)
def test_what_can_not_be_pushed_is_refused(tmp_path: Path, fields: str, reason: str) -> None:
    with pytest.raises(errors.InvalidManifest, match=reason):
        source(tmp_path, fields)
