from __future__ import annotations

import json
from typing import Any

import pytest

from gitops import errors
from gitops.oci import digest, manifest
from gitops.oci.manifest import Descriptor, Index, Manifest, Platform

A = digest.sha256(b"a")
B = digest.sha256(b"b")


def image(**extra: Any) -> dict[str, Any]:
    config = {"mediaType": manifest.OCI_CONFIG, "digest": A, "size": 1}
    layer = {"mediaType": manifest.OCI_LAYER, "digest": B, "size": 2}
    return {"schemaVersion": 2, "config": config, "layers": [layer], **extra}


def dump(document: object) -> bytes:
    return json.dumps(document).encode()


def index(*platforms: str, media_type: str = manifest.OCI_MANIFEST) -> Index:
    entries = []
    for number, text in enumerate(platforms):
        system, architecture, *variant = text.split("/")
        platform = Platform(os=system, architecture=architecture, variant="".join(variant))
        entries.append(Descriptor(media_type, digest.sha256(str(number).encode()), 1, platform))
    return Index(entries)


def chosen(platforms: list[str], wanted: str) -> str:
    return str(manifest.select_platform(index(*platforms), manifest.parse_platform(wanted)).platform)


def test_a_manifest_is_read_by_its_own_media_type_or_the_served_one() -> None:
    for document, served in (
        (image(mediaType=manifest.OCI_MANIFEST), ""),
        (image(), manifest.DOCKER_MANIFEST),
        (image(), "application/json; charset=utf-8"),
        (image(mediaType=manifest.DOCKER_MANIFEST), manifest.DOCKER_MANIFEST + "; charset=utf-8"),
    ):
        parsed = manifest.parse_manifest(dump(document), served)
        assert isinstance(parsed, Manifest)
        assert [layer.digest for layer in parsed.layers] == [B]


@pytest.mark.parametrize(
    ("document", "served", "reason"),
    [
        (image(mediaType=manifest.OCI_MANIFEST), manifest.DOCKER_MANIFEST, "was served as"),
        (image(manifests=[]), "", "in one document"),
        (image(mediaType=manifest.OCI_INDEX), "", "not the"),
        (image(mediaType="text/html"), "", "unknown type"),
        ([], "", "invalid manifest"),
        ({"schemaVersion": 2}, "", "invalid image manifest"),
        (image(config={"mediaType": "x", "digest": "sha256:1", "size": 1}), "", "invalid digest"),
        (image(config={"mediaType": "x", "digest": A, "size": -1}), "", "negative size"),
        (image(layers=[{"mediaType": "x", "digest": A, "size": 1}] * 128), "", "the limit is 127"),
    ],
)
def test_contradictions_and_nonsense_are_refused(document: object, served: str, reason: str) -> None:
    with pytest.raises(errors.Invalid, match=reason):
        manifest.parse_manifest(dump(document), served)


def test_deep_nesting_and_length_are_refused() -> None:
    with pytest.raises(errors.Invalid):
        manifest.parse_manifest(b"[" * 100_000)
    with pytest.raises(errors.Invalid, match="the limit is"):
        manifest.parse_manifest(b" " * (manifest.MANIFEST_LIMIT + 1))


def test_schema_1_is_refused_by_name() -> None:
    with pytest.raises(errors.Unsupported, match="schema 1"):
        manifest.parse_manifest(dump({"schemaVersion": 1, "fsLayers": []}))


@pytest.mark.parametrize(
    ("offered", "wanted", "best"),
    [
        (["linux/arm64", "linux/amd64"], "linux/amd64", "linux/amd64"),
        (["linux/amd64/v3", "linux/amd64"], "linux/amd64", "linux/amd64"),
        (["linux/amd64/v1", "linux/amd64/v3"], "linux/amd64/v2", "linux/amd64/v1"),
        (["linux/arm64/v8"], "linux/arm64", "linux/arm64/v8"),
        (["linux/arm/v5", "linux/arm/v6", "linux/arm/v7"], "linux/arm/v6", "linux/arm/v6"),
        (["linux/arm/v5", "linux/arm/v7"], "linux/arm/v6", "linux/arm/v5"),
        (["unknown/unknown", "linux/amd64"], "amd64", "linux/amd64"),
        (["linux/amd64"], "x86_64", "linux/amd64"),
    ],
)
def test_the_platform_that_suits_best_is_chosen(offered: list[str], wanted: str, best: str) -> None:
    assert chosen(offered, wanted) == best


@pytest.mark.parametrize("offered", [["windows/amd64"], ["linux/amd64/v2"], ["linux/arm64"], []])
def test_without_a_match_the_error_has_dockers_words(offered: list[str]) -> None:
    with pytest.raises(errors.NotFound, match="no matching manifest for linux/amd64"):
        chosen(offered, "linux/amd64")


def test_chain_ids_follow_the_specification() -> None:
    first, second, third = manifest.chain_ids([A, B, A])
    assert first == A
    assert second == digest.sha256(f"{A} {B}".encode())
    assert third == digest.sha256(f"{second} {A}".encode())


def test_a_config_is_read_leniently() -> None:
    data = dump(
        {"os": "linux", "future": 1, "config": {"Cmd": ["a"], "Env": None, "New": {}}, "rootfs": {"diff_ids": [A]}}
    )
    config = manifest.parse_config(data)
    assert config.run.cmd == ["a"]
    assert config.rootfs.diff_ids == [A]
    assert manifest.parse_config(b"{}").run.env is None
    with pytest.raises(errors.Invalid):
        manifest.parse_config(dump({"rootfs": {"diff_ids": ["x"]}}))


def test_a_null_in_a_config_says_nothing() -> None:
    config = manifest.parse_config(
        dump(
            {
                "os": "linux",
                "author": None,
                "config": {"User": None, "WorkingDir": None, "Env": None, "ExposedPorts": {"80/tcp": None}},
                "rootfs": {"type": None, "diff_ids": None},
                "history": [{"created_by": None, "empty_layer": True}],
            }
        )
    )
    assert (config.author, config.run.user, config.run.working_dir, config.rootfs.diff_ids) == ("", "", "", [])
    assert config.run.exposed_ports == {"80/tcp": None} and config.history == [manifest.History(empty_layer=True)]


def test_a_config_nested_deeply_is_read_or_refused() -> None:
    assert manifest.parse_config(b'{"a":' + b"[" * 900 + b"]" * 900 + b"}").os == ""
    with pytest.raises(errors.Invalid):
        manifest.parse_config(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}")
