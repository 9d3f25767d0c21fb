"""Pulls that break: a registry that stops or lies, a daemon that dies, a pull that is cancelled."""

from __future__ import annotations

import asyncio
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from gitops import errors
from gitops.engine.images import store
from gitops.objects import image

pytestmark = pytest.mark.e2e

MEGABYTE = 1 << 20
TOLD = ("Pulling fs layer", "Already exists")


def is_under_way(line: image.Progress) -> bool:
    """The large layer has begun, and hasn't ended."""
    detail = line.progress_detail
    return (
        line.status == "Downloading"
        and detail is not None
        and detail.total > MEGABYTE
        and 0 < detail.current < detail.total
    )


def push_large(registry: Any, image_layout: Any, tools: Any, megabytes: int = 96) -> tuple[str, bytes]:
    """An image of one small and one large layer that doesn't compress."""
    content = os.urandom(MEGABYTE) * megabytes
    layers = [tools.make_layer({"small": b"1"}), tools.make_layer({"large": content})]
    image_layout.name("v1", image_layout.image(layers, compression=""))
    registry.push(image_layout, "v1", "large:v1", "--preserve-digests", "--dest-compress=false")
    return f"{registry.host}/large:v1", content


async def pull_and_kill(host: Any, registry: Any, name: str) -> errors.Unavailable:
    """Pull, with the registry killed when the first bytes are here."""

    def watch(line: image.Progress) -> None:
        if is_under_way(line):
            registry.kill()

    with pytest.raises(errors.Unavailable) as caught:
        await host.service.pull(name, progress=watch)
    return caught.value


def assert_nothing_but_parts(host: Any) -> list[Path]:
    assert host.service.list() == []
    assert host.layer_directories() == set()
    assert list((host.root / "blobs" / "sha256").iterdir()) == []
    assert list((host.root / "l").iterdir()) == []
    left: list[Path] = host.temporary()
    assert all(path.suffix == ".part" for path in left)
    return left


async def test_a_registry_that_stops_half_way_is_named_and_the_next_pull_goes_on(
    registry: Any, image_layout: Any, host: Any, tools: Any
) -> None:
    name, content = push_large(registry, image_layout, tools)
    error = await pull_and_kill(host, registry, name)
    assert name in str(error) and f"the registry {registry.host}" in str(error)
    assert "pull again" in str(error) and error.is_temporary

    blob = max((image_layout.path / "blobs" / "sha256").iterdir(), key=lambda path: path.stat().st_size)
    size = blob.stat().st_size
    (kept,) = [path.stat().st_size for path in assert_nothing_but_parts(host) if path.stem == blob.name]
    assert 0 < kept < size

    registry.start()
    image_id = await host.pull(name)
    assert host.read(image_id, "large") == content
    assert host.temporary() == []
    await registry.logged(f'blobs/sha256:{blob.name} HTTP/1.1" 206 {size - kept} ')


async def test_what_was_kept_survives_a_restart_of_the_engine(
    registry: Any, image_layout: Any, start_host: Any, tools: Any
) -> None:
    host = await start_host()
    name, content = push_large(registry, image_layout, tools)
    await pull_and_kill(host, registry, name)
    parts = host.temporary()
    again = await start_host(host.root)
    assert again.temporary() == parts
    registry.start()
    assert again.read(await again.pull(name), "large") == content


async def test_a_part_that_was_spoilt_costs_one_clean_download(
    registry: Any, image_layout: Any, host: Any, tools: Any
) -> None:
    name, content = push_large(registry, image_layout, tools)
    await pull_and_kill(host, registry, name)
    largest = max(host.temporary(), key=lambda path: path.stat().st_size)
    with largest.open("r+b") as file:
        file.seek(600)  # in the tar's first file
        file.write(b"spoilt")
    registry.start()
    assert host.read(await host.pull(name), "large") == content
    assert host.temporary() == []


async def test_a_cancelled_pull_leaves_only_parts_and_the_next_one_succeeds(
    registry: Any, image_layout: Any, host: Any, tools: Any
) -> None:
    name, content = push_large(registry, image_layout, tools)
    started = asyncio.Event()

    def watch(line: image.Progress) -> None:
        if is_under_way(line):
            started.set()

    pull = asyncio.create_task(host.service.pull(name, progress=watch))
    await started.wait()
    pull.cancel()
    with pytest.raises(asyncio.CancelledError):
        await pull
    assert_nothing_but_parts(host)
    assert host.read(await host.pull(name), "large") == content


async def test_a_cancelled_pull_doesnt_take_the_layers_from_another_one(
    registry: Any, image_layout: Any, host: Any, tools: Any
) -> None:
    name, content = push_large(registry, image_layout, tools, megabytes=256)
    begun, joined = asyncio.Event(), asyncio.Event()
    first = asyncio.create_task(
        host.service.pull(name, progress=lambda line: begun.set() if is_under_way(line) else None)
    )
    await begun.wait()
    second = asyncio.create_task(
        host.service.pull(name, progress=lambda line: joined.set() if line.status in TOLD else None)
    )
    await joined.wait()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert host.read(await second, "large") == content
    assert host.temporary() == []


async def test_closing_ends_pulls_and_they_can_be_resumed(
    registry: Any, image_layout: Any, start_host: Any, tools: Any
) -> None:
    host = await start_host()
    name, content = push_large(registry, image_layout, tools)
    started = asyncio.Event()
    pull = asyncio.create_task(
        host.service.pull(name, progress=lambda line: started.set() if is_under_way(line) else None)
    )
    await started.wait()
    await host.service.close()
    with pytest.raises(errors.Unavailable):
        await pull
    assert_nothing_but_parts(host)
    again = await start_host(host.root)
    assert again.read(await again.pull(name), "large") == content


async def test_a_full_disk_is_named_and_given_back(
    registry: Any, image_layout: Any, start_host: Any, tools: Any, tmp_path: Path
) -> None:
    root = tmp_path / "small"
    root.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300m,mode=0700", "small", root], check=True)
    try:
        host = await start_host(root)
        name, content = push_large(registry, image_layout, tools)
        with pytest.raises(errors.RuntimeFailure, match="bytes would stay free"):
            await host.pull(name)
        assert all(path.stat().st_size < MEGABYTE for path in assert_nothing_but_parts(host))
        subprocess.run(["mount", "-o", "remount,size=700m", root], check=True)
        assert host.read(await host.pull(name), "large") == content
        await host.service.close()
        host.database.close()
    finally:
        subprocess.run(["umount", "-l", root], check=True)


async def test_a_registry_whose_blob_rotted_is_found_out(
    registry: Any, image_layout: Any, host: Any, tools: Any
) -> None:
    image_layout.name("v1", image_layout.image([tools.make_layer({"a": bytes(100_000)})]))
    registry.push(image_layout, "v1", "app:v1")
    name = f"{registry.host}/app:v1"
    for path in (registry.storage / "docker/registry/v2/blobs/sha256").rglob("data"):
        data = bytearray(path.read_bytes())
        if data[:2] == b"\x1f\x8b":
            data[-9] ^= 1
            path.write_bytes(data)
    with pytest.raises(errors.Invalid):
        await host.pull(name)
    assert assert_nothing_but_parts(host) == []


async def test_a_crash_between_rename_and_rows_leaves_garbage_that_the_next_start_removes(
    registry: Any, image_layout: Any, start_host: Any, tools: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    image_layout.name("v1", image_layout.image([tools.make_layer({"a": b"1"}), tools.make_layer({"b": b"2"})]))
    registry.push(image_layout, "v1", "app:v1")
    name = f"{registry.host}/app:v1"
    host = await start_host()

    class PowerCut(BaseException):
        pass

    def cut(*_: object) -> None:
        raise PowerCut

    with monkeypatch.context() as patch:
        patch.setattr(store.ContentStore, "_put", cut)
        patch.setattr(store.ContentStore, "_move_out", lambda *_: None)
        with pytest.raises(PowerCut):
            await host.pull(name)
    assert len(host.layer_directories()) == 2, "moved in, but nobody vouches for them"

    again = await start_host(host.root)
    assert again.service.findings == []
    assert again.layer_directories() == set()
    assert list((again.root / "blobs" / "sha256").iterdir()) == []
    assert list((again.root / "l").iterdir()) == []
    assert again.read(await again.pull(name), "b") == b"2"


async def test_a_commit_that_the_database_refuses_is_undone(
    registry: Any, image_layout: Any, host: Any, tools: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    image_layout.name("v1", image_layout.image([tools.make_layer({"a": b"1"})]))
    registry.push(image_layout, "v1", "app:v1")
    name = f"{registry.host}/app:v1"

    def refuse(*_: object) -> None:
        raise errors.RuntimeFailure("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(store.ContentStore, "_put", refuse)
        with pytest.raises(errors.RuntimeFailure, match="disk full"):
            await host.pull(name)
    assert_nothing_but_parts(host)
    assert host.read(await host.pull(name), "a") == b"1"


async def test_a_start_clears_what_a_crash_left_and_keeps_parts(
    registry: Any, image_layout: Any, start_host: Any, tools: Any
) -> None:
    image_layout.name("v1", image_layout.image([tools.make_layer({"a": b"1"})]))
    registry.push(image_layout, "v1", "app:v1")
    host = await start_host()
    image_id = await host.pull(f"{registry.host}/app:v1")
    await host.service.close()
    tmp = host.root / "tmp"
    (tmp / "0123456789abcdef").mkdir()
    (tmp / "0123456789abcdef" / "file").write_bytes(b"x")
    part, old = tmp / ("a" * 64 + ".part"), tmp / ("b" * 64 + ".part")
    part.write_bytes(b"x")
    old.write_bytes(b"x")
    os.utime(old, (0, 0))
    (host.root / "layers" / ("c" * 64)).mkdir()
    (host.root / "blobs" / "sha256" / ("d" * 64)).write_bytes(b"x")
    next((host.root / "l").iterdir()).unlink()

    again = await start_host(host.root)
    assert again.service.findings == []
    assert again.temporary() == [part]
    assert len(again.layer_directories()) == 1
    assert not (host.root / "blobs" / "sha256" / ("d" * 64)).exists()
    assert again.read(image_id, "a") == b"1"


async def test_damage_is_reported_and_the_next_pull_repairs_it(
    registry: Any, image_layout: Any, start_host: Any, tools: Any
) -> None:
    base = tools.make_layer({"base": b"0"})
    for name in ("x", "y"):
        image_layout.name(name, image_layout.image([base, tools.make_layer({name: b"2"})]))
        registry.push(image_layout, name, f"{name}:1")
    host = await start_host()
    x, y = [await host.pull(f"{registry.host}/{name}:1") for name in ("x", "y")]
    top = host.service.layers(x)[0].resolve()
    await host.service.close()
    top.rename(host.root / "gone")

    again = await start_host(host.root)
    assert len(again.service.findings) == 2 and x in again.service.findings[1]
    assert [line.id for line in again.service.list()] == [y]
    with pytest.raises(errors.NotFound):
        again.service.resolve(f"{registry.host}/x:1")
    assert await again.pull(f"{registry.host}/x:1") == x
    assert again.read(x, "x") == b"2" and again.read(x, "base") == b"0"


async def test_a_config_that_rotted_on_our_disk_is_noticed(
    registry: Any, image_layout: Any, start_host: Any, tools: Any
) -> None:
    image_layout.name("v1", image_layout.image([tools.make_layer({"a": b"1"})]))
    registry.push(image_layout, "v1", "app:v1")
    host = await start_host()
    image_id = await host.pull(f"{registry.host}/app:v1")
    await host.service.close()
    (host.root / "blobs" / "sha256" / image_id.removeprefix("sha256:")).write_bytes(b"{}")
    again = await start_host(host.root)
    assert "damaged blob" in again.service.findings[0]
    assert await again.pull(f"{registry.host}/app:v1") == image_id
    assert again.service.inspect(image_id).config.cmd == ["/bin/true"]
