from __future__ import annotations

import gzip
import io
import json
import os
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import zstandard

from gitops import errors
from gitops.oci import archive, digest, manifest

LAYER = b"layer" * 1000
DIFF_ID = digest.sha256(LAYER)
CONFIG = json.dumps({"os": "linux", "architecture": "amd64", "rootfs": {"diff_ids": [DIFF_ID]}}).encode()
LINE = {"Config": "c.json", "RepoTags": ["app:1"], "Layers": ["l/layer.tar"]}


def dump(document: object) -> bytes:
    return json.dumps(document).encode()


def pack(members: Mapping[str, bytes | tarfile.TarInfo]) -> bytes:
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name) if isinstance(content, bytes) else content
            data = content if isinstance(content, bytes) else b""
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return output.getvalue()


def docker(**changes: bytes | tarfile.TarInfo | None) -> dict[str, bytes | tarfile.TarInfo]:
    members: dict[str, Any] = {"manifest.json": dump([LINE]), "c.json": CONFIG, "l/layer.tar": LAYER}
    return {name: content for name, content in {**members, **changes}.items() if content is not None}


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def blob(content: bytes) -> str:
    return "blobs/sha256/" + digest.sha256(content)[7:]


def describe(content: bytes, media_type: str, **extra: Any) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest.sha256(content), "size": len(content), **extra}


def oci(layer: bytes = LAYER, name: str = "registry.example/app:2", **changes: bytes) -> dict[str, bytes]:
    image = dump(
        {
            "schemaVersion": 2,
            "config": describe(CONFIG, manifest.OCI_CONFIG),
            "layers": [describe(layer, manifest.OCI_LAYER)],
        }
    )
    entry = describe(image, manifest.OCI_MANIFEST, annotations={archive.REF_NAME: name})
    members = {"oci-layout": b"{}", "index.json": dump({"schemaVersion": 2, "manifests": [entry]})}
    return {**members, blob(image): image, blob(CONFIG): CONFIG, blob(layer): layer, **changes}


def saved(folder: Path, data: bytes) -> Path:
    path = folder / "image.tar"
    path.write_bytes(data)
    return path


def refused(folder: Path, members: Mapping[str, bytes | tarfile.TarInfo], reason: str) -> None:
    with pytest.raises(errors.Invalid, match=reason):
        archive.open_archive(saved(folder, pack(members)))


@pytest.mark.parametrize(
    "compress", [bytes, gzip.compress, zstandard.ZstdCompressor().compress], ids=["plain", "gzip", "zstd"]
)
def test_an_archive_of_docker_save_gives_its_images(tmp_path: Path, compress: Any) -> None:
    with archive.open_archive(saved(tmp_path, compress(pack(docker()))), scratch=tmp_path) as opened:
        [image] = opened.images
        assert image.tags == ["docker.io/library/app:1"]
        assert image.id == digest.sha256(CONFIG)
        [layer] = image.layers
        assert (layer.diff_id, layer.digest, layer.size) == (DIFF_ID, DIFF_ID, len(LAYER))
        with layer.open() as first, layer.open() as second:
            assert first.read(3) + first.read() == second.read() == LAYER
        with layer.path.open("rb") as file:
            file.seek(layer.offset)
            assert file.read(layer.size) == LAYER
    assert os.listdir(tmp_path) == ["image.tar"]


def test_a_compressed_layer_of_docker_save_has_no_known_digest(tmp_path: Path) -> None:
    with archive.open_archive(saved(tmp_path, pack(docker(**{"l/layer.tar": gzip.compress(LAYER)})))) as opened:
        [layer] = opened.images[0].layers
        assert layer.digest is None
        assert layer.media_type == manifest.OCI_LAYER + "+gzip"


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_a_layer_that_two_images_share_is_found_through_its_link(tmp_path: Path, kind: bytes) -> None:
    target = "../x/layer.tar" if kind == tarfile.SYMTYPE else "x/layer.tar"
    members = docker(**{"l/layer.tar": link("l/layer.tar", target, kind), "x/layer.tar": LAYER})
    with archive.open_archive(saved(tmp_path, pack(members))) as opened:
        assert opened.images[0].layers[0].size == len(LAYER)


def test_an_oci_archive_and_a_layout_directory_give_the_same_image(tmp_path: Path) -> None:
    members = oci()
    layout = tmp_path / "layout"
    for name, content in members.items():
        (layout / name).parent.mkdir(parents=True, exist_ok=True)
        (layout / name).write_bytes(content)
    for path in (saved(tmp_path, pack(members)), layout):
        with archive.open_archive(path) as opened:
            [image] = opened.images
            assert image.tags == ["registry.example/app:2"]
            assert image.manifest is not None
            assert image.layers[0].digest == DIFF_ID
            with image.layers[0].open() as content:
                assert content.read() == LAYER


def test_a_bare_tag_of_an_oci_archive_names_nothing(tmp_path: Path) -> None:
    with archive.open_archive(saved(tmp_path, pack(oci(name="latest")))) as opened:
        assert opened.images[0].tags == []


def test_an_archive_that_is_both_gives_each_image_once_with_all_tags(tmp_path: Path) -> None:
    members = {**oci(), "manifest.json": dump([{**LINE, "Layers": [blob(LAYER)], "Config": blob(CONFIG)}])}
    with archive.open_archive(saved(tmp_path, pack(members))) as opened:
        [image] = opened.images
        assert image.tags == ["docker.io/library/app:1", "registry.example/app:2"]
        assert image.manifest is not None


def test_an_image_without_layers_is_an_image(tmp_path: Path) -> None:
    members = docker(
        **{"manifest.json": dump([{"Config": "c.json", "RepoTags": None, "Layers": None}]), "c.json": b"{}"}
    )
    with archive.open_archive(saved(tmp_path, pack(members))) as opened:
        assert opened.images[0].layers == []


def test_foreign_members_never_become_files(tmp_path: Path) -> None:
    members = docker(**{"../../evil": b"x", "/etc/evil": b"x"})
    with archive.open_archive(saved(tmp_path, pack(members))):
        assert os.listdir(tmp_path) == ["image.tar"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"manifest.json": None}, "no image in it"),
        ({"manifest.json": b"{"}, "invalid manifest.json"),
        ({"manifest.json": b"[" * 100_000}, "invalid manifest.json"),
        ({"c.json": b"{"}, "invalid image config"),
        ({"c.json": None}, "no regular member"),
        ({"l/layer.tar": link("l/layer.tar", "/etc/passwd")}, "no regular member"),
        ({"l/layer.tar": link("l/layer.tar", "l/layer.tar", tarfile.LNKTYPE)}, "no regular member"),
        ({"manifest.json": dump([{**LINE, "Layers": ["../../../etc/passwd"]}])}, "no regular member"),
        ({"manifest.json": dump([{**LINE, "Layers": []}])}, "0 layers, the config 1 diff ids"),
        ({"manifest.json": dump([{**LINE, "RepoTags": ["UPPER"]}])}, "must be lowercase"),
        ({"manifest.json": dump([{**LINE, "RepoTags": ["a@" + DIFF_ID]}])}, "by digest"),
    ],
)
def test_archives_that_do_not_hang_together_are_refused(tmp_path: Path, changes: Any, reason: str) -> None:
    refused(tmp_path, docker(**changes), reason)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({blob(CONFIG): CONFIG + b" "}, "another content"),
        ({blob(LAYER): LAYER + b" "}, "the manifest says"),
        ({"index.json": dump({"schemaVersion": 2, "layers": [], "config": {}})}, "not the"),
    ],
)
def test_oci_archives_with_wrong_blobs_are_refused(tmp_path: Path, changes: Any, reason: str) -> None:
    refused(tmp_path, oci(**changes), reason)


def test_a_layout_directory_with_a_symlinked_blob_is_refused(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(CONFIG)
    for name, content in oci().items():
        path = tmp_path / "layout" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name == blob(CONFIG):
            path.symlink_to(secret)
        else:
            path.write_bytes(content)
    with pytest.raises(errors.Invalid, match="can't read"):
        archive.open_archive(tmp_path / "layout")


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    with pytest.raises(errors.NotFound):
        archive.open_archive(tmp_path / "none")
    with pytest.raises(errors.Invalid):
        archive.open_archive(saved(tmp_path, b"text" * 1000))
    with pytest.raises(errors.Invalid, match="no image"):
        archive.open_archive(saved(tmp_path, b""))
    with pytest.raises(errors.Invalid, match=r"cut short|unexpected end"):
        archive.open_archive(saved(tmp_path, pack(docker())[:4000]))
    with pytest.raises(errors.Unsupported, match="xz"):
        archive.open_archive(saved(tmp_path, b"\xfd7zXZ\0\0\0"))
    with pytest.raises(errors.Invalid, match="no image"):
        archive.open_archive(tmp_path)
