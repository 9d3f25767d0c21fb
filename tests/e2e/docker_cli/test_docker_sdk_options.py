"""Docker's SDK for Python: what it sends for options, files and networks, which isn't what the CLI sends."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import docker
import docker.errors
import docker.types
import pytest

pytestmark = pytest.mark.e2e


@pytest.fixture
def sdk(host: Any, archive: Callable[[str], Path]) -> Iterator[Any]:
    """A client of a host that has the image app:1."""
    made = docker.DockerClient(base_url=host.socket)
    with archive("app:1").open("rb") as file:
        made.images.load(file)
    yield made
    made.close()


def _says(sdk: Any, script: str, **options: Any) -> list[str]:
    output = sdk.containers.run("app:1", ["sh", "-c", script], remove=True, **options)
    return str(output.decode()).splitlines()


def test_options_of_the_host(sdk: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("bound\n")
    script = "cat /in/file; grep CapBnd /proc/self/status | cut -f2; echo $A; id -u; busybox df -k /dev/shm | busybox "
    script += "tail -n 1; cat /proc/1/oom_score_adj; ulimit -n; ls /dev/hole; busybox mount | busybox grep -c ' /t '"
    said = _says(
        sdk,
        script,
        cap_add=["NET_ADMIN"],
        cap_drop=["ALL"],
        environment=["A=1"],
        user="0:7",
        shm_size="4m",
        oom_score_adj=7,
        ulimits=[docker.types.Ulimit(name="nofile", soft=100, hard=100)],
        devices=["/dev/null:/dev/hole:rwm"],
        mounts=[
            docker.types.Mount("/in", str(tmp_path), type="bind", read_only=True, propagation="rprivate"),
            docker.types.Mount("/t", None, type="tmpfs", tmpfs_size=1 << 20, tmpfs_mode=0o700),
            docker.types.Mount("/v", "data", labels={"a": "b"}, no_copy=True),
        ],
        pids_limit=100,
        cpu_period=50000,
        cpu_quota=25000,
        cpuset_cpus="0",
        mem_limit="64m",
        memswap_limit="128m",
        mem_reservation="32m",
        mem_swappiness=10,
        security_opt=["no-new-privileges:true"],
        sysctls={"net.ipv4.ip_forward": "0"},
        group_add=["7"],
        extra_hosts={"far": "10.9.8.7"},
        dns=["127.0.0.1"],
        dns_search=["lab"],
        ipc_mode="private",
        pid_mode="host",
        uts_mode="host",
        userns_mode="host",
        log_config=docker.types.LogConfig(type="json-file", config={"max-size": "1m", "max-file": "2"}),
        restart_policy=None,
        init=True,
        read_only=True,
        stop_signal="SIGINT",
    )
    assert said[:4] == ["bound", f"{1 << 12:016x}", "1", "0"]
    assert " 4096 " in said[4] and said[6:] == ["100", "/dev/hole", "1"]
    assert sdk.volumes.get("data").attrs["Labels"] == {"a": "b"}
    with pytest.raises(docker.errors.APIError, match="invalid PID mode"):
        sdk.api.create_container("app:1", host_config=sdk.api.create_host_config(pid_mode="nope"))
    donor = sdk.containers.run("app:1", ["sleep", "1000"], detach=True, volumes={"data": {"bind": "/data"}})
    assert _says(sdk, "busybox touch /data/x; ls /data", volumes_from=[donor.id]) == ["x"]
    assert _says(sdk, "ls /sys/class/net", network_disabled=True) == ["lo"]
    assert _says(sdk, "hostname", network_mode=f"container:{donor.id}") == [donor.id[:12]]


def test_files_images_and_sizes(sdk: Any) -> None:
    container = sdk.containers.run("app:1", ["sleep", "1000"], detach=True, name="box")
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        item = tarfile.TarInfo("note")
        item.size = 5
        archive.addfile(item, io.BytesIO(b"hello"))
    assert container.put_archive("/www", packed.getvalue())
    stream, status = container.get_archive("/www/note")
    assert (status["name"], status["size"]) == ("note", 5)
    with tarfile.open(fileobj=io.BytesIO(b"".join(stream))) as archive:
        assert archive.extractfile("note").read() == b"hello"  # type: ignore[union-attr]
    with pytest.raises(docker.errors.NotFound, match="Could not find the file"):
        container.get_archive("/none")
    with pytest.raises(docker.errors.NotFound):
        container.put_archive("/none", packed.getvalue())
    with pytest.raises(docker.errors.APIError):
        container.put_archive("/www", b"no tar at all, but some bytes of text that nobody can unpack" * 20)
    assert {"Path": "/www/note", "Kind": 1} in container.diff()
    with tarfile.open(fileobj=io.BytesIO(b"".join(container.export()))) as archive:
        assert "www/note" in archive.getnames()
    assert container.update(mem_limit="64m", memswap_limit="128m")["Warnings"] == []
    container.reload()
    assert container.attrs["HostConfig"]["Memory"] == 64 << 20
    container.rename("crate")
    assert sdk.api.containers(size=True)[0]["SizeRw"] > 0
    container.kill()
    container.wait()
    pruned = sdk.containers.prune(filters={"until": "1h"})
    assert pruned == {"ContainersDeleted": [], "SpaceReclaimed": 0}
    assert sdk.containers.prune()["ContainersDeleted"] == [container.id]


def test_places_on_networks(sdk: Any) -> None:
    pool = docker.types.IPAMPool(subnet="10.76.0.0/24", gateway="10.76.0.254", aux_addresses={"x": "10.76.0.3"})
    network = sdk.networks.create("own", driver="bridge", ipam=docker.types.IPAMConfig(pool_configs=[pool]))
    place = sdk.api.create_endpoint_config(aliases=["nick"], ipv4_address="10.76.0.8")
    container = sdk.containers.run(
        "app:1", ["sleep", "1000"], detach=True, network="own", networking_config={"own": place}
    )
    container.reload()
    found = container.attrs["NetworkSettings"]["Networks"]["own"]
    assert found["IPAMConfig"] == {"IPv4Address": "10.76.0.8"}
    assert (found["IPAddress"], found["Gateway"], found["Aliases"]) == ("10.76.0.8", "10.76.0.254", ["nick"])
    other = sdk.containers.run("app:1", ["sleep", "1000"], detach=True)
    network.connect(other, aliases=["second"], ipv4_address="10.76.0.9")
    _, output = container.exec_run(["nslookup", "second"])
    assert b"10.76.0.9" in output
    network.reload()
    assert {item.id for item in network.containers} == {container.id, other.id}
    with pytest.raises(docker.errors.APIError, match="already exists in network own"):
        network.connect(other)
    network.disconnect(other, force=True)
    with pytest.raises(docker.errors.APIError, match="is not connected to network own"):
        network.disconnect(other)
    container.remove(force=True)
    network.remove()
