"""Our client's calls, in one test that runs on our daemon and on a real dockerd alike: same calls, same meaning."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from gitops import client, errors
from gitops.objects import system
from gitops.objects.container import ContainerCreate, VolumeCreate
from gitops.objects.network import NetworkCreate
from gitops.objects.secret import ConfigSpec, SecretSpec
from gitops.objects.service import (
    ContainerSpec,
    EndpointSpec,
    NetworkAttachmentConfig,
    PortConfig,
    Replicated,
    ServiceMode,
    ServiceSpec,
    TaskSpec,
)
from gitops.objects.task import TaskState

pytestmark = pytest.mark.e2e


@pytest.fixture(params=["ours", "dockerd"])
def engine(request: pytest.FixtureRequest, make_host: Any) -> Iterator[str]:
    """The address of an engine that is in no swarm."""
    host = make_host()
    if request.param == "ours":
        host.start()
        yield host.socket
        return
    address = f"unix://{host.directory}/docker.sock"
    roots = ("--data-root", host.directory / "d", "--exec-root", host.directory / "x", "-p", host.directory / "pid")
    daemon = host.spawn("dockerd", "-H", address, *roots, log=host.directory / "dockerd.log")
    host.wait(
        lambda: host.run("docker", "-H", address, "version", check=False).returncode == 0, 30, "dockerd does not answer"
    )
    yield address
    # It ends its containerd and its containers, which a SIGKILL would leave behind.
    host.run("docker", "-H", address, "swarm", "leave", "--force", check=False)
    daemon.terminate()
    daemon.wait(30)


async def _until(condition: Callable[[], Any], timeout_s: float = 30) -> Any:
    async with asyncio.timeout(timeout_s):
        # Another process's state: there is no event of ours to wait for.
        while not (found := await condition()):  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    return found


async def test_the_calls_of_the_client(engine: str, archive: Callable[[str], Path]) -> None:
    async with client.connect(engine) as api:
        await _images_and_containers(api, archive("app:1"))
        with pytest.raises(errors.NotInSwarm):
            await api.services()
        node = await api.swarm_init(system.SwarmInit(listen_addr="127.0.0.1:2377", advertise_addr="127.0.0.1"))
        assert (await api.node(node)).status.state == "ready"
        assert (await api.info()).swarm.control_available
        await _secrets_and_configs(api)
        await _services(api)


async def _images_and_containers(api: client.EngineClient, archive: Path) -> None:
    assert await api.load_image(archive) == ["app:1"]
    assert [item.repo_tags for item in await api.images()] == [["app:1"]]
    assert (await api.image("app:1")).config.env == ["PATH=/bin"]
    assert (await api.create_volume(VolumeCreate(name="data", labels={"a": "b"}))).name == "data"
    assert [item.name for item in await api.volumes({"label": ["a=b"]})] == ["data"]
    body = ContainerCreate(image="app:1", cmd=["sh", "-c", "echo out; echo oh >&2; exit 4"])
    container = await api.create_container(body, name="one")
    await api.start_container(container)
    assert await api.wait_container(container) == 4
    frames = {(frame.stream, frame.data) async for frame in api.container_logs(container)}
    assert frames == {("stdout", b"out\n"), ("stderr", b"oh\n")}
    with pytest.raises(errors.Conflict):
        await api.create_container(body, name="one")
    await api.remove_container(container)
    with pytest.raises(errors.NotFound):
        await api.container("one")
    await api.remove_volume("data")


async def _secrets_and_configs(api: client.EngineClient) -> None:
    secret = await api.secret(await api.create_secret(SecretSpec(name="pw", data=b"hush", labels={"k": "1"})))
    assert secret.spec.data == b""
    await api.update_secret(secret.id, secret.version.index, replace(secret.spec, labels={"k": "2"}))
    with pytest.raises(errors.OutOfSequence):
        await api.update_secret(secret.id, secret.version.index, replace(secret.spec, labels={"k": "3"}))
    assert [item.spec.labels for item in await api.secrets({"label": ["k=2"]})] == [{"k": "2"}]
    config = await api.create_config(ConfigSpec(name="cf", data=b"\0plain"))
    assert (await api.config(config)).spec.data == b"\0plain"
    await api.remove_secret("pw")
    await api.remove_config("cf")


async def _services(api: client.EngineClient) -> None:
    network = await api.create_network(NetworkCreate(name="front", driver="overlay"))
    container = ContainerSpec(image="app:1", command=["sleep", "1000"], stop_grace_period=0)
    spec = ServiceSpec(
        name="web",
        mode=ServiceMode(replicated=Replicated(2)),
        task_template=TaskSpec(container_spec=container, networks=[NetworkAttachmentConfig(target=network)]),
        endpoint_spec=EndpointSpec(ports=[PortConfig(target_port=80, published_port=8085)]),
    )
    service_id = (await api.create_service(spec)).id

    async def tasks() -> bool:
        found = await api.tasks({"service": ["web"], "desired-state": ["running"]})
        return [item.status.state for item in found] == [TaskState.RUNNING] * 2

    await _until(tasks)
    (shown,) = await api.services({"name": ["web"]}, status=True)
    assert shown.service_status is not None
    assert (shown.service_status.running_tasks, shown.endpoint.ports[0].published_port) == (2, 8085)
    service = await api.service("web", insert_defaults=True)
    with pytest.raises(errors.OutOfSequence):
        await api.update_service(service_id, service.version.index - 1, spec)
    await api.update_service(service_id, service.version.index, replace(service.spec, labels={"new": "1"}))
    assert (await api.service(service_id)).spec.labels == {"new": "1"}
    with pytest.raises(errors.Conflict):
        await api.create_service(replace(spec, endpoint_spec=None))
    await api.remove_service("web")
    with pytest.raises(errors.NotFound):
        await api.service("web")

    async def is_removed() -> bool:
        try:
            await api.remove_network("front")
        except errors.Invalid:
            # A task that stops is still on it.
            return False
        return True

    await _until(is_removed)
