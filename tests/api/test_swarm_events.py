from __future__ import annotations

from msgspec.structs import replace

from gitops.api import swarmevents
from gitops.objects.network import NetworkObject, NetworkSpec
from gitops.objects.node import Cluster
from gitops.objects.secret import Secret, SecretSpec
from gitops.objects.service import (
    ContainerSpec,
    Replicated,
    Service,
    ServiceMode,
    ServiceSpec,
    TaskSpec,
    UpdateStatus,
)
from gitops.objects.task import Task
from gitops.swarm.store.protocol import Change


def _service(replicas: int, image: str) -> Service:
    spec = ServiceSpec(
        name="web",
        mode=ServiceMode(replicated=Replicated(replicas)),
        task_template=TaskSpec(container_spec=ContainerSpec(image=image)),
    )
    return Service(id="s1", spec=spec)


def test_an_update_says_what_changed_from_what_to_what() -> None:
    new = replace(_service(3, "app:2"), update_status=UpdateStatus(state="updating"))
    told = swarmevents.of_change(Change("update", new, _service(1, "app:1")))
    assert told == (
        "service",
        "update",
        "s1",
        {
            "name": "web",
            "replicas.old": "1",
            "replicas.new": "3",
            "image.old": "app:1",
            "image.new": "app:2",
            "updatestate.new": "updating",
        },
    )


def test_a_delete_is_a_remove() -> None:
    network = NetworkObject(id="n1", spec=NetworkSpec(name="net"))
    assert swarmevents.of_change(Change("delete", network)) == ("network", "remove", "n1", {"name": "net"})


def test_a_secret_is_told_by_name_only() -> None:
    told = swarmevents.of_change(Change("create", Secret(id="x", spec=SecretSpec(name="pw", data=b"hush"))))
    assert told == ("secret", "create", "x", {"name": "pw"})


def test_tasks_and_the_cluster_are_not_told() -> None:
    assert swarmevents.of_change(Change("create", Task(id="t"))) is None
    assert swarmevents.of_change(Change("create", Cluster(id="c"))) is None
