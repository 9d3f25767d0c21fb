"""An image of Debian's static busybox in docker's own archive format, for the docker CLI to load."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

_APPLETS = ("sh", "cat", "echo", "false", "hostname", "httpd", "id", "ls", "nslookup", "seq", "sleep", "true", "wget")


def _add(archive: tarfile.TarFile, name: str, data: bytes, mode: int = 0o644) -> None:
    item = tarfile.TarInfo(name)
    item.size, item.mode = len(data), mode
    archive.addfile(item, io.BytesIO(data))


def _layer(text: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        _add(archive, "bin/busybox", Path("/bin/busybox").read_bytes(), 0o755)
        _add(archive, "www/index.html", f"{text}\n".encode())
        _add(archive, "etc/passwd", b"root:x:0:0:root:/root:/bin/sh\nworker:x:1001:1002::/home/worker:/bin/sh\n")
        _add(archive, "etc/group", b"root:x:0:\nstaff:x:1002:\nextra:x:1003:worker\n")
        for applet in _APPLETS:
            item = tarfile.TarInfo(f"bin/{applet}")
            item.type, item.linkname = tarfile.SYMTYPE, "/bin/busybox"
            archive.addfile(item)
    return buffer.getvalue()


@pytest.fixture
def archive(tmp_path: Path) -> Callable[[str], Path]:
    """Makes the archive of an image `tag` that can serve the tag's text over HTTP."""

    def make(tag: str) -> Path:
        layer = _layer(tag)
        config = {
            "architecture": "amd64",
            "os": "linux",
            "created": "2026-01-01T00:00:00Z",
            "config": {"Cmd": ["/bin/sh"], "Env": ["PATH=/bin"], "Labels": {"made.by": "test"}},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
            "history": [{"created": "2026-01-01T00:00:00Z", "created_by": "test"}],
        }
        data = json.dumps(config).encode()
        name = f"{hashlib.sha256(data).hexdigest()}.json"
        path = tmp_path / f"{tag.replace(':', '-').replace('/', '-')}.tar"
        with tarfile.open(path, "w") as outer:
            _add(outer, name, data)
            _add(outer, "0/layer.tar", layer)
            manifest = [{"Config": name, "RepoTags": [tag], "Layers": ["0/layer.tar"]}]
            _add(outer, "manifest.json", json.dumps(manifest).encode())
        return path

    return make
