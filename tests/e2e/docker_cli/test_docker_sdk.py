"""Docker's SDK for Python against the daemon: a second client, whose habits differ from the CLI's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import docker
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


def test_containers_images_networks_and_volumes(sdk: Any) -> None:
    assert sdk.ping()
    assert sdk.api.api_version == "1.47" or sdk.version()["ApiVersion"] == "1.47"
    assert [image.tags for image in sdk.images.list()] == [["app:1"]]
    container = sdk.containers.run(
        "app:1",
        ["sh", "-c", "echo hi; exit 3"],
        detach=True,
        name="one",
        environment={"A": "b"},
        ports={"80/tcp": 9090},
        volumes={"data": {"bind": "/data", "mode": "rw"}},
        labels={"tier": "x"},
        mem_limit="64m",
    )
    assert container.wait()["StatusCode"] == 3
    assert container.logs() == b"hi\n"
    assert [item.name for item in sdk.containers.list(all=True, filters={"label": "tier=x"})] == ["one"]
    assert "data" in [volume.name for volume in sdk.volumes.list()]
    network = sdk.networks.create("net", labels={"a": "b"})
    assert network.attrs["IPAM"]["Config"][0]["Subnet"]
    network.remove()
    container.remove(v=True)
    with pytest.raises(docker.errors.NotFound):
        sdk.containers.get("one")


def test_services_secrets_and_configs(host: Any, sdk: Any) -> None:
    sdk.swarm.init(advertise_addr="127.0.0.1")
    service = sdk.services.create(
        "app:1",
        ["sleep", "1000"],
        name="web",
        mode=docker.types.ServiceMode("replicated", 2),
        endpoint_spec=docker.types.EndpointSpec(ports={8090: 80}),
        stop_grace_period=0,
    )

    def states() -> list[str]:
        return [task["Status"]["State"] for task in service.tasks({"desired-state": "running"})]

    host.wait(lambda: states() == ["running", "running"], 20)
    service.reload()
    assert service.attrs["Endpoint"]["Ports"][0]["PublishedPort"] == 8090
    service.scale(1)
    host.wait(lambda: states() == ["running"], 20)
    secret = sdk.secrets.create(name="pw", data=b"hush")
    config = sdk.configs.create(name="cf", data=b"plain")
    assert "Data" not in sdk.secrets.get(secret.id).attrs["Spec"]
    assert sdk.configs.get(config.id).attrs["Spec"]["Data"] == "cGxhaW4="
    service.remove()
    host.wait(lambda: not sdk.containers.list(all=True), 20)


def test_an_end_is_told_by_kill_and_wait_also_where_a_restart_follows(sdk: Any) -> None:
    container = sdk.containers.run("app:1", ["sleep", "60"], detach=True)
    container.kill()
    container.reload()
    assert container.status == "exited" and container.attrs["State"]["ExitCode"] == 137
    container.remove()
    again = sdk.containers.run("app:1", ["sleep", "1"], detach=True, restart_policy={"Name": "always"})
    assert again.wait()["StatusCode"] == 0
    again.remove(force=True)


def test_streams_are_framed_as_the_client_asks(sdk: Any) -> None:
    container = sdk.containers.run("app:1", ["sh", "-c", "echo one; sleep 60"], detach=True)
    made = sdk.api.exec_create(container.id, ["sh", "-c", "echo out; echo err >&2"], tty=True)
    # A start that doesn't ask for a terminal reads frames, though the process has one.
    assert sdk.api.exec_start(made, demux=True) == (b"out\r\nerr\r\n", None)
    made = sdk.api.exec_create(container.id, ["echo", "raw"], tty=True)
    assert sdk.api.exec_start(made, tty=True) == b"raw\r\n"
    container.kill()
    assert container.attach(stream=False, logs=True) == b"one\n"
    networks = container.attrs["NetworkSettings"]["Networks"]
    assert all("IPAMConfig" in place and "Aliases" in place for place in networks.values())
    container.remove()
