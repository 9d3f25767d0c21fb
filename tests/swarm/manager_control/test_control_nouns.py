"""Tasks, nodes, networks, secrets, configs and the cluster through the control API (A03, A04, A08, A10 to A12)."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from gitops import errors
from gitops.objects.base import SECOND
from gitops.objects.network import IPAM, IPAMConfig, NetworkCreate
from gitops.objects.node import (
    CAConfig,
    ClusterSpec,
    Dispatcher,
    EncryptionConfig,
    EngineDescription,
    Node,
    NodeDescription,
    NodeSpec,
    NodeStatus,
    Orchestration,
    TaskDefaults,
)
from gitops.objects.secret import ConfigSpec, Secret, SecretSpec
from gitops.objects.service import ConfigReference, FileTarget, LogDriver, PortConfig, SecretReference
from gitops.objects.task import Task, TaskState
from gitops.swarm.manager.control.networks import predefined


async def add_node(swarm: Any, node_id: str, **fields: Any) -> Node:
    node = Node(
        id=node_id,
        spec=NodeSpec(role=fields.get("role", "worker"), labels=fields.get("labels", {})),
        description=NodeDescription(
            hostname=fields.get("hostname", node_id),
            engine=EngineDescription(labels=fields.get("engine_labels", {})),
        ),
        status=NodeStatus(state=fields.get("state", "ready")),
    )
    made: Node = await swarm.store.update(lambda tx: tx.create(node))
    return made


# Tasks


async def test_a08_tasks_are_listed_by_filters(swarm: Any) -> None:
    web = await swarm.control.create_service(replace(swarm.spec("web"), labels={"tier": "front"}))
    db = await swarm.control.create_service(swarm.spec("db"))
    await add_node(swarm, "n1", hostname="one")
    await swarm.add_task(web, 1, node_id="n1")
    await swarm.add_task(web, 2, desired_state=TaskState.SHUTDOWN)
    await swarm.add_task(db, 1)

    def names(**filters: list[str]) -> list[str]:
        return [item.name.rpartition(".")[0] for item in swarm.control.tasks(filters)]

    assert names() == ["web.1", "web.2", "db.1"]
    assert names(service=["web"]) == names(service=[web.id[:8]]) == ["web.1", "web.2"]
    assert names(service=["web", "db"]) == ["web.1", "web.2", "db.1"]
    assert names(node=["one"]) == ["web.1"]
    assert names(name=["web.2"]) == ["web.2"]
    assert names(label=["tier=front"]) == ["web.1", "web.2"]
    assert names(**{"desired-state": ["shutdown"]}) == ["web.2"]
    assert names(**{"desired-state": ["running", "accepted"], "service": ["web"]}) == ["web.1"]
    assert names(runtime=["container"]) == ["web.1", "web.2", "db.1"]
    assert names(runtime=["plugin"]) == []
    task = swarm.control.tasks({"name": ["db.1"]})[0]
    assert swarm.control.task(task.id) == swarm.control.task(task.id[:9]) == task


async def test_a08_only_tasks_of_the_present_spec_are_up_to_date(swarm: Any) -> None:
    service = await swarm.control.create_service(swarm.spec())
    old = await swarm.add_task(service)
    assert swarm.control.tasks({"_up-to-date": ["true"]}) == [old]
    service = await swarm.control.update_service("web", service.version.index, swarm.spec(replicas=3))
    assert swarm.control.tasks({"_up-to-date": ["true"]}) == [old]
    service = await swarm.control.update_service("web", service.version.index, swarm.spec(image="tu-demo:v2"))
    new = await swarm.add_task(service)
    assert swarm.control.tasks({"_up-to-date": ["true"]}) == [new]
    assert swarm.control.tasks({"_up-to-date": ["false"]}) == [old]
    await swarm.control.remove_service("web")
    assert swarm.control.tasks({"_up-to-date": ["true"]}) == []


async def test_wrong_filters_of_tasks_are_refused(swarm: Any) -> None:
    for filters, kind, text in (
        ({"image": ["x"]}, errors.Invalid, "invalid filter 'image'"),
        ({"desired-state": ["dancing"]}, errors.Invalid, "Invalid desired-state filter: 'dancing'"),
        ({"_up-to-date": ["perhaps"]}, errors.Invalid, "invalid filter '_up-to-date=perhaps'"),
        ({"service": ["nope"]}, errors.NotFound, "service nope not found"),
        ({"node": ["nope"]}, errors.NotFound, "node nope not found"),
    ):
        with pytest.raises(kind, match=text):
            swarm.control.tasks(filters)


# Nodes


async def test_a10_nodes_are_listed_by_filters(swarm: Any) -> None:
    await add_node(swarm, "a1", hostname="mgr1", role="manager", engine_labels={"disk": "ssd"})
    await add_node(swarm, "b2", hostname="wrk1", labels={"zone": "x"})

    def ids(**filters: list[str]) -> list[str]:
        return [item.id for item in swarm.control.nodes(filters)]

    assert ids(name=["wrk"]) == ids(role=["worker"]) == ids(**{"node.label": ["zone=x"]}) == ids(id=["b"]) == ["b2"]
    assert ids(label=["disk"]) == ids(role=["manager"]) == ["a1"]
    assert ids(membership=["accepted"]) == ["a1", "b2"]
    assert ids(membership=["pending"]) == []
    assert swarm.control.node("wrk1") == swarm.control.node("b") == swarm.control.node("b2")
    with pytest.raises(errors.Invalid, match="invalid filter 'role=king'"):
        ids(role=["king"])


async def test_a_user_sets_labels_and_availability_of_a_node(swarm: Any) -> None:
    node = await add_node(swarm, "n1")
    spec = NodeSpec(labels={"zone": "x"}, availability="drain")
    updated = await swarm.control.update_node("n1", node.version.index, spec)
    assert (updated.spec, updated.status) == (spec, node.status)
    with pytest.raises(errors.OutOfSequence):
        await swarm.control.update_node("n1", node.version.index, spec)
    with pytest.raises(errors.Invalid, match='Invalid Availability: "asleep"'):
        await swarm.control.update_node("n1", updated.version.index, NodeSpec(availability="asleep"))
    with pytest.raises(errors.Unsupported, match="can't be promoted"):
        await swarm.control.update_node("n1", updated.version.index, NodeSpec(role="manager"))


async def test_a10_the_last_manager_is_not_demoted(swarm: Any) -> None:
    node = await add_node(swarm, "m1", role="manager")
    with pytest.raises(errors.Invalid) as caught:
        await swarm.control.update_node("m1", node.version.index, NodeSpec(role="worker"))
    assert str(caught.value) == (
        "rpc error: code = FailedPrecondition desc = attempting to demote the last manager of the swarm"
    )


async def test_a10_a_node_is_removed_when_it_is_down_or_by_force_and_orphans_its_tasks(swarm: Any) -> None:
    service = await swarm.control.create_service(swarm.spec())
    await add_node(swarm, "n1")
    await add_node(swarm, "m1", role="manager", state="down")
    running = await swarm.set_state(await swarm.add_task(service, 1, node_id="n1"), TaskState.RUNNING)
    ended = await swarm.set_state(await swarm.add_task(service, 2, node_id="n1"), TaskState.FAILED)
    with pytest.raises(errors.Invalid, match="node n1 is not down and can't be removed"):
        await swarm.control.remove_node("n1")
    with pytest.raises(errors.Invalid, match="must be demoted to worker before removal"):
        await swarm.control.remove_node("m1", force=True)
    await swarm.control.remove_node("n1", force=True)
    assert [node.id for node in swarm.control.nodes()] == ["m1"]
    assert swarm.control.task(running.id).status.state is TaskState.ORPHANED
    assert swarm.control.task(ended.id).status.state is TaskState.FAILED


# Networks


async def test_a_network_is_an_overlay_unless_it_says_something_that_is_not_there(swarm: Any) -> None:
    made = await swarm.control.create_network(
        NetworkCreate(name="app", labels={"a": "b"}, options={"x": "y"}, internal=True, attachable=True)
    )
    assert made.spec.driver_configuration.name == "overlay"
    assert (made.spec.internal, made.spec.attachable, made.spec.scope) == (True, True, "swarm")
    assert made.driver_state is None
    for body, word in (
        (NetworkCreate(name="b", driver="macvlan"), "macvlan"),
        (NetworkCreate(name="b", enable_ipv6=True), "IPv6"),
        (NetworkCreate(name="b", config_only=True), "configuration-only"),
    ):
        with pytest.raises(errors.Unsupported, match=word):
            await swarm.control.create_network(body)


async def test_a11_names_of_networks_are_unique_and_predefined_ones_taken(swarm: Any) -> None:
    await swarm.control.create_network(NetworkCreate(name="app"))
    with pytest.raises(errors.Conflict, match=r"^network with name app already exists$"):
        await swarm.control.create_network(NetworkCreate(name="app"))
    with pytest.raises(errors.Denied, match="host is a pre-defined network and cannot be created"):
        await swarm.control.create_network(NetworkCreate(name="host"))
    with pytest.raises(errors.Invalid, match="DNS name component"):
        await swarm.control.create_network(NetworkCreate(name="a b"))


def with_ipam(**fields: Any) -> NetworkCreate:
    return NetworkCreate(name="net", ipam=IPAM(config=[IPAMConfig(**fields)]))


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"subnet": "10.0.0.0/33"}, "invalid subnet 10.0.0.0/33"),
        ({"subnet": "10.0.0.1/24"}, "has host bits set"),
        ({"subnet": "fd00::/64"}, "IPv6 is not supported"),
        ({"subnet": "10.9.0.0/30"}, "/29 is the smallest"),
        ({"subnet": "10.9.0.0/24", "gateway": "10.8.0.1"}, "gateway 10.8.0.1 is not in the subnet"),
        ({"gateway": "10.8.0.1"}, "gateway 10.8.0.1 is not in the subnet"),
        ({"subnet": "10.9.0.0/24", "gateway": "x"}, "invalid gateway x"),
        ({"subnet": "10.9.0.0/24", "ip_range": "10.8.0.0/28"}, "IP range 10.8.0.0/28 is not in the subnet"),
        ({"subnet": "10.9.0.0/24", "ip_range": "x"}, "invalid IP range x"),
        ({"subnet": "10.9.0.0/24", "auxiliary_addresses": {"r": "10.8.0.2"}}, "auxiliary address r"),
    ],
)
async def test_a11_addresses_that_cannot_be_are_refused(swarm: Any, fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(errors.Invalid, match=reason):
        await swarm.control.create_network(with_ipam(**fields))


async def test_a11_a_subnet_that_overlaps_anothers_is_refused(swarm: Any) -> None:
    await swarm.open()
    await swarm.control.create_network(NetworkCreate(name="first"))
    await swarm.allocate()
    with pytest.raises(errors.Denied, match="Pool overlaps"):
        await swarm.control.create_network(with_ipam(subnet="10.0.0.0/16"))


async def test_a11_a_network_in_use_stays(swarm: Any) -> None:
    network = await swarm.control.create_network(NetworkCreate(name="app"))
    service = await swarm.control.create_service(swarm.spec(networks=("app",)))
    with pytest.raises(errors.Invalid, match=f"network {network.id} is in use by service {service.id}"):
        await swarm.control.remove_network("app")
    await swarm.open()
    task = await swarm.add_task(service)
    await swarm.allocate()
    await swarm.control.remove_service("web")
    with pytest.raises(errors.Invalid, match=f"network {network.id} is in use by task {task.id}"):
        await swarm.control.remove_network("app")
    await swarm.set_state(task, TaskState.SHUTDOWN)
    await swarm.control.remove_network("app")
    with pytest.raises(errors.NotFound, match="network app not found"):
        swarm.control.network("app")


async def test_a11_there_is_one_ingress_network_and_it_stays_while_ports_are_published(swarm: Any) -> None:
    await swarm.control.create_network(NetworkCreate(name="ingress", ingress=True))
    with pytest.raises(errors.Conflict, match=r"ingress network \(ingress\) is already present"):
        await swarm.control.create_network(NetworkCreate(name="mesh", ingress=True))
    with pytest.raises(errors.Invalid, match="cannot be attachable"):
        await swarm.control.create_network(NetworkCreate(name="mesh", ingress=True, attachable=True))
    service = await swarm.control.create_service(swarm.spec(ports=(PortConfig(target_port=80),)))
    with pytest.raises(errors.Invalid, match=f"ingress network cannot be removed because service {service.id} depends"):
        await swarm.control.remove_network("ingress")
    await swarm.control.remove_service("web")
    await swarm.control.remove_network("ingress")


async def test_predefined_networks_are_found_but_not_listed_and_not_removed(swarm: Any) -> None:
    await swarm.store.update(lambda tx: tx.create(predefined("host", "h1")))
    await swarm.control.create_network(NetworkCreate(name="app", labels={"x": "1"}))
    assert [item.spec.name for item in swarm.control.networks()] == ["app"]
    assert swarm.control.network("host").id == "h1"
    with pytest.raises(errors.Denied, match="host is a pre-defined network and cannot be removed"):
        await swarm.control.remove_network("host")
    made = await swarm.control.create_service(swarm.spec(networks=("host",)))
    assert made.spec.task_template.networks[0].target == "h1"


async def test_networks_are_listed_by_filters(swarm: Any) -> None:
    await swarm.control.create_network(NetworkCreate(name="front", labels={"x": "1"}))
    await swarm.control.create_network(NetworkCreate(name="back"))
    await swarm.control.create_service(swarm.spec(networks=("front",)))

    def names(**filters: list[str]) -> list[str]:
        return [item.spec.name for item in swarm.control.networks(filters)]

    assert names(name=["fro"]) == names(label=["x=1"]) == names(dangling=["false"]) == ["front"]
    assert names(dangling=["true"]) == ["back"]
    assert names(driver=["overlay"], scope=["swarm"], type=["custom"]) == ["front", "back"]
    assert names(driver=["bridge"]) == names(type=["builtin"]) == []


# Secrets and configs


async def test_a04_a_secrets_data_goes_in_and_never_out(swarm: Any) -> None:
    made = await swarm.control.create_secret(SecretSpec(name="db", data=b"hunter2", labels={"a": "b"}))
    shown = [made, swarm.control.secret("db"), *swarm.control.secrets()]
    shown.append(await swarm.control.update_secret("db", made.version.index, SecretSpec(name="db", labels={"a": "c"})))
    assert all(item.spec.data == b"" for item in shown)
    assert "hunter2" not in repr(swarm.store.view().all(Secret))
    stored = swarm.store.view().get(Secret, made.id)
    assert stored is not None and stored.spec.data == b"hunter2" and stored.spec.labels == {"a": "c"}


@pytest.mark.parametrize("word", ["secret", "config"])
async def test_a04_only_labels_change(swarm: Any, word: str) -> None:
    kind = SecretSpec if word == "secret" else ConfigSpec
    create, update = (getattr(swarm.control, f"{verb}_{word}") for verb in ("create", "update"))
    made = await create(kind(name="x", data=b"1"))
    for spec in (kind(name="y"), kind(name="x", data=b"2")):
        with pytest.raises(errors.Invalid, match="only updates to Labels are allowed"):
            await update("x", made.version.index, spec)
    same = await update("x", made.version.index, kind(name="x", data=b"1", labels={"a": "b"}))
    assert same.spec.labels == {"a": "b"}
    with pytest.raises(errors.OutOfSequence):
        await update("x", made.version.index, kind(name="x", labels={}))


@pytest.mark.parametrize("word", ["secret", "config"])
async def test_names_and_sizes_of_secrets_and_configs_are_checked(swarm: Any, word: str) -> None:
    kind, limit = (SecretSpec, 500 * 1024) if word == "secret" else (ConfigSpec, 1000 * 1024)
    create = getattr(swarm.control, f"create_{word}")
    await create(kind(name="a.b_C-9", data=b"x" * (limit - 1)))
    for data in (b"", b"x" * limit):
        with pytest.raises(errors.Invalid, match=f"{word} data must be larger than 0 and less than {limit} bytes"):
            await create(kind(name="x", data=data))
    for name in ("-x", "x-", "a/b", "x" * 65):
        with pytest.raises(errors.Invalid, match=r"invalid name, only 64 \[a-zA-Z0-9-_.\] characters allowed"):
            await create(kind(name=name, data=b"x"))
    with pytest.raises(errors.Conflict, match=f"code = AlreadyExists desc = {word} a.b_C-9 already exists"):
        await create(kind(name="a.b_C-9", data=b"x"))


async def test_a03_what_services_use_stays_and_they_are_named(swarm: Any) -> None:
    await swarm.control.create_secret(SecretSpec(name="s", data=b"x"))
    await swarm.control.create_config(ConfigSpec(name="c", data=b"x"))
    uses = {
        "secrets": [SecretReference(FileTarget("s"), secret_name="s")],
        "configs": [ConfigReference(FileTarget("c"), config_name="c")],
    }
    await swarm.control.create_service(swarm.spec("one", **uses))
    with pytest.raises(errors.Invalid) as caught:
        await swarm.control.remove_secret("s")
    assert str(caught.value) == (
        "rpc error: code = InvalidArgument desc = secret 's' is in use by the following service: one"
    )
    await swarm.control.create_service(swarm.spec("two", **uses))
    with pytest.raises(errors.Invalid, match="config 'c' is in use by the following services: one, two"):
        await swarm.control.remove_config("c")
    for name in ("one", "two"):
        await swarm.control.remove_service(name)
    await swarm.control.remove_secret("s")
    await swarm.control.remove_config("c")
    with pytest.raises(errors.NotFound, match="secret s not found"):
        swarm.control.secret("s")
    with pytest.raises(errors.NotFound, match="config c not found"):
        await swarm.control.remove_config("c")


async def test_secrets_and_configs_are_listed_by_filters(swarm: Any) -> None:
    for name in ("app-1", "app-2", "db"):
        await swarm.control.create_secret(SecretSpec(name=name, data=b"x", labels={"of": name}))
        await swarm.control.create_config(ConfigSpec(name=name, data=b"x"))
    assert [item.spec.name for item in swarm.control.secrets({"name": ["app"]})] == ["app-1", "app-2"]
    assert [item.spec.name for item in swarm.control.secrets({"names": ["db"]})] == ["db"]
    assert [item.spec.name for item in swarm.control.secrets({"label": ["of=db"]})] == ["db"]
    assert [item.spec.name for item in swarm.control.configs({"name": ["db", "app-2"]})] == ["app-2", "db"]
    with pytest.raises(errors.Invalid, match="invalid filter 'driver'"):
        swarm.control.secrets({"driver": ["x"]})


# The cluster


async def test_a12_the_cluster_takes_settings_that_can_be(swarm: Any) -> None:
    with pytest.raises(errors.Unavailable):
        swarm.control.cluster()
    made = await swarm.open()
    spec = ClusterSpec(orchestration=Orchestration(task_history_retention_limit=-1), labels={"a": "b"})
    updated = await swarm.control.update_cluster(made.version.index, spec)
    assert swarm.control.cluster() == updated and updated.spec == spec
    with pytest.raises(errors.OutOfSequence):
        await swarm.control.update_cluster(made.version.index, spec)
    wrong = ClusterSpec(
        name="other", dispatcher=Dispatcher(heartbeat_period=0), ca_config=CAConfig(node_cert_expiry=SECOND)
    )
    with pytest.raises(errors.Invalid, match=r"name is not allowed; heartbeat time .*; minimum certificate expiry"):
        await swarm.control.update_cluster(updated.version.index, wrong)
    with pytest.raises(errors.Unsupported, match="autolock"):
        locked = ClusterSpec(encryption_config=EncryptionConfig(auto_lock_managers=True))
        await swarm.control.update_cluster(updated.version.index, locked)
    logged = ClusterSpec(task_defaults=TaskDefaults(log_driver=LogDriver(name="local")))
    with pytest.raises(errors.Unsupported, match=r"TaskDefaults\.LogDriver"):
        await swarm.control.update_cluster(updated.version.index, logged)


async def test_tasks_are_the_loops_own(swarm: Any) -> None:
    with pytest.raises(errors.NotFound, match="task x not found"):
        swarm.control.task("x")
    assert not any(name.endswith("_task") for name in dir(swarm.control) if not name.startswith("_"))
    assert swarm.store.view().all(Task) == []
