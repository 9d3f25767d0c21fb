"""Pulls from a real registry: by tag and digest, shared layers, every compression, platforms."""

from __future__ import annotations

import asyncio
import subprocess
from typing import Any

import pytest

from gitops import errors
from gitops.objects.image import PULL_SIZE
from gitops.oci import manifest as manifests

pytestmark = pytest.mark.e2e


def short(digest: str) -> str:
    return digest.removeprefix("sha256:")[:12]


async def test_a_pull_by_tag_tells_its_story_in_dockers_words(
    registry: Any, image_layout: Any, host: Any, tools: Any
) -> None:
    layers = [tools.make_layer({"a": b"1" * 5000}), tools.make_layer({"b": b"2"})]
    image_layout.name("v1", image_layout.image(layers))
    registry.push(image_layout, "v1", "team/app:v1")
    name, digest = f"{registry.host}/team/app:v1", registry.digest("team/app:v1")
    with host.events.subscribe() as seen:
        image_id = await host.pull(name)
        event = await anext(seen)

    assert (host.lines[0].status, host.lines[0].id) == ("Pulling from team/app", "v1")
    assert host.statuses()[-2:] == [f"Digest: {digest}", f"Status: Downloaded newer image for {name}"]
    row = host.service.get(name)
    assert len({layer.digest for layer in row.layers}) == 2
    for layer in row.layers:
        told = [status for status in host.statuses(short(layer.digest)) if status != "Waiting"]
        assert told == [
            "Pulling fs layer",
            "Downloading",
            "Verifying Checksum",
            "Download complete",
            "Extracting",
            "Pull complete",
        ]
    assert (event.type, event.action, event.actor.id) == ("image", "pull", name)
    assert host.read(image_id, "a") == b"1" * 5000
    assert host.temporary() == []

    shown = host.service.inspect(name)
    assert (shown.id, shown.repo_tags) == (image_id, [name])
    assert shown.repo_digests == [f"{registry.host}/team/app@{digest}"]
    assert shown.root_fs.layers == [tools.sha256(layer) for layer in layers]
    assert (shown.architecture, shown.os, shown.size) == ("amd64", "linux", 5001)
    assert shown.config.cmd == ["/bin/true"]
    assert [step.created_by for step in host.service.history(name)] == ["layer 1", "layer 0"]
    assert [line.id for line in host.service.list()] == [image_id]


async def test_the_second_pull_asks_for_the_digest_only(
    registry: Any, image_layout: Any, host: Any, tools: Any
) -> None:
    image_layout.name("v1", image_layout.image([tools.make_layer({"a": b"1"})]))
    registry.push(image_layout, "v1", "app:v1")
    name = f"{registry.host}/app:v1"
    first = await host.pull(name)
    before = len(registry.requests("GET", "/v2/app/"))
    assert await host.pull(name) == first
    assert host.statuses()[-1] == f"Status: Image is up to date for {name}"
    assert len(registry.requests("GET", "/v2/app/")) == before


async def test_a_pull_by_digest_names_the_image_by_it(registry: Any, image_layout: Any, host: Any, tools: Any) -> None:
    image_layout.name("v1", image_layout.image([tools.make_layer({"a": b"1"})]))
    registry.push(image_layout, "v1", "app:v1")
    digest = registry.digest("app:v1")
    name = f"{registry.host}/app@{digest}"
    image_id = await host.pull(name)
    assert host.lines[0].id == digest
    assert host.statuses()[-1] == f"Status: Downloaded newer image for {name}"
    line = host.service.list()[0]
    assert (line.repo_tags, line.repo_digests) == ([], [name])
    assert host.service.resolve(name) == image_id
    registry.kill()
    assert await host.pull(f"{registry.host}/app:v1@{digest}") == image_id, "who has the digest needs no registry"


async def test_a_tag_that_moved_leaves_the_old_image_without_it(
    registry: Any, image_layout: Any, host: Any, tools: Any
) -> None:
    name, ids = f"{registry.host}/app:latest", []
    for number in (1, 2):
        image_layout.name(f"v{number}", image_layout.image([tools.make_layer({"a": b"%d" % number})]))
        registry.push(image_layout, f"v{number}", "app:latest")
        ids.append(await host.pull(f"{registry.host}/app"))
        assert host.statuses()[-1] == f"Status: Downloaded newer image for {name}"
    assert host.service.resolve(name) == ids[1]
    dangling = host.service.list(filters={"dangling": ["true"]})
    assert [line.id for line in dangling] == [ids[0]]
    assert host.read(ids[0], "a") == b"1"


async def test_layers_that_images_share_are_stored_once(
    registry: Any, image_layout: Any, host: Any, tools: Any
) -> None:
    base = [tools.make_layer({"base": b"0"}), tools.make_layer({"more": b"1"})]
    for name in ("x", "y"):
        image_layout.name(name, image_layout.image([*base, tools.make_layer({name: b"2"})]))
        registry.push(image_layout, name, f"{name}:1")
    await host.pull(f"{registry.host}/x:1")
    image_id = await host.pull(f"{registry.host}/y:1")
    assert host.statuses().count("Already exists") in (1, 2)
    assert [line.status for line in host.lines].count("Already exists") == 2
    assert len(host.layer_directories()) == 4
    assert host.read(image_id, "base") == b"0"
    assert len(registry.requests("GET", "/v2/y/blobs")) == 3, "config, and one layer's address and content"


async def test_one_blob_on_two_bases_is_two_directories_and_one_download(
    registry: Any, image_layout: Any, host: Any, tools: Any
) -> None:
    same = tools.make_layer({"dir/f": b"x"})
    image_layout.name("t", image_layout.image([tools.make_layer({"dir": None}), same, tools.make_layer({}), same]))
    registry.push(image_layout, "t", "twice:1")
    await host.pull(f"{registry.host}/twice:1")
    assert len(host.layer_directories()) == 4
    blob = host.service.get(f"{registry.host}/twice:1").layers[1].digest
    assert len(registry.requests("GET", blob)) == 2


@pytest.mark.parametrize("compression", ["gzip", "zstd", ""])
async def test_every_compression_gives_the_same_image(
    compression: str, registry: Any, image_layout: Any, host: Any, tools: Any
) -> None:
    layers = [tools.make_layer({"a": bytes(100_000)}), tools.make_layer({"b": b"2"})]
    image_layout.name("c", image_layout.image(layers, compression=compression))
    options = ["--dest-compress=false"] if not compression else []
    tools.copy(
        f"oci:{image_layout.path}:c",
        f"docker://{registry.host}/c:1",
        "--dest-tls-verify=false",
        "--preserve-digests",
        *options,
    )
    image_id = await host.pull(f"{registry.host}/c:1")
    assert host.read(image_id, "a") == bytes(100_000)
    assert host.service.inspect(image_id).root_fs.layers == [tools.sha256(layer) for layer in layers]


async def test_the_same_image_in_another_compression_keeps_the_manifest_whose_blobs_we_hold(
    registry: Any, image_layout: Any, host: Any, tools: Any
) -> None:
    for compression in ("gzip", "zstd"):
        image_layout.name(compression, image_layout.image([tools.make_layer({"a": b"1"})], compression=compression))
        registry.push(image_layout, compression, f"{compression}:1", "--preserve-digests")
    ids = [await host.pull(f"{registry.host}/{compression}:1") for compression in ("gzip", "zstd")]
    assert ids[0] == ids[1]
    assert len(host.service.inspect(ids[0]).repo_digests) == 2
    row = host.service.get(ids[0])
    assert row.manifest.digest == registry.digest("gzip:1")
    assert {path.name for path in (host.root / "blobs/sha256").iterdir()} == {one[7:] for one in row.blobs}


async def test_pulls_at_the_same_time_share_their_downloads(
    registry: Any, image_layout: Any, host: Any, tools: Any
) -> None:
    base = [tools.make_layer({f"f{n}": bytes([n]) * 200_000}) for n in range(4)]
    for name in ("x", "y"):
        image_layout.name(name, image_layout.image([*base, tools.make_layer({name: b"2"})]))
        registry.push(image_layout, name, f"{name}:1")
    names = [f"{registry.host}/{name}:1" for name in ("x", "y", "x")]
    ids = await asyncio.gather(*(host.service.pull(name) for name in names))
    assert ids[0] == ids[2]
    for layer in host.service.get(names[0]).layers[:4]:
        assert len(registry.requests("GET", layer.digest)) == 2, "an address and a content"
    assert len(host.layer_directories()) == 6
    assert host.temporary() == []


async def test_of_an_index_the_wanted_platform_is_taken(
    registry: Any, image_layout: Any, host: Any, tools: Any
) -> None:
    entries = []
    for architecture in ("amd64", "arm64"):
        layer = tools.make_layer({"arch": architecture.encode()})
        entries.append((image_layout.image([layer], architecture=architecture), architecture))
    image_layout.name("m", image_layout.index(entries))
    registry.push(image_layout, "m", "multi:1", "--all")
    name = f"{registry.host}/multi:1"
    ours = await host.pull(name)
    assert host.read(ours, "arch").decode() == manifests.host().architecture
    assert host.service.inspect(ours).repo_digests == [f"{registry.host}/multi@{registry.digest('multi:1')}"]
    assert host.read(await host.pull(name, platform="linux/arm64"), "arch") == b"arm64"
    assert host.read(await host.pull(name, platform="linux/amd64"), "arch") == b"amd64"
    with pytest.raises(errors.NotFound, match="no matching manifest for linux/s390x"):
        await host.pull(name, platform="linux/s390x")
    found = await host.service.distribution(name)
    assert found.descriptor["digest"] == registry.digest("multi:1")
    assert found.platforms == [
        {"architecture": "amd64", "os": "linux"},
        {"architecture": "arm64", "os": "linux"},
    ]


async def test_an_image_of_another_platform_is_told_from_the_one_asked_for(
    registry: Any, image_layout: Any, host: Any, tools: Any
) -> None:
    image_layout.name("v1", image_layout.image([tools.make_layer({"a": b"1"})]))
    registry.push(image_layout, "v1", "app:v1")
    name = f"{registry.host}/app:v1"
    for _ in range(2):
        with pytest.raises(errors.NotFound, match=r"does not match the specified platform: wanted linux/arm64"):
            await host.pull(name, platform="linux/arm64")
        await host.pull(name)
    found = await host.service.distribution(name)
    assert found.platforms == [{"architecture": "amd64", "os": "linux"}]


async def test_a_registrys_answer_says_how_much_a_pull_would_bring(
    registry: Any, image_layout: Any, host: Any, tools: Any
) -> None:
    layers = [tools.make_layer({"a": b"1" * 5000}), tools.make_layer({"b": b"2"})]
    image_layout.name("base", image_layout.image(layers[:1]))
    image_layout.name("v1", image_layout.image(layers))
    for tag in ("base", "v1"):
        registry.push(image_layout, tag, f"app:{tag}")

    async def bytes_of(tag: str) -> int:
        found = await host.service.distribution(f"{registry.host}/app:{tag}")
        return int(found.descriptor["annotations"][PULL_SIZE])

    base, whole = await bytes_of("base"), await bytes_of("v1")
    assert 0 < base < whole
    await host.pull(f"{registry.host}/app:base")
    assert await bytes_of("base") == 0
    assert await bytes_of("v1") == whole - base


async def test_what_is_not_there_is_not_found(registry: Any, host: Any) -> None:
    with pytest.raises(errors.NotFound, match=r"manifest for .*/nothing:latest not found: manifest unknown"):
        await host.pull(f"{registry.host}/nothing")
    assert host.service.list() == []


async def test_all_tags_are_listed(registry: Any, image_layout: Any, host: Any, tools: Any) -> None:
    image_layout.name("v1", image_layout.image([tools.make_layer({"a": b"1"})]))
    for tag in ("one", "two"):
        registry.push(image_layout, "v1", f"app:{tag}")
    assert sorted(await host.service.tags(f"{registry.host}/app")) == ["one", "two"]


async def test_127_layers_fit_one_page_of_mount_options(
    registry: Any, image_layout: Any, host: Any, tools: Any
) -> None:
    image_layout.name("deep", image_layout.image([tools.make_layer({f"f{n}": b"%d" % n}) for n in range(127)]))
    registry.push(image_layout, "deep", "deep:1")
    image_id = await host.pull(f"{registry.host}/deep:1")
    options = "lowerdir=" + ":".join(str(path) for path in host.service.layers(image_id))
    assert len(options) < 4096
    target = host.root / "merged"
    target.mkdir()
    # Newer mounts hand option by option to the kernel, which takes no more than 255 bytes of each.
    script = (
        'LIBMOUNT_FORCE_MOUNT2=always mount -t overlay overlay -o "$1" "$2" && cat "$2/f0" "$2/f126" && ls "$2" | wc -l'
    )
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script, "sh", options, target], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["0126127"]


@pytest.mark.parametrize("way", ["pull", "load", "again"])
async def test_a_path_through_a_symlink_of_the_base_lands_where_the_link_leads(
    way: str, registry: Any, image_layout: Any, host: Any, tools: Any, tmp_path: Any
) -> None:
    base = [tools.make_layer({"usr": None, "usr/lib": None, "lib": "usr/lib"}), tools.make_layer({"more": b""})]
    top = tools.make_layer({"lib/x": b"found"})
    image_layout.name("one", image_layout.image([base[0], top]))
    image_layout.name("two", image_layout.image([*base, top]))
    if way == "load":
        path = tmp_path / "image.tar"
        tools.copy(f"oci:{image_layout.path}:one", f"docker-archive:{path}:linked:1")
        image_id = host.service.resolve((await host.service.load(path))[0])
    else:
        registry.push(image_layout, "one", "linked:1")
        image_id = await host.pull(f"{registry.host}/linked:1")
    if way == "again":  # the blob of the top layer is in the store, on another base
        registry.push(image_layout, "two", "linked:2")
        image_id = await host.pull(f"{registry.host}/linked:2")
    assert (host.service.layers(image_id)[0] / "usr/lib/x").read_bytes() == b"found"
    assert host.temporary() == []


async def test_below_an_opaque_root_nothing_is_mounted(registry: Any, image_layout: Any, host: Any, tools: Any) -> None:
    layers = [tools.make_layer({"old": b"1"}), tools.make_layer({".wh..wh..opq": b"", "new": b"2"})]
    image_layout.name("o", image_layout.image(layers))
    registry.push(image_layout, "o", "opaque:1")
    image_id = await host.pull(f"{registry.host}/opaque:1")
    assert [sorted(path.name for path in layer.iterdir()) for layer in host.service.layers(image_id)] == [["new"]]


async def test_an_image_without_layers_can_be_pulled(registry: Any, image_layout: Any, host: Any) -> None:
    image_layout.name("none", image_layout.image([]))
    registry.push(image_layout, "none", "none:1")
    assert host.service.layers(await host.pull(f"{registry.host}/none:1")) == []
