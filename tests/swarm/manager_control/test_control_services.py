"""Services through the control API (A01, A02, A05 to A09, U15, U16)."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from gitops import errors
from gitops.objects.base import Version
from gitops.objects.network import NetworkCreate
from gitops.objects.node import Node, NodeStatus
from gitops.objects.secret import ConfigSpec, SecretSpec
from gitops.objects.service import (
    ConfigReference,
    ContainerSpec,
    EndpointSpec,
    FileTarget,
    Global,
    GlobalJob,
    NetworkAttachmentConfig,
    PortConfig,
    ReplicatedJob,
    SecretReference,
    Service,
    ServiceMode,
    ServiceStatus,
    UpdateConfig,
    UpdateStatus,
)
from gitops.objects.task import Task, TaskState
from gitops.swarm.scheduling.tasks import new_task

INGRESS_80 = PortConfig(target_port=80, published_port=80)
HOST_80 = PortConfig(target_port=80, published_port=80, publish_mode="host")


async def test_a_service_is_stored_with_a_version_of_its_spec(swarm: Any) -> None:
    made = await swarm.control.create_service(swarm.spec())
    assert len(made.id) == 25
    assert made.spec_version == made.version == Version(1)
    assert swarm.control.service("web") == swarm.control.service(made.id) == swarm.control.service(made.id[:6]) == made


async def test_a01_a_second_service_of_that_name_is_refused_in_dockers_words(swarm: Any) -> None:
    await swarm.control.create_service(swarm.spec())
    with pytest.raises(errors.Conflict) as caught:
        await swarm.control.create_service(swarm.spec())
    assert str(caught.value) == (
        "rpc error: code = AlreadyExists desc = name conflicts with an existing object: service web already exists"
    )


async def test_a05_an_update_of_an_old_version_is_out_of_sequence(swarm: Any) -> None:
    made = await swarm.control.create_service(swarm.spec())
    await swarm.control.update_service("web", made.version.index, swarm.spec(replicas=2))
    with pytest.raises(errors.OutOfSequence, match="update out of sequence"):
        await swarm.control.update_service("web", made.version.index, swarm.spec(replicas=3))


async def test_an_update_keeps_one_former_spec_and_clears_the_state_of_the_last_update(swarm: Any) -> None:
    first = await swarm.control.create_service(swarm.spec())
    paused = await swarm.change(first, update_status=UpdateStatus(state="paused"))
    second = await swarm.control.update_service(first.id, paused.version.index, swarm.spec(image="tu-demo:v2"))
    assert second.previous_spec == first.spec
    assert second.previous_spec_version == first.spec_version
    assert second.spec_version == second.version
    assert second.update_status is None
    third = await swarm.control.update_service("web", second.version.index, swarm.spec(image="tu-demo:v3"))
    assert third.previous_spec == second.spec


async def test_a01_renaming_and_another_mode_are_not_there(swarm: Any) -> None:
    made = await swarm.control.create_service(swarm.spec())
    with pytest.raises(errors.Unsupported, match="renaming services is not supported"):
        await swarm.control.update_service("web", made.version.index, swarm.spec("other"))
    with pytest.raises(errors.Unsupported, match="service mode change is not allowed"):
        spec = replace(swarm.spec(), mode=ServiceMode(global_=Global()))
        await swarm.control.update_service("web", made.version.index, spec)


async def test_o28_a_service_has_one_mode(swarm: Any) -> None:
    mode = ServiceMode(global_=Global(), replicated_job=ReplicatedJob())
    with pytest.raises(errors.Invalid, match="must specify only one service mode"):
        await swarm.control.create_service(replace(swarm.spec(), mode=mode))


@pytest.mark.parametrize(
    "mode", [ServiceMode(replicated_job=ReplicatedJob(max_concurrent=2)), ServiceMode(global_job=GlobalJob())]
)
async def test_j08_each_declaration_of_a_job_is_an_iteration(swarm: Any, mode: ServiceMode) -> None:
    spec = replace(swarm.spec(), mode=mode)
    made = await swarm.control.create_service(spec)
    assert made.job_status.job_iteration == Version(0)
    assert made.job_status.last_execution == made.created_at
    await swarm.clock.advance(60)
    changed = await swarm.control.update_service("web", made.version.index, spec)
    assert changed.job_status.job_iteration == Version(1)
    assert changed.job_status.last_execution == changed.updated_at
    back = await swarm.control.update_service("web", changed.version.index, spec, rollback=True)
    assert back.job_status.job_iteration == Version(2)
    assert back.update_status is None


async def test_what_is_no_job_has_no_iteration(swarm: Any) -> None:
    made = await swarm.control.create_service(replace(swarm.spec(), mode=ServiceMode(global_=Global())))
    changed = await swarm.control.update_service("web", made.version.index, made.spec)
    assert (made.job_status, changed.job_status) == (None, None)


@pytest.mark.parametrize("name", ["update_config", "rollback_config"])
async def test_j13_a_job_is_not_updated_slot_by_slot(swarm: Any, name: str) -> None:
    spec = replace(swarm.spec(), mode=ServiceMode(global_job=GlobalJob()), **{name: UpdateConfig()})
    with pytest.raises(errors.Invalid, match="InvalidArgument desc = update config is not allowed for jobs"):
        await swarm.control.create_service(spec)


@pytest.mark.parametrize("job", [ReplicatedJob(max_concurrent=-1), ReplicatedJob(total_completions=-1)])
async def test_a02_a_jobs_numbers_are_not_negative(swarm: Any, job: ReplicatedJob) -> None:
    with pytest.raises(errors.Invalid, match="must not be negative"):
        await swarm.control.create_service(replace(swarm.spec(), mode=ServiceMode(replicated_job=job)))


async def test_a09_the_counts_of_a_global_service_are_those_of_its_tasks(swarm: Any) -> None:
    made = await swarm.control.create_service(replace(swarm.spec(), mode=ServiceMode(global_=Global())))

    def tasks(tx: Any) -> None:
        for node_id in ("n1", "n2", "n3"):
            tx.create(new_task(made, node_id, f"t-{node_id}", TaskState.RUNNING, 0))
        gone = new_task(made, "n4", "t-n4", TaskState.SHUTDOWN, 0)
        tx.create(replace(gone, status=replace(gone.status, state=TaskState.SHUTDOWN)))
        first = tx.get(Task, "t-n1")
        tx.update(replace(first, status=replace(first.status, state=TaskState.RUNNING)))

    await swarm.store.update(tasks)
    (found,) = swarm.control.services(status=True)
    assert found.service_status == ServiceStatus(running_tasks=1, desired_tasks=3, completed_tasks=0)


async def test_j13_the_counts_of_a_job_are_those_of_its_present_iteration(swarm: Any) -> None:
    mode = ServiceMode(replicated_job=ReplicatedJob(max_concurrent=2, total_completions=5))
    spec = replace(swarm.spec(), mode=mode)
    first = await swarm.control.create_service(spec)
    made = await swarm.control.update_service("web", first.version.index, spec)

    def tasks(tx: Any) -> None:
        for slot, state in enumerate((TaskState.COMPLETE, TaskState.COMPLETE, TaskState.RUNNING, TaskState.PENDING)):
            task = new_task(made, slot, f"t{slot}", TaskState.COMPLETE, 0)
            tx.create(replace(task, status=replace(task.status, state=state)))
        old = new_task(first, 0, "old", TaskState.COMPLETE, 0)
        tx.create(replace(old, status=replace(old.status, state=TaskState.COMPLETE)))

    await swarm.store.update(tasks)
    (found,) = swarm.control.services(status=True)
    assert found.service_status == ServiceStatus(running_tasks=1, desired_tasks=2, completed_tasks=2)
    assert [service.id for service in swarm.control.services({"mode": ["replicated-job"]})] == [made.id]
    assert swarm.control.services({"mode": ["replicated"]}) == []


async def test_u15_a_rollback_by_hand_exchanges_the_specs_and_another_one_exchanges_them_back(swarm: Any) -> None:
    first = await swarm.control.create_service(swarm.spec(replicas=3))
    second = await swarm.control.update_service("web", first.version.index, swarm.spec(image="bad:v2"))
    back = await swarm.control.update_service("web", second.version.index, second.spec, rollback=True)
    assert (back.spec, back.previous_spec) == (first.spec, second.spec)
    assert back.spec_version == back.version
    assert (back.update_status.state, back.update_status.message) == ("rollback_started", "manually requested rollback")
    forth = await swarm.control.update_service("web", back.version.index, second.spec, rollback=True)
    assert (forth.spec, forth.previous_spec) == (second.spec, first.spec)


async def test_u16_without_a_former_spec_there_is_no_rollback(swarm: Any) -> None:
    made = await swarm.control.create_service(swarm.spec())
    with pytest.raises(errors.Invalid) as caught:
        await swarm.control.update_service("web", made.version.index, made.spec, rollback=True)
    assert str(caught.value) == (
        f"rpc error: code = FailedPrecondition desc = service {made.id} does not have a previous spec"
    )


async def test_a_rollback_to_something_that_is_gone_is_refused(swarm: Any) -> None:
    await swarm.control.create_network(NetworkCreate(name="app"))
    first = await swarm.control.create_service(swarm.spec(networks=("app",)))
    second = await swarm.control.update_service("web", first.version.index, swarm.spec())
    await swarm.control.remove_network("app")
    with pytest.raises(errors.Invalid, match=r"network .* not found"):
        await swarm.control.update_service("web", second.version.index, second.spec, rollback=True)


async def test_a06_a_service_is_removed_once(swarm: Any) -> None:
    await swarm.control.create_service(swarm.spec())
    await swarm.control.remove_service("web")
    with pytest.raises(errors.NotFound, match=r"^service web not found$"):
        await swarm.control.remove_service("web")
    await swarm.control.create_service(swarm.spec())


async def test_a_beginning_of_ids_that_several_share_is_ambiguous(swarm: Any) -> None:
    for number in range(2):
        item = Service(id=f"same{number}", spec=swarm.spec(f"web{number}"))
        await swarm.store.update(lambda tx, item=item: tx.create(item))
    with pytest.raises(errors.Invalid, match=r"service same is ambiguous \(2 matches found\)"):
        swarm.control.service("same")
    with pytest.raises(errors.NotFound, match="service  not found"):
        swarm.control.service("")


async def test_an_id_goes_before_a_name_and_a_name_before_a_beginning(swarm: Any) -> None:
    for object_id, name in (("abc", "def"), ("def", "ab"), ("abx", "zzz")):
        item = Service(id=object_id, spec=swarm.spec(name))
        await swarm.store.update(lambda tx, item=item: tx.create(item))
    assert swarm.control.service("def").id == "def"
    assert swarm.control.service("ab").id == "def"
    assert swarm.control.service("abc").id == "abc"
    assert swarm.control.service("zzz").id == "abx"


async def test_names_of_networks_secrets_and_configs_become_ids(swarm: Any) -> None:
    network = await swarm.control.create_network(NetworkCreate(name="app"))
    secret = await swarm.control.create_secret(SecretSpec(name="db", data=b"x"))
    config = await swarm.control.create_config(ConfigSpec(name="conf", data=b"y"))
    spec = swarm.spec(
        networks=("app",),
        secrets=[SecretReference(file=FileTarget(name="db"), secret_name="db")],
        configs=[ConfigReference(file=FileTarget(name="/c"), config_id=config.id)],
    )
    made = await swarm.control.create_service(spec)
    container = made.spec.task_template.container_spec
    assert made.spec.task_template.networks == [NetworkAttachmentConfig(target=network.id)]
    assert (container.secrets[0].secret_id, container.secrets[0].secret_name) == (secret.id, "db")
    assert (container.configs[0].config_id, container.configs[0].config_name) == (config.id, "conf")


async def test_a03_all_missing_references_are_told_at_once(swarm: Any) -> None:
    target = FileTarget(name="a")
    spec = swarm.spec(
        secrets=[SecretReference(file=target, secret_name="s1"), SecretReference(FileTarget("b"), "nope", "s2")],
        configs=[ConfigReference(file=target, config_name="c1")],
    )
    with pytest.raises(errors.Invalid) as caught:
        await swarm.control.create_service(spec)
    assert str(caught.value) == (
        "rpc error: code = InvalidArgument desc = secrets not found: s1, s2; config not found: c1"
    )
    with pytest.raises(errors.NotFound, match="network app not found"):
        await swarm.control.create_service(swarm.spec(networks=("app",)))


async def test_a_secret_whose_name_is_not_the_one_given_is_not_found(swarm: Any) -> None:
    secret = await swarm.control.create_secret(SecretSpec(name="db", data=b"x"))
    spec = swarm.spec(secrets=[SecretReference(FileTarget("a"), secret.id, "other")])
    with pytest.raises(errors.Invalid, match="secret not found: other"):
        await swarm.control.create_service(spec)


async def test_the_ingress_network_and_one_network_twice_are_refused(swarm: Any) -> None:
    await swarm.control.create_network(NetworkCreate(name="ingress", ingress=True))
    await swarm.control.create_network(NetworkCreate(name="app"))
    with pytest.raises(errors.Invalid, match='explicitly attached to the ingress network "ingress"'):
        await swarm.control.create_service(swarm.spec(networks=("ingress",)))
    with pytest.raises(errors.Invalid, match="network app is attached twice"):
        await swarm.control.create_service(swarm.spec(networks=("app", "app")))


async def test_a07_an_ingress_port_is_one_services(swarm: Any) -> None:
    first = await swarm.control.create_service(swarm.spec("a", ports=(INGRESS_80,)))
    for port in (INGRESS_80, HOST_80):
        with pytest.raises(errors.Invalid) as caught:
            await swarm.control.create_service(swarm.spec("b", ports=(port,)))
        assert str(caught.value) == (
            "rpc error: code = InvalidArgument desc = "
            f"port '80' is already in use by service 'a' ({first.id}) as an ingress port"
        )
    await swarm.control.create_service(swarm.spec("udp", ports=(replace(INGRESS_80, protocol="udp"),)))
    await swarm.control.update_service("a", first.version.index, swarm.spec("a", replicas=2, ports=(INGRESS_80,)))


async def test_a07_host_ports_of_two_services_get_along(swarm: Any) -> None:
    first = await swarm.control.create_service(swarm.spec("a", ports=(HOST_80,)))
    await swarm.control.create_service(swarm.spec("b", ports=(HOST_80,)))
    with pytest.raises(errors.Invalid, match=f"service 'a' \\({first.id}\\) as a host-published port"):
        await swarm.control.create_service(swarm.spec("c", ports=(INGRESS_80,)))


async def test_a07_a_port_that_the_allocator_chose_is_in_use_until_its_service_gives_it_back(swarm: Any) -> None:
    await swarm.open()
    await swarm.control.create_service(swarm.spec("a", ports=(PortConfig(target_port=80),)))
    await swarm.allocate()
    wanted = swarm.spec("b", ports=(PortConfig(target_port=80, published_port=30000),))
    with pytest.raises(errors.Invalid, match="port '30000' is already in use by service 'a'"):
        await swarm.control.create_service(wanted)
    service = swarm.control.service("a")
    await swarm.control.update_service("a", service.version.index, swarm.spec("a"))
    await swarm.control.create_service(wanted)


async def test_a08_services_are_listed_by_filters(swarm: Any) -> None:
    for name in ("web-a", "web-b", "db"):
        await swarm.control.create_service(replace(swarm.spec(name), labels={"app": name[:2], "x": ""}))
    listed = swarm.control.services

    def names(**filters: list[str]) -> list[str]:
        return [item.spec.name for item in listed(filters)]

    assert names() == ["web-a", "web-b", "db"]
    assert names(name=["web"]) == ["web-a", "web-b"]
    assert names(name=["web-a", "d"]) == ["web-a", "db"]
    assert names(label=["app=we"]) == ["web-a", "web-b"]
    assert names(label=["app", "x="]) == ["web-a", "web-b", "db"]
    assert names(label=["app=we", "app=db"]) == []
    assert names(mode=["replicated"]) == ["web-a", "web-b", "db"]
    assert names(mode=["global"]) == []
    assert names(id=[listed()[2].id[:5]]) == ["db"]
    assert names(id=[listed()[2].id], name=["web"]) == []
    for wrong, text in (({"image": ["x"]}, "invalid filter 'image'"), ({"mode": ["x"]}, "invalid filter 'mode=x'")):
        with pytest.raises(errors.Invalid, match=text):
            listed(wrong)


async def test_a09_counts_of_tasks_come_when_asked_for(swarm: Any) -> None:
    service = await swarm.control.create_service(swarm.spec(replicas=4))
    for node_id, state in (("n1", "ready"), ("n2", "down")):
        node = Node(id=node_id, status=NodeStatus(state=state))
        await swarm.store.update(lambda tx, node=node: tx.create(node))
    states = [
        (TaskState.RUNNING, "n1"),
        (TaskState.RUNNING, "n2"),
        (TaskState.COMPLETE, "n1"),
        (TaskState.FAILED, "n1"),
    ]
    for slot, (state, node_id) in enumerate(states, start=1):
        await swarm.set_state(await swarm.add_task(service, slot, node_id=node_id), state)
    status = swarm.control.services(status=True)[0].service_status
    assert (status.running_tasks, status.desired_tasks, status.completed_tasks) == (1, 4, 1)
    assert swarm.control.services()[0].service_status is None


async def test_a_service_that_is_refused_leaves_nothing(swarm: Any) -> None:
    with pytest.raises(errors.Invalid):
        await swarm.control.create_service(
            replace(swarm.spec(), endpoint_spec=EndpointSpec(mode="dnsrr", ports=[INGRESS_80]))
        )
    assert swarm.control.services() == []
    assert swarm.store.view().version == 0


async def test_wrong_specs_are_told_with_all_that_is_wrong(swarm: Any) -> None:
    spec = replace(
        swarm.spec("-bad"), task_template=replace(swarm.spec().task_template, container_spec=ContainerSpec())
    )
    with pytest.raises(errors.Invalid) as caught:
        await swarm.control.create_service(spec)
    assert str(caught.value) == (
        "rpc error: code = InvalidArgument desc = name must be valid as a DNS name component; "
        "ContainerSpec: image reference must be provided"
    )
