"""Layers to try the unpacker with, and what a tree looks like: shared by the tests of this folder."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import stat
import subprocess
import tarfile
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from gitops.engine.images import unpack

Entry = tuple[tarfile.TarInfo, bytes]


def make_entry(name: str, data: bytes = b"", **fields: object) -> Entry:
    """One member: a file unless `type` says another."""
    info = tarfile.TarInfo(name)
    info.size = len(data)
    info.mtime = 1_000_000_000
    for key, value in fields.items():
        setattr(info, key, value)
    return info, data


def make_layer(*entries: Entry) -> bytes:
    """A tar as it stands; names are not normalised."""
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for info, data in entries:
            tar.addfile(info, io.BytesIO(data))
    return output.getvalue()


def digest_of(data: bytes) -> str:
    """sha256, as images write it."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@dataclass
class Tree:
    """What `lstat` and friends say of every entry below a root."""

    entries: dict[bytes, tuple[object, ...]] = field(default_factory=dict)
    times: dict[bytes, int] = field(default_factory=dict)
    groups: set[frozenset[bytes]] = field(default_factory=set)


def scan(root: Path) -> Tree:
    """All of a tree but link counts: overlayfs shows those of the lower file system."""
    tree = Tree()
    inodes: dict[tuple[int, int], set[bytes]] = {}
    base = os.fsencode(root)
    todo = [b""]
    while todo:
        path = todo.pop()
        full = os.path.join(base, path)
        status = os.lstat(full)
        tree.entries[path or b"."] = _describe(full, status)
        tree.times[path or b"."] = status.st_mtime_ns
        if stat.S_ISDIR(status.st_mode):
            todo += [os.path.join(path, name) for name in os.listdir(full)]
        else:
            inodes.setdefault((status.st_dev, status.st_ino), set()).add(path)
    tree.groups = {frozenset(names) for names in inodes.values() if len(names) > 1}
    return tree


def _describe(path: bytes, status: os.stat_result) -> tuple[object, ...]:
    xattrs = {
        name: os.getxattr(path, name, follow_symlinks=False)
        for name in os.listxattr(path, follow_symlinks=False)
        if not name.startswith("trusted.overlay.")
    }
    content: object = None
    if stat.S_ISREG(status.st_mode):
        with open(path, "rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
    elif stat.S_ISLNK(status.st_mode):
        content = os.readlink(path)
    size = 0 if stat.S_ISDIR(status.st_mode) else status.st_size
    return status.st_mode, status.st_uid, status.st_gid, size, status.st_rdev, content, xattrs


@dataclass
class Lab:
    """Unpacks layers with ours and with umoci."""

    folder: Path
    unpacker: unpack.Unpacker
    count: int = 0

    def fresh(self) -> Path:
        """An empty directory that only root can reach."""
        self.count += 1
        path = self.folder / f"layer-{self.count}"
        path.mkdir(mode=0o700)
        return path

    def job(
        self, data: bytes, *, compress: Callable[[bytes], bytes] = gzip.compress, **changes: object
    ) -> unpack.LayerJob:
        """A job for a layer that lies in a file."""
        blob = compress(data)
        target = self.fresh()
        path = target.with_suffix(".blob")
        path.write_bytes(blob)
        fields: dict[str, object] = {
            "source": unpack.FileSource(path),
            "target": target,
            "digest": digest_of(blob),
            "size": len(blob),
            "diff_id": digest_of(data),
            **changes,
        }
        return unpack.LayerJob(**fields)  # type: ignore[arg-type]

    async def unpack(self, data: bytes, **changes: object) -> tuple[Path, unpack.LayerResult]:
        """One layer, not finished."""
        job = self.job(data, **changes)  # type: ignore[arg-type]
        return job.target, await self.unpacker.unpack(job, lambda _: None)

    async def stack(self, layers: Sequence[bytes]) -> list[Path]:
        """All layers, finished, nearest to the top first; layers under an opaque root are left out."""
        lower: list[Path] = []
        for data in layers:
            job = self.job(data)
            result = await self.unpacker.unpack(job, lambda _: None)
            finished = unpack.finish(job.target, result, lower)
            if finished.redo:
                job = self.job(data)
                result = await self.unpacker.redo(job, lower, lambda _: None)
                finished = unpack.finish(job.target, result, lower)
                assert not finished.redo
            lower = [job.target] if finished.opaque_root else [job.target, *lower]
        return lower

    @contextmanager
    def mounted(self, layers: Sequence[Path]) -> Iterator[Path]:
        """The layers as overlayfs shows them, nearest first."""
        if len(layers) == 1:
            yield layers[0]
            return
        self.count += 1
        target = self.folder / f"merged-{self.count}"
        target.mkdir()
        options = "lowerdir=" + ":".join(str(layer) for layer in layers)
        # Newer mounts hand option by option to the kernel, which takes no more than 255 bytes of each.
        environment = {**os.environ, "LIBMOUNT_FORCE_MOUNT2": "always"}
        subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, target], check=True, env=environment)
        try:
            yield target
        finally:
            subprocess.run(["umount", target], check=True)

    def umoci(self, layers: Sequence[bytes]) -> Path:
        """What `umoci unpack` makes of the same layers."""
        self.count += 1
        layout = self.folder / f"layout-{self.count}"
        bundle = self.folder / f"bundle-{self.count}"
        write_layout(layout, layers)
        subprocess.run(["umoci", "unpack", "--image", f"{layout}:x", bundle], check=True, capture_output=True)
        return bundle / "rootfs"


def write_layout(path: Path, layers: Sequence[bytes]) -> None:
    """An OCI layout of one image with the tag x."""

    def blob(data: bytes, media_type: str) -> dict[str, object]:
        name = path / "blobs" / "sha256" / digest_of(data)[7:]
        name.parent.mkdir(parents=True, exist_ok=True)
        name.write_bytes(data)
        return {"mediaType": media_type, "digest": digest_of(data), "size": len(data)}

    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": [digest_of(layer) for layer in layers]},
        "history": [{"created_by": "test"} for _ in layers],
    }
    manifest = {
        "schemaVersion": 2,
        "config": blob(json.dumps(config).encode(), "application/vnd.oci.image.config.v1+json"),
        "layers": [blob(gzip.compress(layer), "application/vnd.oci.image.layer.v1.tar+gzip") for layer in layers],
    }
    entry = blob(json.dumps(manifest).encode(), "application/vnd.oci.image.manifest.v1+json")
    entry["annotations"] = {"org.opencontainers.image.ref.name": "x"}
    (path / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    (path / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    unpacker = unpack.Unpacker()
    unpacker.start()
    yield Lab(tmp_path, unpacker)
    await unpacker.close()


@pytest.fixture
def entry() -> Callable[..., Entry]:
    return make_entry


@pytest.fixture
def layer() -> Callable[..., bytes]:
    return make_layer


@pytest.fixture
def tree() -> Callable[[Path], Tree]:
    return scan
