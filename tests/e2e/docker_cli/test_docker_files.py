"""`docker cp`, `export` and `diff` on containers that run, that ended, and that never ran."""

from __future__ import annotations

import io
import json
import os
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.e2e


def _members(host: Any, *arguments: str) -> list[tarfile.TarInfo]:
    done = subprocess.run(host.command("docker", *arguments), env=host.environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        return archive.getmembers()


def test_files_go_in_and_out_of_containers_in_every_state(loaded: Any, tmp_path: Path) -> None:
    (tmp_path / "dir").mkdir()
    (tmp_path / "dir" / "file").write_text("hello\n")
    (tmp_path / "bound").mkdir()
    create = ["create", "--name", "box", "-v", "data:/data", "-v", f"{tmp_path}/bound:/bound:ro", "--tmpfs", "/t"]
    loaded.docker(*create, "app:1", "sh", "-c", "echo ran >/run.txt; exec sleep 1000")
    for state in ("created", "running", "exited"):
        if state == "running":
            loaded.docker("start", "box")
        elif state == "exited":
            loaded.docker("kill", "box")
            loaded.docker("wait", "box")
        loaded.docker("cp", f"{tmp_path}/dir", f"box:/www/{state}")
        loaded.docker("cp", f"{tmp_path}/dir/file", f"box:/data/{state}")
        for path in (f"/www/{state}/file", f"/data/{state}"):
            target = tmp_path / f"{state}{path.replace('/', '-')}"
            loaded.docker("cp", f"box:{path}", str(target))
            assert target.read_text() == "hello\n"
        assert "marked read-only" in loaded.docker_fails("cp", f"{tmp_path}/dir/file", "box:/bound/x")
        assert "Could not find the file /none in container box" in loaded.docker_fails("cp", "box:/none", str(tmp_path))
        assert "No such container" in loaded.docker_fails("cp", "nobody:/x", str(tmp_path))
        assert "cannot copy directory" in loaded.docker_fails("cp", f"{tmp_path}/dir", "box:/etc/passwd")
    names = [item.name for item in _members(loaded, "cp", "box:/www/.", "-")]
    assert names[0] == "." and {"./index.html", "./created/file", "./exited/file"} <= set(names)
    exported = [item.name for item in _members(loaded, "export", "box")]
    assert {"bin/busybox", "run.txt", "www/running/file"} <= set(exported)
    assert not [name for name in exported if name.startswith("data/")]
    assert [name for name in loaded.mounts() if "view" in name or "rootfs" in name] == []
    data = Path(loaded.docker("volume", "inspect", "-f", "{{.Mountpoint}}", "data").strip())
    assert sorted(path.name for path in data.iterdir()) == ["created", "exited", "running"]
    loaded.docker("rm", "-f", "-v", "box")


def test_links_of_a_hostile_container_lead_to_no_file_of_the_host(loaded: Any, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("the host's\n")
    script = f"busybox ln -s {tmp_path} /out; busybox ln -s ../../../../../../..{tmp_path} /up; busybox ln -s /www /w; "
    script += "busybox ln -s /proc/1/root /magic; exec sleep 1000"
    loaded.docker("run", "-d", "--name", "box", "app:1", "sh", "-c", script)
    loaded.wait(lambda: "A /magic" in loaded.docker("diff", "box"))
    for state in ("running", "exited"):
        if state == "exited":
            loaded.docker("kill", "box")
        for path in ("/out/secret", "/up/secret", f"/magic{tmp_path}/secret"):
            assert "Could not find the file" in loaded.docker_fails("cp", f"box:{path}", str(tmp_path / "stolen"))
            assert loaded.docker_fails("cp", "-L", f"box:{path}", str(tmp_path / "stolen"))
        made = io.BytesIO()
        with tarfile.open(fileobj=made, mode="w") as hostile:
            for name in ("out/secret", "up/secret"):
                item = tarfile.TarInfo(name)
                item.size = 5
                hostile.addfile(item, io.BytesIO(b"stole"))
        command = loaded.command("docker", "cp", "-", "box:/")
        done = subprocess.run(command, env=loaded.environment, input=made.getvalue(), capture_output=True, check=False)
        assert done.returncode != 0
        assert _members(loaded, "cp", "box:/w", "-")[0].issym()
        loaded.docker("cp", "-L", "box:/w", str(tmp_path / f"followed-{state}"))
        assert (tmp_path / f"followed-{state}" / "index.html").read_text() == "app:1\n"
    assert secret.read_text() == "the host's\n" and not (tmp_path / "stolen").exists()


def test_owners_and_a_read_only_root(loaded: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    loaded.docker(
        "run", "-d", "--name", "box", "-u", "worker", "--read-only", "-v", "owned:/data", "app:1", "sleep", "1000"
    )
    assert "container rootfs is marked read-only" in loaded.docker_fails("cp", f"{tmp_path}/file", "box:/www/")
    loaded.docker("cp", f"{tmp_path}/file", "box:/data/file")
    item = _members(loaded, "cp", "box:/data/file", "-")[0]
    assert item.uid == os.getuid()
    loaded.docker("cp", "-a", f"{tmp_path}/file", "box:/data/kept")
    item = _members(loaded, "cp", "box:/data/kept", "-")[0]
    assert (item.uid, item.gid) == (1001, 1002)


def test_a_diff_shows_what_was_added_changed_and_deleted(loaded: Any) -> None:
    script = (
        "echo x >/new; echo y >>/www/index.html; busybox rm /etc/group; busybox rm -r /bin/httpd; busybox mkdir /d; "
    )
    script += "echo z >/d/f; busybox rm -rf /www2"
    loaded.docker("run", "-d", "--name", "box", "-v", "/vol", "--tmpfs", "/t", "app:1", "sh", "-c", script)
    loaded.docker("wait", "box")
    assert loaded.docker("diff", "box").split("\n")[:-1] == [
        *("C /bin", "D /bin/httpd", "A /d", "A /d/f", "C /etc", "D /etc/group", "A /new"),
        *("C /www", "C /www/index.html"),
    ]
    loaded.docker("create", "--name", "untouched", "app:1")
    assert loaded.docker("diff", "untouched") == ""


def test_an_image_is_made_of_a_container(loaded: Any) -> None:
    script = "echo new >/new; busybox rm /etc/group; busybox rm -rf /www; busybox mkdir /www; echo own >/www/own; "
    run = ["run", "-d", "--name", "box", "-e", "A=1", "-v", "whole:/data", "app:1", "sh", "-c"]
    loaded.docker(*run, script + "echo x >/data/x; echo done; exec sleep 1000")
    loaded.wait(lambda: "done" in loaded.docker("logs", "box"))
    flags = ["-c", 'CMD ["cat", "/new", "/www/own"]', "-c", "ENV B=2", "-c", "LABEL made=here", "-a", "me", "-m", "why"]
    made = loaded.docker("commit", *flags, "box", "kept:1").strip()
    assert loaded.docker("ps", "--format", "{{.Status}}").startswith("Up") and "Paused" not in loaded.docker("ps")
    (image,) = json.loads(loaded.docker("image", "inspect", "kept:1"))
    assert (image["Id"], image["Author"], image["Comment"]) == (made, "me", "why")
    assert {"A=1", "B=2"} <= set(image["Config"]["Env"]) and image["Config"]["Labels"]["made"] == "here"
    assert "sh -c echo new" in loaded.docker("history", "--no-trunc", "kept:1")
    assert loaded.docker("run", "--rm", "kept:1") == "new\nown\n"
    assert loaded.docker("run", "--rm", "kept:1", "ls", "/www", "/data").split() == ["/data:", "/www:", "own"]
    assert "group" not in loaded.docker("run", "--rm", "kept:1", "ls", "/etc").split()
    loaded.docker("kill", "box")
    assert loaded.docker("commit", "box").startswith("sha256:")
    assert "not a valid change command" in loaded.docker_fails("commit", "-c", "RUN x", "box")
    assert "No such container: gone" in loaded.docker_fails("commit", "gone")
