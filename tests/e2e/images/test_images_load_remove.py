"""Archives in, names given and taken, space given back."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gitops import errors
from gitops.objects import image

pytestmark = pytest.mark.e2e


@dataclass(frozen=True)
class User:
    id: str
    is_running: bool


@pytest.fixture
def two(image_layout: Any, tools: Any) -> Any:
    """A layout with `x` and `y` on a common base."""
    base = tools.make_layer({"base": b"0" * 100_000})
    image_layout.name("x", image_layout.image([base, tools.make_layer({"x": b"1"})], created="2026-01-01T00:00:00Z"))
    image_layout.name("y", image_layout.image([base, tools.make_layer({"y": b"2"})], created="2026-02-01T00:00:00Z"))
    return image_layout


def archive(layout: Any, tools: Any, tmp_path: Path, kind: str, tag: str, name: str) -> Path:
    path = tmp_path / f"{tag}-{kind}.tar"
    tools.copy(f"oci:{layout.path}:{tag}", f"{kind}:{path}:{name}")
    return path


@pytest.mark.parametrize("kind", ["docker-archive", "oci-archive"])
async def test_an_archive_becomes_an_image(kind: str, two: Any, host: Any, tools: Any, tmp_path: Path) -> None:
    path = archive(two, tools, tmp_path, kind, "x", "team/app:v1")
    lines: list[image.Progress] = []
    with host.events.subscribe() as seen:
        assert await host.service.load(path, lines.append) == ["team/app:v1"]
        event = await anext(seen)
    assert lines[-1].stream == "Loaded image: team/app:v1\n"
    assert "Loading layer" in {line.status for line in lines}
    image_id = host.service.resolve("team/app:v1")
    assert (event.action, event.actor.id) == ("load", image_id)
    assert host.read(image_id, "base") == b"0" * 100_000
    named_by_digest = [f"team/app@{host.service.get(image_id).manifest.digest}"] if kind == "oci-archive" else []
    assert host.service.list()[0].repo_digests == named_by_digest
    assert host.temporary() == []
    for digest in host.service.get(image_id).blobs:
        hexadecimal = digest.removeprefix("sha256:")
        assert tools.sha256((host.root / "blobs" / "sha256" / hexadecimal).read_bytes()) == digest


async def test_what_is_loaded_shares_layers_with_what_is_pulled(
    two: Any, registry: Any, host: Any, tools: Any, tmp_path: Path
) -> None:
    registry.push(two, "x", "x:1")
    pulled = await host.pull(f"{registry.host}/x:1")
    await host.service.load(archive(two, tools, tmp_path, "docker-archive", "y", "y:1"))
    await host.service.load(archive(two, tools, tmp_path, "oci-archive", "x", "x:1"))
    assert host.service.resolve("x:1") == pulled
    assert len(host.layer_directories()) == 3


async def test_a_layout_directory_is_loaded_too(two: Any, host: Any) -> None:
    assert len(await host.service.load(two.path)) == 2
    assert len(host.service.list()) == 2


async def test_a_compressed_archive_is_loaded(two: Any, host: Any, tools: Any, tmp_path: Path) -> None:
    path = archive(two, tools, tmp_path, "docker-archive", "x", "app:1")
    subprocess.run(["gzip", "-1", path], check=True)
    assert await host.service.load(path.with_suffix(".tar.gz")) == ["app:1"]
    assert host.temporary() == []


async def test_a_name_that_moves_by_a_load_is_told(two: Any, host: Any, tools: Any, tmp_path: Path) -> None:
    await host.service.load(archive(two, tools, tmp_path, "docker-archive", "x", "app:1"))
    old = host.service.resolve("app:1")
    lines: list[image.Progress] = []
    await host.service.load(archive(two, tools, tmp_path, "docker-archive", "y", "app:1"), lines.append)
    text = f"The image app:1 already exists, renaming the old one with ID {old} to empty string\n"
    assert text in [line.stream for line in lines]
    assert host.service.resolve("app:1") != old


async def test_a_broken_archive_leaves_nothing(two: Any, host: Any, tools: Any, tmp_path: Path) -> None:
    path = archive(two, tools, tmp_path, "oci-archive", "x", "app:1")
    data = bytearray(path.read_bytes())
    place = data.find(b"\x1f\x8b")
    data[place + 30] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(errors.Invalid):
        await host.service.load(path)
    with pytest.raises(errors.NotFound, match="no such archive"):
        await host.service.load(tmp_path / "none.tar")
    assert host.service.list() == []
    assert host.layer_directories() == set()
    assert host.temporary() == []


async def test_the_last_name_takes_the_image_and_its_own_layers_along(two: Any, registry: Any, host: Any) -> None:
    for name in ("x", "y"):
        registry.push(two, name, f"{name}:1")
        await host.pull(f"{registry.host}/{name}:1")
    x, y = (f"{registry.host}/{name}:1" for name in ("x", "y"))
    image_id, top = host.service.resolve(x), host.service.get(x).layers[1].chain_id
    lines = await host.service.remove(x)
    digest = f"{registry.host}/x@{registry.digest('x:1')}"
    assert [(line.untagged, line.deleted) for line in lines] == [(x, ""), (digest, ""), ("", image_id), ("", top)]
    assert [event.action for event in host.events.recent()] == ["pull", "pull", "untag", "untag", "delete"]
    with pytest.raises(errors.NotFound, match=f"No such image: {x}"):
        host.service.resolve(x)
    assert len(host.layer_directories()) == 2
    assert host.read(host.service.resolve(y), "base") == b"0" * 100_000
    await host.service.remove(y)
    assert host.layer_directories() == set()
    assert list((host.root / "blobs" / "sha256").iterdir()) == []
    assert host.service.usage().layers_bytes == host.service.usage().blobs_bytes == 0
    await host.trash_is_empty()


async def test_one_of_several_names_is_only_taken_away(two: Any, host: Any, tools: Any, tmp_path: Path) -> None:
    await host.service.load(archive(two, tools, tmp_path, "docker-archive", "x", "app:1"))
    image_id = host.service.resolve("app:1")
    host.service.tag("app:1", "other/app")
    assert host.service.inspect(image_id).repo_tags == ["app:1", "other/app:latest"]
    with pytest.raises(errors.Conflict, match=r"must be forced.*multiple repositories"):
        await host.service.remove(image_id[7:19])
    assert [line.untagged for line in await host.service.remove("app:1")] == ["app:1"]
    assert host.service.resolve("other/app") == image_id
    await host.service.remove(image_id)
    assert host.service.list() == []
    with pytest.raises(errors.Invalid, match="digest reference"):
        await host.service.load(archive(two, tools, tmp_path, "docker-archive", "y", "app:2"))
        host.service.tag("app:2", f"app@{image_id}")


async def test_containers_hold_the_layers_of_an_image_that_was_removed_by_force(
    two: Any, start_host: Any, tools: Any, tmp_path: Path
) -> None:
    host = await start_host()
    await host.service.load(archive(two, tools, tmp_path, "docker-archive", "x", "app:1"))
    image_id = host.service.resolve("app:1")
    users = [User("c" * 64, True)]
    host.service.users = lambda asked: users if asked == image_id else []
    with pytest.raises(errors.Conflict, match=r"must force.*cccccccccccc is using its referenced image"):
        await host.service.remove("app:1")
    with pytest.raises(errors.Conflict, match=r"cannot be forced.*running container cccccccccccc"):
        await host.service.remove("app:1", force=True)
    users[0] = User("c" * 64, False)
    lines = await host.service.remove("app:1", force=True)
    assert [line.deleted for line in lines] == ["", image_id]
    assert host.service.list() == []
    assert host.read(image_id, "base") == b"0" * 100_000

    await host.service.close()
    again = await start_host(host.root)
    again.service.users = host.service.users
    await again.service.collect()
    assert again.read(image_id, "x") == b"1"
    assert again.service.config(image_id).run.cmd == ["/bin/true"]
    users.clear()
    assert len(await again.service.collect()) == 2
    assert again.layer_directories() == set()


async def test_the_list_is_filtered(two: Any, host: Any, tools: Any, tmp_path: Path) -> None:
    await host.service.load(archive(two, tools, tmp_path, "docker-archive", "x", "team/x:1"))
    await host.service.load(archive(two, tools, tmp_path, "docker-archive", "y", "y:1"))

    def found(**filters: list[str]) -> list[str]:
        return [tag for line in host.service.list(filters=filters) for tag in line.repo_tags]

    assert found() == ["y:1", "team/x:1"]
    assert found(reference=["team/*"]) == ["team/x:1"]
    assert found(reference=["y"]) == ["y:1"]
    assert found(before=["y:1"]) == ["team/x:1"]
    assert found(since=["team/x:1"]) == ["y:1"]
    assert found(label=["made=here"]) == ["y:1", "team/x:1"]
    assert found(label=["made=there"]) == found(dangling=["true"]) == []
    with pytest.raises(errors.Invalid, match="invalid filter 'colour'"):
        found(colour=["red"])
    with pytest.raises(errors.NotFound):
        found(before=["nothing"])


async def test_a_pull_isnt_robbed_by_a_removal_at_the_same_time(
    two: Any, registry: Any, host: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The base is unreferenced while the pull that counts on it is under way."""
    for name in ("x", "y"):
        registry.push(two, name, f"{name}:1")
    await host.pull(f"{registry.host}/x:1")
    removed: list[Any] = []

    def watch(line: image.Progress) -> None:
        if line.status == "Already exists":
            watch.is_due = True  # type: ignore[attr-defined]

    watch.is_due = False  # type: ignore[attr-defined]
    original = host.service._staging.ready

    async def ready(staged: Any) -> Any:
        assert watch.is_due  # type: ignore[attr-defined]
        removed.extend(await host.service.remove(f"{registry.host}/x:1"))
        return await original(staged)

    monkeypatch.setattr(host.service._staging, "ready", ready)
    image_id = await host.service.pull(f"{registry.host}/y:1", progress=watch)
    assert [line for line in removed if line.deleted]
    assert host.read(image_id, "base") == b"0" * 100_000
