"""The flags of `docker run` that say how a container sits on its host, each seen from inside the container."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.e2e

SLEEP = ("app:1", "sleep", "1000")


def _says(host: Any, *arguments: str) -> str:
    """What a container with these options prints."""
    container = host.docker("run", "-d", *arguments).strip()
    code = host.docker("wait", container).strip()
    done = host.run("docker", "logs", container)
    host.docker("rm", "-f", "-v", container)
    assert code == "0", f"{arguments}: {code}\n{done.stdout}{done.stderr}"
    return str(done.stdout)


def _shell(host: Any, script: str, *options: str) -> list[str]:
    return _says(host, *options, "app:1", "sh", "-c", script).splitlines()


def test_process_limits_and_rights(loaded: Any, tmp_path: Path) -> None:
    (tmp_path / "env").write_text("FROM_FILE=yes\n")
    script = "echo $A $FROM_FILE $PWD; id -u; id -g; id -G; ulimit -n; cat /proc/sys/kernel/domainname; hostname"
    options = ["-e", "A=1", "--env-file", str(tmp_path / "env"), "-w", "/www", "-u", "worker", "--group-add", "7"]
    options += ["--ulimit", "nofile=50:60", "--hostname", "box", "--domainname", "lab"]
    assert _shell(loaded, script, *options) == ["1 yes /www", "1001", "1002", "1002 7 1003", "50", "lab", "box"]
    script = "id -u; id -g; cat /proc/1/oom_score_adj; grep -E 'CapEff|NoNewPrivs|Seccomp:' /proc/self/status | cut -f2"
    options = ["-u", "5:6", "--oom-score-adj", "500", "--security-opt", "no-new-privileges", "--cap-drop", "ALL"]
    options += ["--security-opt", "seccomp=unconfined", "--security-opt", "label=disable"]
    assert _shell(loaded, script, *options) == ["5", "6", "500", "0" * 16, "1", "0"]
    script = "grep CapBnd /proc/self/status | cut -f2; ls /proc/acpi 2>&1 | wc -l; touch /x 2>&1; df -k /dev/shm"
    lines = _shell(
        loaded, script.replace("ls", "busybox ls").replace("touch", "busybox touch").replace("df", "busybox df"),
        *("--cap-drop", "ALL", "--cap-add", "NET_ADMIN", "--read-only", "--shm-size", "8m", "--init"),
    )  # fmt: skip
    assert lines[0] == f"{1 << 12:016x}"
    assert any("Read-only file system" in line for line in lines)
    assert " 8192 " in lines[-1]
    profile = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}]}
    (tmp_path / "seccomp.json").write_text(json.dumps(profile))
    secured = ["--security-opt", f"seccomp={tmp_path}/seccomp.json"]
    assert _shell(loaded, "busybox mkdir /x 2>/dev/null || echo refused", *secured) == ["refused"]
    assert 'invalid capability: "CAP_NOPE"' in loaded.docker_fails("create", "--cap-add", "NOPE", "app:1")
    assert "unable to find user nobody-here" in loaded.docker_fails("run", "-d", "-u", "nobody-here", "app:1")
    done = loaded.run("docker", "create", "--blkio-weight", "500", "--ulimit", "nofile=999999999", "app:1")
    assert "WARNING" in done.stderr


def test_limits_of_the_control_groups(loaded: Any) -> None:
    options = ["--cpus", "0.5", "--cpu-shares", "512", "--cpuset-cpus", "0", "-m", "64m", "--memory-reservation", "32m"]
    options += ["--memory-swap", "128m", "--pids-limit", "33", "--name", "limited"]
    loaded.docker("run", "-d", *options, *SLEEP)
    (found,) = json.loads(loaded.docker("inspect", "limited"))
    wanted = {"NanoCpus": 5 * 10**8, "CpuShares": 512, "CpusetCpus": "0", "Memory": 64 << 20, "PidsLimit": 33}
    assert {key: found["HostConfig"][key] for key in wanted} == wanted
    status = Path(f"/proc/{found['State']['Pid']}/status").read_text()
    assert "Cpus_allowed_list:\t0\n" in status
    loaded.docker("rm", "-f", "limited")
    for flags, text in (
        (("--cpuset-cpus", "4000"), "Requested CPUs are not available"),
        (("--cpus", "1", "--cpu-quota", "5000"), "Nano CPUs and CPU Quota cannot both be set"),
        (("-m", "5m"), "Minimum memory limit allowed is 6MB"),
        (("--runtime", "kata"), "unknown or invalid runtime name: kata"),
        (("--link", "a:b"), "put both on a network of your own"),
        (("--log-driver", "nope"), "logger: no log driver named 'nope' is registered"),
        (("--platform", "linux/arm64", "--pull", "never"), "does not match the specified platform"),
        (("--ip", "172.17.0.9"), "user specified IP address is supported on user defined networks only"),
    ):
        assert text in loaded.docker_fails("create", *flags, "app:1")


def test_namespaces_are_shared_with_the_host_and_with_other_containers(loaded: Any) -> None:
    def inode(kind: str, *options: str) -> str:
        return _says(loaded, *options, "app:1", "busybox", "readlink", f"/proc/self/ns/{kind}").strip()

    def of_host(kind: str) -> str:
        return str(Path(f"/proc/self/ns/{kind}").readlink())

    assert inode("pid", "--pid", "host") == of_host("pid")
    assert inode("ipc", "--ipc", "host") == of_host("ipc")
    assert inode("uts", "--uts", "host") == of_host("uts")
    assert inode("cgroup", "--cgroupns", "host") == of_host("cgroup")
    assert inode("cgroup", "--cgroupns", "private") != of_host("cgroup")
    assert inode("user", "--userns", "host") == of_host("user")
    run = ("run", "-d", "--ipc", "shareable", "--hostname", "donor", "--add-host", "far:10.9.8.7", "--name", "donor")
    loaded.docker(*run, "app:1", "sh", "-c", "echo note >/dev/shm/note; exec sleep 1000")
    loaded.docker("run", "-d", "--name", "closed", *SLEEP)
    script = "cat /dev/shm/note; cat /proc/1/cmdline; echo; hostname; cat /etc/hosts"
    shared = ["--ipc", "container:donor", "--pid", "container:donor", "--network", "container:donor"]
    lines = _shell(loaded, script, *shared)
    assert lines[0] == "note" and lines[1].startswith("sleep")
    assert any(line.split() == ["10.9.8.7", "far"] for line in lines)
    assert "non-shareable IPC" in loaded.docker_fails("run", "-d", "--ipc", "container:closed", "app:1")
    assert "No such container: gone" in loaded.docker_fails("run", "-d", "--pid", "container:gone", "app:1")
    loaded.docker("rm", "-f", "closed", "donor")
    lines = _shell(loaded, "cat /etc/hosts; ls /sys/class/net", "--network", "host", "--add-host", "up:host-gateway")
    assert any(line.split()[1:] == ["up"] for line in lines) and "lo" in lines
    assert _shell(loaded, "ls /sys/class/net", "--network", "none") == ["lo"]


def test_devices_and_hidden_paths(loaded: Any) -> None:
    script = "ls -l /dev/hole; echo x >/dev/hole && echo written; ls /dev"
    lines = _shell(loaded, script, "--device", "/dev/null:/dev/hole:rw")
    assert lines[0].startswith("c") and lines[1] == "written"
    script = "busybox mknod /odd c 1 3 && echo >/odd && echo allowed || echo refused"
    assert _shell(loaded, script, "--device-cgroup-rule", "c 1:* rwm") == ["allowed"]
    assert "no such file or directory" in loaded.docker_fails("run", "-d", "--device", "/dev/no-such", "app:1")
    script = "busybox mount | busybox grep -c ' /proc/' ; grep CapEff /proc/self/status | cut -f2"
    usual, caps = _shell(loaded, script)
    assert int(usual) > 3 and caps == "00000000a80425fb"
    assert _shell(loaded, script, "--security-opt", "systempaths=unconfined")[0] == "0"
    assert _shell(loaded, script, "--privileged")[0] == "0"
    assert "unsupported" not in _says(loaded, "--sysctl", "net.ipv4.ip_forward=0", "app:1", "true")
    assert "not allowed" in loaded.docker_fails("create", "--sysctl", "vm.swappiness=1", "app:1")


def test_mounts_of_every_kind(loaded: Any, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "file").write_text("from the host\n")
    loaded.docker("volume", "create", "data")
    fill = "busybox mkdir -p /data/a/b; echo part >/data/a/b/f; busybox ln -s /etc /data/out; cat /www/index.html"
    assert _shell(loaded, fill, "-v", "data:/data", "-v", "copied:/www") == ["app:1"]
    mount = ["--mount", "type=bind,source={},target=/in,readonly,bind-propagation=rprivate".format(tmp_path / "in")]
    mount += ["--mount", "type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=1750", "--tmpfs", "/t2:size=2m,exec"]
    mount += ["--mount", "type=volume,source=data,target=/sub,volume-subpath=a/b,readonly"]
    mount += ["--mount", "type=volume,target=/www", "--mount", "type=volume,target=/bin2,volume-nocopy"]
    script = "cat /in/file /sub/f /www/index.html; echo x 2>/dev/null >/in/x || echo ro; echo x 2>/dev/null >/sub/x || "
    script += "echo ro; busybox stat -c %a /t; busybox df -k /t /t2 | busybox awk 'NR>1{print $2}'; ls /bin2"
    assert _shell(loaded, script, *mount) == ["from the host", "part", "app:1", "ro", "ro", "1750", "1024", "2048"]
    shared = f"type=bind,source={tmp_path}/in,target=/in,bind-propagation=rshared"
    done = loaded.run("docker", "run", "--rm", "--mount", shared, "app:1", "cat", "/in/file", check=False)
    assert done.stdout == "from the host\n" or "but it is not a shared mount" in done.stderr
    for subpath in ("out", "none"):
        refused = f"type=volume,source=data,target=/x,volume-subpath={subpath}/passwd"
        assert "cannot access path" in loaded.docker_fails("run", "-d", "--mount", refused, "app:1", "true")
    refused = "type=volume,source=data,target=/x,volume-subpath=../../x"
    assert "must be a relative path within the volume" in loaded.docker_fails("create", "--mount", refused, "app:1")
    loaded.docker("run", "-d", "--name", "first", "-v", "data:/data", "-v", f"{tmp_path}/in:/in:ro", *SLEEP)
    script = "cat /data/a/b/f /in/file; echo x 2>/dev/null >/in/x || echo ro"
    assert _shell(loaded, script, "--volumes-from", "first") == ["part", "from the host", "ro"]
    assert _shell(loaded, "echo x 2>/dev/null >/data/x || echo ro", "--volumes-from", "first:ro") == ["ro"]
    assert "No such container: gone" in loaded.docker_fails("create", "--volumes-from", "gone", "app:1")
    assert "bind source path does not exist" in loaded.docker_fails(
        "create", "--mount", f"type=bind,source={tmp_path}/gone,target=/x", "app:1"
    )


def test_ports_names_labels_and_ids(loaded: Any, tmp_path: Path) -> None:
    run = ["run", "-d", "-P", "--expose", "8080", "--expose", "9090/udp", "--cidfile", str(tmp_path / "cid")]
    loaded.docker(*run, "-l", "a=b", "--annotation", "x=y", "app:1", "httpd", "-f", "-p", "8080", "-h", "/www")
    container = (tmp_path / "cid").read_text()
    (found,) = json.loads(loaded.docker("inspect", container))
    assert len(found["Name"].removeprefix("/").split("_")) == 2
    assert (found["Config"]["Labels"]["a"], found["HostConfig"]["Annotations"]) == ("b", {"x": "y"})
    assert set(found["NetworkSettings"]["Ports"]) == {"8080/tcp", "9090/udp"}
    port = found["NetworkSettings"]["Ports"]["8080/tcp"][0]["HostPort"]
    assert loaded.wait(lambda: loaded.get(f"http://127.0.0.1:{port}/")) == "app:1\n"
    loaded.docker("network", "create", "--subnet", "10.77.0.0/24", "own")
    flags = ["--network", "own", "--ip", "10.77.0.9", "--mac-address", "92:d0:c6:0a:29:33", "--network-alias", "nick"]
    lines = _shell(loaded, "busybox ip addr show eth0; nslookup nick", *flags)
    assert any("10.77.0.9/24" in line for line in lines) and any("92:d0:c6:0a:29:33" in line for line in lines)
    assert "Address: 10.77.0.9" in lines, lines
