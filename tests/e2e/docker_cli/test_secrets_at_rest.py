"""A secret's value is on no disk: searched in every byte of a host that runs a task with it."""

from __future__ import annotations

import base64
import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.e2e

SHOW = "sleep 600"
CHUNK = 1 << 20


def forms(value: bytes) -> dict[str, bytes]:
    """The ways in which a value could lie somewhere."""
    return {
        "plain": value,
        "base64": base64.b64encode(value).rstrip(b"="),
        "hex": value.hex().encode(),
        "SHA-256": hashlib.sha256(value).hexdigest().encode(),
        "SHA-256, raw": hashlib.sha256(value).digest(),
    }


def files(root: Path) -> Iterator[Path]:
    """All regular files of a directory's own file system: what is mounted below it, tmpfs say, is memory."""
    device = root.stat().st_dev
    for folder, names, entries in os.walk(root):
        names[:] = [name for name in names if os.lstat(os.path.join(folder, name)).st_dev == device]
        for entry in entries:
            path = Path(folder, entry)
            try:
                found = path.lstat()
            except FileNotFoundError:
                continue
            if stat.S_ISREG(found.st_mode) and found.st_dev == device:
                yield path


def holders(root: Path, needles: dict[str, bytes]) -> list[str]:
    """The files that hold one of the needles, each with the needle's name."""
    longest = max(map(len, needles.values()))
    found = []
    for path in files(root):
        try:
            with path.open("rb") as file:
                tail, seen = b"", set()
                while chunk := file.read(CHUNK):
                    seen |= {name for name, needle in needles.items() if needle in tail + chunk}
                    tail = (tail + chunk)[-longest:]
        except FileNotFoundError:
            continue
        found += [f"{path}: {name}" for name in sorted(seen)]
    return found


def test_the_search_finds_what_lies_about(tmp_path: Path) -> None:
    value = os.urandom(24)
    for name, needle in forms(value).items():
        (tmp_path / name).write_bytes(b"x" * (CHUNK - 5) + needle + b"y")
    assert len(holders(tmp_path, forms(value))) == len(forms(value))


def test_a_secret_of_a_running_task_is_nowhere_but_in_memory(
    swarm: Any, archive: Callable[[str], Path], tmp_path: Path
) -> None:
    value = os.urandom(24).hex().encode()
    needles = forms(value)
    source = tmp_path / "value"
    source.write_bytes(value)
    swarm.docker("load", "-i", str(archive("app:1")))
    swarm.docker("secret", "create", "key", str(source))
    swarm.docker(
        *("service", "create", "--quiet", "--name", "app", "--no-resolve-image", "--update-monitor", "500ms"),
        *("--stop-grace-period", "1s", "--secret", "key", "app:1", "sh", "-c", SHOW),
    )
    (entry,) = swarm.containers()
    pid = swarm.api(f"/containers/{entry['Id']}/json")["State"]["Pid"]
    assert Path(f"/proc/{pid}/root/run/secrets/key").read_bytes() == value

    def look() -> list[str]:
        return holders(swarm.data_root, needles) + holders(swarm.run_root, needles)

    assert look() == []
    processes = b"".join(path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.parent.is_dir())
    said = swarm.log.read_bytes()
    shown = (swarm.docker("secret", "inspect", "key") + swarm.docker("service", "inspect", "app")).encode()
    for name, needle in needles.items():
        assert needle not in processes, name
        assert needle not in said, name
        assert needle not in shown, name
    swarm.kill()
    assert look() == []
    swarm.start()
    swarm.docker("service", "rm", "app")
    swarm.wait(lambda: not swarm.docker("ps", "-aq"), 30)
    swarm.docker("secret", "rm", "key")
    swarm.stop()
    assert look() == []
