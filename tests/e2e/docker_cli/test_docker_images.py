"""Images through the docker CLI beside pull and push: saved, imported, pruned; and `docker login`."""

from __future__ import annotations

import base64
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.e2e


def ids(host: Any, *names: str) -> list[str]:
    return [image["Id"] for image in json.loads(host.docker("image", "inspect", *names))]


def test_saved_images_are_the_same_wherever_they_are_loaded(
    loaded: Any, archive: Callable[[str], Path], tmp_path: Path
) -> None:
    host = loaded
    host.docker("load", "-i", str(archive("app:2")))
    host.docker("tag", "app:1", "team/other:x")
    before, saved = ids(host, "app:1", "app:2"), tmp_path / "saved.tar"
    host.docker("save", "-o", str(saved), "app", "team/other:x")
    with tarfile.open(saved) as tar:
        (lines,) = [json.load(tar.extractfile("manifest.json") or tar)]
    assert sorted(tag for line in lines for tag in line["RepoTags"]) == ["app:1", "app:2", "team/other:x"]
    # Another reader agrees.
    shown = json.loads(host.run("skopeo", "inspect", f"docker-archive:{saved}:app:2").stdout)
    assert shown["Layers"] == json.loads(host.docker("image", "inspect", "app:2"))[0]["RootFS"]["Layers"]
    host.docker("rmi", "-f", "app:1", "app:2", "team/other:x")
    host.docker("load", "-i", str(saved))
    assert ids(host, "app:1", "app:2") == before and ids(host, "team/other:x") == before[:1]
    assert host.docker("run", "--rm", "app:2", "cat", "/www/index.html") == "app:2\n"
    # By its id an image has no name; what isn't there is told before anything is written.
    host.docker("save", "-o", str(saved), before[1])
    host.docker("rmi", "-f", "app:2", "team/other:x")
    host.docker("load", "-i", str(saved))
    assert before[1] in host.docker("images", "-q", "--no-trunc", "--filter", "dangling=true")
    assert "No such image: nothing:1" in host.docker_fails("save", "-o", str(tmp_path / "no.tar"), "app:1", "nothing:1")
    assert not (tmp_path / "no.tar").exists()
    assert before[1] in host.docker("image", "prune", "-f")
    assert host.docker("images", "-q", "--filter", "dangling=true") == ""


def test_a_tree_is_imported_with_what_to_run(loaded: Any, tmp_path: Path) -> None:
    host, tree = loaded, tmp_path / "tree.tar.gz"
    with tarfile.open(tree, "w:gz") as tar:
        tar.add("/bin/busybox", "bin/busybox")
    changes = ['CMD ["/bin/busybox","env"]', "ENV GREETING=hello PATH=/bin", "LABEL made.by=import", "EXPOSE 80"]
    flags = [part for change in changes for part in ("-c", change)]
    image_id = host.docker("import", *flags, "-m", "brought", str(tree), "imported:1").strip()
    (image,) = json.loads(host.docker("image", "inspect", "imported:1"))
    assert image["Id"] == image_id and image["Comment"] == "brought" and len(image["RootFS"]["Layers"]) == 1
    assert image["Config"]["Labels"] == {"made.by": "import"} and image["Config"]["ExposedPorts"] == {"80/tcp": {}}
    assert "GREETING=hello" in host.docker("run", "--rm", "imported:1")
    assert "RUN is not a valid change command" in host.docker_fails("import", "-c", "RUN true", str(tree))
    (tmp_path / "no.tar").write_bytes(b"this is no archive" * 100)
    host.docker_fails("import", str(tmp_path / "no.tar"), "broken:1")
    assert host.docker("images", "-q", "broken") == ""
    host.docker("rmi", "imported:1")


def test_a_prune_takes_what_no_container_has(host: Any, archive: Callable[[str], Path]) -> None:
    for tag in ("app:1", "app:2", "app:3"):
        host.docker("load", "-i", str(archive(tag)))
    first, second, third = ids(host, "app:1", "app:2", "app:3")
    host.docker("create", "--name", "user", "app:1")
    host.docker("tag", "app:2", "app:3")
    assert third in host.docker("image", "prune", "-f")
    assert set(host.docker("images", "-q", "--no-trunc").split()) == {first, second}
    assert "deleted" not in host.docker("image", "prune", "-af", "--filter", "label=made.by=nobody").lower()
    assert "deleted" not in host.docker("image", "prune", "-af", "--filter", "until=2020-01-01T00:00:00Z").lower()
    usage = host.docker("system", "df")
    assert "Images" in usage and "Reclaimable".upper() in usage
    done = host.docker("image", "prune", "-af", "--filter", "until=1h")
    assert second in done and first not in done and "Total reclaimed space: 0B" not in done
    assert host.docker("images", "-q", "--no-trunc").split() == [first]


def test_credentials_are_tried_at_the_registry_and_kept_by_the_client(host: Any, tmp_path: Path) -> None:
    users = "alice:$2b$04$YRHaZpA3SYJeEhIFpV3fIOELwBfW2Nf7v7aCJdzQfp.UIk5zQ1zv2\n"
    (tmp_path / "users").write_text(users)
    config = tmp_path / "registry.yml"
    config.write_text(
        "version: 0.1\nstorage: {filesystem: {rootdirectory: " + str(tmp_path / "registry") + "}}\n"
        "http: {addr: '127.0.0.1:5000'}\n"
        f"auth: {{htpasswd: {{realm: here, path: {tmp_path / 'users'}}}}}\n"
    )
    host.spawn("docker-registry", "serve", config, log=tmp_path / "registry.log")
    host.wait(lambda: host.run("curl", "-s", "http://127.0.0.1:5000/v2/", check=False).returncode == 0, 10, "silent")

    def login(password: str) -> Any:
        command = ("docker", "login", "-u", "alice", "--password-stdin", "127.0.0.1:5000")
        return host.run(*command, stdin=password, check=False)

    refused = login("wrong")
    assert refused.returncode != 0 and "incorrect username or password" in refused.stderr
    assert "Login Succeeded" in login("correct horse").stdout
    kept = json.loads((host.directory / "docker-config" / "config.json").read_text())["auths"]["127.0.0.1:5000"]["auth"]
    assert base64.b64decode(kept).decode() == "alice:correct horse"


def test_a_mirror_stands_for_the_public_registry(
    make_host: Any, archive: Callable[[str], Path], tmp_path: Path
) -> None:
    host = make_host()
    config = tmp_path / "registry.yml"
    config.write_text(
        "version: 0.1\nstorage: {filesystem: {rootdirectory: " + str(tmp_path / "registry") + "}}\n"
        "http: {addr: '127.0.0.1:5000'}\n"
    )
    host.spawn("docker-registry", "serve", config, log=tmp_path / "registry.log")
    host.wait(lambda: host.get("http://127.0.0.1:5000/v2/"), 10, "the registry does not answer")
    source = f"docker-archive:{archive('app:1')}"
    host.run("skopeo", "copy", "--dest-tls-verify=false", source, "docker://127.0.0.1:5000/library/app:1")
    host.options = ["--registry-mirror", "http://127.0.0.1:5000", "--insecure-registry", "10.0.0.0/8"]
    host.start()
    assert "Downloaded newer image for app:1" in host.docker("pull", "app:1")
    assert host.docker("run", "--rm", "app:1", "cat", "/www/index.html") == "app:1\n"
    info = json.loads(host.docker("info", "--format", "{{json .RegistryConfig}}"))
    assert info["Mirrors"] == ["http://127.0.0.1:5000"] and "10.0.0.0/8" in info["InsecureRegistryCIDRs"]
    host.docker(
        "run", "--name", "writer", "-v", "data:/data", "app:1", "sh", "-c", "seq 1 100000 > /data/x; seq 1 9 > /y"
    )
    shown = host.api("/system/df?type=volume&type=container&type=image")
    assert shown["Volumes"][0]["UsageData"]["RefCount"] == 1 and shown["Volumes"][0]["UsageData"]["Size"] > 500_000
    assert shown["Containers"][0]["SizeRw"] > 0 and shown["Images"][0]["Containers"] == 1
    assert "BuildCache" not in shown
