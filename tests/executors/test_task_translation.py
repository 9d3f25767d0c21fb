"""From tasks to containers: names, labels, placeholders, files, limits, networks, ports."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from gitops import errors
from gitops.engine.containers.boundary import InjectedFile
from gitops.executors import templates, translation
from gitops.objects.base import SECOND
from gitops.objects.container import PortBinding
from gitops.objects.mount import Mount, VolumeDriver, VolumeOptions
from gitops.objects.network import NetworkObject, NetworkSpec
from gitops.objects.node import NodeDescription
from gitops.objects.secret import Config, ConfigSpec, Secret, SecretSpec
from gitops.objects.service import (
    AppArmorOptions,
    ConfigReference,
    ContainerSpec,
    DNSConfig,
    Endpoint,
    FileTarget,
    HealthConfig,
    Limits,
    LogDriver,
    NetworkAttachmentConfig,
    Platform,
    PortConfig,
    Privileges,
    ResourceRequirements,
    Resources,
    SeccompOptions,
    SecretReference,
    SELinuxContext,
    TaskSpec,
    Ulimit,
)
from gitops.objects.task import NetworkAttachment, Task
from gitops.swarm.agent.executor import Dependencies

NODE = NodeDescription(hostname="host-a", platform=Platform(architecture="x86_64", os="linux"))
DEPENDENCIES = Dependencies(
    secrets={"s1": Secret(id="s1", spec=SecretSpec(name="pw", data=b"hunter2"))},
    configs={"c1": Config(id="c1", spec=ConfigSpec(name="conf", data=b"x=1"))},
    node=NODE,
)


def task(spec: ContainerSpec | None = None, **fields: Any) -> Task:
    template = fields.pop("template", {})
    container = spec or ContainerSpec(image="app:v1")
    return Task(
        id="t1",
        service_id="s1",
        service_name="web",
        service_labels={"tier": "front", "com.example.team": "a"},
        slot=fields.pop("slot", 2),
        node_id="n1",
        spec=TaskSpec(container_spec=container, **template),
        **fields,
    )


def plan(spec: ContainerSpec | None = None, **fields: Any) -> translation.Plan:
    return translation.plan(task(spec, **fields), DEPENDENCIES)


def test_a_container_is_named_and_labelled_as_dockers_are() -> None:
    made = plan(ContainerSpec(image="app:v1", labels={"own": "1", translation.TASK_ID: "not to be forged"}))
    assert made.name == "web.2.t1"
    assert made.body.labels == {
        "own": "1",
        "com.docker.swarm.node.id": "n1",
        "com.docker.swarm.service.id": "s1",
        "com.docker.swarm.service.name": "web",
        "com.docker.swarm.task": "",
        "com.docker.swarm.task.id": "t1",
        "com.docker.swarm.task.name": "web.2.t1",
    }


def test_a_task_without_a_slot_is_named_after_its_node() -> None:
    assert plan(slot=0, is_by_node=True).name == "web.n1.t1"


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("{{.Service.Name}}-{{.Task.Slot}}", "web-2"),
        ("{{ .Service.ID }} {{.Task.ID}} {{.Task.Name}}", "s1 t1 web.2.t1"),
        ("{{.Node.ID}} {{.Node.Hostname}}", "n1 host-a"),
        ("{{.Node.Platform.OS}}/{{.Node.Platform.Architecture}}", "linux/x86_64"),
        ("{{.Service.Labels.tier}}", "front"),
        ('{{index .Service.Labels "com.example.team"}}', "a"),
        ("no placeholder { here }", "no placeholder { here }"),
    ],
)
def test_placeholders_are_expanded(text: str, expanded: str) -> None:
    assert templates.Expander(task(), NODE)(text) == expanded


@pytest.mark.parametrize("text", ["{{.Service.Secret}}", "{{.Service.Labels.none}}", "{{env}}", "{{}}"])
def test_a_placeholder_that_is_not_known_is_an_error(text: str) -> None:
    with pytest.raises(errors.Invalid):
        templates.Expander(task(), NODE)(text)


def test_placeholders_stand_in_environment_hostname_and_mounts() -> None:
    options = VolumeOptions(
        labels={"of": "{{.Service.Name}}"}, driver_config=VolumeDriver(options={"o": "{{.Task.Slot}}"})
    )
    mount = Mount(type="volume", source="data-{{.Task.Slot}}", target="/{{.Node.Hostname}}", volume_options=options)
    made = plan(ContainerSpec(image="a", env=["ME={{.Task.Name}}"], hostname="h{{.Task.Slot}}", mounts=[mount]))
    assert (made.body.env, made.body.hostname) == (["ME=web.2.t1"], "h2")
    (mounted,) = made.body.host_config.mounts
    assert (mounted.source, mounted.target) == ("data-2", "/host-a")
    assert mounted.volume_options.labels == {"of": "web"}
    assert mounted.volume_options.driver_config.options == {"o": "2"}


def test_command_and_arguments_are_entrypoint_and_command() -> None:
    made = plan(ContainerSpec(image="a", command=["/init"], args=["serve"], dir="/srv", user="1:2", tty=True))
    assert (made.body.entrypoint, made.body.cmd) == (["/init"], ["serve"])
    assert (made.body.working_dir, made.body.user, made.body.tty) == ("/srv", "1:2", True)
    bare = plan()
    assert (bare.body.entrypoint, bare.body.cmd) == (None, None)


def test_limits_and_what_is_around_a_process_reach_the_host_config() -> None:
    spec = ContainerSpec(
        image="a",
        hosts=["192.0.2.1 db db.local", ""],
        dns_config=DNSConfig(nameservers=["192.0.2.53"], search=["example"], options=["ndots:2"]),
        groups=["staff"],
        read_only=True,
        init=True,
        sysctls={"net.core.somaxconn": "1024"},
        capability_add=["CAP_NET_ADMIN"],
        capability_drop=["ALL"],
        ulimits=[Ulimit(name="nofile", soft=1, hard=2)],
        oom_score_adj=5,
        healthcheck=HealthConfig(test=["CMD", "true"]),
        stop_signal="SIGINT",
        stop_grace_period=2_500_000_000,
    )
    resources = ResourceRequirements(
        limits=Limits(nano_cpus=SECOND, memory_bytes=1 << 26, pids=50), reservations=Resources(memory_bytes=1 << 25)
    )
    made = plan(spec, template={"resources": resources, "log_driver": LogDriver("json-file", {"max-size": "1m"})})
    host = made.body.host_config
    assert host.extra_hosts == ["db:192.0.2.1", "db.local:192.0.2.1"]
    assert (host.dns, host.dns_search, host.dns_options) == (["192.0.2.53"], ["example"], ["ndots:2"])
    assert (host.nano_cpus, host.memory, host.memory_reservation, host.pids_limit) == (SECOND, 1 << 26, 1 << 25, 50)
    assert (host.group_add, host.readonly_rootfs, host.init, host.oom_score_adj) == (["staff"], True, True, 5)
    assert (host.cap_add, host.cap_drop) == (["CAP_NET_ADMIN"], ["ALL"])
    assert host.ulimits[0].name == "nofile"
    assert host.sysctls == {"net.core.somaxconn": "1024"}
    assert (host.log_config.type, host.log_config.config) == ("json-file", {"max-size": "1m"})
    assert (made.body.stop_signal, made.body.stop_timeout) == ("SIGINT", 3)
    assert made.body.healthcheck.test == ["CMD", "true"]


def test_without_a_grace_period_ten_seconds_are_given() -> None:
    assert plan().body.stop_timeout == 10


def test_secrets_and_configs_are_files_with_owner_and_mode() -> None:
    spec = ContainerSpec(
        image="a",
        secrets=[
            SecretReference(secret_id="s1", secret_name="pw", file=FileTarget(name="db", uid="5", gid="6", mode=0o400)),
            SecretReference(secret_id="s1", secret_name="pw", file=FileTarget(name="/etc/pw")),
            SecretReference(secret_id="s1", secret_name="pw"),
        ],
        configs=[ConfigReference(config_id="c1", config_name="conf", file=FileTarget(name="app.conf"))],
    )
    assert plan(spec).files == (
        InjectedFile("/run/secrets/db", b"hunter2", mode=0o400, uid=5, gid=6),
        InjectedFile("/etc/pw", b"hunter2"),
        InjectedFile("/run/secrets/pw", b"hunter2"),
        InjectedFile("/app.conf", b"x=1"),
    )


def test_a_secret_that_was_not_delivered_is_an_error_without_its_data() -> None:
    spec = ContainerSpec(image="a", secrets=[SecretReference(secret_id="gone", secret_name="gone")])
    with pytest.raises(errors.NotFound, match="gone"):
        plan(spec)
    assert "hunter2" not in repr(plan(ContainerSpec(image="a", secrets=[SecretReference(secret_id="s1")])))


def test_an_owner_that_is_no_number_is_an_error() -> None:
    spec = ContainerSpec(image="a", secrets=[SecretReference(secret_id="s1", file=FileTarget(name="x", uid="root"))])
    with pytest.raises(errors.Invalid, match="number"):
        plan(spec)


def attachment(name: str, network_id: str, *addresses: str, **fields: Any) -> NetworkAttachment:
    network = NetworkObject(id=network_id, spec=NetworkSpec(name=name, **fields))
    return NetworkAttachment(network=network, addresses=list(addresses), aliases=["alias"])


def test_overlays_are_joined_at_the_managers_addresses_and_the_mesh_by_the_gateway_leg() -> None:
    networks = [attachment("back", "ov1", "10.0.1.5/24"), attachment("ingress", "in1", "10.0.0.9/24", ingress=True)]
    made = plan(networks_attachments=networks)
    joined = made.body.networking_config.endpoints_config
    assert {key: value.ipam_config.ipv4_address for key, value in joined.items()} == {"ov1": "10.0.1.5"}
    assert joined["ov1"].aliases is None
    assert made.has_gateway_leg
    overlays = translation.overlays(task(networks_attachments=networks), DEPENDENCIES)
    assert [network.id for network in overlays] == ["ov1"]


def test_the_newest_state_of_a_network_is_taken() -> None:
    newer = NetworkObject(id="ov1", spec=NetworkSpec(name="back", internal=True))
    dependencies = Dependencies(networks={"ov1": newer})
    assert translation.overlays(task(networks_attachments=[attachment("back", "ov1")]), dependencies) == [newer]


@pytest.mark.parametrize("name", ["host", "none"])
def test_a_network_of_the_host_stands_for_itself(name: str) -> None:
    made = plan(networks_attachments=[attachment(name, "x")])
    assert (made.body.host_config.network_mode, made.has_gateway_leg) == (name, False)
    assert made.body.networking_config is None
    by_name = plan(template={"networks": [NetworkAttachmentConfig(target=name)]})
    assert by_name.body.host_config.network_mode == name


def test_ports_of_mode_host_are_bound_and_others_are_not() -> None:
    ports = [
        PortConfig(target_port=80, published_port=8080, publish_mode="host"),
        PortConfig(target_port=53, protocol="udp", publish_mode="host"),
        PortConfig(target_port=90, published_port=9090),
    ]
    made = plan(endpoint=Endpoint(ports=ports))
    assert made.body.host_config.port_bindings == {
        "80/tcp": [PortBinding(host_port="8080")],
        "53/udp": [PortBinding(host_port="")],
    }
    assert set(made.body.exposed_ports) == {"80/tcp", "53/udp"}
    assert plan().body.host_config.port_bindings is None


def test_what_is_no_container_is_refused() -> None:
    with pytest.raises(errors.Unsupported):
        translation.plan(Task(id="t"), DEPENDENCIES)
    with pytest.raises(errors.Unsupported, match="plugin"):
        translation.plan(replace(task(), spec=replace(task().spec, runtime="plugin")), DEPENDENCIES)


@pytest.mark.parametrize(
    ("privileges", "options"),
    [
        (None, None),
        (Privileges(), None),
        (Privileges(seccomp=SeccompOptions("default"), app_armor=AppArmorOptions("default")), None),
        (Privileges(no_new_privileges=True), ["no-new-privileges=true"]),
        (Privileges(seccomp=SeccompOptions("custom", b"{}")), ["seccomp={}"]),
        (
            Privileges(
                selinux_context=SELinuxContext(disable=True),
                seccomp=SeccompOptions("unconfined"),
                app_armor=AppArmorOptions("disabled"),
            ),
            ["seccomp=unconfined", "apparmor=unconfined", "label=disable"],
        ),
    ],
)
def test_privileges_are_security_options_of_the_container(
    privileges: Privileges | None, options: list[str] | None
) -> None:
    made = plan(ContainerSpec(image="a", privileges=privileges))
    assert made.body.host_config is not None
    assert made.body.host_config.security_opt == options
