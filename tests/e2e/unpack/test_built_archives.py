"""Archives that we write are taken by skopeo and by a real dockerd, under the id that we knew before."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gitops.engine.images import unpack
from gitops.oci import archive, builder
from gitops.oci.builder import BuildConfig, BuildPlan, ContentEntry, FileEntry, LinkEntry

pytestmark = pytest.mark.e2e

PLAN = BuildPlan(
    layers=[
        [FileEntry(Path("/bin/busybox"), "/bin/busybox", mode=0o755), LinkEntry("/bin/busybox", "/bin/sh")],
        [ContentEntry(b"v1\n", "/etc/version", uid=7)],
    ],
    config=BuildConfig(
        cmd=["/bin/sh"],
        env={"LANG": "C"},
        working_dir="/",
        exposed_ports=["8080"],
        labels={"a": "b"},
        stop_signal="SIGINT",
    ),
    tags=["tu-demo:v1", "registry.example/demo:2"],
)


@pytest.fixture
def built(tmp_path: Path) -> tuple[Path, str]:
    """An archive and the id of its image."""
    path = tmp_path / "image.tar"
    with builder.build(PLAN) as image, path.open("wb") as output:
        builder.write_archive(image, output)
        return path, image.id


def skopeo(*arguments: object) -> str:
    done = subprocess.run(["skopeo", *map(str, arguments)], check=True, capture_output=True, text=True)
    return done.stdout


def test_skopeo_reads_both_forms_and_gets_our_config(built: tuple[Path, str], tmp_path: Path) -> None:
    path, image_id = built
    for source in (f"docker-archive:{path}:docker.io/library/tu-demo:v1", f"oci-archive:{path}:v1"):
        config = json.loads(skopeo("inspect", "--config", source))
        assert config["config"]["Cmd"] == ["/bin/sh"]
        assert config["config"]["StopSignal"] == "SIGINT"
    skopeo("--insecure-policy", "copy", f"oci-archive:{path}:v1", f"oci:{tmp_path}/layout:x")
    manifest = skopeo("inspect", "--raw", f"oci:{tmp_path}/layout:x")
    assert json.loads(manifest)["config"]["digest"] == image_id


@pytest.mark.parametrize("form", ["docker-archive", "oci-archive", "oci"])
def test_archives_of_skopeo_are_read(built: tuple[Path, str], tmp_path: Path, form: str) -> None:
    path, image_id = built
    copy = tmp_path / "copy"
    name = "registry.example/demo:9" if form == "docker-archive" else "v9"
    skopeo("--insecure-policy", "copy", f"oci-archive:{path}:v1", f"{form}:{copy}:{name}")
    with archive.open_archive(copy) as opened:
        [image] = opened.images
        assert len(image.layers) == 2
        assert image.parsed_config().run.cmd == ["/bin/sh"]
        if form != "docker-archive":
            assert image.id == image_id
        with image.layers[1].open() as content:
            assert content.read(2) == (b"\x1f\x8b" if form != "docker-archive" else b"et")


@pytest.mark.parametrize("compress", [bytes, gzip.compress], ids=["plain", "gzip"])
async def test_layers_of_an_archive_go_straight_to_the_unpacker(
    built: tuple[Path, str], lab: Any, tmp_path: Path, compress: Callable[[bytes], bytes]
) -> None:
    path = tmp_path / "packed.tar"
    path.write_bytes(compress(built[0].read_bytes()))
    with archive.open_archive(path, scratch=tmp_path) as opened:
        layer = opened.images[0].layers[1]
        source = unpack.FileSource(layer.path, layer.offset, layer.size)
        job = unpack.LayerJob(
            source, lab.fresh(), layer.digest, layer.size, layer.media_type, layer.diff_id, tmp_path / "blob"
        )
        await lab.unpacker.unpack(job, lambda _: None)
        with layer.open() as content:
            assert content.read() == (tmp_path / "blob").read_bytes()
    assert (job.target / "etc/version").read_text() == "v1\n"
    assert (job.target / "etc/version").stat().st_uid == 7


@pytest.fixture
def dockerd(tmp_path: Path) -> Iterator[Callable[..., str]]:
    """The docker CLI on a daemon of its own, without networks, that is gone afterwards."""
    assert shutil.which("dockerd"), "this test needs dockerd: scripts/packages run test"
    # Short: the path of containerd's longest socket must stay under 108 bytes.
    root = Path(tempfile.mkdtemp(prefix="gd-"))
    socket = f"unix://{root}/docker.sock"
    command = [
        *("dockerd", "--host", socket, "--data-root", root / "data", "--exec-root", root / "exec"),
        *("--pidfile", root / "pid", "--storage-driver", "vfs", "--bridge", "none", "--iptables=false"),
        *("--ip6tables=false", "--ip-forward=false"),
    ]
    with (tmp_path / "dockerd.log").open("wb") as log:
        daemon = subprocess.Popen(["unshare", "--net", *command], stdout=log, stderr=log)

    def docker(*arguments: object, check: bool = True) -> str:
        words = ["docker", "-H", socket, *map(str, arguments)]
        environment = {**os.environ, "HOME": str(tmp_path)}
        return subprocess.run(words, check=check, capture_output=True, text=True, env=environment).stdout

    try:
        deadline = time.monotonic() + 60
        while not docker("version", "--format", "{{.Server.Version}}", check=False).strip():
            assert daemon.poll() is None and time.monotonic() < deadline, (tmp_path / "dockerd.log").read_text()[-2000:]
            time.sleep(0.1)
        yield docker
    finally:
        daemon.terminate()
        daemon.wait(30)
        subprocess.run(["umount", root / "data"], check=False, capture_output=True)  # it leaves that where it fails
        shutil.rmtree(root)


def test_dockerd_loads_the_archive_under_the_id_that_we_knew(
    built: tuple[Path, str], dockerd: Callable[..., str], tmp_path: Path
) -> None:
    path, image_id = built
    dockerd("load", "-i", path)
    for name in ("tu-demo:v1", "registry.example/demo:2"):
        [image] = json.loads(dockerd("image", "inspect", name))
        assert image["Id"] == image_id
        assert image["Config"]["Env"] == ["LANG=C"]
        assert image["Config"]["ExposedPorts"] == {"8080/tcp": {}}
    assert [line for line in dockerd("history", "-q", "tu-demo:v1").split() if line]
    saved = tmp_path / "saved.tar"
    dockerd("save", "-o", saved, "tu-demo:v1")
    with archive.open_archive(saved) as opened:
        [reread] = opened.images
        assert reread.id == image_id
        assert reread.tags == ["docker.io/library/tu-demo:v1"]
