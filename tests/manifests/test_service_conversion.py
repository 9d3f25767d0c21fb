"""A Service manifest to what the swarm is told: every field, its short and its long forms."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gitops import errors, manifests
from gitops.objects import base, labels
from gitops.objects.mount import BindOptions, Mount, TmpfsOptions, VolumeDriver, VolumeOptions
from gitops.objects.service import (
    ConfigReference,
    ContainerSpec,
    FileTarget,
    HealthConfig,
    PortConfig,
    SecretReference,
    ServiceSpec,
    Ulimit,
    UpdateConfig,
)

OTHERS = """
---
apiVersion: gitops/v1
kind: Network
metadata: {name: front, stack: site}
---
apiVersion: gitops/v1
kind: Volume
metadata: {name: data, stack: site, labels: {tier: db}}
spec: {driver_opts: {type: tmpfs, device: tmpfs}}
---
apiVersion: gitops/v1
kind: Secret
metadata: {name: password, stack: site}
spec: {content: hunter2}
---
apiVersion: gitops/v1
kind: Config
metadata: {name: nginx, stack: site}
spec: {content: "events {}"}
"""


def load(tmp_path: Path, body: str, options: manifests.LoadOptions | None = None) -> manifests.DesiredSet:
    head = "apiVersion: gitops/v1\nkind: Service\nmetadata: {name: web, stack: site}\nspec:\n  image: nginx\n"
    indented = "".join(f"  {line}\n" for line in body.strip("\n").splitlines())
    (tmp_path / "service.yaml").write_text(head + indented + OTHERS)
    return manifests.load(tmp_path, options)


def service(tmp_path: Path, body: str) -> ServiceSpec:
    (found,) = load(tmp_path, body).of("Service")
    assert isinstance(found.spec, ServiceSpec)
    return found.spec


def container(tmp_path: Path, body: str) -> ContainerSpec:
    found = service(tmp_path, body).task_template.container_spec
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("body", "field", "value"),
    [
        ("command: serve --port '80 80'", "args", ["serve", "--port", "80 80"]),
        ("command: [serve, 8080, 1.10]", "args", ["serve", "8080", "1.10"]),
        ("entrypoint: /init", "command", ["/init"]),
        ("working_dir: /srv", "dir", "/srv"),
        ("user: 1000", "user", "1000"),
        ("user: 1000:0100", "user", "1000:0100"),
        ("group_add: [audio, 20]", "groups", ["audio", "20"]),
        ("hostname: web-1", "hostname", "web-1"),
        ("init: true", "init", True),
        ("tty: true", "tty", True),
        ("stdin_open: true", "open_stdin", True),
        ("read_only: true", "read_only", True),
        ("stop_signal: quit", "stop_signal", "SIGQUIT"),
        ("stop_signal: 9", "stop_signal", "9"),
        ("stop_grace_period: 1m30s", "stop_grace_period", 90 * base.SECOND),
        ("environment: {B: 2, A: 1.10, C: '', D: true, E: 0x1F}", "env", ["A=1.10", "B=2", "C=", "D=true", "E=0x1F"]),
        ("environment: [B=2, A=x=y]", "env", ["A=x=y", "B=2"]),
        ("labels: [a=1, b]", "labels", {"a": "1", "b": "", labels.NAMESPACE: "site"}),
        ("cap_add: [net_admin, CAP_CHOWN]", "capability_add", ["CAP_NET_ADMIN", "CAP_CHOWN"]),
        ("cap_drop: [ALL]", "capability_drop", ["ALL"]),
        ("sysctls: {net.core.somaxconn: 1024}", "sysctls", {"net.core.somaxconn": "1024"}),
        ("ulimits: {nofile: 1024}", "ulimits", [Ulimit("nofile", 1024, 1024)]),
        ("ulimits: {nofile: {soft: 1, hard: 2}}", "ulimits", [Ulimit("nofile", 2, 1)]),
        ("extra_hosts: ['db:10.0.0.7', 'six=[::1]']", "hosts", ["10.0.0.7 db", "::1 six"]),
        ("extra_hosts: {db: 10.0.0.7}", "hosts", ["10.0.0.7 db"]),
        ("oom_score_adj: -500", "oom_score_adj", -500),
        ("healthcheck: {test: curl localhost}", "healthcheck", HealthConfig(test=["CMD-SHELL", "curl localhost"])),
        ("healthcheck: {disable: true}", "healthcheck", HealthConfig(test=["NONE"])),
        (
            "healthcheck: {test: [CMD, a], interval: 1s, timeout: 500ms, retries: 2, start_period: 1m}",
            "healthcheck",
            HealthConfig(["CMD", "a"], base.SECOND, 500 * base.MILLISECOND, 60 * base.SECOND, 0, 2),
        ),
        ("volumes: [/srv:/srv:ro]", "mounts", [Mount("bind", "/srv", "/srv", read_only=True)]),
        (
            "volumes: ['/srv:/srv:rshared']",
            "mounts",
            [Mount("bind", "/srv", "/srv", bind_options=BindOptions("rshared"))],
        ),
        ("volumes: [/anonymous]", "mounts", [Mount("volume", "", "/anonymous")]),
        (
            "volumes: [{type: tmpfs, target: /tmp, tmpfs: {size: 64M, mode: 01777}}]",
            "mounts",
            [Mount("tmpfs", "", "/tmp", tmpfs_options=TmpfsOptions(64 << 20, 0o1777))],
        ),
        ("tmpfs: '/run:size=1m'", "mounts", [Mount("tmpfs", "", "/run", tmpfs_options=TmpfsOptions(1 << 20))]),
    ],
)
def test_a_field_becomes_what_the_container_gets(tmp_path: Path, body: str, field: str, value: Any) -> None:
    assert getattr(container(tmp_path, body), field) == value


def test_a_named_volume_carries_what_a_node_needs_to_make_it(tmp_path: Path) -> None:
    (mount,) = container(tmp_path, "volumes: ['data:/data:nocopy']").mounts
    owner = {"gitops.kind": "Volume", "gitops.name": "data", "gitops.stack": "site", labels.NAMESPACE: "site"}
    options = VolumeOptions(
        no_copy=True,
        labels={"tier": "db", **owner},
        driver_config=VolumeDriver("local", {"type": "tmpfs", "device": "tmpfs"}),
    )
    assert mount == Mount("volume", "site_data", "/data", volume_options=options)


@pytest.mark.parametrize(
    ("ports", "expected"),
    [
        ("['8080:80']", [("tcp", 80, 8080, "ingress")]),
        ("[80]", [("tcp", 80, 0, "ingress")]),
        ("['53:53/udp']", [("udp", 53, 53, "ingress")]),
        ("['8000-8001:80-81']", [("tcp", 80, 8000, "ingress"), ("tcp", 81, 8001, "ingress")]),
        ("[{target: 80, published: '8080', mode: host}]", [("tcp", 80, 8080, "host")]),
        ("[{target: 80, published: 8080}, {target: 80, published: 8080, protocol: udp}]",
         [("tcp", 80, 8080, "ingress"), ("udp", 80, 8080, "ingress")]),
    ],
)  # fmt: skip
def test_ports_in_all_their_forms(tmp_path: Path, ports: str, expected: list[tuple[str, int, int, str]]) -> None:
    endpoint = service(tmp_path, f"ports: {ports}").endpoint_spec
    assert endpoint is not None and endpoint.ports == [PortConfig("", *port) for port in expected]


def test_secrets_and_configs_are_files_named_by_their_version(tmp_path: Path) -> None:
    found = container(
        tmp_path,
        "secrets: [password]\nconfigs: [{source: nginx, target: /etc/nginx.conf, uid: 1000, gid: '5', mode: 0440}]",
    )
    (secret,), (config,) = found.secrets, found.configs
    assert secret == SecretReference(FileTarget("password", "0", "0", 0o444), "", secret.secret_name)
    assert config == ConfigReference(FileTarget("/etc/nginx.conf", "1000", "5", 0o440), "", config.config_name)
    assert secret.secret_name.startswith("site_password-") and config.config_name.startswith("site_nginx-")


def test_deploy_is_how_the_swarm_runs_it(tmp_path: Path) -> None:
    spec = service(
        tmp_path,
        """
deploy:
  mode: replicated
  replicas: 0
  labels: {a: 1}
  update_config: {parallelism: 0, delay: 20s, failure_action: rollback, max_failure_ratio: 0.25, order: start-first}
  rollback_config: {monitor: 1s}
  restart_policy: {condition: on-failure, delay: 1s, max_attempts: 3, window: 1m}
  resources: {limits: {cpus: 0.5, memory: 128M, pids: 50}, reservations: {cpus: "0.25", memory: 64MiB}}
  placement:
    constraints: [node.role == worker, "NODE.Labels.Zone!=a"]
    preferences: [{spread: node.labels.zone}]
    max_replicas_per_node: 2
""",
    )
    assert spec.mode.replicated is not None and spec.mode.replicated.replicas == 0
    assert base.to_builtins(spec.update_config) == {
        "Parallelism": 0,
        "Delay": 20 * base.SECOND,
        "FailureAction": "rollback",
        "MaxFailureRatio": 0.25,
        "Order": "start-first",
    }
    template = base.to_builtins(spec.task_template)
    assert spec.rollback_config == UpdateConfig(parallelism=1, monitor=base.SECOND)
    assert template["RestartPolicy"] == {
        "Condition": "on-failure",
        "Delay": base.SECOND,
        "MaxAttempts": 3,
        "Window": 60 * base.SECOND,
    }
    assert template["Resources"] == {
        "Limits": {"NanoCPUs": 500_000_000, "MemoryBytes": 128 << 20, "Pids": 50},
        "Reservations": {"NanoCPUs": 250_000_000, "MemoryBytes": 64 << 20},
    }
    assert template["Placement"] == {
        "Constraints": ["node.role==worker", "node.labels.Zone!=a"],
        "Preferences": [{"Spread": {"SpreadDescriptor": "node.labels.zone"}}],
        "MaxReplicas": 2,
    }


def test_a_service_of_a_stack_is_on_its_default_network_by_its_short_name(tmp_path: Path) -> None:
    loaded = load(tmp_path, "tty: false")
    (found,) = loaded.of("Service")
    assert base.to_builtins(found.spec)["TaskTemplate"]["Networks"] == [{"Target": "site_default", "Aliases": ["web"]}]
    assert [network.engine_name for network in loaded.of("Network")] == ["site_front", "site_default"]
    assert ("Network", "site_default") in found.needs


def test_networks_are_joined_by_list_or_by_map_with_aliases(tmp_path: Path) -> None:
    for body in ("networks: [front]", "networks: {front: }"):
        (network,) = service(tmp_path, body).task_template.networks
        assert (network.target, network.aliases) == ("site_front", ["web"])
    (network,) = service(tmp_path, "networks: {front: {aliases: [www, web]}}").task_template.networks
    assert network.aliases == ["web", "www"]
    assert not any(item.name == "default" for item in load(tmp_path, "networks: [front]").of("Network"))


def test_a_service_without_a_stack_has_its_own_name_and_no_network(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("apiVersion: gitops/v1\nkind: Service\nmetadata: {name: web}\nspec: {image: a}\n")
    loaded = manifests.load(tmp_path)
    (found,) = loaded.objects
    assert isinstance(found.spec, ServiceSpec)
    assert found.engine_name == "web" and found.spec.task_template.networks == []
    assert labels.STACK not in found.spec.labels and labels.NAMESPACE not in found.spec.labels


def test_labels_say_whose_a_service_is(tmp_path: Path) -> None:
    (found,) = load(tmp_path, "deploy: {labels: {tier: web}}").of("Service")
    assert isinstance(found.spec, ServiceSpec)
    assert found.spec.labels == {
        "tier": "web",
        labels.KIND: "Service",
        labels.NAME: "web",
        labels.STACK: "site",
        labels.NAMESPACE: "site",
        labels.HASH: found.hash,
    }


def test_files_of_variables_are_read_and_give_way_to_the_manifest(tmp_path: Path) -> None:
    (tmp_path / "a.env").write_text('# comment\nexport A=1\nB = two words # why\nC=\'$x\'\nD="a\\nb"\nE="two\nlines"\n')
    (tmp_path / "raw.env").write_text('F="quoted"\n')
    body = "env_file: [a.env, {path: raw.env, format: raw}, {path: gone.env, required: false}]\nenvironment: {A: 2}"
    assert container(tmp_path, body).env == [
        "A=2",
        "B=two words",
        "C=$x",
        "D=a\nb",
        "E=two\nlines",
        'F="quoted"',
    ]
    assert {"a.env", "raw.env"} <= set(load(tmp_path, body).files_read)


def test_a_variable_in_a_file_of_variables_is_refused_rather_than_taken_from_somewhere(tmp_path: Path) -> None:
    (tmp_path / "a.env").write_text("A=1\nB=${HOME}/x\n")
    with pytest.raises(errors.InvalidManifest, match=r"'a\.env', line 2: a variable in a value is not filled in"):
        load(tmp_path, "env_file: a.env")


def test_the_operator_decides_about_the_host(tmp_path: Path) -> None:
    body = "volumes: [/srv/data:/data]"
    load(tmp_path, body)
    with pytest.raises(errors.InvalidManifest, match=r"spec\.volumes\[0\].*'/srv/data' of the host is refused"):
        load(tmp_path, body, manifests.LoadOptions(allow_host=False))
    load(tmp_path, body, manifests.LoadOptions(allow_host=False, allow_host_paths=(Path("/srv"),)))
    with pytest.raises(errors.InvalidManifest, match=r"must not have \.\. in it"):
        load(
            tmp_path,
            "volumes: [/srv/../etc:/data]",
            manifests.LoadOptions(allow_host=False, allow_host_paths=(Path("/srv"),)),
        )


def test_extension_keys_are_taken_out_wherever_they_stand(tmp_path: Path) -> None:
    spec = service(
        tmp_path, "x-a: 1\nlabels: {x-b: kept}\ndeploy:\n  x-c: {d: 1}\n  replicas: 3\nports: [{target: 80, x-e: 1}]"
    )
    assert spec.mode.replicated is not None and spec.mode.replicated.replicas == 3
    assert spec.task_template.container_spec is not None
    assert spec.task_template.container_spec.labels["x-b"] == "kept"
