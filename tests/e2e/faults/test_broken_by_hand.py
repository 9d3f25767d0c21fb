"""Somebody kills, unmounts or deletes one thing of a running host: it is healed or said, and nothing else suffers."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

HTTPD = ("/bin/busybox", "httpd", "-f", "-p", "8080", "-h", "/www")

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]


def one(served: Any) -> str:
    return next(iter(served.web()))


def test_a_killed_first_process_is_replaced(served: Any) -> None:
    former = one(served)
    os.kill(served.pid(former), signal.SIGKILL)
    served.replaced(former)
    served.settled()
    served.calm()


def test_a_container_whose_conmon_is_killed_is_watched_on_and_its_end_is_seen(served: Any) -> None:
    former = one(served)
    os.kill(served.conmon(former), signal.SIGKILL)
    time.sleep(1)
    assert served.host.get("http://127.0.0.1:8080/") == "v1\n"
    if former in served.web():
        os.kill(served.pid(former), signal.SIGKILL)
    served.replaced(former)
    served.settled()
    served.calm()


def test_a_container_that_is_killed_together_with_its_conmon_is_replaced(served: Any) -> None:
    former = one(served)
    conmon, pid = served.conmon(former), served.pid(former)
    os.kill(conmon, signal.SIGKILL)
    os.kill(pid, signal.SIGKILL)
    served.replaced(former)
    served.settled()
    served.calm()


def test_a_plain_container_without_its_conmon_can_be_stopped_and_removed(served: Any) -> None:
    plain = served.run_plain("plain")
    os.kill(served.conmon(plain), signal.SIGKILL)
    began = time.monotonic()
    served.host.docker("stop", "-t", "2", "plain")
    assert time.monotonic() - began < 10
    state = served.state("plain")
    assert (state["Status"], state["ExitCode"]) == ("exited", 137)
    assert "exit code is unknown" in state["Error"]
    served.host.docker("rm", "plain")
    served.settled()


def test_a_restart_of_the_daemon_adopts_a_container_without_conmon(served: Any) -> None:
    former = one(served)
    os.kill(served.conmon(former), signal.SIGKILL)
    served.host.kill()
    served.host.start()
    assert former in served.web()
    os.kill(served.pid(former), signal.SIGKILL)
    served.replaced(former)
    served.settled()


def test_images_can_be_loaded_after_the_unpackers_helper_was_killed(served: Any, project: Any, image: Any) -> None:
    host = served.host
    helper = children(host.daemon.pid)
    assert len(helper) == 1
    os.kill(helper[0], signal.SIGKILL)
    other = project({"image.yaml": image("other:v1", "other")}, "other")
    (other / "image.yaml").write_text((other / "image.yaml").read_text().replace("stack: app", "stack: other"))
    done = host.gitops("apply", other, "--yes", check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "other:v1" in host.docker("images", "--format", "{{.Repository}}:{{.Tag}}")
    served.settled()
    served.calm()


def children(pid: int) -> list[int]:
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    # The daemon was started by way of nsenter, which became it.
    return [int(word) for word in found]


def test_a_start_whose_runtime_is_killed_fails_and_leaves_nothing(served: Any) -> None:
    host = served.host
    host.docker("create", "--name", "slow", "app:v1")
    seen = set()
    process = subprocess.Popen(host.command("docker", "start", "slow"), env=host.environment, stderr=subprocess.PIPE)
    end = time.monotonic() + 10
    while not seen and process.poll() is None and time.monotonic() < end:
        for pid in runtimes(host):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            seen.add(pid)
    _, said = process.communicate(timeout=30)
    if process.returncode == 0:
        pytest.skip("the runtime was faster")
    assert b"OCI runtime" in said, said
    assert served.state("slow")["Status"] == "created"
    served.settled()
    host.docker("start", "slow")
    host.docker("rm", "-f", "slow")
    served.settled()
    served.calm()


def runtimes(host: Any) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                words = (entry / "cmdline").read_bytes().split(b"\0")
                if (
                    words[0].endswith(b"crun")
                    and str(host.run_root).encode() in b" ".join(words)
                    and b"create" in words
                ):
                    found.append(int(entry.name))
    return found


def test_an_unmounted_namespace_file_harms_nothing_and_comes_back_with_the_daemon(served: Any) -> None:
    host = served.host
    path = host.run_root / "netns" / one(served)
    subprocess.run(["umount", path], check=True)
    assert host.get("http://127.0.0.1:8080/") == "v1\n"
    host.kill()
    host.start()
    served.settled()
    assert resolves(served, one(served)), host.log.read_text()[-2000:]
    served.calm()


def resolves(served: Any, container: str) -> bool:
    inside = [
        "nsenter",
        "-t",
        str(served.pid(container)),
        "-n",
        "-m",
        "/bin/busybox",
        "nslookup",
        "app_web",
        "127.0.0.11",
    ]
    done = subprocess.run(inside, capture_output=True, text=True, timeout=20, check=False)
    return "10." in done.stdout.partition("Name:")[2]


def test_a_deleted_bridge_comes_back_with_its_ports(served: Any) -> None:
    host = served.host
    plain = served.run_plain(
        "plain", "-p", "9090:8080", command=("/bin/busybox", "httpd", "-f", "-p", "8080", "-h", "/www")
    )
    bridges = json.loads(host.run("ip", "-j", "link", "show", "type", "bridge").stdout)
    for bridge in [link["ifname"] for link in bridges if link]:
        host.run("ip", "link", "delete", bridge)
    host.wait(lambda: host.get("http://127.0.0.1:8080/") == "v1\n", 15, "the service did not come back")
    host.wait(lambda: host.get("http://127.0.0.1:9090/") == "v1\n", 15, "the published port did not come back")
    former = one(served)
    host.docker("rm", "-f", former)
    served.replaced(former)
    host.docker("rm", "-f", plain)
    served.settled()
    served.calm()


def test_flushed_rules_come_back(served: Any) -> None:
    host = served.host
    host.run("nft", "flush", "ruleset")
    assert host.get("http://127.0.0.1:8080/") == ""
    host.wait(lambda: host.get("http://127.0.0.1:8080/") == "v1\n", 15, "the rules did not come back")
    served.settled()
    served.calm()


def test_a_container_whose_cgroups_were_removed_runs_on_and_is_ended_for_good(served: Any) -> None:
    host, former = served.host, one(served)
    pid, conmon = served.pid(former), served.conmon(former)
    move_out(host, former)
    assert former in served.web()
    host.kill()
    host.start()
    assert host.get("http://127.0.0.1:8080/") == "v1\n"
    if former in served.web():
        assert served.pid(former) == pid
        host.docker("rm", "-f", former)
    served.replaced(former)
    host.wait(lambda: not Path(f"/proc/{pid}").exists() and not Path(f"/proc/{conmon}").exists(), 10, "it runs on")
    served.settled()
    served.calm()


def move_out(host: Any, container: str) -> None:
    for group in Path("/sys/fs/cgroup").glob(f"*/{host.name}/{container}"):
        for word in (group / "cgroup.procs").read_text().split():
            (group.parent.parent / "cgroup.procs").write_text(word)
        group.rmdir()


def test_a_deleted_socket_comes_back(served: Any) -> None:
    host = served.host
    (host.run_root / "engine.sock").unlink()
    host.wait(lambda: (host.run_root / "engine.sock").exists(), 15, "no socket")
    assert host.docker("ps", "-q")
    served.settled()
    host.stop()
    assert not (host.run_root / "engine.sock").exists()
    served.calm()


def test_a_deleted_log_ends_no_container_and_the_next_lines_are_kept(served: Any) -> None:
    host = served.host
    plain = served.run_plain(
        "talks",
        command=("/bin/busybox", "sh", "-c", "while /bin/busybox true; do echo word; /bin/busybox sleep 0.2; done"),
    )
    host.wait(lambda: "word" in host.docker("logs", "talks"))
    for path in (host.data_root / "containers" / plain / "log").iterdir():
        path.unlink()
    host.wait(lambda: "word" in host.docker("logs", "talks"), 10, "nothing is logged any more")
    host.docker("rm", "-f", "talks")
    served.settled()
    served.calm()


def test_a_deleted_layer_is_said_and_the_next_apply_brings_it_back(served: Any) -> None:
    host = served.host
    layers = list((host.data_root / "layers").iterdir())
    for layer in layers:
        shutil.rmtree(layer)
    former = one(served)
    host.docker("rm", "-f", former)
    time.sleep(2)
    done = served.apply(check=False)
    assert done.returncode == 0, done.stdout + done.stderr + host.log.read_text()[-3000:]
    served.settled()
    served.calm()


def test_a_deleted_layer_is_found_at_the_next_start(served: Any) -> None:
    host = served.host
    for layer in (host.data_root / "layers").iterdir():
        shutil.rmtree(layer)
    host.kill()
    host.start()
    assert "has no directory" in host.log.read_text()
    done = served.apply(check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    host.docker("rm", "-f", one(served))
    served.settled()
    served.calm()


def test_a_deleted_volume_is_made_anew_for_the_next_container(served: Any) -> None:
    host = served.host
    folder = host.data_root / "volumes" / "app_data"
    shutil.rmtree(folder)
    assert host.get("http://127.0.0.1:8080/") == "v1\n"
    former = one(served)
    host.docker("rm", "-f", former)
    served.replaced(former)
    assert (folder / "_data").is_dir()
    served.settled()
    assert "app_data" in host.docker("volume", "ls", "-q")
    served.calm()


def test_a_deleted_writable_layer_ends_in_a_clear_error_and_a_removal_works(served: Any) -> None:
    host = served.host
    plain = served.run_plain("plain")
    host.docker("stop", "-t", "0", "plain")
    shutil.rmtree(host.data_root / "containers" / plain)
    host.docker("start", "plain", check=False)
    host.docker("rm", "-f", "plain")
    served.settled()
    served.calm()


def test_deleted_files_of_the_run_root_stop_no_container_from_being_removed(served: Any) -> None:
    host = served.host
    for name in ("state", "exits", "socks"):
        for path in (host.run_root / name).iterdir():
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    for former in list(served.web()):
        host.docker("rm", "-f", former)
        served.replaced(former)
    served.settled()
    served.calm()


def test_a_deleted_exits_directory_comes_back_and_ends_are_seen(served: Any) -> None:
    host = served.host
    shutil.rmtree(host.run_root / "exits")
    for former in list(served.web()):
        os.kill(served.pid(former), signal.SIGKILL)
        served.replaced(former, timeout=50)
    former = one(served)
    began = time.monotonic()
    os.kill(served.pid(former), signal.SIGKILL)
    served.replaced(former)
    assert time.monotonic() - began < 10, "ends are seen by their timeout only"
    served.settled()
    served.calm()
