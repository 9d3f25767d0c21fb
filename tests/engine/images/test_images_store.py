"""The content store says only what is on the disk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gitops import errors
from gitops.engine.database import Database
from gitops.engine.images import layout, records, store
from gitops.oci import digest as digests
from gitops.oci import manifest as manifests

NAME, OTHER = "docker.io/library/a:1", "docker.io/library/b:1"


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with Database(tmp_path / "engine.db") as found:
        yield found


@pytest.fixture
async def content(tmp_path: Path, database: Database) -> store.ContentStore:
    found = store.ContentStore(layout.Layout(tmp_path), database)
    await found.start()
    return found


async def put(content: store.ContentStore) -> records.Image:
    config, manifest = b"{}", b"{ }"
    image = records.Image(
        id=digests.sha256(config),
        manifest=manifests.Descriptor(manifests.OCI_MANIFEST, digests.sha256(manifest), len(manifest)),
        layers=[],
        stored_ns=1,
    )
    await content.commit(image, [], {image.id: config, image.manifest.digest: manifest}, [NAME])
    return image


def fill_the_disk(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        database._roll_back()
        raise errors.RuntimeFailure("database or disk is full")

    monkeypatch.setattr(database, "_commit", refuse)


async def test_a_name_that_the_disk_refused_is_none(
    content: store.ContentStore, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = await put(content)
    fill_the_disk(database, monkeypatch)
    with pytest.raises(errors.RuntimeFailure):
        content.rename(image, add=[OTHER], drop=[NAME])
    assert content.names == {NAME: image.id}
    assert list(database.all(records.NAMES, records.Name)) == [NAME]
    await content.close()


async def test_an_image_that_the_disk_refused_leaves_nothing(
    content: store.ContentStore, database: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fill_the_disk(database, monkeypatch)
    with pytest.raises(errors.RuntimeFailure):
        await put(content)
    assert (content.images, content.names, content.usage()) == ({}, {}, (0, 0))
    assert list((tmp_path / "blobs" / "sha256").iterdir()) == []
    assert list((tmp_path / "tmp").iterdir()) == []
    await content.close()
