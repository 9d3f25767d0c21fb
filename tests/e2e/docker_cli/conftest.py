"""For the docker CLI: an image of Debian's static busybox in docker's own archive format, and a terminal to type in."""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import os
import re
import select
import struct
import subprocess
import tarfile
import termios
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

_APPLETS = (
    *("sh", "cat", "echo", "false", "head", "hostname", "httpd", "id", "kill", "ls", "nslookup", "ps", "seq", "sleep"),
    *("stty", "touch", "true", "wc", "wget"),
)


def _add(archive: tarfile.TarFile, name: str, data: bytes, mode: int = 0o644) -> None:
    item = tarfile.TarInfo(name)
    item.size, item.mode = len(data), mode
    archive.addfile(item, io.BytesIO(data))


def _layer(text: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        _add(archive, "bin/busybox", Path("/bin/busybox").read_bytes(), 0o755)
        _add(archive, "bin/bash", b'#!/bin/sh\nexport PS1="\\u@\\h:\\w# "\nexec /bin/sh "$@"\n', 0o755)
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
    return _archives(tmp_path)


@pytest.fixture(scope="module")
def loaded_host(module_host: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The module's host with the image app:1."""
    module_host.docker("load", "-i", str(_archives(tmp_path_factory.mktemp("image"))("app:1")))
    return module_host


@pytest.fixture
def loaded(loaded_host: Any) -> Iterator[Any]:
    """The module's host with the image app:1 and, after the test, without the containers that it made."""
    yield loaded_host
    if made := loaded_host.docker("ps", "-aq").split():
        loaded_host.docker("rm", "-f", *made)


def _archives(folder: Path) -> Callable[[str], Path]:
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
        path = folder / f"{tag.replace(':', '-').replace('/', '-')}.tar"
        with tarfile.open(path, "w") as outer:
            _add(outer, name, data)
            _add(outer, "0/layer.tar", layer)
            manifest = [{"Config": name, "RepoTags": [tag], "Layers": ["0/layer.tar"]}]
            _add(outer, "manifest.json", json.dumps(manifest).encode())
        return path

    return make


class Terminal:
    """A program with a terminal of its own, as a person has one: what it shows, what is typed, its size."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], rows: int, columns: int) -> None:
        self.shown = ""
        """All that was shown and not yet expected."""
        self._master, slave = os.openpty()
        self.resize(rows, columns)
        self.process = subprocess.Popen(
            list(command),
            env=dict(environment),
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            # The terminal becomes the program's own, so that a new size reaches it as a signal.
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(slave)

    def resize(self, rows: int, columns: int) -> None:
        """As when a person drags the window's corner."""
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, text: str) -> None:
        """Keys; a line ends in "\\r"."""
        os.write(self._master, text.encode())

    def expect(self, pattern: str, timeout: float = 60) -> re.Match[str]:
        """Wait until it is shown; what came before and with it counts no more afterwards."""
        end = time.monotonic() + timeout
        while (match := re.search(pattern, self.shown)) is None:
            left = end - time.monotonic()
            if left <= 0 or not self._read(left):
                raise AssertionError(f"{pattern!r} was not shown: {self.shown!r}")
        self.shown = self.shown[match.end() :]
        return match

    def ends(self, timeout: float = 60) -> int:
        """Wait for the program's end; its exit code."""
        end = time.monotonic() + timeout
        while self._read(max(0.0, end - time.monotonic())):
            continue
        return self.process.wait(max(1.0, end - time.monotonic()))

    def _read(self, timeout: float) -> bool:
        if not select.select([self._master], [], [], timeout)[0]:
            return False
        try:
            data = os.read(self._master, 65536)
        except OSError:
            return False
        self.shown += data.decode(errors="replace")
        return bool(data)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._master)


@pytest.fixture
def terminal() -> Iterator[Callable[..., Terminal]]:
    """Runs the docker CLI of a host, or another program with its output, in a terminal."""
    opened: list[Terminal] = []

    def run(host: Any, *arguments: str, rows: int = 24, columns: int = 80, program: str | Path = "docker") -> Terminal:
        opened.append(Terminal(host.command(program, *arguments), host.environment, rows, columns))
        return opened[-1]

    yield run
    for one in opened:
        one.close()
